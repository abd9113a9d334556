//! How many messages a client may send.

use crate::{
    app::MessageLimit,
    rate::{Rate, TokenBucket},
};
use std::time::{Duration, Instant};

/// The messages of one connection, against the limit of the server, which keeps a flood off, and
/// against that of its app, which is what Reverb has.
///
/// What is beyond a limit is dropped, and the client is told. A `pusher:ping` is answered all the
/// same, so that a client that sends too much does not look dead as well.
#[derive(Debug)]
pub(super) struct Flow {
    bucket: TokenBucket,
    /// What most connections have no use for.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    /// The app's window, since its first message, and the messages in it.
    window: Option<(Instant, u32)>,
    /// Messages dropped since the client was last within the limit of the server.
    dropped: u32,
    told_at: Option<Instant>,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passage {
    /// It is taken.
    Free,
    /// The message is dropped.
    Over,
    /// The message is dropped, and the connection is closed.
    Closed,
}

/// How often a client is told that it sends too much.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Flow {
    pub(super) fn new(now: Instant) -> Self {
        Self { bucket: TokenBucket::full(now), more: None }
    }

    /// Counts a message against the limit of the server. Whoever goes on beyond it for as many
    /// messages as it may send at once is closed.
    pub(super) fn pass(&mut self, rate: Rate, now: Instant) -> Passage {
        if self.more.is_some() && self.bucket.is_full(now) {
            self.calm_down();
        }
        if self.bucket.take(rate, now).is_ok() {
            return Passage::Free;
        }
        let more = self.more.get_or_insert_default();
        more.dropped += 1;
        if rate.burst() <= more.dropped { Passage::Closed } else { Passage::Over }
    }

    /// Whether to notify the client that a message was dropped: at most once a second.
    pub(super) fn tells(&mut self, now: Instant) -> bool {
        let more = self.more.get_or_insert_default();
        if more.told_at.is_some_and(|told_at| now < told_at + TELL_EVERY) {
            return false;
        }
        more.told_at = Some(now);
        true
    }

    /// Counts a message against the limit of the app: so many in a window, which begins with the
    /// first message after the last one was over.
    pub(super) fn pass_app(&mut self, limit: MessageLimit, now: Instant) -> Passage {
        if limit.max == 0 {
            return Passage::Free;
        }
        let window = &mut self.more.get_or_insert_default().window;
        let (began, messages) = match *window {
            Some((began, messages)) if now < began + limit.window => (began, messages),
            Some(_) | None => (now, 0),
        };
        if limit.max <= messages {
            return if limit.closes { Passage::Closed } else { Passage::Over };
        }
        *window = Some((began, messages + 1));
        Passage::Free
    }

    fn calm_down(&mut self) {
        match &mut self.more {
            Some(more) if more.window.is_some() => (more.dropped, more.told_at) = (0, None),
            Some(_) | None => self.more = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_a_second_and_closed_when_it_goes_on() {
        let start = Instant::now();
        let rate = Rate::per_second(10);
        let mut flow = Flow::new(start);
        assert!((0..10).all(|_| flow.pass(rate, start) == Passage::Free));
        let tells = (0..9).filter(|_| flow.pass(rate, start) == Passage::Over && flow.tells(start));
        assert_eq!(tells.count(), 1);
        assert!(flow.tells(start + TELL_EVERY));
        assert_eq!(flow.pass(rate, start), Passage::Closed);
    }

    #[test]
    fn whoever_calms_down_begins_anew() {
        let start = Instant::now();
        let rate = Rate::per_second(10);
        let mut flow = Flow::new(start);
        for second in [0, 60, 120] {
            let now = start + Duration::from_secs(second);
            assert!((0..10).all(|_| flow.pass(rate, now) == Passage::Free));
            assert!((0..8).all(|_| flow.pass(rate, now) == Passage::Over));
            assert!(flow.tells(now));
        }
        assert_eq!(flow.pass(rate, start + Duration::from_secs(180)), Passage::Free);
        assert!(flow.more.is_none(), "and holds no more memory than others");
    }

    #[test]
    fn the_burst_is_what_a_client_may_send_at_once() {
        let start = Instant::now();
        let rate = Rate::per_second(10).with_burst(100);
        let mut flow = Flow::new(start);
        assert!((0..100).all(|_| flow.pass(rate, start) == Passage::Free));
        assert_eq!(flow.pass(rate, start), Passage::Over);
        let later = start + Duration::from_secs(1);
        assert!((0..10).all(|_| flow.pass(rate, later) == Passage::Free));
        assert_eq!(flow.pass(rate, later), Passage::Over);
    }

    #[test]
    fn the_window_of_an_app_begins_with_a_message_and_ends_by_time_alone() {
        let start = Instant::now();
        let window = Duration::from_secs(60);
        for closes in [false, true] {
            let limit = MessageLimit { max: 3, window, closes };
            let beyond = if closes { Passage::Closed } else { Passage::Over };
            let mut flow = Flow::new(start);
            assert!((0..3).all(|_| flow.pass_app(limit, start) == Passage::Free));
            let last = start + Duration::from_millis(59_999);
            for now in [start, last, last] {
                assert_eq!(flow.pass_app(limit, now), beyond);
            }
            assert!((0..3).all(|_| flow.pass_app(limit, start + window) == Passage::Free));
            assert_eq!(flow.pass_app(limit, start + window), beyond);
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        let mut flow = Flow::new(now);
        let limit = MessageLimit { max: 0, window: Duration::from_secs(1), closes: true };
        assert!((0..10_000).all(|_| flow.pass(Rate::per_second(0), now) == Passage::Free));
        assert!((0..10_000).all(|_| flow.pass_app(limit, now) == Passage::Free));
        assert!(flow.more.is_none());
    }

    #[test]
    fn a_client_is_notified_again_after_a_second_and_not_before() {
        let start = Instant::now();
        let mut flow = Flow::new(start);
        assert!(flow.tells(start));
        assert!(!flow.tells(start + TELL_EVERY - Duration::from_nanos(1)));
        assert!(flow.tells(start + TELL_EVERY));
        assert!(!flow.tells(start + TELL_EVERY * 2 - Duration::from_nanos(1)));
    }

    #[test]
    fn calming_down_does_not_begin_the_window_of_the_app_anew() {
        let start = Instant::now();
        let limit = MessageLimit { max: 1, window: Duration::from_secs(60), closes: false };
        let rate = Rate::per_second(10);
        let mut flow = Flow::new(start);
        assert_eq!(flow.pass_app(limit, start), Passage::Free);
        assert!((0..19).all(|_| flow.pass(rate, start) != Passage::Closed));
        assert!(flow.tells(start));
        let later = start + Duration::from_secs(30);
        assert_eq!(flow.pass(rate, later), Passage::Free);
        assert_eq!(flow.pass_app(limit, later), Passage::Over);
        // It is within the limit of the server again, so that it may go beyond it as far as before.
        assert!((0..9).all(|_| flow.pass(rate, later) == Passage::Free));
        assert!((0..9).all(|_| flow.pass(rate, later) == Passage::Over));
        assert_eq!(flow.pass(rate, later), Passage::Closed);
    }

    #[test]
    fn a_message_that_is_dropped_takes_no_place_in_the_window() {
        let start = Instant::now();
        let limit = MessageLimit { max: 2, window: Duration::from_secs(1), closes: false };
        let mut flow = Flow::new(start);
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert!((0..2).all(|_| flow.pass_app(limit, now) == Passage::Free));
            assert!((0..9).all(|_| flow.pass_app(limit, now) == Passage::Over));
        }
    }
}
