//! Exponential backoff with jitter.

use std::time::Duration;

/// A schedule of delays: each is twice the previous one, up to a maximum.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The delay after the first failure.
    pub initial: Duration,
    /// The maximum delay, before the jitter.
    pub max: Duration,
    /// Maximum random change, as a fraction of the delay: 0.2 lengthens by up to 20 %, -0.2
    /// shortens. It keeps clients that fail together from retrying together.
    pub jitter: f64,
}

impl Backoff {
    /// The delay before the retry with this index, counted from 0. `random` is between 0 and 1.
    #[must_use]
    pub fn delay(&self, retries: u32, random: f64) -> Duration {
        let doubled = self.initial.saturating_mul(2_u32.saturating_pow(retries));
        doubled.min(self.max).mul_f64(1.0 + self.jitter * random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: -0.2 };

    #[test]
    fn the_delay_doubles_up_to_its_maximum() {
        let delays = (0..8).map(|failures| BACKOFF.delay(failures, 0.0).as_secs());
        assert_eq!(delays.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60]);
        for failures in [31, 32, 33, u32::MAX] {
            assert_eq!(BACKOFF.delay(failures, 0.0), BACKOFF.max, "{failures}");
        }
    }

    #[test]
    fn jitter_changes_a_delay_by_at_most_its_part() {
        let longer = Backoff { jitter: 0.5, ..BACKOFF };
        for (backoff, chance, expected_ms) in [
            (BACKOFF, 0.5, 3_600),
            (BACKOFF, 1.0, 3_200),
            (longer, 0.5, 5_000),
            (longer, 1.0, 6_000),
        ] {
            assert_eq!(backoff.delay(2, chance), Duration::from_millis(expected_ms));
        }
    }
}
