//! Cases of `docs/protocol.md#cases-users`.

use serde_json::{Value, json};

use kit::{Client, KEY, SECRET, Server, Settings, inner, sign};

use crate::Start as _;

const USER: &str = r#"{"id":"12345","user_info":{"name":"Ann \u00e9 \/"},"custom": [1]}"#;
const INBOX: &str = "#server-to-user-12345";

#[tokio::test]
async fn u01_a_sign_in_is_answered_with_the_same_user_data() {
    let server = Settings::new().start().await;
    for user_data in [r#"{"id":"12345"}"#, USER] {
        let mut client = server.client().await;
        client.send_sign_in(user_data).await;
        let message = client.next().await;
        let data = json!({ "user_data": user_data });
        assert_eq!(inner(&message), data);
        assert_eq!(message, json!({ "event": "pusher:signin_success", "data": message["data"] }));
        client.ping_barrier().await;
    }
}

#[tokio::test]
async fn u02_a_bad_signature_is_an_error() {
    let server = Settings::new().start().await;
    let other = server.client().await;
    let mut client = server.client().await;
    let user_data = r#"{"id":"12345"}"#;
    let signature = sign::hmac_hex(SECRET, &format!("{}::user::{user_data}", client.socket_id));
    for auth in [
        json!(format!("{KEY}:{}", "0".repeat(64))),
        json!(format!("{KEY}::user::{signature}")),
        json!(format!("XX:{signature}")),
        json!(signature),
        json!(sign::user_auth(KEY, SECRET, &other.socket_id, user_data)),
        json!(client.auth(user_data, None)),
        json!(""),
        json!(7),
        Value::Null,
    ] {
        client.command("pusher:signin", json!({ "auth": auth, "user_data": user_data })).await;
        client.error().await;
    }
    client.ping_barrier().await;
    is_rejected_the_inbox(&mut client).await;
}

#[tokio::test]
async fn u03_user_data_without_a_proper_id_is_an_error() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let bad = [
        r#"{"id":1e999}"#,
        r#"{"id":true}"#,
        r#"{"id":1e21}"#,
        r#"{"id":""}"#,
        "{}",
        "[]",
        "null",
        "7",
        "not json",
        "",
        r#"{"id":null}"#,
        r#"{"id":["1"]}"#,
    ];
    let unaddressable = [r#"{"id":"a b"}"#, r#"{"id":"a#b"}"#, r#"{"id":"é"}"#];
    for user_data in bad.into_iter().chain(unaddressable) {
        client.send_sign_in(user_data).await;
        client.error().await;
        client.ping_barrier().await;
    }
    client.command("pusher:signin", json!({})).await;
    client.error().await;
    client.command("pusher:signin", Value::Null).await;
    client.error().await;
    client.ping_barrier().await;
}

/// A number is a valid id. The client receives it as a string, because pusher-js requires one.
#[tokio::test]
async fn u03_a_number_is_an_id_in_its_one_spelling() {
    let server = Settings::new().start().await;
    for id in ["10", "10.0", "1e1"] {
        let mut client = server.client().await;
        let data = |id: &str| {
            format!(
                r#"{{"a":[{{"id":{id}}}], "id" : {id}, "user_info":{{"n":"\ud800"}},"b":"\u00e9"}}"#
            )
        };
        client.send_sign_in(&data(id)).await;
        let read_back = data(id).replace(&format!(r#""id" : {id}"#), r#""id" : "10""#);
        client.signed_in(&read_back).await;
        client.subscribe("#server-to-user-10").await;
        client.sign_in(r#"{"id":"10"}"#).await;
    }
}

#[tokio::test]
async fn a_watchlist_may_hold_numbers() {
    let server = Settings::new().start().await;
    let mut b = server.client().await;
    b.sign_in(r#"{"id":"10"}"#).await;
    let mut a = server.client().await;
    is_known_on_all_connections(&server, "10").await;
    a.sign_in(r#"{"id":"a","watchlist":[1e1,10,"10",-0]}"#).await;
    let events = inner(&a.next().await)["events"].take();
    let expected =
        json!([{ "name": "online", "user_ids": ["10"] }, { "name": "offline", "user_ids": ["0"] }]);
    assert_eq!(events, expected);
}

#[tokio::test]
async fn u04_the_same_user_may_sign_in_again() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.sign_in(r#"{"id":"12345"}"#).await;
    client.sign_in(r#"{"id":"12345","user_info":{"name":"Ann"}}"#).await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn u05_another_user_may_not_and_the_first_one_stays() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.sign_in(r#"{"id":"12345"}"#).await;
    client.send_sign_in(r#"{"id":"6"}"#).await;
    client.error().await;
    close(&server, "6", "terminate_connections").await;
    client.ping_barrier().await;
    close(&server, "12345", "terminate_connections").await;
    client.rejected(4009).await;
}

#[tokio::test]
async fn u06_a_user_subscribes_to_its_own_channel() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.sign_in(r#"{"id":"12345"}"#).await;
    client.command("pusher:subscribe", json!({ "auth": "", "channel": INBOX })).await;
    client.subscribed(INBOX).await;
}

#[tokio::test]
async fn u07_other_users_can_not_subscribe_to_it() {
    let server = Settings::new().start().await;
    let (mut stranger, mut other) = (server.client().await, server.client().await);
    is_rejected_the_inbox(&mut stranger).await;
    other.sign_in(r#"{"id":"1234"}"#).await;
    is_rejected_the_inbox(&mut other).await;
    let auth = stranger.auth(INBOX, None);
    stranger.command("pusher:subscribe", json!({ "auth": auth, "channel": INBOX })).await;
    stranger.rejection(INBOX).await;
    server.assert_not_received(INBOX, &mut stranger).await;
    server.assert_not_received(INBOX, &mut other).await;
}

#[tokio::test]
async fn u08_an_event_for_a_user_arrives_once_on_each_of_its_connections() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (in_the_inbox(&server).await, in_the_inbox(&server).await);
    server.publish(INBOX, "my-event", "1").await;
    for client in [&mut a, &mut b] {
        client.expect_event(INBOX, "my-event", "1").await;
    }
    server.assert_no_other_events(INBOX, &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn u08_a_server_to_user_channel_is_not_listed_and_rejects_client_events() {
    let server = Settings::new().start().await;
    let mut client = in_the_inbox(&server).await;
    client.whisper("client-x", INBOX, json!({})).await;
    client.event_error().await;
    assert_eq!(server.get("channels", &[]).await.json(), json!({ "channels": {} }));
}

/// Two connections of the user 12345, one that has only joined a channel as it, and one of another user.
async fn users(server: &Server) -> [Client; 4] {
    let mut clients = [
        server.client().await,
        server.client().await,
        server.client().await,
        server.client().await,
    ];
    clients[0].sign_in(r#"{"id":"12345"}"#).await;
    clients[1].sign_in(r#"{"id":"12345"}"#).await;
    clients[2].join("presence-r", "12345").await;
    clients[3].sign_in(r#"{"id":"1234"}"#).await;
    clients
}

#[tokio::test]
async fn u09_terminating_a_user_closes_its_connections_and_no_others() {
    let server = Settings::new().start().await;
    let [mut a, mut b, mut member, mut other] = users(&server).await;
    close(&server, "12345", "terminate_connections").await;
    a.rejected(4009).await;
    b.rejected(4009).await;
    member.ping_barrier().await;
    other.ping_barrier().await;
    close(&server, "nobody", "terminate_connections").await;
}

#[tokio::test]
async fn u14_a_user_who_is_forced_to_reconnect_is_closed_and_no_others() {
    let server = Settings::new().start().await;
    let [mut a, mut b, mut member, mut other] = users(&server).await;
    close(&server, "12345", "force_reconnect").await;
    a.rejected(4200).await;
    b.rejected(4200).await;
    member.ping_barrier().await;
    other.ping_barrier().await;
    close(&server, "nobody", "force_reconnect").await;
    let mut again = server.client().await;
    again.sign_in(r#"{"id":"12345"}"#).await;
}

#[tokio::test]
async fn u10_a_watcher_receives_the_state_of_its_watchlist() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    b.sign_in(r#"{"id":"b"}"#).await;
    is_known_on_all_connections(&server, "b").await;
    a.sign_in(r#"{"id":"a","watchlist":["b","c"]}"#).await;
    let message = a.next().await;
    assert_eq!(message.as_object().unwrap().len(), 2, "no channel: {message}");
    assert_eq!(message["event"], "pusher_internal:watchlist_events");
    let mut events = inner(&message)["events"].as_array().unwrap().clone();
    events.sort_by_key(|event| event["name"].to_string());
    let expected =
        json!([{ "name": "offline", "user_ids": ["c"] }, { "name": "online", "user_ids": ["b"] }]);
    assert_eq!(Value::Array(events), expected);
    a.ping_barrier().await;
}

#[tokio::test]
async fn u11_a_watcher_receives_online_and_offline_changes() {
    let server = Settings::new().start().await;
    let mut a = server.client().await;
    a.sign_in(r#"{"id":"a","watchlist":["c"]}"#).await;
    expect_watched(&mut a, "offline", &["c"]).await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    one.sign_in(r#"{"id":"c"}"#).await;
    expect_watched(&mut a, "online", &["c"]).await;
    two.sign_in(r#"{"id":"c"}"#).await;
    drop(one);
    server.wait_for_connections(2).await;
    a.ping_barrier().await;
    drop(two);
    expect_watched(&mut a, "offline", &["c"]).await;
    a.ping_barrier().await;
}

#[tokio::test]
async fn u12_the_101st_of_a_watchlist_is_not_watched() {
    let server = Settings::new().start().await;
    let (mut a, mut beyond, mut last) =
        (server.client().await, server.client().await, server.client().await);
    let ids: Vec<String> = (1..=101).map(|number| format!("w{number}")).collect();
    let user_data = json!({ "id": "a", "watchlist": ids }).to_string();
    a.sign_in(&user_data).await;
    assert_eq!(a.error().await.0, 4302);
    let all: Vec<&str> = ids[..100].iter().map(String::as_str).collect();
    expect_watched(&mut a, "offline", &all).await;
    beyond.sign_in(r#"{"id":"w101"}"#).await;
    last.sign_in(r#"{"id":"w100"}"#).await;
    expect_watched(&mut a, "online", &["w100"]).await;
}

#[tokio::test]
async fn u12_a_watchlist_of_100_is_watched_whole() {
    let server = Settings::new().start().await;
    let mut a = server.client().await;
    let ids: Vec<String> = (1..=100).map(|number| format!("w{number}")).collect();
    a.sign_in(&json!({ "id": "a", "watchlist": ids }).to_string()).await;
    expect_watched(&mut a, "offline", &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn u13_a_disabled_sign_in_is_an_error() {
    let server = Settings::new().app("user_authentication", false).start().await;
    let mut client = server.client().await;
    client.send_sign_in(r#"{"id":"12345"}"#).await;
    assert_eq!(client.error().await.0, Value::Null);
    client.ping_barrier().await;
    is_rejected_the_inbox(&mut client).await;
}

async fn in_the_inbox(server: &Server) -> Client {
    let mut client = server.client().await;
    client.sign_in(r#"{"id":"12345"}"#).await;
    client.subscribe(INBOX).await;
    client
}

async fn is_rejected_the_inbox(client: &mut Client) {
    client.command("pusher:subscribe", json!({ "auth": "", "channel": INBOX })).await;
    client.rejection(INBOX).await;
    client.ping_barrier().await;
}

async fn close(server: &Server, user_id: &str, how: &str) {
    let reply = server.post(&format!("users/{user_id}/{how}"), &json!({})).await;
    assert_eq!((reply.status, reply.json()), (200, json!({})));
}

/// Waits until the user is reported as online to a watcher, which takes some time in a cluster.
async fn is_known_on_all_connections(server: &Server, user_id: &str) {
    let mut watcher = server.client().await;
    watcher.sign_in(&json!({ "id": "watcher", "watchlist": [user_id] }).to_string()).await;
    while inner(&watcher.next().await)["events"][0]["name"] != "online" {}
}

/// Expects one watchlist event, with the user ids in any order.
async fn expect_watched(client: &mut Client, name: &str, user_ids: &[&str]) {
    let message = client.next().await;
    assert_eq!(message["event"], "pusher_internal:watchlist_events", "{message}");
    let events = inner(&message)["events"].take();
    let [event] = events.as_array().expect("events is an array").as_slice() else {
        panic!("one event: {events}")
    };
    assert_eq!(event["name"], name, "{events}");
    let ids = event["user_ids"].as_array().expect("user_ids is an array").iter();
    let mut ids: Vec<&str> = ids.map(|id| id.as_str().expect("an id is a string")).collect();
    ids.sort_unstable();
    let mut expected = user_ids.to_vec();
    expected.sort_unstable();
    assert_eq!(ids, expected);
}
