//! The node: hubs, quotas and counters as one. It is all that the shards and the HTTP API know
//! of the rest of the server.

mod address;
mod admission;
mod arrivals;
mod exposition;

pub use address::{Peer, TrustedProxies};
pub use admission::{Admitted, ConnectRequest};

use crate::{
    app::App,
    config::{Config, ConnectionConfig},
    hub::{Counts, Hub, Inboxes, ShardSet, ToCache},
    metrics::Metrics,
    permit::Quota,
    protocol::{ChannelName, EventData, SocketId, event},
    rate::Rate,
    session::SessionConfig,
    shutdown::Shutdown,
};
use address::AddressQuota;
use arrivals::Arrivals;
use std::{
    borrow::Cow,
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Everything of this process that is not a socket.
#[derive(Debug)]
pub struct Node {
    /// The hubs by the ids of their apps.
    hubs: HashMap<String, Arc<Hub>>,
    /// The ids of the apps by their keys.
    ids: HashMap<String, String>,
    inboxes: Arc<Inboxes>,
    metrics: Arc<Metrics>,
    session_config: Arc<SessionConfig>,
    connections: Arc<Quota>,
    addresses: Arc<AddressQuota>,
    arrivals: Arrivals,
    is_strict: bool,
    shutdown: Shutdown,
}

/// An event as the application publishes it.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its data.
    pub data: EventData<'a>,
    /// Where it goes; no channel twice.
    pub channels: Vec<ChannelName>,
    /// The connection that does not get it: usually whose action caused it.
    pub except: Option<SocketId>,
}

impl Node {
    /// Makes a node of `shards` shards with at most `max_connections` connections.
    #[must_use]
    pub fn new(config: &Config, shards: usize, max_connections: usize, shutdown: Shutdown) -> Self {
        let inboxes = Arc::new(Inboxes::new(shards));
        let hub = |app: &crate::config::AppConfig| {
            Arc::new(Hub::new(
                Arc::new(App::new(app.clone())),
                Arc::clone(&inboxes),
                Instant::now(),
            ))
        };
        let connection = &config.connection;
        Self {
            hubs: config.apps.iter().map(|app| (app.id.clone(), hub(app))).collect(),
            ids: config.apps.iter().map(|app| (app.key.clone(), app.id.clone())).collect(),
            metrics: Arc::new(Metrics::new(shards)),
            session_config: Arc::new(SessionConfig {
                activity_timeout: Duration::from_secs(connection.activity_timeout_s),
                pong_timeout: Duration::from_secs(connection.pong_timeout_s),
                max_channels: connection.max_channels,
                message_rate: message_rate(connection),
            }),
            connections: Quota::new(max_connections),
            addresses: AddressQuota::new(connection.max_connections_per_ip),
            arrivals: Arrivals::new(connection.new_connections_per_second_per_ip),
            is_strict: connection.strict_protocol,
            shutdown,
            inboxes,
        }
    }

    /// The hub of the app with this id.
    #[must_use]
    pub fn hub(&self, app_id: &str) -> Option<&Arc<Hub>> {
        self.hubs.get(app_id)
    }

    /// The hub of the app with this key.
    #[must_use]
    pub fn hub_by_key(&self, key: &str) -> Option<&Arc<Hub>> {
        self.hub(self.ids.get(key)?)
    }

    /// The way to the shards.
    #[must_use]
    pub fn inboxes(&self) -> &Arc<Inboxes> {
        &self.inboxes
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether the node is going away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shutdown.has_begun()
    }

    /// Publishes an event on its channels, and says who was there and which shards have it to
    /// deliver.
    #[must_use]
    pub fn publish(&self, hub: &Hub, event: &Event<'_>, now: Instant) -> (Vec<Counts>, ShardSet) {
        let mut shards = ShardSet::default();
        let counts = event
            .channels
            .iter()
            .map(|channel| {
                let frame = event::published(&event.name, channel, &event.data, now);
                let cached = Some(ToCache(&event.data));
                let published = hub.publish(channel, &frame, event.except, cached, now);
                shards = shards.union(published.shards);
                published.counts
            })
            .collect();
        (counts, shards)
    }

    /// Waits while any of these shards is behind with its deliveries: publishers are to feel it
    /// when they publish faster than the node can deliver.
    pub async fn caught_up(&self, shards: ShardSet) {
        for shard in shards.iter() {
            self.inboxes.of(shard).caught_up().await;
        }
    }

    /// WebSocket connections of this node.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.used()
    }

    /// Counts a new connection from `address` that asks for something else than a WebSocket.
    ///
    /// # Errors
    ///
    /// It is one too many; how long until there may be another.
    pub fn arrive(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.arrivals.take(address, now)
    }

    /// Does what has become due. To be called a few times a second.
    pub fn on_time(&self, now: Instant) {
        for hub in self.hubs.values() {
            hub.on_time(now);
        }
        self.arrivals.forget(now);
    }
}

/// How fast one connection may send messages. A client that comes back subscribes to all of its
/// channels at once, and signs in.
fn message_rate(connection: &ConnectionConfig) -> Rate {
    let channels = u32::try_from(connection.max_channels).unwrap_or(u32::MAX);
    let rate = connection.max_messages_per_second;
    Rate::per_second(rate).with_burst(rate.saturating_add(channels))
}
