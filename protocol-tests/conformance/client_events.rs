//! Cases of `docs/protocol.md#cases-client-events`.

use std::time::Duration;

use serde_json::{Value, json};

use kit::{Client, Server, Settings, frames, quoted};

use crate::Start as _;

#[tokio::test]
async fn e01_a_client_event_reaches_the_others_and_not_its_sender() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    a.text(r#"{"event":"client-x","channel":"private-r","data":{"a":1}}"#).await;
    b.expect_event("private-r", "client-x", r#"{"a":1}"#).await;
    server.assert_no_other_events("private-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn e01_data_of_any_kind_becomes_a_string() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    for data in ["7", "-1.5", "true", "[1,\"é\"]", r#"{"z":{"a":null}}"#] {
        a.text(format!(r#"{{"event":"client-x","channel":"private-r","data":{data}}}"#)).await;
        b.expect_event("private-r", "client-x", data).await;
    }
}

/// A lone surrogate in each place where a client can send one. Other clients receive U+FFFD, in JSON for every parser.
#[tokio::test]
async fn a_lone_surrogate_reaches_no_other_client() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    for (name, data, received) in [
        ("client-x", r#""\ud800""#, "\u{fffd}"),
        ("client-x", r#""\uDFFF\ud83d\ude00\ud83d""#, "\u{fffd}😀\u{fffd}"),
        ("client-x", r#"{"\ud800":[{"b":"\udc00 "}]}"#, "{\"\u{fffd}\":[{\"b\":\"\u{fffd} \"}]}"),
        ("client-x", r#"["\ud83d\ude00", "\u0430\/"]"#, r#"["😀","а/"]"#),
        (r"client-\ud800", "1", "1"),
        // The content of a string is not parsed, and is delivered as sent.
        ("client-x", r#""{\"a\":\"\\ud800\"}""#, r#"{"a":"\ud800"}"#),
        ("client-x", r#""\u0000\uffff""#, "\u{0}\u{ffff}"),
    ] {
        let extra = r#""\ud800":"\udc00""#;
        a.text(format!(r#"{{"event":"{name}","channel":"private-r","data":{data},{extra}}}"#))
            .await;
        let name = name.replace(r"\ud800", "\u{fffd}");
        b.expect_event("private-r", &name, received).await;
    }
    server.assert_no_other_events("private-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn e02_on_a_presence_channel_it_carries_its_senders_id() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_presence(&server, "presence-r").await;
    a.whisper("client-x", "presence-r", json!({ "a": 1 })).await;
    b.expect(from_user_1("presence-r")).await;
    server.assert_no_other_events("presence-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn e02_on_a_private_channel_even_a_signed_in_sender_has_no_id() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    a.sign_in(r#"{"id":"1"}"#).await;
    a.whisper("client-x", "private-r", json!({})).await;
    b.expect_event("private-r", "client-x", "{}").await;
}

#[tokio::test]
async fn e03_a_forged_id_is_replaced() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_presence(&server, "presence-r").await;
    a.text(r#"{"event":"client-x","channel":"presence-r","data":{"a":1},"user_id":"9"}"#).await;
    b.expect(from_user_1("presence-r")).await;
}

#[tokio::test]
async fn e04_a_string_stays_the_identical_string() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    for data in [r#"{"a":1}"#, "", "not json", "{ \"a\" : 1.0, \"a\":2 }", "\u{0}\u{1f600}\\/"] {
        a.whisper("client-x", "private-r", json!(data)).await;
        b.expect_event("private-r", "client-x", data).await;
    }
}

#[tokio::test]
async fn e05_missing_data_becomes_null() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    for message in [
        r#"{"event":"client-x","channel":"private-r"}"#,
        r#"{"event":"client-x","channel":"private-r","data":null}"#,
    ] {
        a.text(message).await;
        b.expect(json!({ "event": "client-x", "channel": "private-r", "data": null })).await;
    }
}

#[tokio::test]
async fn e06_public_channels_take_no_client_events() {
    let server = Settings::new().start().await;
    for channel in ["my-channel", "cache-x"] {
        let (mut a, mut b) = (server.client().await, server.client().await);
        server.publish(channel, "e", "1").await;
        for client in [&mut a, &mut b] {
            client.subscribe(channel).await;
            if channel == "cache-x" {
                client.expect_event(channel, "e", "1").await;
            }
        }
        a.whisper("client-x", channel, json!({})).await;
        let (rejected, code, _) = a.event_error().await;
        assert_eq!((rejected, code), (json!(channel), Value::Null));
        server.assert_no_other_events(channel, &mut [&mut a, &mut b]).await;
    }
}

#[tokio::test]
async fn e07_only_subscribers_may_send_client_events() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    b.subscribe("private-r").await;
    a.whisper("client-x", "private-r", json!({})).await;
    let (channel, code, message) = a.event_error().await;
    assert_eq!((channel, code), (json!("private-r"), Value::Null));
    assert!(message.contains("private-r"), "{message}");
    a.subscribe("private-r").await;
    a.unsubscribe("private-r").await;
    a.whisper("client-x", "private-r", json!({})).await;
    a.event_error().await;
    server.assert_no_other_events("private-r", &mut [&mut b]).await;
}

#[tokio::test]
async fn e08_only_names_that_begin_with_client_are_relayed() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    let names = [
        "foo",
        "pusher:x",
        "pusher:error",
        "pusher:connection_established",
        "pusher_internal:member_added",
        "pusher_internal:subscription_succeeded",
        "xclient-y",
        "Client-x",
        "client_x",
        "client",
        "",
    ];
    for name in names {
        a.whisper(name, "private-r", json!({})).await;
        // `pusher:` events are ignored, since newer clients may probe for newer servers with them.
        if !name.starts_with("pusher:") {
            let (channel, code, message) = a.event_error().await;
            assert_eq!((channel, code), (json!("private-r"), Value::Null));
            assert!(message.starts_with(&format!("Unknown event '{name}'")), "{message}");
        }
    }
    server.assert_no_other_events("private-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn each_unknown_event_is_one_error_and_never_closes() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for _ in 0..150 {
        client.text(r#"{"event":"hello"}"#).await;
        let (code, message) = client.error().await;
        assert_eq!(code, Value::Null);
        assert!(message.contains("'hello'") && message.contains("client-"), "{message}");
        client.ping_barrier().await;
    }
    let long = "n".repeat(60_000);
    client.send(json!({ "event": long, "channel": 7 })).await;
    let (code, message) = client.error().await;
    assert_eq!(code, Value::Null);
    assert!(message.len() < 400, "{message}");
}

#[tokio::test]
async fn e09_an_app_without_client_events_relays_none() {
    let server = Settings::new().app("client_events", quoted("none")).start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    a.whisper("client-x", "private-r", json!({})).await;
    let (channel, code, message) = a.event_error().await;
    assert_eq!((channel, code), (json!("private-r"), Value::Null));
    assert!(
        message.starts_with("To send client events, you must enable this feature"),
        "{message}"
    );
    server.assert_no_other_events("private-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn e10_of_fifteen_at_once_ten_are_relayed_and_five_rejected_4301() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    let event = |number| {
        frames::text(format!(r#"{{"event":"client-x","channel":"private-r","data":"{number}"}}"#))
    };
    a.bytes((0..15).flat_map(event).collect::<Vec<u8>>()).await;
    for number in 0..10 {
        b.expect_event("private-r", "client-x", &number.to_string()).await;
    }
    for _ in 0..5 {
        let (channel, code, _) = a.event_error().await;
        assert_eq!((channel, code), (json!("private-r"), json!(4301)));
    }
    a.ping_barrier().await;
    server.assert_no_other_events("private-r", &mut [&mut a, &mut b]).await;
    // The limit is per second, so the test waits a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    a.bytes((0..10).flat_map(event).collect::<Vec<u8>>()).await;
    for number in 0..10 {
        b.expect_event("private-r", "client-x", &number.to_string()).await;
    }
    a.ping_barrier().await;
}

#[tokio::test]
async fn e10_pings_and_subscriptions_are_not_counted() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    a.bytes(frames::text(r#"{"event":"pusher:ping"}"#).repeat(50)).await;
    for _ in 0..50 {
        a.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    }
    for number in 0..20 {
        a.subscribe(&format!("c{number}")).await;
    }
    let event = frames::text(r#"{"event":"client-x","channel":"private-r","data":"1"}"#);
    a.bytes(event.repeat(10)).await;
    for _ in 0..10 {
        b.expect_event("private-r", "client-x", "1").await;
    }
    a.ping_barrier().await;
}

#[tokio::test]
async fn e11_data_of_10240_bytes_is_relayed_and_one_more_is_not() {
    let server = Settings::new().app("max_event_bytes", 10_240).start().await;
    let (mut a, mut b) = two_on_private(&server).await;
    let text = format!("{}é", "x".repeat(10_238));
    a.whisper("client-x", "private-r", json!(text)).await;
    b.expect_event("private-r", "client-x", &text).await;
    a.whisper("client-x", "private-r", json!(format!("{text}x"))).await;
    let (channel, code, _) = a.event_error().await;
    assert_eq!((channel, code), (json!("private-r"), Value::Null));
    let list = format!("[\"{}\"]", "x".repeat(10_236));
    a.text(format!(r#"{{"event":"client-x","channel":"private-r","data":{list}}}"#)).await;
    b.expect_event("private-r", "client-x", &list).await;
    a.text(format!(
        r#"{{"event":"client-x","channel":"private-r","data":["{}"]}}"#,
        "x".repeat(10_237)
    ))
    .await;
    a.event_error().await;
    server.assert_no_other_events("private-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn e12_the_senders_other_connection_receives_it() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join("presence-r", "1").await;
    b.join("presence-r", "1").await;
    a.whisper("client-x", "presence-r", json!({ "a": 1 })).await;
    b.expect(from_user_1("presence-r")).await;
    server.assert_no_other_events("presence-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn e14_on_a_presence_cache_channel_it_is_relayed_and_not_cached() {
    let server = Settings::new().start().await;
    let channel = "presence-cache-r";
    let (mut a, mut b, mut late) =
        (server.client().await, server.client().await, server.client().await);
    for (client, id) in [(&mut a, "1"), (&mut b, "2")] {
        client.join(channel, id).await;
        client.expect_event(channel, "pusher:cache_miss", "{}").await;
    }
    a.expect_member_added(channel, "2", json!({ "n": "2" })).await;
    a.whisper("client-x", channel, json!({ "a": 1 })).await;
    b.expect(from_user_1(channel)).await;
    late.join(channel, "3").await;
    late.expect_event(channel, "pusher:cache_miss", "{}").await;
    late.ping_barrier().await;
}

#[tokio::test]
async fn a_client_event_on_an_encrypted_channel_is_relayed_unchanged() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.subscribe("private-encrypted-x").await;
    b.subscribe("private-encrypted-x").await;
    a.whisper("client-x", "private-encrypted-x", json!("opaque\\/")).await;
    b.expect_event("private-encrypted-x", "client-x", "opaque\\/").await;
}

#[tokio::test]
async fn a_client_event_without_a_channel_is_an_error() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for message in
        [r#"{"event":"client-x","data":{}}"#, r#"{"event":"client-x","channel":7,"data":{}}"#]
    {
        client.text(message).await;
        assert_eq!(client.error().await.0, Value::Null);
    }
    client.ping_barrier().await;
}

async fn two_on_private(server: &Server) -> (Client, Client) {
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.subscribe("private-r").await;
    b.subscribe("private-r").await;
    (a, b)
}

/// Users "1" and "2" in a channel; the join events are read.
async fn two_on_presence(server: &Server, channel: &str) -> (Client, Client) {
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(channel, "1").await;
    b.join(channel, "2").await;
    a.expect_member_added(channel, "2", json!({ "n": "2" })).await;
    (a, b)
}

fn from_user_1(channel: &str) -> Value {
    json!({ "event": "client-x", "channel": channel, "data": "{\"a\":1}", "user_id": "1" })
}
