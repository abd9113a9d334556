//! Rate limits with token buckets.

use std::time::{Duration, Instant};

/// A token bucket: it holds at most a burst, by default that of a second, and refills steadily.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// When the bucket is full. In the past: it is full.
    full_at: Instant,
}

/// The rate of a [`TokenBucket`], separate since all buckets of an app share it.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The number of tokens that each `period` refills; 0 means no limit.
    tokens: u32,
    period: Duration,
    burst: u32,
}

impl Rate {
    /// At most this many per second; 0 means no limit.
    #[must_use]
    pub fn per_second(per_second: u32) -> Self {
        Self { tokens: per_second, period: Duration::from_secs(1), burst: per_second }
    }

    /// At most this many per minute; 0 means no limit.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        Self { tokens: per_minute, period: Duration::from_secs(60), burst: per_minute }
    }

    /// Sets the burst.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// The burst: the maximum number of tokens at once.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_unlimited(self) -> bool {
        self.tokens == 0
    }

    /// The time in which this many tokens are refilled.
    fn refill_time(self, tokens: u32) -> Duration {
        self.period.saturating_mul(tokens) / self.tokens
    }
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Whether the bucket is full.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// The time until a token is available.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.take_many(1, rate, now)
    }

    /// Takes `tokens` tokens, or none.
    ///
    /// # Errors
    ///
    /// The time until enough tokens are available.
    pub fn take_many(&mut self, tokens: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        let before = self.full_at;
        self.take_with_debt(tokens, rate, now);
        self.debt(rate, now).map_or(Ok(()), |over| {
            self.full_at = before;
            Err(over)
        })
    }

    /// Takes `tokens` tokens even if fewer are available. The rest becomes a debt.
    pub fn take_with_debt(&mut self, tokens: u32, rate: Rate, now: Instant) {
        if !rate.is_unlimited() {
            self.full_at = self.full_at.max(now) + rate.refill_time(tokens);
        }
    }

    /// Limits the debt to what is refilled in `debt_max`.
    pub fn cap_debt(&mut self, debt_max: Duration, rate: Rate, now: Instant) {
        if !rate.is_unlimited() {
            self.full_at = self.full_at.min(now + rate.refill_time(rate.burst) + debt_max);
        }
    }

    /// Returns tokens that were taken.
    pub fn refund(&mut self, tokens: u32, rate: Rate, now: Instant) {
        if !rate.is_unlimited() {
            // A full bucket stays full.
            self.full_at = self.full_at.checked_sub(rate.refill_time(tokens)).unwrap_or(now);
        }
    }

    /// The time until the debt is refilled; `None` without a debt.
    #[must_use]
    pub fn debt(&self, rate: Rate, now: Instant) -> Option<Duration> {
        if rate.is_unlimited() {
            return None;
        }
        // `refill_time` rounds down, so a burst taken token by token may end a few nanoseconds early,
        // never late.
        let over = self.full_at.saturating_duration_since(now + rate.refill_time(rate.burst));
        (!over.is_zero()).then_some(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_is_allowed_and_then_the_rate_applies() {
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

    #[test]
    fn spending_beyond_the_burst_is_a_debt_that_decreases_over_time() {
        let start = Instant::now();
        let rate = Rate::per_second(10);
        let mut bucket = TokenBucket::full(start);
        bucket.take_with_debt(10, rate, start);
        assert_eq!(bucket.debt(rate, start), None);
        bucket.take_with_debt(20, rate, start);
        assert_eq!(bucket.debt(rate, start), Some(Duration::from_secs(2)));
        assert!(bucket.take(rate, start).is_err());
        bucket.refund(10, rate, start);
        assert_eq!(bucket.debt(rate, start), Some(Duration::from_secs(1)));
        assert_eq!(bucket.debt(rate, start + Duration::from_secs(1)), None);
    }

    #[test]
    fn many_tokens_are_taken_together_or_not_at_all() {
        let start = Instant::now();
        let rate = Rate::per_minute(6).with_burst(99);
        let mut bucket = TokenBucket::full(start);
        assert!((0..9).all(|_| bucket.take_many(10, rate, start).is_ok()));
        assert_eq!(bucket.take_many(10, rate, start), Err(Duration::from_secs(10)));
        assert!((0..9).all(|_| bucket.take(rate, start).is_ok()), "nine are left");
        assert!(bucket.take(rate, start).is_err());
        assert!(bucket.take(rate, start + Duration::from_secs(10)).is_ok());
    }

    #[test]
    fn a_full_bucket_stays_full_with_any_refund() {
        let now = Instant::now();
        for rate in [Rate::per_second(10), Rate::per_second(10).with_burst(3)] {
            let mut bucket = TokenBucket::full(now);
            bucket.refund(1_000_000, rate, now);
            let passed = (0..100).filter(|_| bucket.take(rate, now).is_ok()).count();
            assert_eq!(passed, rate.burst() as usize);
        }
    }

    #[test]
    fn returned_tokens_can_be_taken_again() {
        let now = Instant::now();
        let rate = Rate::per_second(10);
        let mut bucket = TokenBucket::full(now);
        bucket.take_with_debt(10, rate, now);
        bucket.refund(4, rate, now);
        assert_eq!((0..100).filter(|_| bucket.take(rate, now).is_ok()).count(), 4);
    }

    #[test]
    fn a_bucket_is_full_when_all_that_was_taken_is_refilled() {
        let start = Instant::now();
        let rate = Rate::per_second(10);
        let mut bucket = TokenBucket::full(start);
        assert!(bucket.is_full(start));
        bucket.take(rate, start).unwrap();
        let full = start + Duration::from_millis(100);
        assert!(!bucket.is_full(full - Duration::from_nanos(1)) && bucket.is_full(full));
    }

    #[test]
    fn a_debt_is_limited_and_a_smaller_one_is_unchanged() {
        let now = Instant::now();
        let rate = Rate::per_second(10);
        let bound = Duration::from_secs(2);
        for (spent, debt) in [(10, None), (29, Some(1_900)), (30, Some(2_000)), (31, Some(2_000))] {
            let mut bucket = TokenBucket::full(now);
            bucket.take_with_debt(spent, rate, now);
            bucket.cap_debt(bound, rate, now);
            assert_eq!(bucket.debt(rate, now), debt.map(Duration::from_millis), "{spent}");
        }
    }

    #[test]
    fn without_a_limit_there_is_neither_cost_nor_debt() {
        let now = Instant::now();
        let rate = Rate::per_second(0);
        assert!(rate.is_unlimited() && !Rate::per_minute(1).is_unlimited());
        let mut bucket = TokenBucket::full(now);
        bucket.take_with_debt(u32::MAX, rate, now);
        bucket.refund(u32::MAX, rate, now);
        bucket.cap_debt(Duration::ZERO, rate, now);
        assert!(bucket.is_full(now) && bucket.debt(rate, now).is_none());
    }

    #[test]
    fn a_minutes_rate_refills_in_a_minute() {
        let start = Instant::now();
        let rate = Rate::per_minute(6);
        let mut bucket = TokenBucket::full(start);
        assert!((0..6).all(|_| bucket.take(rate, start).is_ok()));
        assert_eq!(bucket.take(rate, start), Err(Duration::from_secs(10)));
        let later = start + Duration::from_secs(60);
        assert!((0..6).all(|_| bucket.take(rate, later).is_ok()));
        assert!(bucket.take(rate, later).is_err());
    }
}
