//! Observed events that are not in the common log yet.

use super::{calls::StoreClient, values::LogRecord};
use crate::{
    hub::HubEvent,
    webhook::{
        record,
        store::log::{Full, bytes_max},
    },
};
use parking_lot::Mutex;
use std::{collections::VecDeque, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time,
};

/// Observed events for the common log. It has the limits of a log in memory, which only an outage
/// reaches.
#[derive(Debug, Default)]
pub(super) struct OutgoingLog {
    waiting: Mutex<PendingEvents>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct PendingEvents {
    entries: VecDeque<LogRecord>,
    bytes: usize,
    /// How many of the oldest were sent as the part of the current number and are not acknowledged.
    unacknowledged: usize,
}

/// The pause before a retry while Redis is unavailable.
const RETRY: Duration = Duration::from_millis(200);
/// Maximum number of bytes that are appended at once.
const PART_BYTES_MAX: usize = 1_024 * 1_024;

fn size(entry: &LogRecord) -> usize {
    entry.record.len() + StoreClient::OVERHEAD_BYTES
}

impl OutgoingLog {
    /// Adds an event. Never blocks: the caller may hold a channel's lock.
    ///
    /// # Errors
    ///
    /// [`Full`] if it was dropped.
    pub(super) fn push(&self, at_us: u64, hub_event: &HubEvent) -> Result<(), Full> {
        // Momentary events leave room for paired ones, here and in the log.
        let most_bytes = bytes_max(hub_event);
        let entry = LogRecord { at_us, most_bytes, record: record::encode(hub_event).into_bytes() };
        let mut waiting = self.waiting.lock();
        if most_bytes < waiting.bytes + size(&entry) {
            return Err(Full);
        }
        waiting.bytes += size(&entry);
        waiting.entries.push_back(entry);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// The number of queued events.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().entries.len()
    }

    /// The oldest events, as many as one part holds. A part stays the same until it is acknowledged:
    /// Redis may have it already, and ignores its number then.
    fn part(&self) -> Vec<LogRecord> {
        let mut bytes = 0;
        let mut waiting = self.waiting.lock();
        if waiting.unacknowledged == 0 {
            let together =
                waiting.entries.iter().take(StoreClient::RECORDS_MAX).take_while(|entry| {
                    let is_first = bytes == 0;
                    bytes += size(entry);
                    is_first || bytes <= PART_BYTES_MAX
                });
            waiting.unacknowledged = together.count();
        }
        waiting.entries.range(..waiting.unacknowledged).cloned().collect()
    }

    fn remove(&self, part: &[LogRecord]) {
        let mut waiting = self.waiting.lock();
        waiting.entries.drain(..part.len());
        waiting.bytes -= part.iter().map(size).sum::<usize>();
        waiting.unacknowledged = 0;
        if waiting.entries.is_empty() {
            waiting.entries = VecDeque::new();
        }
    }

    /// Appends events in order, until `ending` is true and nothing is queued, or Redis is
    /// unavailable then. `number` counts the parts of this process.
    pub(super) async fn append_all(
        &self,
        store: &StoreClient,
        number: &Mutex<u64>,
        mut ending: watch::Receiver<bool>,
    ) {
        loop {
            let is_ending = *ending.borrow() || ending.has_changed().is_err();
            let part = self.part();
            if part.is_empty() {
                if is_ending {
                    return;
                }
                tokio::select! {
                    () = self.filled.notified() => {}
                    _ = ending.wait_for(|is_ending| *is_ending) => {}
                }
                continue;
            }
            let next = *number.lock() + 1;
            if store.append(next, &part).await.is_ok() {
                *number.lock() = next;
                self.remove(&part);
            } else if is_ending {
                return;
            } else {
                time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::one_of_each;
    use crate::webhook::store::log::{LOG_BYTES_MAX, MOMENTARY_BYTES_MAX};

    #[test]
    fn events_are_appended_in_parts_and_in_order() {
        let outgoing = OutgoingLog::default();
        let [occupied, vacated, ..] = one_of_each();
        for _ in 0..StoreClient::RECORDS_MAX {
            outgoing.push(7, &occupied).unwrap();
        }
        outgoing.push(0, &vacated).unwrap();
        let part = outgoing.part();
        assert_eq!((part.len(), part[0].at_us), (StoreClient::RECORDS_MAX, 7));
        outgoing.remove(&part);
        let part = outgoing.part();
        assert_eq!(part[0].record, record::encode(&vacated).into_bytes());
        outgoing.remove(&part);
        assert_eq!((outgoing.len(), outgoing.waiting.lock().bytes), (0, 0));
        assert_eq!(outgoing.waiting.lock().entries.capacity(), 0, "memory returns");
    }

    #[test]
    fn a_part_that_is_repeated_stays_the_same() {
        let outgoing = OutgoingLog::default();
        let [occupied, vacated, ..] = one_of_each();
        let records = |part: &[LogRecord]| -> Vec<_> {
            part.iter().map(|entry| entry.record.clone()).collect()
        };
        outgoing.push(0, &occupied).unwrap();
        let part = outgoing.part();
        outgoing.push(0, &vacated).unwrap();
        assert_eq!(records(&outgoing.part()), [record::encode(&occupied).into_bytes()]);
        outgoing.remove(&part);
        assert_eq!(records(&outgoing.part()), [record::encode(&vacated).into_bytes()]);
    }

    #[test]
    fn parts_are_bounded_in_bytes() {
        let outgoing = OutgoingLog::default();
        let [occupied, _, _, _, mut event, ..] = one_of_each();
        let mut push = |bytes: usize| {
            if let HubEvent::ClientEvent { data, .. } = &mut event {
                *data = String::new();
                let rest = record::encode(&event).len() + StoreClient::OVERHEAD_BYTES;
                if let HubEvent::ClientEvent { data, .. } = &mut event {
                    *data = "x".repeat(bytes - rest);
                }
            }
            outgoing.push(0, &event).unwrap();
        };
        push(PART_BYTES_MAX / 2);
        push(PART_BYTES_MAX / 2);
        push(PART_BYTES_MAX / 2);
        push(PART_BYTES_MAX / 2 + 1);
        outgoing.push(0, &occupied).unwrap();
        let sizes = std::iter::from_fn(|| {
            let part = outgoing.part();
            outgoing.remove(&part);
            Some(part.len()).filter(|len| 0 < *len)
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [2, 1, 2]);
    }

    #[test]
    fn exactly_32_mib_wait_and_half_of_that_of_the_moment() {
        let [occupied, _, _, _, event, ..] = one_of_each();
        for (hub_event, most) in [(&occupied, LOG_BYTES_MAX), (&event, MOMENTARY_BYTES_MAX)] {
            let outgoing = OutgoingLog::default();
            outgoing.push(0, hub_event).unwrap();
            let each = outgoing.waiting.lock().bytes;
            assert_eq!(each, record::encode(hub_event).len() + StoreClient::OVERHEAD_BYTES);
            outgoing.waiting.lock().bytes = most - each;
            assert_eq!(outgoing.push(0, hub_event), Ok(()));
            outgoing.waiting.lock().bytes = most - each + 1;
            assert_eq!(outgoing.push(0, hub_event), Err(Full));
            assert_eq!(outgoing.part()[0].most_bytes, most);
        }
    }

    #[test]
    fn during_an_outage_paired_events_have_room_longest() {
        let outgoing = OutgoingLog::default();
        let [occupied, _, _, _, mut event, ..] = one_of_each();
        if let HubEvent::ClientEvent { data, .. } = &mut event {
            *data = "x".repeat(2 * 1_024 * 1_024);
        }
        let taken = (0..100).filter(|_| outgoing.push(0, &event).is_ok()).count();
        assert_eq!(taken, 7, "each takes a little more than 2 MiB");
        assert_eq!(outgoing.part().len(), 1, "what is large goes alone");
        let taken = (0..1_000_000).filter(|_| outgoing.push(0, &occupied).is_ok()).count();
        assert!(100_000 < taken && taken < 1_000_000, "{taken}");
        assert_eq!(outgoing.push(0, &occupied), Err(Full));
    }
}
