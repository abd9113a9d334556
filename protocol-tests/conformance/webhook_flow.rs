//! Cases of `docs/protocol.md#cases-webhooks`, from the client to the endpoint: the webhooks that a real server sends
//! for the actions of clients.

use serde_json::{Value, json};

use kit::{Server, Settings};

use crate::Start as _;
use kit::webhook_receiver::{ALL_EVENTS, WebhookReceiver, of_channel, of_member};

/// A server that sends `events`, a TOML list, to a receiver.
async fn with_webhook(events: &str) -> (Server, WebhookReceiver) {
    let receiver = WebhookReceiver::new().await;
    let webhooks = format!(r#"[{{ url = "{}", events = {events} }}]"#, receiver.url());
    (Settings::new().app("webhooks", webhooks).start().await, receiver)
}

/// The next `count` events, from any number of requests.
async fn received(receiver: &mut WebhookReceiver, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(receiver.next().await.events());
    }
    assert_eq!(events.len(), count, "{events:?}");
    events
}

#[tokio::test]
async fn w01_w03_a_channel_is_occupied_by_the_first_and_vacated_by_the_last() {
    let (server, mut receiver) = with_webhook(r#"["channel_occupied", "channel_vacated"]"#).await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.subscribe("t").await;
    second.subscribe("t").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "t")]);
    first.unsubscribe("t").await;
    first.ping_barrier().await;
    drop(second);
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_vacated", "t")]);
}

#[tokio::test]
async fn w04_a_reconnect_is_not_reported() {
    let (server, mut receiver) = with_webhook(r#"["channel_occupied", "channel_vacated"]"#).await;
    let mut client = server.client().await;
    client.subscribe("t").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "t")]);
    drop(client);
    server.wait_for_connections(0).await;
    let mut client = server.client().await;
    client.subscribe("t").await;
    // Later events are sent after all events that the first channel could cause.
    client.subscribe("u").await;
    client.unsubscribe("u").await;
    let expected = [of_channel("channel_occupied", "u"), of_channel("channel_vacated", "u")];
    assert_eq!(received(&mut receiver, 2).await, expected);
}

#[tokio::test]
async fn w05_a_user_with_two_connections_is_added_once_and_removed_once() {
    const R: &str = "presence-r";
    let (server, mut receiver) = with_webhook(r#"["member_added", "member_removed"]"#).await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    one.send_subscribe_with(R, r#"{"user_id":10}"#).await;
    one.joined(R).await;
    two.send_subscribe_with(R, r#"{"user_id":"10"}"#).await;
    two.joined(R).await;
    assert_eq!(received(&mut receiver, 1).await, [of_member("member_added", R, "10")]);
    drop(one);
    server.wait_for_connections(1).await;
    two.unsubscribe(R).await;
    assert_eq!(received(&mut receiver, 1).await, [of_member("member_removed", R, "10")]);
}

#[tokio::test]
async fn w06_a_client_event_is_reported_with_its_sender() {
    let (server, mut receiver) = with_webhook(r#"["client_event"]"#).await;
    let mut client = server.client().await;
    client.join("presence-r", "10").await;
    client.subscribe("private-a").await;
    client.whisper("client-typing", "presence-r", json!({ "name": "Ann" })).await;
    client.whisper("client-typing", "private-a", json!("text")).await;
    let socket_id = client.socket_id.clone();
    let whisper = |channel: &str, data: &str| {
        json!({ "name": "client_event", "channel": channel, "event": "client-typing", "data": data,
            "socket_id": socket_id })
    };
    let mut on_presence = whisper("presence-r", r#"{"name":"Ann"}"#);
    on_presence["user_id"] = json!("10");
    assert_eq!(received(&mut receiver, 2).await, [on_presence, whisper("private-a", "text")]);
}

/// PHP's `json_decode` rejects a whole body for one lone surrogate, and with it all other events.
#[tokio::test]
async fn a_webhook_is_valid_json_for_any_client_input() {
    let (server, mut receiver) = with_webhook(r#"["client_event", "member_added"]"#).await;
    let mut client = server.client().await;
    client.join_with("presence-r", r#"{"user_id":"\udfff"}"#).await;
    client.subscribe("private-a").await;
    let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
    for (name, data) in [
        (r"client-\ud800", r#""\ud800""#),
        ("client-x", r#"{"\udc00":{"a":"\udc00\ud800"}}"#),
        ("client-x", r#""{\"a\":\"\\ud800\"}""#),
        ("client-x", deep.as_str()),
        ("client-x", r#"{"a":1e999,"a":2}"#),
    ] {
        for channel in ["private-a", "presence-r"] {
            client
                .text(format!(r#"{{"event":"{name}","channel":"{channel}","data":{data}}}"#))
                .await;
        }
    }
    let events = received(&mut receiver, 11).await;
    assert_eq!(events[0], of_member("member_added", "presence-r", "\u{fffd}"));
    let expected = [
        "\u{fffd}",
        "{\"\u{fffd}\":{\"a\":\"\u{fffd}\u{fffd}\"}}",
        r#"{"a":"\ud800"}"#,
        deep.as_str(),
        r#"{"a":1e999,"a":2}"#,
    ];
    for (pair, data) in events[1..].chunks(2).zip(expected) {
        for event in pair {
            assert_eq!(event["data"], data);
            let name = event["event"].as_str().expect("a text");
            assert!(["client-x", "client-\u{fffd}"].contains(&name), "{name}");
        }
        assert_eq!(pair[1]["user_id"], "\u{fffd}");
    }
}

#[tokio::test]
async fn w06_published_events_are_not_reported() {
    let (server, mut receiver) = with_webhook(r#"["client_event"]"#).await;
    let mut client = server.client().await;
    client.subscribe("private-a").await;
    server.publish("private-a", "client-looks-alike", "1").await;
    client.whisper("client-marker", "private-a", json!(1)).await;
    assert_eq!(received(&mut receiver, 1).await[0]["event"], "client-marker");
}

#[tokio::test]
async fn w07_simultaneous_cache_misses_are_reported_once() {
    let (server, mut receiver) = with_webhook(r#"["cache_miss", "channel_occupied"]"#).await;
    let mut clients = [server.client().await, server.client().await, server.client().await];
    for client in &mut clients {
        client.send_subscribe("cache-x").await;
        client.subscribed("cache-x").await;
        client.expect_event("cache-x", "pusher:cache_miss", "{}").await;
    }
    clients[0].subscribe("marker").await;
    let mut events = received(&mut receiver, 3).await;
    events.sort_by_key(|event| event["name"].to_string());
    let expected = [
        of_channel("cache_miss", "cache-x"),
        of_channel("channel_occupied", "cache-x"),
        of_channel("channel_occupied", "marker"),
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn w12_a_subscription_count_is_reported_as_a_number() {
    let (server, mut receiver) = with_webhook(r#"["subscription_count"]"#).await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.subscribe("t").await;
    second.subscribe("t").await;
    let count = |count| json!({ "name": "subscription_count", "channel": "t", "subscription_count": count });
    assert_eq!(received(&mut receiver, 2).await, [count(1), count(2)]);
}

#[tokio::test]
async fn a_user_is_online_with_the_first_connection_and_offline_after_the_last() {
    let (server, mut receiver) = with_webhook(r#"["user_online", "user_offline"]"#).await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    one.sign_in(r#"{"id":"ann"}"#).await;
    two.sign_in(r#"{"id":"ann"}"#).await;
    let user = |name| of_member(name, "#server-to-user-ann", "ann");
    assert_eq!(received(&mut receiver, 1).await, [user("user_online")]);
    drop((one, two));
    assert_eq!(received(&mut receiver, 1).await, [user("user_offline")]);
}

#[tokio::test]
async fn a_stopping_server_reports_all_departures() {
    let (mut server, mut receiver) = with_webhook(ALL_EVENTS).await;
    let mut client = server.client().await;
    client.join("presence-r", "1").await;
    let mut events = received(&mut receiver, 2).await;
    server.process.signal("TERM");
    client.rejected(4100).await;
    assert_eq!(server.process.exit_code().await, Some(0));
    events.extend(received(&mut receiver, 2).await);
    let mut names: Vec<_> = events.iter().filter_map(|event| event["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["channel_occupied", "channel_vacated", "member_added", "member_removed"]);
}

#[tokio::test]
async fn a_hanging_endpoint_does_not_delay_a_server_without_successor() {
    let mut receiver = WebhookReceiver::answering(|_| None).await;
    let webhooks = format!(r#"[{{ url = "{}", events = {ALL_EVENTS} }}]"#, receiver.url());
    let settings = Settings::new().app("webhooks", webhooks).server("shutdown_grace_s", 60);
    let mut server = settings.start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    receiver.next().await;
    server.process.signal("TERM");
    client.rejected(4100).await;
    assert_eq!(server.process.exit_code().await, Some(0), "long before the grace period ends");
    let log = server.process.stream("err");
    assert!(log.contains("webhook events dropped at shutdown"), "{log}");
}

#[tokio::test]
async fn a_user_who_is_back_within_three_seconds_and_stays_is_not_reported_offline() {
    let (server, mut receiver) = with_webhook(r#"["user_online", "user_offline"]"#).await;
    let user = |name: &str, id: &str| of_member(name, &format!("#server-to-user-{id}"), id);
    let mut ann = server.client().await;
    ann.sign_in(r#"{"id":"ann"}"#).await;
    assert_eq!(received(&mut receiver, 1).await, [user("user_online", "ann")]);
    drop(ann);
    server.wait_for_connections(0).await;
    let mut ann = server.client().await;
    ann.sign_in(r#"{"id":"ann"}"#).await;
    // A later offline event is sent after that of the first user, if there were one.
    let mut bob = server.client().await;
    bob.sign_in(r#"{"id":"bob"}"#).await;
    drop(bob);
    let expected = [user("user_online", "bob"), user("user_offline", "bob")];
    assert_eq!(received(&mut receiver, 2).await, expected);
    ann.ping_barrier().await;
    drop(ann);
    assert_eq!(received(&mut receiver, 1).await, [user("user_offline", "ann")]);
}

const IN_ORDER: &str =
    r#"["channel_occupied", "channel_vacated", "member_added", "member_removed"]"#;

#[tokio::test]
async fn a_member_is_removed_before_its_channel_is_vacated() {
    const R: &str = "presence-r";
    let (server, mut receiver) = with_webhook(IN_ORDER).await;
    for is_closed in [false, true] {
        let mut client = server.client().await;
        client.join(R, "10").await;
        let came = [of_channel("channel_occupied", R), of_member("member_added", R, "10")];
        assert_eq!(received(&mut receiver, 2).await, came);
        if is_closed {
            drop(client);
        } else {
            client.unsubscribe(R).await;
        }
        let gone = [of_member("member_removed", R, "10"), of_channel("channel_vacated", R)];
        assert_eq!(received(&mut receiver, 2).await, gone);
    }
}

/// The client does not answer the close frame, so its connection ends some time after the beginning of the drain.
#[tokio::test]
async fn the_webhooks_of_a_stopping_server_wait_for_its_last_connection() {
    const R: &str = "presence-r";
    let (mut server, mut receiver) = with_webhook(IN_ORDER).await;
    let mut client = server.client().await;
    client.join(R, "1").await;
    assert_eq!(received(&mut receiver, 2).await.len(), 2);
    server.process.signal("TERM");
    assert!(server.process.exit_code().await.is_some());
    let gone = [of_member("member_removed", R, "1"), of_channel("channel_vacated", R)];
    assert_eq!(received(&mut receiver, 2).await, gone);
    drop(client);
}
