//! Checks of a request's head that apply to every request.

use super::reply::ApiError;
use crate::host::Host;
use hyper::{
    HeaderMap, Method, StatusCode, Version,
    header::{
        ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, EXPECT, HOST, HeaderName, HeaderValue,
        ORIGIN, TRANSFER_ENCODING,
    },
    http::request::Parts,
};

/// Checks what every request must satisfy.
///
/// # Errors
///
/// 400 for a body without a clear end and for a `Host` that is missing, repeated or invalid, 415
/// for an encoded body, 417 for an expectation other than `100-continue`.
pub(super) fn head(parts: &Parts) -> Result<(), ApiError> {
    is_delimited(&parts.headers)?;
    has_host(parts)?;
    is_met(&parts.headers)?;
    is_not_encoded(parts)
}

/// Rejects requests from pages and hosts of other machines: otherwise any page could use an app
/// with a public secret through the operator's browser. A page sends its `Origin`; a page whose
/// host name resolves to this machine (DNS rebinding) sends that name as `Host`.
///
/// # Errors
///
/// 403.
pub(super) fn is_from_loopback(parts: &Parts) -> Result<(), ApiError> {
    let refuse = |what: &str, value: &[u8]| {
        let value = String::from_utf8_lossy(&value[..value.len().min(100)]);
        let message = format!(
            "The app's secret is the well-known one of the development app, so only localhost, \
             *.localhost, *.test, 127.0.0.1 and [::1] are served, and the {what} is {value:?}: \
             configure an app of your own, with a secret of your own"
        );
        Err(ApiError::new(StatusCode::FORBIDDEN, message))
    };
    let is_loopback = |host: Option<Host<'_>>| host.is_some_and(|host| host.is_loopback());
    for origin in values(&parts.headers, ORIGIN) {
        if !is_loopback(Host::of_origin(origin)) {
            return refuse("Origin", origin);
        }
    }
    let in_target = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    for host in values(&parts.headers, HOST).chain(in_target) {
        if !is_loopback(Host::parse(host)) {
            return refuse("Host", host);
        }
    }
    Ok(())
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

/// The tokens of a list header.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lists = values(headers, name);
    let tokens = lists.flat_map(|list| list.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    tokens.filter(|token| !token.is_empty())
}

/// Rejects a request that other parsers may read differently. Nothing after it is read.
fn ambiguous(message: &str) -> ApiError {
    ApiError::bad_request(message).with_header(CONNECTION, HeaderValue::from_static("close"))
}

/// Rejects a body that other parsers may delimit differently from the HTTP library, which reads
/// chunks whatever precedes `chunked`: the next request might be a part of the body.
fn is_delimited(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut encodings = values(headers, TRANSFER_ENCODING);
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(ambiguous("Transfer-Encoding may only be chunked")),
    }
}

/// Source: RFC 9112, 3.2.
fn has_host(parts: &Parts) -> Result<(), ApiError> {
    let mut hosts = values(&parts.headers, HOST);
    let in_target = parts.uri.authority();
    if in_target.is_some_and(|authority| Host::parse(authority.as_str().as_bytes()).is_none()) {
        return Err(ambiguous("The host in the request's target must be a name or an address"));
    }
    match (hosts.next(), hosts.next()) {
        (None, _) if parts.version < Version::HTTP_11 => Ok(()),
        (None, _) => Err(ambiguous("An HTTP/1.1 request must have a Host header")),
        (Some(_), Some(_)) => Err(ambiguous("A request must have one Host header, not several")),
        (Some(b""), None) => Err(ambiguous(
            "The Host header is empty, which is only for URLs without a host, and http URLs have \
             one: it must be a name or an address, and may have a port: example.com:8080",
        )),
        (Some(only), None) if Host::parse(only).is_some() => Ok(()),
        (Some(_), None) => Err(ambiguous(
            "The Host header must be a name or an address, and may have a port: example.com:8080",
        )),
    }
}

fn is_met(headers: &HeaderMap) -> Result<(), ApiError> {
    if tokens(headers, EXPECT).all(|token| token.eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    let message = "The only expectation that can be met is Expect: 100-continue";
    Err(ApiError::new(StatusCode::EXPECTATION_FAILED, message))
}

fn is_not_encoded(parts: &Parts) -> Result<(), ApiError> {
    let mut encodings = tokens(&parts.headers, CONTENT_ENCODING);
    let identity = |token: &[u8]| token.eq_ignore_ascii_case(b"identity");
    if parts.method != Method::POST || encodings.all(identity) {
        return Ok(());
    }
    let message = "Bodies must not be encoded: send the JSON as it is, without Content-Encoding";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
        .with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}
