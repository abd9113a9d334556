//! Random numbers: from the operating system, or in tests from a seed of the thread.

use std::collections::{HashMap, HashSet};

/// A map with a random order of iteration, deterministic in tests.
pub(in crate::broker::redis) type SeededMap<K, V> = HashMap<K, V, HashState>;
/// A set with a random order of iteration, deterministic in tests.
pub(in crate::broker::redis) type SeededSet<K> = HashSet<K, HashState>;

#[cfg(test)]
pub(in crate::broker::redis) use seeded::{HashState, random_u64, seed};
#[cfg(not(test))]
pub(in crate::broker::redis) use system::{HashState, random_u64};

/// Sixteen hexadecimal digits.
pub(in crate::broker::redis) fn hex_id() -> String {
    format!("{:016x}", random_u64())
}

#[cfg(not(test))]
mod system {
    pub(in crate::broker::redis) type HashState = std::hash::RandomState;

    /// 64 random bits.
    pub(in crate::broker::redis) fn random_u64() -> u64 {
        rand::random()
    }
}

#[cfg(test)]
mod seeded {
    use rand::{SeedableRng as _, rngs::StdRng};
    use std::{
        cell::RefCell,
        hash::{BuildHasherDefault, DefaultHasher},
    };

    pub(in crate::broker::redis) type HashState = BuildHasherDefault<DefaultHasher>;

    thread_local! {
        static NUMBERS: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
    }

    /// The next number of this thread.
    pub(in crate::broker::redis) fn random_u64() -> u64 {
        NUMBERS.with_borrow_mut(rand::RngExt::random)
    }

    /// Seeds the numbers of this thread.
    pub(in crate::broker::redis) fn seed(seed: u64) {
        NUMBERS.with_borrow_mut(|numbers| *numbers = StdRng::seed_from_u64(seed));
    }
}
