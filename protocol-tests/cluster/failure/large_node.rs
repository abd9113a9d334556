//! Nodes with many channels, after Redis has restarted empty.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Listener, Outcome, RECOVERY_MAX, View, assert_view_everywhere};
use kit::{Proxy, Redis, Server, becomes_ready, becomes_unready, cluster_settings, node};

/// How many channels a node has: syncing them takes more than three seconds at the limited
/// bandwidth.
const CHANNELS: usize = 1_500;
const BYTES_PER_SECOND: u32 = 160_000;
/// How many channels one request to the HTTP API publishes to.
const AT_ONCE: usize = 100;
/// How long syncing all channels may take.
const READY: Duration = Duration::from_secs(60);

#[tokio::test]
async fn no_connection_is_closed_when_redis_restarts_empty_and_syncing_takes_long() {
    let mut redis = Redis::start().await;
    let links =
        [Proxy::in_front_of(redis.address()).await, Proxy::in_front_of(redis.address()).await];
    let settings = cluster_settings()
        .app("max_event_channels", AT_ONCE)
        .connection("max_channels", CHANNELS)
        .connection("max_messages_per_second", 0);
    let mut nodes = Vec::new();
    let mut clients = Vec::new();
    for link in &links {
        let node = node(&settings, &link.url()).await;
        clients.push(everywhere(&node).await);
        nodes.push(node);
    }
    let names: Vec<String> = channels().collect();
    for some in names.chunks(AT_ONCE) {
        let event = json!({ "name": "e", "channels": some, "data": "1" });
        nodes[0].publish_event(event).await;
    }
    for client in &clients {
        client
            .until("all events are received", READY, |received| events(received) == CHANNELS)
            .await;
    }
    // Each node must have detected the other, so that Redis waits for both.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for link in &links {
        link.limit(Some(BYTES_PER_SECOND));
    }
    redis.kill();
    for node in &nodes {
        becomes_unready(node, RECOVERY_MAX).await;
    }
    redis.start_again().await;
    let back = Instant::now();
    for node in &nodes {
        becomes_ready(node, READY).await;
    }
    assert!(Duration::from_secs(3) < back.elapsed(), "syncing took only {:?}", back.elapsed());
    let truth = View::default().with_connections(2);
    let truth = channels().fold(truth, |view, channel| view.with_count(&channel, 2));
    assert_view_everywhere(&[nodes[0].address], READY, &truth).await;
    let published = crate::support::Api::new(nodes[1].address).publish("c0", "e", "2").await;
    assert_eq!(published, Outcome::Accepted);
    for client in &clients {
        client
            .until("one more event is received", READY, |received| events(received) == CHANNELS + 1)
            .await;
        assert_eq!(client.closed(), None, "{}", client.tail(5));
    }
}

fn events(received: &[crate::support::TimedObservation]) -> usize {
    received.iter().filter(|entry| entry.message("e", None).is_some()).count()
}

fn channels() -> impl Iterator<Item = String> {
    (0..CHANNELS).map(|number| format!("c{number}"))
}

/// A client that is subscribed to all channels.
async fn everywhere(node: &Server) -> Listener {
    let listener = Listener::of(node).await;
    for channel in channels() {
        listener.send_subscribe(&channel);
    }
    let are_acknowledged = |received: &[crate::support::TimedObservation]| {
        let name = "pusher_internal:subscription_succeeded";
        received.iter().filter(|entry| entry.message(name, None).is_some()).count() == CHANNELS
    };
    listener.until("all are acknowledged", READY, are_acknowledged).await;
    listener
}
