//! The client's address behind proxies, and the limit of connections per address.

use dashmap::DashMap;
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The proxies whose forwarding headers are trusted.
#[derive(Clone, Debug)]
pub struct TrustedProxies(Vec<IpNet>);

/// The address of a client, and whether it uses TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAddress {
    /// The client's address, behind trusted proxies.
    pub address: IpAddr,
    /// Whether the client's own connection uses TLS.
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

    /// Determines the client behind a TCP peer from the lines of its `X-Forwarded-For` and
    /// `X-Forwarded-Proto` headers, in the order in which they were received.
    ///
    /// Several lines form one list. Both lists are read from the last entry to the first: each
    /// proxy is trusted for what it appended, so an entry counts only if the next one is a trusted
    /// proxy. The first other address is the client's. An entry that is not an address ends the
    /// search: the client then has the address of the last trusted proxy.
    ///
    /// A proxy without an entry in the second list has the protocol of the hop after it, which is
    /// right for a balancer that passes TLS through.
    #[must_use]
    pub fn client<'a>(
        &self,
        peer: ClientAddress,
        forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
        proto: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> ClientAddress {
        let ClientAddress { address, mut is_tls } = peer;
        let mut address = address.to_canonical();
        let mut addresses = entries_from_the_end(forwarded_for);
        let mut schemes = entries_from_the_end(proto);
        while self.contains(address) {
            if let Some(scheme) = schemes.next() {
                // Some proxies send wss for WebSockets.
                is_tls = [&b"https"[..], b"wss"].iter().any(|tls| scheme.eq_ignore_ascii_case(tls));
            }
            let Some(forwarded) = addresses.next().and_then(parse_address) else { break };
            address = forwarded.to_canonical();
        }
        ClientAddress { address, is_tls }
    }
}

/// The entries of a header whose lines form one list, the last one first, without surrounding white
/// space.
fn entries_from_the_end<'a>(
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> impl Iterator<Item = &'a [u8]> {
    lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Parses an address as proxies write it: plain, with a port, in brackets, in quotes.
fn parse_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = unquoted.unwrap_or(text);
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match in_brackets {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => text.parse().or_else(|_| text.parse().map(|at: SocketAddr| at.ip())).ok(),
    }
}

/// The number of connections of each address. IPv6 addresses count by their /64, the usual
/// allocation to one customer.
#[derive(Debug)]
pub(super) struct AddressQuota {
    used: DashMap<IpAddr, usize>,
    max: AtomicUsize,
}

/// A permit for one connection of an address; dropping it releases it. Without a limit, connections
/// are not counted.
#[derive(Debug)]
pub(super) struct AddressPermit {
    quota: Arc<AddressQuota>,
    address: IpAddr,
}

impl AddressQuota {
    /// At most `max` connections per address; 0 means no limit.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: DashMap::new(), max: AtomicUsize::new(max) })
    }

    /// Changes the limit. Connections that were accepted without a limit are not counted.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Takes a permit for `address`.
    ///
    /// # Errors
    ///
    /// The address has reached its limit.
    pub(super) fn take(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<AddressPermit>, OverQuota> {
        let max = self.max.load(Ordering::Relaxed);
        if max == 0 {
            return Ok(None);
        }
        let address = rate_limit_network(address);
        let mut used = self.used.entry(address).or_insert(0);
        if max <= *used {
            return Err(OverQuota);
        }
        *used += 1;
        Ok(Some(AddressPermit { quota: Arc::clone(self), address }))
    }
}

/// The address has reached its limit of connections.
#[derive(Debug)]
pub(super) struct OverQuota;

/// The address itself, or the /64 of an IPv6 address.
#[must_use]
pub fn rate_limit_network(address: IpAddr) -> IpAddr {
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

    /// A header's lines.
    type Lines = &'static [&'static [u8]];

    /// The client behind `peer`, which connected without TLS.
    fn behind(peer: &str, forwarded_for: Lines, proto: Lines) -> ClientAddress {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let peer = ClientAddress { address: ip(peer), is_tls: false };
        TrustedProxies::new(networks.to_vec()).client(
            peer,
            forwarded_for.iter().copied(),
            proto.iter().copied(),
        )
    }

    #[test]
    fn only_listed_proxies_are_trusted() {
        let client = behind("1.2.3.4", &[b"6.6.6.6"], &[b"https"]);
        assert_eq!(client, ClientAddress { address: ip("1.2.3.4"), is_tls: false });
        let client = behind("::ffff:10.0.0.1", &[b"6.6.6.6"], &[b"https"]);
        assert_eq!(client, ClientAddress { address: ip("6.6.6.6"), is_tls: true });
    }

    #[test]
    fn addresses_are_read_from_the_end_to_the_first_untrusted() {
        let cases: &[(Lines, &str)] = &[
            (&[], "10.0.0.1"),
            (&[b"6.6.6.6"], "6.6.6.6"),
            (&[b"9.9.9.9, 6.6.6.6, 10.0.0.2"], "6.6.6.6"),
            (&[b"6.6.6.6,10.0.0.2\t, 10.0.0.3 "], "6.6.6.6"),
            (&[b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Several lines form one list.
            (&[b"9.9.9.9", b"6.6.6.6"], "6.6.6.6"),
            (&[b"9.9.9.9", b"6.6.6.6", b"10.0.0.3, 10.0.0.2"], "6.6.6.6"),
            // The forms of an address.
            (&[b"6.6.6.6:4711"], "6.6.6.6"),
            (&[b"2001:db8::1"], "2001:db8::1"),
            (&[b"[2001:db8::1]"], "2001:db8::1"),
            (&[b"[2001:db8::1]:443"], "2001:db8::1"),
            (&[b"\"[2001:db8::1]:443\""], "2001:db8::1"),
            (&[b"\"6.6.6.6\""], "6.6.6.6"),
            (&[b"6.6.6.6, fd00::7"], "6.6.6.6"),
            (&[b"::ffff:6.6.6.6"], "6.6.6.6"),
            (&[b"6.6.6.6, [::ffff:10.0.0.2]:80"], "6.6.6.6"),
            // An entry that is not an address ends the search, and later entries still count.
            (&[b"nonsense"], "10.0.0.1"),
            (&[b"6.6.6.6, nonsense, 10.0.0.2"], "10.0.0.2"),
            (&[b"nonsense, 6.6.6.6"], "6.6.6.6"),
            (&[b"\xff, 6.6.6.6, 10.0.0.2"], "6.6.6.6"),
            (&[b"\xff", b"6.6.6.6"], "6.6.6.6"),
            (&[b"6.6.6.6, \xff"], "10.0.0.1"),
            (&[b"6.6.6.6", b"\xff"], "10.0.0.1"),
            (&[b"6.6.6.6", b""], "10.0.0.1"),
            (&[b"6.6.6.6,"], "10.0.0.1"),
            (&[b"6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            (&[b"6.6.6.6:, 10.0.0.2"], "10.0.0.2"),
            (&[b"6.6.6.6:70000"], "10.0.0.1"),
            (&[b"[6.6.6.6]"], "10.0.0.1"),
            (&[b"[[2001:db8::1]]"], "10.0.0.1"),
            (&[b"2001:db8::1]"], "10.0.0.1"),
            (&[b"\"6.6.6.6"], "10.0.0.1"),
            (&[b"6.6.6.6 7.7.7.7"], "10.0.0.1"),
            (&[b"06.6.6.6"], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            let shown: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
            assert_eq!(behind("10.0.0.1", lines, &[]).address, ip(expected), "{shown:?}");
        }
    }

    #[test]
    fn schemes_are_read_from_the_end_as_far_as_addresses_are() {
        let cases: &[(Lines, Lines, bool)] = &[
            (&[], &[], false),
            (&[], &[b"https"], true),
            (&[], &[b"HTTPS"], true),
            (&[], &[b"wss"], true),
            (&[], &[b"http"], false),
            (&[], &[b"ws"], false),
            (&[], &[b""], false),
            (&[], &[b"\xff"], false),
            // The client may have sent the header itself.
            (&[b"6.6.6.6"], &[b"https, http"], false),
            (&[b"6.6.6.6"], &[b"https", b"http"], false),
            (&[b"6.6.6.6"], &[b"http, https"], true),
            (&[b"6.6.6.6"], &[b"\xff", b"https"], true),
            // Both proxies append their protocol.
            (&[b"6.6.6.6, 10.0.0.2"], &[b"https, http"], true),
            (&[b"6.6.6.6, 10.0.0.2"], &[b"https, http, http"], false),
            (&[b"6.6.6.6, 10.0.0.2"], &[b"http, https"], false),
            (&[b"6.6.6.6, 10.0.0.2"], &[b"http", b"https,http"], true),
            // The nearer proxy passes the other's header on.
            (&[b"6.6.6.6, 10.0.0.2"], &[b"https"], true),
            // Entries before an invalid one are not trusted.
            (&[b"6.6.6.6, nonsense"], &[b"https, http"], false),
        ];
        for (addresses, schemes, expected) in cases {
            let shown: Vec<_> = schemes.iter().map(|line| String::from_utf8_lossy(line)).collect();
            let is_tls = behind("10.0.0.1", addresses, schemes).is_tls;
            assert_eq!(is_tls, *expected, "{} addresses, {shown:?}", addresses.len());
        }
    }

    #[test]
    fn a_direct_tls_connection_is_tls() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let is_tls = |address, proto: Option<&'static str>| {
            let hop = ClientAddress { address: ip(address), is_tls: true };
            let proto = proto.into_iter().map(str::as_bytes);
            proxies.client(hop, std::iter::empty(), proto).is_tls
        };
        assert!(is_tls("192.0.2.1", None) && is_tls("192.0.2.1", Some("http")));
        assert!(is_tls("10.0.0.1", None), "TLS that a proxy passes on unopened");
        assert!(!is_tls("10.0.0.1", Some("http")), "TLS of the proxy's own");
    }

    #[test]
    fn permits_of_an_address_are_limited_and_released() {
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

    #[test]
    fn a_new_limit_of_an_address_applies_at_once() {
        let quota = AddressQuota::new(1);
        let _first = quota.take(ip("1.2.3.4")).unwrap();
        assert!(quota.take(ip("1.2.3.4")).is_err());
        quota.set_max(2);
        let _second = quota.take(ip("1.2.3.4")).unwrap();
        assert!(quota.take(ip("1.2.3.4")).is_err());
        quota.set_max(0);
        assert!(quota.take(ip("1.2.3.4")).unwrap().is_none(), "no limit, no place");
    }
}
