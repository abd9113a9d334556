//! The broker: what makes the decisions about an app's channels, users and counts, for this node
//! alone (`local`) or for all nodes that share a Redis (`redis`).
//!
//! Both take the same commands. A single node knows their results at once; with Redis, some are
//! delivered later, to the inbox of the connection's shard.

mod clients;
mod error;
mod idempotency;
mod local;
mod logs;
mod occupied_channels;
pub mod redis;
mod requests;
mod watch;

pub use clients::{Claim, ClientRecord, FoundClient, Place};
pub use error::{PublishError, Unavailable};
pub use idempotency::{IDEMPOTENCY_WINDOW, IdempotencyKey, InvalidIdempotencyKey, PublishId};
pub use local::{CacheStats, LocalBroker};
pub use logs::{HistoryRead, LogRequest, LogStats};
pub use occupied_channels::OccupiedChannels;
pub(crate) use redis::{ClientMessage, ReturnedClient, SessionRequest};
pub use redis::{EncodedPublish, PeerMessage, RedisBroker};
pub use requests::{AcceptedClientEvent, AppEvent, SignInMessages, SubscribeRequest};
pub use watch::BrokerWatch;

use crate::{
    alarm::Alarm,
    channel::{ChannelSummary, Counts, HistoryQuery},
    clock,
    config::{ConnectionConfig, RedisConfig},
    hub::{ConnectionRef, Hub, RegisteredSubscription, ShardIndex, ShardSet, UserClose},
    protocol::{ChannelName, SubscriptionRejection, User},
};
use occupied_channels::Source;
use prometheus_client::registry::Registry;
use redis::ClusterPermit;
use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

/// The broker of a node.
#[derive(Debug)]
pub enum Broker {
    /// Decides for this node, which is the only one.
    Local(LocalBroker),
    /// Decides for all nodes, in Redis.
    Redis(RedisBroker),
}

/// A cluster as one of its nodes knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterView {
    /// The name of the node's process.
    pub process: String,
    /// The names of the other processes that Redis lists as nodes.
    pub others: Vec<String>,
    /// The prefix of all keys and pub/sub channels.
    pub prefix: String,
    /// The version of the layout of keys.
    pub layout: &'static str,
}

/// The bytes that a cached event counts in addition to its name and data, and a channel with a cached event in
/// addition to its name. The maps and sets of the cache need about as much for an entry.
const CACHE_OVERHEAD_BYTES: usize = 256;

/// The bytes that a channel with a cached event counts, besides the event.
fn cached_channel_bytes(channel: &ChannelName) -> usize {
    channel.as_str().len() + CACHE_OVERHEAD_BYTES
}

/// A permit of the app's connection limit on all nodes, in addition to the hub's permit. Dropping it
/// releases it.
#[derive(Debug)]
pub struct BrokerPermit(
    #[expect(dead_code, reason = "it is held, and released when it is dropped")]
    Option<ClusterPermit>,
);

impl Broker {
    /// The broker of a single node. `connection` are the limits of its connections. Sets `alarm` when
    /// [`Broker::on_tick`] has something to do.
    #[must_use]
    pub fn local(connection: &ConnectionConfig, alarm: &Arc<Alarm>) -> Self {
        Self::Local(LocalBroker::new(connection, alarm))
    }

    /// The broker in the Redis of `config`, if one is configured, which serves `hubs` (by app id). It connects in
    /// the background, and retries without end. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The file that `redis.ca` names can't be read.
    pub fn in_redis(
        config: &RedisConfig,
        connection: &ConnectionConfig,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
    ) -> io::Result<Option<Self>> {
        Ok(RedisBroker::spawn(config, connection, hubs)?.map(Self::Redis))
    }

    /// The Redis broker; `None` on a single node. Webhooks use the same Redis.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisBroker> {
        match self {
            Self::Local(_) => None,
            Self::Redis(broker) => Some(broker),
        }
    }

    /// Replaces the apps, by their ids.
    pub fn set_apps(&self, hubs: HashMap<Arc<str>, Arc<Hub>>) {
        match self {
            Self::Local(_) => {}
            Self::Redis(broker) => broker.set_apps(hubs),
        }
    }

    /// Adds an app, or replaces its hub.
    pub fn set_app(&self, hub: &Arc<Hub>) {
        match self {
            Self::Local(_) => {}
            Self::Redis(broker) => broker.set_app(Arc::clone(hub)),
        }
    }

    /// Removes an app, whose connections the caller closes.
    pub fn remove_app(&self, app_id: &Arc<str>) {
        match self {
            Self::Local(_) => {}
            Self::Redis(broker) => broker.remove_app(Arc::clone(app_id)),
        }
    }

    /// Applies a changed configuration of the hub's app.
    pub fn apply_config(&self, hub: &Hub) {
        match self {
            Self::Local(local) => local::apply_config(local, hub, clock::now()),
            Self::Redis(broker) => broker.trim_cache(hub),
        }
    }

    /// Runs the due timers of the hub's app. Returns when the next ones are due. The others set the alarm when
    /// they are added.
    pub fn on_tick(&self, hub: &Hub, now: Instant) -> Option<Instant> {
        match self {
            Self::Local(local) => local::on_tick(local, hub, now),
            // The coordinator runs its own timers.
            Self::Redis(_) => None,
        }
    }

    /// Drops the state of a removed app, once its connections have ended.
    pub fn remove_app_state(&self, app_id: &str) {
        match self {
            Self::Local(_) => {}
            Self::Redis(broker) => broker.remove_app_state(app_id),
        }
    }

    /// Acquires a permit for one connection of the hub's app on all nodes; `None` at the limit.
    pub async fn acquire_permit(&self, hub: &Hub) -> Option<BrokerPermit> {
        match self {
            // The hub has counted it.
            Self::Local(_) => Some(BrokerPermit(None)),
            Self::Redis(broker) => Some(BrokerPermit(Some(broker.acquire_permit(hub).await?))),
        }
    }

    /// Subscribes a connection. `None` if the result is delivered later, to the inbox of the
    /// connection's shard.
    pub fn subscribe(
        &self,
        hub: &Hub,
        request: SubscribeRequest<'_>,
        now: Instant,
    ) -> Option<Result<RegisteredSubscription, SubscriptionRejection>> {
        match self {
            Self::Local(local) => Some(local::subscribe(local, hub, request, now)),
            Self::Redis(broker) => {
                broker.subscribe(hub, request);
                None
            }
        }
    }

    /// Ends a subscription of a shard's connection.
    pub fn unsubscribe(
        &self,
        hub: &Hub,
        shard: ShardIndex,
        channel: &ChannelName,
        user_id: Option<&Arc<str>>,
        now: Instant,
    ) {
        match self {
            Self::Local(local) => local::unsubscribe(local, hub, shard, channel, user_id, now),
            Self::Redis(broker) => broker.unsubscribe(hub, shard, channel, user_id),
        }
    }

    /// The number of events that were not published on a channel, since their idempotency key was known.
    #[must_use]
    pub fn repeated_publishes(&self) -> u64 {
        match self {
            Self::Local(local) => local.repeated_publishes(),
            Self::Redis(broker) => broker.repeated_publishes(),
        }
    }

    /// Ends the use of a channel's log by a subscription with [`LogRequest::Begin`] or [`LogRequest::After`]: the
    /// connection is lost or unsubscribes. It may resume for `connection.resume_s`.
    pub fn release_log(&self, hub: &Hub, channel: &ChannelName, now: Instant) {
        match self {
            Self::Local(local) => local::release_log(local, hub, channel, now),
            Self::Redis(broker) => broker.release_log(hub, channel),
        }
    }

    /// Signs a connection in. `previous` is its sign-in before: the same user, possibly with
    /// another watchlist.
    #[must_use]
    pub fn sign_in(
        &self,
        hub: &Hub,
        connection: ConnectionRef,
        user: &User,
        user_data: &str,
        previous: Option<&User>,
    ) -> SignInMessages {
        match self {
            Self::Local(_) => local::sign_in(hub, connection, user, user_data, previous),
            Self::Redis(broker) => broker.sign_in(hub, connection, user, user_data),
        }
    }

    /// Signs a connection out that was signed in as `user`.
    pub fn sign_out(&self, hub: &Hub, connection: ConnectionRef, user: &User, now: Instant) {
        match self {
            Self::Local(local) => local::sign_out(local, hub, connection, user, now),
            Self::Redis(broker) => broker.sign_out(hub, connection, user),
        }
    }

    /// Publishes events, each on its channels, in this order. Returns the counts of each channel,
    /// and the shards of this node that have deliveries. A publish that repeats an earlier one with the same idempotency
    /// key returns the counts of the earlier one.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the broker is unavailable or rejects the publish.
    pub async fn publish(
        &self,
        hub: &Hub,
        events: &[AppEvent<'_>],
    ) -> Result<(Vec<Counts>, ShardSet), PublishError> {
        match self {
            Self::Local(local) => Ok(local::publish(local, hub, events, clock::now())),
            Self::Redis(broker) => broker.publish(hub, events, clock::now()).await,
        }
    }

    /// Publishes events as [`Broker::publish`] does, without waiting. `None` with Redis, which has to be waited for.
    #[must_use]
    pub fn publish_here(
        &self,
        hub: &Hub,
        events: &[AppEvent<'_>],
    ) -> Option<(Vec<Counts>, ShardSet)> {
        match self {
            Self::Local(local) => Some(local::publish(local, hub, events, clock::now())),
            Self::Redis(_) => None,
        }
    }

    /// Encodes events for a publish through Redis; `None` on a single node.
    #[must_use]
    pub fn encode(&self, hub: &Hub, events: &[AppEvent<'_>]) -> Option<EncodedPublish> {
        match self {
            Self::Local(_) => None,
            Self::Redis(broker) => Some(broker.encode(hub, events, clock::now())),
        }
    }

    /// Publishes a client event. If the broker can't take it, the sender receives an error.
    pub fn publish_client_event(
        &self,
        hub: &Arc<Hub>,
        event: AcceptedClientEvent<'_>,
        now: Instant,
    ) {
        match self {
            Self::Local(_) => local::publish_client_event(hub, event, now),
            Self::Redis(broker) => broker.publish_client_event(hub, event, now),
        }
    }

    /// The channels with subscribers whose names begin with `prefix`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn channels(&self, hub: &Hub, prefix: &str) -> Result<OccupiedChannels, Unavailable> {
        match self {
            Self::Local(_) => {
                Ok(OccupiedChannels(Source::Local(local::occupied_channels(hub, prefix))))
            }
            Self::Redis(broker) => {
                Ok(OccupiedChannels(Source::Cluster(broker.channels(hub, prefix).await?)))
            }
        }
    }

    /// The state of one channel.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn channel(
        &self,
        hub: &Hub,
        name: &ChannelName,
    ) -> Result<ChannelSummary, Unavailable> {
        match self {
            Self::Local(_) => Ok(local::channel(hub, name, clock::now())),
            Self::Redis(broker) => broker.channel(hub, name).await,
        }
    }

    /// The members of a presence channel, distinct and sorted by id. Each has its info as a JSON object; with Redis,
    /// it may be empty if `with_info` is false.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn users(
        &self,
        hub: &Hub,
        name: &ChannelName,
        with_info: bool,
    ) -> Result<Vec<(Arc<str>, Arc<str>)>, Unavailable> {
        match self {
            Self::Local(_) => Ok(local::users(hub, name)),
            Self::Redis(broker) => broker.users(hub, name, with_info).await,
        }
    }

    /// The events of a channel that are kept.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn history(
        &self,
        hub: &Hub,
        name: &ChannelName,
        query: &HistoryQuery,
    ) -> Result<HistoryRead, Unavailable> {
        match self {
            Self::Local(_) => Ok(local::history(hub, name, query, clock::now())),
            Self::Redis(broker) => broker.history(hub, name, query).await,
        }
    }

    /// The number of connections of the hub's app.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn connections(&self, hub: &Hub) -> Result<usize, Unavailable> {
        match self {
            Self::Local(_) => Ok(hub.connection_count()),
            Self::Redis(broker) => broker.connections(hub).await,
        }
    }

    /// Closes all connections that are signed in as `user_id`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn close_user(
        &self,
        hub: &Hub,
        user_id: &str,
        close: UserClose,
    ) -> Result<(), Unavailable> {
        match self {
            Self::Local(_) => hub.close_user(user_id, close),
            Self::Redis(broker) => broker.close_user(hub, user_id, close).await?,
        }
        Ok(())
    }

    /// The reason why the broker is unavailable; `None` while it is available.
    #[must_use]
    pub fn unavailable_reason(&self) -> Option<Arc<str>> {
        match self {
            Self::Local(_) => None,
            Self::Redis(broker) => broker.unavailable_reason(),
        }
    }

    /// What this node knows of the cluster, if it is one of several.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterView> {
        self.redis().map(RedisBroker::cluster)
    }

    /// Whether the broker's queue is over its limit. Shards then stop reading from clients.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Redis(broker) => broker.is_backlogged(),
        }
    }

    /// Notifies the other nodes that this one takes no more connections.
    pub fn announce_drain(&self) {
        match self {
            Self::Local(_) => {}
            Self::Redis(broker) => broker.announce_drain(),
        }
    }

    /// Whether this node is joined, and there are other nodes, ready or not.
    #[must_use]
    pub fn has_other_nodes(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Redis(broker) => broker.has_other_nodes(),
        }
    }

    /// Whether another node takes connections.
    #[must_use]
    pub fn has_ready_node(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Redis(broker) => broker.has_ready_node(),
        }
    }

    /// Leaves the cluster, once every connection has ended. Takes `limit` at most.
    pub async fn leave(&self, limit: Duration) {
        match self {
            Self::Local(_) => {}
            Self::Redis(broker) => broker.leave(limit).await,
        }
    }

    /// Counters of the cached events of the app's cache channels in the memory of this node.
    #[must_use]
    pub fn cache_stats(&self, hub: &Hub) -> CacheStats {
        match self {
            Self::Local(_) => local::cache_stats(hub),
            // Redis has them, and the broker's own metrics count them.
            Self::Redis(_) => CacheStats::default(),
        }
    }

    /// Counters of the logs of the app's channels in the memory of this node.
    #[must_use]
    pub fn log_stats(&self, hub: &Hub) -> LogStats {
        match self {
            Self::Local(_) => local::log_stats(hub),
            Self::Redis(broker) => broker.log_stats(hub),
        }
    }

    /// Adds the broker's metrics to those of a scrape.
    pub fn register_metrics(&self, registry: &mut Registry) {
        match self {
            Self::Local(_) => {}
            Self::Redis(broker) => broker.register_metrics(registry),
        }
    }
}
