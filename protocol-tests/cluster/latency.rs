//! A Redis with a long round trip.

use std::time::{Duration, Instant};

use crate::support::{Listener, Outcome};
use kit::{Proxy, Redis, Server, becomes_ready, cluster_settings, readiness, unready_node};

/// The longest round trip that is supported.
const ROUND_TRIP: Duration = Duration::from_millis(400);
/// The maximum time to connect and join with that round trip, including retries.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// Starts a node that reaches Redis with a round trip of `ROUND_TRIP`.
async fn far_node(redis: &Redis) -> (Server, Proxy) {
    let proxy = Proxy::in_front_of(redis.address()).await;
    proxy.delay(ROUND_TRIP / 2);
    let node = unready_node(&cluster_settings(), &proxy.url()).await;
    becomes_ready(&node, READY_WITHIN).await;
    (node, proxy)
}

#[tokio::test]
async fn nodes_serve_with_a_redis_400_ms_away() {
    let redis = Redis::start().await;
    let (one, _one) = far_node(&redis).await;
    let (two, _two) = far_node(&redis).await;
    let listeners = [Listener::of(&one).await, Listener::of(&two).await];
    for listener in &listeners {
        listener.send_subscribe("c");
        listener.until("acknowledged", READY_WITHIN, |_| 0 < listener.acknowledgements("c")).await;
    }
    for (node, data) in [(&one, "from one"), (&two, "from two")] {
        let mut api = crate::support::Api::new(node.address);
        assert_eq!(api.publish("c", "e", data).await, Outcome::Accepted);
    }
    for listener in &listeners {
        listener.receives("e", "c", 2, READY_WITHIN).await;
        assert_eq!(listener.data("e", "c"), ["from one", "from two"]);
    }
    // No link is lost for a while.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        for node in [&one, &two] {
            let (status, body) = readiness(node.address).await;
            assert_eq!(status, 200, "{body}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for listener in &listeners {
        assert_eq!(listener.closed(), None);
    }
}
