//! The question to a shard for the slow connections of an app.

use crate::protocol::SocketId;
use std::{net::IpAddr, sync::Arc};
use tokio::sync::mpsc;

/// A connection whose socket accepts no more data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlowConnection {
    /// The connection's id.
    pub socket_id: SocketId,
    /// The client's address.
    pub address: IpAddr,
    /// Bytes that wait in the server; what the system has accepted is not included.
    pub waiting_bytes: usize,
}

/// A question to a shard for the slowest connections of an app.
#[derive(Clone, Debug)]
pub struct SlowConnectionsQuery {
    /// The app's id.
    pub app_id: Arc<str>,
    /// Maximum number of connections that a shard names.
    pub max: usize,
    reply: mpsc::UnboundedSender<Vec<SlowConnection>>,
}

impl SlowConnectionsQuery {
    /// A question whose answers are sent to `reply`.
    pub(super) fn new(
        app_id: Arc<str>,
        max: usize,
        reply: mpsc::UnboundedSender<Vec<SlowConnection>>,
    ) -> Self {
        Self { app_id, max, reply }
    }

    /// Answers for one shard.
    pub fn answer(&self, connections: impl Iterator<Item = SlowConnection>) {
        let slowest = largest(connections, self.max, |connection| connection.waiting_bytes);
        // The asking request may have ended.
        let _ = self.reply.send(slowest);
    }
}

/// The `max` items with the largest keys, in descending order. Never holds more than twice as many.
pub(super) fn largest<T, K: Ord>(
    items: impl Iterator<Item = T>,
    max: usize,
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut kept: Vec<(K, T)> = Vec::new();
    let reduce = |kept: &mut Vec<(K, T)>| {
        kept.sort_by(|(a, _), (b, _)| b.cmp(a));
        kept.truncate(max);
    };
    let mut is_reduced = false;
    for item in items {
        let key = key(&item);
        // After the first reduction, the item at `max - 1` is the smallest that was kept.
        if is_reduced && kept.get(max.wrapping_sub(1)).is_none_or(|(smallest, _)| key <= *smallest)
        {
            continue;
        }
        kept.push((key, item));
        if 2 * max <= kept.len() {
            reduce(&mut kept);
            is_reduced = true;
        }
    }
    reduce(&mut kept);
    kept.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_kept_in_descending_order() {
        for (max, expected) in [(0, vec![]), (1, vec![99]), (3, vec![99, 98, 97])] {
            let shuffled = (0..100).map(|number| number * 37 % 100);
            assert_eq!(largest(shuffled, max, |number| *number), expected);
        }
        assert_eq!(largest([3, 5, 4].into_iter(), 10, |number| *number), [5, 4, 3]);
    }
}
