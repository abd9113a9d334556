//! Several nodes: the cluster decides in Redis, and the hub delivers to this node's subscribers.

use super::{ChannelQuery, Cluster, OutgoingEvent};
use crate::{
    broker::{
        AcceptedClientEvent, AppEvent, NotPublished, SignInReply, SubscribeRequest, Unavailable,
    },
    channel::{ChannelSummary, Counts},
    config::WebhookEvent,
    hub::{ConnectionRef, Hub, ShardIndex, ShardSet},
    protocol::{ChannelName, User, event},
};
use parking_lot::Mutex;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};
use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The broker of a node that shares a Redis with others.
#[derive(Debug)]
pub struct RedisBroker {
    cluster: Cluster,
    client_events: CompletionQueue,
}

/// By app: the end of its last client event that is reported to webhooks. Redis may reply in
/// another order than the events were sent in; they are reported in the order in which they were sent.
#[derive(Debug, Default)]
struct CompletionQueue(Mutex<HashMap<Arc<str>, oneshot::Receiver<()>>>);

/// The metrics of the cluster.
#[derive(Debug)]
struct ClusterMetrics(Cluster);

impl RedisBroker {
    pub(in crate::broker) fn new(cluster: Cluster) -> Self {
        Self { cluster, client_events: CompletionQueue::default() }
    }

    pub(in crate::broker) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(in crate::broker) fn forget(&self, app_id: &str) {
        self.client_events.0.lock().remove(app_id);
    }

    pub(in crate::broker) fn subscribe(&self, hub: &Hub, request: SubscribeRequest<'_>) {
        let SubscribeRequest { connection, ticket, channel, member } = request;
        self.cluster.subscribe(hub, channel, connection, ticket, member.clone());
    }

    pub(in crate::broker) fn unsubscribe(
        &self,
        hub: &Hub,
        shard: ShardIndex,
        channel: &ChannelName,
        user_id: Option<&Arc<str>>,
    ) {
        hub.remove_subscriber(shard, channel);
        self.cluster.unsubscribe(hub, channel, user_id);
    }

    /// The online state of the watchlist is delivered later.
    pub(in crate::broker) fn sign_in(
        &self,
        hub: &Hub,
        connection: ConnectionRef,
        user: &User,
        user_data: &str,
    ) -> SignInReply {
        self.cluster.sign_in(hub, connection, user);
        hub.sign_in(&user.id, connection);
        SignInReply { success: event::signin_success(user_data), watchlist: None }
    }

    pub(in crate::broker) fn sign_out(&self, hub: &Hub, connection: ConnectionRef, user: &User) {
        self.cluster.sign_out(connection);
        hub.sign_out(&user.id, connection);
    }

    pub(in crate::broker) async fn publish(
        &self,
        hub: &Hub,
        events: &[AppEvent<'_>],
        now: Instant,
    ) -> Result<(Vec<Counts>, ShardSet), NotPublished> {
        let retention = Duration::from_secs(hub.app().config.cache_ttl_s);
        let each = events.iter().flat_map(|event| event.channels.iter().map(move |to| (event, to)));
        let outgoing: Vec<OutgoingEvent> = each
            .map(|(event, channel)| OutgoingEvent {
                channel: channel.clone(),
                frame: event::app_event(&event.name, channel, &event.data, now),
                except: event.except,
                retention,
            })
            .collect();
        let counts = self.cluster.publish(hub, &outgoing).await?;
        let shards = outgoing.iter().map(|outgoing| hub.shards_of(&outgoing.channel));
        Ok((counts, shards.fold(ShardSet::default(), ShardSet::union)))
    }

    pub(in crate::broker) fn publish_client_event(
        &self,
        hub: &Arc<Hub>,
        event: AcceptedClientEvent<'_>,
        now: Instant,
    ) {
        let (cluster, hub) = (self.cluster.clone(), Arc::clone(hub));
        let AcceptedClientEvent { connection, sender, .. } = event;
        let (channel, frame, hub_event) =
            (event.channel.clone(), event.frame(now), event.hub_event());
        let turn = hub.wants(WebhookEvent::ClientEvent).then(|| self.client_events.enqueue(&hub));
        tokio::spawn(async move {
            let outgoing = OutgoingEvent {
                channel: channel.clone(),
                frame,
                except: Some(sender),
                retention: Duration::ZERO,
            };
            let is_done = cluster.publish_client_event(&hub, outgoing).await.is_ok();
            if let Some((before, _done)) = turn {
                // An error means that the previous one was dropped, which is its end as well.
                let _ = before.await;
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

    pub(in crate::broker) async fn channel(
        &self,
        hub: &Hub,
        name: &ChannelName,
    ) -> Result<ChannelSummary, Unavailable> {
        Ok(self.cluster.channel(hub, name, ChannelQuery::Summary).await?.summary)
    }

    pub(in crate::broker) async fn users(
        &self,
        hub: &Hub,
        name: &ChannelName,
        with_info: bool,
    ) -> Result<Vec<(Arc<str>, Arc<str>)>, Unavailable> {
        let query = if with_info { ChannelQuery::UsersWithInfo } else { ChannelQuery::Users };
        Ok(self.cluster.channel(hub, name, query).await?.users)
    }

    pub(in crate::broker) fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(ClusterMetrics(self.cluster.clone())));
    }
}

impl CompletionQueue {
    /// Enters the queue of the hub's app. Returns the end of the event before, and the sender that
    /// ends this one when it is dropped.
    fn enqueue(&self, hub: &Hub) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (done, is_done) = oneshot::channel();
        let mut last = self.0.lock();
        let before = last.insert(hub.app_id(), is_done);
        (before.unwrap_or_else(|| oneshot::channel().1), done)
    }
}

impl Collector for ClusterMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Collector::encode(self.0.metrics(), encoder)
    }
}

#[cfg(test)]
mod tests;
