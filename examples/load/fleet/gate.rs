//! How many deliveries there were: what a publisher with a window waits for.

use mio::Waker;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// Counts deliveries across threads, and wakes one publisher at a count that it names.
#[derive(Debug)]
pub(crate) struct Gate {
    delivered: AtomicU64,
    wake_at: AtomicU64,
    waker: Mutex<Option<Arc<Waker>>>,
}

impl Gate {
    /// A gate that has seen nothing.
    pub(crate) fn new() -> Self {
        Self {
            delivered: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            waker: Mutex::new(None),
        }
    }

    /// Counts `count` deliveries.
    pub(crate) fn add(&self, count: u64) {
        let delivered = self.delivered.fetch_add(count, SeqCst) + count;
        if delivered < self.wake_at.load(SeqCst) {
            return;
        }
        self.wake_at.store(u64::MAX, SeqCst);
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            // A publisher that is not woken looks again by itself a little later.
            let _ = waker.wake();
        }
    }

    /// Deliveries since the gate was made.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(SeqCst)
    }

    /// Whom to wake from now on.
    pub(crate) fn wake(&self, waker: Option<Arc<Waker>>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }

    /// Asks to be woken at `count`, and says whether it was reached already.
    pub(crate) fn reached(&self, count: u64) -> bool {
        if count <= self.delivered() {
            return true;
        }
        self.wake_at.store(count, SeqCst);
        // Between the look and the wish it may have been reached: nobody would wake us.
        count <= self.delivered()
    }
}
