//! The task that dispatches the events of an app on a single node.

use super::{
    app::AppWebhooks,
    batch::Batch,
    delivery::{End, deliver},
    endpoint::Endpoint,
    envelope::{self, Notice},
    machine::Machine,
    settings::Settings,
    stats::Dropped,
    store::{
        Store,
        memory::{LogEntry, READ_MAX},
    },
};
use crate::{clock::now, http_client::Connector, hub::HubEvent, signature::Signer};
use arc_swap::ArcSwap;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::{self, JoinSet},
    time::{self, sleep_until},
};

/// How long to wait after reading the log, so that the task is woken once in that time and not for
/// each event.
const READ_PAUSE: Duration = Duration::from_millis(5);

/// Dispatches the events of `app` and delivers its requests, until the app's webhooks end.
pub(super) async fn dispatch(app: Arc<AppWebhooks>, connector: Arc<ArcSwap<Connector>>) {
    let Store::Memory(log) = &app.store else { return };
    let mut ending = app.ending.subscribe();
    let mut dispatcher = Dispatcher::new(&app, connector, log.settings());
    let mut read = Vec::new();
    while !*ending.borrow() {
        let deadline = dispatcher.deadline();
        tokio::select! {
            () = log.read(&mut read) => {}
            () = async { sleep_until(deadline.unwrap_or_else(now).into()).await },
                if deadline.is_some() => {}
            is_ending = ending.wait_for(|is_ending| *is_ending) => {
                if is_ending.is_err() {
                    break;
                }
            }
        }
        let is_behind = read.len() == READ_MAX;
        dispatcher.take(&mut read, now());
        if is_behind {
            task::yield_now().await;
        } else {
            time::sleep(READ_PAUSE).await;
        }
    }
    log.read_now(&mut read);
    while !read.is_empty() {
        dispatcher.take(&mut read, now());
        log.read_now(&mut read);
    }
    dispatcher.finish(now()).await;
}

/// The state of dispatching: events pass through state machine, filters and batches.
#[derive(Debug)]
struct Dispatcher<'a> {
    app: &'a Arc<AppWebhooks>,
    settings: Arc<Settings>,
    connector: Arc<ArcSwap<Connector>>,
    machine: Machine,
    /// The beginning of the machine's time.
    began: Instant,
    handles: Vec<EndpointHandle>,
    /// The delivery tasks.
    deliveries: JoinSet<()>,
    ready: Vec<HubEvent>,
}

/// An endpoint with its current batch.
#[derive(Debug)]
struct EndpointHandle {
    endpoint: Arc<Endpoint>,
    batch: Batch,
    /// Ends the endpoint's delivery.
    end: watch::Sender<End>,
}

impl EndpointHandle {
    /// Adds an event to the batch.
    fn add(&mut self, event: &str, signer: &Signer, now: Instant) {
        for (events, count) in self.batch.add(event, now) {
            self.queue((&events, count), signer, now);
        }
    }

    /// Queues the batch for delivery.
    fn send(&mut self, signer: &Signer, now: Instant) {
        if let Some((events, count)) = self.batch.take() {
            self.queue((&events, count), signer, now);
        }
    }

    fn queue(&self, events: (&str, usize), signer: &Signer, now: Instant) {
        self.endpoint.push(Notice::new(signer, events, envelope::time_ms(), now));
    }
}

impl<'a> Dispatcher<'a> {
    fn new(
        app: &'a Arc<AppWebhooks>,
        connector: Arc<ArcSwap<Connector>>,
        settings: Arc<Settings>,
    ) -> Self {
        let mut dispatcher = Self {
            app,
            settings: Arc::clone(&settings),
            connector,
            machine: Machine::of_memory(),
            began: now(),
            handles: Vec::new(),
            deliveries: JoinSet::new(),
            ready: Vec::new(),
        };
        dispatcher.open(settings);
        dispatcher
    }

    /// Applies other settings: pending batches are queued at once, and removed endpoints try their
    /// queues once more.
    fn follow(&mut self, settings: Arc<Settings>, now: Instant) {
        self.fill_batches(now);
        for handle in &mut self.handles {
            handle.send(&self.settings.signer, now);
        }
        // Deliveries that have ended.
        while self.deliveries.try_join_next().is_some() {}
        self.open(settings);
    }

    /// Opens a handle for each new endpoint, and ends the deliveries of removed ones.
    fn open(&mut self, settings: Arc<Settings>) {
        let mut before = std::mem::take(&mut self.handles);
        for endpoint in &settings.endpoints {
            let known = before.iter().position(|handle| Arc::ptr_eq(&handle.endpoint, endpoint));
            let end = match known {
                Some(at) => before.swap_remove(at).end,
                None => self.deliver(Arc::clone(endpoint)),
            };
            let batch = Batch::new(settings.batch_wait);
            self.handles.push(EndpointHandle { endpoint: Arc::clone(endpoint), batch, end });
        }
        for handle in before {
            handle.end.send_replace(End::Last);
        }
        self.settings = settings;
    }

    /// Starts the delivery to an endpoint. The returned sender ends it.
    fn deliver(&mut self, endpoint: Arc<Endpoint>) -> watch::Sender<End> {
        let end = watch::Sender::new(End::Open);
        let (app, connector) = (Arc::clone(self.app), Arc::clone(&self.connector));
        let queue = Arc::clone(&endpoint.queue);
        let delivering = deliver(Arc::clone(&endpoint), queue, connector, end.subscribe());
        self.deliveries.spawn(async move {
            delivering.await;
            if app.is_gone.load(Ordering::Relaxed) || !app.settings().has(&endpoint) {
                endpoint.count_dropped(Dropped::Removed, endpoint.queue.all_events(), now());
            }
        });
        end
    }

    /// When [`Dispatcher::take`] must be called even without new events.
    fn deadline(&self) -> Option<Instant> {
        let batches = self.handles.iter().filter_map(|handle| handle.batch.deadline());
        let due = self.machine.deadline_ms().map(|ms| self.began + Duration::from_millis(ms));
        batches.chain(due).min()
    }

    /// The time of the machine, in ms.
    fn ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, read: &mut Vec<LogEntry>, now: Instant) {
        let now_ms = self.ms(now);
        for entry in read.drain(..) {
            match entry {
                LogEntry::HubEvent(hub_event) => {
                    self.machine.apply(now_ms, hub_event, &mut self.ready);
                }
                LogEntry::Settings(settings) => self.follow(settings, now),
            }
        }
        self.machine.advance(now_ms, &mut self.ready);
        self.fill_batches(now);
        for handle in self.handles.iter_mut().filter(|handle| handle.batch.is_due(now)) {
            handle.send(&self.settings.signer, now);
        }
        self.count_lost(now);
    }

    /// Releases all events that were held back, and tries each endpoint's queue once more.
    async fn finish(mut self, now: Instant) {
        self.machine.finish(&mut self.ready);
        self.fill_batches(now);
        for handle in &mut self.handles {
            handle.send(&self.settings.signer, now);
            handle.end.send_replace(End::Last);
        }
        while self.deliveries.join_next().await.is_some() {}
    }

    /// Puts the released events into the batches of the endpoints whose filters they pass.
    fn fill_batches(&mut self, now: Instant) {
        for hub_event in self.ready.drain(..) {
            let mut event = None;
            for (handle, filter) in self.handles.iter_mut().zip(&self.settings.filters) {
                if !filter.passes(&hub_event) {
                    continue;
                }
                let event = event.get_or_insert_with(|| envelope::event(&hub_event));
                handle.add(event, &self.settings.signer, now);
            }
        }
    }

    fn count_lost(&mut self, now: Instant) {
        self.app.lost.add(usize::try_from(self.machine.take_lost()).unwrap_or(usize::MAX));
        self.app.log_lost(now);
    }
}
