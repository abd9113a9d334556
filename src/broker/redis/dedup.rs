//! The envelopes that this node has received recently, so that a repeated one is delivered once.

use super::envelope::EnvelopeId;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The recently received envelopes, by the process that sent them.
///
/// A process numbers its envelopes consecutively, so those received from it are bits of a map behind the
/// highest number. A repeated envelope arrives within `broker_wait_ms` of its first attempt. With
/// the default, the window is larger than the count of numbers assigned in that time; beyond it, Redis
/// still recognises a duplicate by its recent ids, unless a failover has lost them.
#[derive(Debug, Default)]
pub(super) struct DedupWindow(HashMap<u32, ProcessWindow>);

#[derive(Debug)]
struct ProcessWindow {
    highest: u64,
    bits: Box<[u64]>,
    last_used: Instant,
}

/// The size of a window, in numbers: five seconds at 50,000 publishes a second, in 32 KiB.
const WINDOW_IDS: u64 = 256 * 1024;
/// After this time without an envelope, the window of a process is removed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

impl DedupWindow {
    /// Whether an envelope was received before. It is recorded only if it `is_trusted`: others could
    /// otherwise fill the window with processes that do not exist, or use the numbers of a node's
    /// future events.
    pub(super) fn insert(&mut self, id: EnvelopeId, is_trusted: bool, now: Instant) -> bool {
        let number = id.counter();
        if !is_trusted {
            return self.0.get(&id.process()).is_some_and(|window| window.has(number));
        }
        let window = self.0.entry(id.process()).or_insert_with(|| ProcessWindow {
            highest: number,
            bits: vec![0; usize::try_from(WINDOW_IDS / 64).expect("a small number")].into(),
            last_used: now,
        });
        window.last_used = now;
        window.insert(number)
    }

    /// Removes the windows of processes that sent nothing for a while.
    pub(super) fn prune(&mut self, now: Instant) {
        self.0.retain(|_, window| now.saturating_duration_since(window.last_used) < IDLE_TIMEOUT);
    }
}

impl ProcessWindow {
    fn insert(&mut self, number: u64) -> bool {
        if number + WINDOW_IDS <= self.highest {
            // Too old to be known. Repeated envelopes arrive earlier than that.
            return false;
        }
        if self.highest < number {
            if self.highest + WINDOW_IDS <= number {
                self.bits.fill(0);
            } else {
                for passed in self.highest + 1..=number {
                    self.set(passed, false);
                }
            }
            self.highest = number;
        }
        self.set(number, true)
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = Self::bit_position(number);
        self.highest < number + WINDOW_IDS && number <= self.highest && self.bits[word] & bit != 0
    }

    /// Sets the bit of a number, and returns its previous value.
    fn set(&mut self, number: u64, value: bool) -> bool {
        let (word, bit) = Self::bit_position(number);
        let word = &mut self.bits[word];
        let was = *word & bit != 0;
        *word = if value { *word | bit } else { *word & !bit };
        was
    }

    /// The word and the bit of a number in the window.
    fn bit_position(number: u64) -> (usize, u64) {
        let place = number % WINDOW_IDS;
        (usize::try_from(place / 64).expect("a place of the window"), 1 << (place % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(process: u64, number: u64) -> EnvelopeId {
        EnvelopeId(process << EnvelopeId::COUNTER_BITS | number)
    }

    #[test]
    fn a_repeated_envelope_is_recognised() {
        let (mut dedup, now) = (DedupWindow::default(), Instant::now());
        for number in [5, 9, 7, WINDOW_IDS + 3] {
            assert!(!dedup.insert(id(1, number), true, now), "{number}");
            assert!(dedup.insert(id(1, number), true, now), "{number} again");
        }
        assert!(dedup.insert(id(1, 9), true, now), "still within the window");
        assert!(!dedup.insert(id(2, 9), true, now), "another process");
        assert!(!dedup.insert(id(1, WINDOW_IDS + 2), true, now), "passed over");
        assert!(!dedup.insert(id(1, 9 * WINDOW_IDS), true, now), "far ahead");
        assert!(!dedup.insert(id(1, 9 * WINDOW_IDS - 1), true, now), "nothing is left of before");
    }

    #[test]
    fn windows_of_silent_processes_are_removed() {
        let (mut dedup, now) = (DedupWindow::default(), Instant::now());
        dedup.insert(id(1, 1), true, now);
        dedup.prune(now + IDLE_TIMEOUT / 2);
        assert_eq!(dedup.0.len(), 1);
        dedup.prune(now + IDLE_TIMEOUT);
        assert!(dedup.0.is_empty());
    }

    #[test]
    fn unknown_senders_do_not_change_any_window() {
        let (mut dedup, now) = (DedupWindow::default(), Instant::now());
        for process in 0..100_000 {
            assert!(!dedup.insert(id(process, 1), false, now));
        }
        assert!(dedup.0.is_empty(), "no memory for processes that do not exist");
        assert!(!dedup.insert(id(1, 7), true, now));
        for number in [8, 9, 7 + WINDOW_IDS, 9 * WINDOW_IDS] {
            assert!(!dedup.insert(id(1, number), false, now));
        }
        assert!(
            dedup.insert(id(1, 7), false, now),
            "a received number is known, regardless of the sender"
        );
        assert!(!dedup.insert(id(1, 8), true, now), "a number that others have used is still free");
        assert!(dedup.insert(id(1, 7), true, now), "the window is where it was");
    }

    #[test]
    fn a_window_moves_with_the_highest_number() {
        let (mut dedup, now) = (DedupWindow::default(), Instant::now());
        assert!(!dedup.insert(id(1, WINDOW_IDS), true, now));
        assert!(!dedup.insert(id(1, 1), true, now), "the lowest of the window");
        assert!(dedup.insert(id(1, 1), true, now));
        assert!(!dedup.insert(id(1, 0), true, now), "too old to be known");
        assert!(!dedup.insert(id(1, 0), true, now));
        assert!(
            dedup.insert(id(1, WINDOW_IDS), true, now),
            "its bit is not that of the old number"
        );
        // Numbers that share bits with earlier ones are new.
        for number in [
            WINDOW_IDS + 1,
            2 * WINDOW_IDS,
            2 * WINDOW_IDS + 1,
            3 * WINDOW_IDS + 1,
            5 * WINDOW_IDS + 1,
        ] {
            assert!(!dedup.insert(id(1, number), true, now), "{number}");
            assert!(dedup.insert(id(1, number), true, now), "{number} again");
            assert!(dedup.insert(id(1, number), false, now), "{number} from an unknown sender");
            assert!(!dedup.insert(id(1, number - WINDOW_IDS), false, now), "before the window");
        }
        assert!(!dedup.insert(id(1, 5 * WINDOW_IDS), false, now), "never received");
    }

    #[test]
    fn a_process_that_sends_is_remembered() {
        let (mut dedup, now) = (DedupWindow::default(), Instant::now());
        dedup.insert(id(1, 1), true, now);
        dedup.insert(id(1, 2), true, now + IDLE_TIMEOUT / 2);
        dedup.prune(now + IDLE_TIMEOUT);
        assert!(dedup.insert(id(1, 1), true, now + IDLE_TIMEOUT));
    }
}
