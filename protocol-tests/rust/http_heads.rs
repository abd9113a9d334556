//! The head of a request: what every request must have, how large it may be, and what is no HTTP/1.1 at all.

use serde_json::json;

use crate::harness::{Call, RawHttp, Reply, Server, Settings};

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
            // Whoever reads hosts otherwise may read the next request otherwise.
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

#[tokio::test]
async fn a_request_of_http_1_0_may_do_without_a_host() {
    let server = Settings::new().start().await;
    assert_eq!(answer(&server, "GET /up HTTP/1.0\r\n\r\n").await.status, 200);
    assert_eq!(answer(&server, "GET /up HTTP/1.0\r\nhost: a.test\r\n\r\n").await.status, 200);
    let two = "GET /up HTTP/1.0\r\nhost: a.test\r\nhost: a.test\r\n\r\n";
    answer(&server, two).await.error(400);
}

#[tokio::test]
async fn an_encoded_body_is_415_and_told_to_come_plain() {
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
async fn an_expectation_that_can_not_be_met_is_417() {
    let server = Settings::new().start().await;
    for expectation in ["200-ok", "100-continue, x", "100"] {
        let sentence = event().header("expect", expectation).send(&server).await.error(417);
        assert!(sentence.contains("100-continue"), "{sentence}");
    }
}
