//! One channel: its subscriber counts, its sequence and its members.

use super::{ChannelId, Counts, Delivery, Hub, Inboxes, ShardIndex, ShardSet};
use crate::{
    channel::Roster,
    protocol::{ChannelName, Frame, Member, SocketId, SubscriptionRefusal, event},
};
use std::{sync::Arc, time::Instant};

/// A channel's state on this node. It exists while the channel has subscribers; only their shards
/// know which connections they are.
#[derive(Debug)]
pub(super) struct Channel {
    id: ChannelId,
    sequence: u64,
    subscribers: usize,
    /// The number of subscribers by shard, including those that their shard has not registered yet.
    by_shard: Vec<u32>,
    /// The shards with subscribers.
    shards: ShardSet,
    roster: Option<Box<Roster>>,
    count: CountNotice,
}

/// The subscription count that subscribers have received.
#[derive(Debug, Default)]
struct CountNotice {
    /// The count that was sent last, and when.
    told: Option<(usize, Instant)>,
    /// Whether a delayed notice is scheduled.
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
        let users = self.roster.as_ref().map_or(0, |roster| roster.count());
        Counts { subscriptions: self.subscribers, users }
    }

    pub(super) fn is_disposable(&self) -> bool {
        self.subscribers == 0
    }

    /// Pushes `frame` to the shards with subscribers. The order of these calls is the channel's
    /// order.
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
            // New subscribers have received no count.
            self.count.told = None;
        }
    }

    /// Adds a connection of `member`. Returns `member_added` for the others if the user is new.
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

    /// Removes a connection of `user_id`. Returns `member_removed` for the others if it was the
    /// user's last.
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

    /// Sends the subscribers their count if it has changed, and returns it.
    ///
    /// # Errors
    ///
    /// It is too early. Contains the time for which a notice must be scheduled.
    pub(super) fn announce_count(
        &mut self,
        inboxes: &Inboxes,
        name: &ChannelName,
        now: Instant,
    ) -> Result<Option<usize>, Instant> {
        let told = self.count.told;
        let count = self.subscribers;
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

    /// Ends the delay of the scheduled notice.
    pub(super) fn count_is_due(&mut self) {
        self.count.is_planned = false;
    }
}
