//! The data of one Redis server.

use super::replies::{Bytes, ModelError, WRONG_TYPE};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// All keys of a server, and the clock for their expiry.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelStore {
    entries: BTreeMap<Bytes, StoredValue>,
    /// The server's clock, in µs since 1970.
    pub(crate) now_us: u64,
    /// The changes of the current transaction: the commands that a replica would receive.
    pub(crate) effects: Vec<Vec<Bytes>>,
    random: u64,
}

/// The value and the expiry of a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredValue {
    pub(crate) data: Data,
    /// When the key expires, in ms since 1970.
    pub(crate) expires_ms: Option<u64>,
}

/// A value of any type. Collections are ordered, so that a run is reproducible.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Text(Bytes),
    Hash(BTreeMap<Bytes, Bytes>),
    List(VecDeque<Bytes>),
    Set(BTreeSet<Bytes>),
    Sorted(Sorted),
    Stream(Stream),
}

/// A stream: fields and values by the two numbers of their id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stream {
    pub(crate) entries: BTreeMap<(u64, u64), Vec<Bytes>>,
    /// The id of the latest entry, whether or not it was trimmed.
    pub(crate) last: (u64, u64),
}

/// A sorted set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sorted {
    pub(crate) scores: BTreeMap<Bytes, f64>,
    order: BTreeSet<(Score, Bytes)>,
}

#[derive(Clone, Copy, Debug)]
struct Score(f64);

/// A type that [`Data`] can hold.
pub(crate) trait Kind: Sized {
    fn of(data: &Data) -> Option<&Self>;
    fn of_mut(data: &mut Data) -> Option<&mut Self>;
    fn empty() -> Data;
    fn is_empty(&self) -> bool;
}

macro_rules! kind {
    ($variant:ident, $type:ty, $is_empty:expr) => {
        impl Kind for $type {
            fn of(data: &Data) -> Option<&Self> {
                if let Data::$variant(value) = data { Some(value) } else { None }
            }

            fn of_mut(data: &mut Data) -> Option<&mut Self> {
                if let Data::$variant(value) = data { Some(value) } else { None }
            }

            fn empty() -> Data {
                Data::$variant(Self::default())
            }

            fn is_empty(&self) -> bool {
                let is_empty: fn(&Self) -> bool = $is_empty;
                is_empty(self)
            }
        }
    };
}

// An empty string or stream remains a value, while another empty collection is removed.
kind!(Text, Bytes, |_| false);
kind!(Hash, BTreeMap<Bytes, Bytes>, BTreeMap::is_empty);
kind!(List, VecDeque<Bytes>, VecDeque::is_empty);
kind!(Set, BTreeSet<Bytes>, BTreeSet::is_empty);
kind!(Stream, Stream, |_| false);
kind!(Sorted, Sorted, |sorted| sorted.scores.is_empty());

impl ModelStore {
    /// An empty store whose random choices derive from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: seed, ..Self::default() }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    /// A random number below `bound`.
    pub(crate) fn random_below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(bound).expect("it fits")).expect("it fits")
    }

    /// Removes the key if it has expired.
    fn expire(&mut self, key: &[u8]) {
        let now = self.now_ms();
        let is_over = |entry: &StoredValue| entry.expires_ms.is_some_and(|expires| expires <= now);
        if self.entries.get(key).is_some_and(is_over) {
            self.entries.remove(key);
        }
    }

    pub(crate) fn entry(&mut self, key: &[u8]) -> Option<&StoredValue> {
        self.expire(key);
        self.entries.get(key)
    }

    pub(crate) fn entry_mut(&mut self, key: &[u8]) -> Option<&mut StoredValue> {
        self.expire(key);
        self.entries.get_mut(key)
    }

    /// Replaces the key and its expiry.
    pub(crate) fn put(&mut self, key: &[u8], data: Data, expires_ms: Option<u64>) {
        self.entries.insert(key.to_vec(), StoredValue { data, expires_ms });
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<StoredValue> {
        self.expire(key);
        self.entries.remove(key)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The value of a key, if there is one.
    pub(crate) fn read<T: Kind>(&mut self, key: &[u8]) -> Result<Option<&T>, ModelError> {
        self.entry(key).map(|entry| T::of(&entry.data).ok_or(WRONG_TYPE)).transpose()
    }

    /// Changes the value of a key, which may be missing. An empty collection is removed afterwards.
    pub(crate) fn change<T: Kind, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, ModelError> {
        let Some(entry) = self.entry_mut(key) else { return Ok(None) };
        let value = T::of_mut(&mut entry.data).ok_or(WRONG_TYPE)?;
        let result = change(value);
        if value.is_empty() {
            self.entries.remove(key);
        }
        Ok(Some(result))
    }

    /// Changes the value of a key, which is created if it is missing.
    pub(crate) fn upsert<T: Kind, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, ModelError> {
        self.expire(key);
        if !self.entries.contains_key(key) {
            self.put(key, T::empty(), None);
        }
        let result = self.change(key, change)?;
        Ok(result.expect("the key exists"))
    }

    /// The keys that have not expired, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        let now = self.now_ms();
        let lives = move |entry: &StoredValue| entry.expires_ms.is_none_or(|expires| now < expires);
        self.entries.iter().filter(move |(_, entry)| lives(entry)).map(|(key, _)| key)
    }
}

impl Data {
    /// The name of the type, as returned by `TYPE`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Hash(_) => "hash",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Sorted(_) => "zset",
            Self::Stream(_) => "stream",
        }
    }
}

impl Sorted {
    /// Sets a member's score. Returns `true` if the member is new.
    pub(crate) fn insert(&mut self, member: &[u8], score: f64) -> bool {
        let is_new = !self.remove(member);
        self.scores.insert(member.to_vec(), score);
        self.order.insert((Score(score), member.to_vec()));
        is_new
    }

    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        let Some(score) = self.scores.remove(member) else { return false };
        self.order.remove(&(Score(score), member.to_vec()));
        true
    }

    /// The members by score, then by name.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Bytes, f64)> {
        self.order.iter().map(|(score, member)| (member, score.0))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
