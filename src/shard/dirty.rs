//! The connections with queued output, in the order in which they are flushed.

use std::collections::VecDeque;

/// The queues of connections to flush. There are two, so that responses and small fan-outs do not
/// wait behind a large broadcast.
///
/// The order *within* a connection is that of its outbox; this is only the order between
/// connections.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    urgent: VecDeque<u32>,
    bulk: VecDeque<u32>,
    /// Which queue is next when both have entries, so that bulk output is not starved.
    bulk_is_next: bool,
}

/// Which queue contains a connection. One that was added to both is flushed at its first entry, and
/// skipped at the second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Queued {
    #[default]
    No,
    Bulk,
    Urgent,
}

/// The queue that an output belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Urgency {
    Urgent,
    Bulk,
}

impl Urgency {
    /// Events with more subscribers than this are bulk: about as many as one slice flushes.
    const SMALL_FAN_OUT: usize = 64;

    pub(super) fn of_fan_out(subscribers: usize) -> Self {
        if subscribers <= Self::SMALL_FAN_OUT { Self::Urgent } else { Self::Bulk }
    }
}

impl Dirty {
    /// Queues the connection at `slot`, unless it is queued with at least the same urgency.
    pub(super) fn add(&mut self, slot: u32, queued: &mut Queued, urgency: Urgency) {
        match (urgency, *queued) {
            (Urgency::Urgent, Queued::No | Queued::Bulk) => {
                self.urgent.push_back(slot);
                *queued = Queued::Urgent;
            }
            (Urgency::Bulk, Queued::No) => {
                self.bulk.push_back(slot);
                *queued = Queued::Bulk;
            }
            (Urgency::Urgent | Urgency::Bulk, Queued::Bulk | Queued::Urgent) => {}
        }
    }

    /// The next connection to flush. It may have been flushed or closed meanwhile.
    pub(super) fn pop(&mut self) -> Option<u32> {
        self.bulk_is_next = !self.bulk_is_next;
        if self.bulk_is_next {
            self.bulk.pop_front().or_else(|| self.urgent.pop_front())
        } else {
            self.urgent.pop_front().or_else(|| self.bulk.pop_front())
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.bulk.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    /// The first connection of each queue, which has been queued longest.
    pub(super) fn fronts(&self) -> impl Iterator<Item = u32> {
        [self.urgent.front(), self.bulk.front()].into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_and_bulk_output_alternate() {
        let mut dirty = Dirty::default();
        for slot in 0..3 {
            dirty.add(slot, &mut Queued::No, Urgency::Bulk);
            dirty.add(slot + 10, &mut Queued::No, Urgency::Urgent);
        }
        let turns: Vec<_> = std::iter::from_fn(|| dirty.pop()).collect();
        assert_eq!(turns, [0, 10, 1, 11, 2, 12]);
    }

    #[test]
    fn a_queued_connection_is_queued_again_only_if_it_becomes_urgent() {
        let mut dirty = Dirty::default();
        let mut queued = Queued::No;
        dirty.add(7, &mut queued, Urgency::Bulk);
        dirty.add(7, &mut queued, Urgency::Bulk);
        dirty.add(7, &mut queued, Urgency::Urgent);
        dirty.add(7, &mut queued, Urgency::Bulk);
        assert_eq!(queued, Queued::Urgent);
        assert_eq!(std::iter::from_fn(|| dirty.pop()).count(), 2);
        assert!(dirty.is_empty());
    }
}
