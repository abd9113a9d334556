//! A connection of a worker: its state, and the events that it has received.

use crate::payload::Stamp;
use mio::net::TcpStream;

/// The state of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// Waiting for the answer to its HTTP request.
    Upgrading,
    /// Waiting for `pusher:connection_established`.
    Greeting,
    /// Waiting for `pusher_internal:subscription_succeeded`.
    Subscribing,
    /// Subscribed, or connected if no subscription is wanted.
    Ready,
    /// Unsubscribed by a command.
    Unsubscribed,
    /// Closed.
    Closed,
}

/// A connection. It allocates memory only while a message is incomplete.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The socket, until it is closed.
    pub(crate) stream: Option<TcpStream>,
    /// The number of the connection in the fleet.
    pub(crate) id: u32,
    /// The index of the plan among the worker's plans.
    pub(crate) plan: u16,
    /// The state of the connection.
    pub(crate) stage: Stage,
    /// Whether the worker reads from the connection.
    pub(crate) reads: bool,
    /// The beginning of an incomplete frame.
    pub(crate) tail: Vec<u8>,
    /// The remaining bytes of an oversized frame, which are discarded.
    pub(crate) skip: usize,
    /// Bytes that the socket has not accepted yet.
    pub(crate) unsent: Vec<u8>,
    /// The socket id from the server.
    pub(crate) socket_id: Box<str>,
    /// The time at which it began to connect or subscribe, in µs.
    pub(crate) since_us: u64,
    received: Received,
}

/// The events that a connection has received.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    count: u32,
    /// The next expected number, once one was received.
    next: Option<u32>,
    /// The sum of the squares of all numbers: together with the count, it reveals loss and
    /// duplication.
    squares: u64,
}

impl Connection {
    /// A connection whose request was just sent.
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

    /// Counts an event, and returns whether it followed the previous one.
    pub(crate) fn receive(&mut self, stamp: Stamp) -> bool {
        let received = &mut self.received;
        let in_order = received.next.is_none_or(|next| next == stamp.number);
        received.next = Some(stamp.number.wrapping_add(1));
        received.count += 1;
        let number = u64::from(stamp.number);
        received.squares = received.squares.wrapping_add(number * number);
        in_order
    }

    /// Begins a new subscription: its first event can have any number.
    pub(crate) fn begin_window(&mut self) {
        self.received.next = None;
    }

    /// Resets the counts.
    pub(crate) fn reset(&mut self) {
        self.received = Received::default();
    }

    /// The number of received events.
    pub(crate) fn count(&self) -> u32 {
        self.received.count
    }

    /// Whether exactly the events numbered from 0 to the count were received.
    pub(crate) fn is_complete(&self) -> bool {
        let n = u128::from(self.received.count);
        let squares = n * n.saturating_sub(1) * (2 * n).saturating_sub(1) / 6;
        u128::from(self.received.squares) == squares & u128::from(u64::MAX)
    }

    /// Closes the socket and frees the buffers.
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
    fn lost_and_repeated_events_are_detected() {
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
