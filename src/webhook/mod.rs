//! Webhooks: notifies the application of events.
//!
//! # The path of an event
//!
//! [`Observer::observe`] appends a [`HubEvent`] to the **log** of the app (`store`) and returns. One
//! task for each app (`dispatcher`) reads the log and passes it to the **debouncer** (`debouncer`), which
//! decides which events are reported and when: paired events alternate, and absences shorter than
//! `Debouncer::DELAY` are not reported. Reported events pass the **filter** of
//! each endpoint into its **batch** (`filter`, `batch`), which becomes one signed request
//! (`envelope`) in the **queue** of the endpoint (`queue`). One task for each endpoint (`delivery`)
//! delivers its queue in order, and retries for five minutes (`retry`) over HTTP (`client`).
//!
//! In a cluster, log and queues are in Redis (`store`, `record`), and one node at a time reads them.
//!
//! A reload changes the settings of running tasks. An endpoint is kept as long as its URL is
//! configured; a removed one tries its queue once more.
//!
//! A slow endpoint therefore has its own queue and task, and delays no other. Each step between log
//! and queue is a value without I/O whose time is an argument.

mod app;
mod batch;
mod client;
mod debouncer;
mod deliveries;
mod delivery;
mod dispatcher;
mod endpoint;
mod envelope;
mod error;
mod filter;
mod metrics;
mod name;
mod queue;
mod record;
mod resend;
mod retry;
mod settings;
mod stats;
mod store;
mod test_delivery;
#[cfg(test)]
mod testbed;

pub use crate::config::WebhookEvent;
pub use error::WebhookError;
pub use metrics::WebhookMetrics;
pub use test_delivery::{TestDelivery, send_test};

use crate::{
    broker::RedisBroker,
    clock::now,
    config::{AppConfig, Config},
    http_client::Connector,
    hub::{HubEvent, Observer},
    shutdown::DrainGuard,
};
use app::AppWebhooks;
use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry};
use dispatcher::dispatch;
use parking_lot::Mutex;
use settings::AppWebhookSettings;
use stats::Dropped;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};
use store::{
    Store,
    memory::MemoryLog,
    redis::{RedisStore, StoreClients},
};
use tokio::{sync::Notify, task::JoinSet, time};

/// The webhooks of all apps. An app without webhooks costs nothing.
#[derive(Debug)]
pub struct Webhooks {
    /// Apps with webhooks, or that had some since the start, by id.
    apps: DashMap<String, Arc<AppWebhooks>>,
    /// Apps whose tasks have not been started.
    not_started: Mutex<Vec<Arc<AppWebhooks>>>,
    connector: Arc<ArcSwap<Connector>>,
    /// In a cluster, the logs and queues that nodes share.
    stores: OnceLock<StoreClients>,
    /// Notified when tasks of apps must be started.
    changed: Notify,
}

/// The validated webhooks of a configuration.
#[derive(Debug)]
pub struct PreparedWebhooks {
    /// The settings of all apps, by id.
    apps: HashMap<String, AppWebhookSettings>,
    connector: Connector,
}

/// The validated webhooks of one app.
#[derive(Debug)]
pub struct PreparedAppWebhooks {
    id: String,
    settings: AppWebhookSettings,
}

/// The delay before a task that panicked is restarted.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

impl PreparedWebhooks {
    /// Validates the webhooks of a configuration.
    ///
    /// # Errors
    ///
    /// [`WebhookError`] if a webhook is unusable.
    pub fn new(config: &Config) -> Result<Self, WebhookError> {
        let batch_wait = Duration::from_millis(config.webhooks.batch_ms);
        let apps = config.apps.iter();
        let settings =
            apps.map(|app| Ok((app.id.clone(), AppWebhookSettings::new(app, batch_wait)?)));
        Ok(Self {
            apps: settings.collect::<Result<_, _>>()?,
            connector: test_delivery::connector(config)?,
        })
    }
}

impl PreparedAppWebhooks {
    /// Validates the webhooks of an app with the settings of all webhooks in `config`.
    ///
    /// # Errors
    ///
    /// [`WebhookError`] if a webhook is unusable.
    pub fn new(config: &Config, app: &AppConfig) -> Result<Self, WebhookError> {
        let batch_wait = Duration::from_millis(config.webhooks.batch_ms);
        Ok(Self { id: app.id.clone(), settings: AppWebhookSettings::new(app, batch_wait)? })
    }
}

impl Webhooks {
    /// Makes the configured webhooks. Nothing is delivered before [`Webhooks::run`].
    ///
    /// # Errors
    ///
    /// [`WebhookError`] if a webhook is unusable.
    pub fn new(config: &Config) -> Result<Self, WebhookError> {
        let PreparedWebhooks { apps, connector } = PreparedWebhooks::new(config)?;
        let webhooks = Self {
            apps: DashMap::new(),
            not_started: Mutex::default(),
            connector: Arc::new(ArcSwap::from_pointee(connector.clone())),
            stores: OnceLock::new(),
            changed: Notify::new(),
        };
        webhooks.change(PreparedWebhooks { apps, connector });
        Ok(webhooks)
    }

    /// Applies another configuration. Apps without an entry continue until [`Webhooks::end`].
    pub fn change(&self, prepared: PreparedWebhooks) {
        self.connector.store(Arc::new(prepared.connector));
        for (id, settings) in prepared.apps {
            self.change_app(PreparedAppWebhooks { id, settings });
        }
    }

    /// Applies the configuration of one app.
    pub fn change_app(&self, prepared: PreparedAppWebhooks) {
        let PreparedAppWebhooks { id, settings } = prepared;
        match self.apps.entry(id) {
            Entry::Occupied(app) => app.get().change(settings),
            Entry::Vacant(vacant) => {
                if let Some(app) = self.app(vacant.key().clone(), settings) {
                    let app = Arc::new(app);
                    vacant.insert(Arc::clone(&app));
                    self.not_started.lock().push(app);
                    self.changed.notify_one();
                }
            }
        }
    }

    /// A new app with these settings, if it has webhooks.
    fn app(&self, id: String, settings: AppWebhookSettings) -> Option<AppWebhooks> {
        if settings.endpoints.is_empty() {
            return None;
        }
        let settings = Arc::new(settings);
        let store = self.store(&id, &settings);
        Some(AppWebhooks::new(id, settings, store))
    }

    /// Ends the webhooks of a removed app: delayed events are released, and each queued request has
    /// one attempt left.
    pub fn end(&self, app_id: &str) {
        if let Some((_, app)) = self.apps.remove(app_id) {
            app.is_removed.store(true, Ordering::Relaxed);
            app.ending.send_replace(true);
        }
    }

    /// Delivers until the shutdown starts; then releases delayed events and tries each endpoint's queue
    /// once more, until the first failure. The rest is for [`Webhooks::abandon`].
    pub async fn run(self: Arc<Self>, mut guard: DrainGuard) {
        let mut tasks = JoinSet::new();
        loop {
            let not_started = std::mem::take(&mut *self.not_started.lock());
            for app in &not_started {
                self.start(app, &mut tasks);
            }
            tokio::select! {
                () = guard.started() => break,
                () = self.changed.notified() => {}
                Some(_ended) = tasks.join_next() => {}
            }
        }
        for app in self.apps() {
            app.ending.send_replace(true);
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Starts the tasks of an app.
    fn start(&self, app: &Arc<AppWebhooks>, tasks: &mut JoinSet<()>) {
        let (app, connector) = (Arc::clone(app), Arc::clone(&self.connector));
        if let Store::Redis(store) = &app.store {
            let (logging, is_ending) = (Arc::clone(store), app.ending.subscribe());
            tasks.spawn(restart_on_panic(move || {
                let (logging, is_ending) = (Arc::clone(&logging), is_ending.clone());
                async move { logging.log(is_ending).await }
            }));
        }
        tasks.spawn(restart_on_panic(move || dispatch(Arc::clone(&app), Arc::clone(&connector))));
    }

    /// Makes the webhooks use logs and queues in the Redis of `broker`. Must be called before
    /// [`Webhooks::run`], and before any event.
    pub fn use_redis(&self, broker: &RedisBroker) {
        self.stores.get_or_init(|| StoreClients::new(broker));
        let mut not_started = self.not_started.lock();
        not_started.clear();
        for mut app in self.apps.iter_mut() {
            let settings = app.settings();
            let store = self.store(app.key(), &settings);
            *app = Arc::new(AppWebhooks::new(app.key().clone(), settings, store));
            not_started.push(Arc::clone(&app));
        }
    }

    /// The store of an app whose first settings are these.
    fn store(&self, app_id: &str, settings: &Arc<AppWebhookSettings>) -> Store {
        match self.stores.get() {
            Some(stores) => {
                let (client, settings) = (stores.store(app_id), Arc::clone(settings));
                Store::Redis(Arc::new(RedisStore::new(client, settings)))
            }
            None => Store::Memory(MemoryLog::new(Arc::clone(settings))),
        }
    }

    /// Counts the events that are still queued as dropped, and returns their number. Requests in
    /// Redis are left to the other nodes. Must be called last.
    #[must_use = "the number of dropped events must be reported"]
    pub fn abandon(&self) -> usize {
        let unlogged = |app: &Arc<AppWebhooks>| {
            let unlogged = app.store.unlogged();
            app.lost.add(unlogged);
            unlogged
        };
        let apps = self.apps();
        let lost: usize = apps.iter().map(unlogged).sum();
        let dropped: usize = apps
            .iter()
            .flat_map(|app| app.settings().endpoints.clone())
            .map(|endpoint| {
                let events = endpoint.queue.all_events();
                endpoint.count_dropped(Dropped::Shutdown, events, now());
                events
            })
            .sum();
        lost + dropped
    }

    /// All apps that have webhooks, or had some.
    fn apps(&self) -> Vec<Arc<AppWebhooks>> {
        self.apps.iter().map(|app| Arc::clone(&app)).collect()
    }

    /// The metrics of all webhooks.
    #[must_use]
    pub fn metrics(self: &Arc<Self>) -> WebhookMetrics {
        WebhookMetrics(Arc::clone(self))
    }
}

impl Observer for Webhooks {
    /// Debouncing needs both events of a pair as soon as one is reported.
    fn wants(&self, app_id: &str, kind: WebhookEvent) -> bool {
        self.apps.get(app_id).is_some_and(|app| app.wants(kind))
    }

    fn observe(&self, app_id: &str, hub_event: HubEvent) {
        self.observe_at(app_id, 0, hub_event);
    }

    fn observe_at(&self, app_id: &str, at_us: u64, hub_event: HubEvent) {
        if let Some(app) = self.apps.get(app_id) {
            app.observe(at_us, hub_event);
        }
    }
}

/// Runs a task until it ends. If it panics, which is a bug, its state is lost and it is restarted.
async fn restart_on_panic<F>(mut task: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    running.spawn(task());
    while let Some(Err(_panicked)) = running.join_next().await {
        tracing::error!("panic recovered");
        time::sleep(PANIC_PAUSE).await;
        running.spawn(task());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::one_of_each;
    use std::sync::atomic::AtomicUsize;

    #[tokio::test(start_paused = true)]
    async fn a_panicked_task_is_restarted_after_a_second_and_an_ended_one_is_not() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&runs);
        let start = time::Instant::now();
        restart_on_panic(move || {
            let run = counter.fetch_add(1, Ordering::Relaxed);
            async move { assert!(run == 2, "the {run}. run panics") }
        })
        .await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        assert_eq!(start.elapsed().as_secs(), 2);
    }

    /// Without a reading task, observed events stay in the log.
    #[test]
    fn events_beyond_the_log_limit_are_counted_as_lost() {
        let webhook = crate::config::WebhookConfig {
            url: "http://a.test".into(),
            events: vec![WebhookEvent::ClientEvent],
            ..Default::default()
        };
        let app = AppConfig { webhooks: vec![webhook], ..AppConfig::development() };
        let id = app.id.clone();
        let webhooks = Webhooks::new(&Config { apps: vec![app], ..Config::default() }).unwrap();
        let [occupied, _, _, _, mut event, ..] = one_of_each();
        if let HubEvent::ClientEvent { data, .. } = &mut event {
            *data = "x".repeat(5 * 1_024 * 1_024);
        }
        for _ in 0..5 {
            webhooks.observe(&id, event.clone());
            webhooks.observe(&id, occupied.clone());
            webhooks.observe("unknown", event.clone());
        }
        assert_eq!(webhooks.apps.get(&id).unwrap().lost.get(), 2, "16 MiB hold three of them");
        assert_eq!(webhooks.abandon(), 0, "requests, of which there are none");
    }
}
