//! One WebSocket connection of a shard.

use super::{
    admitted::AdmittedClient,
    close_reason::{CloseReason, ClosedClient},
    decoder::IncompleteMessage,
    dirty::Queued,
    outbox::Outbox,
    requests::HttpPhase,
    socket::Socket,
};
use crate::{
    hub::{ConnectionKey, ConnectionWatch},
    permit::Permit,
    protocol::{CloseCode, Frame, FrameKind},
    session::Resumable,
    shutdown::DrainGuard,
};
use rustls::ServerConnection;
use std::time::{Duration, Instant};

/// A socket for a shard after the handshake, whose response is not sent yet.
#[derive(Debug)]
pub struct UpgradedSocket {
    /// The TCP socket.
    pub socket: std::net::TcpStream,
    /// The TLS session after its handshake, with the data that it has received.
    pub tls: Option<Box<ServerConnection>>,
    /// The response that opens the WebSocket, sent together with the first frame.
    pub response: Vec<u8>,
    /// Bytes that the client sent after its request.
    pub received: Vec<u8>,
    /// The admitted client, or the code to close the connection with.
    pub client: Result<Box<AdmittedClient>, CloseCode>,
    /// The permit of the HTTP connection. A rejected connection keeps it until it is closed.
    pub permit: Permit,
    /// Delays the end of a shutdown until it is dropped.
    pub drain: DrainGuard,
}

/// A connection, from its upgrade to the end of its socket.
#[expect(clippy::struct_excessive_bools, reason = "they are independent of one another")]
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) key: ConnectionKey,
    pub(super) outbox: Outbox,
    /// The number of messages that the client has sent.
    pub(super) messages_in: u64,
    pub(super) queued: Queued,
    /// Whether the socket accepts no more data. It is not read either until it does: a client that
    /// sends without reading would only fill its outbox with replies.
    pub(super) is_blocked: bool,
    pub(super) registration: Registration,
    /// Whether there may be input for which the poller reports no further edge.
    pub(super) may_have_input: bool,
    /// Whether it is in `pending_reads` of the shard.
    pub(super) is_in_pending_reads: bool,
    /// Whether its client has a token.
    pub(super) is_resumable: bool,
    /// The state of the decoder, if input is incomplete or unread.
    pub(super) incomplete: Option<Box<IncompleteMessage>>,
    pub(super) phase: Phase,
    /// The step of the wheel at which the deadline is checked next.
    pub(super) check_step: u64,
    /// Delays the end of a shutdown until it is dropped.
    pub(super) drain: DrainGuard,
}

/// The watched connections of a shard.
pub(super) type Watches = Vec<(ConnectionKey, ConnectionWatch)>;

/// What the poller reports of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Registration {
    None,
    Readable,
    ReadableAndWritable,
}

/// Whether a connection is open or closing, or no WebSocket yet.
#[derive(Debug)]
pub(super) enum Phase {
    /// The client sends HTTP requests.
    Http(Box<HttpPhase>),
    /// The client is registered with the hub.
    Open(Box<AdmittedClient>),
    /// A close frame is queued or sent; the client has left the hub.
    Closing(Box<Closing>),
}

/// The state of a closing connection.
#[derive(Debug)]
pub(super) struct Closing {
    /// When the socket is dropped, if the closing handshake is not complete.
    pub(super) deadline: Instant,
    pub(super) reason: CloseReason,
    pub(super) peer_state: PeerState,
    /// The earliest time of the next read; `None` until the first read while closing.
    pub(super) next_read_at: Option<Instant>,
    /// The client, for the log; `None` if the connection was rejected.
    pub(super) client: Option<ClosedClient>,
    /// The permit of a rejected connection.
    pub(super) permit: Option<Permit>,
}

/// When to stop reading a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReadUntil {
    /// At a short read: the next byte causes a new edge.
    Short,
    /// When it would block: necessary where edges may have been missed.
    Blocked,
}

/// How far the client of a closing connection is with the closing handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PeerState {
    /// It has not sent a close frame.
    AwaitingClose,
    /// It has sent its close frame. The socket is dropped once the server's is written.
    Closed,
    /// Its bytes can't be decoded any more, and are discarded until the end of the stream.
    Undecodable,
}

/// How long the closing handshake may take. See `docs/protocol.md#close-codes`, rule 2.
pub(super) const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of reads from a closing connection. Only its close frame matters, so a flood after the
/// close costs almost nothing.
const CLOSING_READ_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum time to close a rejected connection: enough for a slow network, and short, since it
/// holds a permit that another connection may wait for.
pub(super) const REJECTION_TIMEOUT: Duration = Duration::from_secs(2);

impl Phase {
    /// The phase of a WebSocket after its handshake. A rejected client is closed.
    pub(super) fn of_client(client: Result<Box<AdmittedClient>, CloseCode>, now: Instant) -> Self {
        match client {
            Ok(client) => Self::Open(client),
            Err(code) => Self::Closing(Box::new(Closing {
                deadline: now + REJECTION_TIMEOUT,
                reason: CloseReason::ByServer(code),
                peer_state: PeerState::AwaitingClose,
                next_read_at: None,
                client: None,
                permit: None,
            })),
        }
    }

    fn is_resumable(&self) -> bool {
        matches!(self, Self::Open(client) if client.session.resumable().is_some())
    }
}

impl Connection {
    /// Sets the phase after the handshake, and returns the one before.
    pub(super) fn set_client(&mut self, phase: Phase) -> Phase {
        self.is_resumable = phase.is_resumable();
        std::mem::replace(&mut self.phase, phase)
    }

    pub(super) fn new(socket: Socket, key: ConnectionKey, phase: Phase, drain: DrainGuard) -> Self {
        let is_resumable = phase.is_resumable();
        Self {
            socket,
            key,
            outbox: Outbox::default(),
            messages_in: 0,
            queued: Queued::No,
            is_blocked: false,
            registration: Registration::None,
            may_have_input: false,
            is_in_pending_reads: false,
            is_resumable,
            incomplete: None,
            phase,
            check_step: u64::MAX,
            drain,
        }
    }

    /// Queues a frame for the socket. Frames of WebSocket itself do not count as messages.
    pub(super) fn queue(&mut self, frame: Frame) {
        if frame.kind() == FrameKind::Control {
            self.outbox.push_control(frame);
        } else {
            self.outbox.push(frame);
        }
    }

    /// The earliest deadline: the session's, that of an incomplete message, or the time when a
    /// throttled client is read again; for a closing connection, that of the close.
    pub(super) fn deadline(&self, message_timeout: Duration, now: Instant) -> Instant {
        match &self.phase {
            Phase::Open(client) => {
                let message = self.message_began_at().map(|began| began + message_timeout);
                let next_read_at =
                    if self.may_have_input { client.session.throttled_until(now) } else { None };
                [message, next_read_at]
                    .into_iter()
                    .flatten()
                    .fold(client.session.deadline(), Instant::min)
            }
            Phase::Http(http) => http.deadline(now),
            Phase::Closing(closing) => {
                let next_read_at = closing.next_read_at.filter(|_| self.may_have_input);
                next_read_at.map_or(closing.deadline, |at| at.min(closing.deadline))
            }
        }
    }

    /// When the first byte of the incomplete message was received.
    fn message_began_at(&self) -> Option<Instant> {
        self.incomplete.as_ref().and_then(|incomplete| incomplete.began_at())
    }

    /// Whether the incomplete message has exceeded its time.
    pub(super) fn message_timed_out(&self, message_timeout: Duration, now: Instant) -> bool {
        let began_at = self.message_began_at().filter(|_| self.is_open());
        began_at.is_some_and(|began_at| began_at + message_timeout <= now)
    }

    /// Whether reading from the client is paused: it made the server send too much, waits for what its previous
    /// connection has left, or is closing and was read recently.
    pub(super) fn is_throttled(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Open(client) => {
                client.session.resumable().is_some_and(Resumable::is_waiting)
                    || client.session.throttled_until(now).is_some()
            }
            Phase::Http(http) => http.is_answering(),
            Phase::Closing(closing) => closing.next_read_at.is_some_and(|at| now < at),
        }
    }

    /// Delays the next read of a closing connection.
    pub(super) fn delay_next_read(&mut self, now: Instant) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.next_read_at = Some(now + CLOSING_READ_INTERVAL);
        }
    }

    /// Whether the closing handshake is complete and written.
    pub(super) fn is_close_complete(&self) -> bool {
        match &self.phase {
            Phase::Http(_) | Phase::Open(_) => false,
            Phase::Closing(closing) => {
                let is_written = self.outbox.is_empty() && !self.socket.has_unsent();
                closing.peer_state == PeerState::Closed && is_written
            }
        }
    }

    /// Shuts down the writing half if the client's input can't be decoded, once all is written: the
    /// client then closes the connection.
    pub(super) fn shutdown_write_if_undecodable(&mut self) {
        if let Phase::Closing(closing) = &self.phase
            && closing.peer_state == PeerState::Undecodable
        {
            self.socket.shutdown_write();
        }
    }
}
