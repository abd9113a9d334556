//! Begins and ends subscriptions of this shard's connections.

use super::{
    admitted::{SubscriptionHandle, SubscriptionState},
    event_loop::Shard,
    resume::log_request,
    subscribers::Subscriber,
};
use crate::{
    broker::SubscribeRequest,
    hub::RegisteredSubscription,
    protocol::{ChannelName, Member, ProtocolError, SubscriptionRejection},
    session::Subscription,
};
use std::sync::Arc;

impl Shard {
    pub(super) fn subscribe(&mut self, slot: u32, channel: ChannelName, member: Option<Member>) {
        let (connection, now) = (self.connection_ref(slot), self.now);
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        let node = Arc::clone(&self.node);
        let Some(client) = self.client(slot) else { return };
        let request = SubscribeRequest {
            connection,
            socket_id: client.session.socket_id(),
            ticket,
            channel: &channel,
            member: &member,
            log: log_request(client, &channel, now),
        };
        match node.broker().subscribe(&client.hub, request, now) {
            Some(Ok(subscribed)) => {
                let user_id = member.map(|member| member.user_id);
                self.on_subscribed(slot, &channel, user_id.as_ref(), subscribed);
            }
            Some(Err(rejection)) => self.on_rejected(slot, &channel, rejection),
            None => {
                let user_id = member.map(|member| member.user_id);
                let pending = SubscriptionHandle(SubscriptionState::Pending { ticket });
                let is_large = may_be_large(&channel);
                if let Some(resumable) = client.session.resumable_mut() {
                    resumable.ask(&channel, now);
                }
                client.session.add_subscription(channel, user_id, pending);
                if is_large {
                    // Reserved and not sent yet: it is charged to the client, but not to this turn.
                    client.session.charge(EXPECTED_RESPONSE_BYTES, now);
                }
            }
        }
    }

    pub(super) fn on_rejected(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        rejection: SubscriptionRejection,
    ) {
        let channel = channel.as_str().to_owned();
        self.report(slot, &ProtocolError::Subscription { channel, rejection });
    }

    pub(super) fn on_subscribed(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        user_id: Option<&Arc<str>>,
        subscribed: RegisteredSubscription,
    ) {
        let Some(client) = self.client(slot) else { return };
        let (socket_id, hub) = (client.session.socket_id(), Arc::clone(&client.hub));
        tracing::debug!(%socket_id, %channel, "subscribed");
        let entry =
            Subscriber { after_sequence: subscribed.after_sequence, socket_id, connection: slot };
        let index = self.subscribers.add(subscribed.channel, entry);
        let handle = SubscriptionHandle(SubscriptionState::Active(index));
        if let Some(client) = self.client(slot) {
            client.session.add_subscription(channel.clone(), user_id.cloned(), handle);
        }
        self.charge(slot, subscribed.broadcast_bytes);
        self.respond(slot, subscribed.succeeded_frame);
        if self.client(slot).is_none() {
            // It was closed: the response was too much for it.
            if subscribed.log.as_ref().is_some_and(|log| log.is_reader) {
                self.node.broker().release_log(&hub, channel, self.now);
            }
            return;
        }
        self.end_left_subscription(slot, channel, user_id);
        self.start_log(slot, channel, subscribed.channel, subscribed.log);
        for frame in subscribed.cached.into_iter().chain(subscribed.count) {
            self.respond(slot, frame);
        }
        self.tell_position(slot, channel, None);
        self.end_replaced(slot, channel, user_id);
    }

    /// Refunds the provisional charge of a subscription that waited for the broker; the client is
    /// charged for the actual size of the response.
    pub(super) fn refund_expected_response(&mut self, slot: u32, channel: &ChannelName) {
        let now = self.now;
        if may_be_large(channel)
            && let Some(client) = self.client(slot)
        {
            client.session.refund(EXPECTED_RESPONSE_BYTES, now);
        }
    }

    /// Ends a subscription that the session has removed already.
    pub(super) fn unsubscribe(
        &mut self,
        hub: &crate::hub::Hub,
        channel: &ChannelName,
        subscription: &Subscription<SubscriptionHandle>,
    ) {
        // A pending subscription is undone when its result arrives.
        if self.remove_subscriber(channel, subscription) {
            let user_id = subscription.user_id.as_ref();
            self.node.broker().unsubscribe(hub, self.index, channel, user_id, self.now);
        }
    }

    /// Removes a subscriber from this shard: it receives nothing more. Returns false if its subscription is
    /// pending.
    pub(super) fn remove_subscriber(
        &mut self,
        channel: &ChannelName,
        subscription: &Subscription<SubscriptionHandle>,
    ) -> bool {
        let SubscriptionState::Active(index) = subscription.handle.0 else { return false };
        let moved = self.subscribers.remove(index);
        if let Some(moved) = moved
            && let Some(client) = self.client(moved)
            && let Some(handle) = client.session.handle_mut(channel)
        {
            *handle = subscription.handle;
        }
        true
    }
}

/// Provisional charge for a pending response that may be large, in bytes: otherwise a client could
/// request more responses than its outbox has room for.
const EXPECTED_RESPONSE_BYTES: usize = 64 * 1024;

/// Whether the response to a subscription may be large.
fn may_be_large(channel: &ChannelName) -> bool {
    channel.is_presence() || channel.is_cache()
}
