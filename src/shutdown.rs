//! Stopping in order: who starts it, and who must have finished before the process may end.

use std::time::Duration;
use tokio::{sync::watch, time};

/// Starts the shutdown, and waits for it. Held by the server.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<bool>);

/// Held by everything that must finish before the process may end.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

/// A shutdown that has not begun, and what waits for it.
#[must_use]
pub fn channel() -> (Shutdown, Drain) {
    let (sender, receiver) = watch::channel(false);
    (Shutdown(sender), Drain(receiver))
}

impl Shutdown {
    /// Tells every [`Drain`] to stop, then waits until all are dropped or `grace` is over, and
    /// says how many were still held.
    pub async fn drain(self, grace: Duration) -> usize {
        self.0.send_replace(true);
        let _ = time::timeout(grace, self.0.closed()).await;
        self.0.receiver_count()
    }
}

impl Drain {
    /// Whether the shutdown has begun.
    #[must_use]
    pub fn has_started(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the shutdown to begin. Safe to cancel.
    pub async fn started(&mut self) {
        // An error means that the server is gone, which is a shutdown as well.
        let _ = self.0.wait_for(|started| *started).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_when_the_last_holder_is_done() {
        let (shutdown, mut drain) = channel();
        assert!(!drain.has_started());
        let holder = tokio::spawn(async move {
            drain.started().await;
            time::sleep(Duration::from_secs(3)).await;
        });
        let start = time::Instant::now();
        assert_eq!(shutdown.drain(Duration::from_secs(10)).await, 0);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        holder.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_finishes_is_counted_and_not_waited_for() {
        let (shutdown, drain) = channel();
        assert_eq!(shutdown.drain(Duration::from_secs(10)).await, 1);
        assert!(drain.has_started());
    }
}
