//! What an idle shard waits for.

use crate::shutdown::DrainGuard;
use std::time::Instant;
use tokio::time;

/// Waits until the mode of the drain is chosen; never completes afterwards.
pub(super) async fn mode_chosen(drain: &mut Option<DrainGuard>) {
    match drain {
        Some(drain) => drain.mode_chosen().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until `deadline`; without one, never completes.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
