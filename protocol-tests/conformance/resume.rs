//! Cases of `docs/resume.md`: a client with a token that returns misses nothing, or receives a notice of the gap.

use serde_json::{Value, json};

use kit::{Client, Frame, KEY, Server, Settings, frames, inner, quoted, sign};

use crate::Start as _;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const C: &str = "private-c";

async fn server() -> Server {
    Settings::new().connection("presence_grace_s", 600).start().await
}

/// A client with the token, subscribed to the channel.
async fn subscribed(server: &Server) -> Client {
    let mut client = server.client_with_token(TOKEN).await;
    client.subscribe(C).await;
    client
}

/// Ends the connection without a close frame, and waits until the server knows.
async fn lose(server: &Server, client: Client) {
    let left = server.connections().await - 1;
    drop(client);
    server.wait_for_connections(left).await;
}

async fn publish(server: &Server, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        server.publish(C, "e", &number.to_string()).await;
    }
}

async fn expect(client: &mut Client, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        client.expect_event(C, "e", &number.to_string()).await;
    }
}

/// The numbers of the events in messages.
fn numbers(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .filter(|message| message["event"] == "e")
        .filter_map(|message| message["data"].as_str())
        .collect()
}

/// The position of a page that counts the events of [`C`] as `campanile-resume` does, from `position` on, when it has received
/// the event with this data.
async fn count_until(client: &mut Client, mut position: Value, data: &str) -> Value {
    loop {
        let message = client.next().await;
        if message["event"] == "pusher_internal:position" {
            position = inner(&message);
        } else if message["event"] == "e" {
            position[1] = json!(position[1].as_u64().expect("a sequence") + 1);
            if message["data"] == data {
                return position;
            }
        }
    }
}

/// A client with the token that counts, and has counted up to these positions. It is subscribed to [`C`].
async fn counting(server: &Server, channels: Value) -> Client {
    let mut client = server.client_with_token(TOKEN).await;
    client.command("campanile:resume", json!({ "channels": channels })).await;
    client.subscribe(C).await;
    client
}

async fn expect_gap(client: &mut Client, channel: &str) -> u64 {
    let gap = client.next().await;
    assert_eq!(
        (&gap["event"], &gap["channel"]),
        (&json!("campanile:gap"), &json!(channel)),
        "{gap}"
    );
    // Handlers that are bound on the client learn the channel from the data.
    assert_eq!(inner(&gap)["channel"], channel);
    inner(&gap)["since_ms"].as_u64().expect("a number")
}

#[tokio::test]
async fn what_was_published_meanwhile_follows_the_acknowledgement_in_order() {
    let server = server().await;
    let mut client = subscribed(&server).await;
    publish(&server, 1..=2).await;
    assert_eq!(numbers(&client.acknowledge().await), ["1", "2"]);
    let socket_id = client.socket_id.clone();
    lose(&server, client).await;
    publish(&server, 3..=5).await;
    let mut client = server.client_with_token(TOKEN).await;
    assert_eq!(client.socket_id, socket_id, "signatures of before are valid");
    publish(&server, 6..=6).await;
    client.subscribe(C).await;
    publish(&server, 7..=7).await;
    expect(&mut client, 3..=7).await;
    server.assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn what_was_sent_and_not_acknowledged_is_sent_again() {
    let server = Settings::new().section("metrics", "token", r#""t""#).start().await;
    let mut client = subscribed(&server).await;
    publish(&server, 1..=1).await;
    assert_eq!(numbers(&client.acknowledge().await), ["1"]);
    publish(&server, 2..=3).await;
    // These were received, and the server can't know.
    while client
        .frame()
        .await
        .is_some_and(|frame| !matches!(&frame, Frame::Text(text) if text.contains(r#""data":"3""#)))
    {
    }
    lose(&server, client).await;
    let mut client = subscribed(&server).await;
    expect(&mut client, 2..=3).await;
    server.assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn an_answer_to_a_ping_from_before_the_replay_acknowledges_none_of_it() {
    let server = server().await;
    let client = subscribed(&server).await;
    lose(&server, client).await;
    publish(&server, 1..=3).await;
    let mut client = server.client_with_token(TOKEN).await;
    // The first message makes it the client's connection, and the answer to it is followed by a ping.
    client.command("pusher:ping", json!({})).await;
    loop {
        match client.frame().await {
            Some(Frame::Text(text)) if text.contains("pusher:ping") => break,
            Some(_) => {}
            None => panic!("the connection has ended"),
        }
    }
    client.send_subscribe(C).await;
    client.text(r#"{"event":"pusher:pong","data":{}}"#).await;
    // Lost before the page has read what was replayed.
    lose(&server, client).await;
    let mut client = subscribed(&server).await;
    expect(&mut client, 1..=3).await;
}

#[tokio::test]
async fn a_second_subscription_to_a_channel_does_not_repeat_the_replay() {
    let server = server().await;
    let client = subscribed(&server).await;
    lose(&server, client).await;
    publish(&server, 1..=2).await;
    let mut client = subscribed(&server).await;
    expect(&mut client, 1..=2).await;
    client.send_subscribe(C).await;
    let (_, message) = client.error().await;
    assert!(message.contains("Existing subscription"), "{message}");
    server.assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn events_that_exclude_the_client_are_not_replayed_to_it() {
    let server = server().await;
    let client = subscribed(&server).await;
    let socket_id = client.socket_id.clone();
    lose(&server, client).await;
    server
        .publish_event(json!({ "name": "e", "channel": C, "data": "own", "socket_id": socket_id }))
        .await;
    publish(&server, 1..=1).await;
    let mut client = subscribed(&server).await;
    expect(&mut client, 1..=1).await;
    server.assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn a_page_that_counts_and_is_cut_within_a_replay_receives_no_event_twice() {
    let server = server().await;
    let mut client = counting(&server, json!({})).await;
    let mut position = inner(&client.next().await);
    let own = json!({ "name": "e", "channel": C, "data": "own", "socket_id": client.socket_id });
    lose(&server, client).await;
    publish(&server, 1..=1).await;
    for number in 2..=3 {
        server.publish_event(own.clone()).await;
        publish(&server, number..=number).await;
        // The line is cut before the position that follows the replay.
        let mut client = counting(&server, json!({ C: position })).await;
        position = count_until(&mut client, position, &number.to_string()).await;
        lose(&server, client).await;
    }
    publish(&server, 4..=4).await;
    let mut client = counting(&server, json!({ C: position })).await;
    expect(&mut client, 4..=4).await;
    assert_eq!(client.next().await["event"], "pusher_internal:position");
    server.assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn client_events_and_members_are_not_replayed() {
    let server = server().await;
    let mut witness = server.client().await;
    let mut client = server.client_with_token(TOKEN).await;
    client.join("presence-c", "1").await;
    witness.join("presence-c", "2").await;
    lose(&server, client).await;
    witness.whisper("client-e", "presence-c", json!("whisper")).await;
    witness.ping_barrier().await;
    let mut other = server.client().await;
    other.join("presence-c", "3").await;
    server.publish("presence-c", "e", "1").await;
    let mut client = server.client_with_token(TOKEN).await;
    let roster = client.join("presence-c", "1").await;
    assert_eq!(roster["ids"], json!(["1", "2", "3"]), "the roster of now");
    client.expect_event("presence-c", "e", "1").await;
    server.assert_no_other_events("presence-c", &mut [&mut client]).await;
    witness.expect_member_added("presence-c", "3", json!({ "n": "3" })).await;
    witness.expect_event("presence-c", "e", "1").await;
    server.assert_no_other_events("presence-c", &mut [&mut witness]).await;
}

#[tokio::test]
async fn a_client_that_returns_to_channels_leaves_them_neither_vacated_nor_occupied() {
    let server = server().await;
    let mut counted = server.client().await.with_counts();
    let client = subscribed(&server).await;
    lose(&server, client).await;
    assert_eq!(server.channel(C, "").await["occupied"], true);
    let mut client = subscribed(&server).await;
    counted.send_subscribe(C).await;
    counted.subscribed(C).await;
    // What lingered has been replaced, on another node a little later.
    while inner(&counted.next().await) != json!({ "subscription_count": 2 }) {}
    client.unsubscribe(C).await;
}

#[tokio::test]
async fn more_than_is_replayed_is_a_gap_and_nothing_else() {
    for (settings, publishes) in [
        (Settings::new().connection("resume_max_events", 3), vec!["x"; 4]),
        (Settings::new().app("max_event_bytes", 200_000), vec![&*"x".repeat(140_000); 2]),
    ] {
        let server = settings.start().await;
        let client = subscribed(&server).await;
        lose(&server, client).await;
        for data in &publishes[1..] {
            server.publish(C, "e", data).await;
        }
        let mut client = subscribed(&server).await;
        for data in &publishes[1..] {
            client.expect_event(C, "e", data).await;
        }
        lose(&server, client).await;
        for data in &publishes {
            server.publish(C, "e", data).await;
        }
        let mut client = subscribed(&server).await;
        assert!(expect_gap(&mut client, C).await < 60_000);
        server.assert_no_other_events(C, &mut [&mut client]).await;
    }
}

#[tokio::test]
async fn without_an_authorization_a_token_is_worth_nothing() {
    let server = server().await;
    let client = subscribed(&server).await;
    let socket_id = client.socket_id.clone();
    lose(&server, client).await;
    publish(&server, 1..=1).await;
    let mut thief = server.client_with_token(TOKEN).await;
    let auth = sign::channel_auth(KEY, "another secret", &socket_id, C, None);
    thief.command("pusher:subscribe", json!({ "auth": auth, "channel": C })).await;
    thief.rejection(C).await;
    thief.ping_barrier().await;
    lose(&server, thief).await;
    let mut client = subscribed(&server).await;
    expect(&mut client, 1..=1).await;
}

#[tokio::test]
async fn tokens_of_apps_have_nothing_to_do_with_one_another() {
    let server = Settings::new().add_app("other", "other-key", "other-secret").start().await;
    let mut client = server.client_with_token(TOKEN).await;
    client.subscribe("c").await;
    let socket_id = client.socket_id.clone();
    lose(&server, client).await;
    server.publish("c", "e", "1").await;
    let mut other = server.open(&format!("/app/resume-{TOKEN}/app/other-key?protocol=7")).await;
    other.established().await;
    assert_ne!(other.socket_id, socket_id);
    other.subscribe("c").await;
    other.ping_barrier().await;
    let mut client = server.client_with_token(TOKEN).await;
    client.subscribe("c").await;
    client.expect_event("c", "e", "1").await;
}

#[tokio::test]
async fn an_unknown_token_begins_anew() {
    let server = server().await;
    let mut known = subscribed(&server).await;
    publish(&server, 1..=1).await;
    expect(&mut known, 1..=1).await;
    let mut client = server.client_with_token("another-token-of-16").await;
    assert_ne!(client.socket_id, known.socket_id);
    client.subscribe(C).await;
    server.assert_no_other_events(C, &mut [&mut client, &mut known]).await;
}

#[tokio::test]
async fn a_token_may_follow_the_key() {
    let server = server().await;
    let open = async || {
        let mut client = server.open(&format!("/app/{KEY}~{TOKEN}?protocol=7")).await;
        client.established().await;
        client.subscribe(C).await;
        client
    };
    let client = open().await;
    let socket_id = client.socket_id.clone();
    lose(&server, client).await;
    publish(&server, 1..=1).await;
    let mut client = open().await;
    assert_eq!(client.socket_id, socket_id);
    expect(&mut client, 1..=1).await;
}

#[tokio::test]
async fn what_is_no_token_is_rejected() {
    let server = server().await;
    for token in ["short", &"x".repeat(65), "0123456789abcde!", ""] {
        let mut client = server.open(&format!("/app/resume-{token}/app/{KEY}?protocol=7")).await;
        let message = client.rejected(4005).await;
        assert!(message.contains("token of 16 to 64"), "{message}");
    }
    // A key may look like one with a token.
    let mut client = server.open(&format!("/app/{KEY}~short?protocol=7")).await;
    client.rejected(4001).await;
}

#[tokio::test]
async fn a_client_that_returns_before_its_old_connection_ends_takes_its_place() {
    let server = server().await;
    let mut old = subscribed(&server).await;
    publish(&server, 1..=1).await;
    assert_eq!(numbers(&old.acknowledge().await), ["1"]);
    publish(&server, 2..=2).await;
    let mut new = server.client_with_token(TOKEN).await;
    assert_eq!(new.socket_id, old.socket_id);
    // Nothing happens before its first message: it may be an attempt that the page gives up.
    expect(&mut old, 2..=2).await;
    let mut given_up = server.client_with_token(TOKEN).await;
    given_up.bytes(frames::masked(frames::FIN | frames::CLOSE, &[])).await;
    old.ping_barrier().await;
    publish(&server, 3..=3).await;
    new.subscribe(C).await;
    expect(&mut new, 2..=3).await;
    while old.frame().await.is_some() {}
    publish(&server, 4..=4).await;
    expect(&mut new, 4..=4).await;
    server.assert_no_other_events(C, &mut [&mut new]).await;
}

#[tokio::test]
async fn a_client_that_has_closed_its_connection_gets_what_was_published_before_it_connects_again()
{
    let server = server().await;
    let mut witness = server.client().await;
    witness.join("presence-c", "2").await;
    let mut client = server.client_with_token(TOKEN).await;
    client.join("presence-c", "1").await;
    witness.expect_member_added("presence-c", "1", json!({ "n": "1" })).await;
    client.bytes(frames::masked(frames::FIN | frames::CLOSE, &1000_u16.to_be_bytes())).await;
    witness.expect_member_removed("presence-c", "1").await;
    server.publish("presence-c", "e", "1").await;
    let mut client = server.client_with_token(TOKEN).await;
    client.join("presence-c", "1").await;
    client.expect_event("presence-c", "e", "1").await;
}

#[tokio::test]
async fn a_terminated_client_begins_anew() {
    let server = server().await;
    let mut client = server.client_with_token(TOKEN).await;
    client.sign_in(r#"{"id":"1"}"#).await;
    client.subscribe(C).await;
    let socket_id = client.socket_id.clone();
    let reply = server.post("users/1/terminate_connections", &json!({})).await;
    assert_eq!(reply.status, 200, "{reply}");
    assert_eq!(client.closed_eventually().await.0, 4009);
    publish(&server, 1..=1).await;
    let mut client = subscribed(&server).await;
    assert_ne!(client.socket_id, socket_id);
    server.assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn a_page_that_answers_no_pings_is_disconnected_even_if_its_browser_does() {
    let server = Settings::new().connection("pong_timeout_s", 1).start().await;
    let mut client = subscribed(&server).await;
    loop {
        match client.frame().await {
            Some(Frame::Ping(payload)) => {
                client.bytes(frames::masked(frames::FIN | frames::PONG, &payload)).await;
            }
            Some(Frame::Close(code, _)) => break assert_eq!(code, 4201),
            Some(_) => {}
            None => panic!("no close frame"),
        }
    }
}

#[tokio::test]
async fn a_client_that_is_no_browser_may_acknowledge_by_websocket_pongs() {
    let settings = Settings::new().connection("resume_ack", quoted("websocket"));
    let server = settings.start().await;
    let mut client = subscribed(&server).await;
    publish(&server, 1..=2).await;
    let mut received = Vec::new();
    // The pong of the second event acknowledges both. A pong of the page's code acknowledges nothing.
    loop {
        match client.frame().await {
            Some(Frame::Text(text)) => {
                assert!(!text.contains("pusher:ping"), "{text}");
                received.push(text);
                client.text(r#"{"event":"pusher:pong","data":{}}"#).await;
            }
            Some(Frame::Ping(payload)) => {
                client.bytes(frames::masked(frames::FIN | frames::PONG, &payload)).await;
                if received.iter().any(|text| text.contains(r#""data":"2""#)) {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    client.ping_barrier().await;
    publish(&server, 3..=3).await;
    lose(&server, client).await;
    let mut client = subscribed(&server).await;
    expect(&mut client, 3..=3).await;
    server.assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn nothing_is_resumed_where_it_is_off() {
    let server = Settings::new().connection("resume_s", 0).start().await;
    let client = subscribed(&server).await;
    let socket_id = client.socket_id.clone();
    lose(&server, client).await;
    publish(&server, 1..=1).await;
    let mut client = subscribed(&server).await;
    assert_ne!(client.socket_id, socket_id);
    server.assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn the_cached_event_is_not_sent_again_to_a_client_that_has_it() {
    let server = server().await;
    let channel = "private-cache-c";
    server.publish(channel, "e", "1").await;
    let mut client = server.client_with_token(TOKEN).await;
    client.subscribe(channel).await;
    client.expect_event(channel, "e", "1").await;
    lose(&server, client).await;
    server.publish(channel, "e", "2").await;
    let mut client = server.client_with_token(TOKEN).await;
    client.subscribe(channel).await;
    client.expect_event(channel, "e", "2").await;
    server.assert_no_other_events(channel, &mut [&mut client]).await;
}

#[tokio::test]
async fn channels_that_are_not_asked_for_end_with_the_grace_period() {
    let settings =
        Settings::new().connection("presence_grace_s", 1).section("log", "level", quoted("debug"));
    let server = settings.start().await;
    let mut witness = server.client().await;
    witness.join("presence-c", "2").await;
    let mut client = server.client_with_token(TOKEN).await;
    client.join("presence-c", "1").await;
    witness.expect_member_added("presence-c", "1", json!({ "n": "1" })).await;
    lose(&server, client).await;
    let mut client = subscribed(&server).await;
    witness.expect_member_removed("presence-c", "1").await;
    client.ping_barrier().await;
}
