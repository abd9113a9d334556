//! What a page watches and calls.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use kit::{APP_ID, ConsolePage, ConsoleSession, ORIGIN, Server, within};

use super::{PASSWORD, page, with_password};
use crate::Start as _;

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
    let (first, all) = page.watch("channels", json!({"app": APP_ID, "order": "name"})).await;
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
    let error = page.try_watch("channels", params.clone()).await.unwrap_err();
    assert_eq!(error, "a page may watch the channels of one app at once");
    page.unwatch(first).await;
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
async fn events_of_the_console_count_as_requests_of_the_app() {
    let server = with_password().app("requests_per_second", 2).start().await;
    let mut page = page(&server).await;
    let event = json!({"app": APP_ID, "channels": ["a"], "event": "e", "data": "1"});
    let mut results = Vec::new();
    for _ in 0..10 {
        results.push(page.try_call("publish", event.clone()).await);
    }
    let exceeded = Err("requests_per_second of the app is exceeded".to_owned());
    assert!(results[0].is_ok() && results.contains(&exceeded), "{results:?}");
}

/// A suspended machine or a lost network must not keep the place of a page.
#[tokio::test]
async fn a_page_that_answers_no_ping_is_closed() {
    let server = with_password().start().await;
    let session = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    let (reply, silent) = session.handshake(ORIGIN, &session.csrf).await;
    assert_eq!(reply.status, 101);
    let (mut stream, mut pings) = silent.into_parts();
    let read = stream.read_to_end(&mut pings);
    within("the page to be closed", read).await.expect("the server closes the connection");
    assert!(pings.starts_with(&[0x89, 0]), "{pings:?}");
}

#[tokio::test]
async fn more_requests_than_a_person_makes_are_rejected() {
    let server = with_password().start().await;
    let mut page = page(&server).await;
    let mut errors = Vec::new();
    for _ in 0..60 {
        errors.extend(page.try_call("configuration", json!({})).await.err());
    }
    assert!(errors.iter().any(|error| error == "too many requests: try again"), "{errors:?}");
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

/// A page that watches a channel of the test app; the watch, and the channel's state.
async fn watching(server: &Server, channel: &str) -> (ConsolePage, u64, Value) {
    let mut page = page(server).await;
    let params = json!({"app": APP_ID, "channel": channel});
    let (watch, state) = page.watch("channel", params).await;
    (page, watch, state)
}

fn is_event(data: &Value) -> bool {
    data["type"] == "event"
}

#[tokio::test]
async fn events_of_a_watched_channel_arrive_without_their_data() {
    let server = with_password().start().await;
    let (mut page, watch, state) = watching(&server, "private-a").await;
    let vacant = json!({
        "channel": "private-a", "occupied": false, "subscriptions": 0, "users": null, "user_count": null, "cached": false
    });
    assert_eq!(state, vacant);
    server.publish("private-a", "e", "secret text").await;
    let event = page.data_where(watch, is_event).await;
    assert_eq!((&event["event"], &event["from"]), (&json!("e"), &json!("server")));
    assert_eq!((&event["data"], &event["bytes"]), (&json!(null), &json!(11)));
    assert!(!event.to_string().contains("secret text"), "{event}");
    let mut client = server.client().await;
    client.subscribe("private-a").await;
    let state = page.data_where(watch, |data| data["type"] == "state").await;
    assert_eq!((&state["occupied"], &state["subscriptions"]), (&json!(true), &json!(1)));
    client.whisper("client-x", "private-a", json!({"a": 1})).await;
    let event = page.data_where(watch, is_event).await;
    assert_eq!((&event["event"], &event["from"]), (&json!("client-x"), &json!("client")));
    assert_eq!((&event["socket_id"], &event["data"]), (&json!(client.socket_id), &json!(null)));
    server.publish("other", "e", "1").await;
    server.publish("private-a", "last", "1").await;
    let event = page.data_where(watch, is_event).await;
    assert_eq!(event["event"], "last", "events of other channels are not sent");
}

#[tokio::test]
async fn an_app_may_allow_that_payloads_are_shown() {
    let server = with_password().app("console_payloads", true).start().await;
    let mut client = server.client().await;
    client.join_with("presence-a", r#"{"user_id":"7","user_info":{"name":"Ada"}}"#).await;
    let (mut page, watch, state) = watching(&server, "presence-a").await;
    assert_eq!(state["users"], json!([{"id": "7", "info": {"name": "Ada"}}]));
    server.publish("presence-a", "e", "{\"x\":1}").await;
    let event = page.data_where(watch, is_event).await;
    assert_eq!(event["data"], "{\"x\":1}");
}

#[tokio::test]
async fn members_of_a_watched_channel_come_and_go() {
    let server = with_password().start().await;
    let (mut page, watch, state) = watching(&server, "presence-room").await;
    assert_eq!((&state["users"], &state["user_count"]), (&json!([]), &json!(0)));
    let mut client = server.client().await;
    client.join_with("presence-room", r#"{"user_id":"7","user_info":{"name":"Ada"}}"#).await;
    let is_change = |data: &Value| data["type"] == "members";
    let joined = page.data_where(watch, is_change).await;
    let members = json!([{"id": "7", "info": null}]);
    assert_eq!(joined, json!({"type": "members", "added": members, "removed": []}));
    client.unsubscribe("presence-room").await;
    let left = page.data_where(watch, is_change).await;
    assert_eq!(left, json!({"type": "members", "added": [], "removed": ["7"]}));
}

#[tokio::test]
async fn events_above_fifty_a_second_are_sampled() {
    let server = with_password().start().await;
    let (mut page, watch, _) = watching(&server, "a").await;
    let events: Vec<_> =
        (0..10).map(|_| json!({"name": "e", "channel": "a", "data": "1"})).collect();
    for _ in 0..30 {
        let reply = server.post("batch_events", &json!({"batch": events})).await;
        assert_eq!(reply.status, 200, "{reply}");
    }
    let (mut shown, mut counted) = (0, 0);
    // The events may fall into several periods, of which the last may be complete.
    while counted <= 250 {
        let data = page.data(watch).await;
        if data["type"] == "event" {
            shown += 1;
        } else {
            assert_eq!((&data["type"], &data["shown"]), (&json!("sampled"), &json!(50)), "{data}");
            counted += data["of"].as_u64().unwrap();
        }
    }
    assert!((50..300).contains(&shown), "{shown}");
}

#[tokio::test]
async fn a_watch_is_no_subscription() {
    let server = with_password().start().await;
    let (mut page, watch, _) = watching(&server, "cache-a").await;
    let channel = server.channel("cache-a", "subscription_count").await;
    assert_eq!(channel, json!({"occupied": false, "subscription_count": 0}));
    let list = server.get("channels", &[]).await.json();
    assert_eq!(list, json!({"channels": {}}));
    page.unwatch(watch).await;
    server.publish("cache-a", "e", "1").await;
    let (_, state) = page.watch("channel", json!({"app": APP_ID, "channel": "cache-a"})).await;
    assert_eq!(state["cached"], true);
    for channel in ["", "a b", "#server-to-user"] {
        page.try_watch("channel", json!({"app": APP_ID, "channel": channel})).await.unwrap_err();
    }
}
