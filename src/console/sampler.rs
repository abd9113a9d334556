//! Limits what a watch sends, and counts what it does not.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Maximum number of items of a watch in a period.
const ITEMS_MAX: u64 = 50;
/// The period.
const PERIOD: Duration = Duration::from_secs(1);

/// Counts the items of a period.
#[derive(Debug)]
pub(super) struct Sampler {
    began: Instant,
    items: u64,
}

impl Sampler {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, items: 0 }
    }

    /// Counts an item. True if it is sent.
    pub(super) fn admit(&mut self) -> bool {
        self.items += 1;
        self.items <= ITEMS_MAX
    }

    /// Ends the period if it is over. Returns what the page is told if items were left out; `missed` were
    /// dropped before they were counted.
    pub(super) fn end_period(&mut self, now: Instant, missed: u64) -> Option<Value> {
        self.items += missed;
        if now < self.began + PERIOD {
            return None;
        }
        self.began = now;
        let (of, shown) = (self.items, self.items.min(ITEMS_MAX));
        self.items = 0;
        (shown < of).then(|| json!({"type": "sampled", "shown": shown, "of": of}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_at_most_fifty_items_and_the_others_are_counted() {
        let now = Instant::now();
        let mut sampler = Sampler::new(now);
        assert_eq!((0..60).filter(|_| sampler.admit()).count(), 50);
        assert_eq!(sampler.end_period(now, 5), None, "it is not over");
        let told = sampler.end_period(now + PERIOD, 0);
        assert_eq!(told, Some(json!({"type": "sampled", "shown": 50, "of": 65})));
        assert!(sampler.admit(), "another period");
        assert_eq!(sampler.end_period(now + 2 * PERIOD, 0), None, "all were shown");
    }
}
