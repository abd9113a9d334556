//! Tracks which other nodes take connections, by their heartbeats.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The other nodes that take connections, each with the time of its last heartbeat.
#[derive(Debug, Default)]
pub(super) struct ReadyNodes(Mutex<HashMap<String, Instant>>);

/// Time without a heartbeat after which a node is not considered ready. Heartbeats are sent every
/// second.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Nodes that are remembered. More than a cluster has are not needed to know that one is ready.
const KNOWN_MAX: usize = 64;

impl ReadyNodes {
    /// Records a heartbeat of another node. True if the node has become ready.
    pub(super) fn note(&self, node: &str, is_ready: bool, now: Instant) -> bool {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, heard| now.saturating_duration_since(*heard) < SILENCE_MAX);
        if !is_ready {
            nodes.remove(node);
        } else if nodes.len() < KNOWN_MAX || nodes.contains_key(node) {
            return nodes.insert(node.to_owned(), now).is_none();
        }
        false
    }

    /// Whether any other node is ready.
    pub(super) fn is_any(&self, now: Instant) -> bool {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.values().any(|heard| now.saturating_duration_since(*heard) < SILENCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_with_a_recent_heartbeat_that_do_not_drain_are_ready() {
        let nodes = ReadyNodes::default();
        let start = Instant::now();
        assert!(!nodes.is_any(start));
        assert!(nodes.note("a.1", true, start), "it is new");
        assert!(!nodes.note("a.1", true, start));
        nodes.note("b.1", false, start);
        assert!(nodes.is_any(start));
        nodes.note("a.1", false, start);
        assert!(!nodes.is_any(start), "it drains");
        nodes.note("a.1", true, start);
        assert!(!nodes.is_any(start + SILENCE_MAX), "it is silent");
    }

    #[test]
    fn no_more_nodes_are_remembered_than_a_cluster_has() {
        let nodes = ReadyNodes::default();
        let start = Instant::now();
        let added = (0..10 * KNOWN_MAX).filter(|node| nodes.note(&node.to_string(), true, start));
        assert_eq!(added.count(), KNOWN_MAX);
    }
}
