//! Subscriptions whose connection was lost before the broker has decided.

use crate::{hub::ConnectionKey, protocol::SocketId};
use std::{collections::HashMap, time::Instant};

/// The number of entries from which on those are removed whose time has passed.
const PRUNE_MIN: usize = 64;

/// These subscriptions, by connection and ticket, with the socket id and the end of the time in which the client may return. A result
/// may be missing for as long as Redis is unavailable, so entries whose time has passed are removed whenever the number has doubled.
#[derive(Debug)]
pub(super) struct LostPending {
    entries: HashMap<(ConnectionKey, u32), (SocketId, Instant)>,
    /// The number of entries at which they are pruned next.
    prune_at: usize,
}

impl LostPending {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), prune_at: PRUNE_MIN }
    }

    pub(super) fn insert(
        &mut self,
        subscription: (ConnectionKey, u32),
        (socket_id, end): (SocketId, Instant),
        now: Instant,
    ) {
        if self.prune_at <= self.entries.len() {
            self.entries.retain(|_, (_, end)| now < *end);
            self.prune_at = PRUNE_MIN.max(2 * self.entries.len());
        }
        self.entries.insert(subscription, (socket_id, end));
    }

    pub(super) fn remove(
        &mut self,
        subscription: (ConnectionKey, u32),
    ) -> Option<(SocketId, Instant)> {
        self.entries.remove(&subscription)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const KEY: ConnectionKey = ConnectionKey { slot: 1, generation: 1 };

    #[test]
    fn entries_whose_time_has_passed_are_removed_when_there_are_many() {
        let (began, grace) = (Instant::now(), Duration::from_secs(1));
        let mut lost = LostPending::new();
        let socket_id = SocketId::from_random(1 << 32 | 7);
        // 100 a second, for 100 s.
        for ticket in 0..10_000 {
            let now = began + Duration::from_millis(10) * ticket;
            lost.insert((KEY, ticket), (socket_id, now + grace), now);
            assert!(lost.entries.len() <= 202, "twice those whose time has not passed");
            if let Some(recent) = ticket.checked_sub(99) {
                assert!(lost.entries.contains_key(&(KEY, recent)), "its time has not passed");
            }
        }
        assert!(lost.remove((KEY, 9_999)).is_some() && lost.remove((KEY, 9_999)).is_none());
    }
}
