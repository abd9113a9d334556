//! Cases of `docs/protocol.md#cases-http-api`: H21 to H28. Queries of channels, counts and members.

use serde_json::{Value, json};

use kit::{Call, Server, Settings, eventually};

use crate::Start as _;

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
async fn h23_an_attribute_is_listed_for_the_channels_that_have_it() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    client.join("presence-b", "1").await;
    for query in [
        vec![("info", "user_count")],
        vec![("info", "user_count,cache,")],
        vec![("info", "user_count,user_count")],
    ] {
        let expected = json!({ "a": {}, "presence-b": { "user_count": 1 } });
        assert_eq!(channels(&server, &query).await, expected, "{query:?}");
    }
    let query = [("info", "user_count"), ("filter_by_prefix", "a")];
    assert_eq!(channels(&server, &query).await, json!({ "a": {} }));
    let sentence = server.get("channels", &[("info", "nonsense")]).await.error(400);
    assert!(sentence.contains("user_count, subscription_count"), "{sentence}");
}

/// A channel of each kind, and whether it has users and a cache.
const KINDS: [(&str, bool, bool); 10] = [
    ("c", false, false),
    ("cache-c", false, true),
    ("private-c", false, false),
    ("private-cache-c", false, true),
    ("private-encrypted-c", false, false),
    ("private-encrypted-cache-c", false, true),
    ("presence-c", true, false),
    ("presence-cache-c", true, true),
    ("privatec", false, false),
    ("presencec", false, false),
];

/// Each endpoint, for each kind of channel, with `subscription_count` on and off: the API always returns the count.
/// Each channel has three connections, which on a presence channel are two users.
#[tokio::test]
async fn every_endpoint_returns_counts_of_every_kind_of_channel() {
    for tells_subscribers in [true, false] {
        let server = Settings::new().app("subscription_count", tells_subscribers).start().await;
        let mut clients = Vec::new();
        for user in ["1", "1", "2"] {
            let mut client = server.client().await;
            for (channel, has_users, is_cache) in KINDS {
                if has_users {
                    client
                        .send_subscribe_with(channel, &json!({ "user_id": user }).to_string())
                        .await;
                } else {
                    client.send_subscribe(channel).await;
                }
                while client.next().await["event"] != "pusher_internal:subscription_succeeded" {}
                if is_cache {
                    while client.next().await["event"] != "pusher:cache_miss" {}
                }
            }
            clients.push(client);
        }
        for (channel, has_users, is_cache) in KINDS {
            for (info, mut expected) in [
                ("subscription_count", json!({ "subscription_count": 3 })),
                ("user_count", json!({ "user_count": 2 })),
                (
                    "user_count,subscription_count",
                    json!({ "user_count": 2, "subscription_count": 3 }),
                ),
                ("subscription_count,cache", json!({ "subscription_count": 3 })),
            ] {
                let applies = (has_users || !info.contains("user_count"))
                    && (is_cache || !info.contains("cache"));
                if !has_users {
                    expected.as_object_mut().map(|response| response.remove("user_count"));
                }
                assert_all_endpoints_return(&server, channel, info, &expected).await;
                let path = format!("channels/{channel}");
                let reply = server.get(&path, &[("info", info)]).await;
                if !applies {
                    reply.error(400);
                    continue;
                }
                let mut response = reply.json();
                expected["occupied"] = json!(true);
                if info.contains("cache") {
                    assert_eq!(response["cache"]["data"], "1", "{channel}: {response}");
                    response.as_object_mut().map(|response| response.remove("cache"));
                }
                assert_eq!(response, expected, "GET channel {channel} {info}");
            }
        }
        let expected = json!({ "occupied": false, "subscription_count": 0 });
        for channel in ["nobody", "presence-nobody", "#server-to-user-7"] {
            let path = format!("channels/{}", channel.replace('#', "%23"));
            let reply = server.get(&path, &[("info", "subscription_count")]).await;
            assert_eq!(reply.json(), expected, "{channel}: {reply}");
        }
    }
}

/// The endpoints that omit inapplicable attributes: the list of channels, a publish, and a batch.
async fn assert_all_endpoints_return(server: &Server, channel: &str, info: &str, expected: &Value) {
    let listed = channels(server, &[("info", info), ("filter_by_prefix", channel)]).await;
    assert_eq!(listed[channel], *expected, "GET channels {channel} {info}");
    let event = json!({ "name": "e", "data": "1", "channel": channel, "info": info });
    let response = server.publish_event(event.clone()).await;
    assert_eq!(response, json!({ "channels": { channel: expected } }), "events {info}");
    let reply = Call::post("batch_events", &json!({ "batch": [event] })).send(server).await;
    assert_eq!(reply.json(), json!({ "batch": [expected] }), "batch_events {channel} {info}");
}

#[tokio::test]
async fn h24_a_channel_without_subscribers_is_not_occupied() {
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
async fn h24_an_occupied_channel_returns_the_requested_attributes() {
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
        ("private-x", "subscription_count,user_count"),
        ("my-channel", "cache"),
        ("my-channel", "nonsense"),
    ] {
        server.get(&format!("channels/{channel}"), &[("info", info)]).await.error(400);
    }
    let sentence = server.get("channels/my-channel", &[("info", "user_count")]).await.error(400);
    let expected = "Cannot retrieve the user count unless the channel is a presence channel";
    assert!(sentence.starts_with(expected), "{sentence}");
}

#[tokio::test]
async fn h26_each_user_of_a_presence_channel_is_listed_once() {
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
async fn user_info_is_returned_on_request() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut c) =
        (server.client().await, server.client().await, server.client().await);
    a.join_with("presence-x", r#"{"user_id":"b c","user_info":{"n":"\u00e9\/","a":[1,{}]}}"#).await;
    b.join_with("presence-x", r#"{"user_id":"1"}"#).await;
    c.join_with("presence-x", r#"{"user_id":"b c","user_info":{"n":"another tab"}}"#).await;
    let path = "channels/presence-x/users";
    let with_info = json!({ "users": [
        { "id": "1", "user_info": {} },
        { "id": "b c", "user_info": { "n": "é/", "a": [1, {}] } },
    ] });
    for yes in ["1", "true"] {
        let reply = server.get(path, &[("with_user_info", yes)]).await;
        assert_eq!((reply.status, reply.json()), (200, with_info.clone()), "{yes}");
    }
    for no in ["0", "false", ""] {
        let reply = server.get(path, &[("with_user_info", no)]).await;
        assert_eq!(reply.json(), json!({ "users": [{ "id": "1" }, { "id": "b c" }] }), "{no:?}");
    }
    let empty = server.get("channels/presence-y/users", &[("with_user_info", "1")]).await;
    assert_eq!(empty.text(), r#"{"users":[]}"#);
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
async fn terminating_accepts_an_empty_body() {
    let server = Settings::new().start().await;
    let call = Call::post_text("users/1/terminate_connections", "");
    let reply = call.send(&server).await;
    assert_eq!((reply.status, reply.text()), (200, "{}"));
}

#[tokio::test]
async fn an_id_that_is_too_long_to_sign_in_is_400_and_the_limit_is_named() {
    let settings = Settings::new().add_app("4", "key-of-4", "secret-of-4");
    let server = settings.app("max_channel_name_length", 50).start().await;
    for (app, max) in [("3", 184), ("4", 34)] {
        let send = async |path: &str, body: String| {
            let call = Call::new("POST", &format!("/apps/{app}/{path}"), body);
            let call = if app == "4" { call.credentials("key-of-4", "secret-of-4") } else { call };
            call.send(&server).await
        };
        for (length, status) in [(max, 200), (max + 1, 400), (max + 1_000, 400)] {
            let id = "x".repeat(length);
            let channel = format!("#server-to-user-{id}");
            let event = json!({ "name": "e", "channel": channel, "data": "1" }).to_string();
            let terminate = format!("users/{id}/terminate_connections");
            for reply in [send("events", event).await, send(&terminate, String::new()).await] {
                assert_eq!(reply.status, status, "{length}: {reply}");
                let rule = format!("a user's id has at most {max} bytes");
                assert_eq!(reply.text().contains(&rule), status == 400, "{length}: {reply}");
            }
        }
    }
    let other = json!({ "name": "e", "channel": "x".repeat(201), "data": "1" });
    let sentence = Call::post("events", &other).send(&server).await.error(400);
    assert!(sentence.contains("a channel name has at most 200 bytes"), "{sentence}");
    assert!(!sentence.contains("user"), "{sentence}");
}

#[tokio::test]
async fn connections_counts_exactly_those_of_the_app() {
    let server = Settings::new().add_app("4", "key-of-4", "secret-of-4").start().await;
    assert_eq!(server.get("connections", &[]).await.text(), r#"{"connections":0}"#);
    let one = server.client().await;
    let _two = server.client().await;
    server.open("/app/key-of-4").await.established().await;
    server.wait_for_connections(2).await;
    drop(one);
    server.wait_for_connections(1).await;
}

async fn channels(server: &Server, query: &[(&str, &str)]) -> Value {
    let reply = server.get("channels", query).await;
    assert_eq!(reply.status, 200, "{reply}");
    reply.json()["channels"].take()
}
