//! The webhooks of one app, and their settings.

use super::{
    Kind, WebhookError,
    endpoint::Endpoint,
    filter::{Filter, Kinds},
    name::names,
    stats::Counter,
    store::Store,
};
use crate::{
    config::{AppConfig, Secret, WebhookConfig},
    hub::HubEvent,
    signature::Signer,
};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::watch;

/// The webhooks of one app.
#[derive(Debug)]
pub(super) struct AppWebhooks {
    pub(super) id: String,
    settings: watch::Sender<Arc<Settings>>,
    pub(super) store: Store,
    /// The number of events that were dropped because the log was full.
    pub(super) lost: Counter,
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
    pub(super) fn new(id: String, settings: Arc<Settings>, store: Store) -> Self {
        Self {
            id,
            store,
            settings: watch::Sender::new(settings),
            lost: Counter::default(),
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
                self.store.append_settings(current);
            }
            is_other
        });
    }

    /// Observes an event, which happened at `at_us` if it was decided elsewhere. If the log is
    /// full, it is dropped and counted.
    pub(super) fn observe(&self, at_us: u64, hub_event: HubEvent) {
        // The guard is held until the event is appended, so that a reload appends its settings
        // before or after it. With Redis, the settings of the delivering node apply.
        let settings = self.settings.borrow();
        if !settings.wanted.contains(hub_event.kind()) {
            return;
        }
        if self.store.append(at_us, hub_event).is_err() {
            self.lost.add(1);
        }
    }

    /// Whether events of this kind are observed.
    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.settings.borrow().wanted.contains(kind)
    }
}
