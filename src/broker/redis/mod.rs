//! The cluster: the state that nodes share through Redis, so that they act as one server.
//!
//! Nodes do not talk to one another. The shared state lies in Redis, and Lua scripts (`lua/`) change
//! it there, each atomically. A script publishes what it has changed on a *bus*, a pub/sub channel of
//! Redis, in the same step. `docs/cluster.md` lists what holds when, and the limits.
//!
//! # Keys
//!
//! - `partition`: keys with the same hash tag, so that one script may use all of them. A Redis Cluster
//!   has 256, a single Redis one. `names` makes the names of keys and buses.
//! - *Registry* (`lua/guard.lua`): a hash in each partition, with its generation and the registered
//!   nodes with their link numbers. Each write names all three, and Redis rejects it if one is outdated.
//! - *Topic*: the hash of a channel, of a user, or of an app's connections.
//!
//! # Publishing
//!
//! [`Cluster::publish`] puts the encoded frame into an `envelope` and runs one script, which advances
//! the sequence of the channel and publishes the event on its bus. Each node with subscribers, the
//! publisher included, receives it and passes it to its hub: all nodes deliver in Redis' order.
//!
//! # Subscribing
//!
//! [`Cluster::subscribe`] sends a request to the `coordinator`, a task that owns the `topics`: a `topic` state
//! machine for each channel with subscribers on this node. The topic subscribes to the bus, writes to Redis what
//! this node contributes (`sync`, `lua/sync.lua`), and reads the state of all nodes. From that
//! *replica* the subscriber gets its acknowledgement.
//!
//! # Webhooks
//!
//! `lua/sync.lua` logs changes in the step that makes them, in the partition of the topic. On a Redis
//! Cluster, `forwarding` passes the records on to the app's log. `AppScripts` runs the scripts of the node that delivers
//! them.
//!
//! # Failures
//!
//! - `link` connects to Redis and follows its masters: two connections per server, commands and bus.
//! - `membership` decides when to connect, join, send the heartbeats that keep the *lease*, and leave.
//!   After a lost link each topic is written and read again; differences are sent to clients, and
//!   subscribers that may have missed events are closed, so that they subscribe again.
//! - `restore` reports sequences to a Redis that has lost data: a new *generation*.
//! - `cleanup` removes what a node contributed whose lease has expired.
//! - `compare` continuously compares the state of this node with that in Redis, and repairs it.
//! - Publishes wait for Redis for a bounded time. The scripts reject those that arrive later.
//!
//! # Tests
//!
//! `simulation` runs this code and the scripts on a model of Redis and of the network, from seeds. For
//! it, time is read through `clock`, and random numbers are drawn through `random`. `protocol-tests/cluster/scripts`
//! calls each script directly.
//!
//! `redis_broker` adapts [`Cluster`] to the interface of the broker.

mod app_scripts;
mod cache;
mod cache_updates;
mod channel_list;
mod channels;
mod cleanup;
mod compare;
mod context;
mod coordinator;
mod dedup;
mod envelope;
mod fencing_token;
mod forwarding;
mod heartbeat;
mod in_flight;
mod link;
mod link_state;
mod logged;
mod lua;
mod membership;
mod metrics;
mod names;
mod nodes;
mod notifiers;
mod partition;
mod publish;
mod published_sequences;
mod query;
mod random;
mod ready;
mod reason;
mod redis_broker;
mod restore;
mod scheduler;
mod scripts;
mod shared;
mod sign_in;
#[cfg(test)]
mod simulation;
mod sync;
mod topic;
mod topics;
mod unforwarded;

pub(crate) use app_scripts::{AppCall, AppScripts};
pub use channel_list::ChannelList;
pub(crate) use lua::{LOG_BYTES_MAX, OVERHEAD_BYTES};
pub use metrics::BrokerMetrics;
pub use publish::OutgoingEvent;
pub use query::{ChannelQuery, ChannelReply};
pub use redis_broker::RedisBroker;
pub(crate) use scripts::{Script, ScriptReply, Unexpected};
#[cfg(test)]
pub(crate) use simulation::{SimulatedNode, SimulatedRedis};

use crate::{
    broker::error::{NotPublished, Unavailable},
    channel::Counts,
    clock,
    config::RedisConfig,
    hub::{ConnectionRef, Hub},
    protocol::{ChannelName, Member, User},
};
use coordinator::{Coordinator, Input};
use futures_util::{FutureExt as _, future::BoxFuture};
use link::RedisEndpoint;
use shared::ClusterState;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{timeout, timeout_at},
};
use topic::Waiter;

/// A handle to the cluster that this node is part of. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<ClusterState>,
    inputs: mpsc::UnboundedSender<Input>,
    /// The number of inputs that wait for the coordinator.
    backlog: Arc<AtomicUsize>,
}

/// A permit for one connection of an app, counted on all nodes. Dropping it releases it. Small,
/// since each connection holds one.
#[derive(Debug)]
pub struct ConnectionPermit(Option<Box<(Cluster, Arc<str>)>>);

/// The longest wait of a stopping node until its publishes to cache channels are in the index.
const CACHE_UPDATES_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of waiting inputs beyond which clients are not read.
const BACKLOG_FULL: usize = 4_096;

impl Cluster {
    /// Joins the nodes that share the Redis of `config`; `None` without a Redis. Retries without
    /// end. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The file with the authorities can't be read.
    pub fn join(
        config: &RedisConfig,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
    ) -> io::Result<Option<Self>> {
        let Some(target) = config.url.target() else { return Ok(None) };
        let endpoint = RedisEndpoint::new(config, target.clone())?;
        let broker_wait = Duration::from_millis(config.broker_wait_ms);
        let shared = ClusterState::new(&config.prefix, endpoint.is_redis_cluster(), broker_wait);
        let node_timeout = Duration::from_millis(config.node_timeout_ms);
        let (cluster, tasks) = Self::start(shared, endpoint, hubs, node_timeout);
        for task in tasks {
            tokio::spawn(task);
        }
        Ok(Some(cluster))
    }

    /// Makes a node that joins as soon as its tasks run.
    fn start(
        shared: ClusterState,
        endpoint: RedisEndpoint,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
        node_timeout: Duration,
    ) -> (Self, [BoxFuture<'static, ()>; 2]) {
        let shared = Arc::new(shared);
        let (inputs, receiver) = mpsc::unbounded_channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let (coordinator, completions) = Coordinator::new(
            Arc::clone(&shared),
            endpoint,
            hubs,
            node_timeout,
            Arc::clone(&backlog),
        );
        let cache_updates = Arc::clone(&shared).update_cache_indexes();
        let tasks = [coordinator.run(receiver, completions).boxed(), cache_updates.boxed()];
        (Self { shared, inputs, backlog }, tasks)
    }

    /// Replaces the apps, by their ids. Contributions of removed apps are withdrawn as their
    /// connections end.
    pub fn serve(&self, hubs: HashMap<Arc<str>, Arc<Hub>>) {
        self.send(Input::Serve(hubs));
    }

    /// Adds the hub of an app, or replaces it.
    pub fn serve_app(&self, hub: Arc<Hub>) {
        self.send(Input::ServeApp(hub));
    }

    /// Removes an app, whose contributions are withdrawn as its connections end.
    pub fn remove_app(&self, app_id: Arc<str>) {
        self.send(Input::RemoveApp(app_id));
    }

    fn send(&self, input: Input) {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        // The coordinator ends when the node does.
        let _ = self.inputs.send(input);
    }

    /// Whether the coordinator's queue is full, so that clients should not be read.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        BACKLOG_FULL < self.backlog.load(Ordering::Relaxed)
    }

    /// The reason why the node is not joined; `None` while it is.
    #[must_use]
    pub fn unavailable_reason(&self) -> Option<Arc<str>> {
        self.shared.unavailable_reason()
    }

    /// The metrics of the cluster.
    #[must_use]
    pub fn metrics(&self) -> &BrokerMetrics {
        &self.shared.metrics
    }

    /// Requests a subscription. The result arrives in the inbox of the connection's shard, under
    /// `ticket`.
    pub fn subscribe(
        &self,
        hub: &Hub,
        channel: &ChannelName,
        connection: ConnectionRef,
        ticket: u32,
        member: Option<Member>,
    ) {
        let waiter = Waiter::Subscriber { connection, ticket, member };
        self.send(Input::Join { app_id: hub.app_id(), channel: channel.clone(), waiter });
    }

    /// Ends a subscription that was accepted.
    pub fn unsubscribe(&self, hub: &Hub, channel: &ChannelName, user_id: Option<&Arc<str>>) {
        let (channel, user_id) = (channel.clone(), user_id.map(Arc::clone));
        self.send(Input::Leave { app_id: hub.app_id(), channel, user_id });
    }

    /// Records a sign-in. The online users of its watchlist arrive through the inbox.
    pub fn sign_in(&self, hub: &Hub, connection: ConnectionRef, user: &User) {
        self.send(Input::SignIn {
            app_id: hub.app_id(),
            connection,
            user_id: Arc::clone(&user.id),
            watchlist: user.watchlist.clone(),
        });
    }

    /// Records the end of a signed-in connection.
    pub fn sign_out(&self, connection: ConnectionRef) {
        self.send(Input::SignOut { connection });
    }

    /// Counts a connection of the app, against the limit of all nodes if it has one. While Redis is
    /// unavailable, the limit applies to this node alone.
    pub async fn admit(&self, hub: &Hub) -> Option<ConnectionPermit> {
        // From here on it is released in any case.
        let mut permit = ConnectionPermit(Some(Box::new((self.clone(), hub.app_id()))));
        let is_limited = 0 < hub.app().config.max_connections;
        if !is_limited || self.unavailable_reason().is_some() {
            self.send(Input::Connect { app_id: hub.app_id(), admission: None });
            return Some(permit);
        }
        let (admission, admitted) = oneshot::channel();
        self.send(Input::Connect { app_id: hub.app_id(), admission: Some(admission) });
        match timeout(self.shared.broker_wait, admitted).await {
            // Without a reply in time, it is counted when the reply arrives.
            Ok(Ok(true)) | Err(_) => Some(permit),
            Ok(Ok(false) | Err(_)) => {
                permit.0 = None;
                None
            }
        }
    }

    /// Publishes events to the subscribers on all nodes, in order.
    ///
    /// # Errors
    ///
    /// [`NotPublished`] says whether that is certain.
    pub async fn publish(
        &self,
        hub: &Hub,
        events: &[OutgoingEvent],
    ) -> Result<Vec<Counts>, NotPublished> {
        let max_cache_bytes = hub.app().config.max_cache_bytes;
        let counts = self.shared.publish(&hub.app_id(), events, max_cache_bytes).await?;
        self.shared.metrics.sent(events.len());
        Ok(counts)
    }

    /// Evicts cached events beyond the app's `max_cache_bytes` from Redis, after a change of it.
    pub fn trim_cache(&self, hub: &Hub) {
        self.shared.cache_updates.trim(&hub.app_id(), hub.app().config.max_cache_bytes);
    }

    /// Publishes a client event, without waiting for an unavailable Redis.
    ///
    /// # Errors
    ///
    /// Redis is unavailable.
    pub async fn publish_client_event(
        &self,
        hub: &Hub,
        event: OutgoingEvent,
    ) -> Result<(), Unavailable> {
        self.shared.publish_client_event(&hub.app_id(), event).await?;
        self.shared.metrics.sent(1);
        Ok(())
    }

    /// The occupied channels, at least those whose names begin with `prefix`. The reply is shared
    /// with other requests that wait for it.
    ///
    /// # Errors
    ///
    /// Redis is unavailable.
    pub async fn channels(&self, hub: &Hub, prefix: &str) -> Result<Arc<ChannelList>, Unavailable> {
        self.shared.channels(&hub.app_id(), prefix).await
    }

    /// The state of one channel on all nodes.
    ///
    /// # Errors
    ///
    /// Redis is unavailable.
    pub async fn channel(
        &self,
        hub: &Hub,
        channel: &ChannelName,
        query: ChannelQuery,
    ) -> Result<ChannelReply, Unavailable> {
        self.shared.channel(&hub.app_id(), channel, query).await
    }

    /// The number of connections that the app has on all nodes.
    ///
    /// # Errors
    ///
    /// Redis is unavailable.
    pub async fn connections(&self, hub: &Hub) -> Result<usize, Unavailable> {
        self.shared.connections(&hub.app_id()).await
    }

    /// Makes every node close the connections that are signed in as the user.
    ///
    /// # Errors
    ///
    /// Redis is unavailable.
    pub async fn terminate(&self, hub: &Hub, user_id: &str) -> Result<(), Unavailable> {
        self.shared.terminate(&hub.app_id(), user_id).await
    }

    /// Notifies the other nodes that this one takes no more connections.
    pub fn drain(&self) {
        self.shared.set_draining();
        self.send(Input::Drain);
    }

    /// Whether this node is joined, and there are other nodes, ready or not.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.unavailable_reason().is_none() && self.shared.others.has_others()
    }

    /// Whether another node has recently reported that it takes connections.
    #[must_use]
    pub fn is_another_ready(&self) -> bool {
        self.shared.others.is_any(clock::now())
    }

    /// Leaves the cluster, once every connection has ended. Gives up after `patience`: another node
    /// then cleans up.
    pub async fn leave(&self, patience: Duration) {
        let patience = clock::now() + patience;
        let _ = timeout(CACHE_UPDATES_TIMEOUT, self.shared.cache_updates.settled()).await;
        let (done, is_done) = oneshot::channel();
        self.send(Input::Stop(done));
        let _ = timeout_at(patience.into(), is_done).await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            let (cluster, app_id) = *permit;
            cluster.send(Input::Disconnect { app_id });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_not_read_beyond_the_limit_of_waiting_inputs() {
        let shared = Arc::new(ClusterState::new("test", false, Duration::from_secs(2)));
        let (inputs, _queue) = mpsc::unbounded_channel();
        let cluster = Cluster { shared, inputs, backlog: Arc::default() };
        for _ in 0..BACKLOG_FULL {
            assert!(!cluster.is_busy());
            cluster.send(Input::Disconnect { app_id: "app".into() });
        }
        assert!(!cluster.is_busy(), "at the limit");
        cluster.send(Input::Disconnect { app_id: "app".into() });
        assert!(cluster.is_busy());
    }
}
