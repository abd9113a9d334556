//! Who on this shard is subscribed to which channel.

use crate::{hub::ChannelId, protocol::SocketId};
use std::collections::HashMap;

/// The subscribers of each channel that has some here, side by side in memory: handing an event
/// to all of them is one linear walk.
#[derive(Debug, Default)]
pub(super) struct Subscribers(HashMap<ChannelId, Vec<Subscriber>>);

/// What the walk needs of a subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscriber {
    /// Only what is later in the channel's sequence is for it.
    pub(super) since: u64,
    pub(super) socket_id: SocketId,
    /// The connection's place in the slab.
    pub(super) connection: u32,
}

/// Where a subscriber stands, which its session keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) channel: ChannelId,
    index: u32,
}

impl Subscribers {
    pub(super) fn add(&mut self, channel: ChannelId, subscriber: Subscriber) -> Place {
        let list = self.0.entry(channel).or_default();
        let index = u32::try_from(list.len()).expect("a shard has fewer connections");
        list.push(subscriber);
        Place { channel, index }
    }

    /// Ends a subscription. Gives the connection that stands in its place now, and must be told.
    pub(super) fn remove(&mut self, place: Place) -> Option<u32> {
        let list = self.0.get_mut(&place.channel)?;
        list.swap_remove(place.index as usize);
        let moved = list.get(place.index as usize).map(|subscriber| subscriber.connection);
        if list.is_empty() {
            self.0.remove(&place.channel);
        } else if list.len() * 4 < list.capacity() {
            list.shrink_to(list.len() * 2);
        }
        moved
    }

    pub(super) fn of(&self, channel: ChannelId) -> &[Subscriber] {
        self.0.get(&channel).map_or(&[], Vec::as_slice)
    }
}
