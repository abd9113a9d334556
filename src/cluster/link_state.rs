//! The state of the link to Redis, for requests that wait until the node is joined.

use super::shared::{Joined, Standing};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// The current state. Waiting requests continue in the order of their arrival.
#[derive(Debug)]
pub(super) struct LinkState {
    now: RwLock<Standing>,
    changed: Notify,
}

impl LinkState {
    pub(super) fn new(standing: Standing) -> Self {
        Self { now: RwLock::new(standing), changed: Notify::new() }
    }

    pub(super) fn borrow(&self) -> RwLockReadGuard<'_, Standing> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, standing: Standing) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = standing;
        self.changed.notify_waiters();
    }

    /// Records that an answer of Redis is overdue, if the node is joined.
    pub(super) fn suspect(&self) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*now, Standing::Joined(_)) {
            *now = Standing::Suspect;
        }
    }

    /// Waits until the node is joined. Safe to cancel.
    pub(super) async fn joined(&self) -> Joined {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Standing::Joined(joined) = &*self.borrow() {
                return joined.clone();
            }
            changed.await;
        }
    }
}
