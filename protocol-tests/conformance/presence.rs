//! Cases of `docs/protocol.md#cases-presence`.

use serde_json::{Value, json};

use kit::{Client, Server, Settings, eventually, inner};

use crate::Start as _;

const R: &str = "presence-r";

#[tokio::test]
async fn p01_the_first_member_is_listed_and_not_announced_to_itself() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.send_subscribe_with(R, r#"{"user_id":"1","user_info":{"n":"a"}}"#).await;
    let mut message = client.next().await;
    message["data"] = inner(&message);
    let roster = json!({ "presence": { "count": 1, "ids": ["1"], "hash": { "1": { "n": "a" } } } });
    assert_eq!(
        message,
        json!({ "event": "pusher_internal:subscription_succeeded", "channel": R, "data": roster })
    );
    server.assert_no_other_events(R, &mut [&mut client]).await;
}

#[tokio::test]
async fn p02_the_second_member_is_listed_and_announced_to_the_first() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    let roster = b.join(R, "2").await;
    assert_roster(&roster, &["1", "2"]);
    assert_eq!(roster["hash"], json!({ "1": { "n": "1" }, "2": { "n": "2" } }));
    a.expect_member_added(R, "2", json!({ "n": "2" })).await;
    server.assert_no_other_events(R, &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn p03_a_second_connection_of_a_user_is_not_announced() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut c) = one_and_two_tabs(&server).await;
    server.assert_no_other_events(R, &mut [&mut a, &mut b, &mut c]).await;
}

#[tokio::test]
async fn p04_a_user_with_another_connection_stays() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut c) = one_and_two_tabs(&server).await;
    b.unsubscribe(R).await;
    b.ping_barrier().await;
    server.assert_no_other_events(R, &mut [&mut a, &mut c]).await;
    b.ping_barrier().await;
}

#[tokio::test]
async fn p05_a_user_leaves_with_its_last_connection() {
    let server = Settings::new().start().await;
    let (mut a, mut b, c) = one_and_two_tabs(&server).await;
    b.unsubscribe(R).await;
    b.ping_barrier().await;
    drop(c);
    a.expect_member_removed(R, "2").await;
    server.assert_no_other_events(R, &mut [&mut a]).await;
}

#[tokio::test]
async fn p06_a_member_without_data_is_rejected() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    let auth = b.auth(R, None);
    for data in [
        json!({ "channel": R, "auth": auth }),
        json!({ "channel": R, "auth": auth, "channel_data": null }),
    ] {
        b.command("pusher:subscribe", data).await;
        b.rejection(R).await;
    }
    b.ping_barrier().await;
    server.assert_no_other_events(R, &mut [&mut a]).await;
    assert_users(&server, &["1"]).await;
}

#[tokio::test]
async fn p07_a_signed_in_connection_joins_as_its_user() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    b.sign_in(r#"{"id":"9","user_info":{"name":"Ann"}}"#).await;
    let auth = b.auth(R, None);
    b.command("pusher:subscribe", json!({ "channel": R, "auth": auth })).await;
    let roster = b.joined(R).await;
    assert_eq!(roster["hash"]["9"], json!({ "name": "Ann" }));
    a.expect_member_added(R, "9", json!({ "name": "Ann" })).await;
}

#[tokio::test]
async fn p08_channel_data_overrides_the_sign_in() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.sign_in(r#"{"id":"9","user_info":{"name":"Ann"}}"#).await;
    assert_roster(&client.join(R, "1").await, &["1"]);
}

#[tokio::test]
async fn p09_a_number_as_user_id_becomes_a_string() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut c) =
        (server.client().await, server.client().await, server.client().await);
    a.join(R, "1").await;
    let roster = b.join_with(R, r#"{"user_id":10,"user_info":{"n":10}}"#).await;
    assert_roster(&roster, &["1", "10"]);
    a.expect_member_added(R, "10", json!({ "n": 10 })).await;
    assert_roster(&c.join(R, "10").await, &["1", "10"]);
    b.unsubscribe(R).await;
    b.ping_barrier().await;
    c.unsubscribe(R).await;
    a.expect_member_removed(R, "10").await;
}

/// A user has one id: the number as JavaScript formats it, since clients find themselves by it.
#[tokio::test]
async fn p09_numbers_have_one_spelling() {
    let server = Settings::new().start().await;
    for (id, spelled) in [
        ("10.0", "10"),
        ("1e1", "10"),
        ("-0", "0"),
        ("0.10", "0.1"),
        ("1E-7", "1e-7"),
        ("1e21", "1e+21"),
        ("1.5e300", "1.5e+300"),
        ("9007199254740993", "9007199254740993"),
    ] {
        let (mut a, mut b) = (server.client().await, server.client().await);
        let roster = a.join_with(R, &format!(r#"{{"user_id":{id}}}"#)).await;
        assert_roster(&roster, &[spelled]);
        assert_roster(&b.join(R, spelled).await, &[spelled]);
        a.ping_barrier().await;
        drop((a, b));
        users_become(&server, &[]).await;
    }
}

#[tokio::test]
async fn p09_zero_is_a_user_id() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    for member in [r#"{"user_id":"0"}"#, r#"{"user_id":0}"#] {
        b.join_with(R, member).await;
        a.expect_member_added(R, "0", json!({})).await;
        b.unsubscribe(R).await;
        a.expect_member_removed(R, "0").await;
    }
}

#[tokio::test]
async fn p10_an_invalid_user_id_is_rejected() {
    let bad = [
        "{}",
        r#"{"user_id":""}"#,
        r#"{"user_id":{}}"#,
        r#"{"user_id":[]}"#,
        r#"{"user_id":true}"#,
        r#"{"user_id":null}"#,
    ];
    let unreadable = ["not json", "[]", "null", "7", r#""1""#, r#"{"user_id":"1""#];
    for member in bad.into_iter().chain(unreadable) {
        rejects_member(member).await;
    }
}

#[tokio::test]
async fn p11_user_info_that_is_no_object_is_rejected() {
    for info in [r#""text""#, "7", "[1]", "true"] {
        let message = rejects_member(&format!(r#"{{"user_id":"1","user_info":{info}}}"#)).await;
        assert!(
            message.contains("user_info supplied to presence subscription is invalid"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn p12_user_info_of_1100_bytes_is_rejected_and_of_1000_is_not() {
    rejects_member(&member_with_info_of(1_100)).await;
    let server = Settings::new().start().await;
    server.client().await.join_with(R, &member_with_info_of(1_000)).await;
}

/// 180 Cyrillic letters are 360 bytes, independently of how the application's language encodes them.
#[tokio::test]
async fn p12_user_info_is_measured_without_escapes() {
    let server = Settings::new().app("max_presence_user_info_bytes", 368).start().await;
    for letter in [r"\u0430", "а", r"\/\/", r"\\"] {
        let info = |more: &str| {
            format!(
                r#"{{ "user_id": "1", "user_info": {{ "n" :  "{}{more}" }} }}"#,
                letter.repeat(180)
            )
        };
        let mut client = server.client().await;
        let roster = client.join_with(R, &info("")).await;
        let name = roster["hash"]["1"]["n"].as_str().expect("a text");
        assert!(["а".repeat(180), "/".repeat(360), r"\".repeat(180)].iter().any(|n| n == name));
        drop(client);
        users_become(&server, &[]).await;
        let mut client = server.client().await;
        client.send_subscribe_with(R, &info("x")).await;
        client.rejection(R).await;
    }
}

/// PHP writes an empty array for an object without members.
#[tokio::test]
async fn p11_an_empty_list_is_an_empty_user_info() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut c) =
        (server.client().await, server.client().await, server.client().await);
    a.join(R, "1").await;
    let roster = b.join_with(R, r#"{"user_id":"2","user_info":[ ]}"#).await;
    assert_eq!(roster["hash"]["2"], json!({}));
    a.expect_member_added(R, "2", json!({})).await;
    c.sign_in(r#"{"id":"3","user_info":[]}"#).await;
    let auth = c.auth(R, None);
    c.command("pusher:subscribe", json!({ "channel": R, "auth": auth })).await;
    assert_eq!(c.joined(R).await["hash"]["3"], json!({}));
    a.expect_member_added(R, "3", json!({})).await;
}

/// Members parse each other's information, so no member must be able to make the roster unparsable.
#[tokio::test]
async fn user_info_is_readable_by_every_parser() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    let data = r#"{"user_id":"\ud800","user_info":{"\udc00":"\ud83d"},"\ud800":1}"#;
    let roster = b.join_with(R, data).await;
    let (half, info) = ("\u{fffd}", json!({ "\u{fffd}": "\u{fffd}" }));
    assert_eq!(roster["hash"][half], info);
    a.expect_member_added(R, half, info.clone()).await;
    let users = server.get(&format!("channels/{R}/users"), &[("with_user_info", "1")]).await;
    assert_eq!(users.json()["users"][1], json!({ "id": half, "user_info": info }));
    b.text(format!(r#"{{"event":"client-x","channel":"{R}","data":1}}"#)).await;
    assert_eq!(a.next().await["user_id"], half);
    drop(b);
    a.expect_member_removed(R, half).await;
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"user_id":"2","user_info":{{"a":{open}{close}}}}}"#)
    };
    let mut c = server.client().await;
    c.send_subscribe_with(R, &nested(65)).await;
    let message = c.rejection(R).await.message;
    assert!(message.contains("64"), "{message}");
    // Swift and Go reject such a number, and PHP an object with such a name.
    for data in [
        r#"{"user_id":"2","user_info":{"a":[1e999]}}"#,
        r#"{"user_id":"2","user_info":{"a":[{"\u0000b":1}]}}"#,
        r#"{"user_id":"\u0000","user_info":{}}"#,
    ] {
        c.send_subscribe_with(R, data).await;
        c.rejection(R).await;
    }
    let data = r#"{"user_id":"a\u0000","user_info":{"a\u0000":["\u0000",1e308]}}"#;
    c.join_with(R, data).await;
    c.unsubscribe(R).await;
    c.join_with(R, &nested(64)).await;
}

/// The signature is verified over the bytes that were signed: over the repaired text it would differ. Node signs a lone
/// surrogate as U+FFFD, and the browser then sends it as an escape.
#[tokio::test]
async fn a_signature_is_over_the_text_as_it_was_signed() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let escaped = r#"{"user_id":"\ud800"}"#;
    let auth = client.auth(R, Some(&escaped.replace("d800", "fffd")));
    let data = json!({ "channel": R, "auth": auth, "channel_data": escaped });
    client.command("pusher:subscribe", data).await;
    client.rejection(R).await;
    let signed = "{\"user_id\":\"\u{fffd}\"}";
    let auth = client.auth(R, Some(signed));
    let data = json!({ "channel": R, "auth": auth, "channel_data": signed }).to_string();
    let data = data.replace('\u{fffd}', r"\ud800");
    client.text(format!(r#"{{"event":"pusher:subscribe","data":{data}}}"#)).await;
    assert_roster(&client.joined(R).await, &["\u{fffd}"]);
}

#[tokio::test]
async fn p13_a_user_id_of_129_characters_is_rejected_and_of_128_is_not() {
    rejects_member(&json!({ "user_id": "u".repeat(129) }).to_string()).await;
    let server = Settings::new().start().await;
    let id = "u".repeat(128);
    let roster = server.client().await.join_with(R, &json!({ "user_id": id }).to_string()).await;
    assert_roster(&roster, &[&id]);
    server.client().await.join_with(R, &json!({ "user_id": "é".repeat(128) }).to_string()).await;
}

#[tokio::test]
async fn p14_the_limit_counts_users_and_not_connections() {
    let server = Settings::new().app("max_presence_members", 2).start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    b.join(R, "2").await;
    a.expect_member_added(R, "2", json!({ "n": "2" })).await;
    let mut third = server.client().await;
    third.send_subscribe_with(R, r#"{"user_id":"3"}"#).await;
    let rejection = third.rejection(R).await;
    if !rejection.details.is_null() {
        assert_eq!(
            (&rejection.details["type"], &rejection.details["status"]),
            (&json!("LimitReached"), &json!(4100))
        );
    }
    let mut first_again = server.client().await;
    assert_roster(&first_again.join(R, "1").await, &["1", "2"]);
    server.assert_no_other_events(R, &mut [&mut a, &mut b, &mut first_again]).await;
    b.unsubscribe(R).await;
    a.expect_member_removed(R, "2").await;
    assert_roster(&third.join(R, "3").await, &["1", "3"]);
}

#[tokio::test]
async fn p15_a_member_without_information_has_an_empty_object() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    for (id, member) in [("2", r#"{"user_id":"2"}"#), ("3", r#"{"user_id":"3","user_info":null}"#)]
    {
        let roster = b.join_with(R, member).await;
        assert_eq!(roster["hash"][id], json!({}));
        a.expect_member_added(R, id, json!({})).await;
        b.unsubscribe(R).await;
        a.expect_member_removed(R, id).await;
    }
}

#[tokio::test]
async fn p16_added_and_removed_alternate_for_two_connections_of_a_user() {
    let server = Settings::new().start().await;
    let mut observer = server.client().await;
    observer.join(R, "observer").await;
    let come_and_go = async |mut client: Client| {
        for _ in 0..1_000 {
            client.join(R, "1").await;
            client.unsubscribe(R).await;
        }
        client.ping_barrier().await;
        client
    };
    let (a, b) = (server.client().await, server.client().await);
    let churn = async {
        let clients = tokio::join!(come_and_go(a), come_and_go(b));
        // In a cluster, the API reports a leave slightly after the subscribers.
        users_become(&server, &["observer"]).await;
        server.publish(R, "marker", "1").await;
        clients
    };
    let watch = async {
        let mut is_there = false;
        loop {
            let message = observer.next().await;
            match message["event"].as_str().unwrap() {
                "pusher_internal:member_added" => assert!(!is_there, "added twice"),
                "pusher_internal:member_removed" => assert!(is_there, "removed twice"),
                "marker" => break is_there,
                other => panic!("{other}"),
            }
            assert_eq!(inner(&message)["user_id"], "1");
            is_there = !is_there;
        }
    };
    let (_clients, is_there) = tokio::join!(churn, watch);
    assert!(!is_there, "both have left");
    assert_users(&server, &["observer"]).await;
}

#[tokio::test]
async fn p18_a_presence_cache_channel_has_members_and_a_cached_event() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    assert_roster(&a.join("presence-cache-r", "1").await, &["1"]);
    a.expect_event("presence-cache-r", "pusher:cache_miss", "{}").await;
    server.publish("presence-cache-r", "u", "1").await;
    a.expect_event("presence-cache-r", "u", "1").await;
    assert_roster(&b.join("presence-cache-r", "2").await, &["1", "2"]);
    b.expect_event("presence-cache-r", "u", "1").await;
    b.ping_barrier().await;
}

#[tokio::test]
async fn a_connection_may_be_another_member_on_each_channel() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join("presence-a", "watcher").await;
    a.join("presence-b", "watcher").await;
    b.join("presence-a", "1").await;
    a.expect_member_added("presence-a", "1", json!({ "n": "1" })).await;
    b.join("presence-b", "2").await;
    a.expect_member_added("presence-b", "2", json!({ "n": "2" })).await;
    b.unsubscribe("presence-b").await;
    a.expect_member_removed("presence-b", "2").await;
    drop(b);
    a.expect_member_removed("presence-a", "1").await;
}

#[tokio::test]
async fn a_second_subscription_to_a_presence_channel_changes_no_member() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    b.join(R, "2").await;
    a.expect_member_added(R, "2", json!({ "n": "2" })).await;
    b.send_subscribe_with(R, r#"{"user_id":"3"}"#).await;
    assert_eq!(b.error().await, (Value::Null, format!("Existing subscription to channel {R}")));
    server.assert_no_other_events(R, &mut [&mut a, &mut b]).await;
    b.unsubscribe(R).await;
    a.expect_member_removed(R, "2").await;
}

#[tokio::test]
async fn unknown_attributes_of_channel_data_are_not_sent() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.join(R, "1").await;
    b.join_with(R, r#"{"user_id":"2","user_info":{"n":2},"secret":"x"}"#).await;
    a.expect_member_added(R, "2", json!({ "n": 2 })).await;
}

/// User "1" once and user "2" twice in a channel; the join events are read.
async fn one_and_two_tabs(server: &Server) -> (Client, Client, Client) {
    let (mut a, mut b, mut c) =
        (server.client().await, server.client().await, server.client().await);
    a.join(R, "1").await;
    b.join(R, "2").await;
    a.expect_member_added(R, "2", json!({ "n": "2" })).await;
    assert_roster(&c.join(R, "2").await, &["1", "2"]);
    (a, b, c)
}

/// Asserts that a correctly signed member is rejected and the channel stays empty; returns the message.
async fn rejects_member(channel_data: &str) -> String {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.send_subscribe_with(R, channel_data).await;
    let rejection = client.rejection(R).await;
    client.ping_barrier().await;
    assert_users(&server, &[]).await;
    rejection.message
}

/// A member whose `user_info` has this many bytes as JSON.
pub(crate) fn member_with_info_of(bytes: usize) -> String {
    let info = format!(r#"{{"n":"{}"}}"#, "x".repeat(bytes - r#"{"n":""}"#.len()));
    assert_eq!(info.len(), bytes);
    format!(r#"{{"user_id":"1","user_info":{info}}}"#)
}

/// Asserts the members of a roster: `ids` in any order, and matching `hash` and `count`.
fn assert_roster(roster: &Value, expected: &[&str]) {
    let ids = roster["ids"].as_array().expect("ids is an array").iter();
    let mut ids: Vec<&str> = ids.map(|id| id.as_str().expect("an id is a string")).collect();
    ids.sort_unstable();
    assert_eq!(ids, expected, "{roster}");
    let hash = roster["hash"].as_object().expect("hash is an object");
    assert!(
        hash.len() == expected.len() && expected.iter().all(|id| hash.contains_key(*id)),
        "{roster}"
    );
    assert_eq!(roster["count"], expected.len(), "{roster}");
}

async fn users_become(server: &Server, expected: &[&str]) {
    let expected: Vec<Value> = expected.iter().map(|id| json!({ "id": id })).collect();
    let expected = json!({ "users": expected });
    eventually("the users are as they should be", async || {
        server.get(&format!("channels/{R}/users"), &[]).await.json() == expected
    })
    .await;
}

async fn assert_users(server: &Server, expected: &[&str]) {
    let users = server.get(&format!("channels/{R}/users"), &[]).await.json();
    let expected: Vec<Value> = expected.iter().map(|id| json!({ "id": id })).collect();
    assert_eq!(users, json!({ "users": expected }));
}
