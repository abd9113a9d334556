//! Limits the attempts to log in, for each address and for all together.

use crate::rate::{Rate, TokenBucket};
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Who tries to log in, and to what: an attempt at an app's password says nothing about guesses at the
/// server's.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct LoginSource {
    /// An address, or the /64 of one.
    pub(super) network: IpAddr,
    /// Whether the password is that of the server.
    pub(super) is_for_server: bool,
}

/// Attempts of one source: a burst, then one in each period of this length.
const BURST: u32 = 5;
const PERIOD: Duration = Duration::from_secs(10);
/// Attempts of all sources in a second, and at once.
const PER_SECOND_OF_ALL: u32 = 10;
/// Maximum number of sources that are counted by themselves.
const SOURCES_MAX: usize = 1_024;

/// The attempts so far.
#[derive(Debug)]
pub(super) struct LoginLimit {
    of_source: HashMap<LoginSource, TokenBucket>,
    of_all: TokenBucket,
}

fn rate_of_source() -> Rate {
    Rate::per_minute(6).with_burst(BURST)
}

impl LoginLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self { of_source: HashMap::new(), of_all: TokenBucket::full(now) }
    }

    /// Counts an attempt.
    ///
    /// # Errors
    ///
    /// There are too many. Contains the time until the next is allowed.
    pub(super) fn take(&mut self, source: LoginSource, now: Instant) -> Result<(), Duration> {
        if SOURCES_MAX <= self.of_source.len() && !self.of_source.contains_key(&source) {
            self.of_source.retain(|_, bucket| !bucket.is_full(now));
            if SOURCES_MAX <= self.of_source.len() {
                return Err(PERIOD);
            }
        }
        let bucket = self.of_source.entry(source).or_insert_with(|| TokenBucket::full(now));
        bucket.take(rate_of_source(), now)?;
        let of_all = self.of_all.take(Rate::per_second(PER_SECOND_OF_ALL), now);
        of_all.inspect_err(|_wait| self.give_back(source, now))
    }

    /// Takes the attempt of `source` back, which was right.
    pub(super) fn refund(&mut self, source: LoginSource, now: Instant) {
        self.give_back(source, now);
        self.of_all.refund(1, Rate::per_second(PER_SECOND_OF_ALL), now);
    }

    fn give_back(&mut self, source: LoginSource, now: Instant) {
        if let Some(bucket) = self.of_source.get_mut(&source) {
            bucket.refund(1, rate_of_source(), now);
            if bucket.is_full(now) {
                self.of_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> LoginSource {
        let network = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
        LoginSource { network, is_for_server: true }
    }

    #[test]
    fn an_address_has_a_burst_and_then_one_attempt_in_each_period() {
        let now = Instant::now();
        let mut limit = LoginLimit::new(now);
        for _ in 0..BURST {
            assert_eq!(limit.take(address(1), now), Ok(()));
        }
        assert_eq!(limit.take(address(1), now), Err(PERIOD));
        assert_eq!(limit.take(address(2), now), Ok(()), "another address");
        let later = now + PERIOD;
        assert_eq!(limit.take(address(1), later), Ok(()));
        assert!(limit.take(address(1), later).is_err());
        limit.refund(address(1), later);
        assert_eq!(limit.take(address(1), later), Ok(()));
        assert!(limit.take(address(1), later).is_err(), "one attempt is refunded, not all");
        let of_app = LoginSource { is_for_server: false, ..address(1) };
        assert_eq!(limit.take(of_app, later), Ok(()), "another password");
    }

    #[test]
    fn all_addresses_together_are_limited() {
        let now = Instant::now();
        let mut limit = LoginLimit::new(now);
        let allowed = (0..100).filter(|number| limit.take(address(*number), now).is_ok()).count();
        assert_eq!(allowed, PER_SECOND_OF_ALL as usize);
        assert_eq!(limit.of_source.len(), allowed, "the others may try again");
    }

    #[test]
    fn the_number_of_sourcees_is_bounded() {
        let now = Instant::now();
        let mut limit = LoginLimit::new(now);
        for number in 0..u32::try_from(SOURCES_MAX).unwrap() {
            limit.of_all = TokenBucket::full(now);
            assert_eq!(limit.take(address(number), now), Ok(()));
        }
        assert_eq!(limit.take(address(u32::MAX), now), Err(PERIOD));
        assert_eq!(limit.of_source.len(), SOURCES_MAX);
        let later = now + PERIOD;
        assert_eq!(limit.take(address(u32::MAX), later), Ok(()), "old attempts are forgotten");
    }
}
