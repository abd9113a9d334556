//! The limits of a request: bytes, time, and rate.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use kit::{Call, RawHttp, Server, Settings, within};

use crate::Start as _;

const BODY_BYTES_MAX: usize = 5_000;

#[tokio::test]
async fn max_request_bytes_counts_a_declared_body() {
    let server = small_requests().start().await;
    let reply = event_of(BODY_BYTES_MAX).send(&server).await;
    assert_eq!(reply.status, 200, "{reply}");
    event_of(BODY_BYTES_MAX + 1).send(&server).await.error(413);
}

#[tokio::test]
async fn max_request_bytes_rejects_a_declared_body_before_it_is_sent() {
    let server = small_requests().start().await;
    let mut http = RawHttp::connect(server.address).await;
    let call = event_of(BODY_BYTES_MAX + 1);
    http.write(call.head(&[("content-length", "5001")])).await;
    http.reply().await.error(413);
}

#[tokio::test]
async fn max_request_bytes_counts_a_body_in_chunks() {
    let server = small_requests().start().await;
    let mut http = RawHttp::connect(server.address).await;
    send_chunks(&mut http, &event_of(BODY_BYTES_MAX)).await;
    http.write("0\r\n\r\n").await;
    let reply = http.reply().await;
    assert_eq!(reply.status, 200, "{reply}");
    // The end of the second body is never sent, and the server does not wait for it.
    let mut http = RawHttp::connect(server.address).await;
    send_chunks(&mut http, &event_of(BODY_BYTES_MAX + 1)).await;
    http.reply().await.error(413);
}

#[tokio::test]
async fn max_request_bytes_applies_to_every_route() {
    let server = small_requests().start().await;
    let mut http = RawHttp::connect(server.address).await;
    http.write("POST /nonsense HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n\r\n").await;
    let status = http.reply().await.status;
    assert!(matches!(status, 404 | 413), "{status}");
}

#[tokio::test]
async fn request_timeout_closes_an_incomplete_head() {
    let server = Settings::new().server("request_timeout_s", 1).start().await;
    let mut settled = server.client().await;
    for beginning in ["", "GET", "GET /up HTTP/1.1\r\nhost: x\r\n"] {
        let begun = Instant::now();
        let mut http = RawHttp::connect(server.address).await;
        http.write(beginning).await;
        ends_with_408_or_silence(http).await;
        assert_timed_out(begun);
    }
    // The timeout does not apply to upgraded connections.
    settled.ping_barrier().await;
}

#[tokio::test]
async fn request_timeout_is_absolute() {
    let server = Settings::new().server("request_timeout_s", 1).start().await;
    let begun = Instant::now();
    let (stream, _) = RawHttp::connect(server.address).await.into_parts();
    let (mut from_server, mut to_server) = stream.into_split();
    let drip = async {
        if to_server.write_all(b"GET /up HTTP/1.1\r\nx: ").await.is_ok() {
            while to_server.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let mut received = Vec::new();
    let end = async {
        // A reset counts as the end.
        let _end = from_server.read_to_end(&mut received).await;
    };
    within("the server to have had enough", async { tokio::join!(drip, end) }).await;
    assert_timed_out(begun);
    assert!(received.is_empty() || received.starts_with(b"HTTP/1.1 408"), "{received:?}");
}

#[tokio::test]
async fn request_timeout_answers_an_incomplete_body() {
    let server = Settings::new().server("request_timeout_s", 1).start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let call = event_of(200);
    let begun = Instant::now();
    let mut http = RawHttp::connect(server.address).await;
    http.write(call.head(&[("content-length", "200")])).await;
    http.write("{").await;
    http.reply().await.error(408);
    http.ended().await;
    assert_timed_out(begun);
    let begun = Instant::now();
    let mut http = RawHttp::connect(server.address).await;
    http.write(call.head(&[("transfer-encoding", "chunked")])).await;
    http.write("1\r\n{\r\n").await;
    http.reply().await.error(408);
    assert_timed_out(begun);
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn requests_per_second_is_429_with_retry_after() {
    let settings =
        Settings::new().app("requests_per_second", 5).add_app("4", "key-of-4", "secret-of-4");
    let server = settings.start().await;
    let mut http = RawHttp::connect(server.address).await;
    http.write(event_of(200).bytes().repeat(6)).await;
    for _ in 0..5 {
        let reply = http.reply().await;
        assert_eq!(reply.status, 200, "{reply}");
    }
    let rejected = http.reply().await;
    rejected.error(429);
    let seconds: u64 = rejected.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, 1, "a fifth of a second, in whole seconds: {rejected}");
    let other = Call::new("GET", "/apps/4/channels", "").credentials("key-of-4", "secret-of-4");
    assert_eq!(other.send(&server).await.status, 200, "another app has its own limit");
    // The limit is per second, so the test waits.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let reply = event_of(200).send(&server).await;
    assert_eq!(reply.status, 200, "{reply}");
}

#[tokio::test]
async fn requests_per_second_does_not_count_unauthenticated_requests() {
    let server = Settings::new().app("requests_per_second", 2).start().await;
    for _ in 0..10 {
        event_of(200).signature("00").send(&server).await.error(401);
    }
    let reply = event_of(200).send(&server).await;
    assert_eq!(reply.status, 200, "{reply}");
}

#[tokio::test]
async fn requests_have_no_limit_by_default() {
    let server: Server = Settings::new().start().await;
    let mut http = RawHttp::connect(server.address).await;
    http.write(event_of(200).bytes().repeat(200)).await;
    for _ in 0..200 {
        assert_eq!(http.reply().await.status, 200);
    }
}

/// Asserts that a connection that began at `begun` was closed by a timeout of one second, not by the default of ten.
fn assert_timed_out(begun: Instant) {
    let range = Duration::from_secs(1)..Duration::from_secs(9);
    assert!(range.contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

fn small_requests() -> Settings {
    Settings::new().server("max_request_bytes", BODY_BYTES_MAX).app("max_event_bytes", 4_000)
}

/// A publish to `a` whose body has exactly this many bytes.
fn event_of(bytes: usize) -> Call {
    let event = json!({ "name": "e", "channel": "a", "data": "1" }).to_string();
    Call::post_text("events", format!("{event:bytes$}"))
}

/// Sends head and body in chunks, without the end of the body.
async fn send_chunks(http: &mut RawHttp, call: &Call) {
    http.write(call.head(&[("transfer-encoding", "chunked")])).await;
    for chunk in call.body().chunks(999) {
        http.try_write(format!("{:x}\r\n", chunk.len())).await;
        http.try_write(chunk).await;
        http.try_write("\r\n").await;
    }
}

async fn ends_with_408_or_silence(http: RawHttp) {
    let (mut stream, mut received) = http.into_parts();
    // A reset counts as the end.
    let _end = within("the server to have had enough", stream.read_to_end(&mut received)).await;
    assert!(received.is_empty() || received.starts_with(b"HTTP/1.1 408"), "{received:?}");
}
