//! Detects public addresses. Requests to other addresses could reach the operator's internal network.

use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IANA's registry of special-purpose IPv4 addresses, and addresses of cloud services.
const NOT_PUBLIC_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    // Shared address space of carriers (CGNAT). Alibaba's metadata service is in it.
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    // Azure's metadata service, which has a public address.
    v4(168, 63, 129, 16, 32),
    // Link-local, and with it the metadata services of most clouds.
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
];

/// The exceptions in `2000::/3`, the only block of public IPv6 addresses: Teredo and its
/// neighbours, documentation. Everything outside of the block is private, link-local, multicast or
/// unassigned.
const NOT_PUBLIC_V6: [Ipv6Net; 3] =
    [v6(0x2001, 0, 0, 23), v6(0x2001, 0xdb8, 0, 32), v6(0x3fff, 0, 0, 20)];
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 3);
/// Blocks that contain embedded IPv4 addresses.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 16);

/// Whether `address` is on the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => match embedded(address) {
            Some(address) => is_public(IpAddr::V4(address)),
            None => {
                PUBLIC_V6.contains(&address)
                    && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address))
            }
        },
    }
}

/// The IPv4 address that an IPv6 address contains.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, b, c, .., y, z] = address.segments();
    let joined = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    if let Some(mapped) = address.to_ipv4_mapped() {
        Some(mapped)
    } else if NAT64.contains(&address) {
        Some(joined(y, z))
    } else if SIX_TO_FOUR.contains(&address) {
        Some(joined(b, c))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_distinguished_from_public_ones() {
        for (text, public) in [
            ("1.1.1.1", true),
            ("93.184.215.14", true),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("100.63.255.255", true),
            ("100.64.0.1", false),
            ("100.100.100.200", false),
            ("100.128.0.0", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("168.63.129.16", false),
            ("168.63.129.17", true),
            ("169.254.169.254", false),
            ("172.15.255.255", true),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700:4700::1111", true),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:1.1.1.1", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::1.1.1.1", true),
            ("64:ff9b:1::1", false),
            ("2002:7f00:1::", false),
            ("2002:101:101::", true),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
        }
    }

    /// The first and the last address of each block are not public, and what is beside it is.
    #[test]
    fn each_block_has_exact_bounds() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("168.63.129.16", "168.63.129.16"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "255.255.255.255"),
        ] {
            let [first, last] =
                [first, last].map(|text| text.parse::<Ipv4Addr>().unwrap().to_bits());
            let [before, after] = [first.checked_sub(1), last.checked_add(1)];
            for (bits, public) in
                [(Some(first), false), (Some(last), false), (before, true), (after, true)]
            {
                let Some(address) = bits.map(Ipv4Addr::from_bits) else { continue };
                let [a, b, c, d] = address.octets().map(u16::from);
                let mapped = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a << 8 | b, c << 8 | d);
                let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
                let six_to_four = Ipv6Addr::new(0x2002, a << 8 | b, c << 8 | d, 0, 0, 0, 0, 9);
                assert_eq!(is_public(address.into()), public, "{address}");
                for address in [mapped, nat64, six_to_four] {
                    assert_eq!(is_public(address.into()), public, "{address}");
                }
            }
        }
        for (text, public) in [
            ("1fff:ffff::", false),
            ("2000::", true),
            ("2000:ffff::", true),
            ("2001::", false),
            ("2001:1ff:ffff::", false),
            ("2001:200::", true),
            ("2001:db7:ffff::", true),
            ("2001:db8::", false),
            ("2001:db8:ffff::", false),
            ("2001:db9::", true),
            ("2003::", true),
            ("3ffe:ffff::", true),
            ("3fff::", false),
            ("3fff:fff:ffff::", false),
            ("3fff:1000::", true),
            ("3fff:ffff::", true),
            ("4000::", false),
            ("64:ff9b::1:102:304", false),
            ("64:ff9c::102:304", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
        }
    }
}
