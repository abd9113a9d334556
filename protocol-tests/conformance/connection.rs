//! Cases of `docs/protocol.md#cases-connection`.

use std::time::{Duration, Instant};

use serde_json::json;

use kit::{
    Call, Client, Frame, KEY, RawHttp, Settings, frames, inner, is_event, quoted, upgrade_request,
};

use crate::Start as _;
use crate::shutdown::UnfinishedPublish;

/// The longest close reason that fits into a control frame.
const REASON_BYTES_MAX: usize = 123;

#[tokio::test]
async fn c01_the_first_frame_establishes_the_connection() {
    let server = Settings::new().start().await;
    let mut client =
        server.open(&format!("/app/{KEY}?protocol=7&client=js&version=8.6.0&flash=false")).await;
    let first = client.next().await;
    assert_eq!(first["event"], "pusher:connection_established");
    assert!(first.get("channel").is_none(), "{first}");
    let data = inner(&first);
    assert!(is_socket_id(data["socket_id"].as_str().unwrap()), "{data}");
    assert_eq!(data["activity_timeout"], 30, "{data}");
}

#[tokio::test]
async fn c01_the_activity_timeout_is_the_configured_one() {
    let server = Settings::new().connection("activity_timeout_s", 77).start().await;
    let mut client = server.open(&format!("/app/{KEY}")).await;
    assert_eq!(client.established().await["activity_timeout"], 77);
}

#[tokio::test]
async fn c02_nothing_else_is_sent_unrequested() {
    let server = Settings::new().start().await;
    server.client().await.ping_barrier().await;
}

#[tokio::test]
async fn c03_two_connections_have_two_socket_ids() {
    let server = Settings::new().start().await;
    assert_ne!(server.client().await.socket_id, server.client().await.socket_id);
}

#[tokio::test]
async fn c04_an_unknown_key_is_closed_4001_with_an_error() {
    let server = Settings::new().start().await;
    let mut client = server.open("/app/nope?protocol=7").await;
    let (code, message) = client.error().await;
    assert_eq!(code, 4001);
    let (code, reason) = client.closed().await;
    assert_eq!(code, 4001);
    assert!(reason.len() <= REASON_BYTES_MAX, "{message}: {reason}");
}

#[tokio::test]
async fn c04_a_key_of_any_length_is_rejected_with_a_reason_that_fits() {
    let server = Settings::new().start().await;
    let mut client = server.open(&format!("/app/{}?protocol=7", "k".repeat(2_000))).await;
    client.rejected(4001).await;
}

#[tokio::test]
async fn c05_a_disabled_app_is_closed_4003() {
    let server = Settings::new().app("enabled", false).start().await;
    server.open(&format!("/app/{KEY}?protocol=7")).await.rejected(4003).await;
}

#[tokio::test]
async fn c06_the_app_limit_is_enforced_and_released() {
    let server = Settings::new().app("max_connections", 1).start().await;
    let mut first = server.client().await;
    server.open(&format!("/app/{KEY}?protocol=7")).await.rejected(4004).await;
    first.ping_barrier().await;
    drop(first);
    server.wait_for_connections(0).await;
    server.client().await.ping_barrier().await;
}

#[tokio::test]
async fn c07_strict_mode_requires_a_protocol() {
    let server = Settings::new().connection("strict_protocol", true).start().await;
    server.open(&format!("/app/{KEY}")).await.rejected(4008).await;
    server.open(&format!("/app/{KEY}?client=js")).await.rejected(4008).await;
    server.open(&format!("/app/{KEY}?protocol=abc")).await.rejected(4006).await;
    server.client().await.ping_barrier().await;
}

#[tokio::test]
async fn c08_the_protocols_1_to_3_are_rejected() {
    let server = Settings::new().start().await;
    for protocol in 1..=3 {
        server.open(&format!("/app/{KEY}?protocol={protocol}")).await.rejected(4007).await;
    }
}

#[tokio::test]
async fn c09_protocol_5_works_and_receives_the_reason_of_a_close() {
    let server = Settings::new().start().await;
    let mut client = server.open(&format!("/app/{KEY}?protocol=5&client=java-client")).await;
    client.established().await;
    client.ping_barrier().await;
    client.sign_in(r#"{"id":"1"}"#).await;
    let reply = server.post("users/1/terminate_connections", &json!({})).await;
    assert_eq!(reply.status, 200, "{reply}");
    client.rejected(4009).await;
}

#[tokio::test]
async fn c10_a_missing_or_odd_protocol_connects_when_not_strict() {
    let server = Settings::new().start().await;
    for query in [
        "",
        "?",
        "?protocol=abc",
        "?protocol=",
        "?protocol=4",
        "?protocol=6",
        "?protocol=8",
        "?protocol=99999999999",
    ] {
        let mut client = server.open(&format!("/app/{KEY}{query}")).await;
        client.established().await;
        client.ping_barrier().await;
    }
}

#[tokio::test]
async fn c11_the_pusher_subprotocol_is_selected() {
    let server = Settings::new().start().await;
    for offer in ["pusher-channels-protocol-7", "foo, pusher-channels-protocol-7"] {
        let headers = [("Sec-WebSocket-Protocol", offer)];
        let (mut client, reply) =
            Client::open(server.address, &format!("/app/{KEY}?protocol=7"), &headers).await;
        assert_eq!(reply.header("sec-websocket-protocol"), Some("pusher-channels-protocol-7"));
        client.established().await;
    }
}

#[tokio::test]
async fn c12_another_subprotocol_is_ignored() {
    let server = Settings::new().start().await;
    let headers = [("Sec-WebSocket-Protocol", "foo")];
    let (mut client, reply) =
        Client::open(server.address, &format!("/app/{KEY}?protocol=7"), &headers).await;
    assert_eq!(reply.header("sec-websocket-protocol"), None);
    client.established().await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn c13_unknown_parameters_are_ignored() {
    let server = Settings::new().start().await;
    let mut client = server.open(&format!("/app/{KEY}?protocol=7&foo=bar&foo=%zz&=&flag")).await;
    client.established().await;
}

#[tokio::test]
async fn c14_a_ping_is_answered() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.text(r#"{"event":"pusher:ping","data":{}}"#).await;
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
}

#[tokio::test]
async fn c15_a_ping_needs_no_data() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.text(r#"{"event":"pusher:ping"}"#).await;
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
}

#[tokio::test]
async fn c16_a_websocket_ping_is_answered_with_its_payload() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for payload in [b"x".to_vec(), vec![], vec![0xFF; 125]] {
        client.bytes(frames::masked(frames::FIN | frames::PING, &payload)).await;
        assert_eq!(client.frame().await, Some(Frame::Pong(payload)));
    }
}

#[tokio::test]
async fn c17_a_hundred_websocket_pings_are_a_hundred_pongs() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let burst: Vec<u8> =
        (0..100).flat_map(|number| frames::masked(frames::FIN | frames::PING, &[number])).collect();
    client.bytes(burst).await;
    for number in 0..100 {
        assert_eq!(client.frame().await, Some(Frame::Pong(vec![number])));
    }
    client.ping_barrier().await;
}

#[tokio::test]
async fn c18_a_silent_client_is_pinged_then_closed_4201_and_removed() {
    let server = timers().start().await;
    let mut client = server.client().await;
    let start = Instant::now();
    client.subscribe("my-channel").await;
    assert!(client.frame().await.unwrap().is_ping(), "a ping is sent first");
    assert!(Duration::from_secs(1) <= start.elapsed(), "a ping after {:?}", start.elapsed());
    assert_eq!(client.closed_eventually().await.0, 4201);
    assert!(Duration::from_secs(4) <= start.elapsed(), "closed after {:?}", start.elapsed());
    server.wait_for_connections(0).await;
    assert_eq!(server.channel("my-channel", "").await, json!({ "occupied": false }));
}

#[tokio::test]
async fn c19_a_client_that_answers_websocket_pings_stays() {
    let server = timers().start().await;
    let answer = |ping: &Frame| match ping {
        Frame::Ping(payload) => Some(frames::masked(frames::FIN | frames::PONG, payload)),
        Frame::Text(_) | Frame::Pong(_) | Frame::Close(..) => None,
    };
    stays_while_it_answers(server.client().await, answer).await;
}

#[tokio::test]
async fn c20_a_client_that_answers_with_pusher_pong_stays() {
    let server = timers().start().await;
    let answer = |_: &Frame| Some(frames::text(r#"{"event":"pusher:pong","data":{}}"#));
    stays_while_it_answers(server.client().await, answer).await;
}

#[tokio::test]
async fn c21_broadcasts_do_not_prevent_pings_and_answers_keep_a_client() {
    let server = timers().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    let (mut pings, mut number) = (0, 0_u64);
    while pings < 3 {
        number += 1;
        server.publish("my-channel", "e", &number.to_string()).await;
        loop {
            match client.frame().await.unwrap() {
                Frame::Ping(payload) => {
                    pings += 1;
                    client.bytes(frames::masked(frames::FIN | frames::PONG, &payload)).await;
                }
                Frame::Text(text) if is_event(&text, "e") => break,
                Frame::Text(text) => {
                    assert!(is_event(&text, "pusher:ping"), "{text}");
                }
                other @ (Frame::Pong(_) | Frame::Close(..)) => panic!("{other:?}"),
            }
        }
        // A client that only receives is pinged within this many publishes.
        assert!(number < 1_000, "there were {pings} pings");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.ping_barrier().await;
}

#[tokio::test]
async fn c22_malformed_messages_are_answered_and_the_connection_stays() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for nonsense in [
        "not json",
        "",
        "{",
        "[]",
        "null",
        "7",
        r#""text""#,
        "{}",
        r#"{"event":7}"#,
        r#"{"event":null}"#,
    ] {
        client.text(nonsense).await;
        client.error().await;
        client.ping_barrier().await;
    }
}

#[tokio::test]
async fn c22_repeated_malformed_messages_are_closed_despite_valid_ones_in_between() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for _ in 0..20 {
        client.try_bytes(frames::text("not json")).await;
        client.try_bytes(frames::text(r#"{"event":"pusher:ping"}"#)).await;
        client.try_bytes(frames::masked(frames::FIN | frames::PONG, b"")).await;
    }
    assert_eq!(client.closed_eventually().await.0, 4100);
}

#[tokio::test]
async fn c23_unknown_pusher_events_are_ignored() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.command("pusher:whatever", json!({})).await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn c24_a_frame_over_the_limit_is_closed_1009() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    // The server may close the connection during the write.
    client.try_bytes(frames::text(vec![b' '; 65_537])).await;
    assert_eq!(client.closed_eventually().await.0, 1009);
}

#[tokio::test]
async fn c25_shutdown_closes_connections_with_4100_and_rejects_new_ones() {
    let mut server = Settings::new().server("shutdown_grace_s", 60).start().await;
    let mut clients = [server.client().await, server.client().await, server.client().await];
    // The server does not exit before the publish is complete.
    let publish = UnfinishedPublish::begin(&server).await;
    server.signal("TERM");
    for client in &mut clients {
        client.rejected(4100).await;
    }
    for _ in 0..3 {
        server.open(&format!("/app/{KEY}?protocol=7")).await.rejected(4100).await;
    }
    assert_eq!(publish.finish().await.status, 200);
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn c26_a_tls_only_app_is_closed_4000_without_tls() {
    let server = Settings::new()
        .server("trusted_proxies", r#"["10.0.0.1"]"#)
        .app("tls_only", true)
        .start()
        .await;
    server.open(&format!("/app/{KEY}?protocol=7")).await.rejected(4000).await;
}

#[tokio::test]
async fn c27_a_foreign_origin_is_closed_4009() {
    let server = Settings::new().app("allowed_origins", r#"["example.com"]"#).start().await;
    let headers = [("Origin", "https://evil.test")];
    server.open_with(&format!("/app/{KEY}?protocol=7"), &headers).await.rejected(4009).await;
}

#[tokio::test]
async fn c28_a_connection_that_never_authorizes_is_closed_4009() {
    let server = authorized_in_time().start().await;
    let start = Instant::now();
    let sentence = server.client().await.rejected(4009).await;
    assert_eq!(sentence, "Connection not authorized within timeout");
    assert!(Duration::from_secs(3) <= start.elapsed(), "closed after {:?}", start.elapsed());
}

#[tokio::test]
async fn c29_a_private_subscription_or_a_sign_in_authorizes() {
    let server = authorized_in_time().start().await;
    let mut subscriber = server.client().await;
    let mut member = server.client().await;
    let mut user = server.client().await;
    subscriber.subscribe("private-x").await;
    member.join("presence-x", "1").await;
    user.sign_in(r#"{"id":"1"}"#).await;
    // This connection began later and times out, so the timeout of the others has passed too.
    server.client().await.rejected(4009).await;
    subscriber.ping_barrier().await;
    member.ping_barrier().await;
    user.ping_barrier().await;
}

#[tokio::test]
async fn c30_neither_a_public_channel_nor_a_failed_private_one_authorizes() {
    let server = authorized_in_time().start().await;
    let mut public = server.client().await;
    let mut failed = server.client().await;
    public.subscribe("my-channel").await;
    failed
        .command("pusher:subscribe", json!({ "auth": format!("{KEY}:00"), "channel": "private-x" }))
        .await;
    failed.rejection("private-x").await;
    public.rejected(4009).await;
    failed.rejected(4009).await;
}

/// `docs/protocol.md#admission`: if several reasons apply, the client receives the first.
#[tokio::test]
async fn rejections_are_checked_in_order() {
    let origins = r#"["example.com"]"#;
    let foreign = [("Origin", "https://evil.test")];
    let server = Settings::new()
        .server("trusted_proxies", r#"["10.0.0.1"]"#)
        .app("tls_only", true)
        .app("enabled", false)
        .start()
        .await;
    server.open("/app/nope?protocol=3").await.rejected(4007).await;
    server.open(&format!("/app/{KEY}?protocol=3")).await.rejected(4007).await;
    server.open(&format!("/app/{KEY}")).await.rejected(4000).await;
    let server =
        Settings::new().app("enabled", false).app("allowed_origins", origins).start().await;
    server.open_with(&format!("/app/{KEY}"), &foreign).await.rejected(4003).await;
    let settings = Settings::new().app("allowed_origins", origins).app("max_connections", 1);
    let server = settings.start().await;
    let _only = server.client().await;
    server.open_with(&format!("/app/{KEY}"), &foreign).await.rejected(4009).await;
    server.open(&format!("/app/{KEY}")).await.rejected(4004).await;
}

#[tokio::test]
async fn the_configured_prefix_applies_to_every_route() {
    let server = Settings::new().server("path", quoted("/ws")).start().await;
    let mut client = server.open(&format!("/ws/app/{KEY}?protocol=7")).await;
    client.established().await;
    let mut http = RawHttp::connect(server.address).await;
    http.write(upgrade_request(&format!("/app/{KEY}?protocol=7"), &[])).await;
    assert_eq!(http.reply().await.status, 404);
    let reply = Call::new("GET", "/ws/apps/3/channels", "").send(&server).await;
    assert_eq!(reply.status, 200, "{reply}");
}

fn timers() -> Settings {
    let settings = Settings::new().app("subscription_count", false);
    settings.connection("activity_timeout_s", 1).connection("pong_timeout_s", 3)
}

fn authorized_in_time() -> Settings {
    Settings::new().app("authorized_connections_timeout_s", 3)
}

/// Answers pings for longer than a connection without valid answers would stay open, and asserts that it is still open.
async fn stays_while_it_answers(mut client: Client, answer: impl Fn(&Frame) -> Option<Vec<u8>>) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let frame = client.frame().await.expect("the connection stays");
        assert!(frame.is_ping(), "{frame:?}");
        if let Some(answer) = answer(&frame) {
            client.bytes(answer).await;
        }
    }
    client.ping_barrier().await;
}

fn is_socket_id(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(left, right)| digits(left) && digits(right))
}
