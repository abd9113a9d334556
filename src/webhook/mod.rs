//! Webhooks: telling the application what happens in it.
//!
//! # The way of an event
//!
//! Whoever sees something happen calls [`Observer::observe`], which puts a plain [`Occurrence`] into
//! the **log** of the app (`log`) and returns. One task for each app (`app`) reads the log, and has
//! the **state machine** (`machine`, `alternation`) decide what of it is told and when: what comes
//! and goes alternates, and whoever is back within three seconds makes no noise. What is told passes
//! the **filter** of each endpoint into its **batch** (`filter`, `batch`), which becomes one signed
//! request (`envelope`) in the **queue** of the endpoint (`queue`). One task for each endpoint
//! (`endpoint`) delivers what is in its queue, in order, and tries again for five minutes
//! (`backoff`) over HTTP (`client`, `dial`, `address`).
//!
//! Where there are other nodes, log and queues lie in Redis, and one node at a time reads them
//! (`shared`): the same filters, batches, requests and deliveries, and the same rules.
//!
//! So a slow endpoint has a queue and a task of its own and harms nobody; and every step between log
//! and queue is a value without I/O whose time is an argument.

mod address;
mod alternation;
mod app;
mod backoff;
mod batch;
mod client;
mod dial;
mod endpoint;
mod envelope;
mod filter;
mod log;
mod machine;
mod queue;
mod shared;
mod stats;
mod trial;

pub use crate::config::WebhookEvent as Kind;
pub use dial::WebhookError;
pub use stats::WebhookMetrics;
pub use trial::{Trial, try_out};

use crate::{
    cluster::Cluster,
    config::Config,
    hub::{Observer, Occurrence},
    shutdown::Drain,
};
use app::{AppWebhooks, tell};
use dial::Dialer;
use endpoint::{Delivery, now};
use shared::Shared;
use stats::Dropped;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet, time};

/// The webhooks of all apps. An app without webhooks costs nothing.
#[derive(Debug)]
pub struct Webhooks {
    /// By the ids of the apps; those with webhooks only.
    apps: HashMap<String, Arc<AppWebhooks>>,
    dialer: Dialer,
}

/// How long to wait before a task that panicked is started again.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

impl Webhooks {
    /// Makes the webhooks that are configured. Nothing is delivered before [`Webhooks::run`].
    ///
    /// # Errors
    ///
    /// [`WebhookError`] when one can't be used.
    pub fn new(config: &Config) -> Result<Self, WebhookError> {
        let batch_wait = Duration::from_millis(config.webhooks.batch_ms);
        let mut apps = HashMap::new();
        for app in config.apps.iter().filter(|app| !app.webhooks.is_empty()) {
            apps.insert(app.id.clone(), Arc::new(AppWebhooks::new(app, batch_wait)?));
        }
        Ok(Self { apps, dialer: trial::dialer(config)? })
    }

    /// Delivers until `drain` has begun; then tells what was kept back, and gives each endpoint's
    /// queue one last attempt, until the first failure. What is left is for
    /// [`Webhooks::abandon`].
    pub async fn run(self: Arc<Self>, mut drain: Drain) {
        let (ending, last) = (watch::Sender::new(false), watch::Sender::new(false));
        let (mut tellers, mut deliveries) = (JoinSet::new(), JoinSet::new());
        for app in self.apps.values() {
            let (app_of_task, ending) = (Arc::clone(app), ending.subscribe());
            if let Some(shared) = app.shared.get() {
                self.run_shared(&app_of_task, shared, &ending, &mut tellers);
                continue;
            }
            tellers.spawn(kept_alive(move || tell(Arc::clone(&app_of_task), ending.clone())));
            for endpoint in &app.endpoints {
                let (endpoint, last) = (Arc::clone(endpoint), last.subscribe());
                let dialer = self.dialer.clone();
                deliveries.spawn(kept_alive(move || {
                    let (client, queue) = (endpoint.client(dialer.clone()), &endpoint.queue);
                    Delivery::new(Arc::clone(&endpoint), Arc::clone(queue), client, last.clone())
                        .run()
                }));
            }
        }
        drain.begun().await;
        ending.send_replace(true);
        while tellers.join_next().await.is_some() {}
        last.send_replace(true);
        while deliveries.join_next().await.is_some() {}
    }

    /// Starts what an app needs that lives on several nodes.
    fn run_shared(
        &self,
        app: &Arc<AppWebhooks>,
        shared: &Arc<Shared>,
        ending: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        let (logging, is_ending) = (Arc::clone(shared), ending.clone());
        tasks.spawn(kept_alive(move || {
            let (logging, is_ending) = (Arc::clone(&logging), is_ending.clone());
            async move { logging.log(is_ending).await }
        }));
        let (app, shared) = (Arc::clone(app), Arc::clone(shared));
        let (dialer, is_ending) = (self.dialer.clone(), ending.clone());
        tasks.spawn(kept_alive(move || {
            let (app, shared) = (Arc::clone(&app), Arc::clone(&shared));
            shared::tell(app, shared, dialer.clone(), is_ending.clone())
        }));
    }

    /// Has what waits lie in the Redis that the nodes share, so that it is the cluster's. To be
    /// called before [`Webhooks::run`], if at all.
    pub fn share(&self, cluster: &Cluster) {
        for app in self.apps.values() {
            if let Some(store) = cluster.store(&app.id) {
                app.shared.get_or_init(|| Arc::new(Shared::new(store)));
            }
        }
    }

    /// Counts what waits still as dropped, and says how many events that were. What lies in Redis
    /// waits for the other nodes. For the very end.
    #[must_use = "whoever stops the server is to be told"]
    pub fn abandon(&self) -> usize {
        let unlogged = |app: &Arc<AppWebhooks>| {
            let unlogged = app.shared.get().map_or(0, |shared| shared.unlogged());
            app.lost.add(unlogged);
            unlogged
        };
        let lost: usize = self.apps.values().map(unlogged).sum();
        let endpoints = self.apps.values().flat_map(|app| &app.endpoints);
        let dropped: usize = endpoints
            .map(|endpoint| {
                let events = endpoint.queue.events();
                endpoint.count_dropped(Dropped::Shutdown, events, now());
                events
            })
            .sum();
        lost + dropped
    }

    /// Exposes what is counted.
    #[must_use]
    pub fn metrics(self: &Arc<Self>) -> WebhookMetrics {
        WebhookMetrics(Arc::clone(self))
    }
}

impl Observer for Webhooks {
    /// Of what comes and goes, both matter as soon as one is told.
    fn wants(&self, app_id: &str, kind: Kind) -> bool {
        self.apps.get(app_id).is_some_and(|app| app.wanted.contains(kind))
    }

    fn observe(&self, app_id: &str, occurrence: Occurrence) {
        self.observe_at(app_id, 0, occurrence);
    }

    fn observe_at(&self, app_id: &str, at_us: u64, occurrence: Occurrence) {
        if let Some(app) = self.apps.get(app_id) {
            app.observe(at_us, occurrence);
        }
    }
}

/// Runs a task to its end. If it panics, which is a bug, what it held is lost and it begins anew.
async fn kept_alive<F>(mut task: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    running.spawn(task());
    while let Some(Err(_panicked)) = running.join_next().await {
        tracing::error!("panic contained");
        time::sleep(PANIC_PAUSE).await;
        running.spawn(task());
    }
}
