//! A Redis Cluster of three masters and three replicas.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    FAILED_OVER, Ledger, Listener, Monitor, RedisCluster, TimedObservation, View,
    assert_history_valid, assert_nodes_act_as_one, assert_view_everywhere, publish_from,
};
use kit::{Call, Redis, Server, becomes_ready, cluster_settings, eventually, node};

/// Enough channels for each master to have some.
const CHANNELS: usize = 12;
/// How many times a master loses all its slots.
const RESHARDS: usize = 5;
/// The time after a reshard within which all listeners receive events again.
const RECEIVED_AGAIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn nodes_on_a_redis_cluster_act_as_one_and_survive_the_death_of_a_master() {
    let mut redis = RedisCluster::start().await;
    let settings = cluster_settings();
    let nodes = [node(&settings, &redis.url()).await, node(&settings, &redis.url()).await];
    assert_nodes_act_as_one(&nodes[0], &nodes[1]).await;

    let mut listeners = vec![everywhere(&nodes[0], "1").await, everywhere(&nodes[1], "2").await];
    let ledger = Arc::new(Ledger::default());
    let mut publishing = Vec::new();
    for number in 0..CHANNELS {
        publishing.push(publish_from(&ledger, nodes[number % 2].address, &format!("c{number}")));
    }
    listeners[0].receives("numbered", "c0", 20, FAILED_OVER).await;
    redis.0[1].kill();
    redis.is_ok(&[0, 2, 3, 4, 5]).await;
    let whole = is_replaced(&redis.0[4]).await;
    for node in &nodes {
        becomes_ready(node, FAILED_OVER).await;
    }
    let is_served = |number: usize| {
        let channel = format!("c{number}");
        ledger.all().iter().any(|published| {
            published.channel == channel
                && whole < published.begun
                && published.outcome == crate::support::Outcome::Accepted
        })
    };
    while !(0..CHANNELS).all(is_served) {
        assert!(whole.elapsed() < FAILED_OVER, "publishes are not accepted again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for publishing in publishing {
        publishing.stop().await;
    }
    assert_history_valid(&ledger, &listeners).await;
    for (at, user) in [(0, "1"), (1, "2")] {
        if listeners[at].closed().is_some() {
            assert_eq!(listeners[at].closed(), Some(4200), "{}", listeners[at].tail(5));
            listeners.push(everywhere(&nodes[at], user).await);
        }
    }
    let mut truth = View::default().with_connections(2);
    for number in 0..CHANNELS {
        truth = truth.with_count(&format!("c{number}"), 2);
        truth = truth.with_users(&format!("presence-{number}"), &["1", "2"]);
    }
    assert_view_everywhere(&[nodes[0].address, nodes[1].address], FAILED_OVER, &truth).await;
    assert_history_valid(&ledger, &listeners).await;
}

/// A master without slots becomes a replica, which accepts subscriptions and publishes nothing.
#[tokio::test]
async fn every_node_receives_events_after_a_master_lost_all_slots() {
    let redis = RedisCluster::start_adjustable().await;
    let settings = cluster_settings();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&settings, &redis.url()).await);
    }
    let mut open = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        open.push(Listener::of(node).await);
        ask_for_all(&open[number], number);
    }
    let (mut closed, ledger) = (Vec::new(), Arc::new(Ledger::default()));
    // Events are in flight while the slots move.
    let publishing = ["c0", "c1"].map(|channel| publish_from(&ledger, nodes[0].address, channel));
    for round in 0..RESHARDS {
        let (from, to) = (round % 3, (round + 1) % 3);
        let slots = redis.slots_of(from).await;
        redis.move_slots(from, to, &slots).await;
        let moved = Instant::now();
        for at in 0..open.len() {
            let event = format!("after-{round}-{at}");
            let mut published = 0;
            while !all_received(&open, &event, published) {
                assert!(
                    moved.elapsed() < RECEIVED_AGAIN,
                    "listeners receive no events after reshard {round}"
                );
                for (node, listener) in open.iter_mut().enumerate() {
                    if listener.closed().is_some() {
                        assert_eq!(listener.closed(), Some(4200), "{}", listener.tail(5));
                        let again = Listener::of(&nodes[node]).await;
                        ask_for_all(&again, node);
                        closed.push(std::mem::replace(listener, again));
                    }
                }
                published += 1;
                for number in 0..CHANNELS {
                    let channel = format!("c{number}");
                    let body =
                        json!({ "name": event, "channel": channel, "data": published.to_string() });
                    let reply = Call::post("events", &body).send(&nodes[at]).await;
                    assert_eq!(reply.status, 200, "{reply}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        redis.become_master(from, to).await;
        redis.move_slots(to, from, &slots).await;
    }
    for publishing in publishing {
        publishing.stop().await;
    }
    closed.append(&mut open);
    assert_history_valid(&ledger, &closed).await;
}

/// Sends subscriptions to all channels without waiting for the acknowledgements.
fn ask_for_all(listener: &Listener, user: usize) {
    for number in 0..CHANNELS {
        listener.send_subscribe(&format!("c{number}"));
        listener.send_join(&format!("presence-{number}"), &user.to_string());
    }
}

/// Whether each listener has received the last of these events on each channel.
fn all_received(listeners: &[Listener], event: &str, published: usize) -> bool {
    let last = published.to_string();
    let hears_all = |listener: &Listener| {
        let received = listener.received();
        let is_heard = |channel: String| {
            let of_channel =
                |entry: &TimedObservation| entry.message(event, Some(&channel)).cloned();
            received.iter().rev().find_map(of_channel).is_some_and(|it| it["data"] == last.as_str())
        };
        (0..CHANNELS).all(|number| is_heard(format!("c{number}")))
    };
    listeners.iter().all(hears_all)
}

/// Each cached event is in its own slot, but their index in one.
#[tokio::test]
async fn events_of_one_request_on_cache_channels_are_in_the_index_at_once() {
    let redis = RedisCluster::start().await;
    let node = node(&cluster_settings(), &redis.url()).await;
    let mut monitors = Vec::new();
    for master in &redis.0[..3] {
        monitors.push(Monitor::start(master).await);
    }
    let channels: Vec<String> = (0..50).map(|number| format!("cache-{number}")).collect();
    let body = json!({ "name": "e", "channels": channels, "data": "x" });
    let reply = Call::post("events", &body).send(&node).await;
    assert_eq!(reply.status, 200, "{reply}");
    let mut index_updates = Vec::new();
    eventually("the index lists them", async || {
        for monitor in &mut monitors {
            let lines = monitor.since_last().await;
            let is_index_update =
                |line: &String| line.contains("\"EVALSHA\"") && line.contains(":cacheorder{");
            index_updates.extend(lines.into_iter().filter(is_index_update));
        }
        !index_updates.is_empty()
    })
    .await;
    for channel in &channels {
        assert!(
            index_updates[0].contains(&format!("\"{channel}\"")),
            "{channel}: {index_updates:?}"
        );
    }
}

/// A listener on all channels.
async fn everywhere(node: &Server, user: &str) -> Listener {
    let listener = Listener::of(node).await;
    for number in 0..CHANNELS {
        listener.subscribe(&format!("c{number}")).await;
        listener.join(&format!("presence-{number}"), user).await;
    }
    listener
}

/// Waits until a replica has replaced its master.
async fn is_replaced(replica: &Redis) -> Instant {
    let mut client = replica.client().await;
    let start = Instant::now();
    while !client.command(&["ROLE"]).await.texts().contains(&"master".to_owned()) {
        assert!(start.elapsed() < FAILED_OVER, "no replica replaces the master");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Instant::now()
}
