//! The errors of requests to a broker that may be unavailable.

/// The error of a request while the broker is unavailable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailable;

/// The error of a publish.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublishError {
    /// It was not delivered, and will not be.
    NotDelivered,
    /// It may have been delivered: Redis did not answer, or accepted only some of the events. On each
    /// channel, each event was published once, or not at all.
    OutcomeUnknown,
}
