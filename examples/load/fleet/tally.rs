//! What a worker counts, and the form in which it tells.

use crate::histogram::{Histogram, Packed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counters of one worker.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// From the publisher's clock to the read that brought the event.
    pub(crate) latency: Histogram,
    /// From connecting, or subscribing again, to being subscribed.
    pub(crate) ready: Histogram,
    /// The plain counters.
    pub(crate) counters: Counters,
}

/// Counters that are added up over workers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Counters {
    /// Events received.
    pub(crate) delivered: u64,
    /// Bytes received.
    pub(crate) bytes: u64,
    /// Events that did not follow the one before on their connection.
    pub(crate) disorder: u64,
    /// `member_added` received.
    pub(crate) added: u64,
    /// `member_removed` received.
    pub(crate) removed: u64,
    /// Connections that went through unsubscribe and subscribe.
    pub(crate) resubscribed: u64,
    /// Connections that were closed and opened again.
    pub(crate) reconnected: u64,
    /// Client events sent.
    pub(crate) whispered: u64,
    /// Connections that ended without being asked to.
    pub(crate) lost: u64,
    /// Close codes received.
    pub(crate) close_codes: BTreeMap<u16, u64>,
    /// `pusher:error` and the like.
    pub(crate) errors: u64,
    /// The first of them, or another reason why a connection ended.
    pub(crate) fault: Option<String>,
}

/// What a range of connections has received.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Verdict {
    /// Connections looked at.
    pub(crate) connections: u64,
    /// Of those, subscribed.
    pub(crate) ready: u64,
    /// Events received by them.
    pub(crate) delivered: u64,
    /// The least that one of them received, and the most.
    pub(crate) least: u32,
    /// The most that one of them received.
    pub(crate) most: u32,
    /// Connections whose events are not exactly those numbered from 0 to their count.
    pub(crate) wrong: u64,
}

/// All that a worker tells.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Counts {
    /// See [`Tally::latency`].
    pub(crate) latency: Packed,
    /// See [`Tally::ready`].
    pub(crate) ready: Packed,
    /// See [`Tally::counters`].
    pub(crate) counters: Counters,
    /// Of the connections that were asked about.
    pub(crate) verdict: Verdict,
}

impl Counters {
    /// Notes why something went wrong; the first reason is kept.
    pub(crate) fn fault(&mut self, why: impl FnOnce() -> String) {
        self.fault.get_or_insert_with(why);
    }

    fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.bytes += other.bytes;
        self.disorder += other.disorder;
        self.added += other.added;
        self.removed += other.removed;
        self.resubscribed += other.resubscribed;
        self.reconnected += other.reconnected;
        self.whispered += other.whispered;
        self.lost += other.lost;
        self.errors += other.errors;
        for (code, count) in other.close_codes {
            *self.close_codes.entry(code).or_default() += count;
        }
        self.fault = self.fault.take().or(other.fault);
    }
}

impl Verdict {
    fn add(&mut self, other: &Self) {
        if other.connections == 0 {
            return;
        }
        self.least = if self.connections == 0 { other.least } else { self.least.min(other.least) };
        self.most = self.most.max(other.most);
        self.connections += other.connections;
        self.ready += other.ready;
        self.delivered += other.delivered;
        self.wrong += other.wrong;
    }
}

/// The counts of all workers.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    /// Of all workers.
    pub(crate) latency: Histogram,
    /// Of all workers.
    pub(crate) ready: Histogram,
    /// Of all workers.
    pub(crate) counters: Counters,
    /// Of all connections that were asked about.
    pub(crate) verdict: Verdict,
}

impl Sum {
    /// Adds what one worker told.
    pub(crate) fn add(&mut self, counts: Counts) {
        self.latency.add(&counts.latency);
        self.ready.add(&counts.ready);
        self.counters.add(counts.counters);
        self.verdict.add(&counts.verdict);
    }
}
