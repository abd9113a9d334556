//! The highest sequences of channels that this node has published to, or has left.
//!
//! When Redis dies, it may have accepted and numbered an event that no node has received. Only the
//! publishing node knows the sequence then, and reports it afterwards. Likewise, only the node that has left a channel may know
//! what a connection has received that is about to resume.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The highest sequence of each topic that was recorded in the last two windows.
#[derive(Debug)]
pub(super) struct RecentSequences(Mutex<Windows>);

#[derive(Debug)]
struct Windows {
    /// Length of a window.
    length: Duration,
    started_at: Instant,
    current: HashMap<Box<str>, u64>,
    previous: HashMap<Box<str>, u64>,
}

/// Minimum time for which a sequence is kept; the maximum is twice as long. A node that has not
/// received an event for that long after it was accepted has closed its link, and compares
/// sequences.
pub(super) const MIN_RETENTION: Duration = Duration::from_secs(5);

/// The same for channels that this node has left: a Redis that has lost data has lost less than that.
pub(super) const LEFT_RETENTION: Duration = Duration::from_secs(600);

impl RecentSequences {
    /// Keeps sequences for `retention` at least.
    pub(super) fn new(retention: Duration, now: Instant) -> Self {
        let (current, previous) = (HashMap::new(), HashMap::new());
        Self(Mutex::new(Windows { length: retention, started_at: now, current, previous }))
    }

    /// Records that a topic has had an event with this sequence. Topics without a sequence are not recorded.
    pub(super) fn record(&self, topic: &str, sequence: u64, now: Instant) {
        if sequence == 0 {
            return;
        }
        let mut windows = self.0.lock();
        windows.rotate(now);
        if let Some(highest) = windows.current.get_mut(topic) {
            *highest = sequence.max(*highest);
        } else {
            windows.current.insert(topic.into(), sequence);
        }
    }

    /// The recorded sequence of each topic.
    pub(super) fn highest(&self, now: Instant) -> HashMap<Box<str>, u64> {
        let mut windows = self.0.lock();
        windows.rotate(now);
        let mut highest = windows.previous.clone();
        for (topic, sequence) in &windows.current {
            let highest = highest.entry(topic.clone()).or_default();
            *highest = (*highest).max(*sequence);
        }
        highest
    }
}

impl Windows {
    fn rotate(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.started_at);
        if age < self.length {
            return;
        }
        self.previous = std::mem::take(&mut self.current);
        if 2 * self.length <= age {
            self.previous.clear();
        }
        self.started_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn highest(sequences: &RecentSequences, now: Instant) -> Vec<(String, u64)> {
        let mut reached: Vec<_> =
            sequences.highest(now).into_iter().map(|(topic, at)| (topic.into(), at)).collect();
        reached.sort();
        reached
    }

    #[test]
    fn the_highest_sequence_is_kept_for_a_while() {
        let now = Instant::now();
        let sequences = RecentSequences::new(MIN_RETENTION, now);
        sequences.record("a", 7, now);
        sequences.record("a", 6, now);
        sequences.record("without a sequence", 0, now);
        assert_eq!(highest(&sequences, now), [("a".into(), 7)]);
        sequences.record("b", 1, now + MIN_RETENTION);
        sequences.record("a", 8, now + MIN_RETENTION);
        let both = [("a".into(), 8), ("b".into(), 1)];
        assert_eq!(highest(&sequences, now + 2 * MIN_RETENTION), both);
        assert!(highest(&sequences, now + 3 * MIN_RETENTION).is_empty());
    }

    #[test]
    fn entries_older_than_both_windows_are_removed_at_once() {
        let now = Instant::now();
        let sequences = RecentSequences::new(MIN_RETENTION, now);
        sequences.record("a", 7, now);
        assert!(highest(&sequences, now + 2 * MIN_RETENTION).is_empty());
    }

    #[test]
    fn the_highest_sequence_is_kept() {
        let now = Instant::now();
        let sequences = RecentSequences::new(MIN_RETENTION, now);
        for sequence in [1, 3, 2] {
            sequences.record("a", sequence, now);
        }
        sequences.record("a", 2, now + MIN_RETENTION);
        assert_eq!(highest(&sequences, now + MIN_RETENTION), [("a".into(), 3)]);
    }
}
