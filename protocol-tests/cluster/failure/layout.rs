//! Nodes with the unversioned key layout use the same Redis.

use std::time::{Duration, Instant};

use kit::{DEADLINE, Redis, becomes_ready, cluster_settings, readiness, unready_node};

/// A new node joins when the last lease of the old layout has expired, and reports the reason until then.
#[tokio::test]
async fn a_node_does_not_join_beside_nodes_of_the_layout_without_a_version() {
    let redis = Redis::start().await;
    let mut client = redis.client().await;
    let time = client.command(&["TIME"]).await.texts();
    let now: u64 = time[0].parse().expect("seconds");
    let an_hour_later = ((now + 3_600) * 1_000).to_string();
    client.command(&["ZADD", "campanile:leases{nodes}", &an_hour_later, "0a0b0c.1"]).await;
    let start = Instant::now();
    let node = unready_node(&cluster_settings(), &redis.url()).await;
    loop {
        let (status, body) = readiness(node.address).await;
        assert_eq!(status, 503, "{body}");
        if body["reasons"].to_string().contains("another key layout") {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let has_ended = (now * 1_000).to_string();
    client.command(&["ZADD", "campanile:leases{nodes}", &has_ended, "0a0b0c.1"]).await;
    becomes_ready(&node, DEADLINE).await;
}
