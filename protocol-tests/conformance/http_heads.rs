//! The head of a request: required headers, size limits, and other protocols than HTTP/1.1.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use kit::{Call, RawHttp, Reply, Server, Settings, eventually, quoted, within};

use crate::Start as _;

async fn answer(server: &Server, request: impl AsRef<[u8]>) -> Reply {
    let mut http = RawHttp::connect(server.address).await;
    http.write(request).await;
    http.reply().await
}

fn event() -> Call {
    Call::post("events", &json!({ "name": "e", "channel": "a", "data": "1" }))
}

/// RFC 9112, 3.2.
#[tokio::test]
async fn a_request_has_exactly_one_valid_host() {
    let server = Settings::new().start().await;
    for lines in [
        "",
        "Host: a.test\r\nHost: a.test\r\n",
        "Host: a.test\r\nhost: b.test\r\n",
        "Host: a.test\r\nHost:\r\n",
        "Host:\r\n",
        "Host: :80\r\n",
        "Host: a b\r\n",
        "Host: user@a.test\r\n",
        "Host: a.test/path\r\n",
        "Host: http://a.test\r\n",
        "Host: a.test, b.test\r\n",
        "Host: a.test:http\r\n",
        "Host: a.test:99999\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: b\u{fc}cher.test\r\n",
    ] {
        for target in ["/up", "/app/x", "/nonsense", "http://a.test/up"] {
            let mut http = RawHttp::connect(server.address).await;
            http.write(format!("GET {target} HTTP/1.1\r\n{lines}\r\n")).await;
            let sentence = http.reply().await.error(400);
            assert!(sentence.contains("Host header"), "{lines:?}: {sentence}");
            // Parsers that read hosts differently may read the next request differently.
            http.ended().await;
        }
    }
    for lines in [
        "Host: a.test\r\n",
        "Host:   a.test:8080  \r\n",
        "HOST: my_service:8080\r\n",
        "Host: 127.0.0.1\r\n",
        "Host: [::1]:8080\r\n",
        "Host: a.test:\r\n",
    ] {
        for target in ["/up", "http://a.test/up"] {
            let reply = answer(&server, format!("GET {target} HTTP/1.1\r\n{lines}\r\n")).await;
            assert_eq!(reply.status, 200, "{lines:?}: {reply}");
        }
    }
    answer(&server, "GET http://user@a.test/up HTTP/1.1\r\nHost: a.test\r\n\r\n").await.error(400);
}

/// An http URL always has a host, so no target allows the empty field of RFC 9112, 3.2.
#[tokio::test]
async fn an_empty_host_is_400_with_an_explanation() {
    let server = Settings::new().start().await;
    for target in ["/up", "http://a.test/up"] {
        for version in ["1.1", "1.0"] {
            let request = format!("GET {target} HTTP/{version}\r\nHost: \r\n\r\n");
            let sentence = answer(&server, request).await.error(400);
            assert!(sentence.contains("Host header must not be empty"), "{target}: {sentence}");
        }
    }
}

#[tokio::test]
async fn a_request_of_http_1_0_may_omit_the_host() {
    let server = Settings::new().start().await;
    assert_eq!(answer(&server, "GET /up HTTP/1.0\r\n\r\n").await.status, 200);
    assert_eq!(answer(&server, "GET /up HTTP/1.0\r\nhost: a.test\r\n\r\n").await.status, 200);
    let two = "GET /up HTTP/1.0\r\nhost: a.test\r\nhost: a.test\r\n\r\n";
    answer(&server, two).await.error(400);
}

#[tokio::test]
async fn an_encoded_body_is_415() {
    let server = Settings::new().start().await;
    for encoding in ["gzip", "GZIP", "br", "identity, gzip", "x", "identity;q=1"] {
        let reply = event().header("content-encoding", encoding).send(&server).await;
        let sentence = reply.error(415);
        assert!(sentence.contains("Content-Encoding"), "{encoding}: {sentence}");
        assert_eq!(reply.header("accept-encoding"), Some("identity"), "{reply}");
    }
    for encoding in ["identity", "Identity", "", "identity, identity"] {
        let reply = event().header("content-encoding", encoding).send(&server).await;
        assert_eq!(reply.status, 200, "{encoding}: {reply}");
    }
}

#[tokio::test]
async fn an_unsupported_expectation_is_417() {
    let server = Settings::new().start().await;
    for expectation in ["200-ok", "100-continue, x", "100"] {
        let sentence = event().header("expect", expectation).send(&server).await.error(417);
        assert!(sentence.contains("100-continue"), "{sentence}");
    }
}

/// A request whose head has exactly this many bytes.
fn head_of(bytes: usize) -> String {
    let empty = "GET /up HTTP/1.1\r\nhost: a.test\r\nx: \r\n\r\n";
    empty.replace("x: ", &format!("x: {}", "y".repeat(bytes - empty.len())))
}

#[tokio::test]
async fn max_head_bytes_is_32_kib_and_counts_each_request() {
    let server = Settings::new().start().await;
    for bytes in [100, 20_000, 32_768] {
        let mut http = RawHttp::connect(server.address).await;
        for _ in 0..2 {
            http.write(head_of(bytes)).await;
            assert_eq!(http.reply().await.status, 200, "{bytes}");
        }
        http.try_write(head_of(32_769)).await;
        let sentence = http.reply().await.error(431);
        assert!(sentence.contains("32768 bytes (server.max_head_bytes)"), "{sentence}");
        http.ended().await;
    }
    let sentence = answer(&server, head_of(32_769)).await.error(431);
    assert!(sentence.contains("32768 bytes (server.max_head_bytes)"), "{sentence}");
}

#[tokio::test]
async fn max_head_bytes_can_be_raised_and_lowered() {
    for bytes in [1_024, 8_192, 200_000] {
        let server = Settings::new().server("max_head_bytes", bytes).start().await;
        for (more, status) in [(0, 200), (1, 431)] {
            let request = head_of(bytes + more);
            let mut at_once = RawHttp::connect(server.address).await;
            at_once.try_write(&request).await;
            assert_eq!(at_once.reply().await.status, status, "{bytes} and {more}");
            let mut in_pieces = RawHttp::connect(server.address).await;
            for piece in request.as_bytes().chunks(bytes / 10) {
                in_pieces.try_write(piece).await;
            }
            let reply = in_pieces.reply().await;
            assert_eq!(reply.status, status, "{bytes} and {more}");
            if status == 431 {
                let sentence = reply.error(431);
                assert!(sentence.contains(&format!("{bytes} bytes (server.max_head_bytes)")));
            }
        }
    }
}

#[tokio::test]
async fn a_request_has_at_most_100_header_lines() {
    let server = Settings::new().start().await;
    let with_lines = |lines: usize| {
        let more = "x: y\r\n".repeat(lines - 1);
        format!("GET /up HTTP/1.1\r\nhost: a.test\r\n{more}\r\n")
    };
    let mut kept = RawHttp::connect(server.address).await;
    for lines in [99, 100] {
        kept.write(with_lines(lines)).await;
        assert_eq!(kept.reply().await.status, 200, "{lines}");
    }
    kept.write(with_lines(101)).await;
    let response = kept.reply().await.error(431);
    assert!(response.contains("100 header lines"), "{response}");
    kept.ended().await;
    for lines in [101, 1_000] {
        let response = answer(&server, with_lines(lines)).await.error(431);
        assert!(response.contains("100 header lines"), "{lines}: {response}");
    }
}

#[tokio::test]
async fn a_target_that_is_too_long_is_414() {
    let server = Settings::new().server("max_head_bytes", 200_000).start().await;
    let request = |bytes: usize| {
        format!("GET /up?{} HTTP/1.1\r\nhost: a.test\r\n\r\n", "x".repeat(bytes - "/up?".len()))
    };
    assert_eq!(answer(&server, request(65_534)).await.status, 200);
    let sentence = answer(&server, request(65_535)).await.error(414);
    assert!(sentence.contains("65534 bytes"), "{sentence}");
}

#[tokio::test]
async fn invalid_requests_are_answered_with_what_was_expected() {
    let server = Settings::new().start().await;
    for request in [
        "nonsense\r\n\r\n",
        "GET /up HTTP/2.0\r\nhost: a.test\r\n\r\n",
        "GET /up HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: x\r\n\r\n",
    ] {
        for before in ["", "GET /up HTTP/1.1\r\nhost: a.test\r\n\r\n"] {
            let mut http = RawHttp::connect(server.address).await;
            if !before.is_empty() {
                http.write(before).await;
                assert_eq!(http.reply().await.status, 200);
            }
            http.write(request).await;
            let sentence = http.reply().await.error(400);
            assert!(sentence.contains("HTTP/1.1"), "{request:?}: {sentence}");
            http.ended().await;
        }
    }
}

#[tokio::test]
async fn http_2_is_answered_with_http_1_1_required() {
    let server = Settings::new().start().await;
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], settings].concat();
    for pieces in [1, 3, preface.len()] {
        let (mut stream, mut received) = RawHttp::connect(server.address).await.into_parts();
        for piece in preface.chunks(preface.len() / pieces) {
            // The server answers before all bytes are received.
            let _sent = stream.write_all(piece).await;
        }
        stream.shutdown().await.ok();
        let _end = within("the server to hang up", stream.read_to_end(&mut received)).await;
        // SETTINGS, then GOAWAY with the code HTTP_1_1_REQUIRED.
        assert_eq!(received[..9], *settings, "{received:?}");
        assert_eq!((received[12], &received[22..26]), (7, &[0, 0, 0, 13][..]), "{received:?}");
        assert!(String::from_utf8_lossy(&received).contains("HTTP/1.1"), "{received:?}");
    }
}

#[tokio::test]
async fn tls_on_the_plain_port_is_answered_and_logged_once() {
    let server = Settings::new().section("log", "level", quoted("info")).start().await;
    // A TLS handshake record, as in every client hello.
    for hello in
        [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], b"\x16\x03\x03\0\x05hello", b"\x16"]
    {
        let mut http = RawHttp::connect(server.address).await;
        http.write(hello).await;
        let sentence = http.reply().await.error(400);
        assert!(sentence.contains("server.tls.cert"), "{sentence}");
        http.ended().await;
    }
    let mut http = RawHttp::connect(server.address).await;
    http.write("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /up HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let sentence = http.reply().await.error(400);
    assert!(sentence.contains("PROXY protocol"), "{sentence}");
    let lines = || -> Vec<String> {
        let log = server.process.stream("err");
        log.lines()
            .filter(|line| line.contains("unsupported protocol"))
            .map(str::to_owned)
            .collect()
    };
    // One line for each protocol: clients of one protocol do not hide those of another.
    let of_proxy = |line: &String| line.contains("PROXY protocol");
    eventually("the line about the PROXY protocol", async || lines().iter().any(of_proxy)).await;
    let lines = lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("INFO") && lines[0].contains("TLS"), "{lines:#?}");
    assert!(lines[0].contains("server.tls.cert"), "{lines:#?}");
}
