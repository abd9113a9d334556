//! A Redis Cluster of three masters and three replicas.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Call, Server, eventually};
use crate::kit::{
    FAILED_OVER, Ledger, Listener, Monitor, Redis, RedisCluster, View, assert_agrees,
    assert_view_everywhere, becomes_ready, cluster_settings, node, publish_from, they_are_one,
};

/// Channels enough that each master has some.
const CHANNELS: usize = 12;

#[tokio::test]
async fn nodes_on_a_redis_cluster_are_one_and_survive_the_death_of_a_master() {
    let mut redis = RedisCluster::start().await;
    let settings = cluster_settings();
    let nodes = [node(&settings, &redis.url()).await, node(&settings, &redis.url()).await];
    they_are_one(&nodes[0], &nodes[1]).await;

    let mut listeners = vec![everywhere(&nodes[0], "1").await, everywhere(&nodes[1], "2").await];
    let ledger = Arc::new(Ledger::default());
    let mut publishing = Vec::new();
    for number in 0..CHANNELS {
        publishing.push(publish_from(&ledger, nodes[number % 2].address, &format!("c{number}")));
    }
    listeners[0].hears("numbered", "c0", 20, FAILED_OVER).await;
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
                && published.outcome == crate::kit::Outcome::Accepted
        })
    };
    while !(0..CHANNELS).all(is_served) {
        assert!(whole.elapsed() < FAILED_OVER, "publishes are not accepted again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for publishing in publishing {
        publishing.stop().await;
    }
    assert_agrees(&ledger, &listeners).await;
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
    assert_agrees(&ledger, &listeners).await;
}

/// Each lies in its own slot, but their account in one.
#[tokio::test]
async fn what_one_request_publishes_on_cache_channels_is_accounted_at_once() {
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
    let mut accounts = Vec::new();
    eventually("they are accounted", async || {
        for monitor in &mut monitors {
            let lines = monitor.since_last().await;
            let is_account =
                |line: &String| line.contains("\"EVALSHA\"") && line.contains(":cacheorder{");
            accounts.extend(lines.into_iter().filter(is_account));
        }
        !accounts.is_empty()
    })
    .await;
    for channel in &channels {
        assert!(accounts[0].contains(&format!("\"{channel}\"")), "{channel}: {accounts:?}");
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

/// Waits until a replica has taken its master's place.
async fn is_replaced(replica: &Redis) -> Instant {
    let mut client = replica.client().await;
    let start = Instant::now();
    while !client.command(&["ROLE"]).await.texts().contains(&"master".to_owned()) {
        assert!(start.elapsed() < FAILED_OVER, "nobody takes the place of the master");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Instant::now()
}
