//! Connects to endpoints: name resolution, address filter, TLS.

use super::address::is_public;
use crate::config::Secret;
use hyper::Uri;
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
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

/// Timeout for one of several addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The parts of an endpoint's URL that a connection needs.
#[derive(Debug)]
pub(super) struct Target {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
    /// With `https`, the name that the certificate must have.
    tls_name: Option<ServerName<'static>>,
    /// Host and port as written in the URL.
    pub(super) authority: String,
    /// Path and query, which may contain a token.
    pub(super) path: Secret,
}

/// The error of an unusable webhook.
#[derive(Debug)]
pub enum WebhookError {
    /// The URL has no usable host. The configuration has checked that it has one.
    Host {
        /// The id of the app that has the webhook.
        app_id: String,
        /// The configured or derived name of the webhook.
        webhook: String,
    },
    /// A webhook has `https`, and the system has no root certificates.
    NoRoots(String),
}

impl Target {
    /// Parses a URL that the configuration has accepted.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_https = url.scheme_str() == Some("https");
        let tls_name = if is_https { Some(ServerName::try_from(host.clone()).ok()?) } else { None };
        Some(Self {
            port: url.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            tls_name,
            authority: url.authority()?.to_string(),
            path: Secret::new(url.path_and_query().map_or("/", |path| path.as_str())),
            host,
        })
    }
}

/// Opens connections to endpoints.
#[derive(Clone)]
pub(super) struct Dialer {
    tls: Option<TlsConnector>,
    deny_private: bool,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("deny_private", &self.deny_private).finish_non_exhaustive()
    }
}

/// A connection, with or without TLS.
pub(super) trait EndpointStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> EndpointStream for T {}

/// The reason why no connection was established.
#[derive(Debug)]
pub(super) enum DialError {
    Resolve(io::Error),
    Private(IpAddr),
    Connect(io::Error),
    Tls(io::Error),
}

impl Dialer {
    /// A dialer, with TLS by the system's roots if `with_tls`.
    pub(super) fn new(with_tls: bool, deny_private: bool) -> Result<Self, WebhookError> {
        let tls = if with_tls { Some(tls()?) } else { None };
        Ok(Self { tls, deny_private })
    }

    /// Opens a connection to `target`: to the first of its addresses that answers.
    pub(super) async fn dial(&self, target: &Target) -> Result<Box<dyn EndpointStream>, DialError> {
        let found = lookup_host((target.host.as_str(), target.port)).await;
        let addresses = self.allowed(found.map_err(DialError::Resolve)?)?;
        let stream = connect(&addresses).await.map_err(DialError::Connect)?;
        match (&self.tls, &target.tls_name) {
            (Some(tls), Some(name)) => {
                let stream = tls.connect(name.clone(), stream).await.map_err(DialError::Tls)?;
                Ok(Box::new(stream))
            }
            (None, Some(_)) => Err(DialError::Tls(io::ErrorKind::Unsupported.into())),
            (_, None) => Ok(Box::new(stream)),
        }
    }

    /// The addresses that may be dialled. They are dialled directly, so that the name is not
    /// resolved again.
    fn allowed(
        &self,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let (allowed, private): (Vec<_>, Vec<_>) =
            addresses.partition(|address| !self.deny_private || is_public(address.ip()));
        match (allowed.first(), private.first()) {
            (None, Some(private)) => Err(DialError::Private(private.ip())),
            (Some(_) | None, _) => Ok(allowed),
        }
    }
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
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

fn tls() -> Result<TlsConnector, WebhookError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(WebhookError::NoRoots(errors.join(", ")));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error: rustls::Error| WebhookError::NoRoots(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl fmt::Display for WebhookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { app_id, webhook } => {
                write!(f, "webhook {webhook} of the app {app_id:?} has a URL whose host is no name")
            }
            Self::NoRoots(why) => write!(
                f,
                "webhooks with https need the system's certificate authorities, and there are none: \
                 install ca-certificates, or name a file in SSL_CERT_FILE ({why})"
            ),
        }
    }
}

impl std::error::Error for WebhookError {}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => write!(f, "the host is not found: {error}"),
            Self::Private(address) => {
                write!(
                    f,
                    "{address} is not on the public internet, and webhooks.deny_private is set"
                )
            }
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Tls(error) => write!(f, "cannot agree on TLS: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_parsed_into_its_target() {
        for (url, host, port, is_https, authority, path) in [
            ("http://a.test", "a.test", 80, false, "a.test", "/"),
            ("https://a.test/hooks?t=1", "a.test", 443, true, "a.test", "/hooks?t=1"),
            ("HTTP://[::1]:3000/x", "::1", 3_000, false, "[::1]:3000", "/x"),
            ("HTTPS://A.test/", "A.test", 443, true, "A.test", "/"),
            ("https://10.0.0.1:8443", "10.0.0.1", 8_443, true, "10.0.0.1:8443", "/"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.host.as_str(), target.port, target.tls_name.is_some()),
                (host, port, is_https)
            );
            assert_eq!((target.authority.as_str(), target.path.expose()), (authority, path));
        }
        assert!(Target::parse("https://-").is_none());
    }

    #[tokio::test]
    async fn a_private_address_is_denied_however_it_is_written() {
        let dialer = Dialer::new(false, true).unwrap();
        for host in
            ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::ffff:10.0.0.1]"]
        {
            let target = Target::parse(&format!("http://{host}:9")).unwrap();
            let denied = dialer.dial(&target).await.err();
            assert!(matches!(denied, Some(DialError::Private(_))), "{host}: {denied:?}");
        }
    }

    #[test]
    fn only_public_addresses_are_dialled() {
        let dialer = Dialer { tls: None, deny_private: true };
        let addresses = ["10.0.0.1:80", "1.1.1.1:80"].map(|text| text.parse().unwrap());
        assert_eq!(dialer.allowed(addresses.into_iter()).unwrap(), addresses[1..]);
        let denied = dialer.allowed(addresses[..1].iter().copied()).unwrap_err();
        assert!(matches!(denied, DialError::Private(address) if address == addresses[0].ip()));
        let open = Dialer { tls: None, deny_private: false };
        assert_eq!(open.allowed(addresses.into_iter()).unwrap(), addresses);
        // A name without addresses is not private.
        assert_eq!(dialer.allowed(std::iter::empty()).unwrap(), []);
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_used() {
        let [gone, first, second] =
            [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [&gone, &first, &second].map(|listener| listener.local_addr().unwrap());
        drop(gone);
        let stream = connect(&addresses).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        assert!(stream.nodelay().unwrap());
        let refused = connect(&addresses[..1]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// The system drops requests for a connection while the queue of a listener is full.
    #[tokio::test]
    async fn an_address_that_does_not_answer_times_out_after_three_seconds() {
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
        time::pause();
        let start = time::Instant::now();
        let error = connect(&[address]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let allowed = Duration::from_secs(3)..Duration::from_millis(3_050);
        assert!(allowed.contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn https_needs_root_certificates() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
        let error = Dialer::new(false, false).unwrap().dial(&target).await.err().unwrap();
        assert!(matches!(error, DialError::Tls(_)), "{error}");
    }
}
