//! Nodes that share a simulated Redis, and the webhooks of one app on each.

use super::{
    app::AppWebhooks,
    dispatcher::dispatch,
    settings::AppWebhookSettings,
    store::{
        Store,
        log::{Commit, NewRequest},
        redis::{PollReply, RedisStore, StoreClient, StoreClients},
    },
};
use crate::{
    broker::redis::{SimulatedNode, SimulatedRedis},
    config::{AppConfig, WebhookConfig, WebhookEvent},
    http_client::Connector,
    hub::HubEvent,
};
use arc_swap::ArcSwap;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

pub(super) const APP: &str = "app-id";
/// `webhooks.batch_ms`.
pub(super) const BATCH_WAIT: Duration = Duration::from_millis(50);

/// A node that has webhooks.
pub(super) struct Member {
    pub(super) node: SimulatedNode,
    pub(super) app: Arc<AppWebhooks>,
    pub(super) store: Arc<RedisStore>,
    pub(super) tasks: JoinSet<()>,
}

/// Webhooks of these URLs for all events.
pub(super) fn settings(urls: &[&str]) -> AppWebhookSettings {
    let webhook = |url: &&str| WebhookConfig {
        url: (*url).to_owned(),
        events: WebhookEvent::ALL.to_vec(),
        ..WebhookConfig::default()
    };
    let webhooks = urls.iter().map(webhook).collect();
    let app = AppConfig { webhooks, ..AppConfig::development() };
    AppWebhookSettings::new(&app, BATCH_WAIT).unwrap()
}

/// A connector that connects to nothing: the tests' endpoints have private addresses.
pub(super) fn connector() -> Arc<ArcSwap<Connector>> {
    Arc::new(ArcSwap::from_pointee(Connector::new(None, true)))
}

impl Member {
    /// A node that has joined, with webhooks of these URLs. Their tasks do not run.
    pub(super) async fn join(redis: &mut SimulatedRedis, urls: &[&str]) -> Self {
        let node = redis.start_node();
        let stores = StoreClients::new(&node.broker);
        node.until_joined().await;
        let settings = Arc::new(settings(urls));
        let store = Arc::new(RedisStore::new(stores.store(APP), Arc::clone(&settings)));
        let of_app = Store::Redis(Arc::clone(&store));
        let app = Arc::new(AppWebhooks::new(APP.to_owned(), settings, of_app));
        Self { node, app, store, tasks: JoinSet::new() }
    }

    /// Runs the tasks.
    pub(super) fn start(&mut self) {
        let (logging, ending) = (Arc::clone(&self.store), self.app.ending.subscribe());
        self.tasks.spawn(async move { logging.log(ending).await });
        self.tasks.spawn(dispatch(Arc::clone(&self.app), connector()));
    }

    /// Ends the tasks as a node does that stops.
    pub(super) async fn stop(&mut self) {
        self.app.ending.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    pub(super) fn observe(&self, hub_event: &HubEvent) {
        self.app.observe(0, hub_event.clone());
    }

    pub(super) fn store(&self) -> &StoreClient {
        &self.store.client
    }

    /// Puts requests with these numbers of events into the queue of this name.
    pub(super) async fn fill(&self, queue: &str, requests: &[(usize, &str)]) {
        let lease = self.store().new_lease();
        let queues = [queue.to_owned()];
        let reply = self.store().poll(&lease, &queues).await.unwrap();
        assert!(matches!(reply, PollReply::Ours(_)), "{reply:?}");
        let requests = requests.iter().map(|(events, body)| NewRequest {
            endpoint: 0,
            events: *events,
            body: (*body).into(),
        });
        let commit = Commit { requests: requests.collect(), ..Commit::default() };
        self.store().commit(&lease, &queues, 1_000_000, &commit).await.unwrap();
    }
}
