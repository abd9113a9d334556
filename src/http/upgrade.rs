//! The WebSocket handshake (RFC 6455, 4.2).

use super::{
    HttpContext, check, query,
    response::{ApiError, HttpResponse},
};
use crate::{
    node::{ClientAddress, ConnectRequest},
    protocol::{CloseCode, Version},
    recent::{self, RejectedConnection, cut},
    shard::AdmittedClient,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
        UPGRADE,
    },
    http::request::Parts,
};
use std::{net::IpAddr, time::Instant};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The result of a successful handshake: the admitted client, or the code to close it with.
pub(super) type AdmissionResult = Result<Box<AdmittedClient>, CloseCode>;

const SUB_PROTOCOL: &str = "pusher-channels-protocol-";
/// How many characters of a received header an error repeats.
const RECEIVED_MAX: usize = 60;

impl HttpContext {
    /// The client behind a connection from `tcp_peer`, by the headers of trusted proxies.
    pub(super) fn peer(
        &self,
        headers: &HeaderMap,
        tcp_peer: IpAddr,
        is_tls: bool,
    ) -> ClientAddress {
        let lines = |name| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        let hop = ClientAddress { address: tcp_peer, is_tls };
        self.proxies.client(hop, lines("x-forwarded-for"), lines("x-forwarded-proto"))
    }

    /// Logs why a client was rejected, unless the limit of such lines for its address is reached.
    pub(super) fn log_rejection(&self, request: &ConnectRequest<'_>, code: &CloseCode) {
        let ConnectRequest { key, origin, peer: ClientAddress { address, .. }, .. } = request;
        if !self.node.should_log_rejection(*address, Instant::now()) {
            return;
        }
        let app = self.node.hub_by_key(key).map(|hub| hub.app_id());
        recent::REJECTED.record(app.as_deref(), || RejectedConnection {
            app: app.clone(),
            address: *address,
            key: cut(key),
            origin: origin.map(cut),
            code: code.number(),
            reason: code.label(),
            message: code.to_string(),
        });
        let (app, reason, code) = (app.as_deref(), code.label(), code.number());
        tracing::info!(reason, code, key, app, %address, origin, "connection rejected");
    }

    /// Answers a WebSocket handshake. A rejected client is upgraded too, so that it receives the
    /// close code.
    pub(super) async fn upgrade(
        &self,
        parts: &Parts,
        (key, token): (&str, Option<&str>),
        peer: ClientAddress,
    ) -> Result<(HttpResponse, AdmissionResult), ApiError> {
        let accept = accept_key(parts)?;
        let protocol = query::value(parts.uri.query().unwrap_or_default(), "protocol");
        let origin =
            parts.headers.get(ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()));
        let request = ConnectRequest {
            key,
            token,
            protocol: protocol.as_deref(),
            origin: origin.as_deref(),
            peer,
            is_from_loopback: check::check_loopback(parts).is_ok(),
        };
        let admission = self.node.admit(request).await.map(Box::new);
        if let Err(code) = &admission {
            self.log_rejection(&request, code);
        }
        let version = Version::negotiate(protocol.as_deref(), false).unwrap_or(Version::NEWEST);
        Ok((switching_protocols(accept, sub_protocol(&parts.headers, version)), admission))
    }
}

/// Joins the values of a header that may occur several times.
fn list(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.map(str::to_owned).reduce(|list, line| format!("{list},{line}"))
}

/// Checks the request's headers, and derives `Sec-WebSocket-Accept` from its key.
pub(super) fn accept_key(parts: &Parts) -> Result<HeaderValue, ApiError> {
    let headers = &parts.headers;
    let has = |name: HeaderName, token: &str| {
        let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        lists.flat_map(|list| list.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
    };
    let is_upgrade = parts.version == hyper::Version::HTTP_11
        && has(UPGRADE, "websocket")
        && has(CONNECTION, "upgrade");
    if !is_upgrade {
        return Err(upgrade_required(&format!(
            "This is a WebSocket endpoint, and the request has no upgrade: a proxy must pass on \
             the Upgrade and Connection headers (HTTP/1.1). Received: {}",
            received_upgrade(parts)
        )));
    }
    let has_body = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
        || headers.contains_key(TRANSFER_ENCODING);
    if has_body {
        return Err(ApiError::bad_request("A WebSocket handshake must not have a body")
            .with_header(CONNECTION, HeaderValue::from_static("close")));
    }
    let single = |name: HeaderName| {
        let mut lines = headers.get_all(&name).into_iter().map(HeaderValue::as_bytes);
        match (lines.next(), lines.next()) {
            (line, None) => Ok(line.unwrap_or_default()),
            (_, Some(_)) => Err(ApiError::bad_request(format!("{name} must be given once"))),
        }
    };
    if single(SEC_WEBSOCKET_VERSION)? != b"13" {
        return Err(upgrade_required("Sec-WebSocket-Version must be 13")
            .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    single(ORIGIN)?;
    let key = Some(single(SEC_WEBSOCKET_KEY)?).filter(|key| is_key(key));
    key.and_then(|key| HeaderValue::try_from(derive_accept_key(key)).ok())
        .ok_or_else(|| ApiError::bad_request("Sec-WebSocket-Key must be sixteen bytes in base64"))
}

/// The parts of a request that make an upgrade, as they were received: which one a proxy has changed
/// is seen only here.
fn received_upgrade(parts: &Parts) -> String {
    let header = |name: &str| match list(&parts.headers, name) {
        Some(value) => {
            let shown: String = value.chars().take(RECEIVED_MAX).collect();
            format!("{name}: {shown}")
        }
        None => format!("no {name}"),
    };
    format!("{:?}, {}, {}", parts.version, header("Upgrade"), header("Connection"))
}

/// Whether these are sixteen bytes in base64.
pub(super) fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_base64)
}

fn upgrade_required(message: &str) -> ApiError {
    ApiError::new(StatusCode::UPGRADE_REQUIRED, message)
        .with_header(UPGRADE, HeaderValue::from_static("websocket"))
}

/// The selected sub-protocol: that of the negotiated version if offered, otherwise another supported
/// one. `URLSession` closes the connection if none is selected.
fn sub_protocol(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let offered = list(headers, SEC_WEBSOCKET_PROTOCOL.as_str())?;
    let is_supported = |token: &&str| {
        let digit = token.strip_prefix(SUB_PROTOCOL).filter(|digit| digit.len() == 1);
        digit.is_some_and(|digit| ("4"..="7").contains(&digit))
    };
    let tokens = || offered.split(',').map(str::trim).filter(is_supported);
    let wanted = format!("{SUB_PROTOCOL}{}", version.number());
    let selected = tokens().find(|token| *token == wanted).or_else(|| tokens().next())?;
    HeaderValue::try_from(selected).ok()
}

/// The response that opens a WebSocket.
pub(super) fn switching_protocols(
    accept: HeaderValue,
    sub_protocol: Option<HeaderValue>,
) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(sub_protocol) = sub_protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, sub_protocol);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        let key = b"dGhlIHNhbXBsZSBub25jZQ==";
        assert!(is_key(key));
        assert!(is_key(b"+/+/+/+/+/+/+/+/+/+/+/=="));
        for (at, byte) in [(0, b'-'), (21, b'_'), (10, b'='), (22, b'A'), (23, b'A')] {
            let mut other = *key;
            other[at] = byte;
            assert!(!is_key(&other), "{}", String::from_utf8_lossy(&other));
        }
        for other in
            [&key[1..], b"==", b"", b"AdGhlIHNhbXBsZSBub25jZQ==", b"AAAAAAAAAAAAAAAAAAAAAAAA"]
        {
            assert!(!is_key(other), "{}", String::from_utf8_lossy(other));
        }
    }

    /// The lines of a good handshake, which is the example of RFC 6455, 1.3.
    const HANDSHAKE: [&str; 4] = [
        "upgrade: websocket",
        "connection: keep-alive, Upgrade",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];

    /// `Sec-WebSocket-Accept`, or the status of the rejection, and its header `name`.
    fn accepted(lines: &[&str], name: &HeaderName) -> Result<String, (u16, String)> {
        let mut request = hyper::Request::builder().uri("/app/key");
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        match accept_key(&request.body(()).unwrap().into_parts().0) {
            Ok(accept) => Ok(text(&accept)),
            Err(error) => {
                let response = error.into_response();
                let value = response.headers().get(name).map(text).unwrap_or_default();
                Err((response.status().as_u16(), value))
            }
        }
    }

    #[test]
    fn a_handshake_is_accepted_with_all_its_parts_only() {
        let good = Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
        assert_eq!(accepted(&HANDSHAKE, &UPGRADE), good);
        for more in ["content-length: 0", "origin: http://a.test", "upgrade: h2c"] {
            assert_eq!(accepted(&[&HANDSHAKE[..], &[more]].concat(), &UPGRADE), good, "{more}");
        }
        for (at, line, status, name, value) in [
            (0, "x: y", 426, UPGRADE, "websocket"),
            (0, "upgrade: h2c", 426, UPGRADE, "websocket"),
            (1, "x: y", 426, UPGRADE, "websocket"),
            (1, "connection: close", 426, UPGRADE, "websocket"),
            (2, "x: y", 426, SEC_WEBSOCKET_VERSION, "13"),
            (2, "sec-websocket-version: 8", 426, SEC_WEBSOCKET_VERSION, "13"),
            (3, "x: y", 400, UPGRADE, ""),
            (3, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=", 400, UPGRADE, ""),
        ] {
            let mut lines = HANDSHAKE;
            lines[at] = line;
            assert_eq!(accepted(&lines, &name), Err((status, value.to_owned())), "{line}");
        }
        for (more, closes) in [
            (&["content-length: 1"][..], true),
            (&["transfer-encoding: chunked"], true),
            (&["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="], false),
            (&["sec-websocket-version: 13"], false),
            (&["origin: http://a.test", "origin: http://a.test"], false),
        ] {
            let connection = if closes { "close" } else { "" };
            let lines = [&HANDSHAKE[..], more].concat();
            let expected = Err((400, connection.to_owned()));
            assert_eq!(accepted(&lines, &CONNECTION), expected, "{more:?}");
        }
    }

    #[test]
    fn what_was_received_in_place_of_an_upgrade_is_repeated() {
        let received = |version, lines: &[(&str, &str)]| {
            let mut request = hyper::Request::builder().uri("/app/key").version(version);
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let rejected = accept_key(&request.body(()).unwrap().into_parts().0).unwrap_err();
            let text = format!("{rejected:?}");
            let (_, after) = text.split_once("Received: ").unwrap();
            after.split('"').next().unwrap().to_owned()
        };
        let one = hyper::Version::HTTP_11;
        assert_eq!(received(one, &[]), "HTTP/1.1, no Upgrade, no Connection");
        let upgrade = ("upgrade", "websocket");
        assert_eq!(
            received(one, &[upgrade, ("connection", "close")]),
            "HTTP/1.1, Upgrade: websocket, Connection: close"
        );
        assert_eq!(
            received(hyper::Version::HTTP_10, &[upgrade, ("connection", "upgrade")]),
            "HTTP/1.0, Upgrade: websocket, Connection: upgrade"
        );
        let long = "x".repeat(200);
        assert_eq!(
            received(one, &[("upgrade", &long)]),
            format!("HTTP/1.1, Upgrade: {}, no Connection", &long[..60])
        );
    }

    #[test]
    fn a_connection_switches_with_what_was_agreed() {
        let headers = |sub_protocol| {
            let response = switching_protocols(HeaderValue::from_static("accepted"), sub_protocol);
            assert_eq!(response.status(), 101);
            response.headers().clone()
        };
        let plain = headers(None);
        assert_eq!(plain[CONNECTION], "Upgrade");
        assert_eq!(plain[UPGRADE], "websocket");
        assert_eq!(plain[SEC_WEBSOCKET_ACCEPT], "accepted");
        assert!(!plain.contains_key(SEC_WEBSOCKET_PROTOCOL));
        let agreed = headers(Some(HeaderValue::from_static("agreed")));
        assert_eq!(agreed[SEC_WEBSOCKET_PROTOCOL], "agreed");
    }

    #[test]
    fn the_sub_protocol_of_the_spoken_version_is_preferred() {
        let selected = |lines: &[&str], version| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(line).unwrap());
            }
            let selected = sub_protocol(&headers, version)?;
            Some(selected.to_str().unwrap().trim_start_matches(SUB_PROTOCOL).to_owned())
        };
        let newest = Version::NEWEST;
        let [four, seven] = ["4", "7"].map(|digit| format!("{SUB_PROTOCOL}{digit}"));
        assert_eq!(selected(&[], newest), None);
        assert_eq!(selected(&["chat", "mqtt"], newest), None);
        assert_eq!(selected(&[&format!("chat, {four} ,{seven}")], newest).as_deref(), Some("7"));
        assert_eq!(selected(&[&four, &seven], newest).as_deref(), Some("7"));
        assert_eq!(selected(&[&format!("x,{four}")], newest).as_deref(), Some("4"));
        for unknown in ["3", "8", "45", "77", "", "x"] {
            assert_eq!(selected(&[&format!("{SUB_PROTOCOL}{unknown}")], newest), None, "{unknown}");
        }
    }
}
