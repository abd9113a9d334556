//! Parses hosts and ports in `Host` and `Origin` headers.

use std::net::{IpAddr, Ipv6Addr};

/// The host of an authority such as `example.com:8080`: a name or an IP address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host<'a> {
    /// A name as written.
    Name(&'a str),
    /// An IP address; IPv6 is written in brackets.
    Address(IpAddr),
}

impl<'a> Host<'a> {
    /// Parses a host with or without a port. Source: RFC 9110, 7.2; RFC 3986, 3.2. Names may have
    /// an underscore, as those of containers do, but no comma, which indicates two merged hosts.
    #[must_use]
    pub fn parse(authority: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(authority).ok()?;
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (Self::Address(address.to_canonical()), port)
        } else {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let name = Some(name).filter(|name| is_name(name))?;
            (name.parse().map_or(Self::Name(name), Self::Address), port)
        };
        let digits = if port.is_empty() { port } else { port.strip_prefix(':')? };
        let is_port = digits.is_empty()
            || digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok();
        is_port.then_some(host)
    }

    /// Parses the host of a page's origin, `scheme://host:port`. The origin `null` has none.
    #[must_use]
    pub fn from_origin(origin: &'a [u8]) -> Option<Self> {
        let at = origin.windows(3).position(|window| window == b"://")?;
        Self::parse(&origin[at + 3..])
    }

    /// Whether the host is loopback: a loopback address, or a name that cannot refer to another
    /// machine: `localhost`, or a subdomain of `localhost` or `test` (RFC 6761).
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                let is_below = |domain| {
                    let labels = name.strip_suffix(domain);
                    labels.is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
                };
                name == "localhost" || is_below(".localhost") || is_below(".test")
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&byte);
    !name.is_empty() && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for valid in [
            "example.com",
            "example.com:8080",
            "EXAMPLE.com.",
            "my_service:6001",
            "a",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:443",
            "localhost:",
            "xn--bcher-kva.example",
        ] {
            assert!(Host::parse(valid.as_bytes()).is_some(), "{valid}");
        }
        for invalid in [
            &b""[..],
            b":80",
            b"a b",
            b"a\tb",
            b"user@example.com",
            b"user:password@example.com",
            b"example.com/",
            b"example.com/path",
            b"example.com?x",
            b"example.com#x",
            b"http://example.com",
            b"a.test,b.test",
            b"a.test, b.test",
            b"example.com:http",
            b"example.com:80:80",
            b"example.com:70000",
            b"example.com:+80",
            b"example.com:80 ",
            b"::1",
            b"[::1",
            b"[::1]80",
            b"[zz]",
            b"[127.0.0.1]",
            b"[::1%25lo]",
            b"b\xc3\xbccher.example",
            b"\xff",
            b"a\"b",
            b"a\\b",
            b"<a>",
        ] {
            assert_eq!(Host::parse(invalid), None, "{}", String::from_utf8_lossy(invalid));
        }
    }

    #[test]
    fn loopback_is_detected_by_address_and_by_name() {
        for loopback in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "a.localhost",
            "a.b.localhost:80",
            "shop.test",
            "a.b.TEST.:443",
            "127.0.0.1",
            "127.255.0.9:6001",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(Host::parse(loopback.as_bytes()).unwrap().is_loopback(), "{loopback}");
        }
        for other in [
            "example.com",
            "localhost.example.com",
            "evillocalhost",
            "test",
            "eviltest",
            "a.test.example",
            ".localhost",
            ".test",
            "a..test",
            "localhost..",
            "127.0.0.1.example",
            "127.1",
            "0.0.0.0",
            "10.0.0.1",
            "192.168.0.1:8080",
            "[::]",
            "[::2]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
            "localhost%00",
        ] {
            assert!(!Host::parse(other.as_bytes()).unwrap().is_loopback(), "{other}");
        }
    }

    #[test]
    fn the_host_of_an_origin_follows_its_scheme() {
        let is_loopback = |origin: &str| {
            Host::from_origin(origin.as_bytes()).is_some_and(|host| host.is_loopback())
        };
        for origin in [
            "http://localhost",
            "http://localhost:5173",
            "https://shop.test",
            "HTTPS://Shop.Test",
            "http://[::1]:8080",
            "http://127.0.0.1:3000",
            "capacitor://localhost",
        ] {
            assert!(is_loopback(origin), "{origin}");
        }
        for origin in [
            "",
            "null",
            "localhost",
            "http://",
            "http://evil.example",
            "http://localhost@evil.example",
            "http://evil.example#localhost",
            "http://evil.example/.localhost",
            "http://localhost http://evil.example",
            "http://localhost, http://evil.example",
            "http://localhost://",
            "file://",
        ] {
            assert!(!is_loopback(origin), "{origin}");
        }
    }
}
