//! Graceful leave: notifies the other nodes, withdraws all contributions, and releases the lease.

use super::{
    clock::now,
    coordinator::{Completion, Coordinator},
    membership::{HeartbeatPhase, Membership},
    ready::NodeState,
    shared::ClusterState,
};
use std::{sync::Arc, time::Instant};

impl Membership {
    /// The state that this node's heartbeats report.
    pub(super) fn state(&self, shared: &ClusterState) -> NodeState {
        if shared.is_draining() {
            NodeState::Draining
        } else if self.is_joined() {
            NodeState::Ready
        } else {
            NodeState::Joining
        }
    }
}

impl Coordinator {
    /// Publishes at once whether this node takes connections.
    pub(super) fn heartbeat_now(&mut self) {
        if self.membership.is_joined() {
            self.send_heartbeat(HeartbeatPhase::Heartbeat, now());
        }
    }

    /// Records whether another node takes connections. If this one does, a node that is new or
    /// drains is notified by the next tick: one heartbeat answers any number of them.
    pub(super) fn note_state(&mut self, node: &str, state: NodeState, now: Instant) {
        let is_ready = self.membership.state(&self.shared) == NodeState::Ready;
        let is_other = node != self.membership.node();
        if is_other && self.shared.others.note(node, state, now) && is_ready {
            self.membership.next_heartbeat = now;
        }
    }

    /// Leaves the cluster once all contributions are withdrawn.
    pub(super) fn keep_stopping(&mut self) {
        let Some((_, is_leaving)) = &self.stopping else { return };
        let is_leaving = *is_leaving;
        let Some(connection) = self.connection.clone() else {
            // Without a link, another node cleans up.
            self.is_leaving();
            return;
        };
        if is_leaving {
            return;
        }
        for topic in self.topics.values_mut() {
            topic.end_all();
        }
        let talking = self.topics.iter().filter(|(_, topic)| !topic.has_said_all());
        let talking: Vec<Arc<str>> = talking.map(|(name, _)| Arc::clone(name)).collect();
        if self.has_steps() || !talking.is_empty() {
            for name in talking {
                self.touch(&name);
            }
            return;
        }
        self.is_leaving();
        let partitions = self.shared.names.partitions().collect();
        let leave =
            self.membership.round(&self.shared, HeartbeatPhase::Leave, partitions, connection);
        self.begin(async move {
            // If it fails, the others clean up.
            if let Err(error) = leave.await {
                tracing::debug!(%error, "leaving was not recorded in redis");
            }
            Completion::GoneAway
        });
    }

    fn is_leaving(&mut self) {
        if let Some((_, is_leaving)) = &mut self.stopping {
            *is_leaving = true;
        }
    }
}
