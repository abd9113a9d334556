//! One WebSocket connection of a shard.

use super::{
    dirty::Queued,
    ended::{Ended, Served},
    inbound::Partial,
    outbox::Outbox,
    socket::Socket,
    subscribers::Place,
};
use crate::{
    hub::ConnectionKey, node::Admitted, permit::Permit, protocol::CloseCode, shutdown::Drain,
};
use rustls::ServerConnection;
use std::time::{Duration, Instant};

/// A connection that a shard is to take over: the handshake is done, but for its response.
#[derive(Debug)]
pub struct UpgradedSocket {
    /// The socket.
    pub socket: std::net::TcpStream,
    /// The TLS session over it, whose handshake is done, with what it has received already.
    pub tls: Option<Box<ServerConnection>>,
    /// The response that opens the WebSocket; it is sent together with the first frame.
    pub response: Vec<u8>,
    /// What the client sent behind its request.
    pub received: Vec<u8>,
    /// Whether the client may stay.
    pub admission: Result<Box<Admission>, CloseCode>,
    /// Its place among the connections that are no WebSocket yet. Whoever is refused keeps it to
    /// the end.
    pub permit: Permit,
    /// Has a shutdown wait for it.
    pub drain: Drain,
}

/// A client that may stay, as its shard keeps it.
pub type Admission = Admitted<ShardPlace>;

/// Where a shard keeps a subscription.
#[derive(Clone, Copy, Debug)]
pub struct ShardPlace(pub(super) SubscriptionState);

/// How far a subscription has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SubscriptionState {
    /// It waits for the other nodes, under this ticket.
    Waits(u32),
    /// It has begun.
    At(Place),
}

/// A connection, from its adoption to the end of its socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) key: ConnectionKey,
    pub(super) outbox: Outbox,
    pub(super) queued: Queued,
    /// The socket took no more. Until it does, it is not read from either: whoever sends
    /// without reading would only fill its outbox with replies.
    pub(super) is_blocked: bool,
    /// There may be something to read that no edge will tell of again.
    pub(super) is_unread: bool,
    /// Whether it is in the shard's list of those.
    pub(super) is_listed: bool,
    pub(super) partial: Option<Box<Partial>>,
    pub(super) phase: Phase,
    /// The step of the wheel at which the connection is looked at.
    pub(super) check_step: u64,
    /// A shutdown waits until it is dropped.
    pub(super) drain: Drain,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The client is served.
    Open(Box<Admission>),
    /// A close frame is on its way; the client has left the hub.
    Closing(Box<Closing>),
}

#[derive(Debug)]
pub(super) struct Closing {
    /// When the socket is dropped at the latest.
    pub(super) by: Instant,
    pub(super) why: Ended,
    pub(super) peer: ClosingPeer,
    /// When the socket is read next, once it was read while closing.
    pub(super) reads_at: Option<Instant>,
    /// The client that was served until the close; none if it was rejected.
    pub(super) served: Option<Served>,
    /// What the connection holds on to if it was refused.
    pub(super) _permit: Option<Permit>,
}

/// What is to be expected of the other side while closing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClosingPeer {
    /// It is to answer with a close frame.
    Answers,
    /// It has sent its close frame: once ours is written, all is said.
    HasClosed,
    /// Its bytes can't be read any more, and are thrown away until it hangs up.
    Unreadable,
}

/// How long the closing handshake may take. See `docs/protocol.md#close-codes`, rule 2.
pub(super) const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two reads from a closing connection. Only its close frame matters, so a flood
/// after the close costs next to nothing.
const CLOSING_READ_INTERVAL: Duration = Duration::from_millis(50);
/// How long it may take with somebody who was refused. That one holds a place that a newcomer may
/// be waiting for, so it is as long as a slow network needs and no longer.
pub(super) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

impl Connection {
    pub(super) fn new(socket: Socket, key: ConnectionKey, phase: Phase, drain: Drain) -> Self {
        Self {
            socket,
            key,
            outbox: Outbox::default(),
            queued: Queued::No,
            is_blocked: false,
            is_unread: false,
            is_listed: false,
            partial: None,
            phase,
            check_step: u64::MAX,
            drain,
        }
    }

    /// The earliest deadline: the session's, that of an incomplete message, or the time when a
    /// throttled client is read again; for a closing connection, that of the close.
    pub(super) fn deadline(&self, message_timeout: Duration, now: Instant) -> Instant {
        match &self.phase {
            Phase::Open(client) => {
                let message = self.message_began_at().map(|began| began + message_timeout);
                let rests = if self.is_unread { client.session.rests_until(now) } else { None };
                [message, rests].into_iter().flatten().fold(client.session.deadline(), Instant::min)
            }
            Phase::Closing(closing) => {
                let reads_at = closing.reads_at.filter(|_| self.is_unread);
                reads_at.map_or(closing.by, |at| at.min(closing.by))
            }
        }
    }

    /// When the incomplete message began.
    fn message_began_at(&self) -> Option<Instant> {
        self.partial.as_ref().and_then(|partial| partial.began_at())
    }

    /// Whether a message has begun so long ago that its end is not waited for any more.
    pub(super) fn message_timed_out(&self, message_timeout: Duration, now: Instant) -> bool {
        let began_at = self.message_began_at().filter(|_| self.is_open());
        began_at.is_some_and(|began_at| began_at + message_timeout <= now)
    }

    /// Whether the client is not read for now: it made the server send too much, or it is closing
    /// and was read recently.
    pub(super) fn rests(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Open(client) => client.session.rests_until(now).is_some(),
            Phase::Closing(closing) => closing.reads_at.is_some_and(|at| now < at),
        }
    }

    /// Delays the next read of a closing connection.
    pub(super) fn pace_closing(&mut self, now: Instant) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.reads_at = Some(now + CLOSING_READ_INTERVAL);
        }
    }

    /// Whether all has been said and written.
    pub(super) fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Open(_) => false,
            Phase::Closing(closing) => {
                let is_written = self.outbox.is_empty() && !self.socket.has_unsent();
                closing.peer == ClosingPeer::HasClosed && is_written
            }
        }
    }

    /// Ends the writing half when all is said to a client whose answer can't be read: it hangs
    /// up when it sees the end, and need not be waited for.
    pub(super) fn hang_up_if_unreadable(&mut self) {
        if let Phase::Closing(closing) = &self.phase
            && closing.peer == ClosingPeer::Unreadable
        {
            self.socket.end_writing();
        }
    }
}
