//! The address that browsers connect to, and what the links have seen of it so far.

use super::{
    Checkup,
    finding::Finding,
    inputs::ServerAddress,
    probe::{AnsweredBy, Opening, Peer},
    report::Outcome,
    snippets::ProxyLines,
};
use hyper::HeaderMap;
use std::net::SocketAddr;

/// The public address of the server.
#[derive(Debug)]
pub(super) struct Public {
    pub(super) peer: Peer,
    /// Where the address is written, such as `.env:7 REVERB_HOST`.
    pub(super) from: String,
    /// The addresses of its host.
    pub(super) addresses: Vec<SocketAddr>,
    /// Those that accept connections. The peer is at the first.
    pub(super) accepting: Vec<SocketAddr>,
    /// The proxy at the address, as far as it is known.
    pub(super) front: AnsweredBy,
    /// The proxy by its process on this machine, or by how it answers what is no HTTP. `HAProxy` and Traefik
    /// name themselves in no answer that they pass on.
    pub(super) guessed: AnsweredBy,
    /// Whether a handshake was answered with 101.
    pub(super) is_answered: bool,
    /// What came of the first handshake, until the link that is about it takes it.
    pub(super) opening: Option<Opening>,
}

impl Public {
    /// The peer at an address.
    pub(super) fn new(peer: Peer, from: String) -> Self {
        let (addresses, accepting, opening) = (Vec::new(), Vec::new(), None);
        let front = AnsweredBy::Unknown;
        let guessed = AnsweredBy::Unknown;
        Self { peer, from, addresses, accepting, front, guessed, is_answered: false, opening }
    }

    /// A finding at one of several addresses.
    pub(super) fn at_address(&self, address: SocketAddr, mut finding: Finding) -> Finding {
        let (host, count) = (&self.peer.host, self.addresses.len());
        finding.seen =
            format!("At {address}, one of {count} addresses of {host}: {}", finding.seen);
        finding
    }

    /// Learns from the headers of an answer which proxy has passed it on or written it.
    pub(super) fn learn(&mut self, headers: &HeaderMap) {
        let front = AnsweredBy::front(headers);
        if self.front == AnsweredBy::Unknown {
            self.front = front;
        }
    }
}

impl Checkup<'_> {
    /// The public address, or why the links that are about it are skipped.
    pub(super) fn public_peer(&self) -> Result<Public, String> {
        let address = self.inputs.public_address().ok_or(NO_PUBLIC_ADDRESS)?;
        Ok(Public::new(self.peer_of(&address)?, address.from))
    }

    /// The peer at an address of the inputs.
    pub(super) fn peer_of(&self, address: &ServerAddress) -> Result<Peer, String> {
        let ServerAddress { is_tls, host, port, path, from } = address;
        Peer::new(*is_tls, host, *port, path, &self.inputs.trust())
            .map_err(|why| format!("{from}: {why}"))
    }

    /// The host and port of the server for the configuration of a proxy, if it is known.
    pub(super) fn upstream(&self) -> Option<String> {
        Some(self.inputs.direct_peer().ok()?.full_authority().to_owned())
    }

    /// Adds the lines for the proxy at the public address to a finding.
    pub(super) fn with_lines(
        &self,
        finding: Finding,
        lines: &ProxyLines,
        by: &AnsweredBy,
    ) -> Finding {
        let upstream = self.upstream();
        let front = self.public.as_ref().map(|public| &public.front);
        let of = |front: &AnsweredBy| lines.of(front, upstream.as_deref());
        let guessed = self.public.as_ref().map(|public| &public.guessed);
        match of(by).or_else(|| front.and_then(of)).or_else(|| guessed.and_then(of)) {
            Some(snippet) => finding.snippet(snippet.of, snippet.text),
            None => finding.advice("docs/proxies.md has the lines for each proxy."),
        }
    }

    /// The origin of the page: `--origin`, or that of `--url`, or that of `APP_URL`.
    pub(super) fn page_origin(&self) -> Option<(String, String)> {
        let args = self.inputs.args;
        if let Some(origin) = &args.origin {
            return Some((normal(origin), "--origin".to_owned()));
        }
        let of_url = |url: &str| {
            let (scheme, rest) = url.split_once("://")?;
            let authority = rest.split(['/', '?', '#']).next()?;
            let authority = authority.rsplit('@').next()?;
            Some(normal(&format!("{scheme}://{authority}"))).filter(|_| !authority.is_empty())
        };
        if let Some(url) = &args.url {
            return Some((of_url(&url.to_string())?, "--url".to_owned()));
        }
        let url = self.inputs.variable("APP_URL")?;
        Some((of_url(&url)?, format!("{} APP_URL", self.inputs.place("APP_URL"))))
    }

    /// Why a link that depends on one of these causes is skipped, if one was found.
    pub(super) fn blocked(&self, causes: &[&'static str]) -> Option<Outcome> {
        let found = causes.iter().find(|id| self.report.has(id))?;
        Some(Outcome::Skipped(format!("not tried, because of {found}")))
    }
}

/// An origin as browsers write it: without a slash, and without the port that the scheme has anyway.
fn normal(origin: &str) -> String {
    let origin = origin.trim_end_matches('/');
    let without = match origin.split_once("://") {
        Some(("https", rest)) => rest.strip_suffix(":443").map(|host| format!("https://{host}")),
        Some(("http", rest)) => rest.strip_suffix(":80").map(|host| format!("http://{host}")),
        Some(_) | None => None,
    };
    without.unwrap_or_else(|| origin.to_owned())
}

/// Why nothing about the public address is checked.
pub(super) const NO_PUBLIC_ADDRESS: &str =
    "the address that browsers connect to is not known: pass --ws, or set VITE_REVERB_HOST";

/// The causes without a connection at the public address.
pub(super) const NO_CONNECTION: &[&str] = &[
    "upgrade_headers_missing",
    "websocket_route_missing",
    "proxy_upstream_down",
    "proxy_port_differs",
    "double_tls",
    "handshake_redirected",
    "handshake_rejected",
    "proxy_not_trusted",
    "origin_rejected",
    "proxy_limits_rate",
    "development_app_public",
    "proxy_leads_elsewhere",
    "connection_closed",
    "unknown_key",
    "server_is_other",
];

/// The causes without an HTTP API at the address that the application publishes to.
pub(super) const NO_API: &[&str] = &[
    "proxy_upstream_down",
    "proxy_port_differs",
    "double_tls",
    "api_route_missing",
    "api_redirected",
    "publish_through_cdn",
    "api_unavailable",
    "request_changed",
    "signature_differs",
    "clock_differs",
    "proxy_limits_rate",
    "development_app_public",
    "host_unreachable",
    "host_of_container",
    "unknown_key",
    "proxy_leads_elsewhere",
];
