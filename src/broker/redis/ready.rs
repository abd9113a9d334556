//! Tracks which other nodes take connections, by their heartbeats.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Whether a node takes connections, as reported by its heartbeats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NodeState {
    /// It has not joined yet.
    Joining,
    /// It takes connections.
    Ready,
    /// It drains. Ready nodes answer with a heartbeat, so that it knows of them in time.
    Draining,
}

impl NodeState {
    /// The first character of a heartbeat.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Joining => "B",
            Self::Ready => "R",
            Self::Draining => "D",
        }
    }

    /// The state for the first character of a heartbeat; `None` for other messages.
    pub(super) fn from_code(letter: &str) -> Option<Self> {
        [Self::Joining, Self::Ready, Self::Draining]
            .into_iter()
            .find(|state| state.code() == letter)
    }
}

/// The other nodes that take connections, each with the time of its last heartbeat.
#[derive(Debug, Default)]
pub(super) struct ReadyNodes {
    heartbeats: Mutex<HashMap<String, Instant>>,
    /// The number of other processes with a lease, ready or not.
    process_count: AtomicUsize,
    /// These processes by name.
    processes: Mutex<Vec<String>>,
}

/// Time without a heartbeat after which a node is not considered ready: the least
/// `redis.node_timeout_ms`. Heartbeats are sent every second, so that two may be late on a busy
/// machine; a node that stops in order reports it at once.
const READY_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum number of nodes that are tracked: more than a cluster has.
const READY_NODES_MAX: usize = 64;

impl ReadyNodes {
    /// Records a heartbeat of another node. Returns true if that node should be notified of this
    /// one soon: it has become ready, or it drains.
    pub(super) fn record_heartbeat(&self, node: &str, state: NodeState, now: Instant) -> bool {
        let mut nodes = self.heartbeats.lock();
        nodes.retain(|_, last| now.saturating_duration_since(*last) < READY_TIMEOUT);
        if state != NodeState::Ready {
            nodes.remove(node);
        } else if nodes.len() < READY_NODES_MAX || nodes.contains_key(node) {
            return nodes.insert(node.to_owned(), now).is_none();
        }
        state == NodeState::Draining
    }

    /// Sets the other processes that have a lease.
    pub(super) fn set_processes(&self, known: &[String]) {
        self.process_count.store(known.len(), Ordering::Relaxed);
        let mut processes = self.processes.lock();
        if *processes != known {
            known.clone_into(&mut processes);
        }
    }

    /// The other processes that have a lease.
    pub(super) fn processes(&self) -> Vec<String> {
        self.processes.lock().clone()
    }

    /// Whether there are other nodes, ready or not.
    pub(super) fn has_other_nodes(&self) -> bool {
        0 < self.process_count.load(Ordering::Relaxed)
    }

    /// Whether any other node is ready.
    pub(super) fn has_ready(&self, now: Instant) -> bool {
        let nodes = self.heartbeats.lock();
        nodes.values().any(|last| now.saturating_duration_since(*last) < READY_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_with_a_recent_heartbeat_that_do_not_drain_are_ready() {
        let nodes = ReadyNodes::default();
        let start = Instant::now();
        assert!(!nodes.has_ready(start));
        assert!(nodes.record_heartbeat("a.1", NodeState::Ready, start), "it is new");
        assert!(!nodes.record_heartbeat("a.1", NodeState::Ready, start));
        nodes.record_heartbeat("b.1", NodeState::Joining, start);
        assert!(nodes.has_ready(start));
        nodes.record_heartbeat("a.1", NodeState::Joining, start);
        assert!(!nodes.has_ready(start), "it does not take any");
        nodes.record_heartbeat("a.1", NodeState::Ready, start);
        assert!(
            nodes.record_heartbeat("a.1", NodeState::Draining, start),
            "it must receive a heartbeat of this node"
        );
        assert!(!nodes.has_ready(start), "it drains");
        nodes.record_heartbeat("a.1", NodeState::Ready, start);
        assert!(!nodes.has_ready(start + READY_TIMEOUT), "it is silent");
    }

    #[test]
    fn others_are_known_before_their_first_heartbeat() {
        let nodes = ReadyNodes::default();
        assert!(!nodes.has_other_nodes());
        nodes.set_processes(&["0000cd".to_owned()]);
        assert_eq!(nodes.processes(), ["0000cd"]);
        assert!(nodes.has_other_nodes() && !nodes.has_ready(Instant::now()));
        nodes.set_processes(&[]);
        assert!(!nodes.has_other_nodes());
    }

    #[test]
    fn the_number_of_tracked_nodes_is_limited() {
        let nodes = ReadyNodes::default();
        let start = Instant::now();
        let added = (0..10 * READY_NODES_MAX)
            .filter(|node| nodes.record_heartbeat(&node.to_string(), NodeState::Ready, start));
        assert_eq!(added.count(), READY_NODES_MAX);
    }

    #[test]
    fn states_are_parsed_as_they_were_formatted() {
        for (state, letter) in
            [(NodeState::Joining, "B"), (NodeState::Ready, "R"), (NodeState::Draining, "D")]
        {
            assert_eq!(state.code(), letter);
            assert_eq!(NodeState::from_code(letter), Some(state));
        }
        assert_eq!(NodeState::from_code(""), None);
        assert_eq!(NodeState::from_code("T"), None);
    }

    #[test]
    fn a_node_that_was_silent_is_new_again() {
        let nodes = ReadyNodes::default();
        let start = Instant::now();
        nodes.record_heartbeat("a.1", NodeState::Ready, start);
        let next = start + READY_TIMEOUT - Duration::from_millis(1);
        assert!(nodes.has_ready(next));
        assert!(!nodes.record_heartbeat("a.1", NodeState::Ready, next));
        assert!(
            nodes.record_heartbeat("a.1", NodeState::Ready, next + READY_TIMEOUT),
            "silent for too long"
        );
    }
}
