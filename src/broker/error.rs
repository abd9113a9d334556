//! The errors of requests to a broker that may be unavailable.

/// The error of a request while the broker is unavailable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailable;

/// The error of an event that was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublishError {
    /// It was not delivered, and will not be.
    NotDelivered,
    /// The broker received it, but did not answer: it was delivered once, or not at all.
    OutcomeUnknown,
}
