//! Redis is unreachable for a while and keeps its data.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Api, C, Group, Ledger, Listener, Outcome, RECOVERY_MAX, assert_history_valid, with_tolerance,
};
use kit::{
    Http, Redis, Server, becomes_ready, becomes_unready, cluster_settings, free_port, metrics,
    readiness, unready_node,
};

/// The default of `broker_wait_ms`, and the tolerance of the answer.
const BROKER_WAIT: Duration = Duration::from_secs(2);
const BROKER_WAIT_REJECTED: Duration = Duration::from_millis(2_200);

#[tokio::test]
async fn a_silence_shorter_than_broker_wait_delays_publishes_and_loses_none() {
    let group = Group::of(2).await;
    let listeners = on_each(&group, C).await;
    let ledger = Arc::new(Ledger::default());
    group.redis.pause();
    let publishes = many_publishes(&group, &ledger, 10);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(ledger.all().is_empty(), "nothing is accepted by a Redis that does not answer");
    group.redis.resume();
    publishes.await.expect("every answer was a possible one");
    assert_eq!(ledger.count(Outcome::Accepted), 20, "{:?}", ledger.all());
    assert_history_valid(&ledger, &listeners).await;
}

#[tokio::test]
async fn a_silence_longer_than_broker_wait_rejects_publishes_in_time_and_they_are_never_delivered()
{
    let group = Group::of(2).await;
    let listeners = on_each(&group, C).await;
    let ledger = Arc::new(Ledger::default());
    for node in &group.nodes {
        ledger.publish(&mut Api::new(node.address), node.address, C).await;
    }
    group.redis.pause();
    many_publishes(&group, &ledger, 10).await.expect("every answer was a possible one");
    // The publish may have been sent to Redis without an answer, or not have been sent: the outcome can be unknown.
    let not_accepted = ledger.count(Outcome::Rejected) + ledger.count(Outcome::Unknown);
    assert_eq!(not_accepted, 20, "{:?}", ledger.all());
    let slowest = ledger.slowest(Outcome::Rejected).max(ledger.slowest(Outcome::Unknown));
    assert!(slowest <= with_tolerance(BROKER_WAIT_REJECTED), "rejected after {slowest:?}");
    // Redis finds the sent commands in its socket buffers.
    group.redis.resume();
    group.are_ready(RECOVERY_MAX).await;
    for node in &group.nodes {
        ledger.publish(&mut Api::new(node.address), node.address, C).await;
    }
    assert_eq!(ledger.count(Outcome::Accepted), 4, "{:?}", ledger.all());
    assert_history_valid(&ledger, &listeners).await;
    for listener in &listeners {
        // Their deadline had passed before Redis resumed.
        assert_eq!(listener.count("numbered", C), 4, "{}", listener.tail(30));
    }
    let rejected: f64 = {
        let (one, two) =
            (metrics(group.nodes[0].address).await, metrics(group.nodes[1].address).await);
        one.sum("campanile_broker_failed_publishes_total")
            + two.sum("campanile_broker_failed_publishes_total")
    };
    assert!((rejected - 20.0).abs() < 0.5, "{rejected} rejected publishes are counted");
}

#[tokio::test]
async fn a_batch_without_redis_is_rejected_as_a_whole() {
    let group = Group::of(2).await;
    let listeners = on_each(&group, C).await;
    group.redis.pause();
    let event = json!({ "channel": C, "name": "rejected", "data": "1" });
    let reply = group.nodes[0].post("batch_events", &json!({ "batch": [event, event] })).await;
    assert_eq!(reply.status, 503, "{reply}");
    assert!(reply.header("retry-after").is_some(), "{reply}");
    group.redis.resume();
    group.are_ready(RECOVERY_MAX).await;
    group.nodes[1].publish(C, "marker", "1").await;
    for listener in &listeners {
        listener.receives("marker", C, 1, RECOVERY_MAX).await;
        assert_eq!(listener.count("rejected", C), 0, "{}", listener.tail(10));
    }
}

#[tokio::test]
async fn publishes_without_redis_are_rejected_in_time_with_a_readiness_reason() {
    let mut group = Group::of(2).await;
    let listeners = on_each(&group, C).await;
    let ledger = Arc::new(Ledger::default());
    group.redis.kill();
    for node in &group.nodes {
        becomes_unready(node, with_tolerance(BROKER_WAIT)).await;
    }
    many_publishes(&group, &ledger, 5).await.expect("every answer was a possible one");
    assert_eq!(ledger.count(Outcome::Rejected), 10, "{:?}", ledger.all());
    assert!(ledger.slowest(Outcome::Rejected) <= with_tolerance(BROKER_WAIT_REJECTED));
    for node in &group.nodes {
        let (status, body) = readiness(node.address).await;
        assert_eq!((status, &body["ready"]), (503, &json!(false)), "{body}");
        assert!(!body["reasons"].as_array().expect("reasons is an array").is_empty(), "{body}");
        assert_eq!(Http::plain(node.address, "GET", "/up", &[]).await.status, 200);
    }
    for listener in &listeners {
        listener.ping_barrier().await;
        assert_eq!(listener.closed(), None, "connections stay open: {}", listener.tail(5));
    }
    group.redis.start_again().await;
    group.are_ready(RECOVERY_MAX).await;
    many_publishes(&group, &ledger, 5).await.expect("every answer was a possible one");
    assert_eq!(ledger.count(Outcome::Accepted), 10, "{:?}", ledger.all());
    assert_history_valid(&ledger, &listeners).await;
}

#[tokio::test]
async fn a_publish_that_waits_is_accepted_when_redis_returns_in_time() {
    let settings = cluster_settings().section("redis", "broker_wait_ms", 20_000);
    let mut group = Group::with(1, settings, Redis::start().await).await;
    let listeners = on_each(&group, C).await;
    let ledger = Arc::new(Ledger::default());
    group.redis.kill();
    becomes_unready(&group.nodes[0], with_tolerance(BROKER_WAIT)).await;
    let publishes = many_publishes(&group, &ledger, 3);
    // The publishes wait before Redis is back; the metric counts them.
    let start = Instant::now();
    while metrics(group.nodes[0].address).await.sum("campanile_broker_pending_requests") < 3.0 {
        assert!(start.elapsed() < RECOVERY_MAX, "no publish waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    group.redis.start_again().await;
    publishes.await.expect("every answer was a possible one");
    assert_eq!(ledger.count(Outcome::Accepted), 3, "{:?}", ledger.all());
    assert_history_valid(&ledger, &listeners).await;
}

#[tokio::test]
async fn client_events_without_redis_are_errors_and_connections_stay() {
    let mut group = Group::of(2).await;
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    a.subscribe("private-r").await;
    b.subscribe("private-r").await;
    group.redis.kill();
    for node in &group.nodes {
        becomes_unready(node, with_tolerance(BROKER_WAIT)).await;
    }
    a.whisper("client-x", "private-r", json!("lost")).await;
    let (channel, code, sentence) = a.event_error().await;
    assert_eq!((channel, code), (json!("private-r"), Value::Null), "{sentence}");
    a.ping_barrier().await;
    b.ping_barrier().await;
    group.redis.start_again().await;
    group.are_ready(RECOVERY_MAX).await;
    // Listeners whose node can't prove that no event was missed are closed; new ones continue here.
    let (mut a, mut b) = (group.nodes[0].client().await, group.nodes[1].client().await);
    a.subscribe("private-r").await;
    b.subscribe("private-r").await;
    a.whisper("client-x", "private-r", json!("delivered")).await;
    b.expect_event("private-r", "client-x", "delivered").await;
    b.ping_barrier().await;
}

#[tokio::test]
async fn subscriptions_begun_without_redis_are_acknowledged_when_it_is_back() {
    let mut group = Group::of(2).await;
    let (a, b) = (Listener::of(&group.nodes[0]).await, Listener::of(&group.nodes[1]).await);
    group.redis.kill();
    for node in &group.nodes {
        becomes_unready(node, with_tolerance(BROKER_WAIT)).await;
    }
    for (listener, user) in [(&a, "1"), (&b, "2")] {
        listener.send_subscribe(C);
        listener.send_subscribe("private-c");
        listener.send_join("presence-c", user);
        listener.ping_barrier().await;
        assert_eq!(listener.acknowledgements(C), 0, "nothing is acknowledged too early");
    }
    // One client unsubscribes meanwhile.
    b.leave("private-c");
    b.ping_barrier().await;
    group.redis.start_again().await;
    for listener in [&a, &b] {
        for channel in [C, "presence-c"] {
            listener
                .receives("pusher_internal:subscription_succeeded", channel, 1, RECOVERY_MAX)
                .await;
        }
    }
    a.receives("pusher_internal:subscription_succeeded", "private-c", 1, RECOVERY_MAX).await;
    group.are_ready(RECOVERY_MAX).await;
    for channel in [C, "private-c", "presence-c"] {
        group.nodes[0].publish(channel, "e", "1").await;
        a.receives("e", channel, 1, RECOVERY_MAX).await;
    }
    b.receives("e", "presence-c", 1, RECOVERY_MAX).await;
    b.receives("e", C, 1, RECOVERY_MAX).await;
    b.ping_barrier().await;
    assert_eq!(b.count("e", "private-c"), 0, "{}", b.tail(20));
    for node in &group.nodes {
        assert_eq!(node.channel("private-c", "subscription_count").await["subscription_count"], 1);
        assert_eq!(node.channel("presence-c", "user_count").await["user_count"], 2);
    }
}

#[tokio::test]
async fn a_node_that_starts_before_redis_joins_later() {
    let port = free_port();
    let settings = cluster_settings();
    let node = unready_node(&settings, &format!("redis://127.0.0.1:{port}")).await;
    let (status, body) = readiness(node.address).await;
    assert_eq!((status, &body["ready"]), (503, &json!(false)), "{body}");
    assert_eq!(Http::plain(node.address, "GET", "/up", &[]).await.status, 200);
    assert_eq!(Api::new(node.address).publish(C, "e", "1").await, Outcome::Rejected);
    let _redis = Redis::start_at(port).await;
    becomes_ready(&node, RECOVERY_MAX).await;
    let listener = Listener::of(&node).await;
    listener.subscribe(C).await;
    node.publish(C, "e", "2").await;
    listener.receives("e", C, 1, RECOVERY_MAX).await;
    assert_eq!(listener.data("e", C), ["2"]);
}

/// One listener on each node, subscribed.
async fn on_each(group: &Group, channel: &str) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for node in &group.nodes {
        let listener = Listener::of(node).await;
        listener.subscribe(channel).await;
        listeners.push(listener);
    }
    listeners
}

/// Publishes concurrently, `count` times on each node, and waits for all answers.
fn many_publishes(
    group: &Group,
    ledger: &Arc<Ledger>,
    count: usize,
) -> tokio::task::JoinHandle<()> {
    let nodes: Vec<_> = group.nodes.iter().map(|node: &Server| node.address).collect();
    let ledger = Arc::clone(ledger);
    tokio::spawn(async move {
        let mut publishes = tokio::task::JoinSet::new();
        let all = count * nodes.len();
        for node in nodes.into_iter().cycle().take(all) {
            let ledger = Arc::clone(&ledger);
            publishes.spawn(async move {
                ledger.publish(&mut Api::new(node), node, C).await;
            });
        }
        publishes.join_all().await;
    })
}
