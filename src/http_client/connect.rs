//! Opens connections: name resolution, address filter, TCP, TLS.

use super::address::is_public;
use hyper::{Uri, header::HeaderValue};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time,
};
use tokio_rustls::TlsConnector;

/// Timeout for connecting to each address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The scheme, host and port of a URL.
#[derive(Debug)]
pub struct Origin {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
    /// With `https`, the name that the certificate must have.
    tls_name: Option<ServerName<'static>>,
    /// Host and port as written in the URL.
    authority: String,
}

impl Origin {
    /// An origin with this host, without brackets. `None` if the host is empty or, for TLS, not
    /// a valid server name.
    #[must_use]
    pub fn new(is_tls: bool, host: &str, port: u16) -> Option<Self> {
        if host.is_empty() {
            return None;
        }
        let tls_name =
            if is_tls { Some(ServerName::try_from(host).ok()?.to_owned()) } else { None };
        let brackets = if host.contains(':') { ["[", "]"] } else { ["", ""] };
        let authority = format!("{}{host}{}:{port}", brackets[0], brackets[1]);
        HeaderValue::from_str(&authority).ok()?;
        Some(Self { host: host.to_owned(), port, tls_name, authority })
    }

    /// The origin of a URL, if its scheme is `http` or `https`, its host is a name or an address, and
    /// its port is one.
    #[must_use]
    pub fn from_uri(url: &Uri) -> Option<Self> {
        let (is_tls, default_port) = match url.scheme_str()? {
            "http" => (false, 80),
            "https" => (true, 443),
            _other => return None,
        };
        // Without a user name and password.
        let authority = url.authority()?.as_str().rsplit('@').next()?;
        // `Uri::port` is `None` for an invalid port as well.
        let port = match authority.strip_prefix(url.host()?)? {
            "" => default_port,
            rest => rest.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
        };
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
        Some(Self { authority: authority.to_owned(), ..Self::new(is_tls, host, port)? })
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls_name.is_some()
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The value of the header `Host`.
    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.authority).expect("an authority is a valid header")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// Opens connections to origins.
#[derive(Clone)]
pub struct Connector {
    tls: Option<TlsConnector>,
    deny_private: bool,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("deny_private", &self.deny_private)
            .finish_non_exhaustive()
    }
}

/// The bytes of a connection, with or without TLS.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The reason why no connection was established.
#[derive(Debug)]
pub enum ConnectError {
    /// The name was not resolved.
    Resolve(io::Error),
    /// The connector denies private addresses, and the host has no other.
    Private(IpAddr),
    /// No address accepted a connection. The error is that of the last one.
    Connect(io::Error),
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls(io::Error),
}

impl Connector {
    /// A connector that connects to private addresses only if `deny_private` is false. Without
    /// `tls`, connections to origins with `https` fail.
    #[must_use]
    pub fn new(tls: Option<ClientConfig>, deny_private: bool) -> Self {
        let tls = tls.map(|mut config| {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsConnector::from(Arc::new(config))
        });
        Self { tls, deny_private }
    }

    /// Opens a connection to the first address of `origin` that accepts one.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if there is none, or the TLS handshake fails.
    pub async fn connect(&self, origin: &Origin) -> Result<Box<dyn ByteStream>, ConnectError> {
        self.connect_within(origin, Duration::MAX).await
    }

    /// As [`connect`](Self::connect), with a deadline for the TCP connections that all addresses share:
    /// each gets its part of the time that is left.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if there is none, or the TLS handshake fails.
    pub async fn connect_within(
        &self,
        origin: &Origin,
        limit: Duration,
    ) -> Result<Box<dyn ByteStream>, ConnectError> {
        let found = lookup_host((origin.host.as_str(), origin.port)).await;
        let addresses = self.allowed(found.map_err(ConnectError::Resolve)?)?;
        self.connect_to(origin, &addresses, limit).await
    }

    /// As [`connect_within`](Self::connect_within), at these addresses of `origin`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if none accepts a connection, or the TLS handshake fails.
    pub async fn connect_to(
        &self,
        origin: &Origin,
        addresses: &[SocketAddr],
        limit: Duration,
    ) -> Result<Box<dyn ByteStream>, ConnectError> {
        let stream = connect(addresses, limit).await.map_err(ConnectError::Connect)?;
        match (&self.tls, &origin.tls_name) {
            (Some(tls), Some(name)) => {
                let stream = tls.connect(name.clone(), stream).await.map_err(ConnectError::Tls)?;
                Ok(Box::new(stream))
            }
            (None, Some(_)) => Err(ConnectError::Tls(io::ErrorKind::Unsupported.into())),
            (_, None) => Ok(Box::new(stream)),
        }
    }

    /// The addresses that may be connected to. They are used directly, so that the name is not
    /// resolved again. A literal address is filtered as well.
    fn allowed(
        &self,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        let (allowed, private): (Vec<_>, Vec<_>) =
            addresses.partition(|address| !self.deny_private || is_public(address.ip()));
        match (allowed.first(), private.first()) {
            (None, Some(private)) => Err(ConnectError::Private(private.ip())),
            (Some(_) | None, _) => Ok(allowed),
        }
    }
}

async fn connect(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let start = time::Instant::now();
    let mut remaining = (1..=u32::try_from(addresses.len()).unwrap_or(u32::MAX)).rev();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let share = limit.saturating_sub(start.elapsed()) / remaining.next().unwrap_or(1);
        match time::timeout(share.min(CONNECT_TIMEOUT), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_elapsed) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

impl ConnectError {
    /// The error of the system.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Resolve(error) | Self::Connect(error) | Self::Tls(error) => error,
            private @ Self::Private(_) => io::Error::new(io::ErrorKind::PermissionDenied, private),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => write!(f, "cannot resolve the host: {error}"),
            Self::Private(address) => {
                write!(
                    f,
                    "{address} is not on the public internet, and webhooks.deny_private is set"
                )
            }
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Tls(error) => write!(f, "TLS handshake failed: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<Origin> {
        Origin::from_uri(&url.parse().unwrap())
    }

    #[test]
    fn a_url_is_parsed_into_its_origin() {
        for (url, host, port, is_tls, authority) in [
            ("http://a.test", "a.test", 80, false, "a.test"),
            ("https://a.test/hooks?t=1", "a.test", 443, true, "a.test"),
            ("HTTP://[::1]:3000/x", "::1", 3_000, false, "[::1]:3000"),
            ("HTTPS://A.test/", "A.test", 443, true, "A.test"),
            ("https://10.0.0.1:8443", "10.0.0.1", 8_443, true, "10.0.0.1:8443"),
            ("http://user:hunter2@a.test:8080/x", "a.test", 8_080, false, "a.test:8080"),
        ] {
            let origin = origin(url).unwrap();
            assert_eq!(
                (origin.host.as_str(), origin.port, origin.tls_name.is_some()),
                (host, port, is_tls)
            );
            assert_eq!(origin.authority(), authority);
            let scheme = if is_tls { "https" } else { "http" };
            assert_eq!(origin.to_string(), format!("{scheme}://{authority}"));
            assert_eq!(origin.header(), authority);
        }
        for url in [
            "https://-",
            "ftp://a.test",
            "/path",
            "a.test:80",
            "http://a.test:",
            "http://a.test:0",
            "http://a.test:99999",
            "http://:80",
        ] {
            assert!(origin(url).is_none(), "{url}");
        }
    }

    #[test]
    fn an_origin_is_made_of_a_host_and_a_port() {
        for (host, expected) in [
            ("127.0.0.1", Some("https://127.0.0.1:6001")),
            ("::1", Some("https://[::1]:6001")),
            ("a.test", Some("https://a.test:6001")),
            ("a\nb", None),
            ("", None),
        ] {
            let origin = Origin::new(true, host, 6_001).map(|origin| origin.to_string());
            assert_eq!(origin.as_deref(), expected);
        }
        for host in ["a\nb", ""] {
            assert!(Origin::new(false, host, 80).is_none());
        }
    }

    #[tokio::test]
    async fn a_private_address_is_denied_however_it_is_written() {
        let connector = Connector::new(None, true);
        for host in
            ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::ffff:10.0.0.1]"]
        {
            let origin = origin(&format!("http://{host}:9")).unwrap();
            let denied = connector.connect(&origin).await.err();
            assert!(matches!(denied, Some(ConnectError::Private(_))), "{host}: {denied:?}");
        }
    }

    #[test]
    fn only_public_addresses_are_connected_to() {
        let connector = Connector::new(None, true);
        let addresses = ["10.0.0.1:80", "1.1.1.1:80"].map(|text| text.parse().unwrap());
        assert_eq!(connector.allowed(addresses.into_iter()).unwrap(), addresses[1..]);
        let denied = connector.allowed(addresses[..1].iter().copied()).unwrap_err();
        assert!(matches!(denied, ConnectError::Private(address) if address == addresses[0].ip()));
        let open = Connector::new(None, false);
        assert_eq!(open.allowed(addresses.into_iter()).unwrap(), addresses);
        // A name without addresses is not private.
        assert_eq!(connector.allowed(std::iter::empty()).unwrap(), []);
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_used() {
        let [gone, first, second] =
            [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [&gone, &first, &second].map(|listener| listener.local_addr().unwrap());
        drop(gone);
        let stream = connect(&addresses, Duration::MAX).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        assert!(stream.nodelay().unwrap());
        let rejected = connect(&addresses[..1], Duration::MAX).await.unwrap_err();
        assert_eq!(rejected.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[], Duration::MAX).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// A listener that does not answer: the system drops requests for a connection while its queue is full.
    async fn silent() -> (tokio::net::TcpListener, Vec<TcpStream>) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) =
            time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            queued.push(stream.unwrap());
            assert!(queued.len() < 100, "the queue is never full");
        }
        (listener, queued)
    }

    #[tokio::test]
    async fn addresses_that_do_not_answer_leave_time_for_the_others() {
        let (silent, _queued) = silent().await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (silent, good) = (silent.local_addr().unwrap(), listener.local_addr().unwrap());
        time::pause();
        let start = time::Instant::now();
        let stream = connect(&[silent, silent, good], Duration::from_millis(2_400)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let allowed = Duration::from_millis(1_600)..Duration::from_millis(1_650);
        assert!(allowed.contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_times_out_after_three_seconds() {
        let (listener, _queued) = silent().await;
        let address = listener.local_addr().unwrap();
        time::pause();
        let start = time::Instant::now();
        let error = connect(&[address], Duration::MAX).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let allowed = Duration::from_secs(3)..Duration::from_millis(3_050);
        assert!(allowed.contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn https_needs_root_certificates() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = origin(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
        let error = Connector::new(None, false).connect(&origin).await.err().unwrap();
        assert!(matches!(error, ConnectError::Tls(_)), "{error}");
    }
}
