//! Subscriptions and sign-ins, on this node alone or known to all.

use super::Node;
use crate::{
    hub::{ConnectionRef, Hub, ShardIndex, SignedIn, Subscribed},
    protocol::{ChannelName, Member, SubscriptionRefusal, User},
};
use std::{sync::Arc, time::Instant};

/// A connection that may subscribe to a channel.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeRequest<'a> {
    /// The connection.
    pub connection: ConnectionRef,
    /// Names the attempt, should it have to wait.
    pub ticket: u32,
    /// The channel.
    pub channel: &'a ChannelName,
    /// Who joins, on a presence channel.
    pub member: &'a Option<Member>,
}

impl Node {
    /// Subscribes a connection. Nothing, if that has to wait for the other nodes: what comes of it
    /// comes through the inbox of the connection's shard.
    pub fn subscribe(
        &self,
        hub: &Hub,
        request: SubscribeRequest<'_>,
        now: Instant,
    ) -> Option<Result<Subscribed, SubscriptionRefusal>> {
        let SubscribeRequest { connection, ticket, channel, member } = request;
        let Some(cluster) = &self.cluster else {
            return Some(hub.subscribe(connection.shard, channel, member.as_ref(), now));
        };
        cluster.subscribe(hub, channel, connection, ticket, member.clone());
        None
    }

    /// Ends a subscription of a shard's connection.
    pub fn unsubscribe(
        &self,
        hub: &Hub,
        shard: ShardIndex,
        channel: &ChannelName,
        user_id: Option<&Arc<str>>,
        now: Instant,
    ) {
        hub.unsubscribe(shard, channel, user_id.map(|id| &**id), now);
        if let Some(cluster) = &self.cluster {
            cluster.unsubscribe(hub, channel, user_id);
        }
    }

    /// Signs a connection in. `before` is who it was signed in as: the same user with maybe
    /// another watchlist. Where there are other nodes, the watchlist's answer comes later.
    #[must_use]
    pub fn sign_in(
        &self,
        hub: &Hub,
        connection: ConnectionRef,
        user: &User,
        user_data: &str,
        before: Option<&User>,
    ) -> SignedIn {
        let Some(cluster) = &self.cluster else {
            return hub.sign_in(connection, user, user_data, before);
        };
        cluster.sign_in(hub, connection, user);
        hub.sign_in(connection, &without_watchlist(user), user_data, None)
    }

    /// Forgets a connection that was signed in as `user`.
    pub fn sign_out(&self, hub: &Hub, connection: ConnectionRef, user: &User, now: Instant) {
        let Some(cluster) = &self.cluster else { return hub.sign_out(connection, user, now) };
        cluster.sign_out(connection);
        hub.sign_out(connection, &without_watchlist(user), now);
    }
}

/// The user as the hub is to know it where others watch over the watchlist.
fn without_watchlist(user: &User) -> User {
    User { watchlist: Vec::new(), ..user.clone() }
}
