//! The delay after a failure.

use std::time::Duration;

/// Exponential backoff: each delay is twice the previous one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after the first failure.
    pub(super) const FIRST: Duration = Duration::from_secs(1);
    /// The maximum delay.
    pub(super) const LONGEST: Duration = Duration::from_secs(60);
    /// The maximum random reduction of a delay, as a part of it, so that clients that fail together
    /// do not retry together. It is small enough that the delays still grow.
    const JITTER: f64 = 0.2;

    /// The delay after one more failure. `chance` is between 0 and 1.
    pub(super) fn failed(&mut self, chance: f64) -> Duration {
        // 2⁶ seconds exceed the maximum.
        let wait = (Self::FIRST * (1 << self.failures.min(6))).min(Self::LONGEST);
        self.failures += 1;
        wait.mul_f64(1.0 - Self::JITTER * chance)
    }

    /// Resets the delay after a success.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_its_maximum() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.failed(0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.succeeded();
        assert_eq!(backoff.failed(0.0), Backoff::FIRST);
    }

    #[test]
    fn jitter_shortens_delays_that_still_grow() {
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
