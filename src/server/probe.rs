//! Detects the server on a port: a serving Campanile, a draining one, or another program.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The server behind a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PortOwner {
    /// A Campanile that serves.
    Serving,
    /// A Campanile that drains.
    Draining,
    /// No server, or one that does not answer.
    None,
    /// Another program.
    Other,
}

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_RESPONSE_BYTES: u64 = 4_096;

/// Probes the server that listens on `address`, where the routes of a Campanile begin with `path`.
pub(super) async fn probe_port(address: SocketAddr, path: &str) -> PortOwner {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(reachable(address))).await {
        Ok(Ok(stream)) => probe_stream(stream, path).await,
        Ok(Err(_)) | Err(_) => PortOwner::None,
    }
}

/// Probes the server over an open connection.
pub(super) async fn probe_stream(mut stream: TcpStream, path: &str) -> PortOwner {
    let request =
        format!("GET {path}/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let request = async {
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response).await?;
        Ok::<_, io::Error>(response)
    };
    match timeout(RESPONSE_TIMEOUT, request).await {
        Ok(Ok(response)) => parse_response(&response),
        Ok(Err(_)) | Err(_) => PortOwner::None,
    }
}

/// An address at which a socket that listens on `address` is reachable from this machine.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Parses the response. A server with TLS answers plain HTTP as well: with the advice to use TLS, or
/// with the information that it drains.
fn parse_response(response: &[u8]) -> PortOwner {
    let response = String::from_utf8_lossy(response);
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_default();
    let is_ours = body.contains(r#""ready":"#) || body.contains("This port requires TLS");
    match (head.starts_with("HTTP/1.1 "), body.contains(r#""draining""#)) {
        (true, true) if is_ours => PortOwner::Draining,
        (true, false) if is_ours => PortOwner::Serving,
        _ if response.is_empty() => PortOwner::None,
        _ => PortOwner::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_distinguished() {
        let owner = |status: &str, body: &str| {
            parse_response(
                format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n{body}").as_bytes(),
            )
        };
        assert_eq!(owner("200 OK", r#"{"ready":true}"#), PortOwner::Serving);
        let draining = r#"{"ready":false,"reasons":["draining"]}"#;
        assert_eq!(owner("503 Service Unavailable", draining), PortOwner::Draining);
        let joining = r#"{"ready":false,"reasons":["not joined yet"]}"#;
        assert_eq!(owner("503 Service Unavailable", joining), PortOwner::Serving);
        let tls = r#"{"error":"This port requires TLS: use https://","code":400}"#;
        assert_eq!(owner("400 Bad Request", tls), PortOwner::Serving);
        assert_eq!(owner("200 OK", "It works!"), PortOwner::Other);
        assert_eq!(owner("503 Service Unavailable", r#"{"state":"draining"}"#), PortOwner::Other);
        assert_eq!(parse_response(b"SSH-2.0-OpenSSH\r\n"), PortOwner::Other);
        assert_eq!(parse_response(b""), PortOwner::None);
    }

    #[test]
    fn a_socket_for_all_addresses_is_reached_over_loopback() {
        for (listens, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
