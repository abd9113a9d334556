//! The delivery guarantees: one order, no gaps, no duplicates, and no effect of slow clients on others.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;

use kit::{Call, Client, Frame, Http, Server, Settings, eventually, frames, is_event, within};

use crate::Start as _;

const HUNDRED_KB: usize = 100_000;

// The example in CONTRIBUTING.md.
#[tokio::test]
async fn a_subscriber_receives_published_events() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("news").await;
    server.publish("news", "headline", "hello").await;
    client.expect_event("news", "headline", "hello").await;
}

/// A publisher publishes ascending numbers while a subscriber repeatedly subscribes and unsubscribes.
#[tokio::test]
async fn a_subscription_receives_all_later_events_once_and_in_order() {
    let server = Settings::new().start().await;
    let counter = Counter::default();
    let mut client = server.client().await;
    let windows = async {
        for window in 0..200 {
            let answered = counter.answered.get();
            client.send_subscribe("a").await;
            client.subscribed("a").await;
            let started = counter.started.get();
            let first = number(&client.next().await);
            assert!(
                first > answered,
                "{first} was answered before the subscription, which began after {answered}"
            );
            assert!(
                first <= started + 1,
                "the first is {first}, but only {started} had begun at the acknowledgement"
            );
            let mut last = first;
            for _ in 0..window % 7 {
                let next = number(&client.next().await);
                assert_eq!(next, last + 1);
                last = next;
            }
            client.unsubscribe("a").await;
            client.command("pusher:ping", json!({})).await;
            loop {
                let message = client.next().await;
                if message["event"] == "pusher:pong" {
                    break;
                }
                assert_eq!(number(&message), last + 1);
                last += 1;
            }
        }
    };
    tokio::select! {
        () = counter.publish(&server) => unreachable!("the publisher goes on for ever"),
        () = windows => {}
    }
}

#[tokio::test]
async fn all_subscribers_receive_the_events_of_all_publishers_in_one_order() {
    let server = Settings::new().start().await;
    let mut clients = [server.client().await, server.client().await, server.client().await];
    for client in &mut clients {
        client.subscribe("a").await;
    }
    let publish = async |publisher: u64| {
        let mut http = Http::connect(server.address).await;
        for number in 0..100 {
            let event =
                json!({ "name": "e", "channel": "a", "data": format!("{publisher} {number}") });
            let reply = Call::post("events", &event).send_on(&mut http).await;
            assert_eq!(reply.status, 200, "{reply}");
        }
    };
    let read = async |client: &mut Client| {
        let mut seen = Vec::new();
        for _ in 0..400 {
            seen.push(client.next().await["data"].as_str().expect("data is a string").to_owned());
        }
        client.ping_barrier().await;
        seen
    };
    let [one, two, three] = &mut clients;
    let publishing = async { tokio::join!(publish(0), publish(1), publish(2), publish(3)) };
    let (_, one, two, three) = tokio::join!(publishing, read(one), read(two), read(three));
    assert!(one == two && two == three, "all receive the same order");
    for publisher in 0..4 {
        let own = one.iter().filter(|data| data.starts_with(&format!("{publisher} ")));
        let expected: Vec<String> =
            (0..100).map(|number| format!("{publisher} {number}")).collect();
        assert!(own.eq(&expected), "each event of publisher {publisher} once and in order");
    }
}

#[tokio::test]
async fn max_outbox_bytes_closes_a_slow_reader_4100_while_others_lose_nothing() {
    let server = Settings::new().connection("max_outbox_bytes", 262_144).start().await;
    let mut stuck = server.client_with_small_buffers().await;
    let mut healthy = server.client().await;
    stuck.subscribe("a").await;
    healthy.subscribe("a").await;
    let padding = "x".repeat(HUNDRED_KB - 10);
    let published = Cell::new(0);
    let publish = async {
        // The kernel buffers several megabytes on both sides; the server keeps far less.
        while server.connections().await == 2 {
            assert!(published.get() < 1_000, "100 MB are queued for a client that does not read");
            server.publish("a", "e", &format!("{:<10}{padding}", published.get())).await;
            published.set(published.get() + 1);
        }
        server.publish("a", "end", "").await;
    };
    let read = async {
        let mut seen = 0;
        loop {
            let message = healthy.next().await;
            if message["event"] == "end" {
                break seen;
            }
            assert_eq!(number(&message), seen);
            seen += 1;
        }
    };
    let (seen, ()) = tokio::join!(read, publish);
    assert_eq!(seen, published.get());
    healthy.ping_barrier().await;
    let (seen, code) = read_to_close(&mut stuck).await;
    assert_eq!(code, Some(4100), "closed after {seen} of {} events", published.get());
}

#[tokio::test]
async fn a_client_that_never_reads_is_not_read_forever() {
    // Otherwise, this limit would close the connection first.
    let settings = Settings::new().connection("max_messages_per_second", 0);
    let server = settings.start().await;
    let mut greedy = server.client_with_small_buffers().await;
    let mut healthy = server.client().await;
    let pings = frames::text(r#"{"event":"pusher:ping","data":{}}"#).repeat(2_000);
    let greed = async {
        for megabytes in 0..64 {
            for _ in 0..1_000_000 / pings.len() {
                let sent =
                    tokio::time::timeout(Duration::from_secs(1), greedy.try_bytes(&pings)).await;
                if sent != Ok(true) {
                    return;
                }
            }
            assert!(megabytes < 63, "the server read everything while its answers were unread");
        }
    };
    within("the server to have had enough", greed).await;
    healthy.ping_barrier().await;
    healthy.subscribe("a").await;
    server.assert_no_other_events("a", &mut [&mut healthy]).await;
    drop(greedy);
    eventually("the greedy one is gone", async || server.connections().await == 1).await;
}

#[tokio::test]
async fn a_publish_does_not_wait_for_a_client_that_does_not_read() {
    let server = Settings::new().start().await;
    let mut stuck = Vec::new();
    for _ in 0..5 {
        let mut client = server.client_with_small_buffers().await;
        client.subscribe("a").await;
        stuck.push(client);
    }
    let data = "x".repeat(HUNDRED_KB);
    for _ in 0..100 {
        server.publish("a", "e", &data).await;
    }
    server.wait_for_connections(0).await;
}

/// Ascending numbers that are published: how many were begun, and how many were answered.
#[derive(Default)]
struct Counter {
    started: Cell<u64>,
    answered: Cell<u64>,
}

impl Counter {
    async fn publish(&self, server: &Server) {
        let mut http = Http::connect(server.address).await;
        loop {
            let number = self.started.get() + 1;
            self.started.set(number);
            let event = json!({ "name": "e", "channel": "a", "data": number.to_string() });
            let reply = Call::post("events", &event).send_on(&mut http).await;
            assert_eq!(reply.status, 200, "{reply}");
            self.answered.set(number);
        }
    }
}

/// The number at the beginning of an event's data.
fn number(message: &serde_json::Value) -> u64 {
    assert_eq!(message["event"], "e", "{message}");
    let data = message["data"].as_str().expect("data is a string");
    data.split(' ')
        .next()
        .and_then(|digits| digits.parse().ok())
        .expect("data begins with a number")
}

/// Reads events without gaps until the close frame or the end.
async fn read_to_close(client: &mut Client) -> (u64, Option<u16>) {
    let mut seen = 0;
    loop {
        match client.frame().await {
            Some(Frame::Text(text)) if is_event(&text, "e") => {
                let message = serde_json::from_str(&text).expect("it is an event");
                assert_eq!(number(&message), seen);
                seen += 1;
            }
            Some(Frame::Close(code, _)) => return (seen, Some(code)),
            Some(Frame::Text(_) | Frame::Ping(_) | Frame::Pong(_)) => {}
            None => return (seen, None),
        }
    }
}
