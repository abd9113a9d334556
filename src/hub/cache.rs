//! The last event of a cache channel.

use crate::protocol::{EventData, Frame};
use std::time::{Duration, Instant};

/// An event that a cache channel remembers until it expires.
#[derive(Debug)]
pub(super) struct Cached {
    frame: Frame,
    /// The event's data as a JSON token.
    data: String,
    expires_at: Instant,
}

impl Cached {
    pub(super) fn new(frame: Frame, data: &EventData<'_>, expires_at: Instant) -> Self {
        Self { frame, data: data.token().to_owned(), expires_at }
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.expires_at
    }

    /// The event, as if it had just been published.
    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(super) fn data(&self) -> &str {
        &self.data
    }

    pub(super) fn expires_at(&self) -> Instant {
        self.expires_at
    }

    pub(super) fn time_to_live(&self, now: Instant) -> Duration {
        self.expires_at.saturating_duration_since(now)
    }
}
