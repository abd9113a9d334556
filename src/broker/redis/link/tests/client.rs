use super::{
    PATIENCE, connect, echo, endpoint,
    fake::{Fake, bulk, push},
    next, receives_nothing,
};
use crate::broker::redis::{
    link::{LinkEvent, LinkEvents, RedisConnection, ServerId},
    partition::Partition,
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

const LEASES: Partition = Partition::LEASES;

async fn connected(fake: &Fake) -> (RedisConnection, LinkEvents) {
    connect(&format!("redis://127.0.0.1:{}", fake.port)).await.unwrap()
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// Sends commands concurrently on the pub/sub connection. Returns their replies.
async fn replies(connection: &RedisConnection, words: &[&str]) -> Vec<String> {
    let asking = words.iter().map(|word| async {
        let command = echo(word);
        let reply = connection.query_in_order::<String>(LEASES, &command);
        timeout(PATIENCE, reply).await.expect("a reply").unwrap_or_else(|error| error.to_string())
    });
    join_all(asking).await
}

#[tokio::test]
async fn an_unrequested_unsubscription_is_not_a_reply() {
    let fake = Fake::start().await;
    let (connection, mut events) = connected(&fake).await;
    connection.subscribe(LEASES, &names(&["x", "y"])).await.unwrap();
    for kind in ["sunsubscribe", "unsubscribe"] {
        fake.reply(move |line| {
            (line == "ECHO b").then(|| format!("{}{}", push(&[kind, "x"]), bulk("ECHO b")))
        });
        let replies = replies(&connection, &["a", "b", "c", "d"]).await;
        assert_eq!(replies, ["ECHO a", "ECHO b", "ECHO c", "ECHO d"]);
        assert_eq!(next(&mut events).await, LinkEvent::PartitionMoved(LEASES));
    }
    fake.push(&push(&["sunsubscribe", "y"]));
    assert_eq!(next(&mut events).await, LinkEvent::PartitionMoved(LEASES));
    assert_eq!(replies(&connection, &["e", "f"]).await, ["ECHO e", "ECHO f"]);
}

/// The server ends the subscription while an unsubscription is in flight; the unsubscription is
/// then rejected.
#[tokio::test]
async fn an_unsubscription_that_crosses_the_servers_own_keeps_the_order_of_replies() {
    let server_replies = [
        format!("{}-MOVED 1 127.0.0.1:1\r\n", push(&["sunsubscribe", "x"])),
        push(&["sunsubscribe", "x"]).repeat(2),
        format!("{}-NOPERM no\r\n", push(&["sunsubscribe", "x"]).repeat(2)),
        "-NOPERM no\r\n".to_owned(),
        String::new(),
    ];
    for reply in server_replies {
        let fake = Fake::start().await;
        let (connection, mut events) = connected(&fake).await;
        connection.subscribe(LEASES, &names(&["x"])).await.unwrap();
        let is_error = reply.contains('-');
        fake.reply(move |line| line.starts_with("UNSUBSCRIBE").then(|| reply.clone()));
        let names = names(&["x"]);
        let ending = timeout(PATIENCE, connection.unsubscribe(LEASES, &names));
        let (ended, before) = tokio::join!(ending, replies(&connection, &["a", "b", "c"]));
        assert_eq!(ended.expect("a reply").is_err(), is_error);
        assert_eq!(before, ["ECHO a", "ECHO b", "ECHO c"]);
        assert_eq!(replies(&connection, &["d"]).await, ["ECHO d"]);
        receives_nothing(&mut events, Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_subscription_is_confirmed_for_each_bus_or_rejected_for_all() {
    let fake = Fake::start().await;
    let (connection, mut events) = connected(&fake).await;
    let many: Vec<Arc<str>> = (0..2_000).map(|number| format!("bus-{number}").into()).collect();
    connection.subscribe(LEASES, &many).await.unwrap();
    assert_eq!(fake.seen("SUBSCRIBE"), 4);
    fake.push(&push(&["message", "bus-7", "hello"]));
    let message = LinkEvent::Message {
        from: ServerId::ONLY,
        pubsub_channel: b"bus-7".to_vec(),
        message: b"hello".to_vec(),
    };
    assert_eq!(next(&mut events).await, message);
    fake.reply(|line| line.starts_with("SUBSCRIBE").then(|| "-NOPERM no channels\r\n".to_owned()));
    let error = connection.subscribe(LEASES, &many[..3]).await.unwrap_err();
    assert_eq!(error.code(), Some("NOPERM"));
    assert_eq!(replies(&connection, &["a", "b"]).await, ["ECHO a", "ECHO b"]);
}

#[tokio::test]
async fn messages_are_delivered_before_the_reply_that_follows_them() {
    let fake = Fake::start().await;
    let (connection, mut events) = connected(&fake).await;
    connection.subscribe(LEASES, &names(&["x"])).await.unwrap();
    fake.reply(|line| {
        let message = push(&["message", "x", line]);
        line.starts_with("ECHO").then(|| format!("{message}{}", bulk(line)))
    });
    for word in ["a", "b", "c"] {
        let expected = format!("ECHO {word}");
        assert_eq!(replies(&connection, &[word]).await, std::slice::from_ref(&expected));
        let message = timeout(Duration::ZERO, events.next())
            .await
            .expect("the message has arrived before the reply");
        assert_eq!(
            message,
            LinkEvent::Message {
                from: ServerId::ONLY,
                pubsub_channel: b"x".to_vec(),
                message: expected.into_bytes()
            }
        );
    }
}

#[tokio::test]
async fn an_unrequested_reply_ends_the_link() {
    let strange = [push(&["subscribe", "x"]), bulk("a reply"), "?\r\n".to_owned()];
    for bytes in strange {
        let fake = Fake::start().await;
        let (connection, mut events) = connected(&fake).await;
        connection.subscribe(LEASES, &names(&["x"])).await.unwrap();
        fake.push(&bytes);
        assert!(matches!(next(&mut events).await, LinkEvent::Lost(_)), "{bytes:?}");
        let command = echo("a");
        connection.query_in_order::<String>(LEASES, &command).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_lost_connection_fails_the_requests_in_flight_and_later_ones() {
    let fake = Fake::start().await;
    let (connection, mut events) = connected(&fake).await;
    fake.reply(|line| line.starts_with("ECHO").then(String::new));
    let (first, second) = (echo("a"), echo("b"));
    let asking = async {
        tokio::join!(
            connection.query::<String>(LEASES, &first),
            connection.query::<String>(LEASES, &second),
        )
    };
    let hanging_up = async {
        super::eventually("both are sent", || fake.seen("ECHO") == 2).await;
        fake.hang_up();
    };
    let ((a, b), ()) = tokio::join!(asking, hanging_up);
    assert!(a.is_err() && b.is_err());
    assert!(matches!(next(&mut events).await, LinkEvent::Lost(_)));
    assert!(connection.query::<String>(LEASES, &first).await.is_err());
    assert_eq!(fake.seen("ECHO"), 2);
}

#[tokio::test]
async fn commands_do_not_share_the_connection_of_the_subscriptions() {
    let fake = Fake::start().await;
    let (connection, mut events) = connected(&fake).await;
    connection.subscribe(LEASES, &names(&["x"])).await.unwrap();
    // The connection of the subscriptions receives no more replies.
    fake.push("$1000000\r\n");
    let command = echo("a");
    let reply = timeout(PATIENCE, connection.query::<String>(LEASES, &command)).await;
    assert_eq!(reply.expect("a reply").unwrap(), "ECHO a");
    receives_nothing(&mut events, Duration::from_millis(20)).await;
    assert!(!endpoint("redis://127.0.0.1:1").is_redis_cluster());
}

/// Tests each of the two connections, with a request in flight and without one.
#[tokio::test]
async fn a_silent_connection_is_closed() {
    for is_pubsub in [true, false] {
        let fake = Fake::start().await;
        let (connection, mut events) = connected(&fake).await;
        fake.reply(|line| line.starts_with("ECHO").then(String::new));
        let command = echo("a");
        let asking = async {
            if is_pubsub {
                connection.query_in_order::<String>(LEASES, &command).await
            } else {
                connection.query::<String>(LEASES, &command).await
            }
        };
        let error = timeout(PATIENCE, asking).await.expect("an end").unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(matches!(next(&mut events).await, LinkEvent::Lost(_)));
    }
    let fake = Fake::start().await;
    let (_connection, mut events) = connected(&fake).await;
    super::eventually("both are pinged", || fake.seen("PING") == 2).await;
    receives_nothing(&mut events, Duration::from_millis(20)).await;
    fake.reply(|line| line.starts_with("PING").then(String::new));
    assert!(matches!(next(&mut events).await, LinkEvent::Lost(_)));
}
