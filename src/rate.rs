//! How often something may happen.

use std::time::{Duration, Instant};

/// A token bucket: it holds at most a burst of events, that of a second unless said otherwise,
/// and refills steadily.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// When the bucket is full again. Equal to or before the present: it is full.
    full_at: Instant,
}

/// The rate of a [`TokenBucket`]; kept apart, since all buckets of an app share it.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// So many events per second; 0 means no limit.
    #[must_use]
    pub fn per_second(per_second: u32) -> Self {
        Self { per_second, burst: per_second }
    }

    /// Lets so many events happen at once.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// How many events may happen at once.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_unlimited(self) -> bool {
        self.per_second == 0
    }

    /// What so many events take out of the bucket, as time to refill it.
    fn cost(self, events: u32) -> Duration {
        Duration::from_secs(events.into()) / self.per_second
    }
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Whether as much may happen as ever may.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// How long until there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        if rate.is_unlimited() {
            return Ok(());
        }
        let full_at = self.full_at.max(now) + rate.cost(1);
        // Ten costs of a tenth of a second make just a second; of a third, a little less.
        let over = full_at.saturating_duration_since(now + rate.cost(rate.burst));
        if over.is_zero() {
            self.full_at = full_at;
            Ok(())
        } else {
            Err(over)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_seconds_worth_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        for per_second in [1, 3, 7, 10, 1_000] {
            let rate = Rate::per_second(per_second);
            let mut bucket = TokenBucket::full(start);
            let passed = (0..per_second * 2).filter(|_| bucket.take(rate, start).is_ok()).count();
            assert_eq!(passed, per_second as usize, "{per_second}");
            let wait = bucket.take(rate, start).unwrap_err();
            assert!(bucket.take(rate, start + wait).is_ok());
            assert!(bucket.take(rate, start + wait).is_err());
            let later = start + Duration::from_secs(60);
            let passed = (0..per_second * 2).filter(|_| bucket.take(rate, later).is_ok()).count();
            assert_eq!(passed, per_second as usize, "a bucket holds no more than a second's worth");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        let mut bucket = TokenBucket::full(now);
        assert!((0..10_000).all(|_| bucket.take(Rate::per_second(0), now).is_ok()));
    }
}
