//! Shards: event loops that own the connections and flush their output in slices.
//!
//! A [`Shard`] runs on a thread with a runtime of its own. It owns a connection from its first byte; `http` has what comes
//! before the WebSocket. What it owns needs no lock:
//!
//! - a slab of `connection`s, each with its socket, session and `outbox`;
//! - for each channel with a subscriber here, the list of those `subscribers`;
//! - the `dirty` connections, which have something to write;
//! - a poller (`readiness`) and a timer `wheel`.
//!
//! # A turn
//!
//! [`Shard::run`] repeats: take deliveries from the inbox and queue them in the subscribers'
//! outboxes; read from ready sockets; check due deadlines; then *flush one slice* of the dirty
//! connections. Between two slices the runtime serves HTTP as well. Events for a connection that
//! was not flushed yet are queued together and sent in one write: batching under load, immediate
//! writes when idle, and no starvation behind a large broadcast.
//!
//! # Blocked sockets
//!
//! A socket that accepts no more data is *blocked*: neither flushed nor read until the poller
//! reports it as writable. Its outbox may grow to `max_outbox_bytes`; beyond it the connection is
//! closed with 4100, since Pusher clients can detect a disconnect, but not a gap in a channel's
//! events.
//!
//! # TLS
//!
//! The HTTP module performs the handshake; a shard takes over the session together with the
//! `socket`. Records that TLS could not send wait for the socket, within a limit of their own.
//!
//! # Backpressure
//!
//! Publishers wait for their response while the inbox is long, or the connection that has been queued
//! longest has more than [`BACKPRESSURE_BYTES`] queued. Blocked connections do not count, so a slow
//! subscriber delays no publisher.

mod admitted;
mod close_reason;
mod closing;
mod connection;
mod decoder;
mod delivery;
mod dirty;
mod drain_schedule;
mod event_loop;
mod frame_validator;
mod http;
mod log_marks;
mod lost_pending;
mod observe;
mod opening;
mod outbox;
mod readiness;
mod receive;
mod requests;
mod resume;
mod run;
mod settings;
mod socket;
mod subscribe;
mod subscribers;
#[cfg(test)]
mod tests;
mod wait;
mod wheel;

pub use admitted::{AdmittedClient, SubscriptionHandle};
pub use connection::UpgradedSocket;
pub use drain_schedule::stagger_duration;
pub use event_loop::Shard;
pub use requests::{AcceptedSocket, AcceptedSockets, Handled, RequestHandler, ResponseSender};
pub use settings::ShardConfig;

/// Bytes that the longest-queued connection may have queued before publishers wait. Values from 16
/// to 64 KiB cost no throughput and limit the latency.
pub const BACKPRESSURE_BYTES: usize = 32 * 1024;
