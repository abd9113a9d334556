//! Limits the log lines about rejected requests and connections of one address.

use super::address::rate_limit_network;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Limits the log lines about rejected requests and connections: each address may cause a few lines
/// in a period, and one more line at the end of the period counts the others. IPv6 addresses count
/// by their /64.
#[derive(Debug)]
pub(super) struct RejectionThrottle {
    windows: Mutex<HashMap<RejectionSource, RejectionWindow>>,
    /// Maximum number of addresses with their own period.
    max: usize,
}

/// The address, or the group of addresses, of a rejection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum RejectionSource {
    Network(IpAddr),
    /// All addresses beyond those with their own period.
    Others,
}

#[derive(Debug)]
struct RejectionWindow {
    began: Instant,
    rejections: u64,
}

/// Length of a period.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Maximum number of lines for one address in a period.
const LINES_MAX: u64 = 5;
/// Maximum number of addresses with their own period: if all of them are rejected continuously,
/// about 130 lines are written per second.
const ADDRESSES_MAX: usize = 256;

impl RejectionThrottle {
    pub(super) fn new() -> Self {
        Self { windows: Mutex::new(HashMap::new()), max: ADDRESSES_MAX }
    }

    /// Counts a rejection. True if it may be logged.
    pub(super) fn count(&self, address: IpAddr, now: Instant) -> bool {
        let mut periods = self.windows.lock();
        let own = RejectionSource::Network(rate_limit_network(address.to_canonical()));
        let has_room = periods.len() < self.max || periods.contains_key(&own);
        let source = if has_room { own } else { RejectionSource::Others };
        let period = periods.entry(source).or_insert(RejectionWindow { began: now, rejections: 0 });
        period.rejections += 1;
        period.rejections <= LINES_MAX
    }

    /// Ends the periods that are over, and logs how many rejections each has left out. Returns when the next one ends.
    pub(super) fn on_tick(&self, now: Instant) -> Option<Instant> {
        for (source, suppressed) in self.take_ended(now) {
            let (address, addresses) = match source {
                RejectionSource::Network(address) => (Some(address.to_string()), None),
                RejectionSource::Others => (None, Some("others")),
            };
            tracing::info!(
                address,
                addresses,
                count = suppressed,
                "more rejections were not logged"
            );
        }
        self.windows.lock().values().map(|period| period.began + WINDOW).min()
    }

    /// Removes the periods that are over, and returns those with rejections that were not logged.
    fn take_ended(&self, now: Instant) -> Vec<(RejectionSource, u64)> {
        let mut ended = Vec::new();
        self.windows.lock().retain(|source, period| {
            let is_over = period.began + WINDOW <= now;
            if is_over && LINES_MAX < period.rejections {
                ended.push((*source, period.rejections - LINES_MAX));
            }
            !is_over
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_a_few_lines_in_a_period_and_then_a_count() {
        let log = RejectionThrottle::new();
        let start = Instant::now();
        let logged = (0..1_000).filter(|_| log.count(ip("192.0.2.1"), start)).count();
        assert_eq!(logged as u64, LINES_MAX);
        assert!(log.count(ip("192.0.2.2"), start), "others are not concerned");
        assert_eq!(log.take_ended(start + WINDOW / 2), []);
        assert_eq!(log.on_tick(start + WINDOW / 2), Some(start + WINDOW));
        let expected = (RejectionSource::Network(ip("192.0.2.1")), 1_000 - LINES_MAX);
        assert_eq!(log.take_ended(start + WINDOW), [expected]);
        assert!(log.windows.lock().is_empty());
        assert!(log.count(ip("192.0.2.1"), start + WINDOW), "and begins anew");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let log = RejectionThrottle::new();
        let start = Instant::now();
        let addresses = (0..100_u128).map(|low| (ip("2001:db8::").to_string(), low));
        let logged = addresses
            .filter(|(network, low)| log.count(ip(&format!("{network}{low:x}")), start))
            .count();
        assert_eq!(logged as u64, LINES_MAX);
    }

    #[test]
    fn many_addresses_take_neither_memory_nor_lines_without_bound() {
        let log = RejectionThrottle::new();
        let start = Instant::now();
        let mut logged = 0;
        for bits in 0..100_000_u32 {
            logged += u64::from(log.count(std::net::Ipv4Addr::from_bits(bits).into(), start));
        }
        assert_eq!(log.windows.lock().len(), ADDRESSES_MAX + 1);
        assert_eq!(logged, ADDRESSES_MAX as u64 + LINES_MAX);
        let left_out = 100_000 - logged;
        assert_eq!(log.take_ended(start + WINDOW), [(RejectionSource::Others, left_out)]);
    }

    #[test]
    fn the_bounds_are_those_that_are_documented() {
        assert_eq!((WINDOW, LINES_MAX, ADDRESSES_MAX), (Duration::from_secs(10), 5, 256));
    }
}
