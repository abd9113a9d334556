//! Lower bounds on what succeeds while nothing fails: without them, nodes that refuse everything violate no guarantee.

use std::collections::HashSet;

use super::{Checker, Outcome, Period, Rule, Violation, WHISPER};

/// What must have happened at least in the periods without a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Least {
    /// Publishes that were answered.
    pub(crate) publishes: usize,
    /// Acknowledged subscriptions.
    pub(crate) joins: usize,
}

/// Of so many publishes in these periods one may be refused, since the machine is busy.
const MAY_BE_REFUSED: usize = 4;
/// Of so many accepted events one must be received at least. The others may be on channels without subscribers; the
/// other rules find what a subscriber misses.
const MUST_BE_RECEIVED: usize = 4;

impl Checker {
    /// The bounds that the periods without a fault do not reach.
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
        let joins = self.histories().filter(|history| is_calm(history.asked, history.acknowledged));
        let bounds = [
            ("publishes", publishes.len(), least.publishes.max(1)),
            (
                "accepted publishes",
                accepted.len(),
                publishes.len() - publishes.len() / MAY_BE_REFUSED,
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
