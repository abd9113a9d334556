//! `GET /apps/{id}/diagnostics`: this node, its limits and its cluster, and the request as it arrived,
//! for `campanile doctor`.

use super::{
    HttpContext,
    response::{HttpResponse, ok},
};
use crate::hub::Hub;
use hyper::{
    HeaderMap, Version,
    header::{HOST, HeaderName},
    http::request::Parts,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{Instant, SystemTime},
};

/// The last hop of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// Who has sent it: the client, or the last proxy.
    pub(super) peer: SocketAddr,
    /// Whether it was sent with TLS.
    pub(super) is_tls: bool,
}

/// The headers that proxies set about the client and its request.
const FORWARDED: [&str; 4] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];
/// Maximum length of a repeated header, in bytes.
const VALUE_MAX: usize = 200;

impl HttpContext {
    /// What this node knows of itself, and what it has received.
    pub(super) fn diagnostics(&self, hub: &Hub, parts: &Parts, hop: Hop) -> HttpResponse {
        let app = &hub.app().config;
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let uptime = Instant::now().saturating_duration_since(self.node.started_at());
        let body = json!({
            "node": self.node.name(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": uptime.as_secs(),
            "time": unix.as_secs(),
            "not_ready": self.node.not_ready_reasons(),
            "request": self.received(parts, hop),
            "limits": {
                "max_connections": self.node.max_connections(),
                "max_descriptors": rlimit::Resource::NOFILE.get_soft().ok(),
                "max_request_bytes": self.max_request_bytes,
                "max_event_bytes": app.max_event_bytes,
                "activity_timeout_s": self.activity_timeout_s,
            },
            "allowed_origins": app.allowed_origins,
            "cluster": self.cluster(),
        });
        ok(body.to_string())
    }

    /// The head of a request as it arrived, without its signature.
    fn received(&self, parts: &Parts, hop: Hop) -> Value {
        let client = self.peer(&parts.headers, hop.peer.ip(), hop.is_tls);
        let forwarded = FORWARDED.iter().filter_map(|name| {
            let values = values_of(&parts.headers, &HeaderName::from_static(name));
            (!values.is_empty()).then(|| ((*name).to_owned(), Value::from(values)))
        });
        json!({
            "peer": hop.peer.ip().to_canonical().to_string(),
            "is_tls": hop.is_tls,
            "client": client.address.to_string(),
            "client_is_tls": client.is_tls,
            "http": if parts.version == Version::HTTP_10 { "1.0" } else { "1.1" },
            "path": parts.uri.path(),
            "host": values_of(&parts.headers, &HOST).first(),
            "forwarded": forwarded.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// The cluster, if this node is one of several.
    fn cluster(&self) -> Option<Value> {
        let cluster = self.node.broker().cluster()?;
        let mut nodes = cluster.others;
        nodes.push(cluster.process);
        nodes.sort_unstable();
        Some(json!({
            "is_joined": self.node.broker().unavailable_reason().is_none(),
            "layout": cluster.layout,
            "prefix_hash": prefix_hash(&cluster.prefix),
            "nodes": nodes,
        }))
    }
}

/// The values of a header, each cut.
fn values_of(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let text = |value: &hyper::header::HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text[..text.floor_char_boundary(VALUE_MAX)].to_owned()
    };
    headers.get_all(name).iter().map(text).collect()
}

/// A short hash of `redis.prefix`, with which two nodes can be compared.
#[must_use]
pub fn prefix_hash(text: &str) -> String {
    Sha256::digest(text).iter().take(6).fold(String::new(), |mut hash, byte| {
        // A write to a String does not fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn values_of_headers_are_cut_between_characters() {
        let mut headers = HeaderMap::new();
        let long = "é".repeat(VALUE_MAX);
        headers.append(HOST, HeaderValue::from_static("a.test"));
        headers.append(HOST, HeaderValue::from_str(&long).unwrap());
        assert_eq!(values_of(&headers, &HOST), ["a.test".to_owned(), "é".repeat(VALUE_MAX / 2)]);
        assert!(values_of(&HeaderMap::new(), &HOST).is_empty());
    }

    #[test]
    fn a_hash_differs_with_its_text() {
        assert_eq!(prefix_hash("campanile").len(), 12);
        assert_ne!(prefix_hash("campanile"), prefix_hash("campanile2"));
    }
}
