//! The handshake that makes a WebSocket of a request (RFC 6455, 4.2).

use super::{
    Http,
    reply::{ApiError, Reply},
};
use crate::{
    node::ConnectRequest,
    protocol::{CloseCode, Version},
    shard::Admission,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        CONNECTION, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
    http::request::Parts,
};
use std::{borrow::Cow, net::IpAddr, time::Instant};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// A handshake that succeeded: what the shard is to know of the client.
pub(super) type Granted = Result<Box<Admission>, CloseCode>;

const SUB_PROTOCOL: &str = "pusher-channels-protocol-";

impl Http {
    /// Answers a request to connect. Whoever may not stay is let in all the same, to be told why
    /// in words that its library understands.
    pub(super) fn upgrade(
        &self,
        parts: &Parts,
        key: &str,
        tcp_peer: IpAddr,
    ) -> Result<(Reply, Granted), ApiError> {
        let accept = accept_key(&parts.headers)?;
        let query = parts.uri.query().unwrap_or_default();
        let protocol: Option<Cow<'_, str>> = form_urlencoded::parse(query.as_bytes())
            .find_map(|(name, value)| (name == "protocol").then_some(value));
        let header = |name: &HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok());
        let named = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let peer =
            self.proxies.client(tcp_peer, named("x-forwarded-for"), named("x-forwarded-proto"));
        let request =
            ConnectRequest { key, protocol: protocol.as_deref(), origin: header(&ORIGIN), peer };
        let granted = self.node.admit(request, Instant::now()).map(Box::new);
        Ok((switching(accept, sub_protocol(&parts.headers)), granted))
    }
}

/// Checks the request's headers, and derives the answer to its key.
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let has = |name: HeaderName, token: &str| {
        let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        lists.flat_map(|list| list.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
    };
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err(upgrade_required(
            "This is a WebSocket endpoint, and the request asks for no upgrade: if it came \
             through a proxy, have that pass the Upgrade and Connection headers on (HTTP/1.1)",
        ));
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        return Err(upgrade_required("Sec-WebSocket-Version must be 13")
            .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    // Sixteen bytes in base64.
    let key = key.filter(|key| key.len() == 24).ok_or_else(|| {
        ApiError::bad_request("Sec-WebSocket-Key must be sixteen bytes in base64")
    })?;
    HeaderValue::try_from(derive_accept_key(key))
        .map_err(|_| ApiError::bad_request("Sec-WebSocket-Key must be sixteen bytes in base64"))
}

fn upgrade_required(message: &str) -> ApiError {
    ApiError::new(StatusCode::UPGRADE_REQUIRED, message)
        .with_header(UPGRADE, HeaderValue::from_static("websocket"))
}

/// The one sub-protocol that is selected, if any that we speak is offered. Apple's clients hang
/// up when theirs is not.
fn sub_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let mut offered =
        lists.filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
    let spoken = offered.find_map(|token| {
        let version = token.trim().strip_prefix(SUB_PROTOCOL)?;
        Version::negotiate(Some(version), true).ok().map(|_| token.trim().to_owned())
    })?;
    HeaderValue::try_from(spoken).ok()
}

fn switching(accept: HeaderValue, sub_protocol: Option<HeaderValue>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(sub_protocol) = sub_protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, sub_protocol);
    }
    reply
}
