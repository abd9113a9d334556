//! The sessions of clients that this node waits for, and the messages of other nodes about clients of this one. The broker does
//! not know the clients.

use super::clock::now;
use crate::{
    broker::clients::Place,
    channel::ParkedSession,
    protocol::{ChannelName, ClientName, SocketId},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long nodes may take to store their records again once they have joined, after Redis may have lost them: they look for it
/// once a second.
const RECORDS_TIMEOUT: Duration = Duration::from_secs(3);

/// A request of another node for the session of a client.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    /// The client.
    pub client: ClientName,
    /// The number of its place on this node.
    pub number: u64,
    /// Who asks.
    pub claimant: Place,
}

/// A client that has subscribed on another node again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ReturnedClient {
    /// The id of its app.
    pub app_id: Arc<str>,
    /// Its socket id.
    pub socket_id: SocketId,
    /// The channel.
    pub channel: ChannelName,
    /// On a presence channel, the member.
    pub user_id: Option<Arc<str>>,
}

/// A message of another node about a client of this one.
#[derive(Debug)]
pub(crate) enum ClientMessage {
    /// The node asks for the client's session.
    SessionWanted(SessionRequest),
    /// The client has subscribed there.
    Returned(ReturnedClient),
}

/// Handles a message of another node. Must not wait.
pub(super) type Receiver = Box<dyn Fn(ClientMessage) + Send + Sync>;

/// The sessions that this node waits for, and what handles the requests of other nodes.
#[derive(Default)]
pub(super) struct SessionRequests {
    awaited: Mutex<HashMap<u64, oneshot::Sender<Option<ParkedSession>>>>,
    receiver: OnceLock<Receiver>,
    /// Whether this node was registered before.
    was_registered: AtomicBool,
    /// How often Redis may have lost data since.
    data_losses: AtomicU64,
    /// Whether this node has not joined again since the last loss.
    is_joining: AtomicBool,
    /// When this node has joined after the last loss.
    joined_at: Mutex<Option<Instant>>,
}

impl fmt::Debug for SessionRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRequests").field("awaited", &self.awaited).finish_non_exhaustive()
    }
}

impl SessionRequests {
    /// Sets what handles the messages of other nodes. A second one is not set: a process has one.
    pub(super) fn set_receiver(&self, receiver: Receiver) {
        let _ = self.receiver.set(receiver);
    }

    /// Until when the other nodes may not have stored their records again; `None` if they have.
    pub(super) fn incomplete_until(&self) -> Option<Instant> {
        let until = self.joined_at.lock().map(|joined_at| joined_at + RECORDS_TIMEOUT);
        until.filter(|until| now() < *until)
    }

    /// Waits for the session of the client in the place `number` of this node.
    pub(super) fn wait_for(&self, number: u64) -> oneshot::Receiver<Option<ParkedSession>> {
        let (waiting, session) = oneshot::channel();
        self.awaited.lock().insert(number, waiting);
        session
    }

    /// Ends the wait for a session.
    pub(super) fn give_up(&self, number: u64) {
        self.awaited.lock().remove(&number);
    }

    /// How often Redis may have lost data while this node was registered.
    pub(super) fn data_losses(&self) -> u64 {
        self.data_losses.load(Ordering::Relaxed)
    }

    /// Handles a message of another node.
    pub(super) fn on_message(&self, message: ClientMessage) {
        if let Some(receiver) = self.receiver.get() {
            receiver(message);
        }
    }

    /// Takes the session that was handed over to the place `number` of this node; `None` if nothing is left.
    pub(super) fn on_session(&self, number: u64, session: Option<ParkedSession>) {
        if let Some(waiting) = self.awaited.lock().remove(&number) {
            // It may have been given up.
            let _ = waiting.send(session);
        }
    }

    /// Records that this node is registered again: whether Redis may have lost the records.
    pub(super) fn on_registered(&self, may_be_lost: bool) {
        if self.was_registered.swap(true, Ordering::Relaxed) && may_be_lost {
            self.is_joining.store(true, Ordering::Relaxed);
            self.data_losses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that this node may write. The others may about now, and store their records then.
    pub(super) fn on_joined(&self) {
        if self.is_joining.swap(false, Ordering::Relaxed) {
            *self.joined_at.lock() = Some(now());
        }
    }
}

/// When a connection was lost that was lost `age_ms` ago.
pub(super) fn lost_at(age_ms: u64, now: Instant) -> Instant {
    now.checked_sub(Duration::from_millis(age_ms)).unwrap_or(now)
}
