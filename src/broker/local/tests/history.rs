//! The history of channels whose names have a prefix.

use super::*;
use crate::{
    channel::Position,
    config::{HistoryConfig, HistoryReplay},
};

fn of(prefix: &str, change: impl FnOnce(&mut HistoryConfig)) -> HistoryConfig {
    let mut history = HistoryConfig {
        prefix: prefix.into(),
        seconds: 60,
        events: 3,
        replay: HistoryReplay::First,
    };
    change(&mut history);
    history
}

fn test_of(history: Vec<HistoryConfig>) -> TestBroker {
    test(|app| app.history = history)
}

impl TestBroker {
    fn first_of(&self, request: LogRequest<'_>, channel: &str) -> Option<Vec<Value>> {
        let (connection, channel) = (connection(0, 0), &name(channel));
        let socket_id = SocketId::from_random(1);
        let request = SubscribeRequest {
            connection,
            socket_id,
            ticket: 0,
            channel,
            member: &None,
            log: request,
        };
        let subscribed = subscribe(&self.broker, &self.hub, request, self.now).unwrap();
        unsubscribe(&self.broker, &self.hub, shard(0), channel, None, self.now);
        let replay = subscribed.log?.replay.unwrap();
        Some(replay.iter().map(|event| decoded(&event.frame).1).collect())
    }

    /// What a new subscriber receives.
    fn first(&self, channel: &str) -> Option<Vec<Value>> {
        self.first_of(LogRequest::No, channel)
    }
}

#[test]
fn a_new_subscriber_receives_the_latest_events_of_a_channel_without_subscribers() {
    let test = test_of(vec![of("ai.", |_| {})]);
    assert_eq!(test.first("ai.1"), None);
    for number in 1..=4 {
        test.publish("ai.1", &number.to_string());
        test.publish("other", &number.to_string());
    }
    assert_eq!(test.first("ai.1"), Some(vec![json!(2), json!(3), json!(4)]));
    assert_eq!((test.first("ai.2"), test.first("other")), (None, None));
    assert!(test.has_no_channels());
    assert_eq!(test.first_of(LogRequest::Begin, "ai.1").map(|all| all.len()), Some(3));
}

#[test]
fn a_history_that_is_never_replayed_is_kept() {
    let test = test_of(vec![of("ai.", |history| history.replay = HistoryReplay::Never)]);
    test.publish("ai.1", "1");
    assert_eq!(test.first("ai.1"), None);
    assert!(0 < log_stats(&test.hub).bytes);
}

#[test]
fn an_event_is_kept_for_its_time_and_then_the_log_is_gone() {
    let mut test = test_of(vec![of("ai.", |_| {})]);
    test.publish("ai.1", "1");
    test.now += Duration::from_secs(60);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(test.first("ai.1"), Some(vec![json!(1)]));
    test.now += Duration::from_millis(1);
    assert_eq!(test.first("ai.1"), Some(vec![]), "even before the tick");
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(log_stats(&test.hub).bytes, 0);
}

#[test]
fn the_longest_prefix_applies() {
    let test = test_of(vec![of("ai.long", |history| history.events = 1), of("ai.", |_| {})]);
    for channel in ["ai.1", "ai.longer"] {
        test.publish(channel, "1");
        test.publish(channel, "2");
    }
    assert_eq!(test.first("ai.1").map(|all| all.len()), Some(2));
    assert_eq!(test.first("ai.longer").map(|all| all.len()), Some(1));
}

#[test]
fn new_subscribers_receive_the_history_and_those_that_resume_what_they_missed() {
    let test = test_of(vec![of("ai.", |_| {})]);
    assert_eq!(test.first_of(LogRequest::Begin, "ai.1"), Some(vec![]));
    for number in 1..=5 {
        test.publish("ai.1", &number.to_string());
    }
    assert_eq!(test.first("ai.1").map(|all| all.len()), Some(3), "the limit of the history");
    let epoch = {
        let channel = name("ai.1");
        let request = SubscribeRequest {
            connection: connection(0, 0),
            socket_id: SocketId::from_random(1),
            ticket: 0,
            channel: &channel,
            member: &None,
            log: LogRequest::Begin,
        };
        subscribe(&test.broker, &test.hub, request, test.now).unwrap().log.unwrap().end.epoch
    };
    let position = Position { epoch, sequence: 1 };
    let missed = test.first_of(LogRequest::After(&position), "ai.1");
    assert_eq!(missed.map(|all| all.len()), Some(4), "the limit of connections that resume");
}

#[test]
fn a_subscriber_of_a_cache_channel_receives_the_cached_event_once() {
    let mut test = test_of(vec![of("cache-", |history| history.seconds = 1)]);
    test.publish("cache-c", "1");
    let subscribed = test.subscribe(0, "cache-c", None);
    assert!(subscribed.cached.is_none() && subscribed.log.unwrap().replay.unwrap().len() == 1);
    test.now += Duration::from_secs(2);
    let subscribed = test.subscribe(0, "cache-c", None);
    assert_eq!(decoded(&subscribed.cached.unwrap()).1, json!(1), "it is kept for longer");
}

#[test]
fn a_reload_changes_what_is_kept() {
    let test = test_of(vec![of("ai.", |_| {})]);
    test.publish("ai.1", "1");
    test.publish("ai.1", "2");
    let reconfigure = |history: Vec<HistoryConfig>| {
        let config = AppConfig { history, ..AppConfig::development() };
        test.hub.reconfigure(App::new(config));
        apply_config(&test.broker, &test.hub, test.now);
    };
    reconfigure(vec![of("ai.", |history| history.events = 1)]);
    assert_eq!(test.first("ai.1"), Some(vec![json!(2)]));
    reconfigure(vec![]);
    assert_eq!((test.first("ai.1"), log_stats(&test.hub).bytes), (None, 0));
    test.publish("ai.1", "3");
    reconfigure(vec![of("a", |_| {})]);
    test.publish("ai.1", "4");
    assert_eq!(test.first("ai.1"), Some(vec![json!(4)]));
}
