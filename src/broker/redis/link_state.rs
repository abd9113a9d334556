//! The state of the link to Redis, for requests that wait until the node is joined.

use super::{fencing_token::FencingToken, link::RedisConnection, reason::UnavailableReason};
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::Arc;
use tokio::sync::Notify;

/// The state of the node's link to Redis.
#[derive(Clone, Debug)]
pub(super) enum LinkState {
    /// Not joined, for this reason.
    Unavailable(UnavailableReason),
    /// Joined before, but a reply of Redis is overdue.
    Suspect,
    /// Joined.
    Joined(JoinedLink),
}

/// The connection and the fencing token of a joined node.
#[derive(Clone, Debug)]
pub(super) struct JoinedLink {
    pub(super) connection: RedisConnection,
    pub(super) token: Arc<FencingToken>,
}

/// The current state. Waiting requests continue in the order of their arrival.
#[derive(Debug)]
pub(super) struct LinkStateWatch {
    state: RwLock<LinkState>,
    changed: Notify,
}

impl LinkStateWatch {
    pub(super) fn new(link_state: LinkState) -> Self {
        Self { state: RwLock::new(link_state), changed: Notify::new() }
    }

    pub(super) fn borrow(&self) -> RwLockReadGuard<'_, LinkState> {
        self.state.read()
    }

    pub(super) fn set(&self, link_state: LinkState) {
        *self.state.write() = link_state;
        self.changed.notify_waiters();
    }

    /// Records that a reply of Redis is overdue, if the node is joined.
    pub(super) fn mark_suspect(&self) {
        let mut now = self.state.write();
        if matches!(*now, LinkState::Joined(_)) {
            *now = LinkState::Suspect;
        }
    }

    /// Waits until the node is joined. Safe to cancel.
    pub(super) async fn wait_joined(&self) -> JoinedLink {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let LinkState::Joined(joined) = &*self.borrow() {
                return joined.clone();
            }
            changed.await;
        }
    }
}
