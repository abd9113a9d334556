//! The channels, members and users that were reported as present.

use super::DebounceKey;
use std::collections::HashSet;

/// The channels, members and users of one app that were reported as present and not yet as absent.
#[derive(Debug, Default)]
pub(super) struct PresentKeys {
    keys: HashSet<DebounceKey>,
    lost: usize,
}

impl PresentKeys {
    /// Maximum number for one app. Neither arrival nor departure of a further one is
    /// reported.
    pub(super) const KEYS_MAX: usize = 1_000_000;
    /// Minimum capacity of a table that is worth shrinking.
    pub(super) const SHRINK_FROM: usize = 4_096;

    /// Adds a key. Returns whether it was absent and has room; without room it is lost.
    pub(super) fn add(&mut self, key: DebounceKey) -> bool {
        if self.keys.contains(&key) {
            return false;
        }
        let has_room = self.keys.len() < Self::KEYS_MAX;
        if has_room {
            self.keys.insert(key);
        } else {
            self.lost += 1;
        }
        has_room
    }

    pub(super) fn has(&self, key: &DebounceKey) -> bool {
        self.keys.contains(key)
    }

    /// Removes a key. Returns whether it was present.
    pub(super) fn remove(&mut self, key: &DebounceKey) -> bool {
        let was_present = self.keys.remove(key);
        let capacity = self.keys.capacity();
        if Self::SHRINK_FROM < capacity && self.keys.len() < capacity / 8 {
            self.keys.shrink_to(self.keys.len() * 2);
        }
        was_present
    }

    /// The number of lost keys since the last call.
    pub(super) fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.keys.capacity()
    }
}
