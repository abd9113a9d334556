//! The present, from the runtime's clock: tests stop and advance it.

use std::time::Instant;

/// The present. Outside of a runtime, the system's clock.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
