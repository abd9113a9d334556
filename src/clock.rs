//! The current time of the runtime's clock, which tests pause and advance.

use std::time::Instant;

/// The current time. Outside of a runtime it is the system's.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
