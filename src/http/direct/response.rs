//! Writes responses from prepared heads.

use super::head::Head;
use crate::http::{HttpContext, response::ApiError, serve::REQUEST_ID_MAX};
use std::{
    borrow::Cow,
    cell::RefCell,
    fmt::Write as _,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A request id, the client's own or a new one.
#[derive(Debug)]
pub(super) enum RequestId<'a> {
    Sent(Cow<'a, str>),
    New([u8; 16]),
}

impl RequestId<'_> {
    pub(super) fn into_owned(self) -> RequestId<'static> {
        match self {
            Self::Sent(id) => RequestId::Sent(id.into_owned().into()),
            Self::New(digits) => RequestId::New(digits),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Sent(id) => id,
            Self::New(digits) => std::str::from_utf8(digits).expect("hexadecimal digits"),
        }
    }
}

/// The id of a request; `None` if the client's own is not plain.
pub(super) fn request_id<'a>(http: &HttpContext, head: &Head<'a>) -> Option<RequestId<'a>> {
    let Some(sent) = head.request_id else { return Some(RequestId::New(http.request_id_digits())) };
    let is_plain =
        (1..=REQUEST_ID_MAX).contains(&sent.len()) && sent.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(sent).ok().filter(|_| is_plain).map(|id| RequestId::Sent(id.into()))
}

/// Logs an answered request: its method, its route and the status.
pub(super) fn log(
    request_id: &RequestId<'_>,
    (method, route, status): (&str, &str, u16),
    began: Instant,
) {
    // Read only if the line is logged.
    let elapsed_us = || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let request_id = request_id.as_str();
    tracing::debug!(
        request_id,
        method,
        route,
        status,
        elapsed_us = elapsed_us(),
        "request answered"
    );
}

/// Appends a response with a JSON object.
pub(super) fn ok(
    output: &mut Vec<u8>,
    http: &HttpContext,
    request_id: &RequestId<'_>,
    body: &str,
    now: SystemTime,
) {
    output.extend_from_slice(b"HTTP/1.1 200 OK");
    append_json(output, http, request_id, body, now);
}

/// Appends the response to a request that has failed.
pub(super) fn error(
    output: &mut Vec<u8>,
    http: &HttpContext,
    request_id: &RequestId<'_>,
    error: &ApiError,
    now: SystemTime,
) {
    output.extend_from_slice(format!("HTTP/1.1 {}", error.status()).as_bytes());
    if let Some((name, value)) = error.header() {
        output.extend_from_slice(format!("\r\n{name}: ").as_bytes());
        output.extend_from_slice(value.as_bytes());
    }
    append_json(output, http, request_id, &error.body(), now);
}

/// Appends the rest of a response after its status.
fn append_json(
    output: &mut Vec<u8>,
    http: &HttpContext,
    request_id: &RequestId<'_>,
    body: &str,
    now: SystemTime,
) {
    output.extend_from_slice(
        b"\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n\
          x-campanile-node: ",
    );
    output.extend_from_slice(http.node_header.as_bytes());
    append_request_id(output, request_id);
    output.extend_from_slice(b"\r\ncontent-length: ");
    append_number(output, body.len());
    append_date(output, now);
    output.extend_from_slice(b"\r\n\r\n");
    output.extend_from_slice(body.as_bytes());
}

/// Appends the response that opens a WebSocket.
pub(super) fn switching_protocols(output: &mut Vec<u8>, accept: &str, request_id: &RequestId<'_>) {
    output.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
          sec-websocket-accept: ",
    );
    output.extend_from_slice(accept.as_bytes());
    append_request_id(output, request_id);
    append_date(output, SystemTime::now());
    output.extend_from_slice(b"\r\n\r\n");
}

fn append_request_id(output: &mut Vec<u8>, request_id: &RequestId<'_>) {
    output.extend_from_slice(b"\r\nx-request-id: ");
    output.extend_from_slice(request_id.as_str().as_bytes());
}

fn append_number(output: &mut Vec<u8>, number: usize) {
    if let Ok(digit @ 0..10) = u8::try_from(number) {
        return output.push(b'0' + digit);
    }
    output.extend_from_slice(number.to_string().as_bytes());
}

/// The header `date` for a second, which is formatted once.
#[derive(Debug, Default)]
struct DateLine {
    at_s: u64,
    line: String,
}

thread_local! {
    static DATE: RefCell<DateLine> = RefCell::default();
}

fn append_date(output: &mut Vec<u8>, now: SystemTime) {
    let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    DATE.with_borrow_mut(|date| {
        if date.at_s != now_s {
            date.at_s = now_s;
            date.line.clear();
            write!(date.line, "\r\ndate: {}", httpdate::HttpDate::from(now))
                .expect("a String takes all text");
        }
        output.extend_from_slice(date.line.as_bytes());
    });
}
