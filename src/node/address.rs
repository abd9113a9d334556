//! Where a client is, and how many of its kind may come from there.

use dashmap::DashMap;
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The proxies whose word is taken for where a client is and whether it came by TLS.
#[derive(Clone, Debug)]
pub struct TrustedProxies(Vec<IpNet>);

/// Who is at the other end, as far as can be believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// The client's address.
    pub address: IpAddr,
    /// Whether the client came by TLS.
    pub is_tls: bool,
}

impl TrustedProxies {
    /// Trusts these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Who is behind a TCP peer that says this in `X-Forwarded-For` and `X-Forwarded-Proto`.
    /// The list is read from its end: each proxy vouches for the entry before it, and the first
    /// address that is no proxy of ours is the client's.
    ///
    /// Without that word, the client came as the peer did, which is right for whoever passes TLS
    /// on to us unopened.
    #[must_use]
    pub fn client(&self, peer: Peer, forwarded_for: Option<&str>, proto: Option<&str>) -> Peer {
        let mut address = peer.address.to_canonical();
        if !self.contains(address) {
            return Peer { address, is_tls: peer.is_tls };
        }
        // The first of a list is how the client itself came. Some proxies say wss for WebSockets.
        let scheme = proto.and_then(|list| list.split(',').next()).map(str::trim);
        let is_tls = scheme.map_or(peer.is_tls, |scheme| {
            ["https", "wss"].iter().any(|tls| scheme.eq_ignore_ascii_case(tls))
        });
        for entry in forwarded_for.unwrap_or_default().rsplit(',') {
            let Some(forwarded) = parse_address(entry.trim()) else { break };
            address = forwarded.to_canonical();
            if !self.contains(address) {
                break;
            }
        }
        Peer { address, is_tls }
    }
}

/// An address as proxies write it: plain, in brackets, or with a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse().map(|with_port: SocketAddr| with_port.ip()).ok())
}

/// How many connections each address has. IPv6 addresses count by their /64, which is what one
/// household gets.
#[derive(Debug)]
pub(super) struct AddressQuota {
    used: DashMap<IpAddr, usize>,
    max: AtomicUsize,
}

/// One place of an address; dropping it gives the place back. Where there is no limit, nothing
/// is counted.
#[derive(Debug)]
pub(super) struct AddressPermit {
    quota: Arc<AddressQuota>,
    address: IpAddr,
}

impl AddressQuota {
    /// At most `max` connections an address; 0 means no limit.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: DashMap::new(), max: AtomicUsize::new(max) })
    }

    /// Sets another limit. Where there was none, those who are there already are not counted.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Takes a place for `address`.
    ///
    /// # Errors
    ///
    /// All of its places are taken.
    pub(super) fn take(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<AddressPermit>, OverQuota> {
        let max = self.max.load(Ordering::Relaxed);
        if max == 0 {
            return Ok(None);
        }
        let address = network_of(address);
        let mut used = self.used.entry(address).or_insert(0);
        if max <= *used {
            return Err(OverQuota);
        }
        *used += 1;
        Ok(Some(AddressPermit { quota: Arc::clone(self), address }))
    }
}

/// The address has as many connections as it may.
#[derive(Debug)]
pub(super) struct OverQuota;

pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        if let Some(mut used) = self.quota.used.get_mut(&self.address) {
            *used -= 1;
        }
        self.quota.used.remove_if(&self.address, |_, used| *used == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_listed_proxies_are_believed() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let at = |text: &str, is_tls| Peer { address: ip(text), is_tls };
        let client = |peer: &str, list| proxies.client(at(peer, false), list, Some("https"));
        assert_eq!(client("1.2.3.4", Some("6.6.6.6")), at("1.2.3.4", false));
        assert_eq!(client("10.0.0.1", Some("6.6.6.6")), at("6.6.6.6", true));
        assert_eq!(client("10.0.0.1", Some("9.9.9.9, 6.6.6.6, 10.0.0.2")), at("6.6.6.6", true));
        assert_eq!(client("10.0.0.1", None), at("10.0.0.1", true));
        assert_eq!(client("10.0.0.1", Some("nonsense")), at("10.0.0.1", true));
        assert_eq!(client("::ffff:10.0.0.1", Some("6.6.6.6")), at("6.6.6.6", true));
        assert_eq!(client("10.0.0.1", Some("6.6.6.6:4711")), at("6.6.6.6", true));
        assert_eq!(client("10.0.0.1", Some("[2001:db8::1]")), at("2001:db8::1", true));
        assert_eq!(client("10.0.0.1", Some("[2001:db8::1]:80")), at("2001:db8::1", true));
    }

    #[test]
    fn a_proxy_says_in_its_own_way_that_the_client_came_by_tls() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let proxy = Peer { address: ip("10.0.0.1"), is_tls: false };
        let is_tls = |proto| proxies.client(proxy, None, proto).is_tls;
        for proto in ["https", "HTTPS", "wss", "https, http", "https,https"] {
            assert!(is_tls(Some(proto)), "{proto}");
        }
        for proto in ["http", "ws", "http, https", ""] {
            assert!(!is_tls(Some(proto)), "{proto}");
        }
        assert!(!is_tls(None));
    }

    #[test]
    fn who_comes_by_tls_itself_came_by_tls() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let is_tls = |address, proto| {
            proxies.client(Peer { address: ip(address), is_tls: true }, None, proto).is_tls
        };
        assert!(is_tls("192.0.2.1", None) && is_tls("192.0.2.1", Some("http")));
        assert!(is_tls("10.0.0.1", None), "TLS that a proxy passes on unopened");
        assert!(!is_tls("10.0.0.1", Some("http")), "TLS of the proxy's own");
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let quota = AddressQuota::new(2);
        let first = quota.take(ip("2001:db8::1")).unwrap();
        let _second = quota.take(ip("2001:db8::2")).unwrap();
        assert!(quota.take(ip("2001:db8::3")).is_err());
        assert!(quota.take(ip("2001:db8:0:1::1")).is_ok());
        drop(first);
        assert!(quota.take(ip("2001:db8::3")).is_ok());
    }

    #[test]
    fn addresses_without_connections_take_no_memory() {
        let quota = AddressQuota::new(1);
        drop(quota.take(ip("1.2.3.4")).unwrap());
        assert!(quota.used.is_empty());
        assert!(AddressQuota::new(0).take(ip("1.2.3.4")).unwrap().is_none());
    }
}
