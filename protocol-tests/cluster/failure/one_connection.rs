//! One of the connections between a node and Redis stalls in one direction, while the others work.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::support::{Listener, RECOVERY_MAX};
use kit::{
    Call, LinkFault, Proxy, Redis, Server, becomes_ready, cluster_settings, eventually, node,
};

/// The time within which the node detects the stall.
const DETECTED: Duration = Duration::from_secs(6);

async fn publish(node: &Server, data: &str) {
    let call = Call::post("events", &json!({ "name": "e", "channel": "news", "data": data }));
    let reply = call.send(node).await;
    assert_eq!(reply.status, 200, "{reply}");
}

#[tokio::test]
async fn a_bus_that_stalls_towards_the_node_is_detected() {
    let redis = Redis::start().await;
    let proxy = Proxy::in_front_of(redis.address()).await;
    let far = node(&cluster_settings(), &proxy.url()).await;
    let near = node(&cluster_settings(), &redis.url()).await;
    let listener = Listener::of(&far).await;
    listener.subscribe("news").await;
    publish(&near, "before").await;
    listener.receives("e", "news", 1, RECOVERY_MAX).await;
    proxy.set_buses(LinkFault::HoldToNode);
    publish(&near, "lost").await;
    let closed = timeout(DETECTED + Duration::from_secs(2), async {
        eventually("it is closed", async || listener.closed().is_some()).await;
    });
    closed.await.expect("the node detects the stall");
    assert_eq!(listener.closed(), Some(4200));
    works_again(&near, &far).await;
}

/// Messages still arrive, but no subscription reaches Redis.
#[tokio::test]
async fn a_bus_that_stalls_towards_redis_is_detected() {
    let redis = Redis::start().await;
    let proxy = Proxy::in_front_of(redis.address()).await;
    let far = node(&cluster_settings(), &proxy.url()).await;
    let near = node(&cluster_settings(), &redis.url()).await;
    let early = Listener::of(&far).await;
    early.subscribe("early").await;
    proxy.set_buses(LinkFault::HoldToRedis);
    let late = Listener::of(&far).await;
    late.send_subscribe("news");
    let subscribed = timeout(DETECTED + Duration::from_secs(2), async {
        eventually("it is subscribed", async || late.acknowledgements("news") == 1).await;
    });
    subscribed.await.expect("the node detects the stall");
    works_again(&near, &far).await;
}

async fn works_again(near: &Server, far: &Server) {
    becomes_ready(far, RECOVERY_MAX).await;
    let listener = Listener::of(far).await;
    listener.subscribe("news").await;
    publish(near, "after").await;
    listener.receives("e", "news", 1, RECOVERY_MAX).await;
    assert_eq!(listener.data("e", "news"), ["after"]);
}
