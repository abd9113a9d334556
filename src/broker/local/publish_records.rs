//! The results of an app's recent publishes with an idempotency key, limited in number.

use crate::{
    broker::{IDEMPOTENCY_WINDOW, PublishId},
    channel::Counts,
};
use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

/// The counts that each publish with a key was answered with, until [`IDEMPOTENCY_WINDOW`] has passed. Beyond
/// [`RECORDS_MAX`], the oldest are dropped.
#[derive(Debug, Default)]
pub(super) struct PublishRecords {
    counts: HashMap<PublishId, Counts>,
    /// The time of each publish, the oldest first.
    order: VecDeque<(Instant, PublishId)>,
}

/// Maximum records of an app: 800 publishes with keys a second for two minutes, in about 10 MB.
const RECORDS_MAX: usize = 100_000;
/// Minimum capacity that is worth shrinking.
const SHRINK_FROM: usize = 1_024;

impl PublishRecords {
    /// The counts of an earlier publish.
    pub(super) fn get(&mut self, id: PublishId, now: Instant) -> Option<Counts> {
        self.expire(now);
        self.counts.get(&id).copied()
    }

    /// Records a publish, which must not be recorded yet.
    pub(super) fn insert(&mut self, id: PublishId, counts: Counts, now: Instant) {
        if RECORDS_MAX <= self.order.len()
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.counts.insert(id, counts);
        self.order.push_back((now, id));
    }

    /// Drops the records whose time has passed. Returns when the next one's has.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some((at, id)) = self.order.front()
            && IDEMPOTENCY_WINDOW <= now.saturating_duration_since(*at)
        {
            self.counts.remove(id);
            self.order.pop_front();
        }
        if SHRINK_FROM < self.order.capacity() && self.order.len() < self.order.capacity() / 4 {
            self.order.shrink_to_fit();
            self.counts.shrink_to_fit();
        }
        self.order.front().map(|(at, _)| *at + IDEMPOTENCY_WINDOW)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.counts.len(), self.order.len());
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::IdempotencyKey, protocol::ChannelName};
    use std::time::Duration;

    fn id(number: usize) -> PublishId {
        let channel = ChannelName::parse("a", 200).unwrap();
        IdempotencyKey::parse(number.to_string()).unwrap().publish_id(&channel, "e")
    }

    fn counts(subscriptions: usize) -> Counts {
        Counts { subscriptions, users: 0 }
    }

    #[test]
    fn a_record_is_kept_for_two_minutes() {
        let (mut records, now) = (PublishRecords::default(), Instant::now());
        records.insert(id(1), counts(3), now);
        records.insert(id(2), counts(4), now + Duration::from_secs(1));
        let almost = now + IDEMPOTENCY_WINDOW - Duration::from_millis(1);
        assert_eq!(records.get(id(1), almost), Some(counts(3)));
        assert_eq!(records.get(id(3), almost), None);
        assert_eq!(records.get(id(1), now + IDEMPOTENCY_WINDOW), None);
        assert_eq!(
            (records.get(id(2), now + IDEMPOTENCY_WINDOW), records.len()),
            (Some(counts(4)), 1)
        );
        let second = now + Duration::from_secs(1);
        assert_eq!(records.expire(second), Some(second + IDEMPOTENCY_WINDOW), "the next");
        assert_eq!(records.expire(now + 2 * IDEMPOTENCY_WINDOW), None);
        assert_eq!(records.len(), 0);
    }

    #[test]
    fn beyond_the_limit_the_oldest_records_are_dropped() {
        let (mut records, now) = (PublishRecords::default(), Instant::now());
        for number in 0..RECORDS_MAX {
            records.insert(id(number), counts(number), now);
        }
        assert_eq!((records.len(), records.get(id(0), now)), (RECORDS_MAX, Some(counts(0))));
        records.insert(id(RECORDS_MAX), counts(0), now);
        assert_eq!(records.len(), RECORDS_MAX);
        assert_eq!(records.get(id(0), now), None);
        assert_eq!(records.get(id(1), now), Some(counts(1)));
        records.expire(now + IDEMPOTENCY_WINDOW);
        assert!(records.order.capacity() < SHRINK_FROM && records.counts.capacity() < SHRINK_FROM);
    }
}
