//! The number of deliveries, for which publishers with a window wait.

use mio::Waker;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// Counts deliveries across threads, and wakes one publisher at a requested count.
#[derive(Debug)]
pub(crate) struct Gate {
    delivered: AtomicU64,
    wake_at: AtomicU64,
    waker: Mutex<Option<Arc<Waker>>>,
}

impl Gate {
    /// A gate without deliveries.
    pub(crate) fn new() -> Self {
        Self {
            delivered: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            waker: Mutex::new(None),
        }
    }

    /// Adds `count` deliveries.
    pub(crate) fn add(&self, count: u64) {
        let delivered = self.delivered.fetch_add(count, SeqCst) + count;
        if delivered < self.wake_at.load(SeqCst) {
            return;
        }
        self.wake_at.store(u64::MAX, SeqCst);
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            // If this fails, the publisher checks the count after its poll timeout.
            let _ = waker.wake();
        }
    }

    /// The number of deliveries since the gate was created.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(SeqCst)
    }

    /// Sets the waker of the publisher.
    pub(crate) fn wake(&self, waker: Option<Arc<Waker>>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }

    /// Requests a wake-up at `count`, and returns whether it was reached already.
    pub(crate) fn reached(&self, count: u64) -> bool {
        if count <= self.delivered() {
            return true;
        }
        self.wake_at.store(count, SeqCst);
        // Deliveries between the check and the store do not wake the publisher.
        count <= self.delivered()
    }
}
