//! Delivers to connections what the Redis broker has decided: the results of subscriptions, forced
//! resubscriptions and the state of watched users.

use super::{AcceptedSubscription, ConnectionRef, Delivery, Hub, RegisteredSubscription};
use crate::{
    channel::LogStart,
    protocol::{ChannelName, CloseCode, Frame, SubscriptionRejection, event},
};
use std::sync::Arc;

/// The initial messages of a subscriber.
#[derive(Clone, Debug)]
pub struct InitialMessages {
    /// The `subscription_succeeded` frame.
    pub succeeded_frame: Frame,
    /// On a cache channel, the cached event or `pusher:cache_miss`.
    pub cached: Option<Frame>,
    /// Whether `cached` is `pusher:cache_miss`.
    pub is_cache_miss: bool,
    /// The number of subscribers on all nodes, if the subscriber receives it.
    pub total: Option<usize>,
    /// The bytes that other subscribers receive because of this one.
    pub broadcast_bytes: usize,
}

impl Hub {
    /// Registers a subscription that the broker has accepted, and delivers the result to the
    /// connection's shard under its `ticket`.
    pub fn accept_subscription(
        self: &Arc<Self>,
        name: &ChannelName,
        (connection, ticket): (ConnectionRef, u32),
        user_id: Option<Arc<str>>,
        initial: InitialMessages,
        log: Option<LogStart>,
    ) {
        let mut channel = self.lock_or_create(name);
        channel.add_subscriber(connection.shard);
        let subscribed = RegisteredSubscription {
            channel: channel.id(),
            after_sequence: channel.sequence(),
            succeeded_frame: initial.succeeded_frame,
            cached: initial.cached,
            count: initial.total.map(|total| event::subscription_count(name, total)),
            broadcast_bytes: initial.broadcast_bytes,
            log,
        };
        let accepted = AcceptedSubscription { hub: Arc::clone(self), user_id, subscribed };
        // Still under the lock: later deliveries are queued behind it.
        self.inboxes.inbox(connection.shard).push(Delivery::Subscription {
            key: connection.key,
            ticket,
            name: name.clone(),
            result: Ok(Box::new(accepted)),
        });
    }

    /// Delivers a rejected subscription to the connection's shard.
    pub fn reject_subscription(
        &self,
        name: &ChannelName,
        connection: ConnectionRef,
        ticket: u32,
        rejection: SubscriptionRejection,
    ) {
        self.inboxes.inbox(connection.shard).push(Delivery::Subscription {
            key: connection.key,
            ticket,
            name: name.clone(),
            result: Err(rejection),
        });
    }

    /// Closes the connections of all subscribers of a channel, so that they subscribe again.
    pub fn force_resubscribe(&self, name: &ChannelName, code: &CloseCode) {
        let Some(channel) = self.channels.get(name) else { return };
        for shard in channel.shards().iter() {
            let code = code.clone();
            self.inboxes
                .inbox(shard)
                .push(Delivery::CloseSubscribers { channel: channel.id(), code });
        }
    }

    /// Notifies watchers that a user went online or offline.
    pub fn notify_watchers(
        &self,
        watchers: impl Iterator<Item = ConnectionRef>,
        user_id: &Arc<str>,
        is_online: bool,
    ) {
        let user = [user_id];
        let frame =
            if is_online { event::watchlist(&user, &[]) } else { event::watchlist(&[], &user) };
        self.inboxes
            .push_per_shard(watchers, |keys| Delivery::Connections { keys, frame: frame.clone() });
    }

    /// Sends one connection the state of its watchlist.
    pub fn send_watchlist(
        &self,
        connection: ConnectionRef,
        online: &[Arc<str>],
        offline: &[Arc<str>],
    ) {
        self.send(connection, event::watchlist(online, offline));
    }

    /// Sends a frame to one connection.
    pub fn send(&self, connection: ConnectionRef, frame: Frame) {
        let keys = vec![connection.key];
        self.inboxes.inbox(connection.shard).push(Delivery::Connections { keys, frame });
    }
}
