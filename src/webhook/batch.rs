//! Batches of events for one request.

use std::time::{Duration, Instant};

/// The events for the next request to one endpoint.
#[derive(Debug)]
pub(super) struct Batch {
    wait: Duration,
    /// The events as JSON, separated by commas.
    text: String,
    events: usize,
    /// When the first event was added.
    since: Option<Instant>,
}

impl Batch {
    /// Maximum number of events in a request. Pusher documents no number; Sockudo has the same.
    pub(super) const EVENTS_MAX: usize = 100;
    /// Maximum size of the events of a request with several events, in bytes.
    pub(super) const BYTES_MAX: usize = 256 * 1_024;

    /// A batch that is sent after `wait`. If it is zero, each event is sent alone.
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, text: String::new(), events: 0, since: None }
    }

    /// Adds an event. Returns the requests that are complete, each with its number of events.
    pub(super) fn add(
        &mut self,
        event: &str,
        now: Instant,
    ) -> impl Iterator<Item = (String, usize)> + use<> {
        let full = if self.has_room(event.len()) { None } else { self.take() };
        self.push(event, now);
        let due = if self.is_due(now) { self.take() } else { None };
        full.into_iter().chain(due)
    }

    /// Whether an event of this size may be added.
    fn has_room(&self, bytes: usize) -> bool {
        self.events == 0 || self.text.len() + 1 + bytes <= Self::BYTES_MAX
    }

    fn push(&mut self, event: &str, now: Instant) {
        if self.events > 0 {
            self.text.push(',');
        }
        self.text.push_str(event);
        self.events += 1;
        self.since.get_or_insert(now);
    }

    /// Whether the request is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        Self::EVENTS_MAX <= self.events || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// When the request is due; `None` if the batch is empty.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.wait)
    }

    /// Takes the events and their number, if there are any.
    pub(super) fn take(&mut self) -> Option<(String, usize)> {
        self.since.take()?;
        Some((std::mem::take(&mut self.text), std::mem::take(&mut self.events)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(50);

    #[test]
    fn events_are_batched_until_the_wait_is_over() {
        let start = Instant::now();
        let mut batch = Batch::new(WAIT);
        assert_eq!((batch.deadline(), batch.take()), (None, None));
        batch.push("{1}", start);
        batch.push("{2}", start + Duration::from_millis(49));
        assert_eq!(batch.deadline(), Some(start + WAIT), "since the first");
        assert!(!batch.is_due(start + Duration::from_millis(49)));
        assert!(batch.is_due(start + WAIT));
        assert_eq!(batch.take(), Some(("{1},{2}".to_owned(), 2)));
        assert_eq!((batch.deadline(), batch.take()), (None, None));
    }

    #[test]
    fn a_batch_is_limited_in_events_and_bytes() {
        let now = Instant::now();
        let mut batch = Batch::new(WAIT);
        for _ in 1..Batch::EVENTS_MAX {
            batch.push("{}", now);
        }
        assert!(!batch.is_due(now));
        batch.push("{}", now);
        assert!(batch.is_due(now));
        batch.take();
        assert!(batch.has_room(Batch::BYTES_MAX * 2), "a large event goes alone");
        batch.push("{}", now);
        assert!(batch.has_room(Batch::BYTES_MAX - 3));
        assert!(!batch.has_room(Batch::BYTES_MAX - 2));
    }

    /// The documented limits, and one byte more or less.
    #[test]
    fn a_hundred_events_of_256_kib_share_a_request() {
        let now = Instant::now();
        let mut batch = Batch::new(WAIT);
        let due: Vec<bool> = (0..100)
            .map(|_| {
                batch.push("{}", now);
                batch.is_due(now)
            })
            .collect();
        assert_eq!(due.iter().position(|is_due| *is_due), Some(99));
        assert_eq!(batch.take().map(|(_, count)| count), Some(100));
        batch.push(&"x".repeat(100_000), now);
        assert!(batch.has_room(256 * 1_024 - 100_001));
        assert!(!batch.has_room(256 * 1_024 - 100_000));
    }

    #[test]
    fn without_a_wait_each_event_is_sent_alone() {
        let now = Instant::now();
        let mut batch = Batch::new(Duration::ZERO);
        batch.push("{}", now);
        assert!(batch.is_due(now));
    }
}
