//! The other nodes: what is shared through Redis, so that all of them are one server.
//!
//! Nodes know nothing of one another. Everything that must be true for all of them lies in Redis
//! and is changed there by scripts, each in one step; what changes is told on a *bus*, a channel
//! of Redis' own, in the same step.
//!
//! # The way of an event
//!
//! [`Cluster::publish`] puts the encoded frame into an envelope and runs one script, which counts
//! the event and publishes it on the bus of its channel. Every node with subscribers hears it, the
//! publisher's too, and hands it to its hub: one order for all, which is Redis'.
//!
//! # The way of a subscription
//!
//! [`Cluster::subscribe`] asks the `manager`, a task that owns a `topic` for each channel that
//! somebody here needs. The topic listens to the bus, asserts in Redis what this node has, and
//! reads what all nodes have. From that *replica* the subscriber gets its acknowledgement.
//!
//! # What is told to the application
//!
//! `sync.lua` logs what comes and goes in the step that makes it so, in the partition of the topic. On
//! a Redis Cluster it is forwarded from there to the app's log (`logged`). [`Store`] is for the node
//! that tells.
//!
//! # When something fails
//!
//! `beat` keeps the link and the lease. After a lost link everything is asserted and read again,
//! and the difference is told; where a node can't prove that its subscribers have missed nothing,
//! they are closed so that they come again. A node whose lease has ended is cleaned up after by
//! one of the others (`cleanup`). Meanwhile publishes wait, and what waits too long reaches
//! nobody: the scripts refuse what comes after its time.

mod accepted;
mod assert;
mod beat;
mod cache;
mod chance;
mod channels;
mod cleanup;
mod clock;
mod compare;
mod envelope;
mod in_flight;
mod leave;
mod link;
mod link_state;
mod logged;
mod manager;
mod membership;
mod metrics;
mod names;
mod partition;
mod publish;
mod query;
mod ready;
mod reason;
mod restore;
mod scripts;
mod seen;
mod shared;
mod sign_in;
#[cfg(test)]
mod simulation;
mod store;
mod topic;

pub use channels::ChannelList;
pub use metrics::BrokerMetrics;
pub use publish::{NotPublished, Outgoing};
pub use query::{Asked, ChannelAnswer};
pub use shared::Unavailable;
pub use store::{Commit, Entry, Head, Look, NotCommitted, Queue, Queued, Store, View};

use crate::{
    config::RedisConfig,
    hub::{ConnectionRef, Counts, Hub},
    protocol::{ChannelName, Member, User},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use link::Endpoint;
use manager::{Input, Manager};
use shared::Shared;
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

/// The other nodes, as this one sees them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    inputs: mpsc::UnboundedSender<Input>,
    /// How much waits for the manager.
    backlog: Arc<AtomicUsize>,
}

/// A place among the connections of an app on all nodes. Dropping it gives it back. Small, since
/// each connection has room for one.
#[derive(Debug)]
pub struct Place(Option<Box<(Cluster, Arc<str>)>>);

/// How long a node that ends waits until what it published on cache channels is accounted.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);
/// Beyond so much that waits for the manager, clients are not read.
const BACKLOG_FULL: usize = 4_096;

impl Cluster {
    /// Joins the nodes that share the Redis of `config`; nothing if there is none. Goes on trying
    /// for as long as it takes. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The file with the authorities can't be read.
    pub fn join(
        config: &RedisConfig,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
    ) -> io::Result<Option<Self>> {
        let Some(target) = config.url.target() else { return Ok(None) };
        let endpoint = Endpoint::new(config, target.clone())?;
        let broker_wait = Duration::from_millis(config.broker_wait_ms);
        let shared = Shared::new(&config.prefix, endpoint.is_cluster(), broker_wait);
        let node_timeout = Duration::from_millis(config.node_timeout_ms);
        let (cluster, tasks) = Self::start(shared, endpoint, hubs, node_timeout);
        for task in tasks {
            tokio::spawn(task);
        }
        Ok(Some(cluster))
    }

    /// A node that joins as soon as its tasks run.
    fn start(
        shared: Shared,
        endpoint: Endpoint,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
        node_timeout: Duration,
    ) -> (Self, [BoxFuture<'static, ()>; 2]) {
        let shared = Arc::new(shared);
        let (inputs, asked) = mpsc::unbounded_channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let (manager, outcomes) =
            Manager::new(Arc::clone(&shared), endpoint, hubs, node_timeout, Arc::clone(&backlog));
        let accounts = Arc::clone(&shared).keep_accounts();
        let tasks = [manager.run(asked, outcomes).boxed(), accounts.boxed()];
        (Self { shared, inputs, backlog }, tasks)
    }

    /// Serves these apps from now on, by their ids. What connections of others have still is taken
    /// back as they end.
    pub fn serve(&self, hubs: HashMap<Arc<str>, Arc<Hub>>) {
        self.ask(Input::Serve(hubs));
    }

    fn ask(&self, input: Input) {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        // The manager ends when the node does.
        let _ = self.inputs.send(input);
    }

    /// Whether so much waits that clients are not to add to it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        BACKLOG_FULL < self.backlog.load(Ordering::Relaxed)
    }

    /// Why the node does not hear the others, or is not heard; nothing if all is well.
    #[must_use]
    pub fn away_because(&self) -> Option<Arc<str>> {
        self.shared.away_because()
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &BrokerMetrics {
        &self.shared.metrics
    }

    /// Asks for a subscription. What comes of it comes through the inbox of the connection's
    /// shard, under `ticket`.
    pub fn subscribe(
        &self,
        hub: &Hub,
        channel: &ChannelName,
        connection: ConnectionRef,
        ticket: u32,
        member: Option<Member>,
    ) {
        let waiter = Waiter::Subscriber { connection, ticket, member };
        self.ask(Input::Join { app_id: hub.app_id(), channel: channel.clone(), waiter });
    }

    /// Ends a subscription that was attached to the hub.
    pub fn unsubscribe(&self, hub: &Hub, channel: &ChannelName, user_id: Option<&Arc<str>>) {
        let (channel, user_id) = (channel.clone(), user_id.map(Arc::clone));
        self.ask(Input::Leave { app_id: hub.app_id(), channel, user_id });
    }

    /// A connection has signed in. Whom of its watchlist is online comes through the inbox.
    pub fn sign_in(&self, hub: &Hub, connection: ConnectionRef, user: &User) {
        self.ask(Input::SignIn {
            app_id: hub.app_id(),
            connection,
            user_id: Arc::clone(&user.id),
            watchlist: user.watchlist.clone(),
        });
    }

    /// A connection that was signed in has ended.
    pub fn sign_out(&self, connection: ConnectionRef) {
        self.ask(Input::SignOut { connection });
    }

    /// Counts a connection of the app, where it has a limit against that of all nodes. While
    /// Redis is away, the limit is this node's own.
    pub async fn admit(&self, hub: &Hub) -> Option<Place> {
        // From here on it is given back, whatever becomes of the connection.
        let mut place = Place(Some(Box::new((self.clone(), hub.app_id()))));
        let is_limited = 0 < hub.app().config.max_connections;
        if !is_limited || self.away_because().is_some() {
            self.ask(Input::Connect { app_id: hub.app_id(), admission: None });
            return Some(place);
        }
        let (admission, admitted) = oneshot::channel();
        self.ask(Input::Connect { app_id: hub.app_id(), admission: Some(admission) });
        match timeout(self.shared.broker_wait, admitted).await {
            // Where there is no answer, it counts when one comes.
            Ok(Ok(true)) | Err(_) => Some(place),
            Ok(Ok(false) | Err(_)) => {
                place.0 = None;
                None
            }
        }
    }

    /// Publishes events for everybody on all nodes, in their order.
    ///
    /// # Errors
    ///
    /// [`NotPublished`] says whether that is certain.
    pub async fn publish(
        &self,
        hub: &Hub,
        events: &[Outgoing],
    ) -> Result<Vec<Counts>, NotPublished> {
        let max_cache_bytes = hub.app().config.max_cache_bytes;
        let counts = self.shared.publish(&hub.app_id(), events, max_cache_bytes).await?;
        self.shared.metrics.sent(events.len());
        Ok(counts)
    }

    /// Has Redis evict what is beyond the app's `max_cache_bytes`, which may be another than before.
    pub fn trim_cache(&self, hub: &Hub) {
        self.shared.accounts.trim(&hub.app_id(), hub.app().config.max_cache_bytes);
    }

    /// Publishes a client event now or not at all.
    ///
    /// # Errors
    ///
    /// Redis is away.
    pub async fn whisper(&self, hub: &Hub, event: Outgoing) -> Result<(), Unavailable> {
        self.shared.whisper(&hub.app_id(), event).await?;
        self.shared.metrics.sent(1);
        Ok(())
    }

    /// The occupied channels, at least those whose names begin with `prefix`. Shared with other
    /// requests that wait for it.
    ///
    /// # Errors
    ///
    /// Redis is away.
    pub async fn channels(&self, hub: &Hub, prefix: &str) -> Result<Arc<ChannelList>, Unavailable> {
        self.shared.channels(&hub.app_id(), prefix).await
    }

    /// One channel.
    ///
    /// # Errors
    ///
    /// Redis is away.
    pub async fn channel(
        &self,
        hub: &Hub,
        channel: &ChannelName,
        asked: Asked,
    ) -> Result<ChannelAnswer, Unavailable> {
        self.shared.channel(&hub.app_id(), channel, asked).await
    }

    /// How many connections the app has on all nodes.
    ///
    /// # Errors
    ///
    /// Redis is away.
    pub async fn connections(&self, hub: &Hub) -> Result<usize, Unavailable> {
        self.shared.connections(&hub.app_id()).await
    }

    /// Has every node close the connections that are signed in as the user.
    ///
    /// # Errors
    ///
    /// Redis is away.
    pub async fn terminate(&self, hub: &Hub, user_id: &str) -> Result<(), Unavailable> {
        self.shared.terminate(&hub.app_id(), user_id).await
    }

    /// Notifies the other nodes that this one takes no more connections.
    pub fn drain(&self) {
        self.shared.set_draining();
        self.ask(Input::Drain);
    }

    /// Whether another node has recently reported that it takes connections.
    #[must_use]
    pub fn is_another_ready(&self) -> bool {
        self.shared.others.is_any(clock::now())
    }

    /// Says goodbye to the others, when every connection has ended; gives up after `patience`:
    /// they clean up then.
    pub async fn leave(&self, patience: Duration) {
        let patience = clock::now() + patience;
        let _ = timeout(SETTLED_WITHIN, self.shared.accounts.settled()).await;
        let (done, is_done) = oneshot::channel();
        self.ask(Input::Stop(done));
        let _ = timeout_at(patience.into(), is_done).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            let (cluster, app_id) = *place;
            cluster.ask(Input::Disconnect { app_id });
        }
    }
}
