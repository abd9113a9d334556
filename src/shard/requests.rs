//! What a shard has for HTTP connections: the handlers of their requests, and the responses that are not written yet.

use super::admitted::AdmittedClient;
use crate::{
    hub::{ConnectionKey, ConnectionRef, Delivery, Inboxes, ShardSet},
    node::Node,
    permit::Permit,
    protocol::CloseCode,
    shutdown::DrainGuard,
};
use mio::{Registry, Token};
use std::{
    fmt::Debug,
    io,
    net::TcpStream,
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// An accepted socket without TLS, for a shard.
#[derive(Debug)]
pub struct AcceptedSocket {
    /// The TCP socket.
    pub socket: TcpStream,
    /// Handles the requests of the connection.
    pub handler: Box<dyn RequestHandler>,
    /// Delays the end of a shutdown until it is dropped.
    pub drain: DrainGuard,
}

/// The sockets that are accepted for a shard, by itself or elsewhere.
pub trait AcceptedSockets: Debug + Send {
    /// Registers the listening socket with the poller of the shard, if the shard accepts.
    ///
    /// # Errors
    ///
    /// The system's poller is full.
    fn register(&mut self, poller: &Registry, token: Token) -> io::Result<()>;

    /// Records that the poller has reported the listening socket.
    fn set_ready(&mut self);

    /// Whether the listening socket may have more connections now.
    fn has_more(&self) -> bool;

    /// When the next socket may be there without a report.
    fn retry_at(&self) -> Option<Instant>;

    /// The next socket, if there is one now.
    fn try_next(&mut self, now: Instant) -> Option<AcceptedSocket>;

    /// Waits for the next socket that is accepted elsewhere.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<AcceptedSocket>;
}

/// A shard for which nothing is accepted.
#[derive(Debug)]
pub(super) struct NoSockets;

impl AcceptedSockets for NoSockets {
    fn register(&mut self, _: &Registry, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn set_ready(&mut self) {}

    fn has_more(&self) -> bool {
        false
    }

    fn retry_at(&self) -> Option<Instant> {
        None
    }

    fn try_next(&mut self, _: Instant) -> Option<AcceptedSocket> {
        None
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<AcceptedSocket> {
        Poll::Pending
    }
}

/// Handles the requests of one HTTP connection on the thread of its shard.
pub trait RequestHandler: Debug + Send {
    /// Tells the handler which connection of a shard it belongs to.
    fn owned_by(&mut self, node: &Arc<Node>, connection: ConnectionRef);

    /// Handles the first request of `input`, and appends its response to `output`.
    fn handle(&mut self, input: &[u8], output: &mut Vec<u8>, now: Instant) -> Handled;

    /// Whether the shard may own the socket at all. If not, it hands it over at once.
    fn is_direct(&self) -> bool;

    /// When the connection is closed because the client sends nothing, or has not received a response since
    /// `blocked_since`; `None` while neither is waited for.
    fn deadline(&self, blocked_since: Option<Instant>) -> Option<Instant>;

    /// Records that all requests until now are answered.
    fn answered(&mut self, now: Instant);

    /// The permit of the connection, for one that is rejected.
    fn into_permit(self: Box<Self>) -> Permit;

    /// Serves the connection elsewhere. `input` was received and is not handled.
    fn hand_over(self: Box<Self>, socket: TcpStream, input: Vec<u8>, drain: DrainGuard);
}

/// What a handler has done.
#[derive(Debug)]
pub enum Handled {
    /// Nothing yet: the request has `needed` bytes.
    Incomplete {
        /// The length of the whole request.
        needed: usize,
    },
    /// The request is answered.
    Response {
        /// The length of the request.
        consumed: usize,
        /// The shards that have deliveries by it.
        reached: ShardSet,
    },
    /// The request was begun, and a [`ResponseSender`] answers it.
    Begun {
        /// The length of the request.
        consumed: usize,
    },
    /// The connection becomes a WebSocket.
    Upgrade {
        /// The length of the request.
        consumed: usize,
        /// The admitted client, or the code to close the connection with.
        client: Result<Box<AdmittedClient>, CloseCode>,
    },
    /// Nothing: the connection is to be handed over.
    Other,
}

/// Sends the response to a request that waits for the broker. If it is dropped instead, the connection is closed.
#[derive(Debug)]
pub struct ResponseSender {
    inboxes: Arc<Inboxes>,
    connection: ConnectionRef,
    is_sent: bool,
}

/// The state of a connection before its upgrade.
#[derive(Debug)]
pub(super) struct HttpPhase {
    pub(super) handler: Box<dyn RequestHandler>,
    /// Input that is not handled yet.
    pub(super) received: Vec<u8>,
    /// The input that is needed for the next request, in bytes.
    pub(super) needed: usize,
    /// When the first bytes of an incomplete request were received.
    pub(super) incomplete_since: Option<Instant>,
    /// Whether a response is not written yet. The next request is not read before.
    pub(super) is_answering: bool,
    /// When writing the response began to block.
    pub(super) blocked_since: Option<Instant>,
}

/// Responses that are written at the end of the turn.
#[derive(Debug, Default)]
pub(super) struct Responses {
    pub(super) bytes: Vec<u8>,
    pub(super) ready: Vec<(ConnectionKey, Range<usize>, ShardSet)>,
    /// Those that wait for shards which are behind.
    pub(super) held: Vec<(ConnectionKey, Vec<u8>, ShardSet)>,
}

/// How long the rest of a request may take to arrive here. A slower client is handed over.
pub(super) const REST_TIMEOUT: Duration = Duration::from_millis(250);
/// How often a connection without a deadline is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
impl ResponseSender {
    /// A sender for the request of a shard's connection.
    #[must_use]
    pub fn new(inboxes: Arc<Inboxes>, connection: ConnectionRef) -> Self {
        Self { inboxes, connection, is_sent: false }
    }

    /// Sends the response, which waits for the shards that have deliveries by the request.
    pub fn send(mut self, response: Vec<u8>, reached: ShardSet) {
        self.push(response, reached);
        self.is_sent = true;
    }

    fn push(&self, response: Vec<u8>, reached: ShardSet) {
        let ConnectionRef { shard, key } = self.connection;
        self.inboxes.inbox(shard).push(Delivery::Response { key, response, reached });
    }
}

impl Drop for ResponseSender {
    fn drop(&mut self) {
        if !self.is_sent {
            self.push(Vec::new(), ShardSet::default());
        }
    }
}

impl HttpPhase {
    pub(super) fn new(handler: Box<dyn RequestHandler>) -> Self {
        Self {
            handler,
            received: Vec::new(),
            needed: 0,
            incomplete_since: None,
            is_answering: false,
            blocked_since: None,
        }
    }

    /// Whether the next request waits for a response.
    pub(super) fn is_answering(&self) -> bool {
        self.is_answering
    }

    /// When the connection is to be looked at.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let of_client = self.handler.deadline(self.blocked_since).unwrap_or(now + CHECK_INTERVAL);
        match self.incomplete_since {
            Some(since) => of_client.min(since + REST_TIMEOUT),
            None => of_client,
        }
    }
}

impl Responses {
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// The sets of shards that the held responses wait for, each once.
    pub(super) fn held_for(&self) -> Vec<ShardSet> {
        let mut sets = Vec::new();
        for (_, _, reached) in &self.held {
            if !sets.contains(reached) {
                sets.push(*reached);
            }
        }
        sets
    }
}
