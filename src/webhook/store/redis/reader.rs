//! Reads the log in Redis, for the node that holds the lease.

use super::{
    RedisQueue, RedisStore, StoreClient,
    values::{LogView, PollReply},
};
use crate::{
    broker::Unavailable,
    clock::now,
    webhook::{
        debouncer::Debouncer,
        queue::QUEUE_BYTES_MAX,
        record,
        settings::AppWebhookSettings,
        stats::Dropped,
        store::log::{Commit, EventLog, LeaseOfOther, NotCommitted, Poll, ReadRecords, Records},
    },
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// The interval of polls by the holder of the lease, which renews it. Several may fail before the
/// lease expires.
const POLL_INTERVAL: Duration = Duration::from_millis(1_500);
/// The interval at which other nodes check whether the holder of the lease is silent.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The interval at which other nodes try to acquire the lease although its holder is alive: the
/// holder's task may hang.
const ACQUIRE_ANYWAY: Duration = Duration::from_secs(120);
/// A margin at the end of the lease: it may have started earlier than this node knows.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

impl EventLog for Arc<RedisStore> {
    type Queue = RedisQueue;

    /// Another reader of this process may have panicked.
    fn start(&self) -> (Debouncer, Arc<AppWebhookSettings>) {
        self.lease.rename(self.client.new_lease());
        self.lease.ends();
        (Debouncer::for_redis_log(Vec::new()), self.settings.load_full())
    }

    fn queues(
        &self,
        settings: &AppWebhookSettings,
        before: &[Arc<RedisQueue>],
    ) -> Vec<Arc<RedisQueue>> {
        let named = settings.endpoints.iter().zip(queue_names(settings));
        let queue = |(endpoint, name): (&Arc<_>, String)| {
            let is_same = |queue: &&Arc<RedisQueue>| {
                queue.name == name && Arc::ptr_eq(&queue.endpoint, endpoint)
            };
            before.iter().find(is_same).cloned().unwrap_or_else(|| {
                let (endpoint, signer) = (Arc::clone(endpoint), settings.signer.clone());
                Arc::new(RedisQueue::new(Arc::clone(self), name, endpoint, signer))
            })
        };
        named.map(queue).collect()
    }

    async fn poll(
        &self,
        settings: &Arc<AppWebhookSettings>,
        queues: &[Arc<RedisQueue>],
    ) -> Result<Poll, Unavailable> {
        if let Some(settings) = self.other_settings(settings) {
            return Ok(Poll::Settings(settings));
        }
        if queues.is_empty() {
            return Ok(Poll::NoEndpoints);
        }
        let polled_at = now();
        let view = match self.client.poll(&self.lease.name(), &names(queues)).await? {
            PollReply::Ours(view) => view,
            PollReply::Held { by, remaining } => {
                self.step_down(queues);
                return Ok(Poll::StandBy(LeaseOfOther { name: by, remaining }));
            }
        };
        self.lease.lasts_until(polled_at + StoreClient::LEASE - LEASE_MARGIN);
        for (queue, events) in queues.iter().zip(&view.waiting) {
            queue.set_waiting(*events, view.is_new);
        }
        let mut records = records(view, polled_at);
        if self.other_settings(settings).is_some() {
            // Some events may have happened after the settings changed: they are read once more.
            (records.events, records.read) = (Vec::new(), ReadRecords::default());
            records.is_all = false;
        }
        Ok(Poll::Records(records))
    }

    async fn commit(
        &self,
        _settings: &AppWebhookSettings,
        queues: &[Arc<RedisQueue>],
        commit: Commit,
    ) -> Result<usize, NotCommitted> {
        let (lease, names) = (self.lease.name(), names(queues));
        let committed = self.client.commit(&lease, &names, QUEUE_BYTES_MAX, &commit).await;
        match committed {
            Err(NotCommitted::NotOurs) => self.step_down(queues),
            // A commit in transit has the old name, and is rejected. The next poll returns the state
            // for the new one.
            Err(NotCommitted::Unknown) => self.lease.rename(self.client.new_lease()),
            Ok(_) => {}
        }
        let committed = committed?;
        let counts = committed.dropped.iter().zip(&committed.waiting);
        for (queue, (dropped, waiting)) in queues.iter().zip(counts) {
            queue.endpoint.count_dropped(Dropped::Overflow, *dropped, now());
            queue.set_waiting(*waiting, 0 < *dropped);
        }
        Ok(committed.left)
    }

    async fn has_records(&self) {
        self.client.logged().await;
    }

    async fn lease_is_free(&self, lease: &LeaseOfOther) {
        tokio::select! {
            () = self.client.released() => {}
            () = self.is_over(lease) => {}
        }
    }

    async fn release(&self, queues: &[Arc<RedisQueue>]) {
        self.client.release(&self.lease.name()).await;
        self.step_down(queues);
    }
}

impl RedisStore {
    /// Records that this node does not hold the lease: another one may change the queues.
    fn step_down(&self, queues: &[Arc<RedisQueue>]) {
        self.lease.ends();
        for queue in queues {
            queue.endpoint.stats.waiting.set(0);
            queue.endpoint.stats.dead_letters.set(0);
        }
    }

    /// Other settings than these, if they have changed.
    fn other_settings(
        &self,
        settings: &Arc<AppWebhookSettings>,
    ) -> Option<Arc<AppWebhookSettings>> {
        let latest = self.settings.load_full();
        (!Arc::ptr_eq(&latest, settings)).then_some(latest)
    }

    /// Waits until the holder of the lease seems dead, and its lease expired.
    async fn is_over(&self, lease: &LeaseOfOther) {
        let since = now();
        // A random delay, so that not all nodes ask at once.
        let chance = Duration::from_millis(u64::from(rand::random::<u8>()));
        time::sleep(lease.remaining.min(POLL_INTERVAL) + chance).await;
        while !self.client.is_silent(&lease.name, since)
            && now().saturating_duration_since(since) < ACQUIRE_ANYWAY
        {
            time::sleep(CHECK_INTERVAL + chance / 4).await;
        }
    }
}

/// The records of a poll that was made at `polled_at`.
fn records(view: LogView, polled_at: Instant) -> Records {
    let bytes = view.records.iter().map(|record| record.len() + StoreClient::OVERHEAD_BYTES);
    let read = ReadRecords { count: view.records.len(), bytes: bytes.sum() };
    // Records that were not written by a node are ignored.
    let events = view.records.iter().filter_map(|record| record::parse(record));
    Records {
        debouncer: view.is_new.then(|| Box::new(Debouncer::for_redis_log(view.delayed))),
        events: events.map(|(at_us, hub_event)| (at_us / 1_000, hub_event)).collect(),
        read,
        is_all: view.is_all,
        lost: view.lost,
        now_ms: view.now_ms,
        time_ms: view.now_ms.into(),
        renew_at: Some(polled_at + POLL_INTERVAL),
    }
}

fn names(queues: &[Arc<RedisQueue>]) -> Vec<String> {
    queues.iter().map(|queue| queue.name.clone()).collect()
}

/// Names the queues of the endpoints by digests of their URLs, so that an endpoint keeps its queue
/// when the order of webhooks changes. The digest hides secrets in the URL.
fn queue_names(settings: &AppWebhookSettings) -> Vec<String> {
    let mut twins: HashMap<&str, usize> = HashMap::new();
    let mut names = Vec::new();
    for endpoint in &settings.endpoints {
        let before = twins.entry(endpoint.url.expose()).or_default();
        let digest = settings.signer.sign(&format!("queue {}", endpoint.url.expose()));
        names.push(format!("{}.{before}", &digest[..16]));
        *before += 1;
    }
    names
}

#[cfg(test)]
mod tests;
