//! Publishing, on this node or through the cluster.

use super::Node;
use crate::{
    clock,
    cluster::{NotPublished, OutgoingEvent},
    config::WebhookEvent,
    hub::{ConnectionRef, Counts, Hub, HubEvent, ShardSet, ToCache},
    protocol::{ChannelName, EventData, SocketId, event},
};
use parking_lot::Mutex;
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// An event of the application.
#[derive(Debug)]
pub struct AppEvent<'a> {
    /// The event's name, at most `max_event_name_length` characters.
    pub name: Cow<'a, str>,
    /// The event's data, at most `max_event_bytes`.
    pub data: EventData<'a>,
    /// The channels, without duplicates.
    pub channels: Vec<ChannelName>,
    /// The connection that does not receive the event: usually the one whose action caused it.
    pub except: Option<SocketId>,
}

/// An accepted client event.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedClientEvent<'a> {
    /// The connection that sent it.
    pub connection: ConnectionRef,
    /// The channel that it was sent on.
    pub channel: &'a ChannelName,
    /// The event's name, which begins with `client-`.
    pub name: &'a str,
    /// The event's data as the client sent it.
    pub data: &'a EventData<'a>,
    /// The socket id of the sender, which does not receive its own event.
    pub sender: SocketId,
    /// On a presence channel, the member that sent it.
    pub user_id: Option<&'a Arc<str>>,
}

impl Node {
    /// Publishes events, each on its channels, in this order. Returns the counts of each channel,
    /// and the shards of this node that have deliveries.
    ///
    /// # Errors
    ///
    /// [`NotPublished`] if the broker is unavailable or rejects the publish.
    pub async fn publish(
        &self,
        hub: &Hub,
        events: &[AppEvent<'_>],
    ) -> Result<(Vec<Counts>, ShardSet), NotPublished> {
        let now = clock::now();
        let Some(cluster) = &self.cluster else { return Ok(publish_here(hub, events, now)) };
        let remember = Duration::from_secs(hub.app().config.cache_ttl_s);
        let each = events.iter().flat_map(|event| event.channels.iter().map(move |to| (event, to)));
        let outgoing: Vec<OutgoingEvent> = each
            .map(|(event, channel)| OutgoingEvent {
                channel: channel.clone(),
                frame: event::published(&event.name, channel, &event.data, now),
                except: event.except,
                remember,
            })
            .collect();
        let counts = cluster.publish(hub, &outgoing).await?;
        let shards = outgoing.iter().map(|outgoing| hub.shards_of(&outgoing.channel));
        Ok((counts, shards.fold(ShardSet::default(), ShardSet::union)))
    }

    /// Publishes a client event to the other subscribers. If the broker is unavailable, the sender
    /// receives an error.
    pub fn publish_client_event(
        &self,
        hub: &Arc<Hub>,
        event: AcceptedClientEvent<'_>,
        now: Instant,
    ) {
        let AcceptedClientEvent { connection, channel, name, data, sender, user_id } = event;
        let frame = event::client_event(name, channel, data, user_id.map(|id| &**id), now);
        let hub_event = || HubEvent::ClientEvent {
            channel: channel.clone(),
            name: name.to_owned(),
            data: data.token().to_owned(),
            socket_id: sender,
            user_id: user_id.map(Arc::clone),
        };
        let Some(cluster) = &self.cluster else {
            hub.publish(channel, &frame, Some(sender), None, now);
            return hub.observe(WebhookEvent::ClientEvent, hub_event);
        };
        let (cluster, hub) = (cluster.clone(), Arc::clone(hub));
        let (channel, hub_event) = (channel.clone(), hub_event());
        let turn = hub.wants(WebhookEvent::ClientEvent).then(|| self.client_events.enqueue(&hub));
        tokio::spawn(async move {
            let outgoing = OutgoingEvent {
                channel: channel.clone(),
                frame,
                except: Some(sender),
                remember: Duration::ZERO,
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
            hub.tell(connection, event::error(None, Some(channel.as_str()), &message));
        });
    }
}

/// Observes client events in the order in which they were sent, although each waits for its own
/// answer of the broker.
#[derive(Debug, Default)]
pub(super) struct CompletionQueue(Mutex<HashMap<Arc<str>, oneshot::Receiver<()>>>);

impl CompletionQueue {
    /// Removes the entry of an app that was removed.
    pub(super) fn forget(&self, app_id: &str) {
        self.0.lock().remove(app_id);
    }

    /// Enqueues a client event of an app. Returns a receiver that completes when the previous one
    /// is finished, and a sender whose drop completes the next one's receiver.
    fn enqueue(&self, hub: &Hub) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (done, is_done) = oneshot::channel();
        let mut last = self.0.lock();
        let before = last.insert(hub.app_id(), is_done);
        (before.unwrap_or_else(|| oneshot::channel().1), done)
    }
}

fn publish_here(hub: &Hub, events: &[AppEvent<'_>], now: Instant) -> (Vec<Counts>, ShardSet) {
    let mut shards = ShardSet::default();
    let mut counts = Vec::new();
    for event in events {
        let is_cached = event.channels.iter().any(ChannelName::is_cache);
        let to_cache = is_cached.then(|| ToCache::new(&event.name, &event.data));
        for channel in &event.channels {
            let frame = event::published(&event.name, channel, &event.data, now);
            let published = hub.publish(channel, &frame, event.except, to_cache.as_ref(), now);
            shards = shards.union(published.shards);
            counts.push(published.counts);
        }
    }
    (counts, shards)
}
