//! Every limit of a connection and of an app, at its maximum and one beyond.

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::framing::all_are_closed;
use kit::{Client, KEY, Server, Settings, frames};

use crate::Start as _;
use crate::presence::member_with_info_of;

const TARGET: &str = "/app/278d425bdf160c739803?protocol=7";

#[tokio::test]
async fn max_connections_of_the_node_is_4100_and_released() {
    let server = Settings::new().server("max_connections", 2).start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    server.open(TARGET).await.rejected(4100).await;
    server.open(TARGET).await.rejected(4100).await;
    a.ping_barrier().await;
    drop(a);
    server.wait_for_connections(1).await;
    server.client().await.ping_barrier().await;
    b.ping_barrier().await;
}

#[tokio::test]
async fn rejections_and_failed_handshakes_take_no_permit() {
    let server =
        Settings::new().server("max_connections", 2).app("max_connections", 1).start().await;
    for _ in 0..5 {
        server.open("/app/nope").await.rejected(4001).await;
        drop(server.open("/app/nope").await);
        drop(server.open(TARGET).await);
        server.wait_for_connections(0).await;
    }
    let _first = server.client().await;
    for _ in 0..5 {
        server.open(TARGET).await.rejected(4004).await;
    }
    assert_eq!(server.connections().await, 1);
}

#[tokio::test]
async fn max_connections_of_an_app_is_4004_and_does_not_affect_other_apps() {
    let settings =
        Settings::new().app("max_connections", 2).add_app("4", "key-of-4", "secret-of-4");
    let server = settings.start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    server.open(TARGET).await.rejected(4004).await;
    server.open("/app/key-of-4").await.established().await;
    a.ping_barrier().await;
    b.ping_barrier().await;
}

#[tokio::test]
async fn max_connections_per_ip_counts_addresses_separately() {
    let server = Settings::new().connection("max_connections_per_ip", 1).start().await;
    let mut a = connect_from(&server, "127.0.0.1:0").await;
    a.established().await;
    connect_from(&server, "127.0.0.1:0").await.rejected(4100).await;
    connect_from(&server, "127.0.0.2:0").await.established().await;
    a.ping_barrier().await;
    drop(a);
    server.wait_for_connections(0).await;
    connect_from(&server, "127.0.0.1:0").await.established().await;
}

#[tokio::test]
async fn max_connections_per_ip_ignores_headers_of_unlisted_proxies() {
    for proxies in ["[]", r#"["10.0.0.0/8"]"#] {
        let settings = Settings::new()
            .connection("max_connections_per_ip", 1)
            .server("trusted_proxies", proxies);
        let server = settings.start().await;
        let mut first = forwarded(&server, "10.0.0.1").await;
        first.established().await;
        forwarded(&server, "10.0.0.2").await.rejected(4100).await;
        first.ping_barrier().await;
    }
}

#[tokio::test]
async fn max_connections_per_ip_trusts_only_the_entry_of_a_listed_proxy() {
    let server = Settings::new()
        .connection("max_connections_per_ip", 1)
        .server("trusted_proxies", r#"["127.0.0.0/8", "192.0.2.1/32"]"#)
        .start()
        .await;
    let mut first = forwarded(&server, "10.0.0.1").await;
    first.established().await;
    let mut second = forwarded(&server, "10.0.0.2").await;
    second.established().await;
    forwarded(&server, "10.0.0.1").await.rejected(4100).await;
    // Everything before the address that the proxy appended was written by the client.
    forwarded(&server, "203.0.113.9, 10.0.0.1").await.rejected(4100).await;
    // Two proxies, both listed.
    forwarded(&server, "10.0.0.1, 192.0.2.1").await.rejected(4100).await;
    forwarded(&server, "2001:db8::1").await.established().await;
    first.ping_barrier().await;
    second.ping_barrier().await;
}

#[tokio::test]
async fn max_message_bytes_counts_a_frame() {
    let server = small_messages().start().await;
    let mut client = server.client().await;
    client.text(ping_of(1_024)).await;
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    client.text(ping_of(1_025)).await;
    assert_eq!(client.closed_eventually().await.0, 1009);
}

#[tokio::test]
async fn max_message_bytes_counts_the_fragments_of_a_message_together() {
    let server = small_messages().start().await;
    let mut client = server.client().await;
    for part in fragments(&ping_of(1_024)) {
        client.bytes(part).await;
    }
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    for part in fragments(&ping_of(1_025)) {
        client.try_bytes(part).await;
    }
    assert_eq!(client.closed_eventually().await.0, 1009);
}

#[tokio::test]
async fn max_message_bytes_rejects_an_announced_length() {
    let server = small_messages().start().await;
    let lengths = [1_025, 1 << 20, 1 << 40, (1 << 62) + 1];
    let firsts = [frames::FIN | frames::TEXT, frames::TEXT, frames::FIN | frames::BINARY];
    for first in firsts {
        let cases = lengths.map(|length| ("only announced", frames::announced(first, length)));
        all_are_closed(&server, cases.into(), &[1009]).await;
    }
}

#[tokio::test]
async fn max_channels_counts_current_subscriptions() {
    let server = Settings::new().connection("max_channels", 2).start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    client.send_subscribe("c").await;
    client.rejection("c").await;
    client.unsubscribe("a").await;
    client.subscribe("c").await;
    client.ping_barrier().await;
    server.publish("b", "e", "1").await;
    client.expect_event("b", "e", "1").await;
}

#[tokio::test]
async fn max_event_bytes_counts_the_bytes_of_data() {
    let server = Settings::new().app("max_event_bytes", 100).start().await;
    let mut client = server.client().await;
    client.subscribe("private-a").await;
    server.publish("private-a", "e", &"é".repeat(50)).await;
    client.expect_event("private-a", "e", &"é".repeat(50)).await;
    let event =
        json!({ "name": "e", "channel": "private-a", "data": format!("{}x", "é".repeat(50)) });
    let sentence = server.post("events", &event).await.error(413);
    assert!(sentence.contains("100 bytes"), "{sentence}");
    server.assert_no_other_events("private-a", &mut [&mut client]).await;
}

#[tokio::test]
async fn max_event_channels_counts_the_channels_of_an_event() {
    let server = Settings::new().app("max_event_channels", 2).start().await;
    server.publish_event(json!({ "name": "e", "channels": ["a", "b"], "data": "1" })).await;
    let event = json!({ "name": "e", "channels": ["a", "b", "c"], "data": "1" });
    server.post("events", &event).await.error(400);
}

#[tokio::test]
async fn max_event_name_length_applies_to_publishers_and_clients() {
    let server = Settings::new().app("max_event_name_length", 10).start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.subscribe("private-r").await;
    b.subscribe("private-r").await;
    server.publish("private-r", &"n".repeat(10), "1").await;
    for client in [&mut a, &mut b] {
        client.expect_event("private-r", &"n".repeat(10), "1").await;
    }
    let event = json!({ "name": "n".repeat(11), "channel": "private-r", "data": "1" });
    let sentence = server.post("events", &event).await.error(400);
    assert!(sentence.contains("name") && sentence.contains("10"), "{sentence}");
    a.whisper("client-xyz", "private-r", json!("1")).await;
    b.expect_event("private-r", "client-xyz", "1").await;
    a.whisper("client-wxyz", "private-r", json!("1")).await;
    let (channel, code, _) = a.event_error().await;
    assert_eq!((channel, code), (json!("private-r"), Value::Null));
    server.assert_no_other_events("private-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn max_batch_events_counts_the_events_of_a_batch() {
    let server = Settings::new().app("max_batch_events", 2).start().await;
    let event = json!({ "name": "e", "channel": "a", "data": "1" });
    assert_eq!(server.post("batch_events", &json!({ "batch": [event, event] })).await.status, 200);
    server.post("batch_events", &json!({ "batch": [event, event, event] })).await.error(400);
}

#[tokio::test]
async fn max_channel_name_length_applies_to_publishers_and_clients() {
    let server = Settings::new().app("max_channel_name_length", 10).start().await;
    let mut client = server.client().await;
    let (longest, longer) = ("c".repeat(10), "c".repeat(11));
    client.subscribe(&longest).await;
    client.send_subscribe(&longer).await;
    client.rejection(&longer).await;
    server.publish(&longest, "e", "1").await;
    client.expect_event(&longest, "e", "1").await;
    server.post("events", &json!({ "name": "e", "channel": longer, "data": "1" })).await.error(400);
    client.ping_barrier().await;
}

#[tokio::test]
async fn max_presence_members_of_one_is_a_channel_for_one() {
    let server = Settings::new().app("max_presence_members", 1).start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join("presence-r", "1").await;
    b.send_subscribe_with("presence-r", r#"{"user_id":"2"}"#).await;
    b.rejection("presence-r").await;
    server.assert_no_other_events("presence-r", &mut [&mut a]).await;
    b.join("presence-r", "1").await;
}

#[tokio::test]
async fn max_presence_user_info_bytes_counts_the_json_of_the_information() {
    for limit in [1_024, 50] {
        let server = Settings::new().app("max_presence_user_info_bytes", limit).start().await;
        let (mut a, mut b) = (server.client().await, server.client().await);
        a.join_with("presence-r", &member_with_info_of(limit)).await;
        b.send_subscribe_with("presence-r", &member_with_info_of(limit + 1)).await;
        b.rejection("presence-r").await;
        server.assert_no_other_events("presence-r", &mut [&mut a]).await;
    }
}

#[tokio::test]
async fn max_presence_user_info_bytes_applies_to_signed_in_members() {
    let server = Settings::new().app("max_presence_user_info_bytes", 50).start().await;
    for bytes in [50, 51] {
        let mut client = server.client().await;
        // The rest of the JSON has eight bytes.
        let info = json!({ "n": "x".repeat(bytes - 8) });
        client.sign_in(&json!({ "id": "1", "user_info": info }).to_string()).await;
        let auth = client.auth("presence-r", None);
        client.command("pusher:subscribe", json!({ "channel": "presence-r", "auth": auth })).await;
        if bytes == 50 {
            assert_eq!(client.joined("presence-r").await["hash"]["1"], info);
        } else {
            client.rejection("presence-r").await;
        }
        client.ping_barrier().await;
    }
}

#[tokio::test]
async fn client_events_per_second_counts_for_each_connection() {
    let server = Settings::new().app("client_events_per_second", 3).start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.subscribe("private-r").await;
    b.subscribe("private-r").await;
    let event = frames::text(r#"{"event":"client-x","channel":"private-r","data":"1"}"#);
    a.bytes(event.repeat(4)).await;
    for _ in 0..3 {
        b.expect_event("private-r", "client-x", "1").await;
    }
    let (channel, code, _) = a.event_error().await;
    assert_eq!((channel, code), (json!("private-r"), json!(4301)));
    b.bytes(event.repeat(3)).await;
    for _ in 0..3 {
        a.expect_event("private-r", "client-x", "1").await;
    }
    server.assert_no_other_events("private-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn allowed_origins_are_patterns_of_the_host() {
    let patterns = r#"["example.com", "*.example.org", "127.0.0.1"]"#;
    let server = Settings::new().app("allowed_origins", patterns).start().await;
    let allowed = [
        "https://example.com",
        "http://example.com:8443",
        "https://EXAMPLE.com",
        "https://a.example.org",
        "http://127.0.0.1:3000",
    ];
    for origin in allowed {
        server.open_with(TARGET, &[("Origin", origin)]).await.established().await;
    }
    let foreign = [
        "https://evil.test",
        "https://example.com.evil.test",
        "https://notexample.com",
        "https://a.example.com",
        "https://notexample.org",
        "https://evil.test/example.com",
        "https://evil.test#.example.org",
        "https://example.com@evil.test",
        "null",
        "example",
    ];
    for origin in foreign {
        server.open_with(TARGET, &[("Origin", origin)]).await.rejected(4009).await;
    }
    server.client().await.ping_barrier().await;
}

async fn connect_from(server: &Server, address: &str) -> Client {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket
        .bind(address.parse().expect("the test writes an address"))
        .expect("loopback has many addresses");
    server.open_on(socket).await
}

async fn forwarded(server: &Server, addresses: &str) -> Client {
    server.open_with(&format!("/app/{KEY}"), &[("X-Forwarded-For", addresses)]).await
}

fn small_messages() -> Settings {
    Settings::new().connection("max_message_bytes", 1_024)
}

/// A ping with trailing white space up to this many bytes.
fn ping_of(bytes: usize) -> String {
    format!("{:bytes$}", r#"{"event":"pusher:ping"}"#)
}

/// A message in three frames.
fn fragments(text: &str) -> [Vec<u8>; 3] {
    let (one, rest) = text.as_bytes().split_at(400);
    let (two, three) = rest.split_at(400);
    [
        frames::masked(frames::TEXT, one),
        frames::masked(frames::CONTINUATION, two),
        frames::masked(frames::FIN | frames::CONTINUATION, three),
    ]
}
