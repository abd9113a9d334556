//! What waits to be delivered to an endpoint.

use super::envelope::Notice;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The queue of one endpoint, as whoever delivers sees it.
///
/// A notice stays in it until it is done with. Of a queue that outlives its node, another that takes
/// over begins with what was not done.
pub(super) trait Queue: Send + Sync {
    /// Waits until there is a notice, and gives the oldest with its place. Safe to cancel.
    fn first(&self) -> impl Future<Output = (Place, Notice)> + Send;

    /// As [`Queue::first`], without waiting for one.
    fn first_now(&self) -> impl Future<Output = Option<(Place, Notice)>> + Send;

    /// Removes the notice at `place`, if it was not dropped in the meantime.
    fn done(&self, place: Place) -> impl Future<Output = ()> + Send;

    /// Drops what was created at `before` or earlier, and says how many events that were.
    fn drop_older(&self, before: Instant) -> impl Future<Output = usize> + Send;
}

/// Names a notice of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place(pub(super) u64);

/// A queue that ends with the process.
#[derive(Debug, Default)]
pub(super) struct MemoryQueue {
    waiting: Mutex<Waiting>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    notices: VecDeque<Notice>,
    /// The place of the first of them.
    first: u64,
    bytes: usize,
    events: usize,
}

impl MemoryQueue {
    /// The most that may wait for one endpoint, in bytes.
    pub(super) const BYTES_MAX: usize = 3 * 1_024 * 1_024;
    /// What a notice takes beside its body.
    const OVERHEAD_BYTES: usize = 256;

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(notice: &Notice) -> usize {
    notice.body.len() + MemoryQueue::OVERHEAD_BYTES
}

impl Waiting {
    fn pop(&mut self) -> Option<Notice> {
        let notice = self.notices.pop_front()?;
        self.first += 1;
        self.bytes -= bytes(&notice);
        self.events -= notice.events;
        if self.notices.is_empty() {
            self.notices = VecDeque::new();
        }
        Some(notice)
    }
}

impl MemoryQueue {
    /// Puts a notice at the end. What is too much is dropped, the oldest first; says how many
    /// events that were.
    pub(super) fn push(&self, notice: Notice) -> usize {
        if Self::BYTES_MAX < bytes(&notice) {
            // Room for it can't be made.
            return notice.events;
        }
        let mut waiting = self.lock();
        let mut dropped = 0;
        while Self::BYTES_MAX < waiting.bytes + bytes(&notice) {
            dropped += waiting.pop().map_or(0, |notice| notice.events);
        }
        waiting.bytes += bytes(&notice);
        waiting.events += notice.events;
        waiting.notices.push_back(notice);
        drop(waiting);
        self.pushed.notify_one();
        dropped
    }

    fn first_now(&self) -> Option<(Place, Notice)> {
        let waiting = self.lock();
        waiting.notices.front().map(|notice| (Place(waiting.first), notice.clone()))
    }

    fn done(&self, place: Place) {
        let mut waiting = self.lock();
        if waiting.first == place.0 {
            waiting.pop();
        }
    }

    fn drop_older(&self, before: Instant) -> usize {
        let mut waiting = self.lock();
        let mut dropped = 0;
        while waiting.notices.front().is_some_and(|notice| notice.created_at <= before) {
            dropped += waiting.pop().map_or(0, |notice| notice.events);
        }
        dropped
    }

    /// How many events wait.
    pub(super) fn events(&self) -> usize {
        self.lock().events
    }
}

impl Queue for MemoryQueue {
    async fn first(&self) -> (Place, Notice) {
        loop {
            if let Some(first) = self.first_now() {
                return first;
            }
            self.pushed.notified().await;
        }
    }

    async fn first_now(&self) -> Option<(Place, Notice)> {
        self.first_now()
    }

    async fn done(&self, place: Place) {
        self.done(place);
    }

    async fn drop_older(&self, before: Instant) -> usize {
        self.drop_older(before)
    }
}

/// How long a notice is worth telling: Pusher tries for 5 minutes, and Python's SDK believes none
/// that is older.
pub(super) const LIFETIME: Duration = Duration::from_secs(300);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::signature::Signer;

    pub(in crate::webhook) fn notice(text: &str, events: usize, created_at: Instant) -> Notice {
        Notice::new(&Signer::new("s"), (text, events), 0, created_at)
    }

    #[test]
    fn a_notice_stays_until_it_is_done_with() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        assert_eq!(queue.push(notice("1", 2, now)), 0);
        assert_eq!(queue.push(notice("2", 1, now)), 0);
        assert_eq!(queue.events(), 3);
        let (place, first) = queue.first_now().unwrap();
        let (again, _) = queue.first_now().unwrap();
        assert_eq!(place, again);
        assert_eq!(first.events, 2);
        queue.done(place);
        queue.done(place);
        assert_eq!(queue.events(), 1);
        let (place, _) = queue.first_now().unwrap();
        queue.done(place);
        assert!(queue.first_now().is_none());
        let waiting = queue.lock();
        assert_eq!((waiting.bytes, waiting.notices.capacity()), (0, 0), "memory returns");
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        let large = |events| notice(&"x".repeat(1_024 * 1_024), events, now);
        assert_eq!([1, 2, 4, 8, 16].map(|events| queue.push(large(events))), [0, 0, 1, 2, 4]);
        assert!(queue.lock().bytes <= MemoryQueue::BYTES_MAX);
        let (place, first) = queue.first_now().unwrap();
        assert_eq!(first.events, 8);
        let huge = notice(&"x".repeat(MemoryQueue::BYTES_MAX), 32, now);
        assert_eq!(queue.push(huge), 32, "what can't fit pushes nobody out");
        assert_eq!(queue.events(), 24);
        // The first is being delivered while it is pushed out.
        assert_eq!(queue.push(large(64)), 8);
        queue.done(place);
        assert_eq!(queue.events(), 80, "the next is not taken for the one that is done");
    }

    #[test]
    fn what_is_too_old_is_dropped() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        queue.push(notice("1", 2, now));
        queue.push(notice("2", 1, later));
        assert_eq!(queue.drop_older(now), 2);
        assert_eq!(queue.drop_older(now), 0);
        assert_eq!(queue.drop_older(later), 1);
    }
}
