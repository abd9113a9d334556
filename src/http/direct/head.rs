//! The heads of requests that a shard may answer, read where they were received.

use crate::{host::Host, http::query::byte_table};

/// The head of a request, borrowed from the buffer that it was read into.
///
/// It is read only if each reader of HTTP reads it in the same way: nothing is repeated that must occur once, and
/// nothing is there that changes how the request is delimited or answered.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) is_post: bool,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) host: Host<'a>,
    /// The length of the head itself, in bytes.
    pub(super) len: usize,
    pub(super) content_length: Option<usize>,
    pub(super) origin: Option<&'a [u8]>,
    pub(super) request_id: Option<&'a [u8]>,
    pub(super) idempotency_key: Option<&'a [u8]>,
    /// The `Sec-WebSocket-Key`, if the head has all parts of a WebSocket handshake.
    pub(super) upgrade_key: Option<&'a [u8]>,
    /// The header lines of proxies, in their order.
    forwarded: [Option<(Forwarded, &'a [u8])>; FORWARDED_MAX],
}

/// The headers by which proxies describe the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Forwarded {
    For,
    Proto,
}

/// Header lines of a head that is read here. Clients and proxies send half as many.
const HEADERS_MAX: usize = 32;
/// Lines of proxies in such a head.
const FORWARDED_MAX: usize = 4;

/// Reads the head at the beginning of `input`. `None` if it is not complete, or another one.
pub(super) fn read_head(input: &[u8]) -> Option<Head<'_>> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(input) {
        Ok(httparse::Status::Complete(len)) => head(&request, len),
        Ok(httparse::Status::Partial) | Err(_) => None,
    }
}

fn head<'a>(request: &httparse::Request<'_, 'a>, len: usize) -> Option<Head<'a>> {
    let is_post = match request.method? {
        "POST" => true,
        "GET" => false,
        _ => return None,
    };
    if request.version? != 1 {
        return None;
    }
    let (path, query) = split_target(request.path?)?;
    let mut lines = Lines::default();
    for line in &*request.headers {
        lines.add(line.name, line.value)?;
    }
    if !lines.has_whole_handshake_or_none() {
        return None;
    }
    Some(Head {
        is_post,
        path,
        query,
        len,
        host: lines.host?,
        upgrade_key: lines.key,
        content_length: lines.content_length,
        origin: lines.origin,
        request_id: lines.request_id,
        idempotency_key: lines.idempotency_key,
        forwarded: lines.forwarded,
    })
}

/// Splits a target that the HTTP library splits in the same way.
fn split_target(target: &str) -> Option<(&str, &str)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_usual = path.starts_with('/') && has_only(path, &OF_PATH) && has_only(query, &OF_QUERY);
    is_usual.then_some((path, query))
}

/// Whether a text has allowed bytes only. Several are looked up before there is a branch.
fn has_only(text: &str, allowed: &[bool; 256]) -> bool {
    let are_allowed =
        |bytes: &[u8]| bytes.iter().fold(true, |all, byte| all & allowed[usize::from(*byte)]);
    let (chunks, rest) = text.as_bytes().as_chunks::<16>();
    chunks.iter().all(|chunk| are_allowed(chunk)) && are_allowed(rest)
}

/// The bytes of a path, and of a query, by a table: a comparison with each range costs several times as much.
static OF_PATH: [bool; 256] = byte_table(&[
    b'!'..=b'!',
    b'$'..=b';',
    b'='..=b'=',
    b'@'..=b'Z',
    b'_'..=b'_',
    b'a'..=b'z',
    b'~'..=b'~',
]);
static OF_QUERY: [bool; 256] = byte_table(&[b'!'..=b'!', b'$'..=b';', b'='..=b'=', b'?'..=b'~']);

/// The header lines that matter.
#[derive(Default)]
struct Lines<'a> {
    host: Option<Host<'a>>,
    content_length: Option<usize>,
    origin: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
    idempotency_key: Option<&'a [u8]>,
    is_upgrade: bool,
    is_connection_upgrade: bool,
    is_version_13: bool,
    key: Option<&'a [u8]>,
    forwarded: [Option<(Forwarded, &'a [u8])>; FORWARDED_MAX],
}

impl<'a> Lines<'a> {
    /// Adds a line. `None` if the head is not for this reader.
    fn add(&mut self, name: &str, value: &'a [u8]) -> Option<()> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let slot = match name.len() {
            4 if is("host") => {
                return self.host.replace(Host::parse(value)?).is_none().then_some(());
            }
            6 if is("origin") => &mut self.origin,
            12 if is("x-request-id") => &mut self.request_id,
            17 if is("x-idempotency-key") => &mut self.idempotency_key,
            17 if is("sec-websocket-key") => &mut self.key,
            14 if is("content-length") => return self.set_length(value),
            10 if is("connection") => return self.set_connection(value),
            7 if is("upgrade") => {
                let is_first = !std::mem::replace(&mut self.is_upgrade, true);
                return (is_first && value.eq_ignore_ascii_case(b"websocket")).then_some(());
            }
            21 if is("sec-websocket-version") => {
                let is_first = !std::mem::replace(&mut self.is_version_13, true);
                return (is_first && value == b"13").then_some(());
            }
            15 if is("x-forwarded-for") => return self.add_forwarded(Forwarded::For, value),
            17 if is("x-forwarded-proto") => return self.add_forwarded(Forwarded::Proto, value),
            6 if is("expect") => return None,
            16 if is("content-encoding") => return None,
            17 if is("transfer-encoding") => return None,
            22 if is("sec-websocket-protocol") => return None,
            _ => return Some(()),
        };
        slot.replace(value).is_none().then_some(())
    }

    fn set_length(&mut self, value: &[u8]) -> Option<()> {
        let is_number = (1..=9).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()?;
        self.content_length.replace(length).is_none().then_some(())
    }

    fn set_connection(&mut self, value: &[u8]) -> Option<()> {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"upgrade") {
                self.is_connection_upgrade = true;
            } else if !token.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
        }
        Some(())
    }

    fn add_forwarded(&mut self, kind: Forwarded, value: &'a [u8]) -> Option<()> {
        let free = self.forwarded.iter_mut().find(|line| line.is_none())?;
        *free = Some((kind, value));
        Some(())
    }

    fn has_whole_handshake_or_none(&self) -> bool {
        let parts =
            [self.is_upgrade, self.is_connection_upgrade, self.is_version_13, self.key.is_some()];
        parts == [true; 4] || parts == [false; 4]
    }
}

impl<'a> Head<'a> {
    /// The values of a header of proxies, in their order.
    pub(super) fn forwarded(
        &self,
        kind: Forwarded,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, '_> {
        let lines = self.forwarded.iter().flatten();
        lines.filter(move |(of, _)| *of == kind).map(|(_, value)| *value)
    }

    /// Whether both the `Host` and the page, if there is one, are of this machine.
    pub(super) fn is_from_loopback(&self) -> bool {
        let is_loopback = |host: Option<Host<'_>>| host.is_some_and(|host| host.is_loopback());
        self.host.is_loopback()
            && self.origin.is_none_or(|origin| is_loopback(Host::from_origin(origin)))
    }
}

#[cfg(test)]
mod tests;
