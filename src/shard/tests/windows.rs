//! Random clients against a model: each receives exactly what was published while it was
//! subscribed, in order and whole, however its socket is read and its writes are cut.

use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::time::Instant;

struct Client {
    socket: TcpStream,
    is_subscribed: bool,
    /// Bytes that are no whole frame yet.
    rest: Vec<u8>,
    heard: Vec<u64>,
    expected: Vec<u64>,
}

impl Client {
    fn connect(bench: &mut Bench) -> Self {
        Self {
            socket: bench.connect_with_small_buffer(&[]),
            is_subscribed: false,
            rest: Vec::new(),
            heard: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// Reads up to `max` bytes. Says whether there were any.
    fn read(&mut self, max: usize) -> bool {
        let mut buffer = vec![0; max];
        let Ok(len) = self.socket.read(&mut buffer) else { return false };
        self.rest.extend_from_slice(&buffer[..len]);
        for (first, payload) in take_frames(&mut self.rest) {
            assert_eq!(first, 0x81, "a text frame, whole");
            let event: Value = serde_json::from_slice(&payload).unwrap();
            if event["event"] == "e" {
                let data = event["data"].as_str().unwrap();
                self.heard.push(data.trim_end_matches('x').parse().unwrap());
            }
        }
        0 < len
    }

    /// Reads until nothing waits for this client anywhere.
    fn catch_up(&mut self, bench: &mut Bench) {
        bench.settle();
        let patience = Instant::now() + PATIENCE;
        while self.read(usize::from(u16::MAX)) || self.heard.len() < self.expected.len() {
            assert!(Instant::now() < patience, "the client hears no more");
            bench.settle();
        }
        assert_eq!(self.heard, self.expected);
    }

    fn toggle(&mut self, bench: &mut Bench) {
        self.catch_up(bench);
        let verb = if self.is_subscribed { "unsubscribe" } else { "subscribe" };
        let text = format!(r#"{{"event":"pusher:{verb}","data":{{"channel":"c"}}}}"#);
        let before = bench.node.hub_by_key("app-key").unwrap().subscriptions();
        self.socket.write_all(&message(&text)).unwrap();
        // The kernel may take its time.
        let patience = Instant::now() + PATIENCE;
        while before == bench.node.hub_by_key("app-key").unwrap().subscriptions() {
            assert!(Instant::now() < patience, "{verb} has no effect");
            bench.settle();
        }
        self.is_subscribed = !self.is_subscribed;
    }
}

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bench = Bench::with_small_buffers(1 << 26);
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..300 {
        let picked = random.random_range(0..clients.len().max(1));
        match random.random_range(0..10) {
            0 => clients.push(Client::connect(&mut bench)),
            1 if !clients.is_empty() => drop(clients.swap_remove(picked)),
            2 | 3 if !clients.is_empty() => clients[picked].toggle(&mut bench),
            4 if !clients.is_empty() => drop(clients[picked].read(random.random_range(1..9_000))),
            5 => bench.turn(),
            _ => {
                let padding = "x".repeat(random.random_range(0..5_000));
                bench.publish("c", &format!("{number}{padding}"));
                let subscribed = clients.iter_mut().filter(|client| client.is_subscribed);
                subscribed.for_each(|client| client.expected.push(number));
            }
        }
    }
    for client in &mut clients {
        client.catch_up(&mut bench);
    }
    clients.clear();
    while !bench.engine.connections.is_empty() {
        bench.settle();
    }
    assert_eq!(bench.node.hub_by_key("app-key").unwrap().subscriptions(), 0, "seed {seed}");
}

#[tokio::test]
async fn every_subscriber_hears_its_window_whole_and_in_order() {
    for seed in 0..4 {
        run(seed);
    }
}
