//! How much a client got wrong lately.

use crate::{
    protocol::ProtocolError,
    rate::{Rate, TokenBucket},
};
use std::time::Instant;

/// The mistakes of one connection. Only time forgives them: a client that guesses signatures could
/// put any number of right messages between its guesses.
#[derive(Debug)]
pub(super) struct Mistakes(TokenBucket);

impl Mistakes {
    /// So much closes the connection.
    const MAX: u32 = 100;
    /// So much is forgiven each minute.
    const FORGIVEN_PER_MINUTE: u32 = 6;
    /// A dozen messages that are none: nobody does that by accident.
    pub(super) const MALFORMED: u32 = 9;
    /// A page whose login has expired may fail to subscribe to many channels at once.
    pub(super) const UNAUTHORIZED: u32 = 1;

    pub(super) fn none(now: Instant) -> Self {
        Self(TokenBucket::full(now))
    }

    /// Counts a mistake.
    ///
    /// # Errors
    ///
    /// It was one too many.
    pub(super) fn add(&mut self, cost: u32, now: Instant) -> Result<(), ProtocolError> {
        let rate = Rate::per_minute(Self::FORGIVEN_PER_MINUTE).with_burst(Self::MAX - 1);
        self.0.take_many(cost, rate, now).map_err(|_wait| ProtocolError::TooManyMistakes)
    }
}
