//! Limits the rate of messages of a client.

use crate::{
    app::MessageLimit,
    rate::{Rate, TokenBucket},
};
use std::time::{Duration, Instant};

/// Counts the messages of one connection against two limits: `max_messages_per_second`, which stops
/// floods, and the app's limit of a window, which is compatible with Reverb's.
///
/// Messages beyond a limit are dropped, and the client is notified. The server replies to
/// `pusher:ping` in any case, so that a client that sends too much does not seem dead as well.
#[derive(Debug)]
pub(super) struct MessageLimiter {
    bucket: TokenBucket,
    /// Allocated only for apps with a window, and for clients beyond the rate.
    state: Option<Box<LimitState>>,
}

#[derive(Debug, Default)]
struct LimitState {
    /// The start of the app's window, at its first message, and the number of messages in it.
    window: Option<(Instant, u32)>,
    /// Messages dropped since the client was last within the rate.
    dropped: u32,
    /// When the client was last notified of a dropped message.
    notified_at: Option<Instant>,
}

/// The decision about a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Decision {
    /// The message is handled.
    Allow,
    /// The message is dropped.
    Drop,
    /// The message is dropped, and the connection is closed.
    Close,
}

/// Minimum interval of notifications about dropped messages.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(1);

impl MessageLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self { bucket: TokenBucket::full(now), state: None }
    }

    /// Counts a message against a rate. If the client exceeds it by as many messages as its burst, the
    /// connection is closed.
    pub(super) fn check_rate(&mut self, rate: Rate, now: Instant) -> Decision {
        if self.state.is_some() && self.bucket.is_full(now) {
            self.reset();
        }
        if self.bucket.take(rate, now).is_ok() {
            return Decision::Allow;
        }
        let state = self.state.get_or_insert_default();
        state.dropped += 1;
        if rate.burst() <= state.dropped { Decision::Close } else { Decision::Drop }
    }

    /// Whether to notify the client of a dropped message now: at most once a second.
    pub(super) fn should_notify(&mut self, now: Instant) -> bool {
        let state = self.state.get_or_insert_default();
        if state.notified_at.is_some_and(|notified_at| now < notified_at + NOTIFY_INTERVAL) {
            return false;
        }
        state.notified_at = Some(now);
        true
    }

    /// Counts a message against the app's limit of a window, which starts with the first message
    /// after the previous window.
    pub(super) fn check_window(&mut self, limit: MessageLimit, now: Instant) -> Decision {
        if limit.max == 0 {
            return Decision::Allow;
        }
        let window = &mut self.state.get_or_insert_default().window;
        let (started_at, messages) = match *window {
            Some((started_at, messages)) if now < started_at + limit.window => {
                (started_at, messages)
            }
            Some(_) | None => (now, 0),
        };
        if limit.max <= messages {
            return if limit.disconnects { Decision::Close } else { Decision::Drop };
        }
        *window = Some((started_at, messages + 1));
        Decision::Allow
    }

    fn reset(&mut self) {
        match &mut self.state {
            Some(state) if state.window.is_some() => {
                (state.dropped, state.notified_at) = (0, None);
            }
            Some(_) | None => self.state = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_notified_once_a_second_and_closed_if_it_continues() {
        let start = Instant::now();
        let rate = Rate::per_second(10);
        let mut limiter = MessageLimiter::new(start);
        assert!((0..10).all(|_| limiter.check_rate(rate, start) == Decision::Allow));
        let should_notify = (0..9).filter(|_| {
            limiter.check_rate(rate, start) == Decision::Drop && limiter.should_notify(start)
        });
        assert_eq!(should_notify.count(), 1);
        assert!(limiter.should_notify(start + NOTIFY_INTERVAL));
        assert_eq!(limiter.check_rate(rate, start), Decision::Close);
    }

    #[test]
    fn the_count_of_dropped_messages_resets_within_the_limit() {
        let start = Instant::now();
        let rate = Rate::per_second(10);
        let mut limiter = MessageLimiter::new(start);
        for second in [0, 60, 120] {
            let now = start + Duration::from_secs(second);
            assert!((0..10).all(|_| limiter.check_rate(rate, now) == Decision::Allow));
            assert!((0..8).all(|_| limiter.check_rate(rate, now) == Decision::Drop));
            assert!(limiter.should_notify(now));
        }
        assert_eq!(limiter.check_rate(rate, start + Duration::from_secs(180)), Decision::Allow);
        assert!(limiter.state.is_none(), "and holds no more memory than others");
    }

    #[test]
    fn the_burst_is_allowed_at_once() {
        let start = Instant::now();
        let rate = Rate::per_second(10).with_burst(100);
        let mut limiter = MessageLimiter::new(start);
        assert!((0..100).all(|_| limiter.check_rate(rate, start) == Decision::Allow));
        assert_eq!(limiter.check_rate(rate, start), Decision::Drop);
        let later = start + Duration::from_secs(1);
        assert!((0..10).all(|_| limiter.check_rate(rate, later) == Decision::Allow));
        assert_eq!(limiter.check_rate(rate, later), Decision::Drop);
    }

    #[test]
    fn the_window_of_an_app_starts_with_a_message_and_ends_by_time() {
        let start = Instant::now();
        let window = Duration::from_secs(60);
        for closes in [false, true] {
            let limit = MessageLimit { max: 3, window, disconnects: closes };
            let beyond = if closes { Decision::Close } else { Decision::Drop };
            let mut limiter = MessageLimiter::new(start);
            assert!((0..3).all(|_| limiter.check_window(limit, start) == Decision::Allow));
            let last = start + Duration::from_millis(59_999);
            for now in [start, last, last] {
                assert_eq!(limiter.check_window(limit, now), beyond);
            }
            assert!((0..3).all(|_| limiter.check_window(limit, start + window) == Decision::Allow));
            assert_eq!(limiter.check_window(limit, start + window), beyond);
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        let mut limiter = MessageLimiter::new(now);
        let limit = MessageLimit { max: 0, window: Duration::from_secs(1), disconnects: true };
        assert!(
            (0..10_000).all(|_| limiter.check_rate(Rate::per_second(0), now) == Decision::Allow)
        );
        assert!((0..10_000).all(|_| limiter.check_window(limit, now) == Decision::Allow));
        assert!(limiter.state.is_none());
    }

    #[test]
    fn a_client_is_notified_again_after_a_second_and_not_before() {
        let start = Instant::now();
        let mut limiter = MessageLimiter::new(start);
        assert!(limiter.should_notify(start));
        assert!(!limiter.should_notify(start + NOTIFY_INTERVAL - Duration::from_nanos(1)));
        assert!(limiter.should_notify(start + NOTIFY_INTERVAL));
        assert!(!limiter.should_notify(start + NOTIFY_INTERVAL * 2 - Duration::from_nanos(1)));
    }

    #[test]
    fn a_reset_does_not_restart_the_window_of_the_app() {
        let start = Instant::now();
        let limit = MessageLimit { max: 1, window: Duration::from_secs(60), disconnects: false };
        let rate = Rate::per_second(10);
        let mut limiter = MessageLimiter::new(start);
        assert_eq!(limiter.check_window(limit, start), Decision::Allow);
        assert!((0..19).all(|_| limiter.check_rate(rate, start) != Decision::Close));
        assert!(limiter.should_notify(start));
        let later = start + Duration::from_secs(30);
        assert_eq!(limiter.check_rate(rate, later), Decision::Allow);
        assert_eq!(limiter.check_window(limit, later), Decision::Drop);
        // The client is within the server's limit again, and may exceed it as far as before.
        assert!((0..9).all(|_| limiter.check_rate(rate, later) == Decision::Allow));
        assert!((0..9).all(|_| limiter.check_rate(rate, later) == Decision::Drop));
        assert_eq!(limiter.check_rate(rate, later), Decision::Close);
    }

    #[test]
    fn a_dropped_message_does_not_count_in_the_window() {
        let start = Instant::now();
        let limit = MessageLimit { max: 2, window: Duration::from_secs(1), disconnects: false };
        let mut limiter = MessageLimiter::new(start);
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert!((0..2).all(|_| limiter.check_window(limit, now) == Decision::Allow));
            assert!((0..9).all(|_| limiter.check_window(limit, now) == Decision::Drop));
        }
    }
}
