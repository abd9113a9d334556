//! Redis dies and restarts, empty or with the data on disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    C, CLEANUP_MAX, Group, Ledger, Listener, Outcome, Publishing, R, RECOVERY_MAX, View,
    assert_history_valid, assert_view_everywhere, member, publish_from, with_tolerance,
};
use kit::{Redis, becomes_unready, cluster_settings};

#[tokio::test]
async fn after_redis_restarts_empty_the_state_is_correct_and_was_reported() {
    comes_back(Redis::start().await).await;
}

#[tokio::test]
async fn after_redis_restarts_with_its_data_the_state_is_correct_and_was_reported() {
    comes_back(Redis::start_persistent().await).await;
}

/// At first, members 1 and "gone" are on the first node, 2 and "gone-too" on the second. While Redis is down, both
/// leave and 4 joins. No event is in transit when Redis dies, so none is missed and no connection is closed.
async fn comes_back(redis: Redis) {
    let mut group = Group::with(2, cluster_settings(), redis).await;
    let (one, two) = (member(&group.nodes[0], "1").await, member(&group.nodes[1], "2").await);
    let gone = member(&group.nodes[0], "gone").await;
    let gone_too = member(&group.nodes[1], "gone-too").await;
    two.receives("pusher_internal:member_added", R, 2, RECOVERY_MAX).await;
    let ledger = Arc::new(Ledger::default());
    let publishing = publish_from_all(&ledger, &group);
    // Each node must have detected the other: only then does an empty Redis wait for both.
    one.receives("numbered", C, 200, 2 * RECOVERY_MAX).await;
    stop(publishing).await;
    for watcher in [&one, &two] {
        watcher.receives("numbered", C, ledger.count(Outcome::Accepted), RECOVERY_MAX).await;
    }

    group.redis.kill();
    let publishing = publish_from_all(&ledger, &group);
    for node in &group.nodes {
        becomes_unready(node, with_tolerance(Duration::from_secs(2))).await;
    }
    drop((gone, gone_too));
    let four = Listener::of(&group.nodes[1]).await;
    four.send_join(R, "4");
    four.send_subscribe(C);
    four.ping_barrier().await;
    group.redis.start_again().await;
    let back = Instant::now();
    group.are_ready(2 * RECOVERY_MAX).await;
    let truth =
        View::default().with_count(C, 3).with_users(R, &["1", "2", "4"]).with_connections(3);
    assert_view_everywhere(&group.addresses(), RECOVERY_MAX, &truth).await;

    for watcher in [&one, &two] {
        watcher.receives("pusher_internal:member_removed", R, 2, RECOVERY_MAX).await;
    }
    are_accepted_again(&ledger, back).await;
    stop(publishing).await;
    let listeners = [one, two, four];
    assert_history_valid(&ledger, &listeners).await;
    for watcher in &listeners[..2] {
        assert!(watcher.closed().is_none(), "no event was missed: {}", watcher.tail(20));
        let removed = ids(&watcher.data("pusher_internal:member_removed", R));
        assert_eq!(removed, ["gone", "gone-too"], "{}", watcher.tail(60));
        let added = watcher.data("pusher_internal:member_added", R);
        let fours = added.iter().filter(|data| data.contains("\"4\"")).count();
        assert_eq!(fours, 1, "{added:?}");
    }
}

/// A Redis that dies may have counted events that it had not sent yet. Then each subscriber has everything or is
/// closed.
#[tokio::test]
async fn no_event_is_missed_silently_when_redis_dies_while_it_is_published_to() {
    let mut group = Group::with(2, cluster_settings(), Redis::start_persistent().await).await;
    let ledger = Arc::new(Ledger::default());
    let publishing = publish_from_all(&ledger, &group);
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let (one, two) = (member(&group.nodes[0], "1").await, member(&group.nodes[1], "2").await);
        for watcher in [&one, &two] {
            watcher.receives("numbered", C, 20, 2 * RECOVERY_MAX).await;
        }
        group.redis.kill();
        for node in &group.nodes {
            becomes_unready(node, with_tolerance(Duration::from_secs(2))).await;
        }
        group.redis.start_again().await;
        let back = Instant::now();
        group.are_ready(2 * RECOVERY_MAX).await;
        are_accepted_again(&ledger, back).await;
        listeners.extend([one, two]);
    }
    stop(publishing).await;
    assert_history_valid(&ledger, &listeners).await;
    for listener in &listeners {
        assert!(matches!(listener.closed(), None | Some(4200)), "{}", listener.tail(20));
    }
}

fn publish_from_all(ledger: &Arc<Ledger>, group: &Group) -> Vec<Publishing> {
    group.nodes.iter().map(|node| publish_from(ledger, node.address, C)).collect()
}

async fn stop(publishing: Vec<Publishing>) {
    for publishing in publishing {
        publishing.stop().await;
    }
}

/// Waits until publishes that began after the restart of Redis are accepted.
async fn are_accepted_again(ledger: &Ledger, back: Instant) {
    while ledger.accepted_since(back) < 20 {
        assert!(back.elapsed() < 4 * RECOVERY_MAX, "publishes are not accepted again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A node and Redis die at the same time; the contributions of the node are on disk.
#[tokio::test]
async fn a_node_that_died_during_an_outage_of_redis_is_cleaned_up() {
    let redis = Redis::start_persistent().await;
    let mut group = Group::with(3, cluster_settings(), redis).await;
    let (one, two) = (member(&group.nodes[0], "1").await, member(&group.nodes[1], "2").await);
    let _dead = member(&group.nodes[2], "dead").await;
    one.receives("pusher_internal:member_added", R, 2, RECOVERY_MAX).await;
    group.redis.kill();
    group.kill(2).await;
    group.redis.start_again().await;
    group.are_ready(RECOVERY_MAX).await;
    let truth = View::default().with_count(C, 2).with_users(R, &["1", "2"]).with_connections(2);
    assert_view_everywhere(&group.addresses(), CLEANUP_MAX, &truth).await;
    for watcher in [&one, &two] {
        watcher.receives("pusher_internal:member_removed", R, 1, RECOVERY_MAX).await;
        watcher.ping_barrier().await;
        assert_eq!(watcher.count("pusher_internal:member_removed", R), 1, "{}", watcher.tail(20));
    }
}

#[tokio::test]
async fn cached_events_are_lost_with_an_empty_redis() {
    let mut group = Group::of(2).await;
    group.nodes[0].publish("cache-x", "e", "old").await;
    group.redis.kill();
    for node in &group.nodes {
        becomes_unready(node, with_tolerance(Duration::from_secs(2))).await;
    }
    group.redis.start_again().await;
    group.are_ready(RECOVERY_MAX).await;
    let mut client = group.nodes[1].client().await;
    client.subscribe("cache-x").await;
    client.expect_event("cache-x", "pusher:cache_miss", "{}").await;
    group.nodes[0].publish("cache-x", "e", "new").await;
    client.expect_event("cache-x", "e", "new").await;
}

#[tokio::test]
async fn users_stay_signed_in_when_redis_restarts_empty() {
    let mut group = Group::of(2).await;
    let watcher = Listener::of(&group.nodes[0]).await;
    watcher.sign_in(&json!({ "id": "w", "watchlist": ["ann"] }));
    let ann = Listener::of(&group.nodes[1]).await;
    ann.sign_in(&json!({ "id": "ann" }));
    let count_of = |name: &str| {
        let received = watcher.received();
        let reported = received
            .iter()
            .filter_map(|entry| entry.message("pusher_internal:watchlist_events", None));
        reported
            .filter(|message| message["data"].as_str().is_some_and(|data| data.contains(name)))
            .count()
    };
    watcher.until("ann is online", RECOVERY_MAX, |_| count_of("online") == 1).await;
    let offline_before = count_of("offline");
    group.redis.kill();
    for node in &group.nodes {
        becomes_unready(node, with_tolerance(Duration::from_secs(2))).await;
    }
    group.redis.start_again().await;
    group.are_ready(RECOVERY_MAX).await;
    // The user can still be addressed by id through the other node.
    let reply = group.nodes[0].post("users/ann/terminate_connections", &json!({})).await;
    assert_eq!(reply.status, 200, "{reply}");
    ann.until("she is closed with 4009", RECOVERY_MAX, |_| ann.closed() == Some(4009)).await;
    watcher
        .until("ann is offline", CLEANUP_MAX, |_| count_of("offline") == offline_before + 1)
        .await;
    assert_eq!(count_of("online"), 1, "reported once: {}", watcher.tail(20));
}

#[tokio::test]
async fn flushed_data_of_running_nodes_is_restored() {
    let group = Group::of(2).await;
    let (one, two) = (member(&group.nodes[0], "1").await, member(&group.nodes[1], "2").await);
    let ledger = Arc::new(Ledger::default());
    let publishing = publish_from_all(&ledger, &group);
    one.receives("numbered", C, 10, RECOVERY_MAX).await;
    group.redis.client().await.command(&["FLUSHALL"]).await;
    let flushed = Instant::now();
    let truth = View::default().with_count(C, 2).with_users(R, &["1", "2"]).with_connections(2);
    // A closed connection reconnects; one that stays open has missed nothing.
    let start = Instant::now();
    let mut listeners = vec![one, two];
    while start.elapsed() < RECOVERY_MAX {
        for (at, user) in [(0, "1"), (1, "2")] {
            if listeners[at].closed().is_some() {
                assert_eq!(listeners[at].closed(), Some(4200), "{}", listeners[at].tail(5));
                let again = member(&group.nodes[at], user).await;
                let before = std::mem::replace(&mut listeners[at], again);
                listeners.push(before);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_view_everywhere(&group.addresses(), RECOVERY_MAX, &truth).await;
    group.are_ready(RECOVERY_MAX).await;
    assert!(0 < ledger.accepted_since(flushed));
    stop(publishing).await;
    assert_history_valid(&ledger, &listeners).await;
    assert_eq!(ledger.count(Outcome::Broken), 0);
}

/// The sorted ids in the data of member events.
fn ids(data: &[String]) -> Vec<String> {
    let mut ids: Vec<String> = data
        .iter()
        .filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok())
        .filter_map(|data| data["user_id"].as_str().map(str::to_owned))
        .collect();
    ids.sort();
    ids
}
