//! The highest sequences of channels that this node has published to, or has left.
//!
//! When Redis dies, it may have accepted and numbered an event that no node has received. Only the
//! publishing node knows the sequence then, and reports it afterwards. The same holds for a logged event of a channel that had no
//! subscribers, for as long as Redis may lose it. Likewise, only the node that has left a channel may know what a connection has
//! received that is about to resume.

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
    current: Window,
    previous: Window,
    /// Maximum number of topics in a window.
    topics_max: usize,
}

#[derive(Debug, Default)]
struct Window {
    sequences: HashMap<Box<str>, u64>,
    /// Whether a topic was not recorded, because the window was full.
    is_incomplete: bool,
}

/// Minimum time for which the sequence of a published event is kept; the maximum is twice as long. If the channel has subscribers on
/// another node, that node has received the event by then, or has closed its link and compares sequences. Without subscribers only
/// the publishing node knows the sequence: that of a logged event is kept for [`LOGGED_RETENTION`].
pub(super) const MIN_RETENTION: Duration = Duration::from_secs(5);

/// The same for logged events, and for channels with a log that this node has left: a Redis that has lost data has lost less than
/// that.
pub(super) const LOGGED_RETENTION: Duration = Duration::from_secs(600);

/// Maximum number of topics in each of the two windows of [`LOGGED_RETENTION`], of about 100 bytes each. Beyond that, this node does
/// not know which events Redis has lost: see [`RecentSequences::is_incomplete`].
pub(super) const LOGGED_TOPICS_MAX: usize = 262_144;

impl RecentSequences {
    /// Keeps the sequences of at most `topics_max` topics in a window, for `retention` at least.
    pub(super) fn new(retention: Duration, topics_max: usize, now: Instant) -> Self {
        let (current, previous) = (Window::default(), Window::default());
        let length = retention;
        Self(Mutex::new(Windows { length, started_at: now, current, previous, topics_max }))
    }

    /// Records that a topic has had an event with this sequence. Topics without a sequence are not recorded.
    pub(super) fn record(&self, topic: &str, sequence: u64, now: Instant) {
        if sequence == 0 {
            return;
        }
        let mut windows = self.0.lock();
        windows.rotate(now);
        let topics_max = windows.topics_max;
        let Window { sequences, is_incomplete } = &mut windows.current;
        if let Some(highest) = sequences.get_mut(topic) {
            *highest = sequence.max(*highest);
        } else if sequences.len() < topics_max {
            sequences.insert(topic.into(), sequence);
        } else {
            *is_incomplete = true;
        }
    }

    /// Whether a topic was not recorded within the retention, because there were too many.
    pub(super) fn is_incomplete(&self, now: Instant) -> bool {
        let mut windows = self.0.lock();
        windows.rotate(now);
        windows.current.is_incomplete || windows.previous.is_incomplete
    }

    /// The recorded sequence of each topic.
    pub(super) fn highest(&self, now: Instant) -> HashMap<Box<str>, u64> {
        let mut windows = self.0.lock();
        windows.rotate(now);
        let mut highest = windows.previous.sequences.clone();
        for (topic, sequence) in &windows.current.sequences {
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
            self.previous = Window::default();
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
        let sequences = RecentSequences::new(MIN_RETENTION, usize::MAX, now);
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
    fn topics_beyond_the_maximum_are_noted_as_missing_for_the_retention() {
        let now = Instant::now();
        let sequences = RecentSequences::new(LOGGED_RETENTION, 2, now);
        for topic in ["a", "b", "a"] {
            sequences.record(topic, 1, now);
        }
        assert!(!sequences.is_incomplete(now), "two are within the maximum");
        sequences.record("c", 1, now);
        sequences.record("a", 2, now);
        assert_eq!(highest(&sequences, now), [("a".into(), 2), ("b".into(), 1)]);
        assert!(sequences.is_incomplete(now));
        assert!(sequences.is_incomplete(now + LOGGED_RETENTION));
        assert!(!sequences.is_incomplete(now + 2 * LOGGED_RETENTION));
    }

    #[test]
    fn entries_older_than_both_windows_are_removed_at_once() {
        let now = Instant::now();
        let sequences = RecentSequences::new(MIN_RETENTION, usize::MAX, now);
        sequences.record("a", 7, now);
        assert!(highest(&sequences, now + 2 * MIN_RETENTION).is_empty());
    }

    #[test]
    fn the_highest_sequence_is_kept() {
        let now = Instant::now();
        let sequences = RecentSequences::new(MIN_RETENTION, usize::MAX, now);
        for sequence in [1, 3, 2] {
            sequences.record("a", sequence, now);
        }
        sequences.record("a", 2, now + MIN_RETENTION);
        assert_eq!(highest(&sequences, now + MIN_RETENTION), [("a".into(), 3)]);
    }
}
