//! What a topic says of itself when it is compared with what Redis holds.

use super::{Phase, Topic};
use crate::cluster::compare::Found;
use std::time::Instant;

/// What this node holds of a topic that is settled.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) struct Held {
    /// What Redis has of this node's part of the total.
    pub(in crate::cluster) mine: usize,
    /// This node's users.
    pub(in crate::cluster) users: usize,
    /// The members of all nodes.
    pub(in crate::cluster) members: usize,
    /// The assertions that were made until then.
    assertions: u64,
    attempt: u32,
}

/// How what a node holds differs from what Redis holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cluster) enum Difference {
    None,
    /// The topic is to be asserted and read again.
    Repair,
    /// The bus has not brought everything: the topic is to be subscribed to again as well.
    Deaf,
}

impl Topic {
    /// What this node holds; nothing while it has something to say, or waits for an answer.
    pub(in crate::cluster) fn held(&self, now: Instant) -> Option<Held> {
        let is_ending = self.ending.front().is_some_and(|at| *at <= now);
        let is_settled = self.phase == Phase::In && self.sent.is_none() && !self.must_sync();
        (is_settled && !is_ending).then(|| Held {
            mine: self.told,
            users: self.users.len(),
            members: self.replica.as_ref().map_or(0, |replica| replica.members.len()),
            assertions: self.assertions,
            attempt: self.attempt,
        })
    }

    /// Redis has a part of this node that it does not know of: it is taken back. False if it is known.
    pub(in crate::cluster) fn take_back(&mut self) -> bool {
        let is_unknown = self.phase == Phase::Out && self.told == 0;
        if is_unknown {
            self.told = 1;
            self.is_doubtful = true;
        }
        is_unknown
    }

    /// Compares what was held with what was found. Whatever the bus brought before is known.
    pub(in crate::cluster) fn compare(&mut self, held: &Held, found: &Found) -> Difference {
        if (self.attempt, self.assertions) != (held.attempt, held.assertions) {
            return Difference::None;
        }
        let difference = self.difference(found);
        match difference {
            Difference::None => {}
            Difference::Repair => self.is_doubtful = true,
            Difference::Deaf => self.detach(),
        }
        difference
    }

    fn difference(&self, found: &Found) -> Difference {
        if let Some(replica) = self.replica.as_ref().filter(|_| self.is_heard()) {
            if found.epoch.is_empty() && replica.total == 0 && !found.is_wrong {
                // Forgotten after a while without anybody.
                return Difference::None;
            }
            if found.epoch != replica.epoch {
                return Difference::Repair;
            }
            let has_missed = replica.sequence < found.sequence || replica.version < found.version;
            if has_missed {
                return Difference::Deaf;
            }
            if found.sequence < replica.sequence && self.channel().is_some() {
                return Difference::Repair;
            }
        }
        if found.is_wrong { Difference::Repair } else { Difference::None }
    }
}
