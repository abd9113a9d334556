//! The settings of sessions.

use crate::{config::ResumeAck, rate::Rate};
use std::time::Duration;

/// The settings that all sessions share.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Silence after which the client is pinged.
    pub activity_timeout: Duration,
    /// Maximum time until the reply to a ping.
    pub pong_timeout: Duration,
    /// Maximum number of subscriptions of one connection.
    pub max_channels: usize,
    /// The message rate of one connection.
    pub message_rate: Rate,
    /// The rate of bytes that a connection may make the server send. Beyond it, its next message is
    /// delayed.
    pub response_byte_rate: Rate,
    /// What proves that a client with a token has received what was sent.
    pub resume_ack: ResumeAck,
}

impl SessionConfig {
    /// Sustained rate of subscriptions and sign-ins of one connection, per second. Each one is sent
    /// to other clients, to other nodes and to the application, so it costs far more than its
    /// request; a user who navigates between pages needs fewer.
    pub const SUBSCRIBES_PER_SECOND: u32 = 10;

    /// The rate of subscriptions and sign-ins of one connection. A client that reconnects subscribes
    /// to all of its channels at once, and signs in.
    pub(super) fn subscribe_rate(&self) -> Rate {
        let channels = u32::try_from(self.max_channels).unwrap_or(u32::MAX);
        Rate::per_second(Self::SUBSCRIBES_PER_SECOND).with_burst(channels.saturating_add(1))
    }
}
