//! The bound on the bytes of cached events, also when publishers disconnect and Redis fails.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::Group;
use kit::{
    Call, LinkFault, Proxy, Redis, RedisClient, cluster_settings, eventually, node, quoted,
    readiness,
};

const BOUND: usize = 10_000;

/// The number of cached events in Redis.
async fn kept(redis: &mut RedisClient) -> usize {
    redis.command(&["KEYS", "*:e{*"]).await.texts().len()
}

async fn bounded() -> (Group, RedisClient) {
    let settings = cluster_settings().app("max_cache_bytes", BOUND);
    let group = Group::with(1, settings, Redis::start().await).await;
    let client = group.redis.client().await;
    (group, client)
}

fn publish(number: usize) -> Call {
    let data = "x".repeat(2_000);
    Call::post(
        "events",
        &json!({ "name": "e", "channel": format!("cache-{number}"), "data": data }),
    )
}

async fn are_evicted(redis: &mut RedisClient) {
    let redis = tokio::sync::Mutex::new(redis);
    eventually("what is beyond the bound is evicted", async || {
        kept(*redis.lock().await).await <= 4
    })
    .await;
}

/// Redis stores their events before their node receives the answer.
#[tokio::test]
async fn events_of_disconnected_publishers_are_limited_too() {
    let redis = Redis::start().await;
    let proxy = Proxy::in_front_of(redis.address()).await;
    let settings = cluster_settings().app("max_cache_bytes", BOUND);
    let node = node(&settings, &proxy.url()).await;
    let mut client = redis.client().await;
    proxy.set(LinkFault::HoldToNode);
    let mut streams = Vec::new();
    for number in 0..20 {
        let mut stream = TcpStream::connect(node.address).await.expect("the node listens");
        stream.write_all(&publish(number).bytes()).await.expect("it reads");
        streams.push(stream);
    }
    {
        let client = tokio::sync::Mutex::new(&mut client);
        eventually("all are published", async || kept(*client.lock().await).await == 20).await;
    }
    for stream in streams {
        stream.set_zero_linger().expect("it is ours");
    }
    // The node has had time to detect their disconnection when it answers another request.
    readiness(node.address).await;
    proxy.set(LinkFault::None);
    are_evicted(&mut client).await;
}

#[tokio::test]
async fn a_failed_eviction_is_retried() {
    let (group, mut redis) = bounded().await;
    redis.command(&["ACL", "SETUSER", "default", "-del"]).await;
    for number in 0..20 {
        let reply = publish(number).send(&group.nodes[0]).await;
        assert_eq!(reply.status, 200, "{reply}");
    }
    {
        let redis = tokio::sync::Mutex::new(&mut redis);
        eventually("an eviction has failed", async || {
            !redis.lock().await.command(&["ACL", "LOG"]).await.texts().is_empty()
        })
        .await;
    }
    assert_eq!(kept(&mut redis).await, 20);
    redis.command(&["ACL", "SETUSER", "default", "+del"]).await;
    are_evicted(&mut redis).await;
}

#[tokio::test]
async fn a_lowered_limit_is_enforced() {
    let group = Group::of(1).await;
    let mut redis = group.redis.client().await;
    for hundred in 0..15 {
        let channels: Vec<String> = (0..100).map(|at| format!("cache-{hundred}-{at}")).collect();
        let body = json!({ "name": "e", "channels": channels, "data": "x" });
        let reply = Call::post("events", &body).send(&group.nodes[0]).await;
        assert_eq!(reply.status, 200, "{reply}");
    }
    assert_eq!(kept(&mut redis).await, 1_500);
    let lowered = cluster_settings().app("max_cache_bytes", 1_024);
    let lowered = lowered.section("redis", "url", quoted(&group.redis.url()));
    let reply = group.nodes[0].reload(&lowered).await;
    assert!(reply.contains(" INFO "), "{reply}");
    are_evicted(&mut redis).await;
}
