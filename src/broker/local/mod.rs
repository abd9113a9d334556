//! A single node: the hub has all subscribers, and decides at once.

use super::{AcceptedClientEvent, AppEvent, SubscribeRequest};
use crate::{
    config::WebhookEvent,
    hub::{Counts, Hub, ShardSet, Subscribed, ToCache},
    protocol::{ChannelName, SubscriptionRefusal, event},
};
use std::time::Instant;

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
