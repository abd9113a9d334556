//! Batches of events for one request.

use std::time::Duration;

/// The events for the next request to one endpoint.
#[derive(Debug)]
pub(super) struct Batch {
    /// Maximum number of events.
    events_max: usize,
    /// The events as JSON, separated by commas.
    text: String,
    events: usize,
}

impl Batch {
    /// Maximum number of events in a request. Pusher documents no number; Sockudo has the same.
    pub(super) const EVENTS_MAX: usize = 100;
    /// Maximum size of the events of a request with several events, in bytes.
    pub(super) const BYTES_MAX: usize = 256 * 1_024;

    /// A batch of events that were collected for `wait`. If it is zero, each event is sent alone.
    pub(super) fn new(wait: Duration) -> Self {
        let events_max = if wait.is_zero() { 1 } else { Self::EVENTS_MAX };
        Self { events_max, text: String::new(), events: 0 }
    }

    /// Adds an event. Returns the events before it and their number, if it has no room beside them.
    pub(super) fn add(&mut self, event: &str) -> Option<(String, usize)> {
        let bytes = self.text.len() + 1 + event.len();
        let has_room = self.events < self.events_max && bytes <= Self::BYTES_MAX;
        let full = if has_room { None } else { self.take() };
        if 0 < self.events {
            self.text.push(',');
        }
        self.text.push_str(event);
        self.events += 1;
        full
    }

    /// Takes the events and their number, if there are any.
    pub(super) fn take(&mut self) -> Option<(String, usize)> {
        let events = std::mem::take(&mut self.events);
        (0 < events).then(|| (std::mem::take(&mut self.text), events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(50);

    /// The numbers of events in the requests for events of these sizes.
    fn requests(wait: Duration, sizes: &[usize]) -> Vec<usize> {
        let mut batch = Batch::new(wait);
        let mut full: Vec<_> =
            sizes.iter().filter_map(|size| batch.add(&"x".repeat(*size))).collect();
        full.extend(batch.take());
        full.into_iter().map(|(_, events)| events).collect()
    }

    #[test]
    fn events_are_separated_by_commas() {
        let mut batch = Batch::new(WAIT);
        assert_eq!(batch.take(), None);
        assert_eq!((batch.add("{1}"), batch.add("{2}")), (None, None));
        assert_eq!(batch.take(), Some(("{1},{2}".to_owned(), 2)));
        assert_eq!((batch.take(), batch.add("{3}")), (None, None));
        assert_eq!(batch.take(), Some(("{3}".to_owned(), 1)));
    }

    /// The documented limits, and one event or byte more.
    #[test]
    fn a_hundred_events_of_256_kib_share_a_request() {
        assert_eq!(requests(WAIT, &[2; 100]), [100]);
        assert_eq!(requests(WAIT, &[2; 101]), [100, 1]);
        assert_eq!(requests(WAIT, &[100_000, 256 * 1_024 - 100_001]), [2]);
        assert_eq!(requests(WAIT, &[100_000, 256 * 1_024 - 100_000]), [1, 1]);
        assert_eq!(requests(WAIT, &[1, 300 * 1_024, 1]), [1, 1, 1], "a large event goes alone");
    }

    #[test]
    fn without_a_wait_each_event_is_sent_alone() {
        assert_eq!(requests(Duration::ZERO, &[1, 1, 1]), [1, 1, 1]);
    }
}
