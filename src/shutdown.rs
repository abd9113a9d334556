//! Stopping in order: who starts it, and who must have finished before the process may end.

use std::time::{Duration, Instant};
use tokio::{sync::watch, time};

/// Starts the shutdown, and waits for it. Held by the server, and by whoever hands out a
/// [`Drain`] or only looks whether the shutdown has begun: holding one delays nothing.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<Option<Instant>>);

/// Held by everything that must finish before the process may end.
#[derive(Debug)]
pub struct Drain(watch::Receiver<Option<Instant>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A shutdown that has not begun, and that nothing delays.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Whether the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Has the shutdown wait until what is given is dropped.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain(self.0.subscribe())
    }

    /// Tells every [`Drain`] to finish, then waits until all are dropped or `grace` is over, and
    /// says how many were still held.
    pub async fn begin(&self, grace: Duration) -> usize {
        self.0.send_replace(Some(Instant::now()));
        let _ = time::timeout(grace, self.0.closed()).await;
        self.0.receiver_count()
    }
}

impl Drain {
    /// Whether the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.since().is_some()
    }

    /// When the shutdown began, if it has.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Waits for the shutdown to begin. Safe to cancel.
    pub async fn begun(&mut self) {
        // An error means that the server is gone, which is a shutdown as well.
        let _ = self.0.wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_when_the_last_holder_is_done() {
        let shutdown = Shutdown::new();
        let mut drain = shutdown.drain();
        assert!(!drain.has_begun());
        let holder = tokio::spawn(async move {
            drain.begun().await;
            time::sleep(Duration::from_secs(3)).await;
        });
        let start = time::Instant::now();
        assert_eq!(shutdown.begin(Duration::from_secs(10)).await, 0);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        holder.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_finishes_is_counted_and_not_waited_for() {
        let shutdown = Shutdown::new();
        let (drain, onlooker) = (shutdown.drain(), shutdown.clone());
        assert_eq!(shutdown.begin(Duration::from_secs(10)).await, 1);
        assert!(drain.has_begun() && onlooker.has_begun());
    }
}
