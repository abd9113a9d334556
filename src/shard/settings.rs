//! The settings of a shard.

use crate::config::ResumeAck;
use std::time::Duration;

/// The settings of a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// Largest message of a client, in bytes.
    pub max_message_bytes: usize,
    /// Maximum number of queued bytes for one client.
    pub max_outbox_bytes: usize,
    /// Maximum time from the first byte of a message to its last.
    pub message_timeout: Duration,
    /// How long a lost client stays in its channels.
    pub presence_grace: Duration,
    /// What proves that a client with a token has received what was sent.
    pub resume_ack: ResumeAck,
    /// Maximum number of events of a channel that are replayed.
    pub resume_max_events: usize,
    /// The grace period of a shutdown.
    pub shutdown_grace: Duration,
}
