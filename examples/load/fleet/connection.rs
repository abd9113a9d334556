//! One connection of a worker: where it is in its life, and what it has received.

use crate::payload::Stamp;
use mio::net::TcpStream;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// Waiting for the answer to its HTTP request.
    Upgrading,
    /// Waiting for `pusher:connection_established`.
    Greeting,
    /// Waiting for `pusher_internal:subscription_succeeded`.
    Subscribing,
    /// Subscribed, or connected where that is all it is to be.
    Ready,
    /// Without a subscription, by order.
    Unsubscribed,
    /// Gone.
    Closed,
}

/// A connection. It owns no memory but while a message is cut in two.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its socket, until it is closed.
    pub(crate) stream: Option<TcpStream>,
    /// Its number in the fleet.
    pub(crate) id: u32,
    /// Which of the worker's plans it follows.
    pub(crate) plan: u16,
    /// Where it is in its life.
    pub(crate) stage: Stage,
    /// Whether it reads.
    pub(crate) reads: bool,
    /// The beginning of a frame whose rest has not come.
    pub(crate) tail: Vec<u8>,
    /// Bytes of an oversized frame that are still to be thrown away.
    pub(crate) skip: usize,
    /// What could not be sent at once.
    pub(crate) unsent: Vec<u8>,
    /// Its public name.
    pub(crate) socket_id: Box<str>,
    /// When it began to connect or subscribe.
    pub(crate) since_us: u64,
    received: Received,
}

/// The events that a connection has received.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    count: u32,
    /// The number that comes next, once there was one.
    next: Option<u32>,
    /// Sum of the squares of all numbers: with the count it tells loss and repetition.
    squares: u64,
}

impl Connection {
    /// A connection that has just sent its request.
    pub(crate) fn new(stream: TcpStream, id: u32, plan: u16, since_us: u64) -> Self {
        Self {
            stream: Some(stream),
            id,
            plan,
            stage: Stage::Upgrading,
            reads: true,
            tail: Vec::new(),
            skip: 0,
            unsent: Vec::new(),
            socket_id: Box::default(),
            since_us,
            received: Received::default(),
        }
    }

    /// Counts an event, and says whether it followed the one before.
    pub(crate) fn receive(&mut self, stamp: Stamp) -> bool {
        let received = &mut self.received;
        let in_order = received.next.is_none_or(|next| next == stamp.number);
        received.next = Some(stamp.number.wrapping_add(1));
        received.count += 1;
        let number = u64::from(stamp.number);
        received.squares = received.squares.wrapping_add(number * number);
        in_order
    }

    /// Begins a new subscription: its first event may have any number.
    pub(crate) fn begin_window(&mut self) {
        self.received.next = None;
    }

    /// Forgets what was received.
    pub(crate) fn reset(&mut self) {
        self.received = Received::default();
    }

    /// Events received.
    pub(crate) fn count(&self) -> u32 {
        self.received.count
    }

    /// Whether exactly the events numbered from 0 to the count were received.
    pub(crate) fn is_complete(&self) -> bool {
        let n = u128::from(self.received.count);
        let squares = n * n.saturating_sub(1) * (2 * n).saturating_sub(1) / 6;
        u128::from(self.received.squares) == squares & u128::from(u64::MAX)
    }

    /// Closes the socket and frees what was kept for it.
    pub(crate) fn close(&mut self) {
        self.stream = None;
        self.stage = Stage::Closed;
        self.tail = Vec::new();
        self.unsent = Vec::new();
        self.skip = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(numbers: &[u32]) -> Received {
        let mut received = Received::default();
        for number in numbers {
            received.count += 1;
            received.squares += u64::from(*number) * u64::from(*number);
        }
        received
    }

    #[test]
    fn loss_and_repetition_are_noticed() {
        let (listener, stream) = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener, TcpStream::from_std(stream))
        };
        let mut connection = Connection::new(stream, 0, 0, 0);
        drop(listener);
        let rows: &[(&[u32], bool)] = &[
            (&[], true),
            (&[0, 1, 2, 3], true),
            (&[3, 1, 0, 2], true),
            (&[0, 1, 3], false),
            (&[0, 1, 1, 3], false),
            (&[1, 2, 3], false),
        ];
        for (numbers, complete) in rows {
            connection.received = receive(numbers);
            assert_eq!(connection.is_complete(), *complete, "{numbers:?}");
        }
    }

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 160, "{}", size_of::<Connection>());
    }
}
