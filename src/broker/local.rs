//! A single node: the hub has all subscribers, and decides at once.

use super::{AcceptedClientEvent, AppEvent, SubscribeRequest};
use crate::{
    config::WebhookEvent,
    hub::{Counts, Hub, HubEvent, ShardSet, Subscribed, ToCache},
    protocol::{ChannelName, Frame, SubscriptionRefusal, event},
};
use std::{sync::Arc, time::Instant};

pub(super) fn subscribe(
    hub: &Hub,
    request: SubscribeRequest<'_>,
    now: Instant,
) -> Result<Subscribed, SubscriptionRefusal> {
    let SubscribeRequest { connection, channel, member, .. } = request;
    hub.subscribe(connection.shard, channel, member.as_ref(), now)
}

pub(super) fn publish(hub: &Hub, events: &[AppEvent<'_>], now: Instant) -> (Vec<Counts>, ShardSet) {
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

pub(super) fn publish_client_event(hub: &Hub, event: AcceptedClientEvent<'_>, now: Instant) {
    hub.publish(event.channel, &event.frame(now), Some(event.sender), None, now);
    hub.observe(WebhookEvent::ClientEvent, || event.hub_event());
}

impl AcceptedClientEvent<'_> {
    /// The event as clients receive it.
    pub(super) fn frame(&self, now: Instant) -> Frame {
        let user_id = self.user_id.map(|id| &**id);
        event::client_event(self.name, self.channel, self.data, user_id, now)
    }

    /// The event as webhooks report it.
    pub(super) fn hub_event(&self) -> HubEvent {
        HubEvent::ClientEvent {
            channel: self.channel.clone(),
            name: self.name.to_owned(),
            data: self.data.token().to_owned(),
            socket_id: self.sender,
            user_id: self.user_id.map(Arc::clone),
        }
    }
}
