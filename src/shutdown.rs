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

/// Starts the shutdown, and waits for it. Clones create [`Drain`]s or check whether the shutdown
/// has begun; holding one delays nothing.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Receivers that existed when the shutdown began.
    early: watch::Sender<DrainState>,
    /// Receivers that were added since. Clients continue to connect while the server drains, and
    /// must not delay its end.
    late: watch::Sender<DrainState>,
    dropped: Arc<AtomicUsize>,
}

/// Held by everything that must finish before the process may end.
#[derive(Debug)]
pub struct Drain(watch::Receiver<DrainState>);

/// How a shutdown closes WebSocket connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DrainPlan {
    /// Spread over the grace period with 4200: another process serves a connection made at once.
    Spread,
    /// All at once, with 4200 as far as the queue has room, then with 4100: a connection made at
    /// once waits in the queue of a listening socket that outlives the process, and the next
    /// process starts when this one ends.
    Queue,
    /// All at once with 4100: nothing else serves.
    Alone,
}

#[derive(Clone, Copy, Debug, Default)]
struct DrainState {
    since: Option<Instant>,
    plan: Option<DrainPlan>,
    is_late: bool,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A shutdown that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            early: watch::Sender::new(DrainState::default()),
            late: watch::Sender::new(DrainState { is_late: true, ..DrainState::default() }),
            dropped: Arc::default(),
        }
    }

    /// Whether the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.since().is_some()
    }

    /// When the shutdown began, if it has.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.early.borrow().since
    }

    /// How connections are closed, once that is decided. It may change during the drain.
    #[must_use]
    pub fn plan(&self) -> Option<DrainPlan> {
        self.early.borrow().plan
    }

    /// Sets how connections are closed, and starts closing them.
    pub fn set_plan(&self, plan: DrainPlan) {
        self.early.send_modify(|state| state.plan = Some(plan));
    }

    /// Makes the shutdown wait until the returned value is dropped. Values created after its start
    /// are waited for by [`finish`](Self::finish) only.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain(if self.has_begun() { self.late.subscribe() } else { self.early.subscribe() })
    }

    /// Signals every [`Drain`] to finish.
    pub fn start(&self) {
        let now = clock::now();
        for state in [&self.late, &self.early] {
            state.send_modify(|state| _ = state.since.get_or_insert(now));
        }
    }

    /// Signals every [`Drain`] to finish, then waits until all earlier ones are dropped, or `grace`
    /// is over. Returns how many were still held.
    pub async fn begin(&self, grace: Duration) -> usize {
        self.start();
        let _ = time::timeout(grace, self.early.closed()).await;
        self.early.receiver_count()
    }

    /// Waits for the values created after the shutdown began, at most for `patience`.
    pub async fn finish(&self, patience: Duration) {
        let _ = time::timeout(patience, self.late.closed()).await;
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

impl Drain {
    /// Whether the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.since().is_some()
    }

    /// When the shutdown began, if it has.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.0.borrow().since
    }

    /// Whether [`Shutdown::begin`] waits for it: it was created before the shutdown began.
    #[must_use]
    pub fn is_early(&self) -> bool {
        !self.0.borrow().is_late
    }

    /// Whether it is decided how connections are closed.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.0.borrow().plan.is_some()
    }

    /// Waits for the shutdown to begin. Safe to cancel.
    pub async fn begun(&mut self) {
        // An error means that the server was dropped, which is a shutdown as well.
        let _ = self.0.wait_for(|state| state.since.is_some()).await;
    }

    /// Waits until it is decided how connections are closed. Safe to cancel.
    pub async fn planned(&mut self) {
        let _ = self.0.wait_for(|state| state.plan.is_some()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_when_the_last_holder_is_done() {
        let shutdown = Shutdown::new();
        let mut drain = shutdown.drain();
        assert!(!drain.has_begun() && drain.is_early());
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
    async fn a_part_that_never_finishes_is_counted_and_not_waited_for() {
        let shutdown = Shutdown::new();
        let (drain, onlooker) = (shutdown.drain(), shutdown.clone());
        assert_eq!(shutdown.begin(Duration::from_secs(10)).await, 1);
        assert!(drain.has_begun() && onlooker.has_begun());
    }

    #[tokio::test(start_paused = true)]
    async fn later_receivers_do_not_delay_the_shutdown() {
        let shutdown = Shutdown::new();
        shutdown.start();
        let late = shutdown.drain();
        assert!(late.has_begun() && !late.is_early());
        let start = time::Instant::now();
        assert_eq!(shutdown.begin(Duration::from_secs(10)).await, 0);
        assert_eq!(start.elapsed(), Duration::ZERO);
        shutdown.finish(Duration::from_secs(1)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_begins_once_and_its_plan_may_change() {
        let shutdown = Shutdown::new();
        let mut drain = shutdown.drain();
        assert_eq!((shutdown.since(), drain.since(), shutdown.plan()), (None, None, None));
        assert!(!drain.is_planned());
        shutdown.start();
        let began = clock::now();
        assert_eq!((shutdown.since(), drain.since()), (Some(began), Some(began)));
        time::advance(Duration::from_secs(1)).await;
        shutdown.start();
        assert_eq!(shutdown.since(), Some(began), "the grace period does not begin anew");
        assert_eq!(shutdown.drain().since(), Some(began));
        assert!(!drain.is_planned());
        drain.begun().await;
        for plan in [DrainPlan::Spread, DrainPlan::Alone] {
            shutdown.set_plan(plan);
            drain.planned().await;
            assert!(drain.is_planned() && shutdown.plan() == Some(plan));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_end_only_when_the_shutdown_begins() {
        let shutdown = Shutdown::new();
        let mut drain = shutdown.drain();
        let patience = Duration::from_secs(1);
        assert!(time::timeout(patience, drain.begun()).await.is_err());
        shutdown.start();
        assert!(time::timeout(patience, drain.planned()).await.is_err());
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
