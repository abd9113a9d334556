//! One channel: its subscribers on this node, and their order.

use super::{ChannelId, Delivery, Hub, Inboxes, ShardIndex, ShardSet};
use crate::{
    channel::ChannelState,
    protocol::{ChannelName, Frame, SocketId},
};
use dashmap::mapref::one::RefMut;
use std::sync::atomic::Ordering;

/// A channel with subscribers on this node; only their shards know which connections they are.
#[derive(Debug)]
pub(super) struct Channel {
    id: ChannelId,
    sequence: u64,
    /// The number of subscribers by shard, including those that their shard has not registered yet.
    by_shard: Vec<u32>,
    /// The shards with subscribers.
    shards: ShardSet,
    /// The broker's, if it decides under the lock of the channel. The hub does not use it.
    state: ChannelState,
}

/// A locked channel: what is decided and delivered until it is released has one order for all
/// subscribers. While a thread has it, it must not call a method of the hub that reads or locks a
/// channel, this one included.
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

    pub(super) fn shards(&self) -> ShardSet {
        self.shards
    }

    pub(super) fn state(&self) -> &ChannelState {
        &self.state
    }

    pub(super) fn is_disposable(&self) -> bool {
        self.shards.is_empty()
    }

    fn deliver(&mut self, inboxes: &Inboxes, frame: &Frame, except: Option<SocketId>) {
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
    /// The channel's name.
    #[must_use]
    pub fn name(&self) -> &'a ChannelName {
        self.name
    }

    /// The channel's id in deliveries.
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

    /// The broker's state of the channel.
    pub fn state(&mut self) -> &mut ChannelState {
        &mut self.channel.state
    }

    /// Pushes `frame` to the shards with subscribers, which deliver it to all except `except`. The
    /// order of these calls is the channel's order.
    pub fn deliver(&mut self, frame: &Frame, except: Option<SocketId>) {
        self.channel.deliver(&self.hub.inboxes, frame, except);
    }

    /// Adds a subscriber on a shard. It receives the deliveries with later sequences.
    pub fn add_subscriber(&mut self, shard: ShardIndex) {
        if self.channel.is_disposable() && self.name.is_listed() {
            self.hub.channel_count.fetch_add(1, Ordering::Relaxed);
        }
        self.hub.subscription_count.fetch_add(1, Ordering::Relaxed);
        self.channel.add_subscriber(shard);
    }

    /// Removes a subscriber on a shard.
    pub fn remove_subscriber(&mut self, shard: ShardIndex) {
        self.channel.remove_subscriber(shard);
        self.hub.subscription_count.fetch_sub(1, Ordering::Relaxed);
        if self.channel.is_disposable() && self.name.is_listed() {
            self.hub.channel_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Unlocks the channel after a subscriber was removed. If it was the last, the hub forgets the
    /// channel.
    pub fn release(self) {
        let Self { hub, name, channel } = self;
        let is_disposable = channel.is_disposable();
        drop(channel);
        if is_disposable {
            hub.channels.remove_if(name, |_, channel| channel.is_disposable());
        }
    }
}
