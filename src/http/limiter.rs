//! Limits HTTP connections, and evicts the longest idle one at the limit.
//!
//! A client that connects and sends nothing costs a file descriptor and some kilobytes until its
//! timeout, so HTTP connections have a limit of their own. At the limit, new connections wait in
//! the kernel's queue, and the connection for whose handshake or request the server has waited
//! longest is closed. A connection whose request is being answered is not closed, nor one that has
//! been idle for less than [`MIN_EVICTION_AGE`]: that is enough for a client to send its request,
//! and an attacker has to reconnect every second for each connection it holds.

use super::idle::{IdleTracker, WeakIdleTracker};
use crate::{
    node::Node,
    permit::{Permit, Quota},
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// The limit of HTTP connections, and the trackers of the open ones.
#[derive(Debug)]
pub struct HttpConnectionLimiter {
    quota: Arc<Quota>,
    /// Limit of file descriptors for HTTP and WebSocket connections together.
    max_descriptors: usize,
    node: Arc<Node>,
    connections: Mutex<ConnectionTable>,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    all: VecDeque<WeakIdleTracker>,
    /// The connection that was evicted last, and when.
    evicting: Option<(WeakIdleTracker, Instant)>,
    /// Until when they are not looked through again, since none could be evicted.
    nothing_to_evict_until: Option<Instant>,
}

/// A permit for a connection that has just been accepted.
#[derive(Debug)]
pub struct PendingConnection {
    pub(super) tracker: IdleTracker,
    pub(super) permit: Permit,
}

/// Minimum idle time of a connection that is evicted: some round trips of a slow network.
const MIN_EVICTION_AGE: Duration = Duration::from_secs(1);
/// How long to wait for an evicted connection to close before another is evicted. Only one is
/// needed, and closing takes a while on a busy machine.
const EVICTION_WAIT: Duration = Duration::from_millis(100);
/// How long to wait after looking through all connections in vain: with thousands, that takes a fraction of a millisecond.
const FRUITLESS_PAUSE: Duration = Duration::from_millis(20);
/// Trackers of closed connections are removed when they outnumber the others by this.
const STALE_MAX: usize = 64;

impl HttpConnectionLimiter {
    /// At most `max` HTTP connections, and at most `descriptors` HTTP and WebSocket connections.
    #[must_use]
    pub fn new(max: usize, descriptors: usize, node: Arc<Node>) -> Self {
        Self {
            quota: Quota::new(max),
            max_descriptors: descriptors,
            node,
            connections: Mutex::default(),
        }
    }

    /// Changes the limit of HTTP connections.
    pub fn set_max(&self, max: usize) {
        self.quota.set_max(max);
    }

    /// Returns a permit for a new connection. At the limit, evicts an idle connection if there is
    /// one that may be evicted; a permit is available once it has closed.
    #[must_use]
    pub fn admit(&self, now: Instant) -> Option<PendingConnection> {
        let has_room = self.quota.in_use() + self.node.local_connections() < self.max_descriptors;
        let Some(permit) = has_room.then(|| self.quota.try_acquire()).flatten() else {
            self.evict_longest_idle(now);
            return None;
        };
        let tracker = IdleTracker::new(now);
        let all = &mut self.connections.lock().all;
        if 2 * self.quota.in_use() + STALE_MAX < all.len() {
            all.retain(WeakIdleTracker::is_alive);
        }
        all.push_back(tracker.downgrade());
        Some(PendingConnection { tracker, permit })
    }

    /// Evicts the longest idle connection, approximately: one that may not be evicted moves to the
    /// end of the list.
    fn evict_longest_idle(&self, now: Instant) {
        let mut connections = self.connections.lock();
        if connections.nothing_to_evict_until.is_some_and(|until| now < until) {
            return;
        }
        let is_evicting = |(tracker, evicted_at): &(WeakIdleTracker, Instant)| {
            tracker.is_alive() && now < *evicted_at + EVICTION_WAIT
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
        connections.nothing_to_evict_until = Some(now + FRUITLESS_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        node::{AdmittedClient, ClientAddress, ConnectRequest},
        shutdown::Shutdown,
        webhook::Webhooks,
    };
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
    fn the_longest_idle_connection_is_evicted_after_the_minimum_age() {
        let limiter = limiter(3, 100);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let answered = limiter.admit(at(0)).unwrap();
        answered.tracker.request_started();
        let idle = limiter.admit(at(100)).unwrap();
        let young = limiter.admit(at(500)).unwrap();
        assert!(limiter.admit(at(1_000)).is_none());
        assert!(!is_evicted(&idle), "it is younger than the minimum age");
        assert!(limiter.admit(at(1_100)).is_none());
        assert!(is_evicted(&idle));
        assert!(!is_evicted(&answered) && !is_evicted(&young), "one eviction for one permit");
        drop(idle);
        assert!(limiter.admit(at(1_100)).is_some());
    }

    #[test]
    fn no_other_connection_is_evicted_while_one_is_closing() {
        let limiter = limiter(2, 100);
        let start = Instant::now();
        let [first, second] = [limiter.admit(start).unwrap(), limiter.admit(start).unwrap()];
        let asked = start + MIN_EVICTION_AGE;
        assert!(limiter.admit(asked).is_none());
        assert!(is_evicted(&first));
        assert!(limiter.admit(asked + EVICTION_WAIT - Duration::from_millis(1)).is_none());
        assert!(!is_evicted(&second), "one eviction for one permit");
        assert!(limiter.admit(asked + EVICTION_WAIT).is_none());
        assert!(is_evicted(&second), "the first one does not close");
    }

    #[test]
    fn a_lower_limit_evicts_one_connection_after_another() {
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
    fn http_and_websocket_connections_together_are_limited_by_descriptors() {
        let limiter = limiter(0, 2);
        let now = Instant::now();
        let _guests = [limiter.admit(now).unwrap(), limiter.admit(now).unwrap()];
        assert!(limiter.admit(now).is_none());
    }

    #[test]
    fn a_websocket_connection_takes_a_descriptor() {
        let limiter = limiter(0, 2);
        let request = ConnectRequest {
            key: "app-key",
            token: None,
            protocol: Some("7"),
            origin: None,
            peer: ClientAddress { address: [127, 0, 0, 1].into(), is_tls: false },
            is_from_loopback: true,
        };
        let admitted: AdmittedClient<()> =
            limiter.node.admit(request).now_or_never().unwrap().unwrap();
        let now = Instant::now();
        let _pending = limiter.admit(now).unwrap();
        assert!(limiter.admit(now).is_none());
        drop(admitted);
        assert!(limiter.admit(now).is_some());
    }

    #[test]
    fn trackers_of_many_connections_that_close_at_once_are_removed() {
        let limiter = limiter(0, usize::MAX);
        let now = Instant::now();
        let many: Vec<_> = (0..1_000).map(|_| limiter.admit(now).unwrap()).collect();
        assert_eq!(limiter.connections.lock().all.len(), many.len());
        drop(many);
        let _pending = limiter.admit(now).unwrap();
        assert_eq!(limiter.connections.lock().all.len(), 1);
    }

    #[test]
    fn trackers_of_closed_connections_are_removed() {
        let limiter = limiter(0, usize::MAX);
        let stays = limiter.admit(Instant::now()).unwrap();
        for _ in 0..10_000 {
            drop(limiter.admit(Instant::now()).unwrap());
            let trackers = limiter.connections.lock().all.len();
            assert!(trackers <= STALE_MAX + 5, "{trackers}");
        }
        assert!(stays.tracker.idle_since().is_some());
    }
}
