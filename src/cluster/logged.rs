//! What of a topic is logged for the application to be told.

use super::{manager::Manager, names::Subject, partition::Partition};
use crate::{config::WebhookEvent as Kind, hub::Hub, protocol::ChannelName};
use std::sync::Arc;

/// What of a topic the application wants to be told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Wanted {
    /// When the total turns from none to some and back.
    turns: bool,
    members: bool,
    counts: bool,
}

impl Wanted {
    pub(super) fn of(hub: &Hub, subject: &Subject) -> Self {
        match subject {
            Subject::Channel(channel) if channel.server_to_user().is_none() => Self {
                turns: hub.wants(Kind::ChannelOccupied),
                members: channel.is_presence() && hub.wants(Kind::MemberAdded),
                counts: is_counted(hub, channel) && hub.wants(Kind::SubscriptionCount),
            },
            Subject::User(_) => Self { turns: hub.wants(Kind::UserOnline), ..Self::default() },
            Subject::Channel(_) | Subject::Connections => Self::default(),
        }
    }

    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// The flags of `sync.lua`.
    pub(super) fn flags(self) -> impl Iterator<Item = char> {
        let flags = [(self.turns, 'w'), (self.members, 'm'), (self.counts, 'n')];
        flags.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, flag)| flag)
    }
}

fn is_counted(hub: &Hub, channel: &ChannelName) -> bool {
    hub.app().config.subscription_count && !channel.is_presence()
}

impl Manager {
    /// Has what the log of a partition has be brought to the app's.
    #[expect(clippy::unused_self, reason = "the next commit brings it to the app's log")]
    pub(super) fn on_logged(&self, _app_id: &Arc<str>, _partition: Partition) {}
}
