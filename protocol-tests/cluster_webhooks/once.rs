//! Every event is delivered once by the whole cluster.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::group::{Group, received, request, sample, until, webhooks};
use kit::webhook_receiver::{WebhookReceiver, of_channel, of_member};

const R: &str = "presence-r";

#[tokio::test]
async fn a_user_on_two_nodes_is_added_once_and_removed_once() {
    let mut receiver = WebhookReceiver::new().await;
    let group =
        Group::of(2, webhooks(&[(&receiver, r#"["member_added", "member_removed"]"#)])).await;
    let (mut one, mut two) = (group.client(0).await, group.client(1).await);
    one.join(R, "10").await;
    two.join(R, "10").await;
    assert_eq!(received(&mut receiver, 1).await, [of_member("member_added", R, "10")]);
    one.unsubscribe(R).await;
    two.join("presence-marker", "1").await;
    let marker = of_member("member_added", "presence-marker", "1");
    assert_eq!(received(&mut receiver, 1).await, [marker], "the other node still has a subscriber");
    two.unsubscribe(R).await;
    assert_eq!(received(&mut receiver, 1).await, [of_member("member_removed", R, "10")]);
}

#[tokio::test]
async fn a_channel_is_occupied_on_one_node_and_vacated_on_the_other() {
    let mut receiver = WebhookReceiver::new().await;
    let events = r#"["channel_occupied", "channel_vacated", "subscription_count"]"#;
    let group = Group::of(2, webhooks(&[(&receiver, events)])).await;
    let (mut first, mut second) = (group.client(0).await, group.client(1).await);
    let count = |count| json!({ "name": "subscription_count", "channel": "t", "subscription_count": count });
    first.subscribe("t").await;
    assert_eq!(received(&mut receiver, 2).await, [of_channel("channel_occupied", "t"), count(1)]);
    second.subscribe("t").await;
    assert_eq!(received(&mut receiver, 1).await, [count(2)]);
    drop(first);
    assert_eq!(received(&mut receiver, 1).await, [count(1)]);
    drop(second);
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_vacated", "t")]);
}

#[tokio::test]
async fn a_page_that_reloads_onto_another_node_causes_no_events() {
    let mut receiver = WebhookReceiver::new().await;
    let events = r#"["channel_occupied", "channel_vacated", "member_added", "member_removed"]"#;
    let group = Group::of(2, webhooks(&[(&receiver, events)])).await;
    let mut client = group.client(0).await;
    client.join(R, "10").await;
    let arrivals = [of_channel("channel_occupied", R), of_member("member_added", R, "10")];
    assert_eq!(received(&mut receiver, 2).await, arrivals);
    drop(client);
    until("all nodes report the channel as vacant", async || {
        group.nodes[1].channel(R, "").await["occupied"] == false
    })
    .await;
    let mut client = group.client(1).await;
    client.join(R, "10").await;
    // Later events are reported after those that the first channel could cause.
    client.subscribe("u").await;
    client.unsubscribe("u").await;
    let expected = [of_channel("channel_occupied", "u"), of_channel("channel_vacated", "u")];
    assert_eq!(received(&mut receiver, 2).await, expected);
}

/// On a Redis Cluster, events that are logged in the partition of a channel are forwarded to the
/// app's log.
#[tokio::test]
async fn on_a_redis_cluster_every_event_is_delivered_once_as_well() {
    let mut receiver = WebhookReceiver::new().await;
    let events = r#"["channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event", "user_online", "user_offline"]"#;
    let group = Group::on_a_cluster(2, webhooks(&[(&receiver, events)])).await;
    let mut client = group.client(0).await;
    client.join(R, "10").await;
    let arrivals = [of_channel("channel_occupied", R), of_member("member_added", R, "10")];
    assert_eq!(received(&mut receiver, 2).await, arrivals);
    // The client reconnects repeatedly, each time to the other node.
    for turn in 1..=20 {
        let next = async {
            let mut next = group.client(turn % 2).await;
            next.join(R, "10").await;
            next
        };
        client = tokio::join!(client.unsubscribe(R), next).1;
    }
    client.whisper("client-a", R, json!("1")).await;
    assert_eq!(received(&mut receiver, 1).await[0]["event"], "client-a");
    client.sign_in(r#"{"id":"ann"}"#).await;
    let user = |name| of_member(name, "#server-to-user-ann", "ann");
    assert_eq!(received(&mut receiver, 1).await, [user("user_online")]);
    drop(client);
    let mut departures = received(&mut receiver, 3).await;
    let offline = departures.iter().position(|event| event["name"] == "user_offline");
    assert_eq!(departures.remove(offline.expect("the user is offline")), user("user_offline"));
    assert_eq!(
        departures,
        [of_member("member_removed", R, "10"), of_channel("channel_vacated", R)]
    );
}

#[tokio::test]
async fn a_member_is_removed_before_its_channel_is_vacated() {
    let mut receiver = WebhookReceiver::new().await;
    let events = r#"["channel_vacated", "member_removed"]"#;
    let group = Group::of(1, webhooks(&[(&receiver, events)])).await;
    for _ in 0..3 {
        let mut client = group.client(0).await;
        client.join(R, "10").await;
        drop(client);
        let expected = [of_member("member_removed", R, "10"), of_channel("channel_vacated", R)];
        assert_eq!(received(&mut receiver, 2).await, expected);
    }
}

#[tokio::test]
async fn a_user_is_online_on_both_nodes_and_offline_after_the_last() {
    let mut receiver = WebhookReceiver::new().await;
    let group = Group::of(2, webhooks(&[(&receiver, r#"["user_online", "user_offline"]"#)])).await;
    let (mut one, mut two) = (group.client(0).await, group.client(1).await);
    one.sign_in(r#"{"id":"ann"}"#).await;
    two.sign_in(r#"{"id":"ann"}"#).await;
    let user = |name| of_member(name, "#server-to-user-ann", "ann");
    assert_eq!(received(&mut receiver, 1).await, [user("user_online")]);
    drop((one, two));
    assert_eq!(received(&mut receiver, 1).await, [user("user_offline")]);
}

/// Client events, numbered for each sending node.
fn numbers(events: &[Value], node: usize) -> Vec<u64> {
    let of_node = events.iter().filter(|event| event["event"] == format!("client-{node}"));
    of_node
        .map(|event| {
            let data = event["data"].as_str().expect("data is text");
            data.parse().expect("it is a number")
        })
        .collect()
}

#[tokio::test]
async fn three_hundred_events_from_two_nodes_are_delivered_exactly_once_and_in_order() {
    let mut receiver = WebhookReceiver::new().await;
    // The endpoint receives nothing else, and never answers.
    let mut hanging = WebhookReceiver::answering(|_| None).await;
    let settings =
        webhooks(&[(&hanging, r#"["client_event"]"#), (&receiver, r#"["client_event"]"#)])
            .app("client_events_per_second", 1_000);
    let group = Group::of(2, settings).await;
    let mut clients = [group.client(0).await, group.client(1).await];
    for client in &mut clients {
        client.subscribe("private-a").await;
    }
    for number in 0..150 {
        for (node, client) in clients.iter_mut().enumerate() {
            let data = number.to_string();
            client.whisper(&format!("client-{node}"), "private-a", json!(data)).await;
        }
    }
    // Each client receives the events of the other: all events were accepted.
    for (node, client) in clients.iter_mut().enumerate() {
        for number in 0..150 {
            let other = format!("client-{}", 1 - node);
            let message = client.next().await;
            assert_eq!(message["event"], other, "{message}");
            assert_eq!(message["data"], number.to_string(), "{message}");
        }
    }
    let events = received(&mut receiver, 300).await;
    for node in [0, 1] {
        assert_eq!(numbers(&events, node), (0..150).collect::<Vec<_>>(), "node {node}");
    }
    // A repeated event would precede the next one.
    clients[0].whisper("client-marker", "private-a", json!("1")).await;
    assert_eq!(received(&mut receiver, 1).await[0]["event"], "client-marker");
    request(&mut hanging).await;
    let leader = &group.nodes[group.leader().await];
    until("the queue of the other is counted", async || {
        sample(leader, "campanile_webhook_events_waiting").await == Some(301)
    })
    .await;
}

/// In addition to the heartbeats of each node, at most one script a second runs, however many nodes
/// there are.
#[tokio::test]
async fn idle_webhooks_cost_redis_next_to_nothing() {
    const SECONDS: u64 = 10;
    let receiver = WebhookReceiver::new().await;
    let group = Group::of(3, webhooks(&[(&receiver, r#"["channel_occupied"]"#)])).await;
    group.leader().await;
    let before = group.scripts_called().await;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let scripts = group.scripts_called().await - before;
    let seconds = start.elapsed().as_secs_f64();
    assert!(3.0 * (seconds - 1.0) < f64::from(scripts), "{scripts} in {seconds} s: no heartbeats");
    // One more script a second would add about 20.
    assert!(f64::from(scripts) < 4.0 * (seconds + 2.0), "{scripts} in {seconds} s");
}
