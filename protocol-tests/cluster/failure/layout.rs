//! Nodes of the key layout from before there were versions use the same Redis.

use std::time::{Duration, Instant};

use crate::kit::{Redis, becomes_ready, cluster_settings, readiness, unhurried, unready_node};

/// A new node joins when the last lease of the old layout has ended, and reports why not until then.
#[tokio::test]
async fn a_node_does_not_join_beside_nodes_of_the_layout_without_a_version() {
    const LEASE: Duration = Duration::from_secs(5);
    let redis = Redis::start().await;
    let mut client = redis.client().await;
    let time = client.command(&["TIME"]).await.texts();
    let now: u64 = time[0].parse().expect("seconds");
    let ends = (now * 1_000 + u64::try_from(LEASE.as_millis()).expect("few")).to_string();
    client.command(&["ZADD", "campanile:leases{nodes}", &ends, "0a0b0c.1"]).await;
    let start = Instant::now();
    let node = unready_node(&cluster_settings(), &redis.url()).await;
    loop {
        let (status, body) = readiness(node.address).await;
        assert_eq!(status, 503, "{body}");
        if body["reasons"].to_string().contains("another key layout") {
            break;
        }
        assert!(start.elapsed() < LEASE - Duration::from_secs(2), "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    becomes_ready(&node, unhurried(LEASE + Duration::from_secs(3))).await;
}
