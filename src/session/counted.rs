//! The positions that a page has counted itself, and tells after each reconnection.

use crate::{channel::Position, protocol::ChannelName};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long after a return the channels of the previous connection may be asked for.
pub(super) const RESUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(20);

/// The positions of a page in the logs of its channels, according to the page.
#[derive(Debug)]
pub(super) struct CountedPositions {
    positions: HashMap<ChannelName, Position>,
    /// The channels are subscribed to by then, or what the page has told of them no longer counts.
    until: Instant,
}

impl CountedPositions {
    /// Maximum number of channels; later ones are taken as not told. A page that has more receives some events twice.
    const MAX: usize = 1_000;

    pub(super) fn new(now: Instant) -> Self {
        Self { positions: HashMap::new(), until: now + RESUBSCRIBE_TIMEOUT }
    }

    pub(super) fn tell(&mut self, channel: ChannelName, position: Position) {
        if self.positions.len() < Self::MAX {
            self.positions.insert(channel, position);
        }
    }

    pub(super) fn get(&self, channel: &ChannelName, now: Instant) -> Option<&Position> {
        self.positions.get(channel).filter(|_| now < self.until)
    }

    pub(super) fn forget(&mut self, channel: &ChannelName) {
        self.positions.remove(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name, 200).unwrap()
    }

    #[test]
    fn a_position_counts_until_it_is_used_and_for_a_limited_time() {
        let now = Instant::now();
        let mut counted = CountedPositions::new(now);
        let position = Position { epoch: "a".into(), sequence: 7 };
        counted.tell(channel("a"), position.clone());
        assert_eq!(counted.get(&channel("a"), now), Some(&position));
        assert_eq!(counted.get(&channel("b"), now), None);
        assert_eq!(counted.get(&channel("a"), now + RESUBSCRIBE_TIMEOUT), None);
        let last = now + RESUBSCRIBE_TIMEOUT.saturating_sub(Duration::from_nanos(1));
        assert_eq!(counted.get(&channel("a"), last), Some(&position));
        counted.forget(&channel("a"));
        assert_eq!(counted.get(&channel("a"), now), None);
    }

    #[test]
    fn the_number_of_channels_is_limited() {
        let now = Instant::now();
        let mut counted = CountedPositions::new(now);
        for at in 0..=CountedPositions::MAX {
            counted.tell(channel(&format!("c{at}")), Position { epoch: "a".into(), sequence: 1 });
        }
        let told = |at: usize| counted.get(&channel(&format!("c{at}")), now).is_some();
        assert!(told(CountedPositions::MAX - 1) && !told(CountedPositions::MAX));
    }
}
