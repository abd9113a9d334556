//! Clients that return after their connection was lost.
//!
//! A client with a token finds its positions in the logs of its channels (`registry`). What a lost connection
//! was subscribed to stays with the broker for a grace period (`grace`), so that a member who returns in
//! time has never left.

mod cluster;
mod grace;
mod handed_over;
mod late_claims;
mod registry;

pub(super) use cluster::serve_other_nodes;
pub use grace::{GraceSubscriptions, Lingering, Owner};
pub use registry::{ClaimResult, ResumeRegistry, ResumeStats};
