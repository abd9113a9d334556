//! The updates of the indexes of cached events that this node has still to send.

use super::envelope::EnvelopeId;
use crate::protocol::ChannelName;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// An event that was published on a cache channel.
#[derive(Clone, Debug)]
pub(super) struct CachedPublish {
    pub(super) channel: ChannelName,
    pub(super) id: EnvelopeId,
    /// The time of the publish, by the clock of the Redis that stores the event.
    pub(super) at_us: u64,
    /// Bytes in Redis, 0 if it is not cached.
    pub(super) bytes: usize,
    pub(super) retention_ms: u64,
}

/// Queue of updates of the cache index, by app; bounded.
#[derive(Debug)]
pub(super) struct CacheUpdates {
    waiting: Mutex<PendingUpdates>,
    pub(super) added: Notify,
    emptied: Notify,
    permits: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct PendingUpdates {
    apps: HashMap<Arc<str>, AppCacheUpdate>,
    /// Whether a part was taken and Redis has not answered yet.
    is_taken: bool,
}

/// The events that are still to be added to the index of one app.
#[derive(Debug)]
pub(super) struct AppCacheUpdate {
    pub(super) max_bytes: usize,
    pub(super) entries: VecDeque<CachedPublish>,
}

/// The longest wait of a stopping node until its publishes to cache channels are in the index.
pub(super) const CACHE_UPDATES_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum number of events in one update of an index.
pub(super) const UPDATE_EVENTS_MAX: usize = 256;
/// The maximum number of events that wait for the index of an app; the oldest are dropped.
const PENDING_EVENTS_MAX: usize = 16_384;
/// The maximum number of publishes to cache channels in flight.
const PUBLISHES_MAX: usize = 4_096;

impl Default for CacheUpdates {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            added: Notify::new(),
            emptied: Notify::new(),
            permits: Arc::new(Semaphore::new(PUBLISHES_MAX)),
        }
    }
}

impl AppCacheUpdate {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, entries: VecDeque::new() }
    }

    /// Drops the oldest events beyond the maximum. Returns their number.
    fn limit(&mut self) -> usize {
        let excess = self.entries.len().saturating_sub(PENDING_EVENTS_MAX);
        self.entries.drain(..excess);
        excess
    }
}

impl CacheUpdates {
    /// Waits for a permit to publish to a cache channel.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        let permits = Arc::clone(&self.permits);
        permits.acquire_owned().await.expect("it is never closed")
    }

    /// Queues published events for the index.
    pub(super) fn add(&self, app_id: &Arc<str>, max_bytes: usize, entries: Vec<CachedPublish>) {
        let mut waiting = self.waiting.lock();
        let update = waiting
            .apps
            .entry(Arc::clone(app_id))
            .or_insert_with(|| AppCacheUpdate::new(max_bytes));
        update.entries.extend(entries);
        let dropped = update.limit();
        drop(waiting);
        log_dropped(app_id, dropped);
        self.added.notify_one();
    }

    /// Evicts events beyond `max_bytes`.
    pub(super) fn trim(&self, app_id: &Arc<str>, max_bytes: usize) {
        let mut waiting = self.waiting.lock();
        let update = waiting
            .apps
            .entry(Arc::clone(app_id))
            .or_insert_with(|| AppCacheUpdate::new(max_bytes));
        // Publishes that were added before may carry the previous limit.
        update.max_bytes = max_bytes;
        drop(waiting);
        self.added.notify_one();
    }

    /// Waits until no update is pending.
    pub(super) async fn wait_until_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            let is_empty = {
                let waiting = self.waiting.lock();
                waiting.apps.is_empty() && !waiting.is_taken
            };
            if is_empty {
                return;
            }
            emptied.await;
        }
    }

    /// Takes the pending updates, at most `UPDATE_EVENTS_MAX` events of each app. Empty if nothing is pending.
    pub(super) fn take(&self) -> Vec<(Arc<str>, AppCacheUpdate)> {
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        waiting.apps.retain(|app_id, update| {
            let rest = update.entries.split_off(UPDATE_EVENTS_MAX.min(update.entries.len()));
            let entries = mem::replace(&mut update.entries, rest);
            taken.push((
                Arc::clone(app_id),
                AppCacheUpdate { max_bytes: update.max_bytes, entries },
            ));
            !update.entries.is_empty()
        });
        waiting.is_taken = !taken.is_empty();
        drop(waiting);
        if taken.is_empty() {
            self.emptied.notify_waiters();
        }
        taken
    }

    /// Puts back updates that failed.
    pub(super) fn put_back(&self, app_id: &Arc<str>, failed: AppCacheUpdate) {
        let mut waiting = self.waiting.lock();
        let update = waiting
            .apps
            .entry(Arc::clone(app_id))
            .or_insert_with(|| AppCacheUpdate::new(failed.max_bytes));
        let newer = mem::replace(&mut update.entries, failed.entries);
        update.entries.extend(newer);
        let dropped = update.limit();
        drop(waiting);
        log_dropped(app_id, dropped);
    }
}

fn log_dropped(app_id: &str, events: usize) {
    if 0 < events {
        tracing::warn!(app = app_id, events, "dropped cache index updates: too many are pending");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn entries(count: usize, first: u64) -> Vec<CachedPublish> {
        let channel = ChannelName::parse("cache-x", 100).unwrap();
        let entry = |number| CachedPublish {
            channel: channel.clone(),
            id: EnvelopeId(number),
            at_us: number,
            bytes: 1,
            retention_ms: 1,
        };
        (first..).take(count).map(entry).collect()
    }

    fn numbers(update: &AppCacheUpdate) -> Vec<u64> {
        update.entries.iter().map(|entry| entry.id.0).collect()
    }

    #[test]
    fn updates_are_taken_in_parts_and_retried_ones_first() {
        let (cache_updates, app_id) = (CacheUpdates::default(), Arc::from("1"));
        cache_updates.add(&app_id, 10, entries(UPDATE_EVENTS_MAX + 1, 0));
        let (_, first) = cache_updates.take().pop().unwrap();
        assert_eq!(numbers(&first), (0..UPDATE_EVENTS_MAX as u64).collect::<Vec<_>>());
        cache_updates.put_back(&app_id, first);
        let (_, again) = cache_updates.take().pop().unwrap();
        assert_eq!(again.entries[0].id, EnvelopeId(0));
        let (_, rest) = cache_updates.take().pop().unwrap();
        assert_eq!(numbers(&rest), [UPDATE_EVENTS_MAX as u64]);
        assert!(cache_updates.take().is_empty());
    }

    #[test]
    fn waiting_events_are_limited_and_the_oldest_are_dropped() {
        let (cache_updates, app_id) = (CacheUpdates::default(), Arc::from("1"));
        cache_updates.add(&app_id, 10, entries(PENDING_EVENTS_MAX, 0));
        let (_, taken) = cache_updates.take().pop().unwrap();
        cache_updates.add(&app_id, 10, entries(UPDATE_EVENTS_MAX + 1, PENDING_EVENTS_MAX as u64));
        cache_updates.put_back(&app_id, taken);
        let waiting = cache_updates.waiting.lock();
        let update = &waiting.apps[&app_id];
        assert_eq!(update.entries.len(), PENDING_EVENTS_MAX);
        assert_eq!(update.entries[0].id, EnvelopeId(UPDATE_EVENTS_MAX as u64 + 1));
    }

    #[test]
    fn a_new_limit_applies_to_pending_updates() {
        let (cache_updates, app_id) = (CacheUpdates::default(), Arc::from("1"));
        cache_updates.add(&app_id, 10, entries(1, 0));
        cache_updates.trim(&app_id, 5);
        cache_updates.add(&app_id, 10, entries(1, 1));
        let (_, taken) = cache_updates.take().pop().unwrap();
        assert_eq!((taken.max_bytes, taken.entries.len()), (5, 2));
        assert!(
            cache_updates.wait_until_empty().now_or_never().is_none(),
            "Redis has yet to answer"
        );
        assert!(cache_updates.take().is_empty());
        assert!(cache_updates.wait_until_empty().now_or_never().is_some());
    }

    #[test]
    fn additions_and_new_limits_wake_the_task() {
        let (cache_updates, app_id) = (CacheUpdates::default(), Arc::from("1"));
        assert!(cache_updates.added.notified().now_or_never().is_none());
        cache_updates.add(&app_id, 10, entries(1, 0));
        assert!(cache_updates.added.notified().now_or_never().is_some());
        cache_updates.trim(&app_id, 5);
        assert!(cache_updates.added.notified().now_or_never().is_some());
    }

    #[tokio::test]
    async fn waiters_are_woken_when_all_updates_are_sent() {
        let (cache_updates, app_id) = (CacheUpdates::default(), Arc::from("1"));
        cache_updates.add(&app_id, 10, entries(1, 0));
        let mut settled = std::pin::pin!(cache_updates.wait_until_empty());
        assert!(settled.as_mut().now_or_never().is_none());
        cache_updates.take();
        cache_updates.take();
        settled.await;
    }
}
