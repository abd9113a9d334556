//! The cached events of an app's cache channels, limited in bytes.

use crate::{
    broker::{CACHE_OVERHEAD_BYTES, cached_channel_bytes},
    protocol::{ChannelName, EventData, Frame, WeakFrame, event},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// An event that is cached for cache channels: one copy for all channels of a publish.
#[derive(Clone, Debug)]
pub(super) struct EventToCache(Arc<CachedEvent>);

#[derive(Debug)]
struct CachedEvent {
    name: Box<str>,
    /// The data as a JSON token, with the publisher's escapes.
    data: Box<str>,
    /// The number of channels that have it. Changed under the lock of the cache only.
    channels: AtomicUsize,
}

impl EventToCache {
    /// Copies the parts of an event that are cached.
    pub(super) fn new(name: &str, data: &EventData<'_>) -> Self {
        let channels = AtomicUsize::new(0);
        Self(Arc::new(CachedEvent { name: name.into(), data: data.token().into(), channels }))
    }

    /// The size of one copy, in bytes.
    fn bytes(&self) -> usize {
        self.0.name.len() + self.0.data.len() + CACHE_OVERHEAD_BYTES
    }

    fn frame(&self, channel: &ChannelName, now: Instant) -> Frame {
        event::app_event(&self.0.name, channel, &EventData::new(&*self.0.data), now)
    }
}

/// Counters of a cache.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CacheStats {
    /// Bytes in the cache.
    pub bytes: usize,
    /// Events that were evicted before they expired.
    pub evicted: u64,
    /// Events that were not cached because they exceed the limit.
    pub too_large: u64,
}

/// The cached events of the cache channels of one app, each until it expires. Beyond the limit in
/// bytes, the least recently published are evicted.
///
/// Its lock is taken under that of a channel, and no other lock is taken under it.
#[derive(Debug)]
pub(super) struct Cache(Mutex<CacheState>);

#[derive(Debug, Default)]
struct CacheState {
    max_bytes: usize,
    channels: HashMap<ChannelName, CacheEntry>,
    /// Channels by the number of their event, in publishing order.
    order: BTreeMap<u64, ChannelName>,
    /// When each event expires.
    deadlines: BTreeSet<(Instant, u64)>,
    publishes: u64,
    stats: CacheStats,
}

#[derive(Debug)]
struct CacheEntry {
    number: u64,
    event: EventToCache,
    /// The frame that the subscribers received, while one of them still has it queued.
    frame: WeakFrame,
    expires_at: Instant,
}

impl Cache {
    /// Minimum capacity of a table that is worth shrinking.
    const SHRINK_FROM: usize = 1_024;

    pub(super) fn new(max_bytes: usize) -> Self {
        Self(Mutex::new(CacheState { max_bytes, ..CacheState::default() }))
    }

    /// Changes the limit; evicts what exceeds it.
    pub(super) fn set_max_bytes(&self, max_bytes: usize) {
        let mut state = self.0.lock();
        state.max_bytes = max_bytes;
        state.evict();
    }

    /// Caches `event`, which the subscribers receive as `frame`, in place of the channel's cached one.
    /// An event larger than the limit is not cached, and the channel's cached event, now outdated, is
    /// removed.
    pub(super) fn insert(
        &self,
        channel: &ChannelName,
        event: &EventToCache,
        frame: &Frame,
        expires_at: Instant,
    ) {
        let mut state = self.0.lock();
        state.remove(channel);
        if state.max_bytes < event.bytes() + cached_channel_bytes(channel) {
            state.stats.too_large += 1;
            return;
        }
        state.publishes += 1;
        let number = state.publishes;
        state.order.insert(number, channel.clone());
        state.deadlines.insert((expires_at, number));
        if event.0.channels.fetch_add(1, Ordering::Relaxed) == 0 {
            state.stats.bytes += event.bytes();
        }
        state.stats.bytes += cached_channel_bytes(channel);
        let cached =
            CacheEntry { number, event: event.clone(), frame: frame.downgrade(), expires_at };
        state.channels.insert(channel.clone(), cached);
        state.evict();
    }

    /// The channel's cached event, as a frame like that of its publish.
    pub(super) fn frame(&self, channel: &ChannelName, now: Instant) -> Option<Frame> {
        let (number, event) = {
            let state = self.0.lock();
            let cached = state.unexpired(channel, now)?;
            if let Some(frame) = cached.frame.upgrade() {
                return Some(frame);
            }
            (cached.number, cached.event.clone())
        };
        let frame = event.frame(channel, now);
        // New subscribers share the frame.
        let mut state = self.0.lock();
        if let Some(cached) = state.channels.get_mut(channel)
            && cached.number == number
        {
            cached.frame = frame.downgrade();
        }
        Some(frame)
    }

    /// The data of the channel's cached event as a JSON token, and the time until it expires.
    pub(super) fn data(&self, channel: &ChannelName, now: Instant) -> Option<(String, Duration)> {
        let state = self.0.lock();
        let cached = state.unexpired(channel, now)?;
        let event = cached.event.clone();
        let time_to_live = cached.expires_at.saturating_duration_since(now);
        drop(state);
        Some((event.0.data.to_string(), time_to_live))
    }

    /// Removes expired events. Returns when the next one expires.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.0.lock();
        loop {
            let (expires_at, number) = state.deadlines.first().copied()?;
            if now < expires_at {
                return Some(expires_at);
            }
            let channel = state.order.get(&number)?.clone();
            state.remove(&channel);
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.0.lock().stats
    }
}

impl CacheState {
    fn unexpired(&self, channel: &ChannelName, now: Instant) -> Option<&CacheEntry> {
        self.channels.get(channel).filter(|cached| now < cached.expires_at)
    }

    fn remove(&mut self, channel: &ChannelName) {
        let Some(CacheEntry { number, event, expires_at, .. }) = self.channels.remove(channel)
        else {
            return;
        };
        self.order.remove(&number);
        self.deadlines.remove(&(expires_at, number));
        if event.0.channels.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stats.bytes -= event.bytes();
        }
        self.stats.bytes -= cached_channel_bytes(channel);
        let (len, capacity) = (self.channels.len(), self.channels.capacity());
        if Cache::SHRINK_FROM < capacity && len < capacity / 8 {
            self.channels.shrink_to(len * 2);
        }
    }

    /// Evicts until the limit is met, the least recently published first.
    fn evict(&mut self) {
        while self.max_bytes < self.stats.bytes
            && let Some((_, channel)) = self.order.first_key_value()
        {
            let channel = channel.clone();
            self.remove(&channel);
            self.stats.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::channel;

    const TTL: Duration = Duration::from_secs(60);

    struct TestCache {
        cache: Cache,
        now: Instant,
    }

    impl TestCache {
        fn new(max_bytes: usize) -> Self {
            Self { cache: Cache::new(max_bytes), now: Instant::now() }
        }

        /// Publishes data of this size on the channels.
        fn publish(&self, channels: &[&str], bytes: usize) -> Vec<Frame> {
            let token = format!("\"{}\"", "x".repeat(bytes - 2));
            let to_cache = EventToCache::new("e", &EventData::new(token.as_str()));
            let frames = channels.iter().map(|name| {
                let name = channel(name);
                let frame = to_cache.frame(&name, self.now);
                self.cache.insert(&name, &to_cache, &frame, self.now + TTL);
                frame
            });
            frames.collect()
        }

        fn has(&self, names: &[&str]) -> Vec<bool> {
            names.iter().map(|name| self.cache.frame(&channel(name), self.now).is_some()).collect()
        }
    }

    #[test]
    fn the_least_recently_published_is_evicted() {
        let test = TestCache::new(3 * 1_600);
        for name in ["cache-a", "cache-b", "cache-c"] {
            test.publish(&[name], 1_000);
        }
        // Read often, published again, or neither.
        assert_eq!(test.has(&["cache-b", "cache-a"]), [true, true]);
        test.publish(&["cache-a"], 1_000);
        test.publish(&["cache-d"], 1_000);
        assert_eq!(
            test.has(&["cache-a", "cache-b", "cache-c", "cache-d"]),
            [true, false, true, true]
        );
        let CacheStats { bytes, evicted, too_large } = test.cache.stats();
        assert_eq!((bytes, evicted, too_large), (3 * (1_000 + 1 + 7 + 512), 1, 0));
        test.cache.set_max_bytes(1_600);
        assert_eq!(test.has(&["cache-a", "cache-c", "cache-d"]), [false, false, true]);
    }

    #[test]
    fn one_copy_serves_all_channels_of_a_publish() {
        let test = TestCache::new(10_000_000);
        let names: Vec<String> = (0..100).map(|number| format!("cache-{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        test.publish(&names, 1_000_000);
        assert_eq!(test.cache.stats().bytes, 1_000_000 + 1 + 256 + 100 * (8 + 256));
        // The copy is freed with the last channel that has it.
        test.publish(&names[1..], 1_000);
        assert!(1_000_000 < test.cache.stats().bytes);
        test.publish(&names[..1], 1_000);
        assert_eq!(test.cache.stats().bytes, 2 * (1_000 + 1 + 256) + 100 * (8 + 256));
    }

    #[test]
    fn an_event_larger_than_the_limit_is_not_cached_and_removes_the_cached_one() {
        let test = TestCache::new(2_000);
        test.publish(&["cache-a"], 100);
        test.publish(&["cache-b"], 100);
        test.publish(&["cache-a"], 2_000);
        assert_eq!(test.has(&["cache-a", "cache-b"]), [false, true]);
        let CacheStats { evicted, too_large, .. } = test.cache.stats();
        assert_eq!((evicted, too_large), (0, 1));
    }

    #[test]
    fn expired_events_free_their_bytes() {
        let mut test = TestCache::new(1_000_000);
        let start = test.now;
        for number in 0..2_000 {
            test.publish(&[&format!("cache-{number}")], 10);
        }
        test.now += Duration::from_secs(1);
        test.publish(&["cache-0", "cache-later"], 10);
        test.now = start + TTL;
        assert_eq!(test.has(&["cache-1", "cache-0"]), [false, true], "even before it is removed");
        let later = test.now + Duration::from_secs(1);
        assert_eq!(test.cache.expire(test.now), Some(later), "the next");
        assert_eq!(test.cache.0.lock().channels.len(), 2);
        assert_eq!(test.cache.expire(later), None);
        let state = test.cache.0.lock();
        assert_eq!((state.stats.bytes, state.order.len(), state.deadlines.len()), (0, 0, 0));
        assert!(
            state.channels.capacity() <= Cache::SHRINK_FROM * 2,
            "{}",
            state.channels.capacity()
        );
    }

    #[test]
    fn subscribers_share_a_frame_while_one_has_it_queued() {
        let test = TestCache::new(1_000_000);
        let [published] = test.publish(&["cache-a"], 10).try_into().unwrap();
        let name = channel("cache-a");
        let first = test.cache.frame(&name, test.now).unwrap();
        assert!(std::ptr::eq(first.bytes(), published.bytes()));
        drop((first, published));
        let first = test.cache.frame(&name, test.now).unwrap();
        let second = test.cache.frame(&name, test.now).unwrap();
        assert!(std::ptr::eq(first.bytes(), second.bytes()));
        let expected = r#"{"event":"e","channel":"cache-a","data":"xxxxxxxx"}"#;
        assert_eq!(first.as_text(), Some(expected));
    }

    /// After any sequence of publishes, the count equals the bytes in the cache and is within the limit.
    #[test]
    fn the_byte_count_is_exact_after_any_sequence() {
        use rand::{RngExt, SeedableRng, rngs::StdRng};
        let mut random = StdRng::seed_from_u64(7);
        let mut test = TestCache::new(20_000);
        for _ in 0..5_000 {
            let names: Vec<String> = (0..random.random_range(1..5))
                .map(|_| format!("cache-{:02}", random.random_range(0..20)))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            test.publish(&names, random.random_range(2..9_000));
            test.now += Duration::from_millis(random.random_range(0..3_000));
            if random.random_bool(0.2) {
                test.cache.expire(test.now);
            }
            let state = test.cache.0.lock();
            let copies: HashMap<*const CachedEvent, usize> = state
                .channels
                .values()
                .map(|cached| (Arc::as_ptr(&cached.event.0), cached.event.bytes()))
                .collect();
            let names: usize = state.channels.keys().map(cached_channel_bytes).sum();
            assert_eq!(state.stats.bytes, copies.values().sum::<usize>() + names);
            assert!(state.stats.bytes <= 20_000);
            assert_eq!(state.order.len(), state.channels.len());
            assert_eq!(state.deadlines.len(), state.channels.len());
        }
    }

    #[test]
    fn an_event_as_large_as_the_limit_is_cached() {
        // The name of the event and of the channel, and the overhead of both.
        let test = TestCache::new(100 + 1 + 7 + 512);
        test.publish(&["cache-a"], 100);
        assert_eq!(test.has(&["cache-a"]), [true]);
        test.publish(&["cache-a"], 101);
        assert_eq!(test.has(&["cache-a"]), [false]);
        let CacheStats { bytes, evicted, too_large } = test.cache.stats();
        assert_eq!((bytes, evicted, too_large), (0, 0, 1));
    }
}
