//! What an idle shard waits for.

use crate::{hub::ShardSet, node::Node, shutdown::DrainGuard};
use futures_util::future::select_all;
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

/// Waits until none of the shards of one of these sets is behind; without any set, never completes.
pub(super) async fn caught_up(node: &Node, sets: Vec<ShardSet>) {
    if sets.is_empty() {
        return std::future::pending().await;
    }
    select_all(sets.into_iter().map(|set| Box::pin(node.wait_for_backpressure(set)))).await;
}

/// Sleeps until `deadline`; without one, never completes.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, hub::ShardIndex, shutdown::Shutdown, webhook::Webhooks};
    use futures_util::FutureExt;
    use std::{pin::pin, sync::Arc};

    #[tokio::test]
    async fn a_response_waits_for_its_own_shards_only() {
        let config = Config::default();
        let webhooks = Arc::new(Webhooks::new(&config).unwrap());
        let node = Node::new(&config, 3, 0, Shutdown::new(), webhooks);
        let sets = [&[0, 1][..], &[2]].map(|indexes| {
            let mut set = ShardSet::default();
            for index in indexes {
                set.insert(ShardIndex::new(*index));
            }
            set
        });
        let set_behind =
            |shard, is_behind| node.inboxes().inbox(ShardIndex::new(shard)).set_behind(is_behind);
        for shards in [&[2][..], &[0, 1]] {
            (0..3).for_each(|shard| set_behind(shard, true));
            let mut waiting = pin!(caught_up(&node, sets.to_vec()));
            assert!(waiting.as_mut().now_or_never().is_none());
            for (at, shard) in shards.iter().enumerate() {
                set_behind(*shard, false);
                let is_last = at + 1 == shards.len();
                assert_eq!(waiting.as_mut().now_or_never().is_some(), is_last, "{shards:?}");
            }
        }
        assert!(caught_up(&node, Vec::new()).now_or_never().is_none());
    }
}
