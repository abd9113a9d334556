//! How often the server allocates for what it does most. The bounds are the numbers of today, and half an allocation for
//! timers and for queues that grow: lower them with each change that allocates less.

use kit::{Call, Client, CountedAllocations, Http, Server, Settings, frames};
use serde_json::{Value, json};

const TIMES: u64 = 200;

/// The test app with one shard and without subscription counts, whose clients may send any number of messages. The log has the
/// default level, which has no line for a publish.
fn settings() -> Settings {
    Settings::new()
        .section("server", "shards", 1)
        .section("log", "level", r#""info""#)
        .connection("max_messages_per_second", 0)
        .app("subscription_count", false)
        .app("client_events_per_second", 0)
}

/// Compares the allocations of each of many actions with those of today.
fn assert_at_most(max: u64, action: &str, before: u64, after: u64) {
    let count = after - before;
    let more = "fewer are better, and more need a reason";
    assert!(
        count <= max * TIMES + TIMES / 2,
        "{TIMES} times {action}: {count} allocations, {max} each until now; {more}"
    );
}

#[tokio::test]
async fn a_publish_allocates_no_more_than_before() {
    let (server, allocations) = CountedAllocations::start(&settings()).await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let mut http = Http::connect(server.address).await;
    let mut publish = async |count: u64| {
        for number in 0..count {
            let data = number.to_string();
            let event = json!({ "name": "e", "channel": "a", "data": data });
            assert_eq!(Call::post("events", &event).send_on(&mut http).await.status, 200);
            client.expect_event("a", "e", &data).await;
        }
    };
    // What is allocated once is not counted.
    publish(20).await;
    let before = allocations.count();
    publish(TIMES).await;
    assert_at_most(6, "a publish", before, allocations.count());
}

/// From the request to the acknowledgement of the first subscription, and the end.
#[tokio::test]
async fn a_connection_allocates_no_more_than_before() {
    let (server, allocations) = CountedAllocations::start(&settings()).await;
    // The channel outlives the connections.
    let mut observer = server.client().await;
    observer.subscribe("a").await;
    connect(&server, 20).await;
    let before = allocations.count();
    connect(&server, TIMES).await;
    assert_at_most(70, "a connection", before, allocations.count());
}

async fn connect(server: &Server, count: u64) {
    for _ in 0..count {
        let mut client = server.client().await;
        client.subscribe("a").await;
        let code = 1_000_u16.to_be_bytes();
        client.bytes(frames::masked(frames::FIN | frames::CLOSE, &code)).await;
        assert_eq!(client.closed_eventually().await.0, 1_000);
    }
}

#[tokio::test]
async fn a_client_event_allocates_no_more_than_before() {
    let (server, allocations) = CountedAllocations::start(&settings()).await;
    let (mut sender, mut receiver) = (server.client().await, server.client().await);
    sender.subscribe("private-a").await;
    receiver.subscribe("private-a").await;
    whisper(&mut sender, &mut receiver, 20).await;
    let before = allocations.count();
    whisper(&mut sender, &mut receiver, TIMES).await;
    assert_at_most(3, "a client event", before, allocations.count());
}

async fn whisper(sender: &mut Client, receiver: &mut Client, count: u64) {
    for number in 0..count {
        let data = Value::from(number.to_string());
        sender.whisper("client-e", "private-a", data).await;
        receiver.expect_event("private-a", "client-e", &number.to_string()).await;
    }
}
