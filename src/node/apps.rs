//! Which apps there are, and how that changes while the node runs.

use super::{Node, admission::AdmissionPolicy};
use crate::{
    app::App,
    clock,
    config::{AppConfig, Config},
    hub::{Hub, Inboxes, Observer},
    webhook::{Plan, Webhooks},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time;

/// The apps that are served. Replaced as a whole.
#[derive(Debug, Default)]
pub(super) struct Apps {
    /// The hubs by the ids of their apps.
    hubs: HashMap<String, Arc<Hub>>,
    /// The ids of the apps by their keys.
    ids: HashMap<String, String>,
}

/// What hubs are made of beside their apps.
#[derive(Clone, Copy, Debug)]
pub(super) struct HubFactory<'a> {
    pub(super) inboxes: &'a Arc<Inboxes>,
    pub(super) webhooks: &'a Arc<Webhooks>,
    pub(super) is_clustered: bool,
}

/// How often it is looked whether the connections of a removed app are gone.
const RETIRE_TICK: Duration = Duration::from_millis(100);
/// How long what they leave behind may take to be told: a user is away for a while before that
/// counts, and Redis may have to be asked.
const RETIRE_GRACE: Duration = Hub::OFFLINE_GRACE.saturating_add(Duration::from_secs(2));
/// How long a removed app is waited for at most. A shard closes tens of thousands of connections in
/// a second.
const RETIRE_MAX: Duration = Duration::from_secs(60);

impl Apps {
    /// The table of these apps, and the hubs of `before` that are not in it. An app that keeps its
    /// id and its key keeps its hub, whatever else of it changes.
    pub(super) fn new(
        apps: &[AppConfig],
        before: &Self,
        factory: HubFactory<'_>,
    ) -> (Self, Vec<Arc<Hub>>) {
        let hub = |config: &AppConfig| {
            let kept = before.hub_by_key(&config.key).filter(|hub| *hub.app_id() == config.id);
            kept.cloned().unwrap_or_else(|| factory.hub(config.clone()))
        };
        let table = Self {
            hubs: apps.iter().map(|app| (app.id.clone(), hub(app))).collect(),
            ids: apps.iter().map(|app| (app.key.clone(), app.id.clone())).collect(),
        };
        let is_gone =
            |hub: &&Arc<Hub>| table.hub(&hub.app_id()).is_none_or(|kept| !Arc::ptr_eq(kept, hub));
        let gone = before.hubs().filter(is_gone).cloned().collect();
        (table, gone)
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
    fn hub(self, config: AppConfig) -> Arc<Hub> {
        let observer: Arc<dyn Observer> = Arc::clone(self.webhooks) as _;
        let app = App::new(config);
        let hub = Hub::new(app, Arc::clone(self.inboxes), observer, clock::now());
        Arc::new(if self.is_clustered { hub.clustered() } else { hub })
    }
}

impl Node {
    /// Serves by another configuration from now on: its apps and their webhooks, of which `plan` was
    /// made, and the limits of connections. Connections stay, but for those of apps that are gone or
    /// disabled, which are closed with 4003. An app with another id or key is another app. What only
    /// a restart can change is not looked at. Needs a runtime.
    pub fn reconfigure(self: &Arc<Self>, config: &Config, max_connections: usize, plan: Plan) {
        let connection = &config.connection;
        self.connections.set_max(max_connections);
        self.addresses.set_max(connection.max_connections_per_ip);
        self.connection_rates.set_max(connection.new_connections_per_second_per_ip);
        self.policy.set(AdmissionPolicy::new(connection));
        let before = self.apps.get();
        let factory = HubFactory {
            inboxes: &self.inboxes,
            webhooks: &self.webhooks,
            is_clustered: self.cluster.is_some(),
        };
        let (apps, gone) = Apps::new(&config.apps, &before, factory);
        for app in &config.apps {
            let kept = apps.hub(&app.id).filter(|hub| hub.app().config != *app);
            if let Some(hub) = kept {
                hub.reconfigure(App::new(app.clone()));
                if let Some(cluster) = &self.cluster {
                    cluster.trim_cache(hub);
                }
            }
        }
        // Whoever is asked by the first connection of a new app knows it by then.
        self.webhooks.change(plan);
        if let Some(cluster) = &self.cluster {
            cluster.serve(apps.by_id());
        }
        self.apps.set(apps);
        for hub in gone {
            hub.close();
            tokio::spawn(Arc::clone(self).retire(hub));
        }
    }

    /// Sees a hub to its end that is not in the table any more. What its connections leave behind is
    /// told to the application before that is told nothing more.
    async fn retire(self: Arc<Self>, hub: Arc<Hub>) {
        let ends = clock::now() + RETIRE_MAX;
        let mut empty_since = None;
        while clock::now() < ends {
            let now = clock::now();
            hub.on_time(now);
            let is_empty = hub.connections() == 0;
            empty_since = is_empty.then(|| empty_since.unwrap_or(now));
            if empty_since.is_some_and(|since| since + RETIRE_GRACE <= now) {
                break;
            }
            time::sleep(RETIRE_TICK).await;
        }
        if self.hub(&hub.app_id()).is_some() {
            // There is such an app again, and these are its webhooks.
            return;
        }
        self.client_events.forget(&hub.app_id());
        self.webhooks.end(&hub.app_id());
    }
}
