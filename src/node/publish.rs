//! Publishing, on this node alone or on all.

use super::Node;
use crate::{
    clock,
    cluster::{NotPublished, Outgoing},
    config::WebhookEvent,
    hub::{ConnectionRef, Counts, Hub, HubEvent, ShardSet, ToCache},
    protocol::{ChannelName, EventData, SocketId, event},
};
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

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

/// A client event that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedClientEvent<'a> {
    /// Who sends it.
    pub connection: ConnectionRef,
    /// On which channel.
    pub channel: &'a ChannelName,
    /// Its name.
    pub name: &'a str,
    /// Its data.
    pub data: &'a EventData<'a>,
    /// The sender's public name; it does not get its own event.
    pub sender: SocketId,
    /// On a presence channel, the member that sends it.
    pub user_id: Option<&'a Arc<str>>,
}

impl Node {
    /// Publishes events, each on its channels, in this order. Says who was there, for one channel
    /// after the other, and which shards of this node have something to deliver.
    ///
    /// # Errors
    ///
    /// [`NotPublished`], where there are other nodes and they can't be reached.
    pub async fn publish(
        &self,
        hub: &Hub,
        events: &[Event<'_>],
    ) -> Result<(Vec<Counts>, ShardSet), NotPublished> {
        let now = clock::now();
        let Some(cluster) = &self.cluster else { return Ok(publish_here(hub, events, now)) };
        let remember = Duration::from_secs(hub.app().config.cache_ttl_s);
        let each = events.iter().flat_map(|event| event.channels.iter().map(move |to| (event, to)));
        let outgoing: Vec<Outgoing> = each
            .map(|(event, channel)| Outgoing {
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

    /// Passes a client event on to the other subscribers. Where there are other nodes and they
    /// can't be reached, its sender is told.
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
            let outgoing = Outgoing {
                channel: channel.clone(),
                frame,
                except: Some(sender),
                remember: Duration::ZERO,
            };
            let is_done = cluster.publish_client_event(&hub, outgoing).await.is_ok();
            if let Some((before, _done)) = turn {
                // It fails when the one before is gone, which is as good.
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

/// Has client events be observed in the order in which they were sent, although each waits for an
/// answer of its own.
#[derive(Debug, Default)]
pub(super) struct CompletionQueue(Mutex<HashMap<Arc<str>, oneshot::Receiver<()>>>);

impl CompletionQueue {
    /// Forgets an app that nothing more comes of.
    pub(super) fn forget(&self, app_id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(app_id);
    }

    /// Takes the next place among those of an app: what comes when the one before is done with, and
    /// what says so to the next, when it is dropped.
    fn enqueue(&self, hub: &Hub) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (done, is_done) = oneshot::channel();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.insert(hub.app_id(), is_done);
        (before.unwrap_or_else(|| oneshot::channel().1), done)
    }
}

fn publish_here(hub: &Hub, events: &[Event<'_>], now: Instant) -> (Vec<Counts>, ShardSet) {
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
