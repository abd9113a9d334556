//! What happens in an app on this node: its busiest channels, and its slowest connections.
//!
//! Nothing is counted for this. The sequences of channels are read twice, and shards look at their
//! outboxes when they are asked.

use super::{
    ChannelId, Delivery, Hub,
    connections::{
        ConnectionFilter, ConnectionState, ConnectionWatch, ConnectionWatcher, ConnectionsQuery,
    },
    slow::{SlowConnection, SlowConnectionsQuery, largest},
};
use crate::{
    permit::Permit,
    protocol::{ChannelName, SocketId},
};
use std::collections::HashMap;
use tokio::sync::mpsc;

/// Maximum number of concurrent observations of an app.
pub(super) const CONCURRENT_MAX: usize = 4;

/// What a channel has delivered on this node in a period.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChannelActivity {
    /// The channel's name.
    pub name: ChannelName,
    /// Events that the channel delivered.
    pub events: u64,
    /// Subscribers on this node, at the end of the period.
    pub subscriptions: u64,
}

/// By what channels are compared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ActivityOrder {
    /// Messages to subscribers: events times subscriptions, which is what the server has to send.
    #[default]
    Messages,
    /// Events.
    Events,
    /// Subscriptions.
    Subscriptions,
}

/// The sequences of all channels at one time.
#[derive(Debug)]
pub struct ChannelSequences(HashMap<ChannelId, u64>);

impl ActivityOrder {
    /// The order with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "messages" => Some(Self::Messages),
            "events" => Some(Self::Events),
            "subscriptions" => Some(Self::Subscriptions),
            _ => None,
        }
    }

    /// The name of the order.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Events => "events",
            Self::Subscriptions => "subscriptions",
        }
    }

    /// The rank of a channel; the largest is first.
    #[must_use]
    pub fn rank(self, events: u64, subscriptions: u64) -> (u64, u64, u64) {
        let messages = events.saturating_mul(subscriptions);
        match self {
            Self::Messages => (messages, events, subscriptions),
            Self::Events => (events, messages, subscriptions),
            Self::Subscriptions => (subscriptions, messages, events),
        }
    }
}

impl Hub {
    /// Takes a permit to observe the activity, which costs a number for each channel.
    #[must_use]
    pub fn try_acquire_activity(&self) -> Option<Permit> {
        self.activity_quota.try_acquire()
    }

    /// The sequences of all channels.
    #[must_use]
    pub fn channel_sequences(&self) -> ChannelSequences {
        let each = self.channels.iter();
        ChannelSequences(each.map(|channel| (channel.id(), channel.sequence())).collect())
    }

    /// The number of events that a channel has delivered on this node since `before`.
    #[must_use]
    pub fn events_since(&self, before: &ChannelSequences, name: &ChannelName) -> u64 {
        let now = self.channels.get(name).map(|channel| (channel.id(), channel.sequence()));
        now.map_or(0, |(id, sequence)| {
            sequence.saturating_sub(before.0.get(&id).copied().unwrap_or_default())
        })
    }

    /// The `max` channels that were first in `order` since `before`.
    #[must_use]
    pub fn busiest_channels(
        &self,
        before: &ChannelSequences,
        order: ActivityOrder,
        max: usize,
    ) -> Vec<ChannelActivity> {
        let each = self.channels.iter().map(|channel| {
            // A channel that did not exist had delivered nothing.
            let since = before.0.get(&channel.id()).copied().unwrap_or_default();
            let events = channel.sequence().saturating_sub(since);
            let subscriptions = channel.subscriptions();
            ChannelActivity { name: channel.key().clone(), events, subscriptions }
        });
        let rank = |channel: &ChannelActivity| order.rank(channel.events, channel.subscriptions);
        let mut busiest = largest(each, max, rank);
        busiest.sort_by(|a, b| rank(b).cmp(&rank(a)).then_with(|| a.name.cmp(&b.name)));
        busiest
    }

    fn push_to_all_shards(&self, delivery: &Delivery) {
        for shard in self.inboxes.shards() {
            self.inboxes.inbox(shard).push(delivery.clone());
        }
    }

    /// Connections of this node, at most `max` of each shard. Asks each shard, and waits for all.
    pub async fn connections(&self, filter: ConnectionFilter, max: usize) -> Vec<ConnectionState> {
        let (reply, mut replies) = mpsc::unbounded_channel();
        let query = ConnectionsQuery::new(self.app_id(), filter, max, reply);
        self.push_to_all_shards(&Delivery::ReportConnections(query));
        let mut all = Vec::new();
        while let Some(of_shard) = replies.recv().await {
            all.extend(of_shard);
        }
        all
    }

    /// Watches a connection of this node.
    #[must_use]
    pub fn watch_connection(&self, socket_id: SocketId) -> ConnectionWatcher {
        let (watch, watcher) = ConnectionWatch::new(self.app_id(), socket_id);
        self.push_to_all_shards(&Delivery::WatchConnection(watch));
        watcher
    }

    /// Closes a connection of this node, as if the application had terminated its user.
    pub fn disconnect(&self, socket_id: SocketId) {
        let app_id = self.app_id();
        self.push_to_all_shards(&Delivery::Disconnect { app_id, socket_id });
    }

    /// The `max` connections with the most waiting bytes. Asks each shard, and waits for all.
    pub async fn slow_connections(&self, max: usize) -> Vec<SlowConnection> {
        let (reply, mut replies) = mpsc::unbounded_channel();
        for shard in self.inboxes.shards() {
            let query = SlowConnectionsQuery::new(self.app_id(), max, reply.clone());
            self.inboxes.inbox(shard).push(Delivery::ReportSlow(query));
        }
        drop(reply);
        let mut all = Vec::new();
        while let Some(of_shard) = replies.recv().await {
            all.extend(of_shard);
        }
        largest(all.into_iter(), max, |connection| connection.waiting_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_ranks_by_its_name() {
        let ranked = |name: &str| {
            let order = ActivityOrder::parse(name).unwrap();
            assert_eq!(order.as_str(), name);
            let channels = [("a", 10, 1), ("b", 3, 5), ("c", 1, 7)];
            largest(channels.into_iter(), 3, |(_, events, subscriptions)| {
                order.rank(*events, *subscriptions)
            })
            .map_names()
        };
        assert_eq!(ranked("messages"), "bac");
        assert_eq!(ranked("events"), "abc");
        assert_eq!(ranked("subscriptions"), "cba");
        assert_eq!(ActivityOrder::parse("name"), None);
    }

    trait MapNames {
        fn map_names(self) -> String;
    }

    impl MapNames for Vec<(&str, u64, u64)> {
        fn map_names(self) -> String {
            self.into_iter().map(|(name, ..)| name).collect()
        }
    }
}
