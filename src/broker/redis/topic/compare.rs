//! The comparison of one topic with its state in Redis.

use super::{PubSubState, Topic};
use std::time::Instant;

/// The state of a settled topic on this node.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker::redis) struct LocalState {
    /// This node's contribution to the total, as last acknowledged by Redis.
    pub(in crate::broker::redis) own_total: usize,
    /// The number of this node's users.
    pub(in crate::broker::redis) users: usize,
    /// The number of members of all nodes.
    pub(in crate::broker::redis) members: usize,
    /// The number of syncs made before.
    syncs: u64,
    attempt: u32,
}

/// The state of a topic in Redis.
#[derive(Debug)]
pub(in crate::broker::redis) struct RedisState {
    pub(in crate::broker::redis) epoch: String,
    pub(in crate::broker::redis) version: u64,
    pub(in crate::broker::redis) sequence: u64,
    pub(in crate::broker::redis) is_inconsistent: bool,
}

/// The difference between what a node holds and what Redis holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::broker::redis) enum Difference {
    None,
    /// The topic is to be synced and read again.
    Repair,
    /// Pub/sub messages were lost: the topic is to be subscribed again as well.
    Missed,
}

impl Topic {
    /// What this node holds; `None` while a sync is due or in flight.
    pub(in crate::broker::redis) fn local_state(&self, now: Instant) -> Option<LocalState> {
        let is_ending = self.sign_out_times.front().is_some_and(|at| *at <= now);
        let is_settled = self.pubsub_state == PubSubState::Subscribed
            && self.in_flight_waiters.is_none()
            && !self.must_sync();
        (is_settled && !is_ending).then(|| LocalState {
            own_total: self.acknowledged_total,
            users: self.users.count(),
            members: self.view.as_ref().map_or(0, |view| view.members.len()),
            syncs: self.syncs,
            attempt: self.attempt,
        })
    }

    /// Withdraws a contribution that is in Redis and unknown to this node. Returns false if it is
    /// known.
    pub(in crate::broker::redis) fn withdraw_unknown(&mut self) -> bool {
        let is_unknown =
            self.pubsub_state == PubSubState::Unsubscribed && self.acknowledged_total == 0;
        if is_unknown {
            self.acknowledged_total = 1;
            self.needs_full_sync = true;
        }
        is_unknown
    }

    /// Compares the two states. Earlier pub/sub messages are handled already.
    pub(in crate::broker::redis) fn compare(
        &mut self,
        local: &LocalState,
        found: &RedisState,
    ) -> Difference {
        if (self.attempt, self.syncs) != (local.attempt, local.syncs) {
            return Difference::None;
        }
        let difference = self.difference(found);
        match difference {
            Difference::None => {}
            Difference::Repair => self.needs_full_sync = true,
            Difference::Missed => self.reset(),
        }
        difference
    }

    fn difference(&self, found: &RedisState) -> Difference {
        if let Some(view) = self.view.as_ref().filter(|_| self.has_pubsub_channel()) {
            if found.epoch.is_empty() && view.total == 0 && !found.is_inconsistent {
                // The hash of a vacated topic expires.
                return Difference::None;
            }
            if found.epoch != view.epoch {
                return Difference::Repair;
            }
            let has_missed = view.sequence < found.sequence || view.version < found.version;
            if has_missed {
                return Difference::Missed;
            }
            if found.sequence < view.sequence && self.channel().is_some() {
                return Difference::Repair;
            }
        }
        if found.is_inconsistent { Difference::Repair } else { Difference::None }
    }
}
