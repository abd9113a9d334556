//! Detects dead connections: a silent client is pinged first, then closed.

use super::{DeadlineAction, SessionConfig};
use crate::protocol::CloseCode;
use std::time::Instant;

/// When the client last sent something or was pinged. Output to the client does not count.
#[derive(Debug)]
pub(super) enum Liveness {
    Active(Instant),
    Pinged(Instant),
}

impl Liveness {
    pub(super) fn on_message(now: Instant) -> Self {
        Self::Active(now)
    }

    pub(super) fn deadline(&self, config: &SessionConfig) -> Instant {
        match self {
            Self::Active(at) => *at + config.activity_timeout,
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
            Self::Active(_) => {
                *self = Self::Pinged(now);
                Some(DeadlineAction::Ping)
            }
            Self::Pinged(_) => Some(DeadlineAction::Close(CloseCode::PongTimeout)),
        }
    }
}
