//! A publish is repeated with its idempotency key after an answer that did not say whether it was published.

use serde_json::{Value, json};

use crate::support::{C, Listener, RECOVERY_MAX};
use kit::{Call, LinkFault, Proxy, Redis, Server, becomes_ready, cluster_settings, node};

/// An event for the channel of the tests, and for another one.
fn event() -> Value {
    json!({
        "name": "keyed", "channels": [C, "other"], "data": "1", "info": "subscription_count",
        "idempotency_key": "k",
    })
}

async fn publish(node: &Server) -> (u16, Value) {
    let reply = Call::post("events", &event()).send(node).await;
    (reply.status, reply.json())
}

/// Two nodes, one of them behind a proxy, with a subscriber on the other one.
struct Pair {
    redis: Redis,
    proxy: Proxy,
    near: Server,
    far: Server,
    subscriber: Listener,
}

impl Pair {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let proxy = Proxy::in_front_of(redis.address()).await;
        let near = node(&cluster_settings(), &redis.url()).await;
        let far = node(&cluster_settings(), &proxy.url()).await;
        let subscriber = Listener::of(&near).await;
        subscriber.subscribe(C).await;
        Self { redis, proxy, near, far, subscriber }
    }

    /// The event is repeated through each node, and has been delivered once.
    async fn is_delivered_once(&self) {
        let counts =
            json!({ C: { "subscription_count": 1 }, "other": { "subscription_count": 0 } });
        for node in [&self.near, &self.far, &self.near] {
            becomes_ready(node, 2 * RECOVERY_MAX).await;
            assert_eq!(publish(node).await, (200, json!({ "channels": counts.clone() })));
        }
        self.near.publish(C, "last", "").await;
        self.subscriber.receives("last", C, 1, RECOVERY_MAX).await;
        let received = self.subscriber.count("keyed", C);
        assert_eq!(received, 1, "{}", self.subscriber.tail(9));
    }
}

#[tokio::test]
async fn a_repetition_after_an_unknown_outcome_delivers_nothing_twice() {
    let pair = Pair::start().await;
    // Redis executes the publish, and its reply is lost.
    pair.proxy.set(LinkFault::DropToNode);
    let (status, body) = publish(&pair.far).await;
    assert_eq!((status, &body["code"]), (503, &json!(5031)), "{body}");
    pair.subscriber.receives("keyed", C, 1, RECOVERY_MAX).await;
    pair.proxy.set(LinkFault::None);
    pair.is_delivered_once().await;
}

#[tokio::test]
async fn a_repetition_after_a_publish_that_did_not_reach_redis_delivers_it() {
    let pair = Pair::start().await;
    pair.proxy.set(LinkFault::DropToRedis);
    assert_eq!(publish(&pair.far).await.0, 503);
    assert_eq!(pair.subscriber.count("keyed", C), 0, "{}", pair.subscriber.tail(9));
    pair.proxy.set(LinkFault::None);
    pair.is_delivered_once().await;
}

#[tokio::test]
async fn a_repetition_after_a_restart_of_redis_with_its_data_delivers_once() {
    let mut pair = Pair::start().await;
    assert_eq!(publish(&pair.far).await.0, 200);
    pair.redis.client().await.command(&["SAVE"]).await;
    pair.redis.kill();
    assert_eq!(publish(&pair.near).await.0, 503);
    pair.redis.start_again().await;
    pair.is_delivered_once().await;
}

#[tokio::test]
async fn a_record_expires_after_two_minutes() {
    let pair = Pair::start().await;
    assert_eq!(publish(&pair.near).await.0, 200);
    let mut redis = pair.redis.client().await;
    let mut keys = redis.command(&["KEYS", "*:k{*"]).await.texts();
    keys.sort();
    assert_eq!(keys.len(), 2, "one for each channel: {keys:?}");
    for key in &keys {
        let kit::Resp::Number(ttl) = redis.command(&["PTTL", key]).await else { panic!("no TTL") };
        assert!((60_000..=120_000).contains(&ttl), "{ttl}");
    }
}
