//! Byte streams to Redis servers: TCP, TLS and Unix sockets.

use crate::{config::RedisConfig, tls};
use futures_util::future::select_ok;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Timeout of one round trip: five times the supported maximum of 400 ms, since a lost first packet
/// of a TCP connection is sent again after a second.
pub(super) const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of a name resolution, for any number of servers.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of a TLS handshake: two round trips in TLS 1.2, and slow signatures.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle time after which TCP keepalive starts. Without traffic in a partition, nothing else detects
/// a lost connection.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
/// Interval of TCP keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// The address of a server.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum ServerAddress {
    /// A name or an IP address without brackets, and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

/// A byte stream to a server.
pub(in crate::broker::redis) trait RedisStream:
    AsyncRead + AsyncWrite + Send + Unpin
{
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> RedisStream for T {}

/// Opens streams.
#[derive(Clone)]
pub(super) enum RedisDialer {
    /// To servers on the network, with TLS if that is configured.
    Network { tls: Option<TlsConnector> },
    /// In-memory streams of a test.
    #[cfg(test)]
    Test(Dial),
}

/// Opens a stream to a host and a port.
#[cfg(test)]
pub(in crate::broker::redis) type Dial = Arc<
    dyn Fn(
            String,
            u16,
        ) -> futures_util::future::BoxFuture<'static, io::Result<Box<dyn RedisStream>>>
        + Send
        + Sync,
>;

impl RedisDialer {
    /// # Errors
    ///
    /// The file with the certificates is invalid, or the system has no root certificates.
    pub(super) fn new(config: &RedisConfig, is_tls: bool) -> io::Result<Self> {
        if !is_tls {
            return Ok(Self::Network { tls: None });
        }
        let roots = if config.ca.is_empty() {
            tls::system_roots().map_err(|error| {
                io::Error::other(format!(
                    "the system has no certificate authorities for the TLS of redis.url: \
                     name a file in redis.ca ({error})"
                ))
            })?
        } else {
            tls::file_roots(&config.ca).map_err(io::Error::other)?
        };
        Ok(Self::Network { tls: Some(TlsConnector::from(Arc::new(tls::client_config(roots)))) })
    }

    /// Opens a stream to the server.
    pub(super) async fn dial(&self, address: &ServerAddress) -> io::Result<Box<dyn RedisStream>> {
        let tls = match self {
            Self::Network { tls } => tls,
            #[cfg(test)]
            Self::Test(dial) => {
                let ServerAddress::Tcp(host, port) = address else { panic!("tests have no paths") };
                return with_io_timeout(
                    ROUND_TRIP_TIMEOUT,
                    "connecting",
                    dial(host.clone(), *port),
                )
                .await;
            }
        };
        let (host, port) = match address {
            ServerAddress::Tcp(host, port) => (host, *port),
            ServerAddress::Unix(path) => {
                let stream =
                    with_io_timeout(ROUND_TRIP_TIMEOUT, "connecting", UnixStream::connect(path))
                        .await?;
                return Ok(Box::new(stream));
            }
        };
        let resolved: Vec<SocketAddr> = with_io_timeout(
            RESOLVE_TIMEOUT,
            "resolving the name",
            lookup_host((host.as_str(), port)),
        )
        .await?
        .collect();
        if resolved.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let attempts = resolved.into_iter().map(|address| Box::pin(TcpStream::connect(address)));
        let connecting = async { Ok(select_ok(attempts).await?.0) };
        let stream = with_io_timeout(ROUND_TRIP_TIMEOUT, "connecting", connecting).await?;
        stream.set_nodelay(true)?;
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let Some(tls) = tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let stream =
            with_io_timeout(HANDSHAKE_TIMEOUT, "the TLS handshake", tls.connect(name, stream))
                .await?;
        Ok(Box::new(stream))
    }
}

/// Waits for a future with a timeout.
pub(super) async fn with_io_timeout<T>(
    limit: Duration,
    what: &str,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, future).await.unwrap_or_else(|_elapsed| Err(timed_out(what, limit)))
}

/// The error of a timeout.
pub(super) fn timed_out(what: &str, limit: Duration) -> io::Error {
    let text = format!("{what} took longer than {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl fmt::Debug for RedisDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network { tls: Some(_) } => "Network with TLS",
            Self::Network { tls: None } => "Network",
            #[cfg(test)]
            Self::Test(_) => "Test",
        })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
