//! What has occurred in an app and was not looked at yet.

use crate::hub::Occurrence;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The log of one app: every thread that observes something appends, one task reads.
///
/// The seam for a log that several nodes share: it keeps [`Occurrence::to_bytes`], and one node at a
/// time reads.
pub(super) trait Log {
    /// Adds the next occurrence. Never waits: whoever appends may hold a channel's lock.
    ///
    /// # Errors
    ///
    /// [`Full`] when it was not taken.
    fn append(&self, occurrence: Occurrence) -> Result<(), Full>;

    /// Waits until there are occurrences, and moves the oldest of them, at most
    /// [`READ_MAX`], to `read`. Those that were read before count as done. Safe to cancel.
    fn read(&self, read: &mut Vec<Occurrence>) -> impl Future<Output = ()> + Send;

    /// As [`Log::read`], without waiting.
    fn read_now(&self, read: &mut Vec<Occurrence>);
}

/// The most occurrences that are read at once, so that other tasks come to their turn.
pub(super) const READ_MAX: usize = 1_000;

/// The log holds as much as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

/// A log that ends with the process.
#[derive(Debug, Default)]
pub(super) struct MemoryLog {
    entries: Mutex<Entries>,
    /// Woken when the log was empty only: its reader looks again by itself while there is something.
    filled: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    entries: VecDeque<Occurrence>,
    bytes: usize,
}

impl MemoryLog {
    /// The most that may wait, in bytes: some 200,000 comings and goings. It takes seconds in which
    /// nobody reads until so many wait.
    pub(super) const BYTES_MAX: usize = 32 * 1_024 * 1_024;
    /// What is of the moment may fill a half, and leaves the other to what comes and goes.
    pub(super) const MOMENTARY_BYTES_MAX: usize = Self::BYTES_MAX / 2;

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn append(&self, occurrence: Occurrence) -> Result<(), Full> {
        let max =
            if occurrence.is_transition() { Self::BYTES_MAX } else { Self::MOMENTARY_BYTES_MAX };
        let mut log = self.lock();
        let bytes = log.bytes + occurrence.weight();
        if max < bytes {
            return Err(Full);
        }
        log.bytes = bytes;
        log.entries.push_back(occurrence);
        if log.entries.len() == 1 {
            drop(log);
            self.filled.notify_one();
        }
        Ok(())
    }

    async fn read(&self, read: &mut Vec<Occurrence>) {
        loop {
            self.read_now(read);
            if !read.is_empty() {
                return;
            }
            self.filled.notified().await;
        }
    }

    fn read_now(&self, read: &mut Vec<Occurrence>) {
        let mut log = self.lock();
        let count = log.entries.len().min(READ_MAX);
        read.extend(log.entries.drain(..count));
        log.bytes -= read[read.len() - count..].iter().map(Occurrence::weight).sum::<usize>();
        if log.entries.is_empty() {
            log.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::occurrence_tests::{channel, one_of_each};

    fn large() -> Occurrence {
        let [_, _, _, _, mut event, ..] = one_of_each();
        if let Occurrence::ClientEvent { data, .. } = &mut event {
            *data = "x".repeat(1_024 * 1_024);
        }
        event
    }

    #[tokio::test]
    async fn what_is_appended_is_read_in_order_and_in_parts() {
        let log = MemoryLog::default();
        let count = |count| Occurrence::SubscriptionCount { channel: channel("t"), count };
        for number in 0..=READ_MAX {
            assert_eq!(log.append(count(number)), Ok(()));
        }
        let mut read = Vec::new();
        log.read(&mut read).await;
        assert_eq!(read, (0..READ_MAX).map(count).collect::<Vec<_>>());
        read.clear();
        log.read(&mut read).await;
        assert_eq!(read, [count(READ_MAX)]);
        assert_eq!(log.lock().bytes, 0);
        assert_eq!(log.lock().entries.capacity(), 0, "memory returns");
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let log = MemoryLog::default();
        let mut read = Vec::new();
        let [occupied, ..] = one_of_each();
        tokio::join!(log.read(&mut read), async { log.append(occupied.clone()) }).1.unwrap();
        assert_eq!(read, [occupied]);
    }

    #[test]
    fn a_full_log_has_room_for_comings_and_goings_longest() {
        let log = MemoryLog::default();
        let taken = (0..100).filter(|_| log.append(large()).is_ok()).count();
        assert_eq!(taken, 15, "each takes a little more than 1 MiB");
        let [occupied, ..] = one_of_each();
        let taken = (0..1_000_000).filter(|_| log.append(occupied.clone()).is_ok()).count();
        assert!(100_000 < taken && taken < 1_000_000, "{taken}");
        assert!(log.lock().bytes <= MemoryLog::BYTES_MAX);
        assert_eq!(log.append(occupied), Err(Full));
    }
}
