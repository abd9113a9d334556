//! The task that delivers an app's webhooks while this node holds the lease.

use super::{
    app::AppWebhooks,
    batch::Batch,
    client::TIMEOUTS,
    delivery::{End, deliver},
    envelope,
    filter::Filter,
    machine::Machine,
    queue::QUEUE_BYTES_MAX,
    record::parse,
    settings::Settings,
    stats::Dropped,
    store::redis::{Commit, NotCommitted, Poll, RedisQueue, RedisStore, StoreClient, View},
};
use crate::{broker::redis::Unavailable, clock::now, http_client::Connector, hub::HubEvent};
use arc_swap::ArcSwap;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, sleep_until},
};

/// The interval of polls by the holder of the lease, which renews it. Several may fail before the
/// lease expires.
const LOOK_INTERVAL: Duration = Duration::from_millis(1_500);
/// The pause before a retry while Redis is unavailable.
const RETRY: Duration = Duration::from_millis(250);
/// How long the answer to an accepted request may take to be stored, before it is sent again.
const ACK_MAX: Duration = Duration::from_secs(1);
/// The interval at which other nodes try to acquire the lease although its holder is alive: the
/// holder's task may hang.
const ASK_ANYWAY: Duration = Duration::from_secs(120);
/// A margin at the end of the lease: it may have started earlier than this node knows.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// Delivers the webhooks of `app` whenever this node holds the lease, until the app's webhooks end.
/// Then it polls once more, tries each endpoint's queue a last time and releases the lease. When
/// the settings change, it restarts with the state in Redis.
pub(super) async fn dispatch(
    app: Arc<AppWebhooks>,
    store: Arc<RedisStore>,
    connector: Arc<ArcSwap<Connector>>,
) {
    let (mut ending, mut changes) = (app.ending.subscribe(), app.watch());
    loop {
        let settings = Arc::clone(&changes.borrow_and_update());
        if settings.endpoints.is_empty() {
            // Other nodes may have endpoints.
            tokio::select! {
                _ = ending.wait_for(|is_ending| *is_ending) => return,
                _ = changes.changed() => continue,
            }
        }
        let made_of = (Arc::clone(&app), Arc::clone(&store), Arc::clone(&connector));
        let mut leader = Leader::new(made_of, settings);
        loop {
            let step = leader.step().await;
            tokio::select! {
                () = leader.rest(step) => {}
                _ = ending.wait_for(|is_ending| *is_ending) => {}
                _ = changes.changed() => {}
            }
            if *ending.borrow() || !leader.is_current() {
                break;
            }
        }
        if *ending.borrow() && leader.is_current() {
            return leader.finish().await;
        }
        let next = Arc::clone(&changes.borrow());
        leader.make_way(&next).await;
    }
}

/// What to do next.
#[derive(Debug)]
enum Step {
    /// Poll again: the log has more records.
    GoOn,
    /// Wait for a notification, or until this time.
    Wait(Instant),
    /// Another node holds the lease, for this time unless it renews it.
    StandBy { by: String, remaining: Duration },
}

struct Leader {
    app: Arc<AppWebhooks>,
    store: Arc<RedisStore>,
    connector: Arc<ArcSwap<Connector>>,
    settings: Arc<Settings>,
    /// The names of the endpoints' queues.
    names: Vec<String>,
    /// The name under which this node acquires the lease.
    name: String,
    machine: Machine,
    delivering: Option<Delivering>,
}

/// The tasks that deliver while this node has the lease. They end when this is dropped.
struct Delivering {
    queues: Vec<Arc<RedisQueue>>,
    tasks: JoinSet<()>,
    ends: Vec<watch::Sender<End>>,
}

impl Leader {
    fn new(
        (app, store, connector): (Arc<AppWebhooks>, Arc<RedisStore>, Arc<ArcSwap<Connector>>),
        settings: Arc<Settings>,
    ) -> Self {
        store.lease.ends();
        Self {
            names: names(&settings),
            name: store.client.new_lease(),
            machine: Machine::of_redis(Vec::new()),
            delivering: None,
            app,
            store,
            connector,
            settings,
        }
    }

    /// Whether the settings have not changed.
    fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.settings, &self.app.settings())
    }

    fn store(&self) -> &StoreClient {
        &self.store.client
    }

    /// Polls the log, and queues requests for what it contains.
    async fn step(&mut self) -> Step {
        let step = self.poll().await;
        self.app.log_lost(now());
        step
    }

    async fn poll(&mut self) -> Step {
        let asked = now();
        let view = match self.store().poll(&self.name, &self.names).await {
            Ok(Poll::Ours(view)) => view,
            Ok(Poll::Held { by, remaining }) => {
                self.stand_down();
                return Step::StandBy { by, remaining };
            }
            Err(Unavailable) => return Step::Wait(asked + RETRY),
        };
        self.store.lease.lasts_until(asked + StoreClient::LEASE - LEASE_MARGIN);
        if view.is_new {
            self.begin(&view);
        }
        self.app.lost.add(view.lost);
        if let Some(delivering) = &self.delivering {
            for (queue, events) in delivering.queues.iter().zip(&view.waiting) {
                queue.set_waiting(*events, false);
            }
        }
        if !self.is_current() {
            // Some records may have been written after the settings changed.
            return Step::GoOn;
        }
        let (is_all, now_ms) = (view.is_all, view.now_ms);
        match self.take(view).await {
            Ok(0) if is_all => {
                let due_in = self.machine.deadline_ms().map(|due_ms| due_ms.saturating_sub(now_ms));
                let due = due_in.map(|ms| asked + Duration::from_millis(ms));
                let look = asked + LOOK_INTERVAL;
                Step::Wait(due.map_or(look, |due| due.min(look)))
            }
            // Records that arrived meanwhile cause no notification, since the log was not empty.
            Ok(_) if is_all => Step::Wait(now() + self.settings.batch_wait),
            Ok(_) => Step::GoOn,
            Err(NotCommitted::NotOurs) => {
                self.stand_down();
                Step::Wait(asked + RETRY)
            }
            Err(NotCommitted::Unknown) => {
                // The next poll shows whether it was committed. A request in transit has the old
                // name, and is rejected.
                self.name = self.store().new_lease();
                Step::Wait(asked + RETRY)
            }
        }
    }

    /// Starts with the lease: another node may have changed the state.
    fn begin(&mut self, view: &View) {
        self.machine = Machine::of_redis(view.held.clone());
        if self.delivering.is_none() {
            tracing::info!(app = self.app.id, "became webhook leader");
            self.delivering = Some(self.deliver());
        }
    }

    fn deliver(&self) -> Delivering {
        let mut ends = Vec::new();
        let mut tasks = JoinSet::new();
        let mut queues = Vec::new();
        for (endpoint, name) in self.settings.endpoints.iter().zip(&self.names) {
            let queue = Arc::new(RedisQueue::new(
                Arc::clone(&self.store),
                name.clone(),
                Arc::clone(endpoint),
                self.settings.signer.clone(),
            ));
            queues.push(Arc::clone(&queue));
            let end = watch::Sender::new(End::Open);
            let (endpoint, connector) = (Arc::clone(endpoint), Arc::clone(&self.connector));
            tasks.spawn(deliver(endpoint, queue, connector, end.subscribe()));
            ends.push(end);
        }
        Delivering { queues, tasks, ends }
    }

    /// Stops delivering: another node holds the lease.
    fn stand_down(&mut self) {
        if self.delivering.take().is_some() {
            tracing::info!(app = self.app.id, "another node became webhook leader");
        }
        self.store.lease.ends();
        for endpoint in &self.settings.endpoints {
            endpoint.stats.waiting.set(0);
            endpoint.stats.set_aside.set(0);
        }
    }

    /// Dispatches the records. Returns the number of records that are left in the log.
    async fn take(&mut self, view: View) -> Result<usize, NotCommitted> {
        let mut commit = Commit {
            records: view.records.len(),
            bytes: view
                .records
                .iter()
                .map(|record| record.len() + StoreClient::OVERHEAD_BYTES)
                .sum(),
            ..Commit::default()
        };
        let mut ready = Vec::new();
        // Records that were not written by a node are ignored.
        for (at_us, hub_event) in view.records.iter().filter_map(|record| parse(record)) {
            self.machine.apply(at_us / 1_000, hub_event, &mut ready);
        }
        if view.is_all {
            self.machine.advance(view.now_ms, &mut ready);
        }
        commit.held = self.machine.take_changes();
        commit.requests = self.requests(&ready, view.now_ms);
        if commit.records == 0 && commit.held.is_empty() && commit.requests.is_empty() {
            return Ok(view.records.len());
        }
        let store = &self.store.client;
        let queued = store.commit(&self.name, &self.names, QUEUE_BYTES_MAX, &commit).await?;
        let now = now();
        for (at, endpoint) in self.settings.endpoints.iter().enumerate() {
            let dropped = queued.dropped.get(at).copied().unwrap_or(0);
            endpoint.count_dropped(Dropped::Overflow, dropped, now);
            if let Some(queue) = self.delivering.as_ref().and_then(|all| all.queues.get(at)) {
                queue.set_waiting(queued.waiting.get(at).copied().unwrap_or(0), 0 < dropped);
            }
        }
        Ok(queued.left)
    }

    /// The requests with the events of `ready` for each endpoint whose filter they pass.
    fn requests(&self, ready: &[HubEvent], now_ms: u64) -> Vec<(usize, usize, Vec<u8>)> {
        let events: Vec<String> = ready.iter().map(envelope::event).collect();
        let mut requests = Vec::new();
        for (at, filter) in self.settings.filters.iter().enumerate() {
            for (text, count) in batches(&self.settings, filter, ready, &events) {
                let body = envelope::body(&text, now_ms.into());
                requests.push((at, count, body.into_bytes()));
            }
        }
        requests
    }

    /// Waits until the next step is due.
    async fn rest(&self, step: Step) {
        match step {
            Step::GoOn => {}
            Step::Wait(until) => {
                tokio::select! {
                    () = self.store().logged() => time::sleep(self.settings.batch_wait).await,
                    () = sleep_until(until.into()) => {}
                }
            }
            Step::StandBy { by, remaining } => {
                tokio::select! {
                    () = self.store().vacant() => {}
                    () = self.is_over(&by, remaining) => {}
                }
            }
        }
    }

    /// Waits until the holder of the lease seems dead, and its lease expired.
    async fn is_over(&self, by: &str, remaining: Duration) {
        let since = now();
        // A random delay, so that not all nodes ask at once.
        let chance = Duration::from_millis(u64::from(rand::random::<u8>()));
        time::sleep(remaining.min(LOOK_INTERVAL) + chance).await;
        while !self.store().is_silent(by, since)
            && now().saturating_duration_since(since) < ASK_ANYWAY
        {
            time::sleep(RETRY + chance / 4).await;
        }
    }

    /// Ends this leader when the node stops.
    async fn finish(mut self) {
        if self.delivering.is_none() {
            return;
        }
        while matches!(self.step().await, Step::GoOn) && self.is_current() {}
        if let Some(Delivering { mut tasks, ends, .. }) = self.delivering.take() {
            for end in ends {
                end.send_replace(End::Last);
            }
            while tasks.join_next().await.is_some() {}
            self.store().release(&self.name).await;
        }
        self.stand_down();
    }

    /// Ends this leader so that another can start with `next`. Queues that keep their names are
    /// left unchanged; the others are tried once more.
    async fn make_way(mut self, next: &Settings) {
        let Some(Delivering { mut tasks, ends, .. }) = self.delivering.take() else { return };
        let next = names(next);
        for (name, end) in self.names.iter().zip(ends) {
            end.send_replace(if next.contains(name) { End::Stop } else { End::Last });
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        // An attempt that takes longer is cancelled: meanwhile nothing is dispatched.
        let _ = time::timeout(TIMEOUTS.total() + ACK_MAX, ended).await;
        self.store().release(&self.name).await;
        self.stand_down();
    }
}

/// The events that pass `filter`, in batches, each with its number of events.
fn batches(
    settings: &Settings,
    filter: &Filter,
    ready: &[HubEvent],
    events: &[String],
) -> Vec<(String, usize)> {
    let now = now();
    let mut batch = Batch::new(settings.batch_wait);
    let mut batches = Vec::new();
    let passing = ready.iter().zip(events).filter(|(hub_event, _)| filter.passes(hub_event));
    for (_, event) in passing {
        batches.extend(batch.add(event, now));
    }
    // Records that are read together have waited together.
    batches.extend(batch.take());
    batches
}

/// Names the queues of the endpoints by digests of their URLs, so that an endpoint keeps its queue
/// when the order of webhooks changes. The digest hides secrets in the URL.
fn names(settings: &Settings) -> Vec<String> {
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
