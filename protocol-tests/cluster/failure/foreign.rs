//! Foreign data under the prefix of the nodes in Redis.

use crate::support::{C, Group, Listener, R, RECOVERY_MAX, View, assert_view_everywhere};
use kit::{RedisClient, metrics};

#[tokio::test]
async fn unexpected_messages_are_counted_logged_once_and_ignored() {
    let group = Group::of(2).await;
    let (a, b) = (Listener::of(&group.nodes[0]).await, Listener::of(&group.nodes[1]).await);
    for (listener, user) in [(&a, "1"), (&b, "2")] {
        listener.subscribe(C).await;
        listener.join(R, user).await;
    }
    a.receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
    let mut redis = group.redis.client().await;
    let topics = redis.command(&["PUBSUB", "CHANNELS", "*"]).await.texts();
    assert!(!topics.is_empty(), "the nodes subscribe to buses");
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
        let foreign = metrics(node.address).await.sum("campanile_broker_unexpected_data_total");
        assert!(1.0 <= foreign, "counted: {foreign}");
        let log = node.process.output();
        let lines =
            log.lines().filter(|line| line.contains("WARN") && line.contains("unexpected data"));
        assert!(lines.count() <= 1, "logged at most once a minute: {log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Envelopes with the numbers of the nodes' next events, and with those of processes that do not exist, are not
/// recorded.
#[tokio::test]
async fn forged_envelopes_are_not_recorded_as_delivered() {
    const EVENTS: usize = 20;
    let group = Group::of(2).await;
    let (a, b) = (Listener::of(&group.nodes[0]).await, Listener::of(&group.nodes[1]).await);
    for listener in [&a, &b] {
        listener.subscribe(C).await;
    }
    let mut redis = group.redis.client().await;
    let topics = redis.command(&["PUBSUB", "CHANNELS", "*"]).await.texts();
    let topic = topics
        .iter()
        .find(|topic| topic.ends_with(&format!(":{C}")))
        .expect("the bus of the channel");
    let registry = redis.command(&["KEYS", "*nodes{*"]).await.texts();
    let fields = redis.command(&["HKEYS", &registry[0]]).await.texts();
    let processes: Vec<u64> = fields
        .iter()
        .filter_map(|field| field.strip_prefix("n:"))
        .map(|node| u64::from_str_radix(node.split('.').next().unwrap_or_default(), 16))
        .collect::<Result<_, _>>()
        .expect("nodes are named after their process");
    assert_eq!(processes.len(), 2);
    for process in processes.iter().copied().chain(0..50) {
        for number in 0..EVENTS as u64 * 2 {
            let message = envelope(process << 40 | number, C);
            redis.command(&[b"PUBLISH".as_slice(), topic.as_bytes(), &message]).await;
        }
    }
    // An event for one channel on the bus of another is ignored.
    let elsewhere = envelope(1 << 40, "another-channel");
    redis.command(&[b"PUBLISH".as_slice(), topic.as_bytes(), &elsewhere]).await;
    let expected: Vec<String> = (0..EVENTS).map(|number| number.to_string()).collect();
    for number in &expected {
        group.nodes[number.len() % 2].publish(C, "marker", number).await;
    }
    for listener in [&a, &b] {
        listener.receives("marker", C, EVENTS, RECOVERY_MAX).await;
        assert_eq!(listener.data("marker", C), expected, "each event once");
        assert_eq!(listener.count("forged", "another-channel"), 0);
        assert_eq!(listener.closed(), None);
    }
    for node in &group.nodes {
        assert!(1.0 <= metrics(node.address).await.sum("campanile_broker_unexpected_data_total"));
    }
}

/// An event as nodes publish it, without a sequence from Redis.
fn envelope(id: u64, channel: &str) -> Vec<u8> {
    let text = format!(r#"{{"event":"forged","channel":"{channel}","data":"1"}}"#);
    let length = u8::try_from(text.len()).expect("it is short");
    let mut bytes = b"E 0 \x01\x00".to_vec();
    bytes.extend(id.to_be_bytes());
    bytes.extend([0; 16]);
    bytes.extend([0x81, length]);
    bytes.extend(text.as_bytes());
    bytes
}

/// Replaces every key by one of another type, one after the other.
#[tokio::test]
async fn keys_of_a_wrong_type_do_not_stop_nodes() {
    let group = Group::of(2).await;
    let (a, b) = (Listener::of(&group.nodes[0]).await, Listener::of(&group.nodes[1]).await);
    for (listener, user) in [(&a, "1"), (&b, "2")] {
        listener.subscribe(C).await;
        listener.join(R, user).await;
    }
    let mut redis = group.redis.client().await;
    let keys = redis.command(&["KEYS", "*"]).await.texts();
    assert!(!keys.is_empty(), "there are keys to replace");
    for key in &keys {
        spoil(&mut redis, key).await;
        // The response may be an error, but it is complete and arrives soon.
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
    // Once the foreign data is removed, the state becomes right again.
    for key in &keys {
        redis.command(&["DEL", key]).await;
    }
    group.are_ready(2 * RECOVERY_MAX).await;
    for listener in [&a, &b] {
        assert!(matches!(listener.closed(), None | Some(4200)), "{}", listener.tail(5));
    }
    drop((a, b));
    assert_view_everywhere(&group.addresses(), 2 * RECOVERY_MAX, &View::default()).await;
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

/// Checks that everything works, and that no client received anything that was not published.
async fn is_unmoved(group: &Group, a: &Listener, b: &Listener) {
    for (at, node) in group.nodes.iter().enumerate() {
        for channel in [C, R] {
            node.publish(channel, "marker", &at.to_string()).await;
        }
    }
    for listener in [a, b] {
        for channel in [C, R] {
            listener.receives("marker", channel, 2, RECOVERY_MAX).await;
            assert_eq!(listener.data("marker", channel), ["0", "1"]);
        }
        listener.ping_barrier().await;
        assert!(!listener.tail(1_000).contains("forged"), "{}", listener.tail(20));
        assert_eq!(listener.closed(), None);
    }
    let truth = View::default().with_count(C, 2).with_users(R, &["1", "2"]).with_connections(2);
    assert_view_everywhere(&group.addresses(), RECOVERY_MAX, &truth).await;
}
