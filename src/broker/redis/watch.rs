//! What the console sees of the cluster.

use super::RedisBroker;
use std::time::Duration;

impl RedisBroker {
    /// How long the last heartbeat took; `None` before the first.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        Some(self.shared.round_trip()).filter(|time| !time.is_zero())
    }
}
