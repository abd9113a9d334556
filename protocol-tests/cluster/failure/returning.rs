//! Clients with a token that return to another node, because theirs stops, dies or does not answer.

use serde_json::{Value, json};

use crate::support::{C, Group, RECOVERY_MAX};
use kit::{Client, Frame, Redis, Server, cluster_settings, eventually, inner, metrics};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn two_nodes() -> Group {
    let settings = cluster_settings().server("shutdown_grace_s", 6);
    Group::with(2, settings, Redis::start().await).await
}

/// A client of the node with the token, subscribed to [`C`].
async fn subscribed(node: &Server) -> Client {
    let mut client = node.client_with_token(TOKEN).await;
    client.subscribe(C).await;
    client
}

/// The next message other than a count; pings of the server are not answered.
async fn next_text(client: &mut Client) -> Value {
    loop {
        match client.frame().await {
            Some(Frame::Text(text)) if text.contains("subscription_count") => {}
            Some(Frame::Text(text)) => return serde_json::from_str(&text).expect("JSON"),
            Some(Frame::Close(..)) | None => panic!("the connection has ended"),
            Some(_) => {}
        }
    }
}

/// Expects the close with 4200, and no event before it.
async fn expect_close(client: &mut Client) {
    assert_eq!(next_text(client).await["event"], "pusher:error");
    assert_eq!(client.closed().await.0, 4200);
}

async fn expect_ping(client: &mut Client) {
    assert_eq!(next_text(client).await["event"], "pusher:ping");
}

/// Makes the node of a client drain that has received and not confirmed one event, and publishes another one that is held
/// back.
async fn drain_an_unconfirmed_client(group: &Group, client: &mut Client) {
    group.nodes[0].publish(C, "e", "1").await;
    assert_eq!(next_text(client).await["data"], "1");
    expect_ping(client).await;
    group.nodes[1].signal("TERM");
    expect_ping(client).await;
    group.nodes[0].publish(C, "e", "2").await;
}

#[tokio::test]
async fn a_client_of_a_node_that_drains_confirms_and_receives_the_rest_elsewhere() {
    let group = two_nodes().await;
    let mut client = subscribed(&group.nodes[1]).await;
    let socket_id = client.socket_id.clone();
    drain_an_unconfirmed_client(&group, &mut client).await;
    for _ in 0..2 {
        client.text(r#"{"event":"pusher:pong","data":{}}"#).await;
    }
    expect_close(&mut client).await;
    let mut client = subscribed(&group.nodes[0]).await;
    assert_eq!(client.socket_id, socket_id);
    client.expect_event(C, "e", "2").await;
    group.nodes[0].assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn a_client_that_does_not_confirm_is_closed_all_the_same_and_receives_everything_again() {
    let group = two_nodes().await;
    let mut client = subscribed(&group.nodes[1]).await;
    drain_an_unconfirmed_client(&group, &mut client).await;
    let began = std::time::Instant::now();
    expect_close(&mut client).await;
    assert!(began.elapsed() < RECOVERY_MAX, "it is not waited for");
    let mut client = subscribed(&group.nodes[0]).await;
    client.expect_event(C, "e", "1").await;
    client.expect_event(C, "e", "2").await;
    group.nodes[0].assert_no_other_events(C, &mut [&mut client]).await;
}

/// Subscribes a client of the first node to [`C`] and to a channel that it had not, and expects a notice on both.
async fn expect_gaps(group: &Group, socket_id: &str) {
    let mut client = group.nodes[0].client_with_token(TOKEN).await;
    assert_eq!(client.socket_id, socket_id);
    for channel in [C, "another"] {
        client.subscribe(channel).await;
        let gap = client.next().await;
        assert_eq!((&gap["event"], &gap["channel"]), (&json!("campanile:gap"), &json!(channel)));
        assert_eq!(inner(&gap)["since_ms"], Value::Null, "it is not known since when");
    }
    group.nodes[0].publish(C, "e", "3").await;
    client.expect_event(C, "e", "3").await;
}

#[tokio::test]
async fn a_client_of_a_killed_node_may_have_missed_events_of_any_channel() {
    let mut group = two_nodes().await;
    let client = subscribed(&group.nodes[1]).await;
    group.kill(1).await;
    expect_gaps(&group, &client.socket_id).await;
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_not_waited_for() {
    let group = two_nodes().await;
    let client = subscribed(&group.nodes[1]).await;
    group.nodes[1].signal("STOP");
    expect_gaps(&group, &client.socket_id).await;
    group.nodes[1].signal("CONT");
}

#[tokio::test]
async fn a_client_returns_to_another_node_while_its_connection_lives() {
    let group = two_nodes().await;
    let mut old = subscribed(&group.nodes[1]).await;
    for number in ["1", "2"] {
        group.nodes[0].publish(C, "e", number).await;
    }
    // Nothing was confirmed, since the line seems to be lost.
    assert_eq!(next_text(&mut old).await["data"], "1");
    let mut client = subscribed(&group.nodes[0]).await;
    assert_eq!(client.socket_id, old.socket_id);
    client.expect_event(C, "e", "1").await;
    client.expect_event(C, "e", "2").await;
    // Back again, while the second connection lives too.
    client.acknowledge().await;
    group.nodes[0].publish(C, "e", "3").await;
    let mut client = subscribed(&group.nodes[1]).await;
    client.expect_event(C, "e", "3").await;
    group.nodes[0].assert_no_other_events(C, &mut [&mut client]).await;
    while old.frame().await.is_some() {}
}

#[tokio::test]
async fn a_redis_that_has_lost_its_data_gets_the_records_again() {
    for is_connected in [true, false] {
        let group = two_nodes().await;
        let client = subscribed(&group.nodes[1]).await;
        let (socket_id, connected) = (client.socket_id.clone(), is_connected.then_some(client));
        let mut redis = group.redis.client().await;
        let mut has_record = async || {
            let keys = redis.command(&["KEYS", "*:t{*"]).await.texts();
            let Some(key) = keys.first() else { return false };
            let kind = if is_connected { "C " } else { "P " };
            redis.command(&["GET", key]).await.text().starts_with(kind)
        };
        eventually("the record exists", &mut has_record).await;
        group.redis.client().await.command(&["FLUSHALL"]).await;
        eventually("the record exists again", &mut has_record).await;
        group.are_ready(RECOVERY_MAX).await;
        let mut returned = subscribed(&group.nodes[0]).await;
        assert_eq!(returned.socket_id, socket_id);
        assert_eq!(returned.next().await["event"], "campanile:gap", "the log was lost");
        drop(connected);
    }
}

#[tokio::test]
async fn a_client_that_returns_while_redis_does_not_answer_misses_nothing() {
    let group = two_nodes().await;
    let mut client = subscribed(&group.nodes[1]).await;
    let socket_id = client.socket_id.clone();
    group.nodes[0].publish(C, "e", "1").await;
    client.expect_event(C, "e", "1").await;
    client.acknowledge().await;
    drop(client);
    let mut redis = group.redis.client().await;
    eventually("the session is parked", async || {
        let keys = redis.command(&["KEYS", "*:t{*"]).await.texts();
        redis.command(&["GET", &keys[0]]).await.text().starts_with("P ")
    })
    .await;
    group.nodes[0].publish(C, "e", "2").await;
    group.redis.pause();
    let mut client = group.nodes[0].client_with_token(TOKEN).await;
    assert_ne!(client.socket_id, socket_id, "it could not be looked up");
    client.send_subscribe(C).await;
    group.redis.resume();
    client.subscribed(C).await;
    client.expect_event(C, "e", "2").await;
    group.nodes[0].assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn an_earlier_record_that_a_failover_has_left_is_replaced() {
    let settings = cluster_settings().server("shutdown_grace_s", 6);
    let mut group = Group::with(2, settings, Redis::start_persistent().await).await;
    let mut redis = group.redis.client().await;
    drop(subscribed(&group.nodes[1]).await);
    let mut record = async |part: &str| {
        let keys = redis.command(&["KEYS", "*:t{*"]).await.texts();
        let record = redis.command(&["GET", &keys[0]]).await.text().to_owned();
        (record.starts_with("P ") && record.contains(part))
            .then(|| [keys[0].clone(), record.clone()])
    };
    eventually("the session is parked", async || record(C).await.is_some()).await;
    let [key, earlier] = record(C).await.expect("it is parked");
    let mut client = subscribed(&group.nodes[0]).await;
    client.subscribe("another").await;
    drop(client);
    eventually("the next session is parked", async || record("another").await.is_some()).await;
    group.nodes[0].publish("another", "e", "1").await;
    group.redis.client().await.command(&["SET", &key, &earlier]).await;
    group.redis.kill();
    group.redis.start_again().await;
    let mut redis = group.redis.client().await;
    let is_replaced = async || redis.command(&["GET", &key]).await.text().contains("another");
    eventually("the later session is parked again", is_replaced).await;
    group.are_ready(RECOVERY_MAX).await;
    let mut client = group.nodes[1].client_with_token(TOKEN).await;
    client.subscribe("another").await;
    client.expect_event("another", "e", "1").await;
}

/// The first record of a client in Redis.
async fn record(group: &Group) -> String {
    let mut redis = group.redis.client().await;
    let keys = redis.command(&["KEYS", "*:t{*"]).await.texts();
    let Some(key) = keys.first() else { return String::new() };
    redis.command(&["GET", key]).await.text().to_owned()
}

/// Makes a client return to the first node, from the second one, while Redis does not answer for longer than its claim waits.
async fn returned_without_a_claim(group: &Group) -> Client {
    drop(subscribed(&group.nodes[1]).await);
    eventually("the session is parked", async || record(group).await.starts_with("P ")).await;
    group.redis.pause();
    let mut client = group.nodes[0].client_with_token(TOKEN).await;
    client.send_subscribe(C).await;
    // No session was parked on this node or evicted there, so the one that is counted was resumed.
    let sessions = async || metrics(group.nodes[0].address).await.sum("campanile_sessions_total");
    eventually("the claim has timed out", async || 0.0 < sessions().await).await;
    group.redis.resume();
    client.subscribed(C).await;
    let gap = client.next().await;
    assert_eq!((&gap["event"], &gap["channel"]), (&json!("campanile:gap"), &json!(C)));
    client
}

#[tokio::test]
async fn a_claim_that_has_timed_out_is_made_up_for() {
    let group = two_nodes().await;
    let _client = returned_without_a_claim(&group).await;
    let is_claimed = async || record(&group).await.starts_with("C ");
    eventually("the record is that of a connection", is_claimed).await;
}

#[tokio::test]
async fn the_session_of_a_connection_whose_claim_has_timed_out_replaces_the_earlier_one() {
    let group = two_nodes().await;
    let mut client = returned_without_a_claim(&group).await;
    let socket_id = client.socket_id.clone();
    client.subscribe("another").await;
    client.acknowledge().await;
    drop(client);
    let is_stored = async || record(&group).await.contains("another");
    eventually("the later session is parked", is_stored).await;
    group.are_ready(RECOVERY_MAX).await;
    group.nodes[0].publish("another", "e", "1").await;
    let mut client = group.nodes[1].client_with_token(TOKEN).await;
    assert_eq!(client.socket_id, socket_id);
    client.subscribe("another").await;
    client.expect_event("another", "e", "1").await;
}
