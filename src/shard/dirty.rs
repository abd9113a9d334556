//! The connections that have something to write, in the order of their turns.

use std::collections::VecDeque;

/// Two queues: replies and small fan-outs do not wait behind a large broadcast.
///
/// Order *within* a connection is its outbox's; here it is only decided whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    urgent: VecDeque<u32>,
    bulk: VecDeque<u32>,
    /// Whose turn it is next of the two, when both wait: the bulk must not starve.
    bulk_is_next: bool,
}

/// Where a connection waits for its turn. A connection in both queues has its turn with the
/// first, and nothing to do at the second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Queued {
    #[default]
    No,
    Bulk,
    Urgent,
}

/// Which queue to wait in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Urgency {
    Urgent,
    Bulk,
}

impl Urgency {
    /// Events for more subscribers than this are bulk: about what one slice can carry.
    const SMALL_FAN_OUT: usize = 64;

    pub(super) fn of_fan_out(subscribers: usize) -> Self {
        if subscribers <= Self::SMALL_FAN_OUT { Self::Urgent } else { Self::Bulk }
    }
}

impl Dirty {
    /// Has the connection at `place` wait, where it does not wait at least as urgently already.
    pub(super) fn add(&mut self, place: u32, queued: &mut Queued, urgency: Urgency) {
        match (urgency, *queued) {
            (Urgency::Urgent, Queued::No | Queued::Bulk) => {
                self.urgent.push_back(place);
                *queued = Queued::Urgent;
            }
            (Urgency::Bulk, Queued::No) => {
                self.bulk.push_back(place);
                *queued = Queued::Bulk;
            }
            (Urgency::Urgent | Urgency::Bulk, Queued::Bulk | Queued::Urgent) => {}
        }
    }

    /// The connection whose turn it is. It may have had its turn meanwhile, or be gone.
    pub(super) fn take(&mut self) -> Option<u32> {
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

    /// The connections that have waited longest.
    pub(super) fn oldest(&self) -> impl Iterator<Item = u32> {
        [self.urgent.front(), self.bulk.front()].into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urgent_and_the_bulk_take_turns() {
        let mut dirty = Dirty::default();
        for place in 0..3 {
            dirty.add(place, &mut Queued::No, Urgency::Bulk);
            dirty.add(place + 10, &mut Queued::No, Urgency::Urgent);
        }
        let turns: Vec<_> = std::iter::from_fn(|| dirty.take()).collect();
        assert_eq!(turns, [0, 10, 1, 11, 2, 12]);
    }

    #[test]
    fn who_waits_does_not_wait_twice_unless_it_became_urgent() {
        let mut dirty = Dirty::default();
        let mut queued = Queued::No;
        dirty.add(7, &mut queued, Urgency::Bulk);
        dirty.add(7, &mut queued, Urgency::Bulk);
        dirty.add(7, &mut queued, Urgency::Urgent);
        dirty.add(7, &mut queued, Urgency::Bulk);
        assert_eq!(queued, Queued::Urgent);
        assert_eq!(std::iter::from_fn(|| dirty.take()).count(), 2);
        assert!(dirty.is_empty());
    }
}
