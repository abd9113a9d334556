//! The events of a link: pub/sub messages, and changes of its servers.

use super::client::Incoming;
use crate::broker::redis::partition::Partition;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::mpsc;

/// Maximum size of queued messages. Beyond it, this node is too slow for its subscriptions: the
/// link is closed.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An event of a link.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::broker::redis) enum LinkEvent {
    /// A message on a pub/sub channel.
    Message { from: ServerId, pubsub_channel: Vec<u8>, message: Vec<u8> },
    /// The partition has another server, or its server ended a subscription: subscribe to the
    /// partition's pub/sub channels and read its topics again.
    PartitionMoved(Partition),
    /// The link has failed, for this reason.
    Lost(&'static str),
}

/// Identifies a connection to a server. A reconnected server has a new id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::broker::redis) struct ServerId(pub(super) u32);

/// The receiving end of a link's events, in order.
#[derive(Debug)]
pub(in crate::broker::redis) struct LinkEvents {
    receiver: mpsc::UnboundedReceiver<LinkEvent>,
    queued_bytes: Arc<AtomicUsize>,
}

/// The sending end of [`LinkEvents`].
#[derive(Clone, Debug)]
pub(super) struct LinkEventSender {
    queue: mpsc::UnboundedSender<LinkEvent>,
    queued_bytes: Arc<AtomicUsize>,
}

pub(super) const LOST: &str = "the link to redis is lost";
const TOO_SLOW: &str = "the queue of pub/sub messages is full: this node is too slow";

impl ServerId {
    /// The server of a link that has only one.
    pub(in crate::broker::redis) const ONLY: Self = Self(0);

    #[cfg(test)]
    pub(in crate::broker::redis) fn test(number: u32) -> Self {
        Self(number)
    }
}

impl LinkEventSender {
    pub(super) fn new() -> (Self, LinkEvents) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let events = LinkEvents { receiver, queued_bytes: Arc::clone(&queued_bytes) };
        (Self { queue, queued_bytes }, events)
    }

    pub(super) fn push(&self, event: LinkEvent) {
        let len = len_of(&event);
        let is_full = QUEUED_BYTES_MAX < self.queued_bytes.fetch_add(len, Ordering::Relaxed) + len;
        let event = if is_full && 0 < len { LinkEvent::Lost(TOO_SLOW) } else { event };
        // The link may have been dropped.
        let _ = self.queue.send(event);
    }

    /// Queues an event of the only server.
    pub(super) fn push_incoming(&self, incoming: Incoming) {
        self.push(match incoming {
            Incoming::Message { pubsub_channel, message } => {
                LinkEvent::Message { from: ServerId::ONLY, pubsub_channel, message }
            }
            Incoming::Unsubscribed { .. } => LinkEvent::PartitionMoved(Partition::LEASES),
            Incoming::Lost => LinkEvent::Lost(LOST),
        });
    }
}

impl LinkEvents {
    /// The next event of the link. Safe to cancel.
    pub(in crate::broker::redis) async fn next(&mut self) -> LinkEvent {
        let Some(event) = self.receiver.recv().await else { return LinkEvent::Lost(LOST) };
        self.queued_bytes.fetch_sub(len_of(&event), Ordering::Relaxed);
        event
    }
}

/// The size of a message.
fn len_of(event: &LinkEvent) -> usize {
    match event {
        LinkEvent::Message { pubsub_channel, message, .. } => {
            pubsub_channel.len() + message.len() + size_of::<LinkEvent>()
        }
        LinkEvent::PartitionMoved(_) | LinkEvent::Lost(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn message(bytes: usize) -> LinkEvent {
        LinkEvent::Message {
            from: ServerId::ONLY,
            pubsub_channel: vec![0],
            message: vec![0; bytes - size_of::<LinkEvent>() - 1],
        }
    }

    #[tokio::test]
    async fn queued_messages_are_limited_in_bytes() {
        let (sender, mut events) = LinkEventSender::new();
        sender.push(message(QUEUED_BYTES_MAX / 2));
        sender.push(message(QUEUED_BYTES_MAX / 2));
        for _ in 0..2 {
            assert!(matches!(events.next().await, LinkEvent::Message { .. }), "so many may wait");
        }
        sender.push(message(QUEUED_BYTES_MAX));
        sender.push(LinkEvent::PartitionMoved(Partition::LEASES));
        assert!(
            matches!(events.next().await, LinkEvent::Message { .. }),
            "those before were taken"
        );
        assert_eq!(events.next().await, LinkEvent::PartitionMoved(Partition::LEASES));
        for bytes in [QUEUED_BYTES_MAX, 100] {
            sender.push(message(bytes));
        }
        sender.push(LinkEvent::PartitionMoved(Partition::LEASES));
        assert!(matches!(events.next().await, LinkEvent::Message { .. }));
        assert_eq!(events.next().await, LinkEvent::Lost(TOO_SLOW));
        assert_eq!(
            events.next().await,
            LinkEvent::PartitionMoved(Partition::LEASES),
            "changes always arrive"
        );
        drop(sender);
        assert_eq!(events.next().await, LinkEvent::Lost(LOST));
    }

    #[tokio::test]
    async fn the_only_server_is_that_of_the_lease_partition() {
        let (sender, mut events) = LinkEventSender::new();
        sender.push_incoming(Incoming::Message { pubsub_channel: vec![1], message: vec![2] });
        sender.push_incoming(Incoming::Lost);
        let incoming =
            LinkEvent::Message { from: ServerId::ONLY, pubsub_channel: vec![1], message: vec![2] };
        assert_eq!(from_ref(&events.next().await), [incoming]);
        assert_eq!(events.next().await, LinkEvent::Lost(LOST));
    }
}
