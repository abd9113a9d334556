//! Tracks which other nodes take connections, by their heartbeats.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
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
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::Joining => "B",
            Self::Ready => "R",
            Self::Draining => "D",
        }
    }

    /// The state for the first character of a heartbeat; `None` for other messages.
    pub(super) fn of(letter: &str) -> Option<Self> {
        [Self::Joining, Self::Ready, Self::Draining]
            .into_iter()
            .find(|state| state.letter() == letter)
    }
}

/// The other nodes that take connections, each with the time of its last heartbeat.
#[derive(Debug, Default)]
pub(super) struct ReadyNodes(Mutex<HashMap<String, Instant>>);

/// Time without a heartbeat after which a node is not considered ready. Heartbeats are sent every
/// second; a node that stops in order reports it at once, so that only a node that died is
/// considered ready for this long, and one on a busy machine may be late by three heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// Maximum number of nodes that are tracked: more than a cluster has.
const KNOWN_MAX: usize = 64;

impl ReadyNodes {
    /// Records a heartbeat of another node. Returns true if that node should be notified of this
    /// one soon: it has become ready, or it drains.
    pub(super) fn note(&self, node: &str, state: NodeState, now: Instant) -> bool {
        let mut nodes = self.0.lock();
        nodes.retain(|_, heard| now.saturating_duration_since(*heard) < SILENCE_MAX);
        if state != NodeState::Ready {
            nodes.remove(node);
        } else if nodes.len() < KNOWN_MAX || nodes.contains_key(node) {
            return nodes.insert(node.to_owned(), now).is_none();
        }
        state == NodeState::Draining
    }

    /// Whether any other node is ready.
    pub(super) fn is_any(&self, now: Instant) -> bool {
        let nodes = self.0.lock();
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
        assert!(nodes.note("a.1", NodeState::Ready, start), "it is new");
        assert!(!nodes.note("a.1", NodeState::Ready, start));
        nodes.note("b.1", NodeState::Joining, start);
        assert!(nodes.is_any(start));
        nodes.note("a.1", NodeState::Joining, start);
        assert!(!nodes.is_any(start), "it does not take any");
        nodes.note("a.1", NodeState::Ready, start);
        assert!(nodes.note("a.1", NodeState::Draining, start), "it is to hear of this node");
        assert!(!nodes.is_any(start), "it drains");
        nodes.note("a.1", NodeState::Ready, start);
        assert!(!nodes.is_any(start + SILENCE_MAX), "it is silent");
    }

    #[test]
    fn the_number_of_tracked_nodes_is_limited() {
        let nodes = ReadyNodes::default();
        let start = Instant::now();
        let added = (0..10 * KNOWN_MAX)
            .filter(|node| nodes.note(&node.to_string(), NodeState::Ready, start));
        assert_eq!(added.count(), KNOWN_MAX);
    }

    #[test]
    fn states_are_parsed_as_they_were_formatted() {
        for (state, letter) in
            [(NodeState::Joining, "B"), (NodeState::Ready, "R"), (NodeState::Draining, "D")]
        {
            assert_eq!(state.letter(), letter);
            assert_eq!(NodeState::of(letter), Some(state));
        }
        assert_eq!(NodeState::of(""), None);
        assert_eq!(NodeState::of("T"), None);
    }

    #[test]
    fn a_node_that_was_silent_is_new_again() {
        let nodes = ReadyNodes::default();
        let start = Instant::now();
        nodes.note("a.1", NodeState::Ready, start);
        let heard = start + SILENCE_MAX - Duration::from_millis(1);
        assert!(nodes.is_any(heard));
        assert!(!nodes.note("a.1", NodeState::Ready, heard));
        assert!(nodes.note("a.1", NodeState::Ready, heard + SILENCE_MAX), "silent for too long");
    }
}
