//! How far the channels have come that this node publishes to.
//!
//! When Redis dies, an event may have been accepted, and numbered, without having come to anybody
//! who has subscribers. Its publisher is then the only one who knows, and says so afterwards.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What Redis said to the publishes of the last while: topics, with their highest sequence. No more
/// are remembered than this node published to in two windows.
#[derive(Debug)]
pub(super) struct Accepted(Mutex<Windows>);

#[derive(Debug)]
struct Windows {
    began: Instant,
    current: HashMap<Box<str>, u64>,
    before: HashMap<Box<str>, u64>,
}

/// So long, and up to twice as long, it is remembered. Whoever has not heard an event for that
/// long after it was accepted has given its link up, and compares sequences for that.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

impl Accepted {
    pub(super) fn new(now: Instant) -> Self {
        let nothing = HashMap::new;
        Self(Mutex::new(Windows { began: now, current: nothing(), before: nothing() }))
    }

    /// Notes that an event was accepted. Nothing is noted of a topic that nobody counts.
    pub(super) fn note(&self, topic: &str, sequence: u64, now: Instant) {
        if sequence == 0 {
            return;
        }
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.turn(now);
        if let Some(highest) = windows.current.get_mut(topic) {
            *highest = sequence.max(*highest);
        } else {
            windows.current.insert(topic.into(), sequence);
        }
    }

    /// How far each topic has come, as far as is remembered.
    pub(super) fn reached(&self, now: Instant) -> HashMap<Box<str>, u64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.turn(now);
        let mut reached = windows.before.clone();
        for (topic, sequence) in &windows.current {
            let highest = reached.entry(topic.clone()).or_default();
            *highest = (*highest).max(*sequence);
        }
        reached
    }
}

impl Windows {
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age < WINDOW {
            return;
        }
        self.before = std::mem::take(&mut self.current);
        if 2 * WINDOW <= age {
            self.before.clear();
        }
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(accepted: &Accepted, now: Instant) -> Vec<(String, u64)> {
        let mut reached: Vec<_> =
            accepted.reached(now).into_iter().map(|(topic, at)| (topic.into(), at)).collect();
        reached.sort();
        reached
    }

    #[test]
    fn the_highest_is_remembered_for_a_while() {
        let now = Instant::now();
        let accepted = Accepted::new(now);
        accepted.note("a", 7, now);
        accepted.note("a", 6, now);
        accepted.note("nobody counts", 0, now);
        assert_eq!(reached(&accepted, now), [("a".into(), 7)]);
        accepted.note("b", 1, now + WINDOW);
        accepted.note("a", 8, now + WINDOW);
        let both = [("a".into(), 8), ("b".into(), 1)];
        assert_eq!(reached(&accepted, now + 2 * WINDOW), both);
        assert!(reached(&accepted, now + 3 * WINDOW).is_empty());
    }

    #[test]
    fn what_is_older_than_both_windows_is_gone_at_once() {
        let now = Instant::now();
        let accepted = Accepted::new(now);
        accepted.note("a", 7, now);
        assert!(reached(&accepted, now + 2 * WINDOW).is_empty());
    }
}
