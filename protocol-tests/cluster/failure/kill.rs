//! Nodes that are killed or paused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    C, CLEANUP_MAX, Group, Ledger, Listener, Outcome, R, RECOVERY_MAX, View, assert_history_valid,
    assert_view_everywhere, member, publish_from,
};
use kit::{becomes_ready, inner, metrics};

/// The default of `node_timeout_ms`.
const NODE_TIMEOUT: Duration = Duration::from_secs(6);

#[tokio::test]
async fn the_members_of_a_killed_node_are_removed_once_and_counts_corrected() {
    let mut group = Group::of(3).await;
    let watchers = [member(&group.nodes[0], "1").await, member(&group.nodes[1], "2").await];
    let mut dead = Vec::new();
    for user in ["3", "4", "4"] {
        dead.push(member(&group.nodes[2], user).await);
    }
    // One user has a connection on another node too, and is not removed.
    let staying = member(&group.nodes[2], "1").await;
    staying.subscribe("only-on-the-dead").await;
    watchers[0].receives("pusher_internal:member_added", R, 3, RECOVERY_MAX).await;
    let ledger = Arc::new(Ledger::default());
    let publishing: Vec<_> =
        group.nodes[..2].iter().map(|node| publish_from(&ledger, node.address, C)).collect();

    group.kill(2).await;
    let killed = Instant::now();
    let truth = View::default().with_count(C, 2).with_users(R, &["1", "2"]).with_connections(2);
    assert_view_everywhere(&group.addresses(), CLEANUP_MAX, &truth).await;
    for watcher in &watchers {
        let left = CLEANUP_MAX.saturating_sub(killed.elapsed());
        watcher.receives("pusher_internal:member_removed", R, 2, left).await;
        watcher
            .until("the count is right", left, |_| {
                let counts = watcher.data("pusher_internal:subscription_count", C);
                counts.last().is_some_and(|data| data == r#"{"subscription_count":2}"#)
            })
            .await;
    }
    // Longer than another node would need to repeat the cleanup.
    tokio::time::sleep(NODE_TIMEOUT / 2).await;
    for publishing in publishing {
        publishing.stop().await;
    }
    for watcher in &watchers {
        watcher.ping_barrier().await;
        let mut gone: Vec<String> = watcher.data("pusher_internal:member_removed", R);
        gone.sort();
        assert_eq!(gone, [r#"{"user_id":"3"}"#, r#"{"user_id":"4"}"#], "{}", watcher.tail(40));
    }
    let mut cleanups = 0.0;
    for address in group.addresses() {
        cleanups += metrics(address).await.sum("campanile_broker_cleanups_total");
    }
    assert!((cleanups - 1.0).abs() < 0.5, "one survivor cleans up: {cleanups}");
    assert_eq!(ledger.count(Outcome::Accepted), ledger.all().len(), "{:?}", ledger.all());
    assert_history_valid(&ledger, &watchers).await;
}

#[tokio::test]
async fn the_users_of_a_killed_node_are_reported_offline_once() {
    let mut group = Group::of(2).await;
    let watcher = Listener::of(&group.nodes[0]).await;
    watcher.sign_in(&json!({ "id": "w", "watchlist": ["ann", "bob"] }));
    watcher
        .until("both are offline at first", RECOVERY_MAX, |_| {
            reported(&watcher, "offline").len() == 2
        })
        .await;
    let (ann, bob) = (Listener::of(&group.nodes[1]).await, Listener::of(&group.nodes[1]).await);
    ann.sign_in(&json!({ "id": "ann" }));
    bob.sign_in(&json!({ "id": "bob" }));
    watcher
        .until("both are online", RECOVERY_MAX, |_| reported(&watcher, "online").len() == 2)
        .await;
    group.kill(1).await;
    // Three seconds of grace on top.
    let deadline = CLEANUP_MAX + Duration::from_secs(3);
    let gone = || {
        let mut offline = reported(&watcher, "offline");
        // Both were offline at first.
        offline.drain(..2);
        offline.sort();
        offline
    };
    watcher.until("both are offline", deadline, |_| gone().len() == 2).await;
    watcher.ping_barrier().await;
    assert_eq!(gone(), ["ann", "bob"], "{}", watcher.tail(20));
}

/// The others expire a paused node, and it detects that when it resumes.
#[tokio::test]
async fn a_node_that_was_paused_too_long_rejoins_and_no_client_has_an_undetected_gap() {
    let group = Group::of(2).await;
    let (one, two) = (member(&group.nodes[0], "1").await, member(&group.nodes[1], "2").await);
    one.receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
    let ledger = Arc::new(Ledger::default());
    let publishing = publish_from(&ledger, group.nodes[0].address, C);
    two.receives("numbered", C, 10, RECOVERY_MAX).await;
    group.nodes[1].signal("STOP");
    one.receives("pusher_internal:member_removed", R, 1, CLEANUP_MAX).await;
    group.nodes[1].signal("CONT");
    becomes_ready(&group.nodes[1], RECOVERY_MAX).await;
    let resumed = Instant::now();
    while ledger.accepted_since(resumed) < 10 {
        assert!(resumed.elapsed() < RECOVERY_MAX, "publishes are accepted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    publishing.stop().await;
    assert_eq!(ledger.count(Outcome::Accepted), ledger.all().len(), "{:?}", ledger.all());
    let connected = if two.closed().is_some() { 1 } else { 2 };
    let mut listeners = vec![one, two];
    assert_history_valid(&ledger, &listeners).await;
    if connected == 1 {
        assert_eq!(listeners[1].closed(), Some(4200), "{}", listeners[1].tail(5));
        listeners.push(member(&group.nodes[1], "2").await);
    }
    let truth = View::default().with_count(C, 2).with_users(R, &["1", "2"]).with_connections(2);
    assert_view_everywhere(&group.addresses(), RECOVERY_MAX, &truth).await;
    listeners[0].receives("pusher_internal:member_added", R, 2, RECOVERY_MAX).await;
    assert_history_valid(&ledger, &listeners).await;
}

/// The users that were reported to a watcher with this event, in order.
fn reported(watcher: &Listener, name: &str) -> Vec<String> {
    let mut users = Vec::new();
    for entry in watcher.received() {
        let Some(message) = entry.message("pusher_internal:watchlist_events", None) else {
            continue;
        };
        for event in inner(message)["events"].as_array().into_iter().flatten() {
            if event["name"] == name {
                let ids = event["user_ids"].as_array().into_iter().flatten();
                users.extend(ids.filter_map(|id| id.as_str()).map(str::to_owned));
            }
        }
    }
    users
}
