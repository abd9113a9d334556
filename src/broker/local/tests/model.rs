//! Random operations on one presence channel, compared with a model.

use super::*;
use std::collections::BTreeMap;

const CHANNEL: &str = "presence-r";

/// A subscription in the model.
struct Window {
    shard: usize,
    user: String,
    after_sequence: u64,
    received: Vec<Value>,
    expected: Vec<Value>,
}

/// A presence channel of at most three members, as a model to compare the broker with.
struct Model {
    test: TestBroker,
    windows: BTreeMap<u32, Window>,
    present: BTreeMap<String, usize>,
}

impl Model {
    fn new() -> Self {
        let test = test(|app| app.max_presence_members = 3);
        Self { test, windows: BTreeMap::new(), present: BTreeMap::new() }
    }

    fn expect(&mut self, event: &Value) {
        for window in self.windows.values_mut() {
            window.expected.push(event.clone());
        }
    }

    fn join(&mut self, id: u32, index: usize, user: String) {
        let joined = self.test.join(index, CHANNEL, Some(&member(&user)));
        let is_new = !self.present.contains_key(&user);
        assert_eq!(joined.is_err(), is_new && self.present.len() == 3);
        let Ok(joined) = joined else { return };
        if is_new {
            self.expect(&json!(["+", user]));
        }
        *self.present.entry(user.clone()).or_insert(0) += 1;
        let ids: Vec<&String> = self.present.keys().collect();
        assert_eq!(decoded(&joined.succeeded_frame).1["presence"]["ids"], json!(ids));
        let (received, expected) = (Vec::new(), Vec::new());
        self.windows.insert(
            id,
            Window {
                shard: index,
                user,
                after_sequence: joined.after_sequence,
                received,
                expected,
            },
        );
    }

    fn leave(&mut self, id: u32) {
        self.settle();
        let Some(window) = self.windows.remove(&id) else { return };
        assert_eq!(window.received, window.expected);
        self.test.unsubscribe(window.shard, CHANNEL, Some(&window.user));
        let connections = self.present.get_mut(&window.user).unwrap();
        *connections -= 1;
        if *connections == 0 {
            self.present.remove(&window.user);
            self.expect(&json!(["-", window.user]));
        }
    }

    fn publish(&mut self, data: u32) {
        self.test.publish(CHANNEL, &data.to_string());
        self.expect(&json!(data));
    }

    /// Delivers like the shards.
    fn settle(&mut self) {
        for index in 0..2 {
            for delivery in self.test.deliveries(index) {
                let Delivery::Channel { sequence, frame, .. } = delivery else { panic!() };
                let received = match decoded(&frame) {
                    (event, data) if event.ends_with("member_added") => {
                        json!(["+", data["user_id"]])
                    }
                    (event, data) if event.ends_with("member_removed") => {
                        json!(["-", data["user_id"]])
                    }
                    (_, data) => data,
                };
                let on_shard = self.windows.values_mut().filter(|window| window.shard == index);
                for window in on_shard.filter(|window| window.after_sequence < sequence) {
                    window.received.push(received.clone());
                }
            }
        }
    }
}

/// Random joins, leaves and publishes: each subscriber receives exactly the events of its time, in
/// order, and the members that it knows are correct throughout.
#[test]
fn any_interleaving_delivers_each_window_and_the_correct_members() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut model = Model::new();
        for step in 0..120 {
            match random.random_range(0..4) {
                0 | 1 => model.join(
                    step,
                    random.random_range(0..2),
                    random.random_range(0..5).to_string(),
                ),
                2 if step != 0 => model.leave(random.random_range(0..step)),
                _ => model.publish(step),
            }
        }
        model.settle();
        for window in model.windows.values() {
            assert_eq!(window.received, window.expected, "seed {seed}");
        }
        let ids: Vec<String> =
            users(&model.test.hub, &name(CHANNEL)).iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(ids, model.present.into_keys().collect::<Vec<_>>(), "seed {seed}");
    }
}
