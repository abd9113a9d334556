//! Identifies the channel, member or user of events.

use crate::{hub::HubEvent, protocol::ChannelName};
use std::{fmt, sync::Arc};

/// The channel, member or user whose events cancel each other. Members are ordered before channels.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum DebounceKey {
    Member(ChannelName, Arc<str>),
    User(Arc<str>),
    /// The subscription count of a channel.
    Count(ChannelName),
    Channel(ChannelName),
}

impl DebounceKey {
    /// The key of an event; `None` if the event is never delayed.
    pub(super) fn of(hub_event: &HubEvent) -> Option<Self> {
        Some(match hub_event {
            HubEvent::Occupied { channel } | HubEvent::Vacated { channel } => {
                Self::Channel(channel.clone())
            }
            HubEvent::MemberAdded { channel, user_id }
            | HubEvent::MemberRemoved { channel, user_id } => {
                Self::Member(channel.clone(), Arc::clone(user_id))
            }
            HubEvent::UserOnline { user_id } | HubEvent::UserOffline { user_id } => {
                Self::User(Arc::clone(user_id))
            }
            HubEvent::SubscriptionCount { channel, .. } => Self::Count(channel.clone()),
            HubEvent::ClientEvent { .. } | HubEvent::CacheMiss { .. } => return None,
        })
    }
}

/// The name of the key's delayed event in Redis. Channel names contain no space.
impl fmt::Display for DebounceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(channel, user_id) => write!(formatter, "m {channel} {user_id}"),
            Self::User(user_id) => write!(formatter, "u {user_id}"),
            Self::Count(channel) => write!(formatter, "n {channel}"),
            Self::Channel(channel) => write!(formatter, "c {channel}"),
        }
    }
}
