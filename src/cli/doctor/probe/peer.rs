//! What a probe connects to: a scheme, host and port, and the path before every route.

use crate::{
    cli::trust::Trust,
    http_client::{ByteStream, ConnectError, Connector, Origin},
};
use hyper::Uri;
use std::{fmt, io, net::SocketAddr, sync::Arc};
use tokio::{net::lookup_host, time};

/// A server or a proxy at an address.
#[derive(Clone)]
pub(in crate::cli::doctor) struct Peer {
    pub(in crate::cli::doctor) is_tls: bool,
    /// A name or an address, without brackets.
    pub(in crate::cli::doctor) host: String,
    pub(in crate::cli::doctor) port: u16,
    /// The path before every route, without a slash at its end.
    pub(in crate::cli::doctor) prefix: String,
    /// The address that is connected to; without one, each address of the host is tried.
    pinned: Option<SocketAddr>,
    origin: Arc<Origin>,
    connector: Arc<Connector>,
}

impl Peer {
    /// The peer of a URL with the scheme `http`, `https`, `ws` or `wss`.
    pub(in crate::cli::doctor) fn from_url(url: &str, trust: &Trust) -> Result<Self, String> {
        let http = match url.split_once("://") {
            Some(("ws", rest)) => format!("http://{rest}"),
            Some(("wss", rest)) => format!("https://{rest}"),
            Some(_) | None => url.to_owned(),
        };
        let rule =
            || format!("{url} is no address: http://, https://, ws:// or wss:// with a host");
        let uri: Uri = http.parse().map_err(|_| rule())?;
        let is_tls = Origin::from_uri(&uri).ok_or_else(rule)?.is_tls();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Self::new(is_tls, host, port, uri.path(), trust)
    }

    /// A peer with this host, without brackets, whose certificate is verified as `trust` says.
    pub(in crate::cli::doctor) fn new(
        is_tls: bool,
        host: &str,
        port: u16,
        prefix: &str,
        trust: &Trust,
    ) -> Result<Self, String> {
        let origin = Origin::new(is_tls, host, port)
            .ok_or_else(|| format!("{host} is neither a name nor an address"))?;
        let tls = is_tls.then(|| trust.client()).transpose()?;
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port,
            prefix: prefix.trim_end_matches('/').to_owned(),
            pinned: None,
            origin: Arc::new(origin),
            connector: Arc::new(Connector::new(tls, false)),
        })
    }

    /// The same peer at one of its addresses.
    pub(in crate::cli::doctor) fn at(&self, address: SocketAddr) -> Self {
        Self { pinned: Some(address), ..self.clone() }
    }

    /// Host and port, the port always.
    pub(in crate::cli::doctor) fn full_authority(&self) -> &str {
        self.origin.authority()
    }

    /// Host and port, as browsers write them: without the port that the scheme has anyway.
    pub(in crate::cli::doctor) fn authority(&self) -> String {
        let full = self.origin.authority();
        let default = if self.is_tls { ":443" } else { ":80" };
        full.strip_suffix(default).unwrap_or(full).to_owned()
    }

    /// Scheme, host and port, the port always.
    pub(in crate::cli::doctor) fn origin(&self) -> String {
        self.origin.to_string()
    }

    /// The URL of a path, for HTTP.
    pub(in crate::cli::doctor) fn http_url(&self, path: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}{path}", self.authority(), self.prefix)
    }

    /// The URL of a path, for clients.
    pub(in crate::cli::doctor) fn ws_url(&self, path: &str) -> String {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        format!("{scheme}://{}{}{path}", self.authority(), self.prefix)
    }

    /// The addresses of the host.
    pub(in crate::cli::doctor) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found = time::timeout(super::STEP_TIMEOUT, lookup_host((&*self.host, self.port)));
        let found: Vec<_> = found.await.map_err(|_| io::ErrorKind::TimedOut)??.collect();
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }

    /// Opens a connection, verified if it is TLS. The addresses of the host share a part of the time, so
    /// that one that does not answer leaves some for the others and for TLS.
    pub(in crate::cli::doctor) async fn connect(
        &self,
    ) -> Result<Box<dyn ByteStream>, ConnectError> {
        let limit = super::STEP_TIMEOUT / 2;
        let connecting = async {
            match self.pinned {
                Some(address) => self.connector.connect_to(&self.origin, &[address], limit).await,
                None => self.connector.connect_within(&self.origin, limit).await,
            }
        };
        let connected = time::timeout(super::STEP_TIMEOUT, connecting);
        connected.await.unwrap_or_else(|_| {
            Err(ConnectError::Connect(io::Error::from(io::ErrorKind::TimedOut)))
        })
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.http_url(""))
    }
}
