//! The state of channels and users, and its transitions, without I/O, locks and delivery. A broker
//! changes the state under a lock, and delivers the transitions that a change returns.
//!
//! A single node has a [`ChannelState`] for each channel. In a cluster, Redis has the state of all
//! nodes, and a topic of the Redis broker uses the parts: a [`Roster`] of the users of its node, and
//! a [`CountThrottle`] for the total.

mod count_throttle;
mod history;
mod log;
mod online;
mod parked;
mod roster;

pub use count_throttle::{COUNT_INTERVAL, COUNT_UNTHROTTLED_MAX, CountAction, CountThrottle};
pub use history::{HistoryItem, HistoryPage, HistoryQuery};
pub use log::{
    ChannelLog, Gap, LOG_OVERHEAD_BYTES, LogLimits, LogStart, LoggedEvent, Position, ReplayLimits,
    ReplayedEvent,
};
pub use online::{OFFLINE_GRACE, OnlineState};
pub use parked::ParkedSession;
pub use roster::Roster;

use crate::{
    config::AppConfig,
    protocol::{ChannelName, Frame, Member, SubscriptionRejection, event},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The state of one channel: the number of its subscriptions, its members, and the limit of its
/// subscription counts.
#[derive(Debug, Default)]
pub struct ChannelState {
    subscriptions: usize,
    /// The members of a presence channel.
    roster: Option<Box<Roster>>,
    count_throttle: CountThrottle,
}

/// The transitions that a new subscription causes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct JoinTransitions {
    /// Whether it is the first subscription of the channel.
    pub became_occupied: bool,
    /// Whether it is the user's first subscription of a presence channel.
    pub member_added: bool,
}

/// The transitions that the end of a subscription causes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaveTransitions {
    /// Whether it was the user's last subscription of a presence channel.
    pub member_removed: bool,
    /// Whether it was the last subscription of the channel.
    pub became_vacant: bool,
}

/// The subscriptions and the distinct users of a channel, on all nodes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Subscribed connections.
    pub subscriptions: usize,
    /// Distinct users; 0 unless it is a presence channel.
    pub users: usize,
}

/// The data of one channel in responses of the HTTP API.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChannelSummary {
    /// 0 if no connection is subscribed.
    pub counts: Counts,
    /// The data of the cached event as a JSON token, and the time until it expires.
    pub cached: Option<(String, Duration)>,
}

/// Whether the subscribers of a channel receive its subscription count, if the app enables it.
#[must_use]
pub fn supports_subscription_count(channel: &ChannelName) -> bool {
    !channel.is_presence() && channel.is_listed()
}

/// Whether the subscribers of a channel receive its subscription count, with this configuration.
#[must_use]
pub fn sends_subscription_count(channel: &ChannelName, config: &AppConfig) -> bool {
    config.subscription_count && supports_subscription_count(channel)
}

impl ChannelState {
    /// Adds a subscription, on a presence channel that of `member`.
    ///
    /// # Errors
    ///
    /// [`SubscriptionRejection::RosterFull`] if the channel has `max_members`; nothing has changed.
    pub fn join(
        &mut self,
        member: Option<&Member>,
        max_members: usize,
    ) -> Result<JoinTransitions, SubscriptionRejection> {
        let member_added = match member {
            Some(member) => self.roster.get_or_insert_default().join(member, max_members)?,
            None => false,
        };
        let became_occupied = self.subscriptions == 0;
        self.subscriptions += 1;
        self.count_throttle.on_subscribed_without_count();
        Ok(JoinTransitions { became_occupied, member_added })
    }

    /// Ends a subscription, on a presence channel that of `user_id`.
    pub fn leave(&mut self, user_id: Option<&str>) -> LeaveTransitions {
        self.subscriptions -= 1;
        let roster = self.roster.as_mut();
        let member_removed =
            roster.zip(user_id).is_some_and(|(roster, user_id)| roster.leave(user_id));
        let became_vacant = self.subscriptions == 0;
        if became_vacant {
            self.count_throttle.reset();
        }
        LeaveTransitions { member_removed, became_vacant }
    }

    /// Decides whether the number of subscriptions, which may have changed, is sent now.
    pub fn count_action(&mut self, now: Instant) -> CountAction {
        self.count_throttle.action(self.subscriptions, now)
    }

    /// Ends the delay of a count that is due. Returns false if none is.
    pub fn take_due_count(&mut self, now: Instant) -> bool {
        self.count_throttle.take_due(now)
    }

    /// The number of subscriptions and of distinct users.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let users = self.roster.as_ref().map_or(0, |roster| roster.count());
        Counts { subscriptions: self.subscriptions, users }
    }

    /// The `subscription_succeeded` frame, on a presence channel with all members.
    pub fn succeeded_frame(&mut self, channel: &ChannelName) -> Frame {
        match &mut self.roster {
            Some(roster) => roster.succeeded_frame(channel),
            None => event::subscription_succeeded(channel),
        }
    }

    /// The ids and the `user_info` of the members, sorted by id.
    #[must_use]
    pub fn members(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let members = self.roster.iter().flat_map(|roster| roster.members());
        members.map(|(id, info)| (Arc::clone(id), Arc::clone(info))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(user_id: &str) -> Member {
        Member { user_id: user_id.into(), user_info: "{}".into() }
    }

    fn joined(became_occupied: bool, member_added: bool) -> JoinTransitions {
        JoinTransitions { became_occupied, member_added }
    }

    fn left(member_removed: bool, became_vacant: bool) -> LeaveTransitions {
        LeaveTransitions { member_removed, became_vacant }
    }

    #[test]
    fn the_first_and_the_last_subscription_are_transitions() {
        let mut state = ChannelState::default();
        assert_eq!(state.join(None, 1), Ok(joined(true, false)));
        assert_eq!(
            state.join(None, 1),
            Ok(joined(false, false)),
            "without members, none is rejected"
        );
        assert_eq!(state.counts(), Counts { subscriptions: 2, users: 0 });
        assert_eq!(state.leave(None), left(false, false));
        assert_eq!(state.leave(None), left(false, true));
        assert_eq!(state.join(None, 1), Ok(joined(true, false)));
    }

    #[test]
    fn the_first_and_the_last_subscription_of_a_user_are_transitions() {
        let mut state = ChannelState::default();
        let [one, two] = [member("1"), member("2")];
        assert_eq!(state.join(Some(&one), 2), Ok(joined(true, true)));
        assert_eq!(state.join(Some(&one), 2), Ok(joined(false, false)));
        assert_eq!(state.join(Some(&two), 2), Ok(joined(false, true)));
        assert_eq!(state.counts(), Counts { subscriptions: 3, users: 2 });
        let ids: Vec<String> = state.members().iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(ids, ["1", "2"]);
        assert_eq!(state.leave(Some("1")), left(false, false));
        assert_eq!(state.leave(Some("1")), left(true, false));
        assert_eq!(state.leave(Some("2")), left(true, true));
    }

    #[test]
    fn a_rejected_member_changes_nothing() {
        let mut state = ChannelState::default();
        assert_eq!(state.join(Some(&member("1")), 1), Ok(joined(true, true)));
        let full = SubscriptionRejection::RosterFull { max: 1 };
        assert_eq!(state.join(Some(&member("2")), 1), Err(full));
        assert_eq!(state.counts(), Counts { subscriptions: 1, users: 1 });
        assert_eq!(state.leave(Some("1")), left(true, true));
    }

    #[test]
    fn new_subscribers_of_a_vacated_channel_have_received_no_count() {
        let (mut state, now) = (ChannelState::default(), Instant::now());
        for _ in 0..2 {
            assert!(state.join(None, 1).is_ok());
            assert_eq!(state.count_action(now), CountAction::Send(1));
            assert_eq!(state.count_action(now), CountAction::Skip);
            state.leave(None);
        }
    }

    #[test]
    fn presence_and_server_to_user_channels_are_not_counted() {
        let counts = |name: &str, subscription_count: bool| {
            let config = AppConfig { subscription_count, ..AppConfig::development() };
            sends_subscription_count(&ChannelName::parse(name, 200).unwrap(), &config)
        };
        for name in ["a", "private-a", "cache-a"] {
            assert!(counts(name, true) && !counts(name, false), "{name}");
        }
        for name in ["presence-a", "presence-cache-a", "#server-to-user-1"] {
            assert!(!counts(name, true), "{name}");
        }
    }
}
