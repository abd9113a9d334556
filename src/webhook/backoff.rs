//! How long to wait after a failure.

use std::time::Duration;

/// The waits after failures that follow one another: twice as long each time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after the first failure.
    pub(super) const FIRST: Duration = Duration::from_secs(1);
    /// The longest wait.
    pub(super) const LONGEST: Duration = Duration::from_secs(60);
    /// The part of a wait that chance may take away, so that many who failed at once do not come
    /// back at once. Small enough that the waits still grow.
    const JITTER: f64 = 0.2;

    /// How long to wait after one more failure. `chance` is between 0 and 1.
    pub(super) fn failed(&mut self, chance: f64) -> Duration {
        // 2⁶ seconds are more than the longest wait.
        let wait = (Self::FIRST * (1 << self.failures.min(6))).min(Self::LONGEST);
        self.failures += 1;
        wait.mul_f64(1.0 - Self::JITTER * chance)
    }

    /// The failures have come to an end.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.failed(0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.succeeded();
        assert_eq!(backoff.failed(0.0), Backoff::FIRST);
    }

    #[test]
    fn chance_shortens_a_wait_and_still_they_grow() {
        let (mut shortest, mut longest) = (Backoff::default(), Backoff::default());
        let mut before = Duration::ZERO;
        for _ in 0..6 {
            let next = shortest.failed(1.0);
            assert!(before < next, "{before:?} {next:?}");
            before = longest.failed(0.0);
            assert!(next < before);
        }
    }
}
