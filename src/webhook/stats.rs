//! Counters of webhooks.

use crate::metrics::DeliveryHistogram;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A counter.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A gauge.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicU64);

impl Gauge {
    pub(super) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Events that were delivered.
    pub(super) sent: Counter,
    /// Requests that were not answered by 2xx.
    pub(super) failed: Counter,
    /// Requests that repeat one that failed.
    pub(super) retried: Counter,
    /// Events that were given up, by reason.
    dropped: [Counter; Dropped::ALL.len()],
    /// Events that wait in Redis, while this node is the webhook leader.
    pub(super) waiting: Gauge,
    /// Events of dead letters in Redis, while this node is the webhook leader.
    pub(super) dead_letters: Gauge,
    /// Requests that were split because one of their events was rejected.
    pub(super) split: Counter,
    /// From the creation of a request to its delivery.
    pub(super) latency: DeliveryHistogram,
}

/// The reason why events were dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dropped {
    /// The queue was full.
    Overflow,
    /// They were too old.
    Expired,
    /// Dead letters that the endpoint never accepted.
    Rejected,
    /// The server has ended.
    Shutdown,
    /// The webhook was removed from the configuration.
    Removed,
}

impl Dropped {
    pub(super) const ALL: [Self; 5] =
        [Self::Overflow, Self::Expired, Self::Rejected, Self::Shutdown, Self::Removed];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Shutdown => "shutdown",
            Self::Removed => "removed",
        }
    }
}

impl Stats {
    pub(super) fn dropped(&self, reason: Dropped) -> &Counter {
        &self.dropped[reason as usize]
    }
}

/// The minimum interval between log lines about a frequent event.
pub(super) const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_indexed_by_their_order() {
        for (at, reason) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }
}
