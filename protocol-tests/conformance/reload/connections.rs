//! Limits of connections, requests and messages: each is changed by a reload, and the running server applies it.

use kit::{Call, Http, KEY, RawHttp, Server, Settings, eventually, frames, within};

use crate::Start as _;

use super::event;

#[tokio::test]
pub(super) async fn activity_and_pong_timeouts_apply_to_connections_that_begin() {
    let patient = || Settings::new().connection("activity_timeout_s", 1);
    let server = patient().connection("pong_timeout_s", 3_600).start().await;
    let mut patient_one = server.client().await;
    let report = server.reload(&patient().connection("pong_timeout_s", 1)).await;
    assert!(report.contains(r#"settings="connection.pong_timeout_s""#), "{report}");
    let mut impatient = server.client().await;
    let report = server.reload(&patient().connection("activity_timeout_s", 3_600)).await;
    assert!(report.contains("connection.activity_timeout_s"), "{report}");
    let mut silent = server.open(&format!("/app/{KEY}?protocol=7")).await;
    assert_eq!(silent.established().await["activity_timeout"], 3_600);
    // The connection answers no ping: `closed_eventually` reads without answering.
    assert_eq!(impatient.closed_eventually().await.0, 4201);
    // The first connection was pinged equally early, but has a longer pong timeout.
    assert!(
        patient_one.frame().await.is_some_and(|frame| frame.is_ping()),
        "pinged after a second"
    );
    patient_one.ping_barrier().await;
    // The last one was not pinged.
    silent.ping_barrier().await;
}

#[tokio::test]
pub(super) async fn max_messages_per_second_applies_to_connections_that_begin() {
    let few = || Settings::new().connection("max_channels", 1);
    let server = few().start().await;
    let mut before = server.client().await;
    let report = server.reload(&few().connection("max_messages_per_second", 1)).await;
    assert!(report.contains(r#"settings="connection.max_messages_per_second""#), "{report}");
    let mut limited = server.client().await;
    server.reload(&few()).await;
    let mut after = server.client().await;
    let unknown = frames::text(r#"{"event":"pusher:x"}"#);
    // The burst is one a second, and one for each channel.
    limited.bytes(unknown.repeat(4)).await;
    assert_eq!(limited.error().await.0, 4301);
    for client in [&mut before, &mut after] {
        client.bytes(unknown.repeat(100)).await;
        client.ping_barrier().await;
    }
}

#[tokio::test]
pub(super) async fn new_connections_per_second_per_ip_applies_to_new_connections() {
    let server = Settings::new().start().await;
    let target = format!("/app/{KEY}?protocol=7");
    for _ in 0..5 {
        server.client().await;
    }
    let limited = Settings::new().connection("new_connections_per_second_per_ip", 1);
    server.reload(&limited).await;
    eventually("a connection is beyond the limit", async || {
        server.open(&target).await.next().await["data"]["code"] == 4100
    })
    .await;
    server.reload(&Settings::new()).await;
    for _ in 0..20 {
        server.client().await;
    }
}

#[tokio::test]
pub(super) async fn max_outbox_bytes_applies_to_living_connections() {
    let token = |settings: Settings| settings.section("metrics", "token", r#""t""#);
    let with = |bytes: u32| {
        token(Settings::new())
            .connection("max_outbox_bytes", bytes)
            .connection("max_message_bytes", 65_536)
    };
    // Much more than is published while this limit applies.
    let server = with(256 << 20).start().await;
    let mut stuck = server.client_with_small_buffers().await;
    stuck.subscribe("a").await;
    let data = "x".repeat(100_000);
    for _ in 0..80 {
        server.publish("a", "e", &data).await;
    }
    assert_eq!(server.connections().await, 1, "8 MB may be queued");
    server.reload(&with(131_072)).await;
    server.publish("a", "e", &data).await;
    server.wait_for_connections(0).await;
    let line = r#"campanile_connections_ended_total{reason="slow_consumer",code="4100"} 1"#;
    eventually(line, async || server.metrics_page().await.contains(line)).await;
}

#[tokio::test]
pub(super) async fn request_timeout_s_applies_to_requests_and_messages_that_begin() {
    let server = Settings::new().server("request_timeout_s", 3_600).start().await;
    let mut client = server.client().await;
    let mut kept = RawHttp::connect(server.address).await;
    kept.write(Call::get("channels").bytes()).await;
    assert_eq!(kept.reply().await.status, 200);
    server.reload(&Settings::new().server("request_timeout_s", 1)).await;
    let call = Call::post("events", &event("a", "1"));
    let unfinished = call.head(&[("content-length", "100")]);
    kept.write(&unfinished).await;
    kept.reply().await.error(408);
    let mut new = RawHttp::connect(server.address).await;
    new.write(&unfinished).await;
    new.reply().await.error(408);
    client.bytes(frames::masked(frames::TEXT, b"{")).await;
    assert_eq!(client.closed_eventually().await.0, 4100);
    let mut head = RawHttp::connect(server.address).await;
    head.write("GET /up HTTP/1.1\r\n").await;
    head.ended().await;
}

#[tokio::test]
pub(super) async fn max_head_bytes_applies_to_new_connections() {
    let server = Settings::new().start().await;
    let long = "x".repeat(2_000);
    let headers = [("x-long", long.as_str())];
    let status = async || Http::plain(server.address, "GET", "/up", &headers).await.status;
    assert_eq!(status().await, 200);
    server.reload(&Settings::new().server("max_head_bytes", 1_024)).await;
    assert_eq!(status().await, 431);
    server.reload(&Settings::new().server("max_head_bytes", 4_096)).await;
    assert_eq!(status().await, 200);
}

#[tokio::test]
pub(super) async fn max_http_connections_applies_to_new_connections() {
    let server = Settings::new().start().await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(http_connection(&server).await);
    }
    server.reload(&Settings::new().server("max_http_connections", 2)).await;
    let _third = http_connection(&server).await;
    idle[0].ended().await;
    assert_eq!(up_on(&mut idle[1]).await, 200);
    server.reload(&Settings::new().server("max_http_connections", 10)).await;
    for _ in 0..4 {
        idle.push(http_connection(&server).await);
    }
    for http in &mut idle[1..] {
        assert_eq!(up_on(http).await, 200);
    }
}

#[tokio::test]
pub(super) async fn shutdown_grace_s_applies_to_the_next_stop() {
    let with = |grace: u32| {
        Settings::new().server("shutdown_grace_s", grace).server("request_timeout_s", 3_600)
    };
    let call = Call::post("events", &event("a", "1"));
    // Waits until the head is read: the server then requests the body.
    let begin = async |server: &Server| {
        let mut http = RawHttp::connect(server.address).await;
        let length = call.body().len().to_string();
        http.write(call.head(&[("content-length", &length), ("expect", "100-continue")])).await;
        assert_eq!(http.reply_to_head().await.status, 100);
        http
    };
    // From very long to zero: neither an incomplete request nor a client that answers nothing delays the shutdown.
    let mut server = with(3_600).start().await;
    let (_unfinished, _silent) = (begin(&server).await, server.client().await);
    server.reload(&with(0)).await;
    server.signal("TERM");
    within("the end", server.process.exit_code()).await;
    // From zero to very long: the request can be completed.
    let mut server = with(0).start().await;
    let mut unfinished = begin(&server).await;
    let mut client = server.client().await;
    server.reload(&with(3_600)).await;
    server.signal("TERM");
    assert_eq!(client.closed_eventually().await.0, 4100);
    unfinished.write(call.body()).await;
    assert_eq!(unfinished.reply().await.status, 200);
    assert_eq!(server.process.exit_code().await, Some(0));
}

/// An idle connection that has been answered once.
async fn http_connection(server: &Server) -> RawHttp {
    let mut http = RawHttp::connect(server.address).await;
    assert_eq!(up_on(&mut http).await, 200);
    http
}

async fn up_on(http: &mut RawHttp) -> u16 {
    http.write("GET /up HTTP/1.1\r\nhost: x\r\n\r\n").await;
    http.reply().await.status
}
