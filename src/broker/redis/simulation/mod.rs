//! The deterministic simulation of the cluster: a model of Redis, and a network under the test's control.
//!
//! Tests run on a current-thread runtime of tokio with a paused clock. [`network::Network`] contains the servers, each
//! a [`model::server::Server`], and opens byte streams to them. Their delays, losses and faults derive from a seed.

mod endpoint;
mod model;
mod mutants;
pub(super) mod network;
mod nodes;
mod tests;
mod world;

pub(super) use model::resp::write as write_value;
pub(super) use mutants::mutated;
pub(super) use network::KeptData;
pub(crate) use nodes::{SimulatedNode, SimulatedRedis};

/// A runtime of one thread whose clock moves only when all tasks wait.
fn paused_runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime")
}
