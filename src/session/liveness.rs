//! Detects dead connections: a silent client is pinged first, then closed.

use super::{Due, SessionConfig};
use crate::protocol::CloseCode;
use std::time::Instant;

/// When the client last sent something or was pinged. Output to the client does not count.
#[derive(Debug)]
pub(super) enum Liveness {
    Heard(Instant),
    ChannelQuery(Instant),
}

impl Liveness {
    pub(super) fn on_message(now: Instant) -> Self {
        Self::Heard(now)
    }

    pub(super) fn deadline(&self, config: &SessionConfig) -> Instant {
        match self {
            Self::Heard(at) => *at + config.activity_timeout,
            Self::ChannelQuery(at) => *at + config.pong_timeout,
        }
    }

    pub(super) fn on_time(&mut self, config: &SessionConfig, now: Instant) -> Option<Due> {
        if now < self.deadline(config) {
            return None;
        }
        match self {
            Self::Heard(_) => {
                *self = Self::ChannelQuery(now);
                Some(Due::Ping)
            }
            Self::ChannelQuery(_) => Some(Due::Close(CloseCode::PongTimeout)),
        }
    }
}
