//! Coordinates the shutdown: starts it, and waits for the parts that must finish.

use crate::clock;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, time};

/// The shutdown signal of the process. Cloning is cheap; a clone does not delay the shutdown, a
/// [`DrainGuard`] does.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Receivers are the guards taken before the start.
    guards: watch::Sender<DrainState>,
    /// Receivers are the guards taken since. Clients continue to connect while the server drains,
    /// and must not delay its end.
    late_guards: watch::Sender<DrainState>,
    dropped: Arc<AtomicUsize>,
}

/// Held by each connection and task that must finish before the process ends.
#[derive(Debug)]
pub struct DrainGuard(watch::Receiver<DrainState>);

/// How a shutdown closes WebSocket connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DrainMode {
    /// Staggered over the grace period with 4200: another process or node serves clients that
    /// reconnect.
    Staggered,
    /// All at once: 4200 for as many clients as the backlog of the inherited socket holds, 4100 for
    /// the others. The next process accepts the backlog.
    InheritedSocket,
    /// All at once with 4100: no other process serves.
    NoSuccessor,
}

#[derive(Clone, Copy, Debug, Default)]
struct DrainState {
    started_at: Option<Instant>,
    mode: Option<DrainMode>,
    is_late: bool,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A shutdown that has not started.
    #[must_use]
    pub fn new() -> Self {
        Self {
            guards: watch::Sender::new(DrainState::default()),
            late_guards: watch::Sender::new(DrainState { is_late: true, ..DrainState::default() }),
            dropped: Arc::default(),
        }
    }

    /// Whether the shutdown has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started_at().is_some()
    }

    /// When the shutdown started, if it has.
    #[must_use]
    pub fn started_at(&self) -> Option<Instant> {
        self.guards.borrow().started_at
    }

    /// The drain mode; `None` until it is chosen. It may change during the drain.
    #[must_use]
    pub fn mode(&self) -> Option<DrainMode> {
        self.guards.borrow().mode
    }

    /// Sets the drain mode, and starts closing connections.
    pub fn set_mode(&self, mode: DrainMode) {
        self.guards.send_modify(|state| state.mode = Some(mode));
    }

    /// Returns a guard that [`drain`](Self::drain) waits for. Guards taken after the start delay
    /// only [`wait_for_late`](Self::wait_for_late).
    #[must_use]
    pub fn guard(&self) -> DrainGuard {
        DrainGuard(if self.is_started() {
            self.late_guards.subscribe()
        } else {
            self.guards.subscribe()
        })
    }

    /// Signals every [`DrainGuard`] to finish.
    pub fn start(&self) {
        let now = clock::now();
        for state in [&self.late_guards, &self.guards] {
            state.send_modify(|state| _ = state.started_at.get_or_insert(now));
        }
    }

    /// Starts the shutdown, then waits until all guards taken before the start are dropped, or
    /// `grace` is over. Returns how many guards are still held.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.start();
        let _ = time::timeout(grace, self.guards.closed()).await;
        self.guards.receiver_count()
    }

    /// Waits for the guards taken after the start, at most for `timeout`.
    pub async fn wait_for_late(&self, timeout: Duration) {
        let _ = time::timeout(timeout, self.late_guards.closed()).await;
    }

    /// Counts a connection that was dropped because it did not close in time.
    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections were dropped because they did not close in time.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl DrainGuard {
    /// Whether the shutdown has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started_at().is_some()
    }

    /// When the shutdown started, if it has.
    #[must_use]
    pub fn started_at(&self) -> Option<Instant> {
        self.0.borrow().started_at
    }

    /// Whether [`Shutdown::drain`] waits for it: it was taken before the start.
    #[must_use]
    pub fn delays_drain(&self) -> bool {
        !self.0.borrow().is_late
    }

    /// Whether the drain mode is chosen.
    #[must_use]
    pub fn has_mode(&self) -> bool {
        self.0.borrow().mode.is_some()
    }

    /// Waits for the start of the shutdown. Safe to cancel.
    pub async fn started(&mut self) {
        // An error means that the server was dropped, which is a shutdown as well.
        let _ = self.0.wait_for(|state| state.started_at.is_some()).await;
    }

    /// Waits until the drain mode is chosen. Safe to cancel.
    pub async fn mode_chosen(&mut self) {
        let _ = self.0.wait_for(|state| state.mode.is_some()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_when_the_last_holder_is_done() {
        let shutdown = Shutdown::new();
        let mut drain = shutdown.guard();
        assert!(!drain.is_started() && drain.delays_drain());
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
    async fn a_part_that_never_finishes_is_counted_and_not_waited_for() {
        let shutdown = Shutdown::new();
        let (drain, onlooker) = (shutdown.guard(), shutdown.clone());
        assert_eq!(shutdown.drain(Duration::from_secs(10)).await, 1);
        assert!(drain.is_started() && onlooker.is_started());
    }

    #[tokio::test(start_paused = true)]
    async fn later_receivers_do_not_delay_the_shutdown() {
        let shutdown = Shutdown::new();
        shutdown.start();
        let late = shutdown.guard();
        assert!(late.is_started() && !late.delays_drain());
        let start = time::Instant::now();
        assert_eq!(shutdown.drain(Duration::from_secs(10)).await, 0);
        assert_eq!(start.elapsed(), Duration::ZERO);
        shutdown.wait_for_late(Duration::from_secs(1)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_begins_once_and_its_plan_may_change() {
        let shutdown = Shutdown::new();
        let mut drain = shutdown.guard();
        assert_eq!(
            (shutdown.started_at(), drain.started_at(), shutdown.mode()),
            (None, None, None)
        );
        assert!(!drain.has_mode());
        shutdown.start();
        let began = clock::now();
        assert_eq!((shutdown.started_at(), drain.started_at()), (Some(began), Some(began)));
        time::advance(Duration::from_secs(1)).await;
        shutdown.start();
        assert_eq!(shutdown.started_at(), Some(began), "the grace period does not begin anew");
        assert_eq!(shutdown.guard().started_at(), Some(began));
        assert!(!drain.has_mode());
        drain.started().await;
        for mode in [DrainMode::Staggered, DrainMode::NoSuccessor] {
            shutdown.set_mode(mode);
            drain.mode_chosen().await;
            assert!(drain.has_mode() && shutdown.mode() == Some(mode));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_end_only_when_the_shutdown_begins() {
        let shutdown = Shutdown::new();
        let mut drain = shutdown.guard();
        let timeout = Duration::from_secs(1);
        assert!(time::timeout(timeout, drain.started()).await.is_err());
        shutdown.start();
        assert!(time::timeout(timeout, drain.mode_chosen()).await.is_err());
    }

    #[test]
    fn dropped_connections_are_counted_for_all_handles() {
        let shutdown = Shutdown::new();
        for _ in 0..3 {
            shutdown.clone().count_dropped();
        }
        assert_eq!(shutdown.dropped(), 3);
    }
}
