//! The subscriptions of the connections of one server.

use super::{
    replies::{Bytes, bulk},
    server::ConnectionId,
};
use redis::{PushKind, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The subscribed channels, with their subscribers.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    channels: BTreeMap<Bytes, BTreeSet<ConnectionId>>,
    shard_channels: BTreeMap<Bytes, BTreeSet<ConnectionId>>,
    /// Pushes to connections, in order.
    pub(super) pushes: Vec<(ConnectionId, Value)>,
    /// Messages published on shard channels, for the replicas.
    pub(super) published: Vec<(Bytes, Bytes)>,
}

/// The namespace of a channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Space {
    /// The namespace of `SUBSCRIBE` and `PUBLISH`.
    Global,
    /// The namespace of `SSUBSCRIBE` and `SPUBLISH`.
    Shard,
}

impl Subscriptions {
    fn space(&mut self, space: Space) -> &mut BTreeMap<Bytes, BTreeSet<ConnectionId>> {
        match space {
            Space::Global => &mut self.channels,
            Space::Shard => &mut self.shard_channels,
        }
    }

    fn count(&mut self, space: Space, connection: ConnectionId) -> Value {
        let channels = self.space(space).values();
        super::replies::int(channels.filter(|of| of.contains(&connection)).count())
    }

    /// Subscribes a connection, and returns the confirmation.
    pub(super) fn subscribe(
        &mut self,
        space: Space,
        connection: ConnectionId,
        channel: &Bytes,
    ) -> Value {
        self.space(space).entry(channel.clone()).or_default().insert(connection);
        let kind = match space {
            Space::Global => PushKind::Subscribe,
            Space::Shard => PushKind::SSubscribe,
        };
        let count = self.count(space, connection);
        Value::Push { kind, data: vec![bulk(channel.clone()), count] }
    }

    /// Unsubscribes a connection, and returns the confirmation, which is sent in any case.
    pub(super) fn unsubscribe(
        &mut self,
        space: Space,
        connection: ConnectionId,
        channel: Option<&Bytes>,
    ) -> Value {
        if let Some(channel) = channel
            && let Some(subscribers) = self.space(space).get_mut(channel)
        {
            subscribers.remove(&connection);
            if subscribers.is_empty() {
                self.space(space).remove(channel);
            }
        }
        let kind = match space {
            Space::Global => PushKind::Unsubscribe,
            Space::Shard => PushKind::SUnsubscribe,
        };
        let count = self.count(space, connection);
        Value::Push { kind, data: vec![super::replies::bulk_or_nil(channel), count] }
    }

    /// The channels of a connection.
    pub(super) fn of(&mut self, space: Space, connection: ConnectionId) -> Vec<Bytes> {
        let channels = self.space(space).iter();
        let own = channels.filter(|(_, subscribers)| subscribers.contains(&connection));
        own.map(|(channel, _)| channel.clone()).collect()
    }

    /// Publishes to the subscribers at this server, and returns their number.
    pub(super) fn publish(&mut self, space: Space, channel: &Bytes, message: &Bytes) -> usize {
        let kind = match space {
            Space::Global => PushKind::Message,
            Space::Shard => PushKind::SMessage,
        };
        let subscribers = self.space(space).get(channel).cloned().unwrap_or_default();
        for connection in &subscribers {
            let data = vec![bulk(channel.clone()), bulk(message.clone())];
            self.pushes.push((*connection, Value::Push { kind: kind.clone(), data }));
        }
        if space == Space::Shard {
            self.published.push((channel.clone(), message.clone()));
        }
        subscribers.len()
    }

    /// Ends the subscriptions to shard channels for which `is_gone` holds, as a server does when a slot moves away.
    pub(super) fn drop_shard_channels(&mut self, is_closed: impl Fn(&[u8]) -> bool) {
        let gone: Vec<Bytes> =
            self.shard_channels.keys().filter(|name| is_closed(name)).cloned().collect();
        for channel in gone {
            for connection in self.shard_channels.get(&channel).cloned().unwrap_or_default() {
                let push = self.unsubscribe(Space::Shard, connection, Some(&channel));
                self.pushes.push((connection, push));
            }
        }
    }

    pub(super) fn is_subscriber(&self, connection: ConnectionId) -> bool {
        let mut all = self.channels.values().chain(self.shard_channels.values());
        all.any(|subscribers| subscribers.contains(&connection))
    }

    /// Removes a connection and its subscriptions.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) {
        for space in [Space::Global, Space::Shard] {
            for channel in self.of(space, connection) {
                self.unsubscribe(space, connection, Some(&channel));
            }
        }
    }
}
