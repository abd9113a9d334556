//! What of a topic is logged for the application to be told.

use super::{assert::Turn, names::Subject};
use crate::{
    config::WebhookEvent as Kind,
    hub::{Hub, Occurrence},
    protocol::ChannelName,
};
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

/// Has what an assertion turned be logged by this node, where Redis can't do it in the same step.
/// The records are those that `sync.lua` writes, in the same order.
pub(super) fn log(hub: &Hub, subject: &Subject, turn: &Turn) {
    let was_here = 0 < turn.was_total;
    let is_here = 0 < turn.total;
    match subject {
        Subject::Channel(channel) if channel.server_to_user().is_none() => {
            let log = |kind, occurrence| hub.observe_at(kind, turn.at_us, || occurrence);
            let channel = || channel.clone();
            if !was_here && is_here {
                log(Kind::ChannelOccupied, Occurrence::Occupied { channel: channel() });
            }
            for user_id in &turn.removed {
                let user_id = Arc::clone(user_id);
                let removed = Occurrence::MemberRemoved { channel: channel(), user_id };
                log(Kind::MemberRemoved, removed);
            }
            for user_id in &turn.added {
                let user_id = Arc::clone(user_id);
                log(Kind::MemberAdded, Occurrence::MemberAdded { channel: channel(), user_id });
            }
            if was_here && !is_here {
                log(Kind::ChannelVacated, Occurrence::Vacated { channel: channel() });
            }
            if turn.was_total != turn.total && is_counted(hub, &channel()) {
                let count = turn.total;
                let counted = Occurrence::SubscriptionCount { channel: channel(), count };
                log(Kind::SubscriptionCount, counted);
            }
        }
        Subject::User(user_id) if was_here != is_here => {
            let user_id = Arc::clone(user_id);
            if is_here {
                let online = || Occurrence::UserOnline { user_id };
                hub.observe_at(Kind::UserOnline, turn.at_us, online);
            } else {
                let offline = || Occurrence::UserOffline { user_id };
                hub.observe_at(Kind::UserOffline, turn.at_us, offline);
            }
        }
        Subject::Channel(_) | Subject::User(_) | Subject::Connections => {}
    }
}
