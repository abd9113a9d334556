//! Graceful leave: notifies the other nodes, takes everything back, and releases the lease.

use super::{
    beat::Membership,
    link::Connection,
    manager::{Manager, Outcome},
    ready::NodeState,
    scripts::Call,
    shared::Shared,
};
use redis::cmd;
use std::{sync::Arc, time::Instant};

impl Membership {
    /// What this node's heartbeats say.
    pub(super) fn state(&self, shared: &Shared) -> NodeState {
        if shared.is_draining() {
            NodeState::Draining
        } else if self.is_joined() {
            NodeState::Ready
        } else {
            NodeState::Joining
        }
    }
}

impl Manager {
    /// Publishes at once whether this node takes connections.
    pub(super) fn beat_now(&mut self) {
        if self.membership.is_joined() {
            self.beat("beat", Instant::now());
        }
    }

    /// Notes whether another node takes connections. If this one does, a node that is new or drains
    /// hears of it by the next tick: one heartbeat answers any number of them.
    pub(super) fn note_state(&mut self, node: &str, state: NodeState, now: Instant) {
        let is_ready = self.membership.state(&self.shared) == NodeState::Ready;
        let is_other = node != self.membership.node();
        if is_other && self.shared.others.note(node, state, now) && is_ready {
            self.membership.next_beat = now;
        }
    }

    /// Says goodbye once nothing is left to say.
    pub(super) fn keep_stopping(&mut self) {
        let Some((_, is_leaving)) = &self.stopping else { return };
        let is_leaving = *is_leaving;
        let Some(connection) = self.connection.clone() else {
            // There is nobody to say it to: the others clean up.
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
        let call = self.membership.call(&self.shared, "leave");
        let topics = self.shared.names.topics_of(&self.membership.node());
        self.begin(say_goodbye(connection, call, topics));
    }

    fn is_leaving(&mut self) {
        if let Some((_, is_leaving)) = &mut self.stopping {
            *is_leaving = true;
        }
    }
}

/// Gives the lease back, when nothing is left of this node.
async fn say_goodbye(mut connection: Connection, call: Call, topics: String) -> Outcome {
    let mut forget = cmd("DEL");
    forget.arg(topics);
    // If it fails, the others clean up.
    let _ = connection.query::<()>(&forget).await;
    let _ = call.run(&mut connection).await;
    Outcome::GoneAway
}
