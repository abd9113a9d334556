//! The logs of channels.

use super::*;
use crate::channel::{Gap, LogStart, Position};

fn replayed(start: &LogStart) -> Result<Vec<Value>, Gap> {
    let events = start.replay.clone()?;
    Ok(events.iter().map(|event| decoded(&event.frame).1).collect())
}

impl TestBroker {
    /// Subscribes a connection that may resume.
    fn read(&self, channel: &str, request: LogRequest<'_>) -> RegisteredSubscription {
        self.read_as(channel, request, SocketId::from_random(1))
    }

    fn read_as(
        &self,
        channel: &str,
        log: LogRequest<'_>,
        socket_id: SocketId,
    ) -> RegisteredSubscription {
        let (connection, channel) = (connection(0, 0), &name(channel));
        let request =
            SubscribeRequest { connection, socket_id, ticket: 0, channel, member: &None, log };
        subscribe(&self.broker, &self.hub, request, self.now).unwrap()
    }

    /// Begins to read, and returns the position.
    fn begin(&self, channel: &str) -> Position {
        self.read(channel, LogRequest::Begin).log.unwrap().end
    }

    /// The connection is lost: its reader and its subscription end.
    fn park(&self, channel: &str) {
        release_log(&self.broker, &self.hub, &name(channel), self.now);
        self.unsubscribe(0, channel, None);
    }

    /// What is replayed after a position. It parks the connection again.
    fn after(&self, channel: &str, position: &Position) -> Result<Vec<Value>, Gap> {
        let start = self.read(channel, LogRequest::After(position)).log.unwrap();
        self.park(channel);
        replayed(&start)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        on_tick(&self.broker, &self.hub, self.now);
    }

    fn log_bytes(&self) -> usize {
        log_stats(&self.hub).bytes
    }
}

fn kept() -> Duration {
    // `resume_s`, and the margin.
    Duration::from_secs(120 + 10)
}

#[test]
fn a_connection_that_returns_receives_what_was_published_meanwhile() {
    let test = test(|_| {});
    let position = test.begin("c");
    test.publish("c", "before");
    let logged: Vec<u64> = test
        .deliveries(0)
        .iter()
        .map(|delivery| {
            let Delivery::Channel { logged, .. } = delivery else { panic!() };
            *logged
        })
        .collect();
    assert_eq!(logged, [1]);
    test.park("c");
    test.publish("c", "1");
    test.publish("c", "2");
    let position = Position { sequence: 1, ..position };
    let returned = test.read("c", LogRequest::After(&position)).log.unwrap();
    assert_eq!(replayed(&returned), Ok(vec![json!(1), json!(2)]));
    assert_eq!(returned.end, Position { sequence: 3, ..position });
    test.publish("c", "3");
    let Some(Delivery::Channel { logged: 4, .. }) = test.deliveries(0).pop_front() else {
        panic!("later events are delivered with their sequences")
    };
}

#[test]
fn only_events_of_the_application_are_logged() {
    let test = test(|app| app.subscription_count = true);
    let position = test.begin("private-c");
    test.subscribe(1, "private-c", None);
    let (channel, data) = (name("private-c"), EventData::new("\"x\""));
    let event = AcceptedClientEvent {
        connection: connection(0, 0),
        channel: &channel,
        name: "client-e",
        data: &data,
        sender: SocketId::from_random(9),
        user_id: None,
    };
    publish_client_event(&test.hub, event, test.now);
    test.publish("private-c", "1");
    assert_eq!(test.after("private-c", &position), Ok(vec![json!(1)]));
}

#[test]
fn an_event_is_not_replayed_to_the_connection_that_it_excludes() {
    let test = test(|_| {});
    let position = test.begin("c");
    test.park("c");
    test.publish_except("c", "1", Some(SocketId::from_random(1)));
    test.publish_except("c", "2", Some(SocketId::from_random(2)));
    assert_eq!(test.after("c", &position), Ok(vec![json!(2)]));
    let other = test.read_as("c", LogRequest::After(&position), SocketId::from_random(3));
    assert_eq!(replayed(&other.log.unwrap()), Ok(vec![json!(1), json!(2)]));
}

#[test]
fn a_channel_without_readers_is_not_logged() {
    let mut test = test(|_| {});
    assert!(test.read("c", LogRequest::No).log.is_none());
    test.publish("c", "1");
    let Some(Delivery::Channel { logged: 0, .. }) = test.deliveries(0).pop_front() else {
        panic!("it is in no log")
    };
    let position = test.begin("d");
    test.publish("c", "2");
    let Some(Delivery::Channel { logged: 0, .. }) = test.deliveries(0).pop_front() else {
        panic!("another channel has a log")
    };
    test.park("d");
    test.publish("d", "1");
    test.pass(kept() - Duration::from_millis(1));
    assert_eq!(test.after("d", &position), Ok(vec![json!(1)]));
    // The attempt was a reader too, so the time begins again.
    test.pass(kept() - Duration::from_millis(1));
    test.publish("d", "2");
    assert!(0 < test.log_bytes());
    test.pass(Duration::from_millis(1));
    assert_eq!(test.log_bytes(), 0);
    assert_eq!(test.after("d", &position), Err(Gap::Epoch), "a new log has another epoch");
}

#[test]
fn a_log_is_kept_while_any_connection_reads_it() {
    let mut test = test(|_| {});
    let position = test.begin("c");
    test.begin("c");
    test.park("c");
    test.pass(kept() * 10);
    test.publish("c", "1");
    assert_eq!(test.after("c", &position), Ok(vec![json!(1)]));
}

#[test]
fn events_are_kept_until_a_lost_connection_cannot_return() {
    let mut test = test(|_| {});
    let position = test.begin("c");
    test.publish("c", "1");
    // The time-outs of 30 s each until a silent connection is known to be lost, and the margin.
    let age = kept() + Duration::from_secs(30 + 30 + 10);
    test.pass(age);
    assert_eq!(test.after("c", &position), Ok(vec![json!(1)]));
    let all = test.log_bytes();
    test.pass(Duration::from_millis(1));
    assert_eq!(test.after("c", &position), Err(Gap::Trimmed));
    assert!(test.log_bytes() < all);
    assert_eq!(log_stats(&test.hub).dropped_of_channel, 0, "it had its time");
}

#[test]
fn the_log_of_a_channel_has_a_limit_in_bytes() {
    let test = test(|_| {});
    let position = test.begin("c");
    // 1 MiB has room for ten of these, and a replay of 256 KiB for two.
    for _ in 0..11 {
        test.publish("c", &"x".repeat(100_000));
    }
    assert_eq!(test.after("c", &position), Err(Gap::Trimmed));
    assert_eq!(log_stats(&test.hub).dropped_of_channel, 1);
    assert!(test.log_bytes() <= 1_048_576 + 1_000);
    let at = |sequence| Position { sequence, ..position.clone() };
    assert_eq!(test.after("c", &at(8)), Err(Gap::TooMuch));
    assert_eq!(test.after("c", &at(9)).map(|events| events.len()), Ok(2));
}

#[test]
fn a_replay_has_a_limit_in_events() {
    let test = test(|_| {});
    let position = test.begin("c");
    for _ in 0..300 {
        test.publish("c", "x");
    }
    assert_eq!(test.after("c", &position).map(|events| events.len()), Ok(300));
    test.publish("c", "x");
    assert_eq!(test.after("c", &position), Err(Gap::TooMuch));
    for _ in 0..300 {
        test.publish("c", "x");
    }
    assert_eq!(test.after("c", &position), Err(Gap::Trimmed));
}

#[test]
fn a_resumed_client_of_a_cache_channel_receives_the_cached_event_only_with_a_gap() {
    let test = test(|_| {});
    let position = test.begin("cache-c");
    test.publish("cache-c", "1");
    let whole = test.read("cache-c", LogRequest::After(&position));
    assert!(whole.cached.is_none() && replayed(&whole.log.unwrap()) == Ok(vec![json!(1)]));
    let lost = Position { epoch: "another".into(), sequence: 0 };
    let gap = test.read("cache-c", LogRequest::After(&lost));
    assert_eq!(decoded(&gap.cached.unwrap()).1, json!(1));
    assert!(test.read("cache-c", LogRequest::Begin).cached.is_some());
}

#[test]
fn at_the_limit_of_the_node_the_oldest_events_are_dropped_and_the_apps_have_equal_shares() {
    let (mut one, mut other) = (test(|_| {}), test(|_| {}));
    let node = NodeLogs::with_max_bytes(&ConnectionConfig::default(), &Arc::default(), 100_000);
    for test in [&mut one, &mut other] {
        test.broker.logs = Arc::clone(&node);
    }
    let [a, b] = ["a", "b"].map(|channel| one.begin(channel));
    for second in 0..9 {
        one.now += Duration::from_secs(second);
        one.publish("a", &"x".repeat(5_000));
        one.publish("b", &"x".repeat(5_000));
    }
    assert_eq!(
        (one.after("a", &a).map(|all| all.len()), log_stats(&one.hub).dropped_of_node),
        (Ok(9), 0)
    );
    one.publish("b", &"x".repeat(10_000));
    assert_eq!(one.after("a", &a), Err(Gap::Trimmed), "it had the oldest");
    assert_eq!(one.after("b", &b).map(|all| all.len()), Ok(10));
    assert_eq!(log_stats(&one.hub).dropped_of_node, 1);
    // The other app gets its share at the next tick.
    let position = other.begin("c");
    for _ in 0..9 {
        other.publish("c", &"x".repeat(5_000));
    }
    assert_eq!(other.after("c", &position).map(|all| all.len()), Ok(9));
    on_tick(&one.broker, &one.hub, one.now);
    assert!(one.log_bytes() + other.log_bytes() <= 100_000);
    assert!(50_000 < one.log_bytes(), "{}", one.log_bytes());
    assert_eq!(node.bytes(), one.log_bytes() + other.log_bytes());
    drop(one);
    assert_eq!(node.bytes(), other.log_bytes(), "a removed app has no logs");
}

#[test]
fn logs_without_events_and_readers_are_evicted_like_events() {
    let mut test = test(|_| {});
    test.broker.logs =
        NodeLogs::with_max_bytes(&ConnectionConfig::default(), &Arc::default(), 10_000);
    for number in 0..100 {
        test.now += Duration::from_millis(1);
        test.begin(&format!("c{number}"));
        test.park(&format!("c{number}"));
    }
    assert!(test.log_bytes() <= 10_000);
    let position = test.begin("d");
    test.publish("d", &"x".repeat(9_000));
    assert_eq!(test.after("d", &position).map(|all| all.len()), Ok(1));
    assert_eq!(log_stats(&test.hub).dropped_of_node, 0, "no event was dropped");
}

/// After any sequence of operations, the bytes that are counted are those of the logs.
#[test]
fn the_byte_count_is_exact_after_any_sequence() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    let mut random = StdRng::seed_from_u64(7);
    let mut test = test(|_| {});
    test.broker.logs =
        NodeLogs::with_max_bytes(&ConnectionConfig::default(), &Arc::default(), 50_000);
    let mut readers = [0_u32; 10];
    for _ in 0..5_000 {
        let number = random.random_range(0..10);
        let channel = format!("c{number}");
        match random.random_range(0..4) {
            0 => {
                test.begin(&channel);
                readers[number] += 1;
            }
            1 if 0 < readers[number] => {
                test.park(&channel);
                readers[number] -= 1;
            }
            _ => {
                test.publish(&channel, &"x".repeat(random.random_range(1..3_000)));
            }
        }
        test.pass(Duration::from_millis(random.random_range(0..20_000)));
        let bytes = test.log_bytes();
        assert_eq!(bytes, app_state(&test.hub).logs.measured_bytes());
        assert_eq!(bytes, test.broker.logs.bytes());
        assert!(bytes <= 50_000, "{bytes}");
    }
}
