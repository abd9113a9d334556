//! The events of an app that webhooks may report.

use crate::{
    config::WebhookEvent,
    protocol::{ChannelName, SocketId},
};
use std::{fmt, sync::Arc};

/// An event that the application may be notified of.
///
/// Events are not debounced here: a client that leaves and returns at once causes two.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HubEvent {
    /// The channel has its first subscriber.
    Occupied {
        /// The channel, of any kind except server-to-user.
        channel: ChannelName,
    },
    /// The channel has lost its last subscriber.
    Vacated {
        /// The channel, of any kind except server-to-user.
        channel: ChannelName,
    },
    /// The first connection of a user has joined a presence channel.
    MemberAdded {
        /// The presence channel that the user joined.
        channel: ChannelName,
        /// The id of the joined user, at most 128 characters.
        user_id: Arc<str>,
    },
    /// The last connection of a user has left a presence channel.
    MemberRemoved {
        /// The presence channel that the user left.
        channel: ChannelName,
        /// The id of the user that left.
        user_id: Arc<str>,
    },
    /// A client event was accepted.
    ClientEvent {
        /// The channel that it was sent on.
        channel: ChannelName,
        /// The event's name, which begins with `client-`.
        name: String,
        /// The event's data as a JSON token, a string or `null`: the value of
        /// [`EventData::token`](crate::protocol::EventData::token).
        data: String,
        /// The connection that sent it.
        socket_id: SocketId,
        /// On a presence channel, the member that sent it.
        user_id: Option<Arc<str>>,
    },
    /// A client has subscribed to a cache channel without a cached event.
    CacheMiss {
        /// The cache channel.
        channel: ChannelName,
    },
    /// The number of subscribers of a channel has changed. With Redis, each change is reported, and
    /// the webhooks limit the rate.
    SubscriptionCount {
        /// The channel, which is not a presence channel.
        channel: ChannelName,
        /// The number of subscribers.
        count: usize,
    },
    /// A user has signed in with its first connection.
    UserOnline {
        /// The id of the user that is online now.
        user_id: Arc<str>,
    },
    /// A user has had no connection for [`OFFLINE_GRACE`](crate::channel::OFFLINE_GRACE).
    UserOffline {
        /// The id of the user that is offline now.
        user_id: Arc<str>,
    },
}

/// Receives the events of hubs. Apps are identified by id.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Whether events of this kind are of interest. Optional: it saves creating events that are
    /// dropped.
    fn wants(&self, app_id: &str, kind: WebhookEvent) -> bool;

    /// Handles an event. Transitions are reported under the lock of their channel or user, so they
    /// arrive in order, and this must not block.
    fn observe(&self, app_id: &str, hub_event: HubEvent);

    /// Like [`Observer::observe`], for events that Redis has decided. `at_us` is in µs since 1970, by
    /// a clock that is the same for all events of one channel or user.
    fn observe_at(&self, app_id: &str, at_us: u64, hub_event: HubEvent);
}

impl HubEvent {
    /// The kind by which webhooks are configured.
    #[must_use]
    pub fn kind(&self) -> WebhookEvent {
        match self {
            Self::Occupied { .. } => WebhookEvent::ChannelOccupied,
            Self::Vacated { .. } => WebhookEvent::ChannelVacated,
            Self::MemberAdded { .. } => WebhookEvent::MemberAdded,
            Self::MemberRemoved { .. } => WebhookEvent::MemberRemoved,
            Self::ClientEvent { .. } => WebhookEvent::ClientEvent,
            Self::CacheMiss { .. } => WebhookEvent::CacheMiss,
            Self::SubscriptionCount { .. } => WebhookEvent::SubscriptionCount,
            Self::UserOnline { .. } => WebhookEvent::UserOnline,
            Self::UserOffline { .. } => WebhookEvent::UserOffline,
        }
    }

    /// The channel of the event; `None` for events of users.
    #[must_use]
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Occupied { channel }
            | Self::Vacated { channel }
            | Self::MemberAdded { channel, .. }
            | Self::MemberRemoved { channel, .. }
            | Self::ClientEvent { channel, .. }
            | Self::CacheMiss { channel }
            | Self::SubscriptionCount { channel, .. } => Some(channel),
            Self::UserOnline { .. } | Self::UserOffline { .. } => None,
        }
    }

    /// The user of the event, if it has one.
    #[must_use]
    pub fn user_id(&self) -> Option<&Arc<str>> {
        match self {
            Self::MemberAdded { user_id, .. }
            | Self::MemberRemoved { user_id, .. }
            | Self::UserOnline { user_id }
            | Self::UserOffline { user_id } => Some(user_id),
            Self::ClientEvent { user_id, .. } => user_id.as_ref(),
            Self::Occupied { .. }
            | Self::Vacated { .. }
            | Self::CacheMiss { .. }
            | Self::SubscriptionCount { .. } => None,
        }
    }

    /// Whether the event is one of a pair, such as occupied and vacated. If one of a pair is dropped,
    /// the application keeps a wrong state.
    #[must_use]
    pub fn is_transition(&self) -> bool {
        match self {
            Self::Occupied { .. }
            | Self::Vacated { .. }
            | Self::MemberAdded { .. }
            | Self::MemberRemoved { .. }
            | Self::UserOnline { .. }
            | Self::UserOffline { .. } => true,
            Self::ClientEvent { .. } | Self::CacheMiss { .. } | Self::SubscriptionCount { .. } => {
                false
            }
        }
    }

    /// The memory of the event, in bytes: an upper bound, since names may be shared with the hub.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let channel = self.channel().map_or(0, |channel| channel.as_str().len());
        let user_id = self.user_id().map_or(0, |user_id| user_id.len());
        let text = if let Self::ClientEvent { name, data, .. } = self {
            name.len() + data.len()
        } else {
            0
        };
        size_of::<Self>() + channel + user_id + text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name, 200).unwrap()
    }

    pub(crate) fn one_of_each() -> [HubEvent; WebhookEvent::ALL.len()] {
        let user_id: Arc<str> = "ann \"the\" 1st".into();
        let room = channel("presence-room");
        [
            HubEvent::Occupied { channel: channel("t") },
            HubEvent::Vacated { channel: channel("t") },
            HubEvent::MemberAdded { channel: room.clone(), user_id: Arc::clone(&user_id) },
            HubEvent::MemberRemoved { channel: room.clone(), user_id: Arc::clone(&user_id) },
            HubEvent::ClientEvent {
                channel: room,
                name: "client-\"x\"".into(),
                data: r#""{\"a\":1}""#.into(),
                socket_id: SocketId::from_random(0x0000_007b_0000_01c8),
                user_id: Some(Arc::clone(&user_id)),
            },
            HubEvent::CacheMiss { channel: channel("cache-x") },
            HubEvent::SubscriptionCount { channel: channel("t"), count: 13 },
            HubEvent::UserOnline { user_id: Arc::clone(&user_id) },
            HubEvent::UserOffline { user_id },
        ]
    }

    #[test]
    fn each_event_has_its_kind() {
        assert_eq!(one_of_each().map(|hub_event| hub_event.kind()), WebhookEvent::ALL);
    }

    #[test]
    fn the_memory_of_an_event_includes_its_strings() {
        let extra = |hub_event: &HubEvent| hub_event.memory_bytes() - size_of::<HubEvent>();
        assert_eq!(extra(&HubEvent::UserOnline { user_id: "ann".into() }), 3);
        assert_eq!(extra(&HubEvent::Occupied { channel: channel("news") }), 4);
        let [_, _, member, _, event, ..] = one_of_each();
        assert_eq!(extra(&member), "presence-room".len() + "ann \"the\" 1st".len());
        let texts = r#"client-"x""{\"a\":1}""#.len();
        assert_eq!(extra(&event), extra(&member) + texts);
    }
}
