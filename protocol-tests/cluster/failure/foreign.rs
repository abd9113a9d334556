//! Somebody else writes into our Redis.

use crate::kit::{
    C, Group, HEALED, Listener, R, RedisClient, View, assert_view_everywhere, metrics,
};

#[tokio::test]
async fn foreign_messages_are_counted_logged_once_and_ignored() {
    let group = Group::of(2).await;
    let (a, b) = (Listener::of(&group.nodes[0]).await, Listener::of(&group.nodes[1]).await);
    for (listener, user) in [(&a, "1"), (&b, "2")] {
        listener.subscribe(C).await;
        listener.join(R, user).await;
    }
    a.hears("pusher_internal:member_added", R, 1, HEALED).await;
    let mut redis = group.redis.client().await;
    let topics = redis.command(&["PUBSUB", "CHANNELS", "*"]).await.texts();
    assert!(!topics.is_empty(), "the nodes listen somewhere");
    let lengths = [b"\0".repeat(100), b"{".repeat(70_000)];
    let texts: [&[u8]; 7] = [
        b"",
        b"hello",
        b"{}",
        b"null",
        b"[1,2,3]",
        b"\xff\xfe\x00",
        br#"{"event":"forged","channel":"c","data":"1"}"#,
    ];
    for topic in &topics {
        for message in texts.into_iter().chain(lengths.iter().map(Vec::as_slice)) {
            redis.command(&[b"PUBLISH".as_slice(), topic.as_bytes(), message]).await;
        }
    }
    is_unmoved(&group, &a, &b).await;
    for node in &group.nodes {
        let foreign = metrics(node.address).await.sum("campanile_broker_foreign_total");
        assert!(1.0 <= foreign, "counted: {foreign}");
        let log = node.process.output();
        let lines =
            log.lines().filter(|line| line.contains("WARN") && line.contains("something foreign"));
        assert!(lines.count() <= 1, "logged at most once a minute: {log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Every key is replaced by one of another type, one after the other.
#[tokio::test]
async fn keys_of_a_wrong_type_do_not_bring_nodes_down() {
    let group = Group::of(2).await;
    let (a, b) = (Listener::of(&group.nodes[0]).await, Listener::of(&group.nodes[1]).await);
    for (listener, user) in [(&a, "1"), (&b, "2")] {
        listener.subscribe(C).await;
        listener.join(R, user).await;
    }
    let mut redis = group.redis.client().await;
    let keys = redis.command(&["KEYS", "*"]).await.texts();
    assert!(!keys.is_empty(), "there is something to spoil");
    for key in &keys {
        spoil(&mut redis, key).await;
        // Whatever comes of it is a whole answer, soon.
        for node in &group.nodes {
            let event = serde_json::json!({ "name": "e", "channel": C, "data": "1" });
            let reply = node.post("events", &event).await;
            assert!(matches!(reply.status, 200 | 500 | 503), "{key}: {reply}");
            let reply = node.get("channels", &[]).await;
            assert!(matches!(reply.status, 200 | 500 | 503), "{key}: {reply}");
        }
    }
    for node in &group.nodes {
        let log = node.process.output();
        assert!(!log.contains("panicked"), "{log}");
    }
    // Without the rubbish everything is right again.
    for key in &keys {
        redis.command(&["DEL", key]).await;
    }
    group.are_ready(2 * HEALED).await;
    for listener in [&a, &b] {
        assert!(matches!(listener.closed(), None | Some(4200)), "{}", listener.tail(5));
    }
    drop((a, b));
    assert_view_everywhere(&group.addresses(), 2 * HEALED, &View::default()).await;
    let (a, b) = (Listener::of(&group.nodes[0]).await, Listener::of(&group.nodes[1]).await);
    for (listener, user) in [(&a, "1"), (&b, "2")] {
        listener.subscribe(C).await;
        listener.join(R, user).await;
    }
    is_unmoved(&group, &a, &b).await;
}

async fn spoil(redis: &mut RedisClient, key: &str) {
    let kind = redis.command(&["TYPE", key]).await;
    redis.command(&["DEL", key]).await;
    match kind.text() {
        "list" => redis.command(&["SET", key, "rubbish"]).await,
        _ => redis.command(&["RPUSH", key, "rubbish"]).await,
    };
}

/// Everything works, and nobody heard anything that was not published.
async fn is_unmoved(group: &Group, a: &Listener, b: &Listener) {
    for (at, node) in group.nodes.iter().enumerate() {
        for channel in [C, R] {
            node.publish(channel, "marker", &at.to_string()).await;
        }
    }
    for listener in [a, b] {
        for channel in [C, R] {
            listener.hears("marker", channel, 2, HEALED).await;
            assert_eq!(listener.data("marker", channel), ["0", "1"]);
        }
        listener.fence().await;
        assert!(!listener.tail(1_000).contains("forged"), "{}", listener.tail(20));
        assert_eq!(listener.closed(), None);
    }
    let truth = View::default().with_count(C, 2).with_users(R, &["1", "2"]).with_connections(2);
    assert_view_everywhere(&group.addresses(), HEALED, &truth).await;
}
