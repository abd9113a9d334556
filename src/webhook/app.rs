//! The webhooks of one app, and the task that dispatches its events.

use super::{
    Kind, WebhookError,
    batch::Batch,
    delivery::{End, EndpointDelivery},
    endpoint::Endpoint,
    envelope::{self, Notice},
    filter::{Filter, Kinds},
    kept_alive,
    machine::Machine,
    name::names,
    stats::{Counter, Dropped, LOG_INTERVAL},
    store::{
        memory::log::{LogEntry, MemoryLog, READ_MAX},
        redis::RedisStore,
    },
};
use crate::{
    clock::now,
    config::{AppConfig, Secret, WebhookConfig},
    http_client::Connector,
    hub::HubEvent,
    signature::Signer,
    throttle::LogThrottle,
};
use arc_swap::ArcSwap;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::{self, JoinSet},
    time::{self, sleep_until},
};

/// The webhooks of one app.
#[derive(Debug)]
pub(super) struct AppWebhooks {
    pub(super) id: String,
    settings: watch::Sender<Arc<Settings>>,
    pub(super) log: MemoryLog,
    /// The number of events that were dropped because the log was full.
    pub(super) lost: Counter,
    /// In a cluster, the state that nodes share. The log above and the endpoints' queues are empty
    /// then.
    pub(super) shared: OnceLock<Arc<RedisStore>>,
    /// Whether the app's tasks were started.
    pub(super) is_started: AtomicBool,
    /// True ends the app's tasks.
    pub(super) ending: watch::Sender<bool>,
    /// Whether the tasks end because the app was removed.
    pub(super) is_gone: AtomicBool,
}

/// The settings of an app's webhooks. Replaced as a whole.
#[derive(Debug)]
pub(super) struct Settings {
    /// The kinds of events that are observed.
    pub(super) wanted: Kinds,
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// The filter of each of `endpoints`, in the same order.
    pub(super) filters: Vec<Filter>,
    pub(super) signer: Signer,
    pub(super) batch_wait: Duration,
    /// The configuration from which the rest was made.
    source: SettingsSource,
}

#[derive(Debug, PartialEq)]
struct SettingsSource {
    key: String,
    secret: Secret,
    webhooks: Vec<WebhookConfig>,
    batch_wait: Duration,
}

impl Settings {
    pub(super) fn new(app: &AppConfig, batch_wait: Duration) -> Result<Self, WebhookError> {
        let names = names(app);
        let webhooks = names.iter().zip(&app.webhooks);
        let endpoints =
            webhooks.map(|(name, webhook)| Endpoint::new(app, name, webhook).map(Arc::new));
        let kinds: Kinds =
            app.webhooks.iter().flat_map(|webhook| &webhook.events).copied().collect();
        Ok(Self {
            wanted: kinds.with_counterparts(),
            endpoints: endpoints.collect::<Result<_, _>>()?,
            filters: app.webhooks.iter().map(Filter::new).collect(),
            signer: Signer::new(app.secret.expose()),
            batch_wait,
            source: SettingsSource {
                key: app.key.clone(),
                secret: app.secret.clone(),
                webhooks: app.webhooks.clone(),
                batch_wait,
            },
        })
    }

    pub(super) fn has(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.endpoints.iter().any(|found| Arc::ptr_eq(found, endpoint))
    }

    /// Keeps the endpoints of `before` with the same URLs, with the new settings. Of several with
    /// one URL, that of the same name is preferred.
    fn take_over(&mut self, before: &Self) {
        let mut old = before.endpoints.clone();
        for with_name in [true, false] {
            for endpoint in &mut self.endpoints {
                if before.has(endpoint) {
                    continue;
                }
                let is_same = |known: &Arc<Endpoint>| {
                    known.url == endpoint.url && (!with_name || known.name() == endpoint.name())
                };
                if let Some(at) = old.iter().position(is_same) {
                    let known = old.remove(at);
                    known.follow(endpoint);
                    *endpoint = known;
                }
            }
        }
    }
}

impl AppWebhooks {
    pub(super) fn new(id: String, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self {
            id,
            log: MemoryLog::new(Arc::clone(&settings)),
            settings: watch::Sender::new(settings),
            lost: Counter::default(),
            shared: OnceLock::new(),
            is_started: AtomicBool::new(false),
            ending: watch::Sender::new(false),
            is_gone: AtomicBool::new(false),
        }
    }

    /// The current settings.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// The current settings, with notifications of changes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
    }

    /// Applies other settings, if they differ. Without a cluster, the filters and the secret apply
    /// to events that are observed afterwards, and to departures that are held back. Headers and
    /// names apply at once.
    pub(super) fn change(&self, mut settings: Settings) {
        self.settings.send_if_modified(|current| {
            let is_other = current.source != settings.source;
            if is_other {
                settings.take_over(current);
                *current = Arc::new(settings);
                if self.shared.get().is_none() {
                    self.log.append_settings(Arc::clone(current));
                }
            }
            is_other
        });
    }
}

/// How long to wait after reading the log, so that the task is woken once in that time and not for
/// each event.
const READ_PAUSE: Duration = Duration::from_millis(5);

/// Dispatches the events of `app` and delivers its requests, until the app's webhooks end.
pub(super) async fn dispatch(app: Arc<AppWebhooks>, connector: Arc<ArcSwap<Connector>>) {
    let mut ending = app.ending.subscribe();
    let mut dispatcher = Dispatcher::new(&app, connector, app.log.settings());
    let mut read = Vec::new();
    while !*ending.borrow() {
        let deadline = dispatcher.deadline();
        tokio::select! {
            () = app.log.read(&mut read) => {}
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
    app.log.read_now(&mut read);
    while !read.is_empty() {
        dispatcher.take(&mut read, now());
        app.log.read_now(&mut read);
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
    /// The number of lost events that were logged.
    lost_logged: u64,
    losses: LogThrottle,
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
    /// Queues the batch for delivery.
    fn send(&mut self, signer: &Signer, now: Instant) {
        if let Some((events, count)) = self.batch.take() {
            let notice = Notice::new(signer, (&events, count), envelope::time_ms(), now);
            self.endpoint.push(notice);
        }
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
            lost_logged: 0,
            losses: LogThrottle::every(LOG_INTERVAL),
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
        let ends = end.subscribe();
        let of_task = Arc::clone(&endpoint);
        let delivering = kept_alive(move || {
            let clients = [(); 2].map(|()| of_task.client(Arc::clone(&connector)));
            let queue = Arc::clone(&of_task.queue);
            EndpointDelivery::new(Arc::clone(&of_task), queue, clients, ends.clone()).run()
        });
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
                if !handle.batch.has_room(event.len()) {
                    handle.send(&self.settings.signer, now);
                }
                handle.batch.push(event, now);
                if handle.batch.is_due(now) {
                    handle.send(&self.settings.signer, now);
                }
            }
        }
    }

    fn count_lost(&mut self, now: Instant) {
        self.app.lost.add(usize::try_from(self.machine.take_lost()).unwrap_or(usize::MAX));
        let lost = self.app.lost.get();
        if let Some(events) = self.losses.due(lost - self.lost_logged, now) {
            tracing::warn!(app = self.app.id, events, "webhook events lost");
        }
        self.lost_logged = lost;
    }
}

impl AppWebhooks {
    /// Observes an event, which happened at `at_us` if it was decided elsewhere. If the log is
    /// full, it is dropped and counted.
    pub(super) fn observe(&self, at_us: u64, hub_event: HubEvent) {
        // The guard is held until the event is appended, so that a reload appends its settings
        // before or after it. With Redis, the settings of the delivering node apply.
        let settings = self.settings.borrow();
        if !settings.wanted.contains(hub_event.kind()) {
            return;
        }
        let taken = match self.shared.get() {
            Some(shared) => shared.append(at_us, &hub_event),
            None => self.log.append(hub_event),
        };
        if taken.is_err() {
            self.lost.add(1);
        }
    }

    /// Whether events of this kind are observed.
    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.settings.borrow().wanted.contains(kind)
    }
}
