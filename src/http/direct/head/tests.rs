//! Which heads are read here.

use super::*;

const LINES: [&str; 3] =
    ["POST /apps/1/events?a=1&b=%20 HTTP/1.1", "host: a.test:80", "content-length: 2"];
const HANDSHAKE: [&str; 6] = [
    "GET /app/key?protocol=7 HTTP/1.1",
    "Host: a.test",
    "Upgrade: WebSocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn text(lines: &[&str]) -> String {
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

fn is_read(lines: &[&str]) -> bool {
    read_head(text(lines).as_bytes()).is_some()
}

#[test]
fn a_head_is_read_where_it_was_received() {
    let text = text(&LINES);
    let input = format!("{text}{{}}");
    let head = read_head(input.as_bytes()).unwrap();
    assert_eq!((head.is_post, head.path, head.query), (true, "/apps/1/events", "a=1&b=%20"));
    assert_eq!((head.host, head.content_length), (Host::Name("a.test"), Some(2)));
    assert_eq!(head.len, text.len());
    assert!(head.upgrade_key.is_none() && head.origin.is_none() && head.idempotency_key.is_none());
    for len in 0..text.len() {
        assert!(read_head(&input.as_bytes()[..len]).is_none(), "{len}");
    }
}

#[test]
fn a_handshake_is_read_with_all_its_parts_only() {
    let text = text(&HANDSHAKE);
    let head = read_head(text.as_bytes()).unwrap();
    assert_eq!(head.upgrade_key.unwrap(), b"dGhlIHNhbXBsZSBub25jZQ==");
    for left_out in 2..HANDSHAKE.len() {
        let mut lines = HANDSHAKE.to_vec();
        lines.remove(left_out);
        assert!(!is_read(&lines), "{left_out}");
    }
    for (at, other) in [
        (2, "Upgrade: h2c"),
        (2, "Upgrade: websocket, h2c"),
        (3, "Connection: close, Upgrade"),
        (4, "Sec-WebSocket-Version: 8"),
    ] {
        let mut lines = HANDSHAKE;
        lines[at] = other;
        assert!(!is_read(&lines), "{other}");
    }
}

#[test]
fn a_head_that_readers_may_read_differently_is_not_read() {
    assert!(is_read(&LINES));
    for more in [
        "host: a.test",
        "content-length: 2",
        "transfer-encoding: chunked",
        "expect: 100-continue",
        "content-encoding: gzip",
        "connection: close",
        "upgrade: websocket",
        "sec-websocket-protocol: a",
        "x : y",
        " x: y",
    ] {
        assert!(!is_read(&[&LINES[..], &[more]].concat()), "{more}");
    }
    for more in ["connection: keep-alive", "accept: */*", "x-request-id: a", "te: trailers"] {
        assert!(is_read(&[&LINES[..], &[more]].concat()), "{more}");
    }
    for twice in ["origin: http://a.test", "x-request-id: a", "x-idempotency-key: a"] {
        assert!(is_read(&[&LINES[..], &[twice]].concat()), "{twice}");
        assert!(!is_read(&[&LINES[..], &[twice, twice]].concat()), "{twice} twice");
    }
    for (at, other) in [
        (0, "PUT /apps/1/events HTTP/1.1"),
        (0, "POST /apps/1/events HTTP/1.0"),
        (0, "POST http://a.test/apps/1/events HTTP/1.1"),
        (0, "POST * HTTP/1.1"),
        (0, "POST /apps/1/events#a HTTP/1.1"),
        (0, "POST /apps/1/events?a=\"b\" HTTP/1.1"),
        (0, "POST /apps/{1}/events HTTP/1.1"),
        (1, "host: a b"),
        (1, "host:"),
        (1, "x: y"),
        (2, "content-length: +2"),
        (2, "content-length: 2, 2"),
        (2, "content-length: "),
        (2, "content-length: 0x2"),
        (2, "content-length: 1000000000"),
    ] {
        let mut lines = LINES;
        lines[at] = other;
        assert!(!is_read(&lines), "{other}");
    }
    let many = vec!["a: b"; HEADERS_MAX - 2];
    assert!(is_read(&[&LINES[..], &many].concat()));
    assert!(!is_read(&[&LINES[..], &many, &["a: b"]].concat()));
}

#[test]
fn lines_of_proxies_keep_their_order() {
    let lines = ["x-forwarded-for: 1", "x-forwarded-proto: https", "X-Forwarded-For: 2, 3"];
    let text = text(&[&LINES[..], &lines].concat());
    let head = read_head(text.as_bytes()).unwrap();
    let values = |kind| head.forwarded(kind).collect::<Vec<_>>();
    assert_eq!(values(Forwarded::For), [&b"1"[..], b"2, 3"]);
    assert_eq!(values(Forwarded::Proto), [b"https"]);
    assert!(!is_read(&[&LINES[..], &lines, &lines].concat()), "more than there is room for");
}

#[test]
fn host_and_page_are_both_of_this_machine() {
    for (host, origin, expected) in [
        ("localhost:80", None, true),
        ("127.0.0.1", Some("http://a.localhost"), true),
        ("127.0.0.1", Some("http://a.com"), false),
        ("127.0.0.1", Some("null"), false),
        ("a.com", None, false),
        ("a.com", Some("http://localhost"), false),
    ] {
        let host = format!("host: {host}");
        let origin = origin.map(|origin| format!("origin: {origin}"));
        let lines: Vec<&str> = [LINES[0], &host].into_iter().chain(origin.as_deref()).collect();
        let text = text(&lines);
        let head = read_head(text.as_bytes()).unwrap();
        assert_eq!(head.is_from_loopback(), expected, "{lines:?}");
    }
}
