//! The timers of an app.

use crate::{alarm::Alarm, protocol::ChannelName};
use parking_lot::Mutex;
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
    time::Instant,
};

/// A task for later. Its reason may be gone by then, so it is checked again.
#[derive(Debug)]
pub(super) enum TimerTask {
    SendCount(ChannelName),
    GoOffline(Arc<str>),
}

/// Tasks ordered by time. There is at most one for each channel, and one for each sign-out.
#[derive(Debug, Default)]
pub(super) struct TimerQueue(Mutex<BinaryHeap<Reverse<TimerEntry>>>);

#[derive(Debug)]
struct TimerEntry {
    at: Instant,
    task: TimerTask,
}

impl TimerQueue {
    /// Adds a task, and sets the alarm to its time.
    pub(super) fn add(&self, at: Instant, task: TimerTask, alarm: &Alarm) {
        self.0.lock().push(Reverse(TimerEntry { at, task }));
        alarm.set(at);
    }

    /// When the next task is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.lock().peek().map(|Reverse(next)| next.at)
    }

    /// The next due task.
    pub(super) fn pop_due(&self, now: Instant) -> Option<TimerTask> {
        let mut heap = self.0.lock();
        heap.peek()
            .is_some_and(|Reverse(next)| next.at <= now)
            .then(|| heap.pop())?
            .map(|due| due.0.task)
    }
}

impl Ord for TimerEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for TimerEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for TimerEntry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for TimerEntry {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tasks_are_taken_in_the_order_of_their_times() {
        let timers = TimerQueue::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        for ms in [3, 1, 4, 2, 5] {
            timers.add(at(ms), TimerTask::GoOffline(ms.to_string().into()), &Alarm::new());
        }
        assert_eq!(timers.next_due(), Some(at(1)));
        let due = |now: Instant| {
            let task = timers.pop_due(now)?;
            let TimerTask::GoOffline(user_id) = task else { panic!("{task:?}") };
            Some(user_id.to_string())
        };
        assert_eq!(due(start), None);
        let first: Vec<String> = std::iter::from_fn(|| due(at(3))).collect();
        assert_eq!(first, ["1", "2", "3"]);
        assert_eq!(due(at(9)).as_deref(), Some("4"));
    }
}
