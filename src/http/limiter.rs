//! The connections that are no WebSocket: how many there may be, and who has to go for a
//! newcomer.
//!
//! A client that connects and sends nothing costs a file descriptor and some kilobytes until its
//! time is over, and ten thousand of them would cost everybody else the server. So these
//! connections have a limit of their own. At the limit, newcomers wait where the kernel keeps
//! them, and the connection that has kept us waiting longest goes, be it for its handshake, for
//! its request or for its next one. Who is given an answer stays, and so does whoever has been
//! waited for less than [`MIN_EVICTION_AGE`]: a client that means to say something does so well within it,
//! and whoever attacks has to come again every second for each place it wants to hold.

use super::idle::{IdleTracker, WeakIdleTracker};
use crate::{
    node::Node,
    permit::{Permit, Quota},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many connections there are that are no WebSocket, and which.
#[derive(Debug)]
pub struct HttpConnectionLimiter {
    quota: Arc<Quota>,
    /// File descriptors for connections of both kinds.
    descriptors: usize,
    node: Arc<Node>,
    connections: Mutex<PendingConnections>,
}

#[derive(Debug, Default)]
struct PendingConnections {
    all: VecDeque<WeakIdleTracker>,
    /// The one asked to go last, and when.
    evicting: Option<(WeakIdleTracker, Instant)>,
}

/// The place of a connection that has just been accepted.
#[derive(Debug)]
pub struct PendingConnection {
    pub(super) tracker: IdleTracker,
    pub(super) permit: Permit,
}

/// How long a client is waited for at least: some round trips of a slow network.
const MIN_EVICTION_AGE: Duration = Duration::from_secs(1);
/// How long the one asked to go is waited for before somebody else is asked, too. On a busy machine it takes a while
/// until a connection is closed, and one place needs only one of them.
const EVICTION_WAIT: Duration = Duration::from_millis(100);
/// Marks of guests who have gone are cleared away when they outnumber the others by this.
const STALE_MAX: usize = 64;

impl HttpConnectionLimiter {
    /// At most `max` connections that are no WebSocket, and at most `descriptors` with those
    /// that are.
    #[must_use]
    pub fn new(max: usize, descriptors: usize, node: Arc<Node>) -> Self {
        Self { quota: Quota::new(max), descriptors, node, connections: Mutex::default() }
    }

    /// Sets another limit for the connections that are no WebSocket.
    pub fn set_max(&self, max: usize) {
        self.quota.set_max(max);
    }

    /// Takes a place for a newcomer. When all are taken, has somebody else go, as far as there
    /// is anybody who may be asked to; the place is free a little later.
    #[must_use]
    pub fn admit(&self, now: Instant) -> Option<PendingConnection> {
        let has_room = self.quota.used() + self.node.connections_here() < self.descriptors;
        let Some(permit) = has_room.then(|| self.quota.take()).flatten() else {
            self.evict_longest_idle(now);
            return None;
        };
        let tracker = IdleTracker::new(now);
        let all = &mut self.lock().all;
        if 2 * self.quota.used() + STALE_MAX < all.len() {
            all.retain(WeakIdleTracker::is_alive);
        }
        all.push_back(tracker.downgrade());
        Some(PendingConnection { tracker, permit })
    }

    /// Asks the one to go who has been waited for longest, or nearly: whoever cannot go now is
    /// looked at again when it is its turn.
    fn evict_longest_idle(&self, now: Instant) {
        let mut connections = self.lock();
        let is_evicting = |(tracker, asked): &(WeakIdleTracker, Instant)| {
            tracker.is_alive() && now < *asked + EVICTION_WAIT
        };
        if connections.evicting.as_ref().is_some_and(is_evicting) {
            return;
        }
        for _ in 0..connections.all.len() {
            let Some(tracker) = connections.all.pop_front() else { return };
            let Some(active) = tracker.upgrade() else { continue };
            if active.idle_since().is_some_and(|since| since + MIN_EVICTION_AGE <= now) {
                connections.evicting = Some((tracker, now));
                return active.evict();
            }
            connections.all.push_back(tracker);
        }
    }

    fn lock(&self) -> MutexGuard<'_, PendingConnections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, shutdown::Shutdown, webhook::Webhooks};
    use futures_util::FutureExt;

    fn limiter(max: usize, descriptors: usize) -> HttpConnectionLimiter {
        let config = Config::default();
        let webhooks = Arc::new(Webhooks::new(&config).unwrap());
        let node = Node::new(&config, 1, 0, Shutdown::new(), webhooks);
        HttpConnectionLimiter::new(max, descriptors, Arc::new(node))
    }

    fn is_evicted(pending: &PendingConnection) -> bool {
        pending.tracker.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_one_goes_who_has_been_waited_for_longest_and_long_enough() {
        let limiter = limiter(3, 100);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let answered = limiter.admit(at(0)).unwrap();
        answered.tracker.request_started();
        let idle = limiter.admit(at(100)).unwrap();
        let young = limiter.admit(at(500)).unwrap();
        assert!(limiter.admit(at(1_000)).is_none());
        assert!(!is_evicted(&idle), "it has some time yet");
        assert!(limiter.admit(at(1_100)).is_none());
        assert!(is_evicted(&idle));
        assert!(!is_evicted(&answered) && !is_evicted(&young), "one for one");
        drop(idle);
        assert!(limiter.admit(at(1_100)).is_some());
    }

    #[test]
    fn nobody_else_is_asked_to_go_while_one_is_leaving() {
        let limiter = limiter(2, 100);
        let start = Instant::now();
        let [first, second] = [limiter.admit(start).unwrap(), limiter.admit(start).unwrap()];
        let asked = start + MIN_EVICTION_AGE;
        assert!(limiter.admit(asked).is_none());
        assert!(is_evicted(&first));
        assert!(limiter.admit(asked + EVICTION_WAIT - Duration::from_millis(1)).is_none());
        assert!(!is_evicted(&second), "one for one");
        assert!(limiter.admit(asked + EVICTION_WAIT).is_none());
        assert!(is_evicted(&second), "the first one does not go");
    }

    #[test]
    fn places_that_a_lower_limit_takes_away_are_given_up_one_after_another() {
        let limiter = limiter(2, 100);
        let start = Instant::now();
        let [first, second] = [limiter.admit(start).unwrap(), limiter.admit(start).unwrap()];
        limiter.set_max(1);
        assert!(limiter.admit(start + MIN_EVICTION_AGE).is_none());
        assert!(is_evicted(&first));
        drop(first);
        assert!(limiter.admit(start + MIN_EVICTION_AGE).is_none());
        assert!(is_evicted(&second));
    }

    #[test]
    fn both_kinds_together_do_not_outnumber_the_descriptors() {
        let limiter = limiter(0, 2);
        let now = Instant::now();
        let _guests = [limiter.admit(now).unwrap(), limiter.admit(now).unwrap()];
        assert!(limiter.admit(now).is_none());
    }

    #[test]
    fn whoever_has_gone_leaves_nothing_behind() {
        let limiter = limiter(0, usize::MAX);
        let stays = limiter.admit(Instant::now()).unwrap();
        for _ in 0..10_000 {
            drop(limiter.admit(Instant::now()).unwrap());
        }
        let marks = limiter.lock().all.len();
        assert!(marks <= STALE_MAX + 4, "{marks}");
        assert!(stays.tracker.idle_since().is_some());
    }
}
