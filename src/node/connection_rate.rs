//! Limits the rate of new connections from one address.

use super::address::rate_limit_network;
use crate::rate::{Rate, TokenBucket};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// New connections per second of each address. IPv6 addresses count by their /64, the usual
/// allocation to one customer.
#[derive(Debug)]
pub(super) struct ConnectionRateLimiter {
    /// New connections per second of an address; 0 means no limit.
    per_second: AtomicU32,
    buckets: Mutex<HashMap<IpAddr, TokenBucket>>,
    /// Maximum number of addresses with a bucket.
    max: usize,
}

/// Maximum number of addresses with a bucket: about 3 MB. Beyond it, connections of unknown
/// addresses are not limited: an attacker with that many networks is stopped by other limits, and
/// must not lock out others.
const ADDRESSES_MAX: usize = 65_536;

/// An empty bucket is full after this.
pub(super) const FULL_AFTER: Duration = Duration::from_secs(1);

impl ConnectionRateLimiter {
    /// At most this many new connections per second from an address; 0 means no limit.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = AtomicU32::new(per_second);
        Self { per_second, buckets: Mutex::new(HashMap::new()), max: ADDRESSES_MAX }
    }

    /// Changes the limit.
    pub(super) fn set_max(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Whether connections are counted.
    pub(super) fn is_limited(&self) -> bool {
        self.per_second.load(Ordering::Relaxed) != 0
    }

    /// Counts a new connection of `address`.
    ///
    /// # Errors
    ///
    /// The rate is exceeded. Contains the time until the next connection is allowed.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let rate = Rate::per_second(self.per_second.load(Ordering::Relaxed));
        if rate.is_unlimited() {
            return Ok(());
        }
        let mut buckets = self.buckets.lock();
        let (address, is_full) = (rate_limit_network(address), self.max <= buckets.len());
        if is_full && !buckets.contains_key(&address) {
            return Ok(());
        }
        buckets.entry(address).or_insert_with(|| TokenBucket::full(now)).take(rate, now)
    }

    /// Removes addresses whose bucket is full again. Returns when to look at the others.
    pub(super) fn remove_full_buckets(&self, now: Instant) -> Option<Instant> {
        let mut buckets = self.buckets.lock();
        buckets.retain(|_, bucket| !bucket.is_full(now));
        if buckets.len() < buckets.capacity() / 4 {
            buckets.shrink_to_fit();
        }
        (!buckets.is_empty()).then(|| now + FULL_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_a_rate_of_its_own() {
        let connection_rates = ConnectionRateLimiter::new(2);
        let now = Instant::now();
        for address in ["192.0.2.1", "192.0.2.2"] {
            assert!((0..2).all(|_| connection_rates.take(ip(address), now).is_ok()));
            let wait = connection_rates.take(ip(address), now).unwrap_err();
            assert_eq!(wait, Duration::from_millis(500));
            assert!(connection_rates.take(ip(address), now + wait).is_ok());
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_rate() {
        let connection_rates = ConnectionRateLimiter::new(1);
        let now = Instant::now();
        assert!(connection_rates.take(ip("2001:db8::1"), now).is_ok());
        assert!(connection_rates.take(ip("2001:db8::ffff"), now).is_err());
        assert!(connection_rates.take(ip("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn idle_addresses_take_no_memory() {
        let connection_rates = ConnectionRateLimiter::new(1);
        let now = Instant::now();
        for low in 0..1_000_u32 {
            connection_rates.take(std::net::Ipv4Addr::from_bits(low).into(), now).unwrap();
        }
        let half = now + FULL_AFTER / 2;
        assert_eq!(connection_rates.remove_full_buckets(half), Some(half + FULL_AFTER));
        assert_eq!(connection_rates.buckets.lock().len(), 1_000);
        assert_eq!(connection_rates.remove_full_buckets(now + FULL_AFTER), None);
        let buckets = connection_rates.buckets.lock();
        assert_eq!((buckets.len(), buckets.capacity()), (0, 0));
    }

    #[test]
    fn with_a_full_table_known_addresses_are_limited_and_unknown_ones_are_not() {
        let connection_rates = ConnectionRateLimiter { max: 1, ..ConnectionRateLimiter::new(1) };
        let now = Instant::now();
        assert!(connection_rates.take(ip("192.0.2.1"), now).is_ok());
        assert!((0..9).all(|_| connection_rates.take(ip("192.0.2.2"), now).is_ok()));
        assert!(connection_rates.take(ip("192.0.2.1"), now).is_err());
        assert_eq!(connection_rates.buckets.lock().len(), 1);
    }

    #[test]
    fn zero_is_no_limit() {
        let connection_rates = ConnectionRateLimiter::new(0);
        assert!((0..1_000).all(|_| connection_rates.take(ip("192.0.2.1"), Instant::now()).is_ok()));
        assert!(connection_rates.buckets.lock().is_empty());
    }

    #[test]
    fn a_new_limit_applies_at_once() {
        let connection_rates = ConnectionRateLimiter::new(0);
        let now = Instant::now();
        let admitted =
            || (0..9).filter(|_| connection_rates.take(ip("192.0.2.1"), now).is_ok()).count();
        assert_eq!(admitted(), 9);
        connection_rates.set_max(3);
        assert_eq!((admitted(), admitted()), (3, 0));
        connection_rates.set_max(0);
        assert_eq!(admitted(), 9);
    }
}
