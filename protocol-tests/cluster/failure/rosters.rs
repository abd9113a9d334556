//! Presence channels with large rosters, after a lost link or over a slow one.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Listener, RECOVERY_MAX, TimedObservation, View, assert_view_everywhere, wait_for_state_on_all,
};
use kit::{
    KEY, LinkFault, Proxy, Redis, RedisClient, SECRET, Server, Settings, becomes_ready,
    cluster_settings, metrics, node, readiness, sign,
};

/// Long enough for an unoptimised build on a busy machine, which takes 26 s.
const READY: Duration = Duration::from_secs(60);
/// The size of the info of each channel's only user. Only the bytes of a roster matter, not the
/// number of its users.
const ROSTER_BYTES: usize = 96 * 1_024;
/// The rosters exceed 32 MiB in total, including what the socket buffers hold.
const CHANNELS: usize = 600;
/// Slowest than Redis writes, so that its output buffers fill.
const BYTES_PER_SECOND: u32 = 10_000_000;

/// By default Redis closes a pub/sub client whose output buffer exceeds 32 MiB, or 8 MiB for a
/// minute.
#[tokio::test]
async fn a_node_with_large_channels_rejoins_after_a_lost_link() {
    let redis = Redis::start().await;
    let mut admin = redis.client().await;
    let limits = admin.command(&["CONFIG", "GET", "client-output-buffer-limit"]).await;
    assert!(limits.texts()[1].contains("pubsub 33554432 8388608 60"), "{limits:?}");
    let proxy = Proxy::in_front_of(redis.address()).await;
    let node = node(&large_members(ROSTER_BYTES), &proxy.url()).await;
    let info = "x".repeat(ROSTER_BYTES);
    let member = Listener::of(&node).await;
    for channel in channels() {
        join(&member, &channel, "u", &info);
    }
    let name = "pusher_internal:subscription_succeeded";
    let are_in = |received: &[TimedObservation]| {
        received.iter().filter(|entry| entry.message(name, None).is_some()).count() == CHANNELS
    };
    member.until("all are acknowledged", READY, are_in).await;
    assert!(32 << 20 < used_memory(&mut admin).await, "Redis holds the rosters");
    let links = metrics(node.address).await.sum("campanile_broker_disconnects_total");
    proxy.limit(Some(BYTES_PER_SECOND));
    lose_links(&mut admin, &node).await;
    becomes_ready(&node, READY).await;
    let truth = View::default().with_connections(1);
    let truth = channels().fold(truth, |view, channel| view.with_users(&channel, &["u"]));
    assert_view_everywhere(&[node.address], READY, &truth).await;
    let lost = metrics(node.address).await.sum("campanile_broker_disconnects_total") - links;
    assert!(lost <= 1.0, "the link was lost {lost} times");
    assert_eq!(member.closed(), None);
}

/// 400 kB of members take more than three seconds at 1 Mbit/s.
#[tokio::test]
async fn a_large_roster_is_synced_over_a_slow_link_without_losing_the_link() {
    const MEMBERS: usize = 80;
    const INFO: usize = 5_000;
    let redis = Redis::start().await;
    let proxy = Proxy::in_front_of(redis.address()).await;
    let near = node(&large_members(INFO), &redis.url()).await;
    let far = node(&large_members(INFO), &proxy.url()).await;
    let info = "x".repeat(INFO);
    let mut members = Vec::new();
    for user in 0..MEMBERS {
        let member = Listener::of(&far).await;
        join(&member, "presence-0", &format!("u{user}"), &info);
        members.push(member);
    }
    for member in &members {
        let what = "the roster is acknowledged";
        member.until(what, READY, |_| member.acknowledgements("presence-0") == 1).await;
    }
    proxy.limit(Some(125_000));
    proxy.set(LinkFault::Reset);
    let start = Instant::now();
    while readiness(far.address).await.0 == 200 {
        assert!(start.elapsed() < RECOVERY_MAX, "the link was lost");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.set(LinkFault::None);
    becomes_ready(&far, READY).await;
    let losses = metrics(far.address).await.sum("campanile_broker_disconnects_total");
    let users: Vec<String> = (0..MEMBERS).map(|user| format!("u{user}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let truth = View::default().with_users("presence-0", &users).with_connections(80);
    let right = wait_for_state_on_all(&[near.address, far.address], READY, &truth).await;
    assert!(right.is_ok(), "{right:?}");
    // As long as it takes to detect a silent link.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let lost = metrics(far.address).await.sum("campanile_broker_disconnects_total") - losses;
    assert!(lost.abs() < 0.5, "the link was lost {lost} times");
    assert_eq!(readiness(far.address).await.0, 200);
}

fn large_members(info: usize) -> Settings {
    cluster_settings()
        .app("max_presence_user_info_bytes", info + 100)
        .connection("max_message_bytes", 4 * info + 10_000)
        .connection("max_outbox_bytes", 128 << 20)
        .connection("max_messages_per_second", 0)
}

fn channels() -> impl Iterator<Item = String> {
    (0..CHANNELS).map(|number| format!("presence-{number}"))
}

/// Sends a subscription with a large user info.
fn join(listener: &Listener, channel: &str, user: &str, info: &str) {
    let member = json!({ "user_id": user, "user_info": { "x": info } }).to_string();
    let auth = sign::channel_auth(KEY, SECRET, &listener.socket_id, channel, Some(&member));
    let data = json!({ "auth": auth, "channel": channel, "channel_data": member });
    listener.send(&json!({ "event": "pusher:subscribe", "data": data }));
}

async fn used_memory(redis: &mut RedisClient) -> usize {
    let info = redis.command(&["INFO", "memory"]).await;
    let line = info.text().lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|number| number.trim().parse().ok()).expect("INFO contains the used memory")
}

/// Has Redis close all connections but this one.
async fn lose_links(redis: &mut RedisClient, node: &Server) {
    for kind in ["normal", "pubsub"] {
        redis.command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await;
    }
    let start = Instant::now();
    while readiness(node.address).await.0 == 200 {
        assert!(RECOVERY_MAX >= start.elapsed(), "the link was not lost");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
