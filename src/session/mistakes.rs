//! Limits a client's errors.

use crate::{
    protocol::ProtocolError,
    rate::{Rate, TokenBucket},
};
use std::time::Instant;

/// The errors of one connection. Only time reduces them: valid messages do not, because a client
/// that guesses signatures could send them between its guesses.
#[derive(Debug)]
pub(super) struct Mistakes(TokenBucket);

impl Mistakes {
    /// Total cost that closes the connection.
    const MAX: u32 = 100;
    /// Cost that is forgiven each minute.
    const FORGIVEN_PER_MINUTE: u32 = 6;
    /// Cost of a malformed message: twelve of them close the connection.
    pub(super) const MALFORMED: u32 = 9;
    /// Cost of a failed authorization: a page whose login has expired may fail to subscribe to many
    /// channels at once.
    pub(super) const UNAUTHORIZED: u32 = 1;

    pub(super) fn none(now: Instant) -> Self {
        Self(TokenBucket::full(now))
    }

    /// Adds the cost of an error.
    ///
    /// # Errors
    ///
    /// The total exceeds the maximum.
    pub(super) fn add(&mut self, cost: u32, now: Instant) -> Result<(), ProtocolError> {
        let rate = Rate::per_minute(Self::FORGIVEN_PER_MINUTE).with_burst(Self::MAX - 1);
        self.0.take_many(cost, rate, now).map_err(|_wait| ProtocolError::TooManyMistakes)
    }
}
