//! The time of this node, from the runtime's clock: tests control it.

use std::time::Instant;

/// The present.
pub(in crate::cluster) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
