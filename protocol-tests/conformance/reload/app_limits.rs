//! Limits and switches of an app: each is changed by a reload, and the running server applies it.

use serde_json::{Value, json};

use kit::{Call, Client, Frame, Http, KEY, Server, Settings, eventually, frames, quoted};

use crate::Start as _;
use crate::presence::member_with_info_of;

use super::event;

/// Reloads `after`; the log names these settings of the app and no others.
async fn reload(server: &Server, after: Settings, keys: &str) {
    let report = server.reload(&after).await;
    assert!(report.contains(&format!(r#"apps_changed="3 ({keys})""#)), "{report}");
}

#[tokio::test]
pub(super) async fn max_event_channels_applies_to_the_next_publish() {
    let (server, mut http) = with_kept_connection(Settings::new()).await;
    let call = Call::post("events", &json!({ "name": "e", "channels": ["a", "b"], "data": "1" }));
    assert_eq!(call.send_on(&mut http).await.status, 200);
    reload(&server, Settings::new().app("max_event_channels", 1), "max_event_channels").await;
    call.send_on(&mut http).await.error(400);
    reload(&server, Settings::new().app("max_event_channels", 2), "max_event_channels").await;
    assert_eq!(call.send_on(&mut http).await.status, 200);
}

#[tokio::test]
pub(super) async fn max_event_name_length_applies_to_the_next_publish() {
    let (server, mut http) = with_kept_connection(Settings::new()).await;
    let call = Call::post("events", &json!({ "name": "name", "channel": "a", "data": "1" }));
    assert_eq!(call.send_on(&mut http).await.status, 200);
    reload(&server, Settings::new().app("max_event_name_length", 3), "max_event_name_length").await;
    call.send_on(&mut http).await.error(400);
    reload(&server, Settings::new().app("max_event_name_length", 4), "max_event_name_length").await;
    assert_eq!(call.send_on(&mut http).await.status, 200);
}

#[tokio::test]
pub(super) async fn max_batch_events_applies_to_the_next_publish() {
    let (server, mut http) = with_kept_connection(Settings::new()).await;
    let call = Call::post("batch_events", &json!({ "batch": [event("a", "1"), event("b", "1")] }));
    assert_eq!(call.send_on(&mut http).await.status, 200);
    reload(&server, Settings::new().app("max_batch_events", 1), "max_batch_events").await;
    call.send_on(&mut http).await.error(400);
    reload(&server, Settings::new().app("max_batch_events", 2), "max_batch_events").await;
    assert_eq!(call.send_on(&mut http).await.status, 200);
}

#[tokio::test]
pub(super) async fn requests_per_second_applies_to_the_next_request() {
    let (server, mut http) = with_kept_connection(Settings::new()).await;
    let call = Call::get("channels");
    for _ in 0..5 {
        assert_eq!(call.send_on(&mut http).await.status, 200);
    }
    let limited = Settings::new().app("requests_per_second", 1);
    reload(&server, limited, "requests_per_second").await;
    // Requests on one connection are faster than one a second.
    eventually("a request is beyond the limit", async || {
        call.send_on(&mut http).await.status == 429
    })
    .await;
    reload(&server, Settings::new(), "requests_per_second").await;
    for _ in 0..20 {
        assert_eq!(call.send_on(&mut http).await.status, 200);
    }
}

#[tokio::test]
pub(super) async fn max_presence_members_applies_to_the_next_member() {
    let server = Settings::new().start().await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.join("presence-a", "1").await;
    reload(&server, Settings::new().app("max_presence_members", 1), "max_presence_members").await;
    second.send_subscribe_with("presence-a", r#"{"user_id":"2"}"#).await;
    second.rejection("presence-a").await;
    reload(&server, Settings::new().app("max_presence_members", 2), "max_presence_members").await;
    second.join("presence-a", "2").await;
}

#[tokio::test]
pub(super) async fn max_presence_user_info_bytes_applies_to_the_next_member() {
    const KEY: &str = "max_presence_user_info_bytes";
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    reload(&server, Settings::new().app(KEY, 50), KEY).await;
    client.join_with("presence-a", &member_with_info_of(50)).await;
    client.send_subscribe_with("presence-b", &member_with_info_of(51)).await;
    client.rejection("presence-b").await;
    reload(&server, Settings::new().app(KEY, 51), KEY).await;
    client.join_with("presence-b", &member_with_info_of(51)).await;
}

#[tokio::test]
pub(super) async fn client_events_per_second_applies_to_living_connections() {
    let unlimited = || Settings::new().app("client_events_per_second", 0);
    let server = unlimited().start().await;
    let (mut client, mut peer) = (server.client().await, server.client().await);
    for client in [&mut client, &mut peer] {
        client.subscribe("private-a").await;
    }
    let burst = frames::text(r#"{"event":"client-x","channel":"private-a","data":"1"}"#).repeat(20);
    client.bytes(&burst).await;
    for _ in 0..20 {
        peer.expect_event("private-a", "client-x", "1").await;
    }
    let limited = Settings::new().app("client_events_per_second", 1);
    reload(&server, limited, "client_events_per_second").await;
    client.bytes(&burst).await;
    assert_eq!(client.event_error().await.1, json!(4301));
    skip_to_pong(&mut client).await;
    skip_to_pong(&mut peer).await;
    reload(&server, unlimited(), "client_events_per_second").await;
    client.bytes(&burst).await;
    for _ in 0..20 {
        peer.expect_event("private-a", "client-x", "1").await;
    }
    client.ping_barrier().await;
}

#[tokio::test]
pub(super) async fn max_messages_applies_to_living_connections() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    ask_for_each(&mut client, &["a", "b", "c"]).await;
    for channel in ["a", "b", "c"] {
        client.subscribed(channel).await;
    }
    reload(&server, with_max_messages(2, 86_400), "max_messages, max_messages_window_s").await;
    assert_eq!(beyond_max_messages(&mut client).await, json!(4301));
    reload(&server, Settings::new(), "max_messages, max_messages_window_s").await;
    client.unsubscribe("a").await;
    client.subscribe("a").await;
}

#[tokio::test]
pub(super) async fn max_messages_window_s_applies_to_living_connections() {
    let server = with_max_messages(2, 86_400).start().await;
    let mut client = server.client().await;
    assert_eq!(beyond_max_messages(&mut client).await, json!(4301));
    reload(&server, with_max_messages(2, 1), "max_messages_window_s").await;
    let mut number = 0;
    eventually("a window of a second has passed", async || {
        number += 1;
        let channel = format!("channel-{number}");
        client.send_subscribe(&channel).await;
        // Of several dropped messages in a second, only the first is answered.
        skip_to_pong(&mut client)
            .await
            .iter()
            .any(|text| text.contains("subscription_succeeded") && text.contains(&channel))
    })
    .await;
}

#[tokio::test]
pub(super) async fn max_messages_closes_applies_to_living_connections() {
    let server = with_max_messages(2, 86_400).start().await;
    let mut client = server.client().await;
    assert_eq!(beyond_max_messages(&mut client).await, json!(4301));
    let closing = with_max_messages(2, 86_400).app("max_messages_closes", true);
    reload(&server, closing, "max_messages_closes").await;
    client.send_subscribe("c").await;
    client.rejected(4100).await;
}

#[tokio::test]
pub(super) async fn tls_only_applies_to_connections_that_begin() {
    // Without TLS in the server itself, the setting needs a proxy.
    let proxied = || Settings::new().server("trusted_proxies", r#"["192.0.2.1"]"#);
    let server = proxied().start().await;
    let mut client = server.client().await;
    reload(&server, proxied().app("tls_only", true), "tls_only").await;
    server.open(&format!("/app/{KEY}")).await.rejected(4000).await;
    client.ping_barrier().await;
    reload(&server, proxied(), "tls_only").await;
    server.client().await.ping_barrier().await;
}

#[tokio::test]
pub(super) async fn authorized_connections_timeout_s_applies_to_connections_that_begin() {
    const KEY: &str = "authorized_connections_timeout_s";
    let server = Settings::new().start().await;
    let mut before = server.client().await;
    reload(&server, Settings::new().app(KEY, 1), KEY).await;
    let mut limited = server.client().await;
    reload(&server, Settings::new(), KEY).await;
    let mut after = server.client().await;
    limited.rejected(4009).await;
    before.ping_barrier().await;
    after.ping_barrier().await;
}

#[tokio::test]
pub(super) async fn cache_ttl_s_applies_to_the_next_event() {
    let server = Settings::new().start().await;
    let ttl = async || {
        server.publish("cache-a", "e", "1").await;
        server.channel("cache-a", "cache").await["cache"]["ttl"].as_u64().expect("a number")
    };
    let is_within = |ttl: u64, max: u64| max - 60 < ttl && ttl <= max;
    assert!(is_within(ttl().await, 1_800));
    reload(&server, Settings::new().app("cache_ttl_s", 100), "cache_ttl_s").await;
    assert!(is_within(ttl().await, 100));
    reload(&server, Settings::new().app("cache_ttl_s", 9_000), "cache_ttl_s").await;
    assert!(is_within(ttl().await, 9_000));
}

#[tokio::test]
pub(super) async fn max_cache_bytes_applies_at_once_and_to_the_next_event() {
    let server = Settings::new().start().await;
    let data = "x".repeat(3_000);
    let is_cached =
        async |channel: &str| !server.channel(channel, "cache").await["cache"].is_null();
    for channel in ["cache-a", "cache-b"] {
        server.publish(channel, "e", &data).await;
        assert!(is_cached(channel).await);
    }
    reload(&server, Settings::new().app("max_cache_bytes", 5_000), "max_cache_bytes").await;
    eventually("the older event is evicted", async || !is_cached("cache-a").await).await;
    assert!(is_cached("cache-b").await);
    server.publish("cache-a", "e", &data).await;
    eventually("the other is the older now", async || !is_cached("cache-b").await).await;
    reload(&server, Settings::new(), "max_cache_bytes").await;
    server.publish("cache-b", "e", &data).await;
    assert!(is_cached("cache-a").await && is_cached("cache-b").await);
}

async fn with_kept_connection(settings: Settings) -> (Server, Http) {
    let server = settings.start().await;
    let http = Http::connect(server.address).await;
    (server, http)
}

fn with_max_messages(max: u32, window_s: u32) -> Settings {
    Settings::new().app("max_messages", max).app("max_messages_window_s", window_s)
}

async fn ask_for_each(client: &mut Client, channels: &[&str]) {
    let text = |channel| json!({ "event": "pusher:subscribe", "data": { "channel": channel } });
    let all: Vec<_> =
        channels.iter().map(|channel| frames::text(text(channel).to_string())).collect();
    client.bytes(all.concat()).await;
}

/// Sends more messages than a limit of two allows; returns the code of the first error.
async fn beyond_max_messages(client: &mut Client) -> Value {
    ask_for_each(client, &["x", "y", "z"]).await;
    let mut seen = 0;
    loop {
        let message = client.next().await;
        if message["event"] == "pusher:error" {
            break message["data"]["code"].clone();
        }
        seen += 1;
        assert!(seen < 3, "no message was dropped: {message}");
    }
}

/// Reads until everything that was sent before is answered. Returns the messages before the pong.
async fn skip_to_pong(client: &mut Client) -> Vec<String> {
    client.text(r#"{"event":"pusher:ping"}"#).await;
    let mut skipped = Vec::new();
    loop {
        match client.frame().await {
            Some(Frame::Text(text)) if text.contains("pusher:pong") => return skipped,
            Some(Frame::Text(text)) => skipped.push(text),
            Some(Frame::Ping(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn with_metrics() -> Settings {
    Settings::new().section("metrics", "token", quoted("t"))
}

/// The history of the channels `a…`, as one line of the app.
fn with_history(settings: &str) -> Settings {
    with_metrics().app("history", format!("[{{ prefix = \"a\", {settings} }}]"))
}

#[tokio::test]
pub(super) async fn history_applies_at_once_to_what_is_kept_and_to_new_subscriptions() {
    let server = with_metrics().start_node().await;
    let replayed = async |expected: &[&str]| {
        let mut client = server.client().await;
        client.subscribe("a").await;
        for data in expected {
            client.expect_event("a", "e", data).await;
        }
        client.ping_barrier().await;
    };
    server.publish("a", "e", "1").await;
    reload(&server, with_history(r#"replay = "first""#), "history").await;
    replayed(&[]).await;
    for data in ["2", "3", "4"] {
        server.publish("a", "e", data).await;
    }
    replayed(&["2", "3", "4"]).await;
    reload(&server, with_history(r#"replay = "first", events = 2"#), "history").await;
    replayed(&["3", "4"]).await;
    reload(&server, with_history(r#"replay = "never", events = 2"#), "history").await;
    replayed(&[]).await;
    let short = r#"replay = "first", events = 2, seconds = 1"#;
    reload(&server, with_history(short), "history").await;
    let bytes = async || {
        let page = server.metrics_page().await;
        let gauge =
            page.lines().find_map(|line| line.strip_prefix(r#"campanile_log_bytes{app="3"} "#));
        gauge.expect("a gauge").parse::<u64>().expect("a number")
    };
    eventually("the events are too old", async || bytes().await == 0).await;
    replayed(&[]).await;
    server.publish("a", "e", "5").await;
    let other = with_metrics().app("history", r#"[{ prefix = "b", replay = "first" }]"#);
    reload(&server, other, "history").await;
    replayed(&[]).await;
}
