//! A simulated node: the production cluster code and hub. The connections of the test's clients replace shards and
//! sockets.

use crate::{
    app::App,
    broker::{
        LogRequest, SubscribeRequest,
        redis::{
            RedisBroker,
            cluster_state::ClusterState,
            simulation::network::{Network, NodeId},
        },
    },
    channel::LogStart,
    config::AppConfig,
    hub::{
        ConnectionKey, ConnectionRef, Delivery, Hub, Inboxes, ShardIndex,
        testing::AllEventsObserver,
    },
    protocol::{ChannelName, Frame, Member, SocketId},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// The app that all nodes serve.
pub(super) const APP: &str = "app";
/// The prefix of all names in Redis.
pub(super) const PREFIX: &str = "sim";
/// `redis.node_timeout_ms`: the time without heartbeats after which a node is declared dead.
pub(super) const NODE_TIMEOUT: Duration = Duration::from_secs(6);
/// `redis.broker_wait_ms`: how long a publish waits for Redis.
pub(super) const BROKER_WAIT: Duration = Duration::from_secs(2);

/// A running node.
#[derive(Debug)]
pub(super) struct SimNode {
    pub(super) id: NodeId,
    pub(super) broker: RedisBroker,
    pub(super) hub: Arc<Hub>,
    inboxes: Arc<Inboxes>,
    tasks: Vec<JoinHandle<()>>,
    connections: BTreeMap<u32, SimConnection>,
    /// Closed connections whose subscriptions stay until then, as those of lost connections do.
    lingering: Vec<(tokio::time::Instant, u32)>,
    last_slot: u32,
}

/// A connection of a client, which subscribes to one channel.
#[derive(Debug)]
struct SimConnection {
    session: usize,
    channel: ChannelName,
    subscribed: Option<SimSubscription>,
    /// Whether the client has closed the connection.
    is_closed: bool,
    /// Whether the subscription reads the log of the channel.
    reads_log: bool,
}

#[derive(Debug)]
struct SimSubscription {
    channel: crate::hub::ChannelId,
    after_sequence: u64,
    user_id: Option<Arc<str>>,
}

/// Something that a client was sent.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    /// The text of a frame, and the sequence that it has in the log of the channel, or 0.
    Text(String, u64),
    /// The subscription begins here in the log of the channel.
    Started(LogStart),
    /// The close of the connection with code 4200.
    Closed,
}

fn now() -> Instant {
    crate::broker::redis::clock::now()
}

impl SimNode {
    /// Starts a node with this id that reaches Redis over the network.
    pub(super) fn start(
        network: &Network,
        id: NodeId,
        addresses: &[(String, u16)],
        is_redis_cluster: bool,
    ) -> Self {
        let config =
            AppConfig { id: APP.to_owned(), subscription_count: true, ..AppConfig::development() };
        let inboxes = Arc::new(Inboxes::new(1));
        let hub =
            Hub::new(App::new(config), Arc::clone(&inboxes), Arc::new(AllEventsObserver), now());
        let hub = Arc::new(hub);
        let named: Vec<(&str, u16)> =
            addresses.iter().map(|(host, port)| (host.as_str(), *port)).collect();
        let endpoint = network.endpoint(id, &named, is_redis_cluster);
        let shared = ClusterState::new(PREFIX, is_redis_cluster, BROKER_WAIT);
        let hubs = HashMap::from([(Arc::from(APP), Arc::clone(&hub))]);
        let (broker, tasks) = RedisBroker::new(shared, endpoint, hubs, NODE_TIMEOUT);
        let tasks = tasks.into_iter().map(tokio::spawn).collect();
        let (connections, lingering) = (BTreeMap::new(), Vec::new());
        Self { id, broker, hub, inboxes, tasks, connections, lingering, last_slot: 0 }
    }

    /// Whether the node is joined.
    pub(super) fn is_ready(&self) -> bool {
        self.broker.unavailable_reason().is_none()
    }

    /// Ends the process; it sends nothing more. Returns the sessions that end with it.
    pub(super) fn kill(self) -> Vec<usize> {
        for task in &self.tasks {
            task.abort();
        }
        self.connections.values().filter(|one| !one.is_closed).map(|one| one.session).collect()
    }

    /// Opens a connection that subscribes to a channel.
    pub(super) fn connect(
        &mut self,
        session: usize,
        channel: &ChannelName,
        user: Option<&str>,
        log: LogRequest<'_>,
    ) {
        self.last_slot += 1;
        let slot = self.last_slot;
        let connection = SimConnection {
            session,
            channel: channel.clone(),
            subscribed: None,
            is_closed: false,
            reads_log: false,
        };
        self.connections.insert(slot, connection);
        let member = user.map(|user| Member { user_id: user.into(), user_info: "{}".into() });
        let request = SubscribeRequest {
            connection: reference(slot),
            ticket: slot,
            channel,
            member: &member,
            socket_id: SocketId::from_random(1),
            log,
        };
        self.broker.subscribe(&self.hub, request);
    }

    /// Closes the connection of a session, if there is one. Its subscription stays for `grace`.
    pub(super) fn disconnect(&mut self, session: usize, grace: Duration) {
        let found =
            self.connections.iter_mut().find(|(_, one)| one.session == session && !one.is_closed);
        let Some((slot, connection)) = found else { return };
        connection.is_closed = true;
        let slot = *slot;
        if grace.is_zero() {
            self.end(slot);
        } else {
            self.release_log(slot);
            self.lingering.push((tokio::time::Instant::now() + grace, slot));
        }
    }

    fn release_log(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(&slot)
            && std::mem::take(&mut connection.reads_log)
        {
            self.broker.release_log(&self.hub, &connection.channel);
        }
    }

    /// Ends a subscription, if it has begun.
    fn end(&mut self, slot: u32) {
        self.release_log(slot);
        let Some(connection) = self.connections.get(&slot) else { return };
        // A subscription can only be ended once it has begun: before that, the cluster has no record of it.
        let Some(subscribed) = &connection.subscribed else { return };
        let (channel, user_id) = (connection.channel.clone(), subscribed.user_id.clone());
        self.connections.remove(&slot);
        self.broker.unsubscribe(&self.hub, ShardIndex::new(0), &channel, user_id.as_ref());
    }

    /// Returns what the connections were sent since the last call, with their sessions.
    pub(super) fn take(&mut self) -> Vec<(usize, Sent)> {
        let now = tokio::time::Instant::now();
        let due: Vec<_> = self.lingering.extract_if(.., |(until, _)| *until <= now).collect();
        for (_, slot) in due {
            self.end(slot);
        }
        let mut batch = VecDeque::new();
        self.inboxes.inbox(ShardIndex::new(0)).drain_into(&mut batch);
        let mut sent = Vec::new();
        for delivery in batch {
            self.deliver(delivery, &mut sent);
        }
        sent
    }

    fn deliver(&mut self, delivery: Delivery, sent: &mut Vec<(usize, Sent)>) {
        match delivery {
            Delivery::Subscription { key, result, .. } => {
                let accepted = result.expect("the rosters have room");
                let Some(connection) = self.connections.get_mut(&key.slot) else { return };
                let subscribed = accepted.subscribed;
                if !connection.is_closed {
                    let mut push = |frame: Frame| {
                        let text = frame.as_text().expect("it is text").to_owned();
                        sent.push((connection.session, Sent::Text(text, 0)));
                    };
                    push(subscribed.succeeded_frame);
                    subscribed.cached.into_iter().chain(subscribed.count).for_each(push);
                    let start = subscribed.log.clone().map(Sent::Started);
                    sent.extend(start.map(|start| (connection.session, start)));
                }
                connection.reads_log = subscribed.log.is_some();
                connection.subscribed = Some(SimSubscription {
                    channel: subscribed.channel,
                    after_sequence: subscribed.after_sequence,
                    user_id: accepted.user_id,
                });
                if connection.is_closed {
                    self.end(key.slot);
                }
            }
            Delivery::Channel { channel, sequence, frame, logged, .. } => {
                let text = frame.as_text().expect("it is text");
                for connection in self.connections.values().filter(|one| !one.is_closed) {
                    let receives = connection.subscribed.as_ref().is_some_and(|subscribed| {
                        subscribed.channel == channel && subscribed.after_sequence < sequence
                    });
                    if receives {
                        sent.push((connection.session, Sent::Text(text.to_owned(), logged)));
                    }
                }
            }
            Delivery::CloseSubscribers { channel, .. } => {
                let closed: Vec<u32> = self
                    .connections
                    .iter()
                    .filter(|(_, one)| {
                        let on = one.subscribed.as_ref();
                        !one.is_closed && on.is_some_and(|on| on.channel == channel)
                    })
                    .map(|(slot, _)| *slot)
                    .collect();
                for slot in closed {
                    if let Some(connection) = self.connections.get_mut(&slot) {
                        connection.is_closed = true;
                        sent.push((connection.session, Sent::Closed));
                    }
                    self.end(slot);
                }
            }
            Delivery::Connections { .. }
            | Delivery::Close { .. }
            | Delivery::CloseApp(_)
            | Delivery::Replace(_)
            | Delivery::Resume { .. }
            | Delivery::ReportSlow(_)
            | Delivery::ReportConnections(_)
            | Delivery::WatchConnection(_)
            | Delivery::Evict(_)
            | Delivery::Disconnect { .. }
            | Delivery::Response { .. } => {}
        }
    }
}

fn reference(slot: u32) -> ConnectionRef {
    ConnectionRef { shard: ShardIndex::new(0), key: ConnectionKey { slot, generation: 0 } }
}
