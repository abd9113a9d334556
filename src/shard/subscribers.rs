//! The subscribers of this shard, by channel.

use super::log_marks::LogMarks;
use crate::{hub::ChannelId, protocol::SocketId};
use std::collections::HashMap;

/// The subscribers of each channel, contiguous in memory: delivering an event is one linear scan.
#[derive(Debug, Default)]
pub(super) struct Subscribers(HashMap<ChannelId, ChannelSubscribers>);

/// The subscribers of one channel.
#[derive(Debug, Default)]
struct ChannelSubscribers {
    list: Vec<Subscriber>,
    /// Where the channel's log is, if one of them is resumable.
    marks: Option<Box<LogMarks>>,
}

/// The data of a subscriber that a delivery needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscriber {
    /// Deliveries up to this sequence precede the subscription.
    pub(super) after_sequence: u64,
    pub(super) socket_id: SocketId,
    /// The connection's slot in the slab.
    pub(super) connection: u32,
}

/// The position of a subscriber, stored by its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SubscriberIndex {
    pub(super) channel: ChannelId,
    index: u32,
}

impl Subscriber {
    /// No delivery has a later sequence.
    const STOPPED: u64 = u64::MAX;

    /// Whether it receives nothing more: neither events nor where they are in the log.
    fn is_stopped(&self) -> bool {
        self.after_sequence == Self::STOPPED
    }
}

impl Subscribers {
    pub(super) fn add(&mut self, channel: ChannelId, subscriber: Subscriber) -> SubscriberIndex {
        let list = &mut self.0.entry(channel).or_default().list;
        let index = u32::try_from(list.len()).expect("a shard has fewer connections");
        list.push(subscriber);
        SubscriberIndex { channel, index }
    }

    /// Removes a subscriber. Returns the connection that has moved to its position, whose stored
    /// index must be updated.
    pub(super) fn remove(&mut self, position: SubscriberIndex) -> Option<u32> {
        let list = &mut self.0.get_mut(&position.channel)?.list;
        list.swap_remove(position.index as usize);
        let moved = list.get(position.index as usize).map(|subscriber| subscriber.connection);
        if list.is_empty() {
            self.0.remove(&position.channel);
        } else if list.len() * 4 < list.capacity() {
            list.shrink_to(list.len() * 2);
        }
        moved
    }

    /// The subscriber at a position.
    pub(super) fn at(&self, position: SubscriberIndex) -> Option<&Subscriber> {
        self.get(position.channel).get(position.index as usize)
    }

    /// Delivers nothing more to a subscriber.
    pub(super) fn stop(&mut self, position: SubscriberIndex) {
        if let Some(of_channel) = self.0.get_mut(&position.channel)
            && let Some(subscriber) = of_channel.list.get_mut(position.index as usize)
        {
            subscriber.after_sequence = Subscriber::STOPPED;
        }
    }

    /// The subscribers of a channel; empty if it has none on this shard.
    pub(super) fn get(&self, channel: ChannelId) -> &[Subscriber] {
        self.0.get(&channel).map_or(&[], |of_channel| of_channel.list.as_slice())
    }

    /// Remembers from now on where the log of a channel is, for a resumable subscriber. `max` is how many events it
    /// may be behind.
    pub(super) fn mark_log(&mut self, channel: ChannelId, max: usize) {
        if let Some(of_channel) = self.0.get_mut(&channel) {
            of_channel.marks.get_or_insert_default().set_max(max);
        }
    }

    /// The connection with this socket id, if the channel has resumable subscribers.
    pub(super) fn log_reader(&self, channel: ChannelId, socket_id: SocketId) -> Option<u32> {
        let of_channel = self.0.get(&channel).filter(|of_channel| of_channel.marks.is_some())?;
        let mut readers = of_channel.list.iter().filter(|subscriber| !subscriber.is_stopped());
        let found = readers.find(|subscriber| subscriber.socket_id == socket_id)?;
        Some(found.connection)
    }

    /// All connections of the channel, if it has resumable subscribers.
    pub(super) fn log_readers(&self, channel: ChannelId) -> Vec<u32> {
        let of_channel = self.0.get(&channel).filter(|of_channel| of_channel.marks.is_some());
        let lists = of_channel.map(|of_channel| &of_channel.list);
        let readers = lists.into_iter().flatten().filter(|subscriber| !subscriber.is_stopped());
        readers.map(|subscriber| subscriber.connection).collect()
    }

    /// Records that the event with this `sequence` in the channel's log is the delivery `counter` of the shard.
    pub(super) fn on_logged(&mut self, channel: ChannelId, counter: u64, sequence: u64) {
        if let Some(marks) =
            self.0.get_mut(&channel).and_then(|of_channel| of_channel.marks.as_mut())
        {
            marks.push(counter, sequence);
        }
    }

    /// The sequence of the channel's latest logged event among the deliveries up to `counter`; `None` if it
    /// is not known.
    pub(super) fn sequence_at(&self, channel: ChannelId, counter: u64) -> Option<u64> {
        self.0.get(&channel)?.marks.as_ref()?.sequence_at(counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(connection: u32) -> Subscriber {
        let socket_id = SocketId::from_random(u64::from(connection));
        Subscriber { after_sequence: 0, socket_id, connection }
    }

    #[test]
    fn removal_moves_the_last_subscriber_to_the_free_position() {
        let (one, other) = (ChannelId(1), ChannelId(2));
        let mut subscribers = Subscribers::default();
        let places: Vec<SubscriberIndex> =
            (0..4).map(|connection| subscribers.add(one, entry(connection))).collect();
        let elsewhere = subscribers.add(other, entry(9));
        let of = |subscribers: &Subscribers, channel| -> Vec<u32> {
            subscribers.get(channel).iter().map(|subscriber| subscriber.connection).collect()
        };
        assert_eq!(subscribers.remove(places[1]), Some(3));
        assert_eq!(of(&subscribers, one), [0, 3, 2]);
        assert_eq!(subscribers.remove(places[2]), None, "it was the last itself");
        assert_eq!(subscribers.remove(places[0]), Some(3));
        assert_eq!(subscribers.remove(places[0]), None);
        assert_eq!(subscribers.remove(places[0]), None, "the list is gone");
        assert_eq!(of(&subscribers, other), [9]);
        assert_eq!(subscribers.remove(elsewhere), None);
        assert!(subscribers.0.is_empty(), "a channel without subscribers takes no memory");
    }

    #[test]
    fn a_stopped_subscriber_is_no_reader_of_the_log() {
        let channel = ChannelId(1);
        let mut subscribers = Subscribers::default();
        let positions: Vec<SubscriberIndex> =
            (1..=2).map(|connection| subscribers.add(channel, entry(connection))).collect();
        let reader = |subscribers: &Subscribers, connection| {
            subscribers.log_reader(channel, entry(connection).socket_id)
        };
        assert_eq!(reader(&subscribers, 1), None, "none may resume");
        subscribers.mark_log(channel, 1);
        assert_eq!((reader(&subscribers, 1), reader(&subscribers, 3)), (Some(1), None));
        subscribers.stop(positions[0]);
        assert_eq!((reader(&subscribers, 1), reader(&subscribers, 2)), (None, Some(2)));
        assert_eq!(subscribers.log_readers(channel), [2]);
    }

    #[test]
    fn a_shrunk_list_releases_memory() {
        let channel = ChannelId(1);
        let mut subscribers = Subscribers::default();
        let first = subscribers.add(channel, entry(0));
        for connection in 1..1_000 {
            subscribers.add(channel, entry(connection));
        }
        for _ in 0..990 {
            subscribers.remove(first);
        }
        assert_eq!(subscribers.get(channel).len(), 10);
        assert!(subscribers.0[&channel].list.capacity() <= 40);
    }
}
