//! Limits the errors of a client.

use crate::{
    protocol::ProtocolError,
    rate::{Rate, TokenBucket},
};
use std::time::Instant;

/// The error budget of one connection: each error spends its cost, and the budget is refilled over
/// time. Valid messages do not refill it, because a client that guesses signatures could send them
/// between its guesses.
#[derive(Debug)]
pub(super) struct ErrorBudget(TokenBucket);

impl ErrorBudget {
    /// Cost that closes the connection, if it is spent at once.
    const MAX: u32 = 100;
    /// Cost that is refilled each minute.
    const REFILL_PER_MINUTE: u32 = 6;
    /// Cost of a malformed message: twelve of them close the connection.
    pub(super) const MALFORMED: u32 = 9;
    /// Cost of a failed authorization: a page whose login has expired may fail to subscribe to many
    /// channels at once.
    pub(super) const UNAUTHORIZED: u32 = 1;

    pub(super) fn full(now: Instant) -> Self {
        Self(TokenBucket::full(now))
    }

    /// Spends the cost of an error.
    ///
    /// # Errors
    ///
    /// The budget is used up: the connection is to be closed.
    pub(super) fn spend(&mut self, cost: u32, now: Instant) -> Result<(), ProtocolError> {
        let rate = Rate::per_minute(Self::REFILL_PER_MINUTE).with_burst(Self::MAX - 1);
        self.0.take_many(cost, rate, now).map_err(|_wait| ProtocolError::TooManyErrors)
    }
}
