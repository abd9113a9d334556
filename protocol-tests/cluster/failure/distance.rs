//! A Redis in another region.

use std::time::Duration;

use crate::support::{
    Api, C, Listener, Outcome, R, RECOVERY_MAX, View, assert_view_everywhere, member,
};
use kit::{Proxy, Redis, becomes_ready, cluster_settings, metrics, node, readiness, unready_node};

/// How long a node may take to join over a link with a long round trip.
const JOINED: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_redis_that_is_150_ms_away_serves() {
    serves_at(Duration::from_millis(150)).await;
}

#[tokio::test]
async fn a_redis_that_is_400_ms_away_serves() {
    serves_at(Duration::from_millis(400)).await;
}

/// A node joins, and its clients subscribe, join and publish. Its link lasts, and is re-established after a loss.
async fn serves_at(round_trip: Duration) {
    let redis = Redis::start().await;
    let proxy = Proxy::in_front_of(redis.address()).await;
    proxy.delay(round_trip / 2);
    let settings = cluster_settings();
    let near = node(&settings, &redis.url()).await;
    let far = unready_node(&settings, &proxy.url()).await;
    becomes_ready(&far, JOINED).await;
    let (one, two) = (member(&near, "1").await, member(&far, "2").await);
    one.receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
    for node in [&near, &far] {
        assert_eq!(Api::new(node.address).publish(C, "e", "1").await, Outcome::Accepted);
    }
    for listener in [&one, &two] {
        listener.receives("e", C, 2, RECOVERY_MAX).await;
    }
    let addresses = [near.address, far.address];
    let truth = View::default().with_count(C, 2).with_users(R, &["1", "2"]).with_connections(2);
    assert_view_everywhere(&addresses, RECOVERY_MAX, &truth).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(readiness(far.address).await.0, 200);
    let lost = metrics(far.address).await.sum("campanile_broker_disconnects_total");
    assert!(lost.abs() < 0.5, "the link was lost {lost} times");
    proxy.cut(Duration::ZERO);
    let three = Listener::of(&far).await;
    three.subscribe(C).await;
    becomes_ready(&far, JOINED).await;
    assert_eq!(Api::new(far.address).publish(C, "e", "2").await, Outcome::Accepted);
    three.receives("e", C, 1, RECOVERY_MAX).await;
}
