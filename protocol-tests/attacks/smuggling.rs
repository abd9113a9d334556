//! Requests that parsers may interpret differently: the body for one parser is the next request for another. Each is
//! followed by a smuggled request, which must never be answered.

use std::time::Instant;

use tokio::io::AsyncWriteExt;

use crate::handshakes::{connect, to_the_end};
use crate::setup::{ATTACK_DURATION, AttackSetup};
use kit::{Call, Server, Settings};

const SMUGGLED: &str = "GET /up HTTP/1.1\r\nhost: inner.test\r\n\r\n";

/// Heads with two lengths, a wrong length, or an obscured length; each is followed by [`SMUGGLED`]. `{…}` stands for
/// the other lines of a head.
const HEADERS: &[(&str, &str)] = &[
    ("both lengths", "content-length: 5\r\ntransfer-encoding: chunked"),
    ("both lengths, the other way round", "transfer-encoding: chunked\r\ncontent-length: 5"),
    (
        "both lengths, three lines",
        "content-length: 5\r\ntransfer-encoding: chunked\r\ncontent-length: 5",
    ),
    ("two lengths", "content-length: 5\r\ncontent-length: 6"),
    ("two lengths in one line", "content-length: 5, 6"),
    ("the same length twice in one line", "content-length: 5, 5"),
    ("a length with a sign", "content-length: +5"),
    ("a negative length", "content-length: -5"),
    ("a length in hexadecimal", "content-length: 0x5"),
    ("a length with a space", "content-length: 5 5"),
    ("an empty length", "content-length:"),
    ("a length beyond 64 bits", "content-length: 18446744073709551621"),
    ("space before the colon", "content-length : 5"),
    ("identity", "transfer-encoding: identity"),
    ("identity behind chunked", "transfer-encoding: chunked, identity"),
    (
        "identity behind chunked, two lines",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    ),
    ("identity before chunked", "transfer-encoding: identity, chunked"),
    (
        "identity before chunked, two lines",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
    ),
    ("gzip before chunked", "transfer-encoding: gzip, chunked"),
    ("chunked twice", "transfer-encoding: chunked, chunked"),
    ("chunked twice, two lines", "transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
    ("nearly chunked", "transfer-encoding: xchunked"),
    ("chunked with a parameter", "transfer-encoding: chunked;q=1"),
    ("chunked in quotes", "transfer-encoding: \"chunked\""),
    ("chunked behind a control character", "transfer-encoding: \u{b}chunked"),
    ("chunked with space before the colon", "transfer-encoding : chunked"),
    ("an empty encoding", "transfer-encoding:"),
    ("a folded line", "x-a: b\r\n transfer-encoding: chunked"),
    ("a folded value", "transfer-encoding:\r\n chunked"),
    ("a folded first line", " transfer-encoding: chunked"),
    ("a bare return in a value", "x-a: b\rtransfer-encoding: chunked"),
    ("another host", "host: other.test"),
    ("two hosts in one line", "x-a: b\r\nhost: outer.test, other.test"),
    ("a null in a value", "x-a: \0b"),
    ("a null in a name", "x\0a: b"),
];

/// Invalid chunked bodies. The requests are signed, so that the bodies are read.
const CHUNKS: &[(&str, &str)] = &[
    ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
    ("a negative size", "-1\r\nhello\r\n0\r\n\r\n"),
    ("a size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("a size that ends in a bare newline", "5\nhello\r\n0\r\n\r\n"),
    ("an extension with a bare newline", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("an extension without end", "5;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ("a chunk that is longer than it says", "5\r\nhello!\r\n0\r\n\r\n"),
    ("a chunk without an end of line", "5\r\nhello0\r\n\r\n"),
    ("a chunk that ends in a bare newline", "5\r\nhello\n0\r\n\r\n"),
];

#[tokio::test]
async fn a_smuggled_request_is_never_answered() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        pipelined_requests_are_answered(server).await;
        let (began, mut sent) = (Instant::now(), 0);
        while began.elapsed() < ATTACK_DURATION {
            for (shape, lines) in HEADERS {
                // The two possible bodies: an empty chunked one, and five bytes.
                for body in ["0\r\n\r\n", ""] {
                    let request = format!(
                        "POST /apps/3/events HTTP/1.1\r\nhost: outer.test\r\n{lines}\r\n\r\n{body}{SMUGGLED}"
                    );
                    is_answered_once(server, shape, request.as_bytes()).await;
                    sent += 1;
                }
            }
            for (shape, body) in CHUNKS {
                let head =
                    Call::post_text("events", "hello").head(&[("transfer-encoding", "chunked")]);
                let request = [&head, body.as_bytes(), SMUGGLED.as_bytes()].concat();
                is_answered_once(server, shape, &request).await;
                sent += 1;
            }
            let old = format!(
                "POST /apps/3/events HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
            );
            is_answered_once(server, "chunks in HTTP/1.0", old.as_bytes()).await;
        }
        format!(
            "{sent} requests of {} shapes, none answered twice",
            HEADERS.len() + CHUNKS.len() + 1
        )
    };
    setup.attacked_by("request smuggling", attack).await;
}

/// Asserts that a smuggled request would be detected: a pipelined request is answered.
async fn pipelined_requests_are_answered(server: &Server) {
    for lines in [
        "content-length: 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let request =
            format!("POST /apps/3/events HTTP/1.1\r\nhost: outer.test\r\n{lines}{SMUGGLED}");
        let response = answers_to(server, request.as_bytes()).await;
        assert_eq!(answers_in(&response), 2, "{lines}: {response}");
        assert!(response.contains(r#"{"health":"OK"}"#), "{lines}: {response}");
    }
}

async fn is_answered_once(server: &Server, shape: &str, request: &[u8]) {
    let response = answers_to(server, request).await;
    let status = response.get(9..12).unwrap_or_default();
    assert!(["400", "401"].contains(&status), "{shape}: {response}");
    assert_eq!(answers_in(&response), 1, "{shape}: {response}");
    assert!(!response.contains("health"), "{shape}: {response}");
}

/// The number of status lines; an error message may contain the protocol as well.
fn answers_in(response: &str) -> usize {
    response
        .split("HTTP/1.1 ")
        .skip(1)
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        .count()
}

/// All answers until the server closes.
async fn answers_to(server: &Server, request: &[u8]) -> String {
    let mut stream = connect(server).await;
    stream.write_all(request).await.expect("the request is taken");
    stream.shutdown().await.expect("the connection is open");
    to_the_end(&mut stream).await
}
