//! One WebSocket connection of a shard.

use super::{dirty::Queued, ended::Ended, inbound::Partial, outbox::Outbox, subscribers::Place};
use crate::{
    hub::ConnectionKey,
    node::Admitted,
    protocol::{CloseCode, SocketId},
    shutdown::Drain,
};
use mio::net::TcpStream;
use std::{
    net::Shutdown,
    time::{Duration, Instant},
};

/// A connection that a shard is to take over: the handshake is done, but for its response.
#[derive(Debug)]
pub struct Adoption {
    /// The socket.
    pub socket: std::net::TcpStream,
    /// The response that opens the WebSocket; it is sent together with the first frame.
    pub response: Vec<u8>,
    /// What the client sent behind its request.
    pub received: Vec<u8>,
    /// Whether the client may stay.
    pub admission: Result<Box<Admission>, CloseCode>,
    /// Has a shutdown wait for it.
    pub drain: Drain,
}

/// A client that may stay, as its shard keeps it.
pub type Admission = Admitted<ShardPlace>;

/// Where a shard keeps a subscription.
#[derive(Clone, Copy, Debug)]
pub struct ShardPlace(pub(super) Standing);

/// How far a subscription has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It waits for the other nodes, under this ticket.
    Waits(u32),
    /// It has begun.
    At(Place),
}

/// A connection, from its adoption to the end of its socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) key: ConnectionKey,
    /// The connection's public name; nothing if it was refused.
    pub(super) socket_id: Option<SocketId>,
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
    pub(super) look: u64,
    /// A shutdown waits until it is dropped.
    _drain: Drain,
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

/// How long the closing handshake may take. Source: PROTOCOL 1.6, rule 1.
pub(super) const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

impl Connection {
    pub(super) fn new(
        socket: std::net::TcpStream,
        key: ConnectionKey,
        phase: Phase,
        drain: Drain,
    ) -> Self {
        Self {
            socket: TcpStream::from_std(socket),
            key,
            socket_id: match &phase {
                Phase::Open(client) => Some(client.session.socket_id()),
                Phase::Closing(_) => None,
            },
            outbox: Outbox::default(),
            queued: Queued::No,
            is_blocked: false,
            is_unread: false,
            is_listed: false,
            partial: None,
            phase,
            look: u64::MAX,
            _drain: drain,
        }
    }

    /// The session's deadline, or that of the closing.
    pub(super) fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Open(client) => client.session.deadline(),
            Phase::Closing(closing) => closing.by,
        }
    }

    /// Whether all has been said and written.
    pub(super) fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Open(_) => false,
            Phase::Closing(closing) => {
                closing.peer == ClosingPeer::HasClosed && self.outbox.is_empty()
            }
        }
    }

    /// Ends the writing half when all is said to a client whose answer can't be read: it hangs
    /// up when it sees the end, and need not be waited for.
    pub(super) fn hang_up_if_unreadable(&self) {
        if let Phase::Closing(closing) = &self.phase
            && closing.peer == ClosingPeer::Unreadable
        {
            // A socket that is gone already ends on its own.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }
}
