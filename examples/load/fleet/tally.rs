//! The counts of a worker, and their serialised form.

use crate::histogram::{Histogram, Packed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counters of one worker.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The time from the publisher's timestamp to the read of the event.
    pub(crate) latency: Histogram,
    /// The time from connecting, or subscribing again, to being subscribed.
    pub(crate) ready: Histogram,
    /// The simple counters.
    pub(crate) counters: Counters,
}

/// Counters that are summed over workers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Counters {
    /// The number of received events.
    pub(crate) delivered: u64,
    /// The number of received bytes.
    pub(crate) bytes: u64,
    /// The number of events that did not follow the previous one on their connection.
    pub(crate) disorder: u64,
    /// The number of received `member_added` events.
    pub(crate) added: u64,
    /// The number of received `member_removed` events.
    pub(crate) removed: u64,
    /// The number of times that a connection unsubscribed and subscribed.
    pub(crate) resubscribed: u64,
    /// The number of times that a connection was closed and opened again.
    pub(crate) reconnected: u64,
    /// The number of sent client events.
    pub(crate) whispered: u64,
    /// The number of connections that ended without a command.
    pub(crate) lost: u64,
    /// The received close codes, with their numbers.
    pub(crate) close_codes: BTreeMap<u16, u64>,
    /// The number of received errors, such as `pusher:error`.
    pub(crate) errors: u64,
    /// The first error, or another reason why a connection ended.
    pub(crate) fault: Option<String>,
}

/// The events that a range of connections has received.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Verdict {
    /// The number of connections.
    pub(crate) connections: u64,
    /// The number of subscribed connections.
    pub(crate) ready: u64,
    /// The number of events received by them.
    pub(crate) delivered: u64,
    /// The minimum number of events of a connection.
    pub(crate) least: u32,
    /// The maximum number of events of a connection.
    pub(crate) most: u32,
    /// The number of connections whose events are not exactly those numbered from 0 to their count.
    pub(crate) wrong: u64,
}

/// The counts in a worker's reply.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Counts {
    /// See [`Tally::latency`].
    pub(crate) latency: Packed,
    /// See [`Tally::ready`].
    pub(crate) ready: Packed,
    /// See [`Tally::counters`].
    pub(crate) counters: Counters,
    /// The events of the requested range of connections.
    pub(crate) verdict: Verdict,
}

impl Counters {
    /// Records the reason of a failure; only the first one is kept.
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

/// The sums over all workers.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    /// The sum of [`Tally::latency`].
    pub(crate) latency: Histogram,
    /// The sum of [`Tally::ready`].
    pub(crate) ready: Histogram,
    /// The sum of [`Tally::counters`].
    pub(crate) counters: Counters,
    /// The events of the requested range of connections.
    pub(crate) verdict: Verdict,
}

impl Sum {
    /// Adds the counts of one worker.
    pub(crate) fn add(&mut self, counts: Counts) {
        self.latency.add(&counts.latency);
        self.ready.add(&counts.ready);
        self.counters.add(counts.counters);
        self.verdict.add(&counts.verdict);
    }
}
