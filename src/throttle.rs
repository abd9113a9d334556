//! Rate limits for log lines.

use parking_lot::Mutex;
use std::{
    mem,
    time::{Duration, Instant},
};

/// Decides when the next line about a frequent event is due, and counts the events in between.
#[derive(Debug)]
pub struct LogThrottle {
    interval: Duration,
    /// When the last line was logged, and the number of events since then.
    state: Mutex<(Option<Instant>, u64)>,
}

impl Default for LogThrottle {
    /// One line a minute.
    fn default() -> Self {
        Self::with_interval(Duration::from_secs(60))
    }
}

impl LogThrottle {
    /// At most one line in each interval.
    #[must_use]
    pub fn with_interval(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// Counts `events`. Returns the count since the last line if a line is due.
    pub fn record(&self, events: u64, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let (last, count) = &mut *state;
        *count += events;
        let is_due = last.is_none_or(|last| self.interval <= now.saturating_duration_since(last));
        if !is_due || *count == 0 {
            return None;
        }
        *last = Some(now);
        Some(mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_per_interval_with_the_full_count() {
        let start = Instant::now();
        let throttle = LogThrottle::with_interval(Duration::from_secs(10));
        assert_eq!(throttle.record(0, start), None);
        assert_eq!(throttle.record(2, start), Some(2));
        assert_eq!(throttle.record(3, start + Duration::from_secs(9)), None);
        assert_eq!(throttle.record(4, start + Duration::from_secs(10)), Some(7));
    }

    #[test]
    fn the_default_is_a_line_a_minute() {
        let start = Instant::now();
        let throttle = LogThrottle::default();
        assert_eq!(throttle.record(1, start), Some(1));
        assert_eq!(throttle.record(1, start + Duration::from_millis(59_999)), None);
        assert_eq!(throttle.record(0, start + Duration::from_secs(60)), Some(1));
        assert_eq!(
            throttle.record(0, start + Duration::from_secs(600)),
            None,
            "nothing has happened"
        );
        assert_eq!(throttle.record(1, start + Duration::from_secs(600)), Some(1));
        // A clock value that another thread has read earlier does not cause a line.
        assert_eq!(throttle.record(1, start), None);
    }
}
