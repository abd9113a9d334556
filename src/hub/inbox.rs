//! The way from the hub to the shards.

use super::{ChannelId, Hub, Subscribed};
use crate::protocol::{ChannelName, CloseCode, Frame, SocketId, SubscriptionRefusal};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// A shard's number, below 64.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ShardIndex(u8);

/// Some of the shards, a bit for each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShardSet(u64);

/// Names a connection of a shard. Places are used again; the generation tells who had one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnectionKey {
    /// The place in the shard's slab.
    pub place: u32,
    /// Which connection had that place.
    pub generation: u32,
}

/// Names a connection of this node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnectionRef {
    /// Whose connection it is.
    pub shard: ShardIndex,
    /// Its place there.
    pub key: ConnectionKey,
}

/// What a shard is to do for its connections.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A frame for the subscribers of a channel.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// The frame's place in the channel's order.
        sequence: u64,
        /// The frame.
        frame: Frame,
        /// Who does not get it: usually whose action caused it.
        except: Option<SocketId>,
    },
    /// A frame for some connections by name.
    Connections {
        /// Who gets it.
        keys: Vec<ConnectionKey>,
        /// The frame.
        frame: Frame,
    },
    /// What came of a subscription that waited for the other nodes.
    Subscription {
        /// Whose it is.
        key: ConnectionKey,
        /// Names the attempt.
        ticket: u32,
        /// The channel.
        name: ChannelName,
        /// The subscription as the hub has registered it, or why there is none.
        result: Result<Box<Attached>, SubscriptionRefusal>,
    },
    /// All subscribers of a channel are to be closed.
    CloseChannel {
        /// The channel.
        channel: ChannelId,
        /// Why.
        code: CloseCode,
    },
    /// All connections of an app that is not served any more are to be closed.
    CloseHub(Arc<Hub>),
    /// Connections that are to be closed.
    Close {
        /// Which.
        keys: Vec<ConnectionKey>,
        /// Why.
        code: CloseCode,
    },
}

/// A subscription that the hub has registered while its connection waited.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Where it was registered.
    pub hub: Arc<Hub>,
    /// The member, on a presence channel.
    pub user_id: Option<Arc<str>>,
    /// What the connection gets.
    pub subscribed: Subscribed,
}

/// What waits for one shard. Any thread may push, and never waits; only the shard takes.
///
/// The queue is bounded by those who fill it: publishers wait while the shard is behind, and
/// clients are not read while a shard has much to deliver.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<VecDeque<Delivery>>,
    /// The queue's length, to be read without its lock.
    len: AtomicUsize,
    arrived: Notify,
    /// Whether the shard is behind with what it has taken.
    is_behind: AtomicBool,
    has_waiting: AtomicBool,
    wait_for_backpressure: Notify,
}

/// The inboxes of all shards of the node.
#[derive(Debug)]
pub struct Inboxes {
    inboxes: Vec<Inbox>,
    ids: AtomicU64,
}

impl ShardIndex {
    /// Most shards of a node.
    pub const COUNT_MAX: usize = 64;

    /// The shard with this number.
    ///
    /// # Panics
    ///
    /// At [`ShardIndex::COUNT_MAX`] and above, which the configuration rules out.
    #[must_use]
    pub fn new(index: usize) -> Self {
        assert!(index < Self::COUNT_MAX, "there are at most 64 shards");
        Self(u8::try_from(index).expect("just compared"))
    }

    /// The number.
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

    /// Takes a shard out.
    pub fn remove(&mut self, shard: ShardIndex) {
        self.0 &= !(1 << shard.0);
    }

    /// Both sets' shards.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The shards, lowest first.
    pub fn iter(self) -> impl Iterator<Item = ShardIndex> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let index = bits.trailing_zeros();
            // Clears the lowest bit; there is none left at 64.
            bits &= bits.checked_sub(1)?;
            u8::try_from(index).ok().map(ShardIndex)
        })
    }
}

impl Inbox {
    /// From so many deliveries on, whoever publishes waits.
    const LEN_HIGH: usize = 1_024;
    /// From so many deliveries on, clients are not read: what they say could make more.
    const LEN_FULL: usize = 64;

    /// Adds a delivery, and wakes the shard if it may be asleep.
    pub fn push(&self, delivery: Delivery) {
        let mut queue = self.lock();
        queue.push_back(delivery);
        let len = queue.len();
        self.len.store(len, Ordering::SeqCst);
        drop(queue);
        if len == 1 {
            self.arrived.notify_one();
        }
    }

    /// Moves all that waits into `batch`, which must be empty.
    pub fn take(&self, batch: &mut VecDeque<Delivery>) {
        let mut queue = self.lock();
        std::mem::swap(&mut *queue, batch);
        self.len.store(queue.len(), Ordering::SeqCst);
    }

    /// Waits until there may be something to take. Safe to cancel.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Says whether the shard is behind with what it has taken, and lets the publishers go on if
    /// it is not. Only the shard does, each turn.
    pub fn set_behind(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::SeqCst);
        if !self.has_backpressure() && self.has_waiting.swap(false, Ordering::SeqCst) {
            self.wait_for_backpressure.notify_waiters();
        }
    }

    fn has_backpressure(&self) -> bool {
        self.is_behind.load(Ordering::SeqCst) || Self::LEN_HIGH <= self.len.load(Ordering::SeqCst)
    }

    fn is_full(&self) -> bool {
        Self::LEN_FULL <= self.len.load(Ordering::SeqCst)
    }

    /// Waits while the shard is behind with its deliveries. Safe to cancel.
    pub async fn wait_for_backpressure(&self) {
        while self.has_backpressure() {
            let wait_for_backpressure = self.wait_for_backpressure.notified();
            self.has_waiting.store(true, Ordering::SeqCst);
            // The shard may have caught up between the two looks.
            if self.has_backpressure() {
                wait_for_backpressure.await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        // Nothing under this lock can panic half-way, so what a panic leaves is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inboxes {
    /// Inboxes for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        let inboxes = (0..shards).map(|_| Inbox::default()).collect();
        Self { inboxes, ids: AtomicU64::new(0) }
    }

    /// The shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        (0..self.inboxes.len()).map(ShardIndex::new)
    }

    /// The inbox of a shard.
    #[must_use]
    pub fn of(&self, shard: ShardIndex) -> &Inbox {
        &self.inboxes[shard.get()]
    }

    /// Whether so much waits for a shard that clients are not to add to it.
    #[must_use]
    pub fn is_any_full(&self) -> bool {
        self.inboxes.iter().any(Inbox::is_full)
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Delivers to connections by name: one push for each shard that has some.
    pub(super) fn push_to_each(
        &self,
        connections: impl Iterator<Item = ConnectionRef>,
        delivery: impl Fn(Vec<ConnectionKey>) -> Delivery,
    ) {
        let mut keys: Vec<Vec<ConnectionKey>> = vec![Vec::new(); self.inboxes.len()];
        for connection in connections {
            keys[connection.shard.get()].push(connection.key);
        }
        for (inbox, keys) in self.inboxes.iter().zip(keys) {
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
    fn a_set_gives_its_shards_in_order() {
        let mut set = ShardSet::default();
        for index in [63, 0, 7] {
            set.insert(ShardIndex::new(index));
        }
        assert_eq!(set.iter().map(ShardIndex::get).collect::<Vec<_>>(), [0, 7, 63]);
        set.remove(ShardIndex::new(7));
        assert_eq!(set.iter().map(ShardIndex::get).collect::<Vec<_>>(), [0, 63]);
        assert_eq!(ShardSet::default().iter().count(), 0);
    }

    #[tokio::test]
    async fn a_full_inbox_brakes_until_the_shard_has_caught_up() {
        let inbox = Inbox::default();
        let close = Delivery::Close { keys: Vec::new(), code: CloseCode::Draining };
        for _ in 0..Inbox::LEN_HIGH {
            inbox.wait_for_backpressure().await;
            inbox.push(close.clone());
        }
        let mut waiting = std::pin::pin!(inbox.wait_for_backpressure());
        assert!(futures_poll(waiting.as_mut()).is_pending());
        inbox.take(&mut VecDeque::new());
        inbox.set_behind(false);
        assert!(futures_poll(waiting.as_mut()).is_ready());
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
