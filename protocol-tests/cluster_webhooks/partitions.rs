//! On a Redis Cluster each partition has its own webhook log, which nodes forward to the app's log: each record once,
//! and in order.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::group::{Group, received, request, until, webhooks};
use kit::Client;
use kit::webhook_receiver::{WebhookReceiver, of_channel, of_member};
use kit::{Redis, Resp};

const R: &str = "presence-r";
/// How many clients each node has. Counts of up to a hundred subscribers are reported individually.
const CLIENTS: usize = 40;

async fn clients(group: &Group, node: usize, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(group.client(node).await);
    }
    clients
}

/// Subscribes the clients one after the other.
async fn subscribe_all(clients: &mut [Client], channel: &str) {
    for client in clients {
        client.subscribe(channel).await;
    }
}

fn counts(events: &[Value]) -> Vec<u64> {
    let counts = events.iter().filter_map(|event| event["subscription_count"].as_u64());
    counts.collect()
}

/// The events of the channel `marker` when it gets its first subscriber.
fn marker() -> [Value; 2] {
    let count =
        json!({ "name": "subscription_count", "channel": "marker", "subscription_count": 1 });
    [of_channel("channel_occupied", "marker"), count]
}

/// The events up to the one for which `is_last` holds, with the rest of its request.
async fn events_until(
    receiver: &mut WebhookReceiver,
    mut is_last: impl FnMut(&Value) -> bool,
) -> Vec<Value> {
    let mut events = Vec::new();
    while !events.iter().any(&mut is_last) {
        events.extend(request(receiver).await.events());
    }
    events
}

#[tokio::test]
async fn joins_and_leaves_on_two_nodes_are_reported_once_and_in_order() {
    let mut receiver = WebhookReceiver::new().await;
    let events = r#"["channel_occupied", "channel_vacated", "subscription_count"]"#;
    let group = Group::on_a_cluster(2, webhooks(&[(&receiver, events)])).await;
    let mut one = clients(&group, 0, CLIENTS).await;
    let mut two = clients(&group, 1, CLIENTS).await;
    // Both nodes log to the same partition, and forward their own records and those of the other node.
    tokio::join!(subscribe_all(&mut one, "t"), subscribe_all(&mut two, "t"));
    let all = u64::try_from(2 * CLIENTS).unwrap();
    let arrivals = received(&mut receiver, 2 * CLIENTS + 1).await;
    assert_eq!(arrivals[0], of_channel("channel_occupied", "t"));
    assert_eq!(counts(&arrivals), (1..=all).collect::<Vec<_>>());
    drop((one, two));
    let is_vacated = |event: &Value| event["name"] == "channel_vacated";
    let departures = events_until(&mut receiver, is_vacated).await;
    // Clients that disconnect at the same time are reported together.
    assert!(counts(&departures).is_sorted_by(|before, after| after < before), "{departures:?}");
    assert!(counts(&departures).first().is_none_or(|first| *first < all), "{departures:?}");
    let vacated = departures.iter().filter(|event| is_vacated(event)).count();
    assert_eq!((vacated, departures.len()), (1, counts(&departures).len() + 1), "{departures:?}");
    let mut other = group.client(0).await;
    other.subscribe("marker").await;
    assert_eq!(received(&mut receiver, 2).await, marker());
}

#[tokio::test]
async fn members_of_two_nodes_are_reported_once_each() {
    let mut receiver = WebhookReceiver::new().await;
    let events = r#"["channel_occupied", "channel_vacated", "member_added", "member_removed"]"#;
    let group = Group::on_a_cluster(2, webhooks(&[(&receiver, events)])).await;
    let join_all = async |node: usize| {
        let mut all = clients(&group, node, CLIENTS).await;
        for (number, client) in all.iter_mut().enumerate() {
            client.join(R, &(2 * number + node).to_string()).await;
        }
        all
    };
    let all = tokio::join!(join_all(0), join_all(1));
    let arrivals = received(&mut receiver, 2 * CLIENTS + 1).await;
    assert_eq!(arrivals[0], of_channel("channel_occupied", R));
    let number = |event: &Value| event["user_id"].as_str().map(|id| id.parse::<usize>().unwrap());
    for node in [0, 1] {
        let ids = arrivals.iter().filter_map(number).filter(|id| id % 2 == node);
        let expected: Vec<_> = (0..CLIENTS).map(|number| 2 * number + node).collect();
        assert_eq!(ids.collect::<Vec<_>>(), expected, "in order, once each");
    }
    drop(all);
    let departures = received(&mut receiver, 2 * CLIENTS + 1).await;
    let mut ids: Vec<_> = departures.iter().filter_map(number).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..2 * CLIENTS).collect::<Vec<_>>());
    assert!(departures.contains(&of_channel("channel_vacated", R)), "{departures:?}");
    let mut other = group.client(1).await;
    other.join(R, "7").await;
    let again = [of_channel("channel_occupied", R), of_member("member_added", R, "7")];
    assert_eq!(received(&mut receiver, 2).await, again);
}

/// The node dies as soon as its last subscription is acknowledged, while it forwards the record of it.
#[tokio::test]
async fn a_node_that_dies_while_forwarding_loses_and_duplicates_nothing() {
    const ON_THE_NODE: usize = 15;
    let mut receiver = WebhookReceiver::new().await;
    let events = r#"["channel_occupied", "subscription_count"]"#;
    let mut group = Group::on_a_cluster(2, webhooks(&[(&receiver, events)])).await;
    let leader = group.leader().await;
    let mut stay = clients(&group, leader, CLIENTS).await;
    let mut die = clients(&group, 1 - leader, ON_THE_NODE).await;
    let killing = async {
        subscribe_all(&mut die, "t").await;
        group.kill(1 - leader).await;
    };
    tokio::join!(killing, subscribe_all(&mut stay, "t"));
    // All counts but the first, and one for the departure of the dead node's clients.
    let events = received(&mut receiver, 1 + CLIENTS + ON_THE_NODE + 1).await;
    assert_eq!(events[0], of_channel("channel_occupied", "t"));
    let counts = counts(&events);
    let mut expected = 1;
    for count in &counts[1..] {
        let is_departure = *count + u64::try_from(ON_THE_NODE).unwrap() == expected;
        assert!(is_departure || *count == expected + 1, "{count} after {expected}: {counts:?}");
        expected = *count;
    }
    assert_eq!((counts[0], expected), (1, u64::try_from(CLIENTS).unwrap()));
    stay[0].subscribe("marker").await;
    let marker =
        json!({ "name": "subscription_count", "channel": "marker", "subscription_count": 1 });
    assert_eq!(
        received(&mut receiver, 2).await,
        [of_channel("channel_occupied", "marker"), marker]
    );
}

/// The server that has keys with this pattern, and the first of them.
async fn find<'a>(group: &'a Group, pattern: &str) -> (&'a Redis, String) {
    for redis in &group.redis {
        if let Some(key) = redis.command(&["KEYS", pattern]).await.texts().pop() {
            return (redis, key);
        }
    }
    panic!("no key matches {pattern}");
}

/// The hash tag of a key.
fn tag(key: &str) -> &str {
    key.split(['{', '}']).nth(1).expect("every key has a tag")
}

/// The records that a node leaves if it dies before forwarding one, or before removing a forwarded one.
#[tokio::test]
async fn the_records_of_a_dead_node_are_forwarded_once() {
    let mut receiver = WebhookReceiver::new().await;
    let group = Group::on_a_cluster(2, webhooks(&[(&receiver, r#"["channel_occupied"]"#)])).await;
    let mut client = group.client(0).await;
    client.subscribe("t").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "t")]);
    let (home, leader) = find(&group, "campanile:leader{*}3").await;
    let (redis, channel) = find(&group, "campanile:c{*}3:t").await;
    let (home_tag, tag) = (tag(&leader), tag(&channel));
    assert_ne!(home_tag, tag, "the channel and the app's log are in different partitions");
    let (home_state, field) = (format!("campanile:logstate{{{home_tag}}}3"), format!("f:{tag}"));
    let forwarded = async || home.command(&["HGET", &home_state, &field]).await;
    let reached = forwarded().await;
    let reached: u64 = reached.text().parse().expect("a record of the partition was forwarded");
    let record = |number: u64, channel: &str| {
        format!(r#"{number} {{"k":"channel_occupied","c":"{channel}"}}"#)
    };
    let log = format!("campanile:log{{{tag}}}3");
    let left = [
        record(reached - 1, "before"),
        record(reached, "again"),
        "foreign".to_owned(),
        record(reached + 1, "left-1"),
        record(reached + 2, "left-2"),
    ];
    let push: Vec<&str> =
        ["RPUSH", &log].into_iter().chain(left.iter().map(String::as_str)).collect();
    assert_eq!(redis.command(&push).await, Resp::Number(5));
    let start = Instant::now();
    while redis.command(&["EXISTS", &log]).await != Resp::Number(0) {
        assert!(start.elapsed() < Duration::from_secs(40), "the records are not forwarded");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let expected = ["left-1", "left-2"].map(|channel| of_channel("channel_occupied", channel));
    assert_eq!(received(&mut receiver, 2).await, expected);
    // The next number is higher even if the clock is behind it.
    let ahead = reached + 3_600_000_000;
    let state = format!("campanile:logstate{{{tag}}}3");
    let set = redis.command(&["HSET", &state, "n", &ahead.to_string()]).await;
    assert_eq!(set, Resp::Number(0));
    client.unsubscribe("t").await;
    until("it is forwarded", async || forwarded().await.text() == (ahead + 1).to_string()).await;
}
