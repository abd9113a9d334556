//! The members of a presence channel: users, each with at least one connection.

use crate::protocol::{ChannelName, Frame, Member, SubscriptionRejection, event};
use std::{collections::BTreeMap, sync::Arc};

/// The distinct users of a presence channel, each with its number of connections. On a single node
/// these are all connections, in a cluster those of one node.
#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<Arc<str>, RosterMember>,
    /// The frame for new subscribers, encoded once and valid until the members change.
    succeeded_frame: Option<Frame>,
}

#[derive(Debug)]
struct RosterMember {
    user_info: Arc<str>,
    connections: usize,
}

impl Roster {
    /// Adds a connection of `member`. Returns true for the user's first one, whose `user_info` is
    /// kept.
    ///
    /// # Errors
    ///
    /// The channel has `max` members and the user is not one of them.
    pub fn join(&mut self, member: &Member, max: usize) -> Result<bool, SubscriptionRejection> {
        if let Some(entry) = self.members.get_mut(&member.user_id) {
            entry.connections += 1;
            return Ok(false);
        }
        if max <= self.members.len() {
            return Err(SubscriptionRejection::RosterFull { max });
        }
        let entry = RosterMember { user_info: Arc::clone(&member.user_info), connections: 1 };
        self.members.insert(Arc::clone(&member.user_id), entry);
        self.succeeded_frame = None;
        Ok(true)
    }

    /// Adds a connection of a member that the broker has accepted. Returns true for the user's first.
    pub fn add(&mut self, member: &Member) -> bool {
        self.join(member, usize::MAX) == Ok(true)
    }

    /// Removes a connection of `user_id`. Returns true for the user's last.
    pub fn leave(&mut self, user_id: &str) -> bool {
        let Some(entry) = self.members.get_mut(user_id) else { return false };
        entry.connections -= 1;
        if 0 < entry.connections {
            return false;
        }
        self.succeeded_frame = None;
        self.members.remove(user_id).is_some()
    }

    /// Whether the user has a connection.
    #[must_use]
    pub fn contains(&self, user_id: &str) -> bool {
        self.members.contains_key(user_id)
    }

    /// The number of distinct users.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The channel's `subscription_succeeded` frame with all members.
    pub fn succeeded_frame(&mut self, channel: &ChannelName) -> Frame {
        let members = self.members.iter().map(|(user_id, member)| (user_id, &member.user_info));
        let encode = || event::presence_succeeded(channel, members);
        self.succeeded_frame.get_or_insert_with(encode).clone()
    }

    /// The ids and the `user_info` of the members, sorted by id.
    pub fn members(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> + Clone {
        self.members.iter().map(|(user_id, entry)| (user_id, &entry.user_info))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(user_id: &str, info: &str) -> Member {
        Member { user_id: user_id.into(), user_info: info.into() }
    }

    #[test]
    fn a_user_with_two_connections_joins_and_leaves_once() {
        let mut roster = Roster::default();
        assert_eq!(roster.join(&member("1", "first"), 9), Ok(true));
        assert_eq!(roster.join(&member("1", "second"), 9), Ok(false));
        assert_eq!(roster.members().map(|(_, info)| &**info).collect::<Vec<_>>(), ["first"]);
        assert!(!roster.leave("1"));
        assert!(roster.leave("1"));
        assert!(!roster.leave("1"));
        assert_eq!(roster.count(), 0);
    }

    #[test]
    fn a_full_roster_admits_only_its_members() {
        let mut roster = Roster::default();
        assert_eq!(roster.join(&member("1", ""), 2), Ok(true));
        assert_eq!(roster.join(&member("2", ""), 2), Ok(true));
        let full = SubscriptionRejection::RosterFull { max: 2 };
        assert_eq!(roster.join(&member("3", ""), 2), Err(full));
        assert_eq!(roster.join(&member("1", ""), 2), Ok(false));
    }

    #[test]
    fn accepted_members_are_added_without_a_limit() {
        let mut roster = Roster::default();
        assert!(roster.add(&member("1", "first")) && !roster.add(&member("1", "second")));
        assert!(roster.contains("1") && !roster.contains("2"));
        assert_eq!(roster.members().map(|(_, info)| &**info).collect::<Vec<_>>(), ["first"]);
        assert!(!roster.leave("1") && roster.contains("1"));
        assert!(roster.leave("1") && !roster.contains("1"));
    }

    #[test]
    fn the_acknowledgement_is_encoded_once_until_the_members_change() {
        let channel = ChannelName::parse("presence-r", 200).unwrap();
        let mut roster = Roster::default();
        let mut encoded = |change: &dyn Fn(&mut Roster)| {
            let before = roster.succeeded_frame(&channel);
            change(&mut roster);
            let after = roster.succeeded_frame(&channel);
            assert_eq!(
                before.bytes() == after.bytes(),
                std::ptr::eq(before.bytes(), after.bytes())
            );
            !std::ptr::eq(before.bytes(), after.bytes())
        };
        assert!(encoded(&|roster| assert_eq!(roster.join(&member("1", "{}"), 2), Ok(true))));
        assert!(!encoded(&|roster| assert_eq!(roster.join(&member("1", "{}"), 2), Ok(false))));
        assert!(!encoded(&|roster| assert!(!roster.leave("1"))));
        assert!(encoded(&|roster| assert_eq!(roster.join(&member("2", "{}"), 2), Ok(true))));
        assert!(!encoded(&|roster| assert!(roster.join(&member("3", "{}"), 2).is_err())));
        assert!(encoded(&|roster| assert!(roster.leave("1"))));
        assert!(!encoded(&|roster| assert!(!roster.leave("1"))));
    }
}
