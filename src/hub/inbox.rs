//! The inboxes of the shards: queues of deliveries from the hubs.

use super::{
    ChannelId, ChannelWatches, ConnectionWatch, ConnectionsQuery, Hub, RegisteredSubscription,
    SlowConnectionsQuery,
};
use crate::{
    channel::ParkedSession,
    protocol::{ChannelName, ClientName, CloseCode, Frame, SocketId, SubscriptionRejection},
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// A shard's index, below 64.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ShardIndex(u8);

/// A set of shards, as a bit mask.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShardSet(u64);

/// Identifies a connection of a shard. Slots are reused; the generation distinguishes their
/// connections.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnectionKey {
    /// The slot in the shard's slab.
    pub slot: u32,
    /// Distinguishes the connections of one slot.
    pub generation: u32,
}

/// Identifies a connection of this node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnectionRef {
    /// The shard that owns the connection.
    pub shard: ShardIndex,
    /// Unique in the shard.
    pub key: ConnectionKey,
}

/// A task that a hub gives to a shard.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A frame for the subscribers of a channel.
    Channel {
        /// Identifies the channel to the shard. Not reused.
        channel: ChannelId,
        /// The channel's sequence of this delivery, from 1.
        sequence: u64,
        /// The event, encoded for all subscribers.
        frame: Frame,
        /// The connection that does not receive it: usually the one whose action caused it.
        except: Option<SocketId>,
        /// The event's sequence in the channel's log; 0 if it is not in one.
        logged: u64,
    },
    /// A frame for individual connections.
    Connections {
        /// The connections of this shard that receive the frame.
        keys: Vec<ConnectionKey>,
        /// The event, encoded for all of them.
        frame: Frame,
    },
    /// The result of a subscription that waited for the broker.
    Subscription {
        /// The connection that subscribes.
        key: ConnectionKey,
        /// Identifies the attempt: the shard discards results of earlier ones.
        ticket: u32,
        /// The channel of the request.
        name: ChannelName,
        /// The accepted subscription, or the reason of the rejection.
        result: Result<Box<AcceptedSubscription>, SubscriptionRejection>,
    },
    /// Closes the connections of all subscribers of a channel.
    CloseSubscribers {
        /// Identifies the channel to the shard. Not reused.
        channel: ChannelId,
        /// The code to close them with.
        code: CloseCode,
    },
    /// Closes all connections of an app that was disabled or removed.
    CloseApp(Arc<Hub>),
    /// Answers which connections of an app are slow.
    ReportSlow(SlowConnectionsQuery),
    /// Answers which connections an app has.
    ReportConnections(ConnectionsQuery),
    /// Reports the messages of a connection.
    WatchConnection(ConnectionWatch),
    /// Closes a connection.
    Disconnect {
        /// The id of its app.
        app_id: Arc<str>,
        /// Its socket id.
        socket_id: SocketId,
    },
    /// Closes a connection, whose client has returned on another one.
    Replace(ConnectionKey),
    /// Gives a returning client's connection the session of the one before.
    Resume {
        /// The connection.
        key: ConnectionKey,
        /// Its client.
        client: ClientName,
        /// How it begins.
        outcome: ClaimOutcome,
    },
    /// Closes individual connections.
    Close {
        /// The connections to close.
        keys: Vec<ConnectionKey>,
        /// The code to close them with.
        code: CloseCode,
    },
    /// Closes an HTTP connection that waits for a request, for others that want to connect.
    Evict(ConnectionKey),
    /// The response to an HTTP request that has waited for the broker.
    Response {
        /// The connection.
        key: ConnectionKey,
        /// The response; empty if there is none, and the connection is to be closed.
        response: Vec<u8>,
        /// The shards that have deliveries by the request.
        reached: ShardSet,
    },
}

/// How a connection begins that has claimed the place of its client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClaimOutcome {
    /// Without a session: the client is new.
    New,
    /// With the session of the client's previous connection.
    Resumed(Box<ParkedSession>),
    /// Without resuming: another connection has the token, with another socket id.
    Refused,
}

/// A subscription that the Redis broker has accepted and the hub has registered.
#[derive(Clone, Debug)]
pub struct AcceptedSubscription {
    /// The hub that has registered the subscription.
    pub hub: Arc<Hub>,
    /// On a presence channel, the id of the member.
    pub user_id: Option<Arc<str>>,
    /// The start of the subscription, and the frames for the connection.
    pub subscribed: RegisteredSubscription,
}

/// The queue of one shard. Any thread may push without blocking; only the shard takes.
///
/// Its producers limit its length: publishers wait while the shard is behind, and no shard reads from
/// clients while any inbox is long.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<VecDeque<Delivery>>,
    /// The queue's length, readable without the lock.
    len: AtomicUsize,
    arrived: Notify,
    /// Whether the shard has taken deliveries that it has not finished.
    is_behind: AtomicBool,
    has_waiting_publishers: AtomicBool,
    caught_up: Notify,
}

/// The inboxes of all shards of the node.
#[derive(Debug)]
pub struct Inboxes {
    of_shards: Vec<Inbox>,
    ids: AtomicU64,
    watches: Arc<ChannelWatches>,
}

impl ShardIndex {
    /// Maximum number of shards of a node.
    pub const COUNT_MAX: usize = 64;

    /// Makes an index of a number.
    ///
    /// # Panics
    ///
    /// If it is [`ShardIndex::COUNT_MAX`] or more, which the configuration rules out.
    #[must_use]
    pub fn new(index: usize) -> Self {
        assert!(index < Self::COUNT_MAX, "there are at most 64 shards");
        Self(u8::try_from(index).expect("just compared"))
    }

    /// The index as a number.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl ShardSet {
    /// Adds a shard.
    pub fn insert(&mut self, shard: ShardIndex) {
        self.0 |= 1 << shard.0;
    }

    /// Removes a shard.
    pub fn remove(&mut self, shard: ShardIndex) {
        self.0 &= !(1 << shard.0);
    }

    /// Whether no shard is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The union of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The shards in ascending order.
    pub fn iter(self) -> impl Iterator<Item = ShardIndex> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let index = bits.trailing_zeros();
            // Clears the lowest bit.
            bits &= bits.checked_sub(1)?;
            u8::try_from(index).ok().map(ShardIndex)
        })
    }
}

impl Inbox {
    /// Number of deliveries from which publishers wait.
    const PAUSE_PUBLISHERS_AT: usize = 1_024;
    /// Number of deliveries from which clients are not read, since their messages could cause more.
    const PAUSE_READS_AT: usize = 64;

    /// Adds a delivery, and wakes the shard if it may be asleep.
    pub fn push(&self, delivery: Delivery) {
        let mut queue = self.queue.lock();
        queue.push_back(delivery);
        let len = queue.len();
        self.len.store(len, Ordering::SeqCst);
        drop(queue);
        if len == 1 {
            self.arrived.notify_one();
        }
    }

    /// Moves all queued deliveries into `batch`, which must be empty.
    pub fn drain_into(&self, batch: &mut VecDeque<Delivery>) {
        let mut queue = self.queue.lock();
        std::mem::swap(&mut *queue, batch);
        self.len.store(queue.len(), Ordering::SeqCst);
    }

    /// Waits until there is a delivery. Safe to cancel.
    pub async fn arrived(&self) {
        // A shard that has just delivered what it caused itself is notified once more.
        while self.len.load(Ordering::SeqCst) == 0 {
            self.arrived.notified().await;
        }
    }

    /// Sets whether the shard is behind, and wakes waiting publishers if it is not. Called by the
    /// shard in each turn.
    pub fn set_behind(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::SeqCst);
        if !self.pauses_publishers() && self.has_waiting_publishers.swap(false, Ordering::SeqCst) {
            self.caught_up.notify_waiters();
        }
    }

    /// Whether publishers should wait: the inbox is long, or the shard is behind with its deliveries.
    #[must_use]
    pub fn pauses_publishers(&self) -> bool {
        self.is_behind.load(Ordering::SeqCst)
            || Self::PAUSE_PUBLISHERS_AT <= self.len.load(Ordering::SeqCst)
    }

    fn pauses_reads(&self) -> bool {
        Self::PAUSE_READS_AT <= self.len.load(Ordering::SeqCst)
    }

    /// Waits while the shard applies backpressure: its inbox is long, or it is behind with its
    /// deliveries. Safe to cancel.
    pub async fn wait_for_backpressure(&self) {
        while self.pauses_publishers() {
            let caught_up = self.caught_up.notified();
            self.has_waiting_publishers.store(true, Ordering::SeqCst);
            // The shard may have caught up between the two checks.
            if self.pauses_publishers() {
                caught_up.await;
            }
        }
    }
}

impl Inboxes {
    /// Creates an inbox for each shard.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        let inboxes = (0..shards).map(|_| Inbox::default()).collect();
        Self { of_shards: inboxes, ids: AtomicU64::new(0), watches: Arc::default() }
    }

    /// The indexes of all shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardIndex> + Clone + use<> {
        (0..self.of_shards.len()).map(ShardIndex::new)
    }

    /// The inbox of a shard.
    #[must_use]
    pub fn inbox(&self, shard: ShardIndex) -> &Inbox {
        &self.of_shards[shard.get()]
    }

    /// Whether the inbox of any shard is so long that clients should not be read.
    #[must_use]
    pub fn pauses_reads(&self) -> bool {
        self.of_shards.iter().any(Inbox::pauses_reads)
    }

    pub(super) fn watches(&self) -> &Arc<ChannelWatches> {
        &self.watches
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Delivers to individual connections: one push for each of their shards.
    pub(super) fn push_per_shard(
        &self,
        connections: impl Iterator<Item = ConnectionRef>,
        delivery: impl Fn(Vec<ConnectionKey>) -> Delivery,
    ) {
        let mut keys: Vec<Vec<ConnectionKey>> = vec![Vec::new(); self.of_shards.len()];
        for connection in connections {
            keys[connection.shard.get()].push(connection.key);
        }
        for (inbox, keys) in self.of_shards.iter().zip(keys) {
            if !keys.is_empty() {
                inbox.push(delivery(keys));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_iterates_in_ascending_order() {
        let mut set = ShardSet::default();
        for index in [63, 0, 7] {
            set.insert(ShardIndex::new(index));
        }
        assert_eq!(set.iter().map(ShardIndex::get).collect::<Vec<_>>(), [0, 7, 63]);
        set.remove(ShardIndex::new(7));
        assert_eq!(set.iter().map(ShardIndex::get).collect::<Vec<_>>(), [0, 63]);
        assert!(!set.is_empty() && ShardSet::default().is_empty());
        assert_eq!(ShardSet::default().iter().count(), 0);
    }

    #[tokio::test]
    async fn a_full_inbox_applies_backpressure_until_the_shard_has_caught_up() {
        let inbox = Inbox::default();
        let close = Delivery::Close { keys: Vec::new(), code: CloseCode::Draining };
        for _ in 0..Inbox::PAUSE_PUBLISHERS_AT {
            inbox.wait_for_backpressure().await;
            inbox.push(close.clone());
        }
        let mut waiting = std::pin::pin!(inbox.wait_for_backpressure());
        assert!(futures_poll(waiting.as_mut()).is_pending());
        inbox.drain_into(&mut VecDeque::new());
        inbox.set_behind(false);
        assert!(futures_poll(waiting.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn a_delivery_that_is_taken_is_not_waited_for_again() {
        let inbox = Inbox::default();
        let close = Delivery::Close { keys: Vec::new(), code: CloseCode::Draining };
        inbox.push(close.clone());
        // Taken without waiting, as by a shard that has caused it.
        inbox.drain_into(&mut VecDeque::new());
        let mut arrived = std::pin::pin!(inbox.arrived());
        assert!(futures_poll(arrived.as_mut()).is_pending(), "it was notified before");
        inbox.push(close);
        assert!(futures_poll(arrived.as_mut()).is_ready());
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
