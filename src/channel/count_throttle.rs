//! Limits the rate of subscription counts.

use std::time::{Duration, Instant};

/// Minimum interval of a channel's subscription counts once it has more than
/// [`COUNT_UNTHROTTLED_MAX`] subscribers. Source: Pusher Channels docs, "Events".
pub const COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// Up to this many subscribers, each change of the count is sent at once.
pub const COUNT_UNTHROTTLED_MAX: usize = 100;

/// Limits how often the subscribers of a channel receive its subscription count.
#[derive(Debug, Default)]
pub struct CountThrottle {
    /// The last count that was sent to all subscribers, and its time. The count is `None` if a
    /// subscriber has received another.
    sent: Option<(Option<usize>, Instant)>,
    /// When the next count may be sent, while one is delayed.
    due: Option<Instant>,
}

/// What the caller does about a subscription count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CountAction {
    /// Send this count to all subscribers now.
    Send(usize),
    /// Call again at this time.
    CheckAt(Instant),
    /// All subscribers have received the count, or it is delayed already.
    Skip,
}

impl CountThrottle {
    /// Decides about `count`, which may have changed.
    pub fn action(&mut self, count: usize, now: Instant) -> CountAction {
        if self.due.is_some() || self.sent.is_some_and(|(sent, _)| sent == Some(count)) {
            return CountAction::Skip;
        }
        let not_before = self.sent.map(|(_, at)| at + COUNT_INTERVAL);
        if let Some(not_before) = not_before.filter(|at| now < *at)
            && COUNT_UNTHROTTLED_MAX < count
        {
            self.due = Some(not_before);
            return CountAction::CheckAt(not_before);
        }
        self.sent = Some((Some(count), now));
        CountAction::Send(count)
    }

    /// Records that a new subscriber receives `count` with its subscription. That of the first one
    /// counts as sent.
    pub fn on_subscribed(&mut self, count: usize, now: Instant) {
        match &mut self.sent {
            Some((sent, _)) if *sent != Some(count) => *sent = None,
            Some(_) => {}
            None => self.sent = Some((Some(count), now)),
        }
    }

    /// Records that a new subscriber receives no count with its subscription.
    pub fn on_subscribed_without_count(&mut self) {
        if let Some((sent, _)) = &mut self.sent {
            *sent = None;
        }
    }

    /// Ends the delay of a count that is due. Returns false if none is.
    pub fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// Clears what was sent, after the last subscriber has left.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_small_count_is_sent_at_once_and_only_once() {
        let (mut throttle, now) = (CountThrottle::default(), Instant::now());
        for count in [1, COUNT_UNTHROTTLED_MAX, 2] {
            assert_eq!(throttle.action(count, now), CountAction::Send(count));
            assert_eq!(throttle.action(count, now), CountAction::Skip);
        }
        assert!(!throttle.take_due(now + COUNT_INTERVAL));
    }

    #[test]
    fn a_large_count_is_delayed_until_its_interval_has_passed() {
        let (mut throttle, start) = (CountThrottle::default(), Instant::now());
        let many = COUNT_UNTHROTTLED_MAX + 1;
        assert_eq!(throttle.action(many, start), CountAction::Send(many), "the first one");
        let due = start + COUNT_INTERVAL;
        assert_eq!(throttle.action(many + 1, start + MS), CountAction::CheckAt(due));
        assert_eq!(throttle.action(many + 2, start + MS), CountAction::Skip, "one delay at a time");
        assert_eq!(throttle.action(1, start + MS), CountAction::Skip, "even if it is small again");
        assert!(!throttle.take_due(due - MS));
        assert!(throttle.take_due(due) && !throttle.take_due(due));
        assert_eq!(throttle.action(many + 2, due), CountAction::Send(many + 2));
        let later = due + COUNT_INTERVAL;
        assert_eq!(
            throttle.action(many, later),
            CountAction::Send(many),
            "the interval has passed"
        );
    }

    #[test]
    fn only_the_count_of_the_first_subscriber_counts_as_sent() {
        let (mut throttle, now) = (CountThrottle::default(), Instant::now());
        throttle.on_subscribed(3, now);
        assert_eq!(throttle.action(3, now), CountAction::Skip);
        throttle.on_subscribed(4, now);
        assert_eq!(
            throttle.action(4, now),
            CountAction::Send(4),
            "the first subscriber has another count"
        );
    }

    /// The count rises, a connection subscribes, and the count falls to the one that was sent.
    #[test]
    fn a_count_is_sent_again_if_a_new_subscriber_has_received_another_or_none() {
        let many = COUNT_UNTHROTTLED_MAX + 1;
        let subscribed: [fn(&mut CountThrottle, Instant); 2] = [
            |throttle, now| throttle.on_subscribed(COUNT_UNTHROTTLED_MAX + 2, now),
            |throttle, _| throttle.on_subscribed_without_count(),
        ];
        for subscribe in subscribed {
            let (mut throttle, start) = (CountThrottle::default(), Instant::now());
            assert_eq!(throttle.action(many, start), CountAction::Send(many));
            let due = start + COUNT_INTERVAL;
            subscribe(&mut throttle, start + MS);
            assert_eq!(throttle.action(many + 1, start + MS), CountAction::CheckAt(due));
            assert_eq!(throttle.action(many, start + MS), CountAction::Skip);
            assert!(throttle.take_due(due));
            assert_eq!(throttle.action(many, due), CountAction::Send(many));
            assert_eq!(throttle.action(many, due), CountAction::Skip, "all have it now");
        }
    }

    #[test]
    fn a_reset_ends_the_delay_too() {
        let (mut throttle, now) = (CountThrottle::default(), Instant::now());
        let many = COUNT_UNTHROTTLED_MAX + 1;
        throttle.action(many, now);
        assert_eq!(throttle.action(many + 1, now), CountAction::CheckAt(now + COUNT_INTERVAL));
        throttle.reset();
        assert!(!throttle.take_due(now + COUNT_INTERVAL));
        assert_eq!(throttle.action(many, now), CountAction::Send(many));
    }
}
