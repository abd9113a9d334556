//! Checks of a request's head that apply to every request.

use super::response::ApiError;
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
    check_transfer_encoding(&parts.headers)?;
    check_host(parts)?;
    check_expect(&parts.headers)?;
    check_content_encoding(parts)
}

/// Rejects requests from pages and hosts of other machines: otherwise any page could use an app
/// with a public secret through the operator's browser. A page sends its `Origin`; a page whose
/// host name resolves to this machine (DNS rebinding) sends that name as `Host`.
///
/// # Errors
///
/// 403 if a page or host of another machine sends the request.
pub(super) fn check_loopback(parts: &Parts) -> Result<(), ApiError> {
    let reject = |what: &str, value: &[u8]| {
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
        if !is_loopback(Host::from_origin(origin)) {
            return reject("Origin", origin);
        }
    }
    let in_target = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    for host in values(&parts.headers, HOST).chain(in_target) {
        if !is_loopback(Host::parse(host)) {
            return reject("Host", host);
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
/// chunks regardless of what precedes `chunked`: the next request might be a part of the body.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut encodings = values(headers, TRANSFER_ENCODING);
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(()),
        (Some(single), None) if single.eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(ambiguous("Transfer-Encoding may only be chunked")),
    }
}

/// Checks that a request has exactly one valid `Host` header (RFC 9112, 3.2).
fn check_host(parts: &Parts) -> Result<(), ApiError> {
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
            "The Host header must not be empty: it must be a name or an address, and may have a port: \
             example.com:8080",
        )),
        (Some(single), None) if Host::parse(single).is_some() => Ok(()),
        (Some(_), None) => Err(ambiguous(
            "The Host header must be a name or an address, and may have a port: example.com:8080",
        )),
    }
}

fn check_expect(headers: &HeaderMap) -> Result<(), ApiError> {
    if tokens(headers, EXPECT).all(|token| token.eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    let message = "The only supported expectation is Expect: 100-continue";
    Err(ApiError::new(StatusCode::EXPECTATION_FAILED, message))
}

fn check_content_encoding(parts: &Parts) -> Result<(), ApiError> {
    let mut encodings = tokens(&parts.headers, CONTENT_ENCODING);
    let identity = |token: &[u8]| token.eq_ignore_ascii_case(b"identity");
    if parts.method != Method::POST || encodings.all(identity) {
        return Ok(());
    }
    let message = "Bodies must not be encoded: send the JSON as it is, without Content-Encoding";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
        .with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    /// The head of a request, its header lines as `name: value`.
    fn parts(method: Method, target: &str, lines: &[&str]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The status and the message of a rejection, and the value of one of its headers.
    fn rejected(result: Result<(), ApiError>, header: &HeaderName) -> Option<(u16, String)> {
        let response = result.err()?.into_response();
        let value = response.headers().get(header).map(|value| value.to_str().unwrap().to_owned());
        Some((response.status().as_u16(), value.unwrap_or_default()))
    }

    #[test]
    fn every_request_has_a_host_and_a_clear_end() {
        let closes = |lines: &[&str], target| {
            rejected(head(&parts(Method::POST, target, lines)), &CONNECTION)
        };
        for lines in [
            &["host: a.test"][..],
            &["host: a.test:8080", "transfer-encoding: chunked"],
            &["host: a.test", "transfer-encoding: Chunked", "expect: 100-Continue"],
            &["host: a.test", "expect: , 100-continue", "content-encoding: identity, Identity"],
        ] {
            assert_eq!(closes(lines, "/"), None, "{lines:?}");
        }
        let close = Some((400, "close".to_owned()));
        for lines in [
            &[][..],
            &["host: "],
            &["host: a b"],
            &["host: a.test", "host: a.test"],
            &["host: a.test", "transfer-encoding: gzip"],
            &["host: a.test", "transfer-encoding: gzip, chunked"],
            &["host: a.test", "transfer-encoding: chunked", "transfer-encoding: chunked"],
        ] {
            assert_eq!(closes(lines, "/"), close, "{lines:?}");
        }
        assert_eq!(closes(&["host: a.test"], "http://a.test/"), None);
        assert_eq!(closes(&["host: a.test"], "http://a,b.test/"), close);
        let mut old = parts(Method::GET, "/", &[]);
        old.version = Version::HTTP_10;
        assert!(head(&old).is_ok(), "HTTP/1.0 knows no Host");
    }

    #[test]
    fn expectations_and_encodings_that_are_not_met_are_named() {
        let host = "host: a.test";
        for line in ["expect: 200-ok", "expect: 100-continue, x"] {
            let result = head(&parts(Method::GET, "/", &[host, line]));
            assert_eq!(rejected(result, &CONNECTION), Some((417, String::new())), "{line}");
        }
        for line in ["content-encoding: gzip", "content-encoding: identity,gzip"] {
            let result = head(&parts(Method::POST, "/", &[host, line]));
            assert_eq!(rejected(result, &ACCEPT_ENCODING), Some((415, "identity".to_owned())));
            assert!(head(&parts(Method::GET, "/", &[host, line])).is_ok(), "it has no body");
        }
    }

    #[test]
    fn only_pages_and_hosts_of_this_machine_are_from_loopback() {
        for (target, lines, rejected) in [
            ("/", &["host: localhost:8080"][..], None),
            ("/", &["host: 127.0.0.1", "origin: http://app.test"], None),
            ("http://[::1]/", &["host: localhost"], None),
            ("/", &["host: a.example"], Some("Host is \"a.example\"")),
            ("/", &["host: localhost", "origin: http://a.example"], Some("the Origin is ")),
            ("/", &["host: localhost", "origin: null"], Some("the Origin is ")),
            (
                "/",
                &["host: localhost", "origin: http://localhost", "origin: http://b.example"],
                Some("the Origin is "),
            ),
            ("/", &["host: localhost", "host: a.example"], Some("the Host is ")),
            ("http://a.example/", &["host: localhost"], Some("the Host is ")),
        ] {
            let result = check_loopback(&parts(Method::GET, target, lines));
            let error = result.err().map(|error| format!("{error:?}").replace("\\\"", "\""));
            assert_eq!(error.is_some(), rejected.is_some(), "{target} {lines:?}");
            let error = error.unwrap_or_default();
            assert!(error.contains(rejected.unwrap_or_default()), "{error}");
        }
        let origin = format!("origin: http://{}", "y".repeat(200));
        let error = check_loopback(&parts(Method::GET, "/", &[&origin])).unwrap_err();
        let repeated = format!("http://{}\\\": configure", "y".repeat(93));
        assert!(format!("{error:?}").contains(&repeated), "100 bytes are repeated: {error:?}");
    }
}
