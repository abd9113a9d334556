//! The apps of the node, and their reconfiguration.

use super::{Node, admission::AdmissionPolicy};
use crate::{
    app::App,
    channel::OFFLINE_GRACE,
    clock,
    config::{AppConfig, Config},
    hub::{Hub, Inboxes, Observer},
    webhook::{PreparedAppWebhooks, PreparedWebhooks, Webhooks},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time;

/// The served apps. Replaced as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Apps {
    /// The hubs, by app id.
    hubs: HashMap<String, Arc<Hub>>,
    /// The app ids, by app key.
    ids: HashMap<String, String>,
}

/// Dependencies of new hubs.
#[derive(Clone, Copy, Debug)]
pub(super) struct HubFactory<'a> {
    pub(super) inboxes: &'a Arc<Inboxes>,
    pub(super) webhooks: &'a Arc<Webhooks>,
}

/// How often it is checked whether the connections of a removed app are closed.
const RETIRE_TICK: Duration = Duration::from_millis(100);
/// Time for the events that closed connections cause, such as a delayed `user_offline`.
const RETIRE_GRACE: Duration = OFFLINE_GRACE.saturating_add(Duration::from_secs(2));
/// Maximum time for which a removed app is kept. A shard closes tens of thousands of connections in
/// a second.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(60);

impl Apps {
    /// Builds the table of `apps`. Hubs with an unchanged id and key are kept; returns the removed
    /// ones.
    pub(super) fn new(
        apps: &[AppConfig],
        previous: &Self,
        factory: HubFactory<'_>,
    ) -> (Self, Vec<Arc<Hub>>) {
        let hub = |config: &AppConfig| {
            let kept = previous.hub_by_key(&config.key).filter(|hub| *hub.app_id() == config.id);
            kept.cloned().unwrap_or_else(|| factory.hub(config.clone()))
        };
        let table = Self {
            hubs: apps.iter().map(|app| (app.id.clone(), hub(app))).collect(),
            ids: apps.iter().map(|app| (app.key.clone(), app.id.clone())).collect(),
        };
        let is_removed =
            |hub: &&Arc<Hub>| table.hub(&hub.app_id()).is_none_or(|kept| !Arc::ptr_eq(kept, hub));
        let removed = previous.hubs().filter(is_removed).cloned().collect();
        (table, removed)
    }

    /// These apps, and those of further hubs.
    fn with(&self, hubs: Vec<Arc<Hub>>) -> Self {
        let mut apps = self.clone();
        for hub in hubs {
            let (id, key) = hub.read_config(|config| (config.id.clone(), config.key.clone()));
            apps.ids.insert(key, id.clone());
            apps.hubs.insert(id, hub);
        }
        apps
    }

    pub(super) fn hub(&self, app_id: &str) -> Option<&Arc<Hub>> {
        self.hubs.get(app_id)
    }

    pub(super) fn hub_by_key(&self, key: &str) -> Option<&Arc<Hub>> {
        self.hub(self.ids.get(key)?)
    }

    pub(super) fn hubs(&self) -> impl Iterator<Item = &Arc<Hub>> {
        self.hubs.values()
    }

    pub(super) fn by_id(&self) -> HashMap<Arc<str>, Arc<Hub>> {
        self.hubs().map(|hub| (hub.app_id(), Arc::clone(hub))).collect()
    }
}

impl HubFactory<'_> {
    pub(super) fn hub(self, config: AppConfig) -> Arc<Hub> {
        let observer: Arc<dyn Observer> = Arc::clone(self.webhooks) as _;
        let app = App::new(config);
        let hub = Hub::new(app, Arc::clone(self.inboxes), observer, clock::now());
        Arc::new(hub)
    }
}

impl Node {
    /// Applies another configuration: its apps and their webhooks, which are in `webhooks`, and the
    /// limits of connections. Connections stay open, except those of removed or disabled apps,
    /// which are closed with 4003. An app with another id or key is another app. Settings that need
    /// a restart are ignored. Needs a runtime: that of the task of the database of apps, which has one
    /// thread, so that neither sees half of a change of the other.
    pub fn reconfigure(
        self: &Arc<Self>,
        config: &Config,
        max_connections: usize,
        webhooks: PreparedWebhooks,
    ) {
        let connection = &config.connection;
        self.connections.set_max(max_connections);
        self.addresses.set_max(connection.max_connections_per_ip);
        self.connection_rates.set_max(connection.new_connections_per_second_per_ip);
        self.policy.store(Arc::new(AdmissionPolicy::new(connection)));
        let (of_database, mut ended) = match &self.database {
            Some(database) => {
                let changed = database.reconfigure(config);
                self.update_known_apps_metric(database);
                changed
            }
            None => (Vec::new(), Vec::new()),
        };
        let before = self.apps.load().with(of_database);
        let factory = HubFactory { inboxes: &self.inboxes, webhooks: &self.webhooks };
        let (apps, removed) = Apps::new(&config.apps, &before, factory);
        ended.extend(removed);
        for app in &config.apps {
            let kept = apps.hub(&app.id).filter(|hub| hub.app().config != *app);
            if let Some(hub) = kept {
                hub.reconfigure(App::new(app.clone()));
                self.broker.apply_config(hub);
            }
        }
        // The webhooks and the broker know a new app before its first connection.
        self.webhooks.change(webhooks);
        let known = self.database.as_ref().map(|database| database.hubs()).unwrap_or_default();
        for hub in &known {
            // The settings of all webhooks may have changed; those of the app were valid.
            if let Ok(webhooks) = PreparedAppWebhooks::new(config, &hub.app().config) {
                self.webhooks.change_app(webhooks);
            }
        }
        let known = known.into_iter().map(|hub| (hub.app_id(), hub));
        self.broker.set_apps(apps.by_id().into_iter().chain(known).collect());
        self.apps.store(Arc::new(apps));
        for hub in ended {
            self.end_app(hub);
        }
    }

    /// Closes the connections of an app that is not served any more. Needs a runtime.
    pub(super) fn end_app(self: &Arc<Self>, hub: Arc<Hub>) {
        hub.close();
        tokio::spawn(Arc::clone(self).retire(hub));
    }

    /// Keeps a removed hub until its connections are closed and the resulting events are reported
    /// to the application.
    async fn retire(self: Arc<Self>, hub: Arc<Hub>) {
        let deadline = clock::now() + RETIRE_TIMEOUT;
        let mut empty_since = None;
        while clock::now() < deadline {
            let now = clock::now();
            self.broker.on_tick(&hub, now);
            let is_empty = hub.connection_count() == 0;
            empty_since = is_empty.then(|| empty_since.unwrap_or(now));
            if empty_since.is_some_and(|since| since + RETIRE_GRACE <= now) {
                break;
            }
            time::sleep(RETIRE_TICK).await;
        }
        if self.hub(&hub.app_id()).is_some() {
            // The app was added again, and the webhooks are its own.
            return;
        }
        self.broker.remove_app_state(&hub.app_id());
        self.webhooks.end(&hub.app_id());
    }
}
