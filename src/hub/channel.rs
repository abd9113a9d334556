//! One channel: its subscribers by number, its order and its roster.

use super::{ChannelId, Counts, Delivery, Hub, Inboxes, ShardIndex, ShardSet, roster::Roster};
use crate::protocol::{ChannelName, Frame, Member, SocketId, SubscriptionRefusal, event};
use std::{sync::Arc, time::Instant};

/// A channel's state on this node. It exists while the channel has subscribers, whose identity only
/// their shards know.
#[derive(Debug)]
pub(super) struct Channel {
    id: ChannelId,
    sequence: u64,
    subscribers: usize,
    /// How many of them each shard has: it may not know of some yet that are on their way to it.
    by_shard: Vec<u32>,
    /// The shards that have some.
    shards: ShardSet,
    roster: Option<Box<Roster>>,
    count: CountNotice,
    /// The subscribers of all nodes, where there are others.
    total: Option<usize>,
}

/// What the subscribers have been told of their number.
#[derive(Debug, Default)]
struct CountNotice {
    /// The last number told, and when.
    told: Option<(usize, Instant)>,
    /// Whether a later notice is planned.
    is_planned: bool,
}

impl Channel {
    pub(super) fn new(id: ChannelId) -> Self {
        Self {
            id,
            sequence: 0,
            subscribers: 0,
            by_shard: Vec::new(),
            shards: ShardSet::default(),
            roster: None,
            count: CountNotice::default(),
            total: None,
        }
    }

    pub(super) fn id(&self) -> ChannelId {
        self.id
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn subscribers(&self) -> usize {
        self.subscribers
    }

    pub(super) fn shards(&self) -> ShardSet {
        self.shards
    }

    pub(super) fn counts(&self) -> Counts {
        let users = self.roster.as_ref().map_or(0, |roster| roster.len());
        Counts { subscriptions: self.subscribers, users }
    }

    pub(super) fn is_disposable(&self) -> bool {
        self.subscribers == 0
    }

    /// Hands `frame` to the shards with subscribers; the channel's order is the order of these
    /// calls.
    pub(super) fn deliver(&mut self, inboxes: &Inboxes, frame: &Frame, except: Option<SocketId>) {
        self.sequence += 1;
        for shard in self.shards.iter() {
            inboxes.of(shard).push(Delivery::Channel {
                channel: self.id,
                sequence: self.sequence,
                frame: frame.clone(),
                except,
            });
        }
    }

    pub(super) fn add_subscriber(&mut self, shard: ShardIndex) {
        self.subscribers += 1;
        if self.by_shard.len() <= shard.get() {
            self.by_shard.resize(shard.get() + 1, 0);
        }
        self.by_shard[shard.get()] += 1;
        self.shards.insert(shard);
    }

    pub(super) fn remove_subscriber(&mut self, shard: ShardIndex) {
        self.subscribers -= 1;
        let of_shard = &mut self.by_shard[shard.get()];
        *of_shard -= 1;
        if *of_shard == 0 {
            self.shards.remove(shard);
        }
        if self.subscribers == 0 {
            // Whoever comes next has been told nothing.
            self.count.told = None;
        }
    }

    /// Puts `member` on the roster; gives the `member_added` for the others if the user is new.
    pub(super) fn join(
        &mut self,
        name: &ChannelName,
        member: Option<&Member>,
        max: usize,
    ) -> Result<Option<Frame>, SubscriptionRefusal> {
        let Some(member) = member else { return Ok(None) };
        let is_new = self.roster.get_or_insert_default().join(member, max)?;
        Ok(is_new.then(|| event::member_added(name, member)))
    }

    /// Takes a connection of `user_id` off the roster; gives the `member_removed` for those who
    /// remain if it was the user's last.
    pub(super) fn leave(&mut self, name: &ChannelName, user_id: &str) -> Option<Frame> {
        let was_last = self.roster.as_mut().is_some_and(|roster| roster.leave(user_id));
        was_last.then(|| event::member_removed(name, user_id))
    }

    pub(super) fn acknowledgement(&mut self, name: &ChannelName) -> Frame {
        match &mut self.roster {
            Some(roster) => roster.acknowledgement(name),
            None => event::subscription_succeeded(name),
        }
    }

    pub(super) fn users(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let members = self.roster.iter().flat_map(|roster| roster.members());
        members.map(|(id, info)| (Arc::clone(id), Arc::clone(info))).collect()
    }

    /// Tells the subscribers their number, if it is another than they know, and says what was told.
    ///
    /// # Errors
    ///
    /// It is too early; a notice is to be planned for the time given.
    pub(super) fn announce_count(
        &mut self,
        inboxes: &Inboxes,
        name: &ChannelName,
        now: Instant,
    ) -> Result<Option<usize>, Instant> {
        let told = self.count.told;
        let count = self.total.unwrap_or(self.subscribers);
        if told.is_some_and(|(told, _)| told == count) || self.count.is_planned {
            return Ok(None);
        }
        let not_before = told.map(|(_, at)| at + Hub::COUNT_INTERVAL).filter(|at| now < *at);
        if let Some(not_before) = not_before
            && Hub::COUNT_UNTHROTTLED_MAX < count
        {
            self.count.is_planned = true;
            return Err(not_before);
        }
        self.count.told = Some((count, now));
        let frame = event::subscription_count(name, count);
        self.deliver(inboxes, &frame, None);
        Ok(Some(count))
    }

    /// Learns how many subscribers all nodes have.
    pub(super) fn set_total(&mut self, total: usize) {
        self.total = Some(total);
    }

    /// Learns it from a subscriber that is told by itself; the first there is sets what was told.
    pub(super) fn knows_total(&mut self, total: usize, now: Instant) {
        self.total = Some(total);
        self.count.told.get_or_insert((total, now));
    }

    /// The planned notice's time has come.
    pub(super) fn count_is_due(&mut self) {
        self.count.is_planned = false;
    }
}
