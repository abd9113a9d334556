//! The engine: shards that own their connections and flush in slices.
//!
//! A shard is a thread with a runtime of its own. What it owns needs no lock:
//!
//! - a slab of `connection`s, each with its socket, session and `outbox`;
//! - for each channel with a subscriber here, the list of those `subscribers`;
//! - the `dirty` connections, which have something to write;
//! - a poller (`readiness`) and a timer `wheel`.
//!
//! # A turn
//!
//! [`Engine::run`] goes round and round: take what the hub has put into the inbox and hand it to
//! the subscribers' outboxes; read from sockets that have something; look at connections whose
//! time has come; then *flush one slice* of the dirty connections, and start again. Between two
//! slices the runtime serves HTTP as well. A connection whose slice has not come meets the next
//! events in its outbox, and one write carries them all: under load batching happens by itself,
//! when idle an event is written at once, and nothing starves behind a large broadcast.
//!
//! # A socket that takes no more
//!
//! It is *blocked*: not flushed and not read until its poller says that it is writable. Its
//! outbox may grow to `max_outbox_bytes`; beyond it the connection is closed with 4100, since a
//! gap in a channel's events can't be seen by Pusher clients, whereas a disconnect can.
//!
//! # TLS
//!
//! The handshake is HTTP's business; a shard takes the session over together with the `socket`.
//! What TLS could not pass on waits for the socket as what was not written does, and is bounded
//! by itself.
//!
//! # The brake
//!
//! Whoever publishes waits for its answer while the connection that has waited longest is more
//! than [`BACKPRESSURE_BYTES`] behind, or the inbox is long. Blocked connections do not count: a slow
//! subscriber holds nobody up.

mod closing;
mod connection;
mod delivery;
mod dirty;
mod ended;
mod engine;
mod framing;
mod inbound;
mod outbox;
mod readiness;
mod receive;
mod socket;
mod subscribers;
#[cfg(test)]
mod tests;
mod wheel;

pub use closing::drain_spread;
pub use connection::{Admission, ShardPlace, UpgradedSocket};
pub use engine::{Engine, EngineConfig};

/// How far behind the oldest waiting connection may be before publishers wait, in bytes. From
/// 16 to 64 KiB cost no throughput and bound latency.
pub const BACKPRESSURE_BYTES: usize = 32 * 1024;
