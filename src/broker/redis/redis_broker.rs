//! The handle to the broker in Redis. Most requests go to the coordinator, a task; publishes and queries go
//! to Redis directly. The hub delivers to this node's subscribers.

use super::{
    cache_updates::CACHE_UPDATES_TIMEOUT,
    channel_logs::LogDrops,
    clock,
    cluster_state::ClusterState,
    coordinator::{Coordinator, CoordinatorRequest},
    encoded_publish::{EncodedPublish, history_of},
    link::RedisEndpoint,
    membership::KEY_LAYOUT,
    publish::OutgoingEvent,
    query::ChannelQuery,
    topic::Waiter,
};
use crate::{
    broker::{
        AcceptedClientEvent, AppEvent, ClusterView, LogStats, PublishError, SignInMessages,
        SubscribeRequest, Unavailable,
        logs::{LogSettings, PendingLogRequest},
        occupied_channels::ChannelList,
    },
    channel::{ChannelSummary, Counts},
    config::{ConnectionConfig, RedisConfig, WebhookEvent},
    hub::{ConnectionRef, Hub, ShardIndex, ShardSet, UserClose},
    protocol::{ChannelName, User, event},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};
use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{timeout, timeout_at},
};

/// The broker of a node that shares a Redis with others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RedisBroker {
    pub(super) shared: Arc<ClusterState>,
    requests: RequestSender,
    client_events: Arc<CompletionQueue>,
}

/// Sends requests to the coordinator.
#[derive(Clone, Debug)]
struct RequestSender {
    requests: mpsc::UnboundedSender<CoordinatorRequest>,
    /// The number of requests that wait for the coordinator.
    backlog: Arc<AtomicUsize>,
}

/// Keeps webhook reports of client events in the order of sending. For each app: a receiver that
/// completes when the previous event was reported.
#[derive(Debug, Default)]
struct CompletionQueue(Mutex<HashMap<Arc<str>, oneshot::Receiver<()>>>);

/// A permit for one connection of an app, counted on all nodes. Dropping it releases it. Small,
/// since each connection holds one.
#[derive(Debug)]
pub(in crate::broker) struct ClusterPermit(Option<Box<(RequestSender, Arc<str>)>>);

/// Adapts the metrics to the registry.
#[derive(Debug)]
struct MetricsCollector(Arc<ClusterState>);

/// The number of waiting requests beyond which clients are not read.
const BACKLOG_MAX: usize = 4_096;

impl RedisBroker {
    /// Starts the tasks of a node, which join the nodes that share the Redis of `config` and retry
    /// without end; `None` without a Redis. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The file with the authorities can't be read.
    pub(in crate::broker) fn spawn(
        config: &RedisConfig,
        connection: &ConnectionConfig,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
    ) -> io::Result<Option<Self>> {
        let Some(target) = config.url.target() else { return Ok(None) };
        let endpoint = RedisEndpoint::new(config, target.clone())?;
        let broker_wait = Duration::from_millis(config.broker_wait_ms);
        let mut shared =
            ClusterState::new(&config.prefix, endpoint.is_redis_cluster(), broker_wait);
        shared.logs = LogSettings::new(connection);
        let node_timeout = Duration::from_millis(config.node_timeout_ms);
        let (broker, tasks) = Self::new(shared, endpoint, hubs, node_timeout);
        for task in tasks {
            tokio::spawn(task);
        }
        Ok(Some(broker))
    }

    /// The broker of a node that joins as soon as the returned tasks run.
    pub(super) fn new(
        shared: ClusterState,
        endpoint: RedisEndpoint,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
        node_timeout: Duration,
    ) -> (Self, [BoxFuture<'static, ()>; 2]) {
        let shared = Arc::new(shared);
        let (requests, receiver) = RequestSender::new();
        let backlog = Arc::clone(&requests.backlog);
        let (coordinator, completions) =
            Coordinator::new(Arc::clone(&shared), endpoint, hubs, node_timeout, backlog);
        let cache_updates = Arc::clone(&shared).update_cache_indexes();
        let tasks = [coordinator.run(receiver, completions).boxed(), cache_updates.boxed()];
        (Self { shared, requests, client_events: Arc::default() }, tasks)
    }

    /// Sends a request to the coordinator.
    pub(super) fn request(&self, request: CoordinatorRequest) {
        self.requests.send(request);
    }

    /// Replaces the apps, by their ids. Contributions of removed apps are withdrawn as their
    /// connections end.
    pub(crate) fn set_apps(&self, hubs: HashMap<Arc<str>, Arc<Hub>>) {
        self.requests.send(CoordinatorRequest::SetApps(hubs));
    }

    /// Adds an app, or replaces its hub.
    pub(in crate::broker) fn set_app(&self, hub: Arc<Hub>) {
        self.requests.send(CoordinatorRequest::SetApp(hub));
    }

    /// Removes an app, whose contributions are withdrawn as its connections end.
    pub(in crate::broker) fn remove_app(&self, app_id: Arc<str>) {
        self.requests.send(CoordinatorRequest::RemoveApp(app_id));
    }

    /// Drops the state of a removed app.
    pub(in crate::broker) fn remove_app_state(&self, app_id: &str) {
        self.client_events.0.lock().remove(app_id);
    }

    /// Counts a connection of the app, against the limit of all nodes if it has one. While Redis is
    /// unavailable, the limit applies to this node alone.
    pub(in crate::broker) async fn acquire_permit(&self, hub: &Hub) -> Option<ClusterPermit> {
        // From here on it is released in any case.
        let mut permit = ClusterPermit(Some(Box::new((self.requests.clone(), hub.app_id()))));
        let is_limited = 0 < hub.app().config.max_connections;
        if !is_limited || self.unavailable_reason().is_some() {
            self.requests.send(CoordinatorRequest::Connect { app_id: hub.app_id(), reply: None });
            return Some(permit);
        }
        let (admission, admitted) = oneshot::channel();
        self.requests
            .send(CoordinatorRequest::Connect { app_id: hub.app_id(), reply: Some(admission) });
        match timeout(self.shared.broker_wait, admitted).await {
            // Without a reply in time, it is counted when the reply arrives.
            Ok(Ok(true)) | Err(_) => Some(permit),
            Ok(Ok(false) | Err(_)) => {
                permit.0 = None;
                None
            }
        }
    }

    /// Requests a subscription. The result arrives in the inbox of the connection's shard, under
    /// the ticket of the request.
    pub(crate) fn subscribe(&self, hub: &Hub, request: SubscribeRequest<'_>) {
        let SubscribeRequest { connection, socket_id, ticket, channel, member, log } = request;
        let log = PendingLogRequest::new(log, socket_id);
        let waiter = Waiter::Subscriber { connection, ticket, member: member.clone(), log };
        self.requests.send(CoordinatorRequest::Subscribe {
            app_id: hub.app_id(),
            channel: channel.clone(),
            waiter,
        });
    }

    /// Ends a subscription that the hub has registered.
    pub(crate) fn unsubscribe(
        &self,
        hub: &Hub,
        shard: ShardIndex,
        channel: &ChannelName,
        user_id: Option<&Arc<str>>,
    ) {
        if let Some(mut locked) = hub.lock(channel) {
            locked.remove_subscriber(shard);
            locked.remove_if_empty();
        }
        let (channel, user_id) = (channel.clone(), user_id.map(Arc::clone));
        self.requests.send(CoordinatorRequest::Unsubscribe {
            app_id: hub.app_id(),
            channel,
            user_id,
        });
    }

    /// Ends the use of a channel's log by a subscription.
    pub(in crate::broker) fn release_log(&self, hub: &Hub, channel: &ChannelName) {
        let (app_id, channel) = (hub.app_id(), channel.clone());
        self.requests.send(CoordinatorRequest::ReleaseLog { app_id, channel });
    }

    /// The number of events that were not published, since their idempotency key was known.
    pub(in crate::broker) fn repeated_publishes(&self) -> u64 {
        self.shared.metrics.repeated.get()
    }

    /// The events of the app that publishes of this node have dropped from the logs in Redis.
    pub(in crate::broker) fn log_stats(&self, hub: &Hub) -> LogStats {
        let LogDrops { of_channel, of_partition } = self.shared.log_drops(&hub.app_id());
        LogStats { bytes: 0, dropped_of_channel: of_channel, dropped_of_node: of_partition }
    }

    /// Records a sign-in. The online state of the watchlist arrives later, in the inbox.
    pub(crate) fn sign_in(
        &self,
        hub: &Hub,
        connection: ConnectionRef,
        user: &User,
        user_data: &str,
    ) -> SignInMessages {
        self.requests.send(CoordinatorRequest::SignIn {
            app_id: hub.app_id(),
            connection,
            user_id: Arc::clone(&user.id),
            watchlist: user.watchlist.clone(),
        });
        hub.sign_in(&user.id, connection);
        SignInMessages { success: event::signin_success(user_data), watchlist: None }
    }

    /// Records the end of a signed-in connection.
    pub(crate) fn sign_out(&self, hub: &Hub, connection: ConnectionRef, user: &User) {
        self.requests.send(CoordinatorRequest::SignOut { connection });
        hub.sign_out(&user.id, connection);
    }

    /// Publishes events to the subscribers on all nodes, in order.
    ///
    /// # Errors
    ///
    /// [`PublishError::OutcomeUnknown`] if the event may have been delivered.
    pub(in crate::broker) async fn publish(
        &self,
        hub: &Hub,
        events: &[AppEvent<'_>],
        now: Instant,
    ) -> Result<(Vec<Counts>, ShardSet), PublishError> {
        self.encode(hub, events, now).publish(hub).await
    }

    /// Encodes events to publish them later.
    pub(in crate::broker) fn encode(
        &self,
        hub: &Hub,
        events: &[AppEvent<'_>],
        now: Instant,
    ) -> EncodedPublish {
        EncodedPublish::new(&self.shared, hub, events, now)
    }

    /// Publishes a client event, without waiting for an unavailable Redis. The sender receives an error if
    /// the event may not have been delivered.
    pub(in crate::broker) fn publish_client_event(
        &self,
        hub: &Arc<Hub>,
        event: AcceptedClientEvent<'_>,
        now: Instant,
    ) {
        let (shared, hub) = (Arc::clone(&self.shared), Arc::clone(hub));
        let AcceptedClientEvent { connection, sender, .. } = event;
        let (channel, frame, hub_event) =
            (event.channel.clone(), event.frame(now), event.hub_event());
        let history = history_of(&hub.app().config, &channel);
        let order = hub.wants(WebhookEvent::ClientEvent).then(|| self.client_events.enqueue(&hub));
        tokio::spawn(async move {
            let outgoing = OutgoingEvent {
                channel: channel.clone(),
                frame,
                except: Some(sender),
                retention: Duration::ZERO,
                publish_id: None,
                history,
            };
            let is_done = shared.publish_client_event(&hub.app_id(), outgoing).await.is_ok();
            if let Some((previous, _done)) = order {
                // An error means that the previous one was dropped, which is its end as well.
                let _ = previous.await;
                if is_done {
                    hub.observe(WebhookEvent::ClientEvent, || hub_event);
                }
            }
            if is_done {
                return;
            }
            let message = format!(
                "The client event on {channel} may not have been delivered: try again later"
            );
            hub.send(connection, event::error(None, Some(channel.as_str()), &message));
        });
    }

    /// Evicts cached events beyond the app's `max_cache_bytes` from Redis, after a change of it.
    pub(in crate::broker) fn trim_cache(&self, hub: &Hub) {
        self.shared.cache_updates.trim(&hub.app_id(), hub.app().config.max_cache_bytes);
    }

    /// The occupied channels, at least those whose names begin with `prefix`. The list is shared
    /// with other requests that wait for it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub(in crate::broker) async fn channels(
        &self,
        hub: &Hub,
        prefix: &str,
    ) -> Result<Arc<ChannelList>, Unavailable> {
        self.shared.channels(&hub.app_id(), prefix).await
    }

    /// The state of one channel on all nodes.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub(in crate::broker) async fn channel(
        &self,
        hub: &Hub,
        name: &ChannelName,
    ) -> Result<ChannelSummary, Unavailable> {
        Ok(self.shared.channel(&hub.app_id(), name, ChannelQuery::Summary).await?.summary)
    }

    /// The members of a presence channel on all nodes, by id, and their infos if requested.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub(in crate::broker) async fn users(
        &self,
        hub: &Hub,
        name: &ChannelName,
        with_info: bool,
    ) -> Result<Vec<(Arc<str>, Arc<str>)>, Unavailable> {
        let query = if with_info { ChannelQuery::UsersWithInfo } else { ChannelQuery::Users };
        Ok(self.shared.channel(&hub.app_id(), name, query).await?.users)
    }

    /// The number of connections that the app has on all nodes.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub(in crate::broker) async fn connections(&self, hub: &Hub) -> Result<usize, Unavailable> {
        self.shared.connections(&hub.app_id()).await
    }

    /// Makes every node close the connections that are signed in as the user.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub(in crate::broker) async fn close_user(
        &self,
        hub: &Hub,
        user_id: &str,
        close: UserClose,
    ) -> Result<(), Unavailable> {
        self.shared.close_user(&hub.app_id(), user_id, close).await
    }

    /// The cluster as this node knows it.
    pub(in crate::broker) fn cluster(&self) -> ClusterView {
        ClusterView {
            process: self.shared.process(),
            others: self.shared.ready_nodes.processes(),
            prefix: self.shared.names.prefix().to_owned(),
            layout: KEY_LAYOUT,
        }
    }

    /// The reason why the node is not joined; `None` while it is.
    pub(crate) fn unavailable_reason(&self) -> Option<Arc<str>> {
        self.shared.unavailable_reason()
    }

    /// Whether the coordinator's queue is full, so that clients should not be read.
    pub(in crate::broker) fn is_backlogged(&self) -> bool {
        self.requests.is_backlogged()
    }

    /// Notifies the other nodes that this one takes no more connections.
    pub(in crate::broker) fn announce_drain(&self) {
        self.shared.set_draining();
        self.requests.send(CoordinatorRequest::AnnounceDrain);
    }

    /// Whether this node is joined, and there are other nodes, ready or not.
    pub(in crate::broker) fn has_other_nodes(&self) -> bool {
        self.unavailable_reason().is_none() && self.shared.ready_nodes.has_other_nodes()
    }

    /// Whether another node has recently reported that it takes connections.
    pub(in crate::broker) fn has_ready_node(&self) -> bool {
        self.shared.ready_nodes.has_ready(clock::now())
    }

    /// Leaves the cluster, once every connection has ended. After `limit`, another node cleans up
    /// instead.
    pub(in crate::broker) async fn leave(&self, limit: Duration) {
        let deadline = clock::now() + limit;
        let _ = timeout(CACHE_UPDATES_TIMEOUT, self.shared.cache_updates.wait_until_empty()).await;
        let (done, is_done) = oneshot::channel();
        self.requests.send(CoordinatorRequest::Stop(done));
        let _ = timeout_at(deadline.into(), is_done).await;
    }

    pub(in crate::broker) fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(MetricsCollector(Arc::clone(&self.shared))));
    }
}

impl RequestSender {
    fn new() -> (Self, mpsc::UnboundedReceiver<CoordinatorRequest>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Self { requests, backlog: Arc::default() }, receiver)
    }

    fn send(&self, request: CoordinatorRequest) {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        // The coordinator ends when the node does.
        let _ = self.requests.send(request);
    }

    fn is_backlogged(&self) -> bool {
        BACKLOG_MAX < self.backlog.load(Ordering::Relaxed)
    }
}

impl Drop for ClusterPermit {
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            let (requests, app_id) = *permit;
            requests.send(CoordinatorRequest::Disconnect { app_id });
        }
    }
}

impl CompletionQueue {
    /// Enters the queue of the hub's app. Returns the end of the previous event, and the sender that
    /// ends this one when it is dropped.
    fn enqueue(&self, hub: &Hub) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (done, is_done) = oneshot::channel();
        let mut last = self.0.lock();
        let previous = last.insert(hub.app_id(), is_done);
        (previous.unwrap_or_else(|| oneshot::channel().1), done)
    }
}

impl Collector for MetricsCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Collector::encode(&self.0.metrics, encoder)
    }
}

#[cfg(test)]
mod tests;
