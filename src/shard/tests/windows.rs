//! Random clients against a model: each receives exactly the events of the time in which it was
//! subscribed, in order and complete, however its socket is read and the server's writes are split.

use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::time::Instant;

struct ToggledClient {
    socket: TcpStream,
    is_subscribed: bool,
    /// Bytes of an incomplete frame.
    rest: Vec<u8>,
    received: Vec<u64>,
    expected: Vec<u64>,
}

impl ToggledClient {
    fn connect(fixture: &mut ShardFixture) -> Self {
        Self {
            socket: fixture.connect_with_small_buffer(&[]),
            is_subscribed: false,
            rest: Vec::new(),
            received: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// Reads up to `max` bytes. Returns whether there were any.
    fn read(&mut self, max: usize) -> bool {
        let mut buffer = vec![0; max];
        let Ok(len) = self.socket.read(&mut buffer) else { return false };
        self.rest.extend_from_slice(&buffer[..len]);
        for (first, payload) in take_frames(&mut self.rest) {
            assert_eq!(first, 0x81, "a text frame, whole");
            let event: Value = serde_json::from_slice(&payload).unwrap();
            if event["event"] == "e" {
                let data = event["data"].as_str().unwrap();
                self.received.push(data.trim_end_matches('x').parse().unwrap());
            }
        }
        0 < len
    }

    /// Reads until no data for this client is pending anywhere.
    fn catch_up(&mut self, fixture: &mut ShardFixture) {
        fixture.run_until_idle();
        let deadline = Instant::now() + TEST_TIMEOUT;
        while self.read(usize::from(u16::MAX)) || self.received.len() < self.expected.len() {
            assert!(Instant::now() < deadline, "the client receives nothing more");
            fixture.run_until_idle();
        }
        assert_eq!(self.received, self.expected);
    }

    fn toggle(&mut self, fixture: &mut ShardFixture) {
        self.catch_up(fixture);
        let verb = if self.is_subscribed { "unsubscribe" } else { "subscribe" };
        let text = format!(r#"{{"event":"pusher:{verb}","data":{{"channel":"c"}}}}"#);
        let before = fixture.node.hub_by_key("app-key").unwrap().subscription_count();
        self.socket.write_all(&message(&text)).unwrap();
        // The kernel may deliver it later.
        let deadline = Instant::now() + TEST_TIMEOUT;
        while before == fixture.node.hub_by_key("app-key").unwrap().subscription_count() {
            assert!(Instant::now() < deadline, "{verb} has no effect");
            fixture.run_until_idle();
        }
        self.is_subscribed = !self.is_subscribed;
    }
}

/// Closes a connection and waits until the shard has handled it, so that its subscription does not
/// end while [`ToggledClient::toggle`] waits for another change of the number of subscriptions.
fn disconnect(fixture: &mut ShardFixture, client: ToggledClient) {
    // New connections are taken over in the next turn.
    fixture.run_until_idle();
    let count = fixture.shard.connections.len();
    drop(client);
    let give_up_at = Instant::now() + TEST_TIMEOUT;
    while fixture.shard.connections.len() == count {
        assert!(Instant::now() < give_up_at, "the closed connection is still there");
        fixture.run_until_idle();
    }
}

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut fixture = ShardFixture::with_small_buffers(1 << 26);
    let mut clients: Vec<ToggledClient> = Vec::new();
    for number in 0..300 {
        let picked = random.random_range(0..clients.len().max(1));
        match random.random_range(0..10) {
            0 => clients.push(ToggledClient::connect(&mut fixture)),
            1 if !clients.is_empty() => disconnect(&mut fixture, clients.swap_remove(picked)),
            2 | 3 if !clients.is_empty() => clients[picked].toggle(&mut fixture),
            4 if !clients.is_empty() => drop(clients[picked].read(random.random_range(1..9_000))),
            5 => fixture.turn(),
            _ => {
                let padding = "x".repeat(random.random_range(0..5_000));
                fixture.publish("c", &format!("{number}{padding}"));
                let subscribed = clients.iter_mut().filter(|client| client.is_subscribed);
                subscribed.for_each(|client| client.expected.push(number));
            }
        }
    }
    for client in &mut clients {
        client.catch_up(&mut fixture);
    }
    clients.clear();
    while !fixture.shard.connections.is_empty() {
        fixture.run_until_idle();
    }
    assert_eq!(fixture.node.hub_by_key("app-key").unwrap().subscription_count(), 0, "seed {seed}");
}

#[tokio::test]
async fn every_subscriber_receives_its_window_completely_and_in_order() {
    for seed in 0..4 {
        run(seed);
    }
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(3, "c");
    for data in 0..100 {
        fixture.publish("c", &data.to_string());
    }
    fixture.run_until_idle();
    for (_, connection) in &fixture.shard.connections {
        assert!(connection.incomplete.is_none());
        assert!(connection.outbox.is_idle());
    }
    drop(clients);
    fixture.run_until_idle();
    assert!(fixture.shard.connections.is_empty());
}

fn received(fixture: &mut ShardFixture, client: &TcpStream, last: &str) -> Vec<String> {
    let data = |frames: &Frames| -> Vec<String> {
        let events = frames.iter().filter(|frame| is_event(frame, "e"));
        let json = events.map(|(_, payload)| serde_json::from_slice::<Value>(payload).unwrap());
        json.map(|event| event["data"].as_str().unwrap().to_owned()).collect()
    };
    let frames =
        fixture.receive(client, |frames| data(frames).last().is_some_and(|data| data == last));
    data(&frames)
}

#[tokio::test(start_paused = true)]
async fn a_pending_event_is_not_delivered_to_later_subscribers() {
    let mut fixture = ShardFixture::new();
    let early = fixture.subscribers(1, "c");
    fixture.publish("c", "1");
    let subscribe = message(r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#);
    let late = fixture.connect(&subscribe);
    fixture.turn();
    fixture.publish("c", "2");
    assert_eq!(received(&mut fixture, &early[0], "2"), ["1", "2"]);
    assert_eq!(received(&mut fixture, &late, "2"), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn an_excluded_connection_receives_all_other_events() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(3, "c");
    let Phase::Open(client) = &fixture.connection_of(&clients[1]).phase else {
        panic!("it is open")
    };
    let socket_id = client.session.socket_id();
    fixture.publish_except("c", "1", Some(socket_id));
    fixture.publish("c", "2");
    for (client, expected) in [(0, vec!["1", "2"]), (1, vec!["2"]), (2, vec!["1", "2"])] {
        assert_eq!(received(&mut fixture, &clients[client], "2"), expected);
    }
}
