//! A channel of this node: which shards have subscribers, and the order of its deliveries.

use super::{ChannelId, Delivery, Hub, Inboxes, ShardIndex, ShardSet};
use crate::{
    channel::ChannelState,
    protocol::{ChannelName, Frame, SocketId},
};
use dashmap::mapref::one::RefMut;
use std::sync::atomic::Ordering;

/// A channel with subscribers on this node. Their shards have the list of the connections.
#[derive(Debug)]
pub(super) struct Channel {
    id: ChannelId,
    sequence: u64,
    /// The number of subscribers by shard, including those that their shard has not registered yet.
    by_shard: Vec<u32>,
    /// The shards with subscribers.
    shards: ShardSet,
    /// The state that the local broker keeps for the channel. The hub does not use it.
    state: ChannelState,
}

/// A locked channel. Deliveries made under the lock reach all subscribers in one order. While a
/// thread holds it, it must not call a method of the hub that reads or locks a channel, this one
/// included.
#[derive(Debug)]
pub struct LockedChannel<'a> {
    pub(super) hub: &'a Hub,
    pub(super) name: &'a ChannelName,
    pub(super) channel: RefMut<'a, ChannelName, Channel>,
}

impl Channel {
    pub(super) fn new(id: ChannelId) -> Self {
        Self {
            id,
            sequence: 0,
            by_shard: Vec::new(),
            shards: ShardSet::default(),
            state: ChannelState::default(),
        }
    }

    pub(super) fn id(&self) -> ChannelId {
        self.id
    }

    /// The sequence of the latest delivery.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The number of subscribers on this node.
    pub(super) fn subscriptions(&self) -> u64 {
        self.by_shard.iter().copied().map(u64::from).sum()
    }

    pub(super) fn shards(&self) -> ShardSet {
        self.shards
    }

    pub(super) fn state(&self) -> &ChannelState {
        &self.state
    }

    pub(super) fn has_no_subscribers(&self) -> bool {
        self.shards.is_empty()
    }

    fn deliver(&mut self, inboxes: &Inboxes, frame: &Frame, except: Option<SocketId>, logged: u64) {
        self.sequence += 1;
        for shard in self.shards.iter() {
            inboxes.inbox(shard).push(Delivery::Channel {
                channel: self.id,
                sequence: self.sequence,
                frame: frame.clone(),
                except,
                logged,
            });
        }
    }

    pub(super) fn add_subscriber(&mut self, shard: ShardIndex) {
        if self.by_shard.len() <= shard.get() {
            self.by_shard.resize(shard.get() + 1, 0);
        }
        self.by_shard[shard.get()] += 1;
        self.shards.insert(shard);
    }

    pub(super) fn remove_subscriber(&mut self, shard: ShardIndex) {
        let of_shard = &mut self.by_shard[shard.get()];
        *of_shard -= 1;
        if *of_shard == 0 {
            self.shards.remove(shard);
        }
    }
}

impl<'a> LockedChannel<'a> {
    /// The name that the channel was locked by.
    #[must_use]
    pub fn name(&self) -> &'a ChannelName {
        self.name
    }

    /// Identifies the channel to the shards. Not reused.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.channel.id
    }

    /// The sequence of the latest delivery.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.channel.sequence
    }

    /// The shards with subscribers.
    #[must_use]
    pub fn shards(&self) -> ShardSet {
        self.channel.shards
    }

    /// The state that the local broker keeps for the channel; unused with Redis.
    pub fn state(&mut self) -> &mut ChannelState {
        &mut self.channel.state
    }

    /// Pushes `frame` to the shards with subscribers, which deliver it to all except `except`. The
    /// order of these calls is the channel's order.
    pub fn deliver(&mut self, frame: &Frame, except: Option<SocketId>) {
        self.channel.deliver(&self.hub.inboxes, frame, except, 0);
    }

    /// Like [`LockedChannel::deliver`], for an event that has the sequence `logged` in the channel's log; 0
    /// if it is not in one.
    pub fn deliver_logged(&mut self, frame: &Frame, except: Option<SocketId>, logged: u64) {
        self.channel.deliver(&self.hub.inboxes, frame, except, logged);
    }

    /// Adds a subscriber on a shard. It receives the deliveries with later sequences.
    pub fn add_subscriber(&mut self, shard: ShardIndex) {
        if self.channel.has_no_subscribers() && self.name.is_listed() {
            self.hub.channel_count.fetch_add(1, Ordering::Relaxed);
        }
        self.hub.subscription_count.fetch_add(1, Ordering::Relaxed);
        self.channel.add_subscriber(shard);
    }

    /// Removes a subscriber on a shard.
    pub fn remove_subscriber(&mut self, shard: ShardIndex) {
        self.channel.remove_subscriber(shard);
        self.hub.subscription_count.fetch_sub(1, Ordering::Relaxed);
        if self.channel.has_no_subscribers() && self.name.is_listed() {
            self.hub.channel_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Unlocks the channel, and removes it from the hub if it has no subscribers.
    pub fn remove_if_empty(self) {
        let Self { hub, name, channel } = self;
        let is_empty = channel.has_no_subscribers();
        drop(channel);
        if is_empty {
            hub.channels.remove_if(name, |_, channel| channel.has_no_subscribers());
        }
    }
}
