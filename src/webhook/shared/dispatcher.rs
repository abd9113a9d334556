//! The task that delivers an app's webhooks while this node holds the lease.

use super::{
    super::{
        app::{AppWebhooks, Settings},
        batch::Batch,
        client::REQUEST_TIMEOUT,
        delivery::{Delivery, End},
        dial::Dialer,
        envelope,
        filter::Filter,
        kept_alive,
        queue::MemoryQueue,
        stats::Dropped,
    },
    SharedWebhooks,
    machine::{SharedMachine, parse},
    queue::SharedQueue,
};
use crate::cluster::{Commit, NotCommitted, Poll, Store, Unavailable, View};
use crate::{hub::HubEvent, live::Live};
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

/// Whoever has the lease looks at least so often, and keeps it by that. Some looks may fail until
/// it ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(1_500);
/// How long to wait before asking Redis again when it is away.
const RETRY: Duration = Duration::from_millis(250);
/// Whoever does not have the lease asks for it so often although the other is alive: its task may
/// be stuck.
const ASK_ANYWAY: Duration = Duration::from_secs(120);
/// What of a lease is not counted on: it may have begun a little earlier than is known here.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// Delivers the webhooks of `app` whenever this node holds the lease, until the app's webhooks end.
/// Then it polls once more, tries each endpoint's queue a last time and releases the lease. When the
/// settings change, it begins anew with what lies in Redis.
pub(in crate::webhook) async fn dispatch(
    app: Arc<AppWebhooks>,
    shared: Arc<SharedWebhooks>,
    dialer: Arc<Live<Dialer>>,
) {
    let (mut ending, mut changes) = (app.ending.subscribe(), app.watch());
    loop {
        let settings = Arc::clone(&changes.borrow_and_update());
        if settings.endpoints.is_empty() {
            // Other nodes may have some to tell.
            tokio::select! {
                _ = ending.wait_for(|is_ending| *is_ending) => return,
                _ = changes.changed() => continue,
            }
        }
        let made_of = (Arc::clone(&app), Arc::clone(&shared), Arc::clone(&dialer));
        let mut dispatcher = SharedDispatcher::new(made_of, settings);
        loop {
            let step = dispatcher.step().await;
            tokio::select! {
                () = dispatcher.rest(step) => {}
                _ = ending.wait_for(|is_ending| *is_ending) => {}
                _ = changes.changed() => {}
            }
            if *ending.borrow() || !dispatcher.is_current() {
                break;
            }
        }
        if *ending.borrow() && dispatcher.is_current() {
            return dispatcher.finish().await;
        }
        let next = Arc::clone(&changes.borrow());
        dispatcher.make_way(&next).await;
    }
}

/// What to do next.
#[derive(Debug)]
enum Step {
    /// There is more in the log.
    GoOn,
    /// Nothing until something happens, or until then.
    Wait(Instant),
    /// Another has the lease, for so long unless it is alive.
    StandBy { by: String, remaining: Duration },
}

struct SharedDispatcher {
    app: Arc<AppWebhooks>,
    shared: Arc<SharedWebhooks>,
    dialer: Arc<Live<Dialer>>,
    settings: Arc<Settings>,
    /// The names of the endpoints' queues.
    names: Vec<String>,
    /// The name of this node's lease, whether it has it or not.
    name: String,
    machine: SharedMachine,
    delivering: Option<Delivering>,
}

/// The tasks that deliver while this node has the lease. They end when this is dropped.
struct Delivering {
    queues: Vec<Arc<SharedQueue>>,
    tasks: JoinSet<()>,
    ends: Vec<watch::Sender<End>>,
}

impl SharedDispatcher {
    fn new(
        (app, shared, dialer): (Arc<AppWebhooks>, Arc<SharedWebhooks>, Arc<Live<Dialer>>),
        settings: Arc<Settings>,
    ) -> Self {
        shared.lease.ends();
        Self {
            names: names(&settings),
            name: shared.store.new_lease(),
            machine: SharedMachine::default(),
            delivering: None,
            app,
            shared,
            dialer,
            settings,
        }
    }

    /// Whether the settings have not changed.
    fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.settings, &self.app.settings())
    }

    fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Polls the log, and queues requests for what it contains.
    async fn step(&mut self) -> Step {
        let asked = Instant::now();
        let view = match self.store().poll(&self.name, &self.names).await {
            Ok(Poll::Ours(view)) => view,
            Ok(Poll::Held { by, remaining }) => {
                self.stand_down();
                return Step::StandBy { by, remaining };
            }
            Err(Unavailable) => return Step::Wait(asked + RETRY),
        };
        self.shared.lease.lasts_until(asked + Store::LEASE - LEASE_MARGIN);
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
            // Some of it may have happened since the settings have changed.
            return Step::GoOn;
        }
        let (is_all, now_ms) = (view.is_all, view.now_ms);
        match self.take(view).await {
            Ok(0) if is_all => {
                let due_in = self.machine.due_ms().map(|due_ms| due_ms.saturating_sub(now_ms));
                let due = due_in.map(|ms| asked + Duration::from_millis(ms));
                let look = asked + LOOK_INTERVAL;
                Step::Wait(due.map_or(look, |due| due.min(look)))
            }
            // What has come meanwhile rings no bell, since the log was not empty.
            Ok(_) if is_all => Step::Wait(Instant::now() + self.settings.batch_wait),
            Ok(_) => Step::GoOn,
            Err(NotCommitted::NotOurs) => {
                self.stand_down();
                Step::Wait(asked + RETRY)
            }
            Err(NotCommitted::Unknown) => {
                // Whether it was done is seen in what is there next. What is on its way still has
                // the old name, and is refused.
                self.name = self.store().new_lease();
                Step::Wait(asked + RETRY)
            }
        }
    }

    /// The lease is this node's: whatever it knew before may have changed.
    fn begin(&mut self, view: &View) {
        self.machine = SharedMachine::resume(view.held.clone());
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
            let queue = Arc::new(SharedQueue::new(
                Arc::clone(&self.shared),
                name.clone(),
                Arc::clone(endpoint),
                self.settings.signer.clone(),
            ));
            queues.push(Arc::clone(&queue));
            let (endpoint, dialer) = (Arc::clone(endpoint), Arc::clone(&self.dialer));
            let end = watch::Sender::new(End::Open);
            let ending = end.subscribe();
            ends.push(end);
            tasks.spawn(kept_alive(move || {
                let clients = [(); 2].map(|()| endpoint.client(Arc::clone(&dialer)));
                Delivery::new(Arc::clone(&endpoint), Arc::clone(&queue), clients, ending.clone())
                    .run()
            }));
        }
        Delivering { queues, tasks, ends }
    }

    /// Another has the lease.
    fn stand_down(&mut self) {
        if self.delivering.take().is_some() {
            tracing::info!(app = self.app.id, "another node became webhook leader");
        }
        self.shared.lease.ends();
        for endpoint in &self.settings.endpoints {
            endpoint.stats.waiting.set(0);
            endpoint.stats.set_aside.set(0);
        }
    }

    /// Tells what comes of the records. Gives how many there are in the log after that.
    async fn take(&mut self, view: View) -> Result<usize, NotCommitted> {
        let mut commit = Commit {
            records: view.records.len(),
            bytes: view.records.iter().map(|record| record.len() + Store::OVERHEAD_BYTES).sum(),
            ..Commit::default()
        };
        let mut ready = Vec::new();
        // Records that no node has written are ignored.
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
        let store = &self.shared.store;
        let queued = store.commit(&self.name, &self.names, MemoryQueue::BYTES_MAX, &commit).await?;
        let now = Instant::now();
        for (at, endpoint) in self.settings.endpoints.iter().enumerate() {
            let dropped = queued.dropped.get(at).copied().unwrap_or(0);
            endpoint.count_dropped(Dropped::Overflow, dropped, now);
            if let Some(queue) = self.delivering.as_ref().and_then(|all| all.queues.get(at)) {
                queue.set_waiting(queued.waiting.get(at).copied().unwrap_or(0), 0 < dropped);
            }
        }
        Ok(queued.left)
    }

    /// The requests that tell `told` to those who want it.
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

    /// Waits until there may be something to do.
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

    /// Waits until whoever has the lease seems to be dead, and its lease over.
    async fn is_over(&self, by: &str, remaining: Duration) {
        let since = Instant::now();
        // Not all who wait ask at the same moment.
        let chance = Duration::from_millis(u64::from(rand::random::<u8>()));
        time::sleep(remaining.min(LOOK_INTERVAL) + chance).await;
        while !self.store().is_silent(by, since) && since.elapsed() < ASK_ANYWAY {
            time::sleep(RETRY + chance / 4).await;
        }
    }

    /// The node stops.
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

    /// Ends so that another can begin with `next`. Queues that have their names still are left as
    /// they are; what waits in the others is tried once more.
    async fn make_way(mut self, next: &Settings) {
        let Some(Delivering { mut tasks, ends, .. }) = self.delivering.take() else { return };
        let next = names(next);
        for (name, end) in self.names.iter().zip(ends) {
            end.send_replace(if next.contains(name) { End::Stop } else { End::Last });
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        // What takes longer is cut short: meanwhile nothing is told.
        let _ = time::timeout(REQUEST_TIMEOUT, ended).await;
        self.store().release(&self.name).await;
        self.stand_down();
    }
}

/// The events that pass `filter`, as they share requests, and how many each has.
fn batches(
    settings: &Settings,
    filter: &Filter,
    ready: &[HubEvent],
    events: &[String],
) -> Vec<(String, usize)> {
    let now = Instant::now();
    let mut batch = Batch::new(settings.batch_wait);
    let mut batches = Vec::new();
    let passing = ready.iter().zip(events).filter(|(hub_event, _)| filter.passes(hub_event));
    for (_, event) in passing {
        if !batch.has_room(event.len()) {
            batches.extend(batch.take());
        }
        batch.push(event, now);
        if batch.is_due(now) {
            batches.extend(batch.take());
        }
    }
    // Those that are read together have waited for one another.
    batches.extend(batch.take());
    batches
}

/// Names the queues of the endpoints after their URLs, so that each finds its queue again when the
/// configuration has another before it. A URL may hold a secret, and can't be read from the name.
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
