//! Publishing, on this node alone or on all.

use super::Node;
use crate::{
    cluster::{Cluster, NotPublished, Outgoing},
    hub::{ConnectionRef, Counts, Hub, ShardSet, ToCache},
    protocol::{ChannelName, EventData, Frame, SocketId, event},
};
use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

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
        let now = Instant::now();
        let Some(cluster) = &self.cluster else { return Ok(publish_here(hub, events, now)) };
        let remember = Duration::from_secs(hub.app().config.cache_ttl_s);
        let each = events.iter().flat_map(|event| event.channels.iter().map(move |to| (event, to)));
        let outgoing: Vec<Outgoing<'_>> = each
            .map(|(event, channel)| Outgoing {
                channel,
                frame: event::published(&event.name, channel, &event.data, now),
                except: event.except,
                remember,
            })
            .collect();
        let counts = cluster.publish(hub, &outgoing).await?;
        let shards = outgoing.iter().map(|outgoing| hub.shards_of(outgoing.channel));
        Ok((counts, shards.fold(ShardSet::default(), ShardSet::union)))
    }

    /// Passes a client event on to the other subscribers. Where there are other nodes and they
    /// can't be reached, its sender is told.
    pub fn whisper(
        &self,
        hub: &Arc<Hub>,
        connection: ConnectionRef,
        channel: &ChannelName,
        frame: &Frame,
        sender: SocketId,
        now: Instant,
    ) {
        let Some(cluster) = &self.cluster else {
            hub.publish(channel, frame, Some(sender), None, now);
            return;
        };
        let (cluster, hub) = (cluster.clone(), Arc::clone(hub));
        let (channel, frame) = (channel.clone(), frame.clone());
        tokio::spawn(whisper(cluster, hub, connection, channel, frame, sender));
    }
}

async fn whisper(
    cluster: Cluster,
    hub: Arc<Hub>,
    connection: ConnectionRef,
    channel: ChannelName,
    frame: Frame,
    sender: SocketId,
) {
    let outgoing =
        Outgoing { channel: &channel, frame, except: Some(sender), remember: Duration::ZERO };
    if cluster.whisper(&hub, outgoing).await.is_err() {
        let message =
            format!("The client event on {channel} may not have been delivered: try again later");
        hub.tell(connection, event::error(None, &message));
    }
}

fn publish_here(hub: &Hub, events: &[Event<'_>], now: Instant) -> (Vec<Counts>, ShardSet) {
    let mut shards = ShardSet::default();
    let mut counts = Vec::new();
    for event in events {
        for channel in &event.channels {
            let frame = event::published(&event.name, channel, &event.data, now);
            let cached = Some(ToCache(&event.data));
            let published = hub.publish(channel, &frame, event.except, cached, now);
            shards = shards.union(published.shards);
            counts.push(published.counts);
        }
    }
    (counts, shards)
}
