//! Subscriptions and sign-ins, on this node or through the cluster.

use super::Node;
use crate::{
    hub::{ConnectionRef, Hub, ShardIndex, SignedIn, Subscribed},
    protocol::{ChannelName, Member, SubscriptionRefusal, User},
};
use std::{sync::Arc, time::Instant};

/// A request of a connection to subscribe.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeRequest<'a> {
    /// The connection that receives the result.
    pub connection: ConnectionRef,
    /// Identifies the request if its result arrives later.
    pub ticket: u32,
    /// The channel, which the connection may subscribe to.
    pub channel: &'a ChannelName,
    /// On a presence channel, the member that joins.
    pub member: &'a Option<Member>,
}

impl Node {
    /// Subscribes a connection. `None` if the broker decides: the result is then delivered to the
    /// inbox of the connection's shard.
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

    /// Signs a connection in. `before` is its previous sign-in: the same user, possibly with
    /// another watchlist. With a broker, the state of the watchlist is delivered later.
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

    /// Signs a connection out that was signed in as `user`.
    pub fn sign_out(&self, hub: &Hub, connection: ConnectionRef, user: &User, now: Instant) {
        let Some(cluster) = &self.cluster else { return hub.sign_out(connection, user, now) };
        cluster.sign_out(connection);
        hub.sign_out(connection, &without_watchlist(user), now);
    }
}

/// The user without its watchlist, for a hub whose watchlists the cluster handles.
fn without_watchlist(user: &User) -> User {
    User { watchlist: Vec::new(), ..user.clone() }
}
