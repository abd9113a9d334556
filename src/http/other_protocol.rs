//! Detects other protocols than HTTP/1.1 on the port by their first bytes, so that the response
//! and the log name the mistake.

use crate::throttle::LogThrottle;
use std::time::{Duration, Instant};

/// Another protocol than HTTP/1.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum OtherProtocol {
    /// TLS, on a port without TLS.
    Tls,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// The PROXY protocol, with which load balancers pass on the client's address.
    ProxyProtocol,
}

/// The first byte of a TLS handshake record (RFC 8446, 5.1).
pub(super) const TLS_HANDSHAKE_RECORD: u8 = 22;
/// Version 2 of the PROXY protocol begins with these bytes, after line ends that are skipped.
const PROXY_V2: &[u8] = b"\0\r\nQUIT\n";
/// An HTTP/2 connection that is closed at once (RFC 9113, 6.5, 6.8 and 7): empty SETTINGS, and
/// GOAWAY with the code `HTTP_1_1_REQUIRED` and a text.
const GO_AWAY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x31\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0dOnly HTTP/1.1 and WebSocket are supported";

impl OtherProtocol {
    /// All protocols, in the order of the variants.
    const ALL: [Self; 3] = [Self::Tls, Self::Http2, Self::ProxyProtocol];

    /// Detects the protocol of a connection that begins with `first`, unless it is HTTP/1.1.
    /// `is_tls` says whether the connection is decrypted TLS.
    pub(super) fn detect(first: &[u8], is_tls: bool) -> Option<Self> {
        match first {
            [TLS_HANDSHAKE_RECORD, ..] if !is_tls => Some(Self::Tls),
            _ if first.starts_with(b"PRI * HTTP/2") => Some(Self::Http2),
            _ if first.starts_with(b"PROXY ") || first.starts_with(PROXY_V2) => {
                Some(Self::ProxyProtocol)
            }
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2",
            Self::ProxyProtocol => "PROXY protocol",
        }
    }

    /// The message: what was expected, and how to correct it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Tls => {
                "This port expects plain HTTP, but received TLS: use http:// and ws://, or set \
                 server.tls.cert and server.tls.key"
            }
            Self::Http2 => "This port expects HTTP/1.1, but received HTTP/2: use HTTP/1.1",
            Self::ProxyProtocol => {
                "This port expects HTTP/1.1, but received the PROXY protocol: disable it in the \
                 proxy, and let the proxy set X-Forwarded-For"
            }
        }
    }

    /// The response in the other protocol, if it is not an HTTP/1.1 response.
    pub(super) fn protocol_response(self) -> Option<&'static [u8]> {
        (self == Self::Http2).then_some(GO_AWAY)
    }
}

/// Limits the log lines about other protocols separately for each protocol, so that one does not
/// suppress another. Clients decide how many connections there are.
#[derive(Debug)]
pub(super) struct ProtocolLog([LogThrottle; OtherProtocol::ALL.len()]);

impl Default for ProtocolLog {
    fn default() -> Self {
        Self(std::array::from_fn(|_| LogThrottle::with_interval(Self::INTERVAL)))
    }
}

impl ProtocolLog {
    const INTERVAL: Duration = Duration::from_secs(10);

    /// Counts a connection. Returns the number since the previous line about its protocol if a line
    /// is due.
    pub(super) fn count(&self, other: OtherProtocol, now: Instant) -> Option<u64> {
        self.0[other as usize].record(1, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_detected_by_their_first_bytes() {
        for (first, expected) in [
            (&b"\x16\x03\x01\x02\0"[..], Some(OtherProtocol::Tls)),
            (b"\x16", Some(OtherProtocol::Tls)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(OtherProtocol::Http2)),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Some(OtherProtocol::ProxyProtocol)),
            (b"\0\r\nQUIT\n\x21\x11", Some(OtherProtocol::ProxyProtocol)),
            (b"GET / HTTP/1.1\r\n", None),
            (b"PRI * HTTP/1.1\r\n", None),
            (b"PROXYING / HTTP/1.1\r\n", None),
            (b"", None),
        ] {
            assert_eq!(OtherProtocol::detect(first, false), expected, "{first:?}");
        }
        assert_eq!(
            OtherProtocol::detect(b"\x16\x03", true),
            None,
            "TLS within TLS is not reported"
        );
    }

    #[test]
    fn each_protocol_has_its_name_advice_and_answer() {
        for (other, name, advice, has_answer) in [
            (OtherProtocol::Tls, "TLS", "use http:// and ws://", false),
            (OtherProtocol::Http2, "HTTP/2", "use HTTP/1.1", true),
            (OtherProtocol::ProxyProtocol, "PROXY protocol", "X-Forwarded-For", false),
        ] {
            assert_eq!(other.name(), name);
            assert!(other.advice().contains(advice), "{}", other.advice());
            assert_eq!(other.protocol_response(), has_answer.then_some(GO_AWAY));
        }
    }

    #[test]
    fn the_end_of_an_http_2_connection_declares_its_length() {
        let (settings, go_away) = GO_AWAY.split_at(9);
        assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(usize::from(go_away[2]), go_away.len() - 9);
    }

    #[test]
    fn log_lines_are_limited_and_count_the_omitted_ones() {
        let (protocol_log, start) = (ProtocolLog::default(), Instant::now());
        let count = |other, after| protocol_log.count(other, start + after);
        let (tls, http_2) = (OtherProtocol::Tls, OtherProtocol::Http2);
        assert_eq!(count(tls, Duration::ZERO), Some(1));
        assert_eq!(count(tls, Duration::ZERO), None);
        assert_eq!(count(http_2, Duration::ZERO), Some(1), "one for each protocol");
        assert_eq!(count(tls, ProtocolLog::INTERVAL / 2), None);
        assert_eq!(count(tls, ProtocolLog::INTERVAL), Some(3));
        assert_eq!(count(http_2, ProtocolLog::INTERVAL), Some(1));
    }
}
