//! The limit on the last events of cache channels in Redis.
//!
//! Each event is stored in the slot of its channel, so no script can access all of them. An account in the slot of the
//! app lists them with their bytes, in the order of publishing. The publishing node updates the account soon after,
//! even if the publisher has disconnected, and evicts the events that exceed the limit. Until then, concurrent
//! publishes of several nodes may exceed it. An event is missing in the account until it expires if its node died
//! before accounting it, or if it is unknown whether Redis has stored it.

use super::{
    envelope::EnvelopeId,
    scripts::{ScriptCall, ScriptReply, Status, Unexpected},
    shared::{ClusterState, Joined, Lease},
};
use crate::protocol::ChannelName;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{self, timeout},
};

/// An event that was published on a cache channel.
#[derive(Clone, Debug)]
pub(super) struct CachedPublish {
    pub(super) channel: ChannelName,
    pub(super) id: EnvelopeId,
    /// The time of the publish, by the clock of the Redis that stores the event.
    pub(super) at_us: u64,
    /// Bytes in Redis, 0 if it is not kept.
    pub(super) bytes: usize,
    pub(super) keep_ms: u64,
}

/// The updates of accounts that are still to be sent.
#[derive(Debug)]
pub(super) struct Accounts {
    waiting: Mutex<PendingUpdates>,
    added: Notify,
    settled: Notify,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct PendingUpdates {
    apps: HashMap<Arc<str>, Account>,
    /// Whether a part was taken and Redis has not answered yet.
    is_taken: bool,
}

/// The updates that wait for the account of one app.
#[derive(Debug)]
struct Account {
    max_bytes: usize,
    entries: VecDeque<CachedPublish>,
}

/// The bytes that an event counts in addition to its envelope and the name of its channel.
const OVERHEAD_BYTES: usize = 256;
/// The timeout of a call to Redis.
const WITHIN: Duration = Duration::from_secs(1);
/// The pause before a failed call is retried.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The minimum time for which the account is kept.
const MEMORY_MS: u64 = 60_000;
/// The logged reason when the timeout passes.
const LATE: &str = "Redis does not answer";
/// The logged reason when this node's lease has expired.
const REFUSED: &str = "the lease of this node has ended";
/// How long publishes are collected for one update of an account.
const GATHER: Duration = Duration::from_millis(50);
/// How many calls one account makes before those of other apps continue.
const ROUNDS: usize = 16;
/// The maximum number of events in one update of an account.
const AT_ONCE: usize = 256;
/// The maximum number of events that wait for the account of an app; the oldest are dropped.
const WAITING_MAX: usize = 16_384;
/// The maximum number of publishes to cache channels in flight.
const PLACES: usize = 4_096;

/// The bytes that an event with an envelope of this size counts.
pub(super) fn weight(channel: &ChannelName, envelope_bytes: usize) -> usize {
    envelope_bytes + channel.as_str().len() + OVERHEAD_BYTES
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            added: Notify::new(),
            settled: Notify::new(),
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }
}

impl Account {
    fn new(max_bytes: usize) -> Self {
        Self { max_bytes, entries: VecDeque::new() }
    }

    /// Drops the oldest events beyond the maximum. Returns their number.
    fn limit(&mut self) -> usize {
        let excess = self.entries.len().saturating_sub(WAITING_MAX);
        self.entries.drain(..excess);
        excess
    }
}

impl Accounts {
    /// Waits for a permit to publish to a cache channel.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.places);
        places.acquire_owned().await.expect("it is never closed")
    }

    /// Queues published events for the account.
    pub(super) fn add(&self, app_id: &Arc<str>, max_bytes: usize, entries: Vec<CachedPublish>) {
        let mut waiting = self.waiting.lock();
        let account =
            waiting.apps.entry(Arc::clone(app_id)).or_insert_with(|| Account::new(max_bytes));
        account.entries.extend(entries);
        let lost = account.limit();
        drop(waiting);
        log_lost(app_id, lost);
        self.added.notify_one();
    }

    /// Evicts events beyond `max_bytes`.
    pub(super) fn trim(&self, app_id: &Arc<str>, max_bytes: usize) {
        let mut waiting = self.waiting.lock();
        let account =
            waiting.apps.entry(Arc::clone(app_id)).or_insert_with(|| Account::new(max_bytes));
        // Publishes that were added before may carry the previous limit.
        account.max_bytes = max_bytes;
        drop(waiting);
        self.added.notify_one();
    }

    /// Waits until no update is pending.
    pub(super) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            let is_settled = {
                let waiting = self.waiting.lock();
                waiting.apps.is_empty() && !waiting.is_taken
            };
            if is_settled {
                return;
            }
            settled.await;
        }
    }

    /// Takes the pending updates, at most `AT_ONCE` events of each app. Empty if nothing is pending.
    fn take(&self) -> Vec<(Arc<str>, Account)> {
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        waiting.apps.retain(|app_id, account| {
            let rest = account.entries.split_off(AT_ONCE.min(account.entries.len()));
            let entries = mem::replace(&mut account.entries, rest);
            taken.push((Arc::clone(app_id), Account { max_bytes: account.max_bytes, entries }));
            !account.entries.is_empty()
        });
        waiting.is_taken = !taken.is_empty();
        drop(waiting);
        if taken.is_empty() {
            self.settled.notify_waiters();
        }
        taken
    }

    /// Puts back updates that failed.
    fn put_back(&self, app_id: &Arc<str>, undone: Account) {
        let mut waiting = self.waiting.lock();
        let account = waiting
            .apps
            .entry(Arc::clone(app_id))
            .or_insert_with(|| Account::new(undone.max_bytes));
        let newer = mem::replace(&mut account.entries, undone.entries);
        account.entries.extend(newer);
        let lost = account.limit();
        drop(waiting);
        log_lost(app_id, lost);
    }
}

fn log_lost(app_id: &str, events: usize) {
    if 0 < events {
        tracing::warn!(app = app_id, events, "cached events not accounted: Redis does not answer");
    }
}

/// An event in an account: its channel and its id, as stored there.
type Named = (Vec<u8>, Vec<u8>);

impl ClusterState {
    /// Updates the accounts as long as the node runs.
    pub(super) async fn keep_accounts(self: Arc<Self>) {
        loop {
            self.accounts.added.notified().await;
            let mut is_full = false;
            loop {
                if !is_full {
                    time::sleep(GATHER).await;
                }
                self.link_state.joined().await;
                let taken = self.accounts.take();
                if taken.is_empty() {
                    break;
                }
                is_full = taken.iter().any(|(_, account)| account.entries.len() == AT_ONCE);
                let each = taken.into_iter().map(|(app_id, account)| self.keep(app_id, account));
                let are_kept = futures_util::future::join_all(each).await;
                if !are_kept.into_iter().all(|is_kept| is_kept) {
                    time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Updates one account, or puts back its events.
    async fn keep(&self, app_id: Arc<str>, mut account: Account) -> bool {
        let done = match self.joined_now() {
            Some(joined) => self.account(&app_id, &mut account, joined).await,
            None => Err(LATE.to_owned()),
        };
        if let Err(error) = &done {
            tracing::debug!(app = &*app_id, %error, "cached events not accounted yet");
            self.accounts.put_back(&app_id, account);
        }
        done.is_ok()
    }

    /// Adds the events to the account, and evicts events beyond the limit. Added events are removed from
    /// `account`.
    async fn account(
        &self,
        app_id: &Arc<str>,
        account: &mut Account,
        joined: Joined,
    ) -> Result<(), String> {
        let mut evicted = Vec::new();
        for _ in 0..ROUNDS {
            let call = self.account_call(app_id, account, (&evicted, &joined.lease));
            let value = timeout(WITHIN, call.run(&joined.connection)).await;
            let value = value.map_err(|_elapsed| LATE.to_owned())?;
            let answer = ScriptReply::new(value.map_err(|error| error.to_string())?).and_then(read);
            if matches!(answer, Ok(None)) {
                self.refused(&joined.lease);
                return Err(REFUSED.to_owned());
            }
            account.entries.clear();
            let Ok(Some((bytes, is_more, to_evict))) = answer else {
                self.metrics.unexpected_data("the account of cached events");
                return Ok(());
            };
            self.metrics.cached_bytes(app_id, bytes);
            if to_evict.is_empty() && !is_more {
                return Ok(());
            }
            let has_some = !to_evict.is_empty();
            let each = to_evict.into_iter().map(|named| self.evict(app_id, named, &joined));
            evicted = futures_util::future::join_all(each).await.into_iter().flatten().collect();
            if has_some && evicted.is_empty() {
                return Err("no event could be evicted".to_owned());
            }
        }
        self.accounts.put_back(app_id, Account::new(account.max_bytes));
        Ok(())
    }

    fn account_call(
        &self,
        app_id: &str,
        account: &Account,
        (evicted, lease): (&[Named], &Lease),
    ) -> ScriptCall {
        let keep_ms = account.entries.iter().map(|entry| entry.keep_ms).fold(MEMORY_MS, u64::max);
        let home = self.names.home_of(app_id);
        let mut call = ScriptCall::guarded(&self.scripts.cache, home, &self.names, lease)
            .key(self.names.of_app("cacheorder", app_id))
            .key(self.names.of_app("cached", app_id))
            .number(account.max_bytes)
            .number(keep_ms)
            .number(evicted.len());
        for (channel, id) in evicted {
            call = call.arg(channel).arg(id);
        }
        for entry in &account.entries {
            call = call
                .arg(entry.channel.as_str())
                .number(entry.at_us)
                .number(entry.bytes)
                .number(entry.keep_ms)
                .arg(format!("{:x}", entry.id.0));
        }
        call
    }

    /// Evicts an event. Returns it once it is no longer in Redis.
    async fn evict(&self, app_id: &str, named: Named, joined: &Joined) -> Option<Named> {
        let Some((channel, id)) = parse(&named) else {
            // No node publishes an event like that.
            self.metrics.unexpected_data("the account of cached events");
            return Some(named);
        };
        let partition = self.names.channel_partition(app_id, &channel);
        let call = ScriptCall::guarded(&self.scripts.evict, partition, &self.names, &joined.lease)
            .key(self.names.channel(app_id, &channel))
            .key(self.names.last_event(app_id, &channel))
            .arg(id.to_be_bytes())
            .arg(format!("{id:x}"));
        let value = timeout(WITHIN, call.run(&joined.connection)).await.ok()?.ok()?;
        let mut answer = ScriptReply::new(value).ok()?;
        let (status, _) = answer.status().ok()?;
        if status != Status::Done {
            self.refused(&joined.lease);
            return None;
        }
        let was_there = answer.number() == Ok(1);
        self.metrics.cache_evicted(app_id, u64::from(was_there));
        Some(named)
    }
}

fn parse((channel, id): &Named) -> Option<(ChannelName, u64)> {
    let channel = ChannelName::parse(std::str::from_utf8(channel).ok()?, usize::MAX).ok()?;
    Some((channel, u64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()?))
}

/// The sum of the bytes, whether another call is needed, and the events to evict. `None` if the
/// lease has expired.
fn read(mut answer: ScriptReply) -> Result<Option<(u64, bool, Vec<Named>)>, Unexpected> {
    let (status, _) = answer.status()?;
    if status != Status::Done {
        return Ok(None);
    }
    let sum = answer.text()?.parse().map_err(|_| Unexpected)?;
    let is_more = answer.number()? == 1;
    let mut named = answer.all_bytes()?.into_iter();
    let mut to_evict = Vec::new();
    while let (Some(channel), Some(id)) = (named.next(), named.next()) {
        to_evict.push((channel, id));
    }
    Ok(Some((sum, is_more, to_evict)))
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
            keep_ms: 1,
        };
        (first..).take(count).map(entry).collect()
    }

    fn numbers(account: &Account) -> Vec<u64> {
        account.entries.iter().map(|entry| entry.id.0).collect()
    }

    #[test]
    fn updates_are_taken_in_parts_and_retried_ones_first() {
        let (accounts, app_id) = (Accounts::default(), Arc::from("1"));
        accounts.add(&app_id, 10, entries(AT_ONCE + 1, 0));
        let (_, first) = accounts.take().pop().unwrap();
        assert_eq!(numbers(&first), (0..AT_ONCE as u64).collect::<Vec<_>>());
        accounts.put_back(&app_id, first);
        let (_, again) = accounts.take().pop().unwrap();
        assert_eq!(again.entries[0].id, EnvelopeId(0));
        let (_, rest) = accounts.take().pop().unwrap();
        assert_eq!(numbers(&rest), [AT_ONCE as u64]);
        assert!(accounts.take().is_empty());
    }

    #[test]
    fn waiting_events_are_limited_and_the_oldest_are_dropped() {
        let (accounts, app_id) = (Accounts::default(), Arc::from("1"));
        accounts.add(&app_id, 10, entries(WAITING_MAX, 0));
        let (_, taken) = accounts.take().pop().unwrap();
        accounts.add(&app_id, 10, entries(AT_ONCE + 1, WAITING_MAX as u64));
        accounts.put_back(&app_id, taken);
        let waiting = accounts.waiting.lock();
        let account = &waiting.apps[&app_id];
        assert_eq!(account.entries.len(), WAITING_MAX);
        assert_eq!(account.entries[0].id, EnvelopeId(AT_ONCE as u64 + 1));
    }

    #[test]
    fn a_new_limit_applies_to_pending_updates() {
        let (accounts, app_id) = (Accounts::default(), Arc::from("1"));
        accounts.add(&app_id, 10, entries(1, 0));
        accounts.trim(&app_id, 5);
        accounts.add(&app_id, 10, entries(1, 1));
        let (_, taken) = accounts.take().pop().unwrap();
        assert_eq!((taken.max_bytes, taken.entries.len()), (5, 2));
        assert!(accounts.settled().now_or_never().is_none(), "Redis has yet to answer");
        assert!(accounts.take().is_empty());
        assert!(accounts.settled().now_or_never().is_some());
    }

    #[test]
    fn an_event_counts_its_envelope_its_channel_and_an_overhead() {
        let channel = ChannelName::parse("cache-x", 100).unwrap();
        assert_eq!(weight(&channel, 1_000), 1_000 + "cache-x".len() + OVERHEAD_BYTES);
    }

    #[test]
    fn additions_and_new_limits_wake_the_task() {
        let (accounts, app_id) = (Accounts::default(), Arc::from("1"));
        assert!(accounts.added.notified().now_or_never().is_none());
        accounts.add(&app_id, 10, entries(1, 0));
        assert!(accounts.added.notified().now_or_never().is_some());
        accounts.trim(&app_id, 5);
        assert!(accounts.added.notified().now_or_never().is_some());
    }

    #[tokio::test]
    async fn waiters_are_woken_when_all_updates_are_sent() {
        let (accounts, app_id) = (Accounts::default(), Arc::from("1"));
        accounts.add(&app_id, 10, entries(1, 0));
        let mut settled = std::pin::pin!(accounts.settled());
        assert!(settled.as_mut().now_or_never().is_none());
        accounts.take();
        accounts.take();
        settled.await;
    }

    #[test]
    fn unexpected_entries_of_an_account_are_not_evicted() {
        let named = |channel: &[u8], id: &[u8]| (channel.to_vec(), id.to_vec());
        let channel = ChannelName::parse("cache-x", 100).unwrap();
        assert_eq!(parse(&named(b"cache-x", b"ff")), Some((channel, 255)));
        for unexpected_data in [named(b"", b"ff"), named(b"cache-x", b"no"), named(b"\xFF", b"ff")]
        {
            assert_eq!(parse(&unexpected_data), None, "{unexpected_data:?}");
        }
    }
}
