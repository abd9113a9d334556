//! Nodes die and Redis is paused: no logged event is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::group::{Group, received, request, sample, until, webhooks};
use kit::webhook_receiver::{WebhookReceiver, of_channel, of_member};
use kit::{Http, Resp};

const R: &str = "presence-r";
const CHANNEL_AND_MEMBER_EVENTS: &str =
    r#"["channel_occupied", "channel_vacated", "member_added", "member_removed"]"#;
/// How long after a node's death its members may remain, including the three seconds for which a
/// removal is delayed.
const DELIVERED_WITHIN: Duration = Duration::from_secs(14);

/// Joins a member on `node`, kills that node, and receives the removal of the member and the
/// vacancy of the channel.
async fn gone_with_its_node(mut group: Group, mut receiver: WebhookReceiver, node: usize) {
    let mut member = group.client(node).await;
    member.join(R, "10").await;
    let arrivals = [of_channel("channel_occupied", R), of_member("member_added", R, "10")];
    assert_eq!(received(&mut receiver, 2).await, arrivals);
    let start = Instant::now();
    group.kill(node).await;
    let mut departures = received(&mut receiver, 2).await;
    assert!(start.elapsed() < DELIVERED_WITHIN, "{:?}", start.elapsed());
    departures.sort_by_key(|event| event["name"].to_string());
    let expected = [of_channel("channel_vacated", R), of_member("member_removed", R, "10")];
    assert_eq!(departures, expected);
    // Each is reported once: the next event is reported next.
    let mut other = group.client(0).await;
    other.subscribe("marker").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "marker")]);
}

#[tokio::test]
async fn the_state_of_a_killed_node_is_reported_as_removed_once() {
    let receiver = WebhookReceiver::new().await;
    let group = Group::of(3, webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)])).await;
    let node = (group.leader().await + 1) % 3;
    gone_with_its_node(group, receiver, node).await;
}

#[tokio::test]
async fn the_state_of_a_killed_webhook_leader_is_reported_as_removed_once() {
    let receiver = WebhookReceiver::new().await;
    let group = Group::of(2, webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)])).await;
    let node = group.leader().await;
    gone_with_its_node(group, receiver, node).await;
}

#[tokio::test]
async fn on_a_redis_cluster_the_state_of_a_killed_node_is_reported_as_removed_once() {
    let receiver = WebhookReceiver::new().await;
    let group = Group::on_a_cluster(2, webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)])).await;
    let node = group.leader().await;
    gone_with_its_node(group, receiver, node).await;
}

/// An endpoint that does not answer until it is released.
async fn hanging() -> (WebhookReceiver, Arc<AtomicBool>) {
    let answers = Arc::new(AtomicBool::new(false));
    let does_answer = Arc::clone(&answers);
    let receiver =
        WebhookReceiver::answering(move |_| does_answer.load(Ordering::SeqCst).then_some(200))
            .await;
    (receiver, answers)
}

fn numbers(events: &[Value]) -> Vec<u64> {
    let number = |event: &Value| {
        let data = event["data"].as_str().expect("data is text");
        data.parse().expect("it is a number")
    };
    events.iter().map(number).collect()
}

#[tokio::test]
async fn a_queue_outlives_its_webhook_leader() {
    let (mut receiver, answers) = hanging().await;
    let settings = webhooks(&[(&receiver, r#"["client_event"]"#)])
        .section("webhooks", "batch_ms", 0)
        .app("client_events_per_second", 1_000);
    let mut group = Group::of(3, settings).await;
    let leader = group.leader().await;
    let mut client = group.client((leader + 1) % 3).await;
    client.subscribe("private-a").await;
    for number in 0..50 {
        client.whisper("client-a", "private-a", json!(number.to_string())).await;
    }
    let first = request(&mut receiver).await;
    let waiting = async |group: &Group| {
        let leader = &group.nodes[group.leader().await];
        sample(leader, "campanile_webhook_events_waiting").await
    };
    until("all wait", async || waiting(&group).await == Some(50)).await;
    group.kill(leader).await;
    answers.store(true, Ordering::SeqCst);
    let mut events = Vec::new();
    let mut bodies = Vec::new();
    while events.len() < 50 {
        let request = request(&mut receiver).await;
        bodies.push(request.body.clone());
        events.extend(request.events());
    }
    assert_eq!(bodies[0], first.body, "byte for byte the same");
    assert_eq!(numbers(&events), (0..50).collect::<Vec<_>>());
    until("nothing waits", async || waiting(&group).await == Some(0)).await;
    client.whisper("client-a", "private-a", json!("99")).await;
    assert_eq!(numbers(&received(&mut receiver, 1).await), [99], "nothing was delivered twice");
}

/// The delivering node is killed while events are published: each event is delivered at least once,
/// and in order.
#[tokio::test]
async fn the_webhook_leader_may_die_at_any_time() {
    let mut receiver = WebhookReceiver::new().await;
    let settings = webhooks(&[(&receiver, r#"["client_event"]"#)])
        .section("webhooks", "batch_ms", 1)
        .app("client_events_per_second", 1_000);
    let mut group = Group::of(3, settings).await;
    let leader = group.leader().await;
    let mut client = group.client((leader + 1) % 3).await;
    client.subscribe("private-a").await;
    let mut events = Vec::new();
    for number in 0..300 {
        client.whisper("client-a", "private-a", json!(number.to_string())).await;
        if number == 150 {
            events = received_so_far(&mut receiver).await;
            group.kill(leader).await;
        }
    }
    while numbers(&events).last() != Some(&299) {
        events.extend(request(&mut receiver).await.events());
    }
    // At most the request in flight is repeated, which has at most 100 events.
    let repeated = events.len() - 300;
    assert!(repeated <= 100, "{repeated}");
    let mut next = 0;
    let numbers = numbers(&events);
    for number in numbers.iter().copied() {
        assert!(number <= next, "{number} before {next}: {numbers:?}");
        next = next.max(number + 1);
    }
}

/// The events that were delivered so far, at least one.
async fn received_so_far(receiver: &mut WebhookReceiver) -> Vec<Value> {
    let mut events = request(receiver).await.events();
    while receiver.taken() < receiver.count() {
        events.extend(request(receiver).await.events());
    }
    events
}

/// A client that returns within this time is not reported as removed (`Debouncer::DELAY`).
const VACATED_AFTER: Duration = Duration::from_millis(2_900);

#[tokio::test]
async fn a_node_that_stops_hands_over_at_once_and_nothing_is_delivered_twice() {
    let mut receiver = WebhookReceiver::new().await;
    let mut group = Group::of(2, webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)])).await;
    let leader = group.leader().await;
    let mut member = group.client(leader).await;
    member.join(R, "10").await;
    assert_eq!(received(&mut receiver, 2).await.len(), 2);
    let mut node = group.nodes.remove(leader);
    let stopped = Instant::now();
    node.signal("TERM");
    member.rejected(4200).await;
    let mut member = group.client(0).await;
    member.join(R, "10").await;
    let reconnected_after = stopped.elapsed();
    assert_eq!(node.process.exit_code().await, Some(0));
    member.subscribe("u").await;
    member.unsubscribe("u").await;
    let vacated = of_channel("channel_vacated", "u");
    let mut events = Vec::new();
    while !events.contains(&vacated) {
        events.extend(request(&mut receiver).await.events());
    }
    if VACATED_AFTER <= reconnected_after {
        // The machine was too slow: the client was disconnected for so long that it may be reported.
        events.retain(|event| event["channel"] != R);
    }
    assert_eq!(events, [of_channel("channel_occupied", "u"), vacated]);
}

#[tokio::test]
async fn a_paused_redis_makes_no_event_be_delivered_twice_or_lost() {
    let mut receiver = WebhookReceiver::new().await;
    let settings = webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)]).section(
        "redis",
        "node_timeout_ms",
        6_000,
    );
    let group = Group::of(2, settings).await;
    let mut clients = [group.client(0).await, group.client(1).await];
    clients[0].subscribe("a").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "a")]);
    group.redis[0].pause();
    until("the nodes detect the pause", async || {
        for node in &group.nodes {
            let reply = Http::plain(node.address, "GET", "/ready", &[]).await;
            if reply.status == 200 {
                return false;
            }
        }
        true
    })
    .await;
    // These changes are reported only after Redis is reachable again.
    clients[1].send_subscribe("b").await;
    clients[0].unsubscribe("a").await;
    group.redis[0].resume();
    clients[1].subscribed("b").await;
    let mut events = received(&mut receiver, 2).await;
    events.sort_by_key(|event| event["channel"].to_string());
    let expected = [of_channel("channel_vacated", "a"), of_channel("channel_occupied", "b")];
    assert_eq!(events, expected);
    clients[1].subscribe("marker").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "marker")]);
}

#[tokio::test]
async fn a_node_without_the_webhook_lease_delivers_nothing() {
    let mut receiver = WebhookReceiver::new().await;
    let group = Group::of(2, webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)])).await;
    group.leader().await;
    let mut client = group.client(0).await;
    client.subscribe("a").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "a")]);
    // The delivery lease belongs to a process that does not exist.
    let seized =
        group.redis[0].command(&["SET", "campanile:leader{460}3", "ffffff.1", "PX", "4000"]).await;
    assert_eq!(seized.text(), "OK");
    client.subscribe("b").await;
    until("no node delivers", async || {
        let mut leaders = 0;
        for node in &group.nodes {
            leaders += sample(node, "campanile_webhook_leader").await.unwrap_or(0);
        }
        leaders == 0
    })
    .await;
    assert_eq!(receiver.count(), receiver.taken());
    let logged = group.redis[0].command(&["LLEN", "campanile:log{460}3"]).await;
    assert_eq!(logged, Resp::Number(1));
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "b")]);
    client.subscribe("marker").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "marker")]);
}

#[tokio::test]
async fn unexpected_data_in_the_keys_of_webhooks_prevents_no_subscription() {
    let mut receiver = WebhookReceiver::new().await;
    let group = Group::of(1, webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)])).await;
    group.leader().await;
    for key in ["log", "logstate"] {
        let key = format!("campanile:{key}{{460}}3");
        assert_eq!(group.redis[0].command(&["SET", &key, "foreign"]).await.text(), "OK");
    }
    let mut client = group.client(0).await;
    client.subscribe("a").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "a")]);
}

/// A Redis that loses its data also loses pending events: present channels and members are reported again.
async fn reported_again(group: Group, mut receiver: WebhookReceiver) {
    let (mut one, mut other) = (group.client(0).await, group.client(1).await);
    one.join(R, "10").await;
    one.subscribe("room").await;
    other.join(R, "11").await;
    let there = [
        of_channel("channel_occupied", R),
        of_channel("channel_occupied", "room"),
        of_member("member_added", R, "10"),
        of_member("member_added", R, "11"),
    ];
    assert_eq!(sorted(received(&mut receiver, 4).await), there);
    for redis in &group.redis {
        redis.command(&["FLUSHALL"]).await;
    }
    assert_eq!(sorted(received(&mut receiver, 4).await), there);
    drop(other);
    assert_eq!(received(&mut receiver, 1).await, [of_member("member_removed", R, "11")]);
}

/// Sorts events by name, channel and user.
fn sorted(mut events: Vec<Value>) -> Vec<Value> {
    let key = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    events.sort_by_key(|event| ["name", "channel", "user_id"].map(|name| key(event, name)));
    events
}

#[tokio::test]
async fn after_a_data_loss_the_current_state_is_reported_again() {
    let receiver = WebhookReceiver::new().await;
    let group = Group::of(2, webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)])).await;
    reported_again(group, receiver).await;
}

#[tokio::test]
async fn after_a_data_loss_of_a_redis_cluster_the_current_state_is_reported_again() {
    let receiver = WebhookReceiver::new().await;
    let group = Group::on_a_cluster(2, webhooks(&[(&receiver, CHANNEL_AND_MEMBER_EVENTS)])).await;
    reported_again(group, receiver).await;
}
