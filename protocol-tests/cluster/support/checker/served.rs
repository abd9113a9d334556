//! Lower bounds on successes without a fault: otherwise, nodes that reject everything would violate no guarantee.

use std::collections::HashSet;

use super::{Checker, Outcome, Period, Rule, Violation, WHISPER};

/// The minimum successes in the periods without a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Least {
    /// The number of answered publishes.
    pub(crate) publishes: usize,
    /// Acknowledged subscriptions.
    pub(crate) joins: usize,
}

/// One of this many publishes may be rejected in these periods, since the machine is busy.
const MAY_BE_REJECTED: usize = 4;
/// At least one of this many accepted events must be received. The others may be on channels without subscribers; other
/// rules detect events that a subscriber misses.
const MUST_BE_RECEIVED: usize = 4;

impl Checker {
    /// The bounds that were missed in the periods without a fault.
    pub(crate) fn unserved(&self, calm: &[Period], least: Least) -> Vec<Violation> {
        let is_calm = |begin, end| calm.iter().any(|calm| calm.begin <= begin && end <= calm.end);
        let publishes: Vec<_> = self
            .events
            .values()
            .map(|event| &event.published)
            .filter(|published| !published.id.starts_with(WHISPER))
            .filter(|published| is_calm(published.begun, published.answered))
            .collect();
        let accepted: HashSet<&str> = publishes
            .iter()
            .filter(|published| published.outcome == Outcome::Accepted)
            .map(|published| published.id.as_str())
            .collect();
        let received: HashSet<&str> = self
            .histories()
            .flat_map(super::history::History::sequence)
            .map(|(_, id)| id)
            .collect();
        let joins =
            self.histories().filter(|history| is_calm(history.requested_at, history.acknowledged));
        let bounds = [
            ("publishes", publishes.len(), least.publishes.max(1)),
            (
                "accepted publishes",
                accepted.len(),
                publishes.len() - publishes.len() / MAY_BE_REJECTED,
            ),
            (
                "accepted events that were received",
                accepted.intersection(&received).count(),
                accepted.len().div_ceil(MUST_BE_RECEIVED),
            ),
            ("acknowledged subscriptions", joins.count(), least.joins.max(1)),
        ];
        let missed = bounds.into_iter().filter(|(_, count, bound)| count < bound);
        missed
            .map(|(what, count, bound)| {
                let text = format!("{count} {what} without a fault instead of at least {bound}");
                Violation::new(Rule::Served, "", text)
            })
            .collect()
    }
}
