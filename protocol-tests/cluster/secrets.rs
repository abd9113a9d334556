//! Data that must never leave a node: secrets of apps, signatures, the password of Redis.

use serde_json::json;

use crate::support::{Group, Listener, Monitor, RECOVERY_MAX, assert_nodes_act_as_one};
use kit::{
    KEY, Redis, SECRET, becomes_ready, cluster_settings, metrics, node, quoted, readiness, sign,
    unready_node,
};

#[tokio::test]
async fn neither_a_secret_nor_a_signature_reaches_redis_or_a_log() {
    let group = Group::of(2).await;
    let mut monitor = Monitor::start(&group.redis).await;
    assert_nodes_act_as_one(&group.nodes[0], &group.nodes[1]).await;
    let listener = Listener::of(&group.nodes[0]).await;
    let user = json!({ "id": "ann", "user_info": { "name": "Ann" } });
    let member = json!({ "user_id": "1", "user_info": { "n": "1" } }).to_string();
    let signatures = [
        sign::channel_auth(KEY, SECRET, &listener.socket_id, "private-s", None),
        sign::channel_auth(KEY, SECRET, &listener.socket_id, "presence-s", Some(&member)),
        sign::user_auth(KEY, SECRET, &listener.socket_id, &user.to_string()),
        sign::channel_auth(KEY, "another secret", &listener.socket_id, "private-t", None),
    ];
    listener.subscribe("private-s").await;
    listener.join("presence-s", "1").await;
    listener.sign_in(&user);
    let forged = json!({ "channel": "private-t", "auth": signatures[3] });
    listener.send(&json!({ "event": "pusher:subscribe", "data": forged }));
    listener.whisper("client-x", "private-s", "said");
    listener.ping_barrier().await;
    group.nodes[1].publish("private-s", "e", "published").await;
    listener.receives("e", "private-s", 1, RECOVERY_MAX).await;
    let reply = monitor.since_last().await;
    assert!(reply.iter().any(|line| line.contains("published")), "the monitor records commands");
    let mut places = vec![("Redis", reply.join("\n"))];
    for node in &group.nodes {
        places.push(("the log", node.process.output()));
    }
    for (place, text) in places {
        assert!(!text.contains(SECRET), "the secret is in {place}");
        let signed = text.lines().find(|line| line.contains("auth_signature="));
        assert_eq!(signed, None, "a signed query is in {place}");
        for signature in &signatures {
            let (_, digest) = signature.split_once(':').expect("a key and a signature");
            // Not even a part of a signature may be in a log.
            assert!(!text.contains(digest), "a signature is in {place}");
        }
    }
}

#[tokio::test]
async fn the_password_of_redis_is_used_and_never_disclosed() {
    const PASSWORD: &str = "correct-horse-battery";
    let redis = Redis::start_with(&["--save", "", "--requirepass", PASSWORD]).await;
    let settings = cluster_settings();
    let right = node(&settings, &format!("redis://:{PASSWORD}@{}", redis.address())).await;
    let wrong =
        unready_node(&settings, &format!("redis://:{PASSWORD}-not@{}", redis.address())).await;
    becomes_ready(&right, RECOVERY_MAX).await;
    let (status, body) = readiness(wrong.address).await;
    assert_eq!(status, 503, "{body}");
    let mut texts = vec![body.to_string(), right.process.output(), wrong.process.output()];
    texts.push(format!("{:?}", metrics(wrong.address).await));
    texts.push(format!("{:?}", readiness(right.address).await));
    for text in texts {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[tokio::test]
async fn a_prefix_is_the_beginning_of_every_key_and_of_every_channel() {
    let settings = cluster_settings().section("redis", "prefix", quoted("our-own"));
    let group = Group::with(2, settings, Redis::start().await).await;
    let listener = Listener::of(&group.nodes[0]).await;
    listener.subscribe("c").await;
    listener.join("presence-c", "1").await;
    listener.sign_in(&json!({ "id": "ann", "watchlist": ["bob"] }));
    listener.ping_barrier().await;
    group.nodes[1].publish("cache-x", "e", "1").await;
    let mut redis = group.redis.client().await;
    let mut names = redis.command(&["KEYS", "*"]).await.texts();
    names.extend(redis.command(&["PUBSUB", "CHANNELS", "*"]).await.texts());
    assert!(!names.is_empty());
    let strangers: Vec<_> = names.iter().filter(|name| !name.starts_with("our-own")).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}
