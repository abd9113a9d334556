//! Detects dead connections: a silent client is pinged first, then closed.

use super::{DeadlineAction, SessionConfig};
use crate::protocol::CloseCode;
use std::time::{Duration, Instant};

/// A client that gives its line up sends a ping, and 30 seconds later closes the connection. If the line
/// heals, both arrive at once; this is the most that retransmissions keep them apart.
const JUST_PINGED: Duration = Duration::from_secs(2);

/// When the client last sent something or was pinged. Output to the client does not count.
#[derive(Debug)]
pub(super) enum Liveness {
    Active(Instant),
    /// The client's latest message was a `pusher:ping`.
    ClientPinged(Instant),
    Pinged(Instant),
}

impl Liveness {
    pub(super) fn on_message(now: Instant) -> Self {
        Self::Active(now)
    }

    pub(super) fn on_client_ping(now: Instant) -> Self {
        Self::ClientPinged(now)
    }

    /// Whether the latest message is a ping of the client that it sent just now.
    pub(super) fn has_client_just_pinged(&self, now: Instant) -> bool {
        matches!(self, Self::ClientPinged(at) if now.saturating_duration_since(*at) <= JUST_PINGED)
    }

    pub(super) fn deadline(&self, config: &SessionConfig) -> Instant {
        match self {
            Self::Active(at) | Self::ClientPinged(at) => *at + config.activity_timeout,
            Self::Pinged(at) => *at + config.pong_timeout,
        }
    }

    pub(super) fn on_deadline(
        &mut self,
        config: &SessionConfig,
        now: Instant,
    ) -> Option<DeadlineAction> {
        if now < self.deadline(config) {
            return None;
        }
        match self {
            Self::Active(_) | Self::ClientPinged(_) => {
                *self = Self::Pinged(now);
                Some(DeadlineAction::Ping)
            }
            Self::Pinged(_) => Some(DeadlineAction::Close(CloseCode::PongTimeout)),
        }
    }
}
