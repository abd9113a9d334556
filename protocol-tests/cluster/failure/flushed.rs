//! Redis loses its data while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    FAILED_OVER, Group, Listener, R, RECOVERY_MAX, RedisCluster, View, assert_view_everywhere,
};
use kit::{cluster_settings, node};

const FLUSHES: usize = 10;
const STAYING: usize = 6;

/// Other members join and leave continuously; no removal of those that stay is sent.
#[tokio::test]
async fn no_removal_of_a_staying_member_is_sent_when_redis_is_flushed() {
    let group = Group::of(2).await;
    let mut staying = Vec::new();
    for user in 0..STAYING {
        staying.push(Listener::of(&group.nodes[user % 2]).await);
        staying[user].join(R, &name(user)).await;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicUsize::new(0));
    let mut visitors = Vec::new();
    for (number, node) in group.nodes.iter().chain(&group.nodes).enumerate() {
        let visitor = Listener::of(node).await;
        let (is_over, rounds) = (Arc::clone(&is_over), Arc::clone(&rounds));
        visitors.push(tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                visitor.join(R, &format!("visitor-{number}")).await;
                visitor.leave(R);
                tokio::time::sleep(Duration::from_millis(7)).await;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            visitor.ping_barrier().await;
            assert_eq!(visitor.closed(), None, "{}", visitor.tail(9));
        }));
    }
    let mut redis = group.redis.client().await;
    for flush in 0..FLUSHES {
        let before = rounds.load(Ordering::Relaxed);
        redis.command(&[if flush % 2 == 0 { "FLUSHALL" } else { "FLUSHDB" }]).await;
        let flushed = Instant::now();
        for address in group.addresses() {
            while !has_all(address).await {
                assert!(
                    flushed.elapsed() < RECOVERY_MAX,
                    "flush {flush}: {}",
                    users(address).await
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        while rounds.load(Ordering::Relaxed) < before + 8 {
            assert!(
                flushed.elapsed() < 2 * RECOVERY_MAX,
                "flush {flush}: no member can join any more"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.await.expect("visitors join and leave");
    }
    let names: Vec<String> = (0..STAYING).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let truth = View::default().with_users(R, &names).with_connections(STAYING as u64);
    assert_view_everywhere(&group.addresses(), RECOVERY_MAX, &truth).await;
    for watcher in &staying {
        watcher.ping_barrier().await;
        assert_eq!(watcher.closed(), None, "{}", watcher.tail(9));
        for data in watcher.data("pusher_internal:member_removed", R) {
            assert!(data.contains("visitor"), "received a removal of {data}");
        }
    }
}

/// No client acts after the flush.
#[tokio::test]
async fn members_are_correct_after_one_master_of_a_redis_cluster_was_flushed() {
    let redis = RedisCluster::start().await;
    let settings = cluster_settings();
    let nodes = [node(&settings, &redis.url()).await, node(&settings, &redis.url()).await];
    let mut listeners = Vec::new();
    let mut truth = View::default().with_connections(2);
    for (node, user) in nodes.iter().zip(["1", "2"]) {
        let listener = Listener::of(node).await;
        for number in 0..12 {
            listener.join(&format!("presence-{number}"), user).await;
            listener.subscribe(&format!("c{number}")).await;
            truth = truth
                .with_users(&format!("presence-{number}"), &["1", "2"])
                .with_count(&format!("c{number}"), 2);
        }
        listeners.push(listener);
    }
    let addresses = [nodes[0].address, nodes[1].address];
    assert_view_everywhere(&addresses, FAILED_OVER, &truth).await;
    for master in &redis.0[..3] {
        master.client().await.command(&["FLUSHALL"]).await;
        assert_view_everywhere(&addresses, Duration::from_secs(10), &truth).await;
    }
    for listener in &listeners {
        listener.ping_barrier().await;
        assert_eq!(listener.closed(), None, "{}", listener.tail(9));
        for number in 0..12 {
            let channel = format!("presence-{number}");
            let removed = listener.count("pusher_internal:member_removed", &channel);
            assert_eq!(removed, 0, "{}", listener.tail(40));
        }
    }
}

fn name(user: usize) -> String {
    format!("stays-{user}")
}

/// The response of a node about the users of [`R`].
async fn users(address: std::net::SocketAddr) -> String {
    let answer = crate::support::Api::new(address).get(&format!("channels/{R}/users"), &[]).await;
    answer.map_or_else(String::new, |answer| answer.body.to_string())
}

async fn has_all(address: std::net::SocketAddr) -> bool {
    let reply = users(address).await;
    (0..STAYING).all(|user| reply.contains(&name(user)))
}
