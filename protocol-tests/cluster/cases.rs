//! Tests with several nodes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Api, Group, Outcome, R, View, assert_view_everywhere};
use kit::{
    Call, Client, Redis, Server, Settings, cluster_settings, eventually, inner, node, quoted,
};

#[tokio::test]
async fn p17_a_member_on_another_node_is_announced_and_in_the_roster() {
    let group = Group::of(2).await;
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    a.join(R, "1").await;
    let roster = b.join(R, "2").await;
    assert_eq!(
        (&roster["count"], &roster["hash"]),
        (&json!(2), &json!({ "1": { "n": "1" }, "2": { "n": "2" } }))
    );
    a.expect_member_added(R, "2", json!({ "n": "2" })).await;
    // A second connection of the user on the other node adds no member, and the user is removed only after both
    // connections have ended.
    let mut again = group.nodes[0].client().await;
    assert_eq!(again.join(R, "2").await["count"], 2);
    b.unsubscribe(R).await;
    b.ping_barrier().await;
    group.nodes[1].assert_no_other_events(R, &mut [&mut a, &mut again]).await;
    drop(again);
    a.expect_member_removed(R, "2").await;
    group.nodes[1].assert_no_other_events(R, &mut [&mut a]).await;
}

#[tokio::test]
async fn e13_a_client_event_reaches_the_other_node_and_not_its_sender() {
    let group = Group::of(2).await;
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    for channel in ["private-r", "private-encrypted-r"] {
        a.subscribe(channel).await;
        b.subscribe(channel).await;
        a.whisper("client-x", channel, json!("from a")).await;
        b.expect_event(channel, "client-x", "from a").await;
        b.whisper("client-y", channel, json!("from b")).await;
        a.expect_event(channel, "client-y", "from b").await;
        group.nodes[0].assert_no_other_events(channel, &mut [&mut a, &mut b]).await;
    }
}

#[tokio::test]
async fn e13_on_a_presence_channel_it_carries_its_senders_id_to_the_other_node() {
    let group = Group::of(2).await;
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    a.join(R, "1").await;
    b.join(R, "2").await;
    a.expect_member_added(R, "2", json!({ "n": "2" })).await;
    b.whisper("client-x", R, json!("{}")).await;
    a.expect(json!({ "event": "client-x", "channel": R, "data": "{}", "user_id": "2" })).await;
    group.nodes[1].assert_no_other_events(R, &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn h15_a_socket_is_excluded_on_any_node() {
    let group = Group::of(2).await;
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    a.subscribe("c").await;
    b.subscribe("c").await;
    for publisher in &group.nodes {
        let event = json!({ "name": "e", "channel": "c", "data": "1", "socket_id": a.socket_id });
        publisher.publish_event(event).await;
        b.expect_event("c", "e", "1").await;
        publisher.assert_no_other_events("c", &mut [&mut a, &mut b]).await;
    }
}

#[tokio::test]
async fn u08_an_event_for_a_user_arrives_on_its_connections_on_all_nodes() {
    const INBOX: &str = "#server-to-user-ann";
    let group = Group::of(2).await;
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    for client in [&mut a, &mut b] {
        client.sign_in(r#"{"id":"ann"}"#).await;
        client.subscribe(INBOX).await;
    }
    for publisher in &group.nodes {
        publisher.publish(INBOX, "e", "1").await;
        a.expect_event(INBOX, "e", "1").await;
        b.expect_event(INBOX, "e", "1").await;
    }
    group.nodes[0].assert_no_other_events(INBOX, &mut [&mut a, &mut b]).await;
}

/// A call closes the connections of a user with this code on all nodes, and no other.
async fn closes_the_user_on_all_nodes(call: &str, code: u16) {
    let group = Group::of(2).await;
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    let mut other = group.nodes[1].client().await;
    a.sign_in(r#"{"id":"ann"}"#).await;
    b.sign_in(r#"{"id":"ann"}"#).await;
    other.sign_in(r#"{"id":"bob"}"#).await;
    let reply = group.nodes[0].post(&format!("users/ann/{call}"), &json!({})).await;
    assert_eq!((reply.status, reply.json()), (200, json!({})));
    a.rejected(code).await;
    b.rejected(code).await;
    other.ping_barrier().await;
}

#[tokio::test]
async fn u09_terminating_a_user_closes_its_connections_on_all_nodes() {
    closes_the_user_on_all_nodes("terminate_connections", 4009).await;
}

#[tokio::test]
async fn u14_a_user_is_forced_to_reconnect_on_all_nodes() {
    closes_the_user_on_all_nodes("force_reconnect", 4200).await;
}

#[tokio::test]
async fn u11_a_watcher_receives_changes_of_users_on_other_nodes() {
    let group = Group::of(2).await;
    let mut watcher = group.nodes[0].client().await;
    watcher.sign_in(r#"{"id":"w","watchlist":["c"]}"#).await;
    assert_eq!(watched(&mut watcher).await, json!([{ "name": "offline", "user_ids": ["c"] }]));
    let mut one = group.nodes[1].client().await;
    one.sign_in(r#"{"id":"c"}"#).await;
    assert_eq!(watched(&mut watcher).await, json!([{ "name": "online", "user_ids": ["c"] }]));
    // One connection on each node: the first one to close is not the last.
    let mut two = group.nodes[0].client().await;
    two.sign_in(r#"{"id":"c"}"#).await;
    drop(one);
    group.nodes[0].wait_for_connections(2).await;
    watcher.ping_barrier().await;
    // A user that reconnects within the grace period, on another node, is not removed.
    drop(two);
    let mut three = group.nodes[1].client().await;
    three.sign_in(r#"{"id":"c"}"#).await;
    let gone = Instant::now();
    drop(three);
    assert_eq!(watched(&mut watcher).await, json!([{ "name": "offline", "user_ids": ["c"] }]));
    assert!(Duration::from_secs(2) <= gone.elapsed(), "a grace of 3 s: {:?}", gone.elapsed());
    watcher.ping_barrier().await;
}

#[tokio::test]
async fn c06_the_app_limit_counts_the_connections_of_all_nodes() {
    let settings = cluster_settings().app("max_connections", 2);
    let group = Group::with(2, settings, Redis::start().await).await;
    let (a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    for node in &group.nodes {
        let mut rejected = node.open("/app/278d425bdf160c739803?protocol=7").await;
        rejected.rejected(4004).await;
    }
    b.ping_barrier().await;
    drop(a);
    let has_room = async || {
        let mut client = group.nodes[1].open("/app/278d425bdf160c739803?protocol=7").await;
        client.next().await["event"] == "pusher:connection_established"
    };
    eventually("the place is released", has_room).await;
}

#[tokio::test]
async fn p14_the_limit_of_members_counts_those_of_all_nodes() {
    let settings = cluster_settings().app("max_presence_members", 2);
    let group = Group::with(2, settings, Redis::start().await).await;
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    a.join(R, "1").await;
    b.join(R, "2").await;
    let mut third = group.nodes[0].client().await;
    third.send_subscribe_with(R, r#"{"user_id":"3"}"#).await;
    third.rejection(R).await;
    let mut first_again = group.nodes[1].client().await;
    assert_eq!(first_again.join(R, "1").await["count"], 2);
}

#[tokio::test]
async fn every_node_gives_the_same_answers() {
    let group = Group::of(3).await;
    let mut clients = Vec::new();
    for (at, node) in group.nodes.iter().enumerate() {
        let mut client = node.client().await;
        client.subscribe("c").await;
        client.join(R, &format!("user-{}", at % 2)).await;
        if at == 0 {
            client.subscribe("private-only-here").await;
        }
        clients.push(client);
    }
    let truth = View::default()
        .with_count("c", 3)
        .with_count("private-only-here", 1)
        .with_users(R, &["user-0", "user-1"])
        .with_connections(3);
    assert_view_everywhere(&group.addresses(), Duration::ZERO, &truth).await;
    group.nodes[2].publish("cache-x", "e", "remembered").await;
    for node in &group.nodes {
        assert_eq!(node.channel("cache-x", "cache").await["cache"]["data"], "remembered");
        let query = [("filter_by_prefix", "presence-"), ("info", "user_count")];
        let reply = node.get("channels", &query).await.json();
        assert_eq!(reply, json!({ "channels": { R: { "user_count": 2 } } }));
        let event = json!({ "name": "e", "channels": ["c", R], "data": "1", "info": "user_count,subscription_count" });
        let reply = node.publish_event(event).await;
        assert_eq!(reply["channels"]["c"]["subscription_count"], 3);
        assert_eq!(reply["channels"][R]["user_count"], 2);
    }
}

#[tokio::test]
async fn a_cached_event_outlives_the_nodes() {
    let mut group = Group::of(1).await;
    group.nodes[0].publish("cache-x", "e", "1").await;
    group.kill(0).await;
    group.grow().await;
    let mut client = group.nodes[0].client().await;
    client.subscribe("cache-x").await;
    client.expect_event("cache-x", "e", "1").await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn clusters_with_two_prefixes_share_a_redis_and_nothing_else() {
    let redis = Redis::start().await;
    let one = node(&prefixed("one"), &redis.url()).await;
    let two = node(&prefixed("two"), &redis.url()).await;
    let (mut a, mut b) = (one.client().await, two.client().await);
    a.join(R, "1").await;
    assert_eq!(b.join(R, "2").await["count"], 1, "clusters do not share members");
    for (server, client, data) in [(&one, &mut a, "to one"), (&two, &mut b, "to two")] {
        server.publish(R, "e", data).await;
        client.expect_event(R, "e", data).await;
        client.ping_barrier().await;
        assert_eq!(server.connections().await, 1);
    }
}

#[tokio::test]
async fn apps_of_one_cluster_share_nothing() {
    let settings = cluster_settings().add_app("4", "key-of-4", "secret-of-4");
    let group = Group::with(2, settings, Redis::start().await).await;
    let mut a = group.nodes[0].client().await;
    a.subscribe("c").await;
    let event = json!({ "name": "e", "channel": "c", "data": "1" }).to_string();
    let call = Call::new("POST", "/apps/4/events", event).credentials("key-of-4", "secret-of-4");
    assert_eq!(call.send(&group.nodes[1]).await.status, 200);
    group.nodes[1].assert_no_other_events("c", &mut [&mut a]).await;
}

/// Two publishers on two nodes wait for each answer; subscribers on three nodes receive the events in one order, in
/// which an answered event precedes those that were published later.
#[tokio::test]
async fn events_and_client_events_of_all_nodes_have_one_order_everywhere() {
    let settings = cluster_settings().app("client_events_per_second", 0);
    let group = Group::with(3, settings, Redis::start().await).await;
    let mut clients = Vec::new();
    for node in &group.nodes {
        let mut client = node.client().await;
        client.subscribe("private-c").await;
        clients.push(client);
    }
    let mut whisperer = group.nodes[2].client().await;
    whisperer.subscribe("private-c").await;
    let publish = async |node: &Server| {
        let mut api = Api::new(node.address);
        for number in 0..100 {
            let outcome =
                api.publish("private-c", "e", &format!("{} {number}", node.address)).await;
            assert_eq!(outcome, Outcome::Accepted);
        }
    };
    let whisper = async {
        for number in 0..100 {
            whisperer.whisper("client-x", "private-c", json!(format!("whisper {number}"))).await;
        }
    };
    let read = async |client: &mut Client| {
        let mut seen = Vec::new();
        for _ in 0..300 {
            seen.push(client.next().await["data"].take());
        }
        client.ping_barrier().await;
        seen
    };
    let [one, two, three] = clients.as_mut_slice() else { panic!("three clients") };
    let sending =
        async { tokio::join!(publish(&group.nodes[0]), publish(&group.nodes[1]), whisper) };
    let (_, one, two, three) = tokio::join!(sending, read(one), read(two), read(three));
    assert!(one == two && two == three, "all receive the same order");
    let whispers = one.iter().filter_map(Value::as_str).filter(|data| data.starts_with("whisper"));
    assert!(whispers.eq((0..100).map(|number| format!("whisper {number}")).collect::<Vec<_>>()));
}

fn prefixed(prefix: &str) -> Settings {
    cluster_settings().section("redis", "prefix", quoted(prefix))
}

/// The next watchlist event.
async fn watched(client: &mut Client) -> Value {
    let message = client.next().await;
    assert_eq!(message["event"], "pusher_internal:watchlist_events", "{message}");
    inner(&message)["events"].take()
}
