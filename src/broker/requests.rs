//! The requests that both brokers take.

use super::{IdempotencyKey, LogRequest, PublishId};
use crate::{
    hub::{ConnectionRef, HubEvent},
    protocol::{ChannelName, EventData, Frame, Member, SocketId, event},
};
use std::{borrow::Cow, sync::Arc, time::Instant};

/// An event of the application.
#[derive(Debug)]
pub struct AppEvent<'a> {
    /// The event's name, at most `max_event_name_length` characters.
    pub name: Cow<'a, str>,
    /// The event's data, at most `max_event_bytes`.
    pub data: EventData<'a>,
    /// The channels, without duplicates.
    pub channels: Vec<ChannelName>,
    /// The connection that does not receive the event: usually the one whose action caused it.
    pub except: Option<SocketId>,
    /// With a key, a channel that has received the event under this key does not receive it again.
    pub idempotency_key: Option<IdempotencyKey<'a>>,
}

/// An accepted client event.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedClientEvent<'a> {
    /// The connection that sent it.
    pub connection: ConnectionRef,
    /// The channel that it was sent on.
    pub channel: &'a ChannelName,
    /// The event's name, which begins with `client-`.
    pub name: &'a str,
    /// The event's data as the client sent it.
    pub data: &'a EventData<'a>,
    /// The socket id of the sender, which does not receive its own event.
    pub sender: SocketId,
    /// On a presence channel, the member that sent it.
    pub user_id: Option<&'a Arc<str>>,
}

/// A request of a connection to subscribe.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeRequest<'a> {
    /// The connection that receives the result.
    pub connection: ConnectionRef,
    /// The connection's socket id.
    pub socket_id: SocketId,
    /// Identifies the request if its result arrives later.
    pub ticket: u32,
    /// The channel, which the connection may subscribe to.
    pub channel: &'a ChannelName,
    /// On a presence channel, the member that joins.
    pub member: &'a Option<Member>,
    /// How it uses the channel's log.
    pub log: LogRequest<'a>,
}

/// The messages for a connection that has signed in.
#[derive(Debug)]
pub struct SignInMessages {
    /// The `pusher:signin_success` message.
    pub success: Frame,
    /// The online state of the watched users, if there are any and it is known at once.
    pub watchlist: Option<Frame>,
}

impl AppEvent<'_> {
    /// The id of the publish on a channel, if the event has a key.
    pub(super) fn publish_id(&self, channel: &ChannelName) -> Option<PublishId> {
        self.idempotency_key.as_ref().map(|key| key.publish_id(channel, &self.name))
    }
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
