//! Limits the attempts to log in, for each address and for all together.

use crate::rate::{Rate, TokenBucket};
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Attempts of one address: a burst, then one in each period of this length.
const BURST_OF_ADDRESS: u32 = 5;
const PERIOD_OF_ADDRESS: Duration = Duration::from_secs(10);
/// Attempts of all addresses in a second, and at once.
const PER_SECOND_OF_ALL: u32 = 10;
/// Maximum number of addresses that are counted by themselves.
const ADDRESSES_MAX: usize = 1_024;

/// The attempts so far.
#[derive(Debug)]
pub(super) struct LoginLimit {
    of_address: HashMap<IpAddr, TokenBucket>,
    of_all: TokenBucket,
}

fn rate_of_address() -> Rate {
    Rate::per_minute(6).with_burst(BURST_OF_ADDRESS)
}

impl LoginLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self { of_address: HashMap::new(), of_all: TokenBucket::full(now) }
    }

    /// Counts an attempt from `network`: an address, or the /64 of one.
    ///
    /// # Errors
    ///
    /// There are too many. Contains the time until the next is allowed.
    pub(super) fn take(&mut self, network: IpAddr, now: Instant) -> Result<(), Duration> {
        if ADDRESSES_MAX <= self.of_address.len() && !self.of_address.contains_key(&network) {
            self.of_address.retain(|_, bucket| !bucket.is_full(now));
            if ADDRESSES_MAX <= self.of_address.len() {
                return Err(PERIOD_OF_ADDRESS);
            }
        }
        let bucket = self.of_address.entry(network).or_insert_with(|| TokenBucket::full(now));
        bucket.take(rate_of_address(), now)?;
        self.of_all.take(Rate::per_second(PER_SECOND_OF_ALL), now)
    }

    /// Forgets the attempts from `network`, which has logged in.
    pub(super) fn forget(&mut self, network: IpAddr, now: Instant) {
        self.of_address.remove(&network);
        self.of_all.refund(1, Rate::per_second(PER_SECOND_OF_ALL), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(number))
    }

    #[test]
    fn an_address_has_a_burst_and_then_one_attempt_in_each_period() {
        let now = Instant::now();
        let mut limit = LoginLimit::new(now);
        for _ in 0..BURST_OF_ADDRESS {
            assert_eq!(limit.take(address(1), now), Ok(()));
        }
        assert_eq!(limit.take(address(1), now), Err(PERIOD_OF_ADDRESS));
        assert_eq!(limit.take(address(2), now), Ok(()), "another address");
        let later = now + PERIOD_OF_ADDRESS;
        assert_eq!(limit.take(address(1), later), Ok(()));
        assert!(limit.take(address(1), later).is_err());
        limit.forget(address(1), later);
        assert_eq!(limit.take(address(1), later), Ok(()));
    }

    #[test]
    fn all_addresses_together_are_limited() {
        let now = Instant::now();
        let mut limit = LoginLimit::new(now);
        let allowed = (0..100).filter(|number| limit.take(address(*number), now).is_ok()).count();
        assert_eq!(allowed, PER_SECOND_OF_ALL as usize);
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let now = Instant::now();
        let mut limit = LoginLimit::new(now);
        for number in 0..=u32::try_from(ADDRESSES_MAX).unwrap() {
            let _ = limit.take(address(number), now);
        }
        assert_eq!(limit.of_address.len(), ADDRESSES_MAX);
        let later = now + PERIOD_OF_ADDRESS;
        assert_eq!(limit.take(address(u32::MAX), later), Ok(()), "old attempts are forgotten");
    }
}
