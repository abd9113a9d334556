//! Where the log of a channel was at the latest deliveries of this shard.

use std::collections::VecDeque;

/// Pairs of the shard's delivery counter and the sequence in the channel's log, both ascending. By these, one
/// acknowledged number of a connection is a position in each of its channels.
#[derive(Debug, Default)]
pub(super) struct LogMarks {
    marks: VecDeque<(u64, u64)>,
    max: usize,
}

impl LogMarks {
    /// Sets how many deliveries are remembered. A client that is further behind gets a gap in any case.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = self.max.max(max.saturating_add(1));
    }

    pub(super) fn push(&mut self, counter: u64, sequence: u64) {
        if self.marks.len() == self.max {
            self.marks.pop_front();
        }
        self.marks.push_back((counter, sequence));
    }

    pub(super) fn sequence_at(&self, counter: u64) -> Option<u64> {
        let after = self.marks.partition_point(|(at, _)| *at <= counter);
        self.marks.get(after.checked_sub(1)?).map(|(_, sequence)| *sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_a_sequence_as_far_back_as_is_remembered() {
        let mut marks = LogMarks::default();
        marks.set_max(2);
        assert_eq!(marks.sequence_at(9), None);
        for (counter, sequence) in [(3, 1), (5, 2), (9, 3)] {
            marks.push(counter, sequence);
        }
        let found: Vec<Option<u64>> = (2..=10).map(|counter| marks.sequence_at(counter)).collect();
        let [one, two, three] = [Some(1), Some(2), Some(3)];
        assert_eq!(found, [None, one, one, two, two, two, two, three, three]);
        marks.push(12, 4);
        assert_eq!((marks.sequence_at(4), marks.sequence_at(5)), (None, two), "the oldest is gone");
    }
}
