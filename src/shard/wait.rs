//! What an idle shard waits for.

use crate::{hub::ShardSet, node::Node, shutdown::DrainGuard};
use std::time::Instant;
use tokio::time;

/// Waits until the mode of the drain is chosen, or until the drain starts if `wants_start`; never completes afterwards.
pub(super) async fn drain_advanced(drain: &mut Option<DrainGuard>, wants_start: bool) {
    match drain {
        Some(drain) if wants_start && !drain.is_started() => drain.started().await,
        Some(drain) => drain.mode_chosen().await,
        None => std::future::pending().await,
    }
}

/// Waits until none of these shards is behind; without any, never completes.
pub(super) async fn caught_up(node: &Node, shards: Option<ShardSet>) {
    match shards {
        Some(shards) => node.wait_for_backpressure(shards).await,
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
