//! The questions of the console to the shards: which connections an app has, and what one of them sends and
//! receives.

use crate::protocol::{ChannelName, Frame, SocketId};
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::mpsc;

/// An open connection.
#[derive(Clone, Debug)]
pub struct ConnectionState {
    /// Its socket id.
    pub socket_id: SocketId,
    /// The client's address.
    pub address: IpAddr,
    /// The page that opened it.
    pub origin: Option<Box<str>>,
    /// When it was admitted.
    pub admitted_at: Instant,
    /// The user that it is signed in as.
    pub user_id: Option<Arc<str>>,
    /// The number of its subscriptions.
    pub subscriptions: usize,
    /// The channels that it is subscribed to, if one connection was asked for.
    pub channels: Vec<ChannelName>,
    /// Bytes that wait for it in the server.
    pub waiting_bytes: usize,
    /// Its messages so far.
    pub messages: MessageCounts,
}

/// The numbers of messages of a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MessageCounts {
    /// From the client.
    pub received: u64,
    /// Written to the client.
    pub sent: u64,
}

/// Which connections are asked for.
#[derive(Clone, Debug)]
pub enum ConnectionFilter {
    /// Those whose socket id, address, origin or user contains a text.
    Contains(Arc<str>),
    /// The one with this socket id.
    One(SocketId),
}

/// A question to a shard for the connections of an app.
#[derive(Clone, Debug)]
pub struct ConnectionsQuery {
    /// The app's id.
    pub app_id: Arc<str>,
    /// Which connections.
    pub filter: ConnectionFilter,
    /// Maximum number of connections that a shard returns.
    pub max: usize,
    reply: mpsc::UnboundedSender<Vec<ConnectionState>>,
}

/// A request to a shard to report the messages of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionWatch {
    /// The app's id.
    pub app_id: Arc<str>,
    /// The connection.
    pub socket_id: SocketId,
    messages: mpsc::Sender<WatchedMessage>,
    missed: Arc<AtomicU64>,
}

/// A message of a watched connection.
#[derive(Clone, Debug)]
pub enum WatchedMessage {
    /// From the client.
    In(String),
    /// To the client.
    Out(Frame),
    /// It is closed, with this code and reason, and has had so many messages.
    Closed(u16, String, MessageCounts),
}

/// Receives the messages of a connection. Dropping it ends the watch.
#[derive(Debug)]
pub struct ConnectionWatcher {
    messages: mpsc::Receiver<WatchedMessage>,
    missed: Arc<AtomicU64>,
}

/// Maximum number of messages that wait for a watcher; further ones are counted and dropped.
const MESSAGES_MAX: usize = 64;

impl ConnectionsQuery {
    /// A question whose answers are sent to `reply`.
    pub(super) fn new(
        app_id: Arc<str>,
        filter: ConnectionFilter,
        max: usize,
        reply: mpsc::UnboundedSender<Vec<ConnectionState>>,
    ) -> Self {
        Self { app_id, filter, max, reply }
    }

    /// Answers for one shard.
    pub fn answer(&self, connections: Vec<ConnectionState>) {
        // The asking page may be gone.
        let _ = self.reply.send(connections);
    }
}

impl ConnectionWatch {
    /// A request, and what receives the messages.
    pub(super) fn new(app_id: Arc<str>, socket_id: SocketId) -> (Self, ConnectionWatcher) {
        let (messages, receiver) = mpsc::channel(MESSAGES_MAX);
        let missed = Arc::<AtomicU64>::default();
        let watcher = ConnectionWatcher { messages: receiver, missed: Arc::clone(&missed) };
        (Self { app_id, socket_id, messages, missed }, watcher)
    }

    /// Reports a message, which is made only if there is room for it. Never waits. Returns whether the
    /// connection is watched any longer.
    #[must_use]
    pub fn report(&self, make: impl FnOnce() -> WatchedMessage) -> bool {
        match self.messages.try_reserve() {
            Ok(room) => room.send(make()),
            Err(mpsc::error::TrySendError::Full(())) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
            Err(mpsc::error::TrySendError::Closed(())) => {}
        }
        !self.messages.is_closed()
    }

    /// Whether the connection is watched no longer.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }
}

impl ConnectionWatcher {
    /// The next message; `None` if no shard has the connection. Safe to cancel.
    pub async fn next(&mut self) -> Option<WatchedMessage> {
        self.messages.recv().await
    }

    /// The number of messages that were dropped since the last call.
    #[must_use]
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}
