//! A presence channel's members: users, each with one connection or more.

use crate::protocol::{Member, SubscriptionRefusal};
use std::{collections::BTreeMap, sync::Arc};

/// The members of a presence channel on this node.
#[derive(Debug, Default)]
pub(super) struct Roster(BTreeMap<Arc<str>, Present>);

#[derive(Debug)]
struct Present {
    user_info: Arc<str>,
    connections: usize,
}

impl Roster {
    /// Adds a connection of `member`. True if the user was not there before. The info of the
    /// first connection stays.
    ///
    /// # Errors
    ///
    /// A new user on a roster of `max` is refused; a connection more of one who is there never.
    pub(super) fn join(
        &mut self,
        member: &Member,
        max: usize,
    ) -> Result<bool, SubscriptionRefusal> {
        if let Some(present) = self.0.get_mut(&member.user_id) {
            present.connections += 1;
            return Ok(false);
        }
        if max <= self.0.len() {
            return Err(SubscriptionRefusal::RosterFull { max });
        }
        let present = Present { user_info: Arc::clone(&member.user_info), connections: 1 };
        self.0.insert(Arc::clone(&member.user_id), present);
        Ok(true)
    }

    /// Takes a connection of `user_id` away. True if it was the user's last.
    pub(super) fn leave(&mut self, user_id: &str) -> bool {
        let Some(present) = self.0.get_mut(user_id) else { return false };
        present.connections -= 1;
        present.connections == 0 && self.0.remove(user_id).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Ids and infos, in the order of the ids.
    pub(super) fn members(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> + Clone {
        self.0.iter().map(|(user_id, present)| (user_id, &present.user_info))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(user_id: &str, info: &str) -> Member {
        Member { user_id: user_id.into(), user_info: info.into() }
    }

    #[test]
    fn a_user_with_two_tabs_joins_and_leaves_once() {
        let mut roster = Roster::default();
        assert_eq!(roster.join(&member("1", "first"), 9), Ok(true));
        assert_eq!(roster.join(&member("1", "second"), 9), Ok(false));
        assert_eq!(roster.members().map(|(_, info)| &**info).collect::<Vec<_>>(), ["first"]);
        assert!(!roster.leave("1"));
        assert!(roster.leave("1"));
        assert!(!roster.leave("1"));
        assert_eq!(roster.len(), 0);
    }

    #[test]
    fn a_full_roster_admits_only_who_is_on_it() {
        let mut roster = Roster::default();
        assert_eq!(roster.join(&member("1", ""), 2), Ok(true));
        assert_eq!(roster.join(&member("2", ""), 2), Ok(true));
        let full = SubscriptionRefusal::RosterFull { max: 2 };
        assert_eq!(roster.join(&member("3", ""), 2), Err(full));
        assert_eq!(roster.join(&member("1", ""), 2), Ok(false));
    }
}
