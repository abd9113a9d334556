//! What a page watches and calls.

use serde_json::{Value, json};

use kit::{APP_ID, ConsolePage, ConsoleSession, Server};

use super::{PASSWORD, with_password};
use crate::Start as _;

async fn page(server: &Server) -> ConsolePage {
    ConsoleSession::log_in(server.address, None, PASSWORD).await.page().await
}

#[tokio::test]
async fn the_overview_has_totals_of_the_node() {
    let server = with_password().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let mut page = page(&server).await;
    let (watch, first) = page.watch("overview", json!({})).await;
    let node = &first["nodes"][0];
    assert_eq!(node["is_this"], true);
    let reply = server.get("channels", &[]).await;
    assert_eq!(node["node"].as_str(), reply.header("x-campanile-node"));
    assert_eq!((&node["connections"], &node["subscriptions"]), (&json!(1), &json!(1)));
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(first["apps"], json!([{"id": APP_ID, "connections": 1}]));
    assert_eq!(first["redis"], json!(null));
    assert_eq!(first["webhooks"], json!({"queued": 0, "failed": 0}));
    server.publish("a", "e", "1").await;
    client.expect_event("a", "e", "1").await;
    let more = |name: &str, data: &Value| {
        node[name].as_u64().unwrap() < data["nodes"][0][name].as_u64().unwrap()
    };
    page.data_where(watch, |data| {
        ["publishes", "messages_out", "bytes_out"].iter().all(|name| more(name, data))
            && data["latency_ms"]["p50"].is_f64()
    })
    .await;
    page.unwatch(watch).await;
}

#[tokio::test]
async fn channels_are_listed_with_their_counts_and_events() {
    let server = with_password().start().await;
    let mut client = server.client().await;
    client.subscribe("busy").await;
    client.subscribe("quiet").await;
    client.join("presence-room", "7").await;
    let mut page = page(&server).await;
    let (_, all) = page.watch("channels", json!({"app": APP_ID, "order": "name"})).await;
    assert_eq!(all["total"], 3);
    let channel = |name: &str, users: Value| json!({"channel": name, "subscriptions": 1, "users": users, "events": 0});
    assert_eq!(
        all["channels"],
        json!([
            channel("busy", json!(null)),
            channel("presence-room", json!(1)),
            channel("quiet", json!(null))
        ])
    );
    let params = json!({"app": APP_ID, "order": "events", "search": "u"});
    let (watch, found) = page.watch("channels", params).await;
    assert_eq!(found["total"], 2);
    server.publish("busy", "e", "1").await;
    let after = page.data_where(watch, |data| data["channels"][0]["events"] != 0).await;
    assert_eq!(after["channels"][0]["channel"], "busy");
    assert!(0 < after["interval_ms"].as_u64().unwrap());
}

#[tokio::test]
async fn an_event_is_published_within_the_limits_of_its_app() {
    let server = with_password().app("max_event_bytes", 10).start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let mut page = page(&server).await;
    let with = |channels: &[&str], data: &str, socket_id: Value| json!({"app": APP_ID, "channels": channels, "event": "e", "data": data, "socket_id": socket_id});
    let result = page.call("publish", with(&["a", "b"], "{\"x\":\"é\"", json!(null))).await;
    assert_eq!(result, json!({"subscribers": 1}));
    client.expect_event("a", "e", "{\"x\":\"é\"").await;
    page.call("publish", with(&["a"], "1", json!(client.socket_id))).await;
    for (channels, data) in [(&[][..], "1"), (&["a b"], "1"), (&["a"], "12345678901")] {
        page.try_call("publish", with(channels, data, json!(null))).await.unwrap_err();
    }
    client.ping_barrier().await;
}

#[tokio::test]
async fn requests_and_watches_of_a_page_are_bounded() {
    let server = with_password().start().await;
    let mut page = page(&server).await;
    for text in ["", "{}", r#"{"id":1,"watch":"overview","call":"publish"}"#] {
        let answer = page.garbage(text).await;
        assert!(answer["error"].is_string(), "{answer}");
    }
    let mut watches = Vec::new();
    for _ in 0..8 {
        watches.push(page.watch("overview", json!({})).await.0);
    }
    let error = page.try_watch("overview", json!({})).await.unwrap_err();
    assert_eq!(error, "a page may watch 8 things at once");
    page.unwatch(watches[0]).await;
    // A watch that is rejected is none.
    page.try_watch("channels", json!({"app": "none"})).await.unwrap_err();
    page.watch("overview", json!({})).await;
}
