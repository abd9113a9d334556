//! Which topics may have a next step, now or at a later time.
//!
//! Each topic is in each of the two lists at most once, so that both are as short as the list of
//! topics.

use super::random::{SeededMap, SeededSet};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

/// The topics to check, by their names.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// Topics to check now, in the order of the changes.
    dirty: VecDeque<Arc<str>>,
    /// The same topics as a set.
    listed: SeededSet<Arc<str>>,
    /// Topics to check later, in the order of time.
    later: BTreeSet<(Instant, Arc<str>)>,
    /// The same times by topic.
    times: SeededMap<Arc<str>, Instant>,
}

impl Scheduler {
    /// Schedules a topic for now.
    pub(super) fn add(&mut self, topic: &Arc<str>) {
        if self.listed.insert(Arc::clone(topic)) {
            self.dirty.push_back(Arc::clone(topic));
        }
    }

    /// Schedules a topic for `at`. Only the earliest time is kept; when the topic is checked, it returns the
    /// next one.
    pub(super) fn add_at(&mut self, topic: &Arc<str>, at: Instant) {
        let known = self.times.get(topic).copied();
        if known.is_some_and(|known| known <= at) {
            return;
        }
        if let Some(known) = known {
            self.later.remove(&(known, Arc::clone(topic)));
        }
        self.times.insert(Arc::clone(topic), at);
        self.later.insert((at, Arc::clone(topic)));
    }

    /// Schedules the topics whose time has come for now.
    pub(super) fn on_tick(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, topic)) = self.later.pop_first() {
                self.times.remove(&topic);
                self.add(&topic);
            }
        }
    }

    /// The next topic to check now.
    pub(super) fn next(&mut self) -> Option<Arc<str>> {
        let topic = self.dirty.pop_front()?;
        self.listed.remove(&topic);
        Some(topic)
    }

    /// Removes the later time of a topic that does not exist any more.
    pub(super) fn forget(&mut self, topic: &Arc<str>) {
        if let Some(at) = self.times.remove(topic) {
            self.later.remove(&(at, Arc::clone(topic)));
        }
    }

    /// Whether no topic is to be checked now.
    pub(super) fn is_idle(&self) -> bool {
        self.dirty.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn drain(scheduler: &mut Scheduler) -> Vec<Arc<str>> {
        std::iter::from_fn(|| scheduler.next()).collect()
    }

    #[test]
    fn topics_are_checked_in_order_and_each_once() {
        let (mut scheduler, topics) = (Scheduler::default(), names(&["a", "b"]));
        assert!(scheduler.is_idle() && scheduler.next().is_none());
        for _ in 0..1_000 {
            for topic in topics.iter().rev() {
                scheduler.add(topic);
            }
        }
        assert!(!scheduler.is_idle());
        assert_eq!(scheduler.dirty.len(), 2, "the list is bounded by the topics");
        assert_eq!(drain(&mut scheduler), names(&["b", "a"]));
        assert!(scheduler.is_idle());
        scheduler.add(&topics[0]);
        assert_eq!(drain(&mut scheduler), names(&["a"]), "it has changed again");
    }

    #[test]
    fn topics_are_checked_at_their_time_and_not_before() {
        let (mut scheduler, topics) = (Scheduler::default(), names(&["a", "b", "c"]));
        let start = Instant::now();
        scheduler.add_at(&topics[0], start + 3 * MS);
        scheduler.add_at(&topics[1], start + MS);
        scheduler.add_at(&topics[2], start + 3 * MS + MS);
        scheduler.on_tick(start);
        assert!(scheduler.is_idle(), "none is due");
        scheduler.on_tick(start + 3 * MS);
        assert_eq!(drain(&mut scheduler), names(&["b", "a"]));
        scheduler.on_tick(start + 3 * MS);
        assert!(scheduler.is_idle(), "each time is used once");
        scheduler.on_tick(start + 4 * MS);
        assert_eq!(drain(&mut scheduler), names(&["c"]));
    }

    #[test]
    fn of_several_times_the_earliest_counts() {
        let (mut scheduler, topics) = (Scheduler::default(), names(&["a"]));
        let start = Instant::now();
        for ms in [5, 2, 9] {
            scheduler.add_at(&topics[0], start + ms * MS);
        }
        for ms in 10..1_000 {
            scheduler.add_at(&topics[0], start + ms * MS);
        }
        assert_eq!((scheduler.later.len(), scheduler.times.len()), (1, 1), "bounded by the topics");
        scheduler.on_tick(start + MS);
        assert!(scheduler.is_idle());
        scheduler.on_tick(start + 2 * MS);
        assert_eq!(drain(&mut scheduler), names(&["a"]));
        scheduler.add_at(&topics[0], start + 9 * MS);
        scheduler.on_tick(start + 9 * MS);
        assert_eq!(drain(&mut scheduler), names(&["a"]), "the time that it names next");
    }

    #[test]
    fn a_topic_that_is_gone_is_not_checked_later() {
        let (mut scheduler, topics) = (Scheduler::default(), names(&["a", "b"]));
        let start = Instant::now();
        for topic in &topics {
            scheduler.add_at(topic, start);
        }
        scheduler.forget(&topics[0]);
        scheduler.forget(&topics[0]);
        scheduler.on_tick(start);
        assert_eq!(drain(&mut scheduler), names(&["b"]));
        assert!(scheduler.later.is_empty() && scheduler.times.is_empty());
    }
}
