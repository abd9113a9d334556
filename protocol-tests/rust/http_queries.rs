//! §10.7, H21 to H28: asking who is where.

use serde_json::json;

use crate::harness::{Call, Server, Settings, eventually};

#[tokio::test]
async fn h21_no_channels_are_an_empty_object() {
    let server = Settings::new().start().await;
    assert_eq!(server.get("channels", &[]).await.text(), r#"{"channels":{}}"#);
    assert_eq!(
        server.get("channels", &[("filter_by_prefix", "x")]).await.text(),
        r#"{"channels":{}}"#
    );
}

#[tokio::test]
async fn h21_occupied_channels_are_an_object_of_objects() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    client.subscribe("private-b").await;
    assert_eq!(channels(&server, &[]).await, json!({ "a": {}, "private-b": {} }));
    client.unsubscribe("a").await;
    let is_alone = async || channels(&server, &[]).await == json!({ "private-b": {} });
    eventually("a is vacated on every node", is_alone).await;
}

#[tokio::test]
async fn h22_presence_channels_are_listed_with_their_user_counts() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut c) =
        (server.client().await, server.client().await, server.client().await);
    a.subscribe("my-channel").await;
    a.join("presence-a", "1").await;
    b.join("presence-a", "2").await;
    c.join("presence-a", "2").await;
    c.join("presence-b", "2").await;
    let query = [("filter_by_prefix", "presence-"), ("info", "user_count")];
    let expected = json!({ "presence-a": { "user_count": 2 }, "presence-b": { "user_count": 1 } });
    assert_eq!(channels(&server, &query).await, expected);
    let query = [("filter_by_prefix", "presence-b"), ("info", "user_count")];
    assert_eq!(channels(&server, &query).await, json!({ "presence-b": { "user_count": 1 } }));
}

#[tokio::test]
async fn h23_user_counts_need_a_prefix_of_presence() {
    let server = Settings::new().start().await;
    for query in [
        vec![("info", "user_count")],
        vec![("info", "user_count"), ("filter_by_prefix", "presence")],
    ] {
        let sentence = server.get("channels", &query).await.error(400);
        assert!(sentence.contains("filter_by_prefix"), "{sentence}");
    }
    server.get("channels", &[("info", "cache")]).await.error(400);
    server.get("channels", &[("info", "nonsense")]).await.error(400);
}

#[tokio::test]
async fn subscription_counts_of_all_channels_are_told_where_the_app_has_them() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let query = [("info", "subscription_count")];
    assert_eq!(channels(&server, &query).await, json!({ "a": { "subscription_count": 1 } }));
    let without = Settings::new().app("subscription_count", false).start().await;
    without.get("channels", &query).await.error(400);
}

#[tokio::test]
async fn h24_a_channel_that_nobody_hears_is_not_occupied() {
    let server = Settings::new().start().await;
    assert_eq!(server.get("channels/my-channel", &[]).await.text(), r#"{"occupied":false}"#);
    let count = server.channel("my-channel", "subscription_count").await;
    assert_eq!(count, json!({ "occupied": false, "subscription_count": 0 }));
    assert_eq!(
        server.channel("presence-x", "user_count").await,
        json!({ "occupied": false, "user_count": 0 })
    );
}

#[tokio::test]
async fn h24_an_occupied_channel_tells_what_was_asked() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    client.join("presence-x", "1").await;
    assert_eq!(server.channel("my-channel", "").await, json!({ "occupied": true }));
    let count = server.channel("my-channel", "subscription_count").await;
    assert_eq!(count, json!({ "occupied": true, "subscription_count": 1 }));
    assert_eq!(
        server.channel("presence-x", "user_count").await,
        json!({ "occupied": true, "user_count": 1 })
    );
    server.publish("presence-cache-y", "e", "1").await;
    let both = server.channel("presence-cache-y", "user_count,cache").await;
    assert_eq!(both["user_count"], 0);
    assert_eq!(both["cache"]["data"], "1");
}

#[tokio::test]
async fn h25_an_attribute_that_does_not_apply_is_400() {
    let server = Settings::new().start().await;
    for (channel, info) in [
        ("my-channel", "user_count"),
        ("private-x", "user_count"),
        ("presence-x", "subscription_count"),
        ("my-channel", "cache"),
        ("my-channel", "nonsense"),
    ] {
        server.get(&format!("channels/{channel}"), &[("info", info)]).await.error(400);
    }
    let sentence = server.get("channels/my-channel", &[("info", "user_count")]).await.error(400);
    let expected = "Cannot retrieve the user count unless the channel is a presence channel";
    assert!(sentence.starts_with(expected), "{sentence}");
    let without = Settings::new().app("subscription_count", false).start().await;
    without.get("channels/my-channel", &[("info", "subscription_count")]).await.error(400);
}

#[tokio::test]
async fn h26_the_users_of_a_presence_channel_are_told_once_each() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut c) =
        (server.client().await, server.client().await, server.client().await);
    a.join("presence-x", "1").await;
    b.join("presence-x", "1").await;
    c.join_with("presence-x", r#"{"user_id":2}"#).await;
    let reply = server.get("channels/presence-x/users", &[]).await;
    assert_eq!(reply.status, 200, "{reply}");
    let mut users = reply.json();
    users["users"].as_array_mut().unwrap().sort_by_key(|user| user["id"].to_string());
    assert_eq!(users, json!({ "users": [{ "id": "1" }, { "id": "2" }] }));
}

#[tokio::test]
async fn h27_a_channel_without_presence_has_no_users() {
    let server = Settings::new().start().await;
    server.get("channels/my-channel/users", &[]).await.error(400);
    server.get("channels/private-x/users", &[]).await.error(400);
}

#[tokio::test]
async fn h28_an_empty_presence_channel_has_an_empty_list() {
    let server = Settings::new().start().await;
    let reply = server.get("channels/presence-x/users", &[]).await;
    assert_eq!((reply.status, reply.text()), (200, r#"{"users":[]}"#));
}

#[tokio::test]
async fn terminating_takes_an_empty_body_too() {
    let server = Settings::new().start().await;
    let call = Call::post_text("users/1/terminate_connections", "");
    let reply = call.send(&server).await;
    assert_eq!((reply.status, reply.text()), (200, "{}"));
}

#[tokio::test]
async fn connections_counts_all_of_the_app_and_only_these() {
    let server = Settings::new().another_app("4", "key-of-4", "secret-of-4").start().await;
    assert_eq!(server.get("connections", &[]).await.text(), r#"{"connections":0}"#);
    let one = server.client().await;
    let _two = server.client().await;
    server.open("/app/key-of-4").await.established().await;
    server.has_connections(2).await;
    drop(one);
    server.has_connections(1).await;
}

async fn channels(server: &Server, query: &[(&str, &str)]) -> serde_json::Value {
    let reply = server.get("channels", query).await;
    assert_eq!(reply.status, 200, "{reply}");
    reply.json()["channels"].take()
}
