use super::*;
use crate::{
    app::App,
    channel::{COUNT_INTERVAL, COUNT_UNTHROTTLED_MAX, OFFLINE_GRACE},
    config::AppConfig,
    hub::{
        Delivery, Inboxes, Observer,
        testing::{NoopObserver, connection, decoded, member, name, shard},
    },
    protocol::{EventData, Member, SocketId},
};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::VecDeque};

mod cache;
mod history;
mod keys;
mod logs;
mod model;
mod observed;
mod users;

/// A hub with two shards, and a simulated clock.
struct TestBroker {
    broker: LocalBroker,
    hub: Arc<Hub>,
    inboxes: Arc<Inboxes>,
    now: Instant,
}

fn test(change: impl FnOnce(&mut AppConfig)) -> TestBroker {
    bench_with(change, Arc::new(NoopObserver))
}

fn bench_with(change: impl FnOnce(&mut AppConfig), observer: Arc<dyn Observer>) -> TestBroker {
    let mut config = AppConfig::development();
    change(&mut config);
    let now = Instant::now();
    let inboxes = Arc::new(Inboxes::new(2));
    let hub = Hub::new(App::new(config), Arc::clone(&inboxes), observer, now);
    let broker = LocalBroker::new(&ConnectionConfig::default(), &Arc::default());
    TestBroker { broker, hub: Arc::new(hub), inboxes, now }
}

impl TestBroker {
    fn join(
        &self,
        index: usize,
        channel: &str,
        member: Option<&Member>,
    ) -> Result<RegisteredSubscription, SubscriptionRejection> {
        let (connection, channel) = (connection(index, 0), &name(channel));
        let member = &member.cloned();
        let (socket_id, log) = (SocketId::from_random(1), LogRequest::No);
        let request = SubscribeRequest { connection, socket_id, ticket: 0, channel, member, log };
        subscribe(&self.broker, &self.hub, request, self.now)
    }

    fn subscribe(&self, index: usize, channel: &str, user: Option<&str>) -> RegisteredSubscription {
        self.join(index, channel, user.map(member).as_ref()).unwrap()
    }

    fn unsubscribe(&self, index: usize, channel: &str, user: Option<&str>) {
        let user_id = user.map(Arc::from);
        unsubscribe(
            &self.broker,
            &self.hub,
            shard(index),
            &name(channel),
            user_id.as_ref(),
            self.now,
        );
    }

    fn publish(&self, channel: &str, data: &str) -> (Counts, ShardSet) {
        self.publish_except(channel, data, None)
    }

    fn publish_except(
        &self,
        channel: &str,
        data: &str,
        except: Option<SocketId>,
    ) -> (Counts, ShardSet) {
        let raw = json!(data).to_string();
        let event = AppEvent {
            name: Cow::Borrowed("e"),
            data: EventData::new(&raw),
            channels: vec![name(channel)],
            except,
            idempotency_key: None,
        };
        let (counts, shards) = publish(&self.broker, &self.hub, &[event], self.now);
        (counts[0], shards)
    }

    fn deliveries(&self, index: usize) -> VecDeque<Delivery> {
        crate::hub::testing::deliveries(&self.inboxes, index)
    }

    fn received(&self, index: usize) -> Vec<(String, Value)> {
        crate::hub::testing::received(&self.inboxes, index)
    }

    fn has_no_channels(&self) -> bool {
        self.hub.read_each(|_, _| Some(())).is_empty()
    }
}

#[test]
fn a_subscriber_receives_only_later_sequences() {
    let test = test(|_| {});
    test.subscribe(0, "c", None);
    test.publish("c", "before");
    let second = test.subscribe(0, "c", None);
    test.publish("c", "after");
    let sequences: Vec<u64> = test
        .deliveries(0)
        .iter()
        .map(|delivery| {
            let Delivery::Channel { sequence, channel, .. } = delivery else { panic!() };
            assert_eq!(*channel, second.channel);
            *sequence
        })
        .collect();
    assert_eq!(sequences, [second.after_sequence, second.after_sequence + 1]);
}

#[test]
fn only_shards_with_subscribers_receive_deliveries() {
    let test = test(|_| {});
    test.subscribe(1, "c", None);
    assert_eq!(test.publish("c", "1").1.iter().collect::<Vec<_>>(), [shard(1)]);
    assert_eq!(test.received(0), []);
    assert_eq!(test.received(1).len(), 1);
    test.unsubscribe(1, "c", None);
    assert_eq!(test.publish("c", "2"), (Counts::default(), ShardSet::default()));
    assert_eq!(test.received(1), []);
}

#[test]
fn a_channel_without_subscribers_takes_no_memory() {
    let test = test(|_| {});
    test.publish("c", "1");
    assert!(test.has_no_channels());
    test.subscribe(0, "c", None);
    test.unsubscribe(0, "c", None);
    assert!(test.has_no_channels());
    assert_eq!((test.hub.channel_count(), test.hub.subscription_count()), (0, 0));
}

#[test]
fn a_member_is_announced_to_the_others_once() {
    let test = test(|_| {});
    let first = test.subscribe(0, "presence-r", Some("1"));
    let roster = json!({"presence": {"count": 1, "ids": ["1"], "hash": {"1": {}}}});
    assert_eq!(decoded(&first.succeeded_frame).1, roster);
    assert_eq!(test.received(0), []);

    let second = test.subscribe(0, "presence-r", Some("2"));
    let Some(Delivery::Channel { sequence, .. }) = test.deliveries(0).pop_front() else { panic!() };
    assert!(sequence <= second.after_sequence, "the joiner does not receive its own member_added");

    test.subscribe(0, "presence-r", Some("2"));
    test.unsubscribe(0, "presence-r", Some("2"));
    assert_eq!(test.received(0), []);
    test.unsubscribe(0, "presence-r", Some("2"));
    let removed = ("pusher_internal:member_removed".to_owned(), json!({"user_id": "2"}));
    assert_eq!(test.received(0), [removed]);
}

#[test]
fn a_rejected_member_changes_nothing() {
    let test = test(|app| app.max_presence_members = 1);
    test.subscribe(0, "presence-r", Some("1"));
    let rejected = test.join(1, "presence-r", Some(&member("2")));
    assert_eq!(rejected.unwrap_err(), SubscriptionRejection::RosterFull { max: 1 });
    assert_eq!(test.hub.subscription_count(), 1);
    assert_eq!(test.publish("presence-r", "1").1.iter().collect::<Vec<_>>(), [shard(0)]);
}

#[test]
fn every_change_of_a_small_count_is_sent_at_once() {
    let test = test(|app| app.subscription_count = true);
    let count = |count: usize| {
        ("pusher_internal:subscription_count".to_owned(), json!({"subscription_count": count}))
    };
    test.subscribe(0, "c", None);
    assert_eq!(test.received(0), [count(1)]);
    test.subscribe(0, "c", None);
    assert_eq!(test.received(0), [count(2)]);
    test.unsubscribe(0, "c", None);
    assert_eq!(test.received(0), [count(1)]);
    test.subscribe(0, "presence-r", Some("1"));
    assert_eq!(test.received(0), []);
}

#[test]
fn a_subscriber_that_returns_to_a_cached_channel_receives_the_count() {
    let test = test(|app| app.subscription_count = true);
    test.publish("cache-c", "1");
    for _ in 0..2 {
        test.subscribe(0, "cache-c", None);
        assert_eq!(test.received(0).len(), 1);
        test.unsubscribe(0, "cache-c", None);
    }
}

#[test]
fn a_large_count_is_sent_every_five_seconds_at_most() {
    let mut test = test(|app| app.subscription_count = true);
    for _ in 0..150 {
        test.subscribe(0, "c", None);
    }
    let at_once = test.received(0).len();
    assert_eq!(at_once, COUNT_UNTHROTTLED_MAX);
    test.now += COUNT_INTERVAL - Duration::from_millis(1);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(test.received(0), []);
    test.now += Duration::from_millis(1);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(test.received(0).last().unwrap().1, json!({"subscription_count": 150}));
    test.now += COUNT_INTERVAL * 2;
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(test.received(0), [], "nothing has changed");
}

#[test]
fn a_shard_receives_deliveries_until_its_last_subscriber_has_left() {
    let test = test(|_| {});
    let channel = name("room");
    for _ in 0..2 {
        test.subscribe(0, "room", None);
    }
    // The shard may know only one of the two: the other is still in its inbox.
    test.unsubscribe(0, "room", None);
    assert_eq!(test.hub.shards_of(&channel).iter().count(), 1);
    test.unsubscribe(0, "room", None);
    assert_eq!(test.hub.shards_of(&channel).iter().count(), 0);
}

#[test]
fn the_cost_of_a_member_is_what_the_others_receive() {
    let test = test(|_| {});
    let join = |user| test.subscribe(0, "presence-r", Some(user)).broadcast_bytes;
    assert_eq!(join("1"), 0, "the channel is empty");
    let added = event::member_added(&name("presence-r"), &member("2")).bytes().len();
    assert_eq!(join("2"), added);
    assert_eq!(join("2"), 0, "a second connection of a user sends nothing to the others");
    assert_eq!(join("3"), 3 * added);
    assert_eq!(test.subscribe(0, "c", None).broadcast_bytes, 0);
}

#[test]
fn the_first_connection_of_a_user_sets_its_info() {
    let test = test(|_| {});
    let with_info = |info: &str| Member { user_id: "1".into(), user_info: info.into() };
    let join = |info: &str| test.join(0, "presence-r", Some(&with_info(info))).unwrap();
    join(r#"{"n":1}"#);
    let second = join(r#"{"n":2}"#);
    let hash = json!({ "1": { "n": 1 } });
    assert_eq!(decoded(&second.succeeded_frame).1["presence"]["hash"], hash);
    let listed = users(&test.hub, &name("presence-r"));
    assert_eq!(listed, [("1".into(), r#"{"n":1}"#.into())]);
    // The first connection leaves: the info belongs to the user, not to the connection.
    test.unsubscribe(0, "presence-r", Some("1"));
    assert_eq!(&*users(&test.hub, &name("presence-r"))[0].1, r#"{"n":1}"#);
    test.unsubscribe(0, "presence-r", Some("1"));
    join(r#"{"n":3}"#);
    assert_eq!(&*users(&test.hub, &name("presence-r"))[0].1, r#"{"n":3}"#);
}

#[test]
fn a_publish_carries_the_excluded_connection_and_the_counts() {
    let test = test(|_| {});
    test.subscribe(0, "presence-r", Some("1"));
    test.subscribe(1, "presence-r", Some("1"));
    for index in 0..2 {
        test.deliveries(index);
    }
    let id = SocketId::from_random(7);
    let (counts, shards) = test.publish_except("presence-r", "x", Some(id));
    assert_eq!(counts, Counts { subscriptions: 2, users: 1 });
    assert_eq!(shards.iter().collect::<Vec<_>>(), [shard(0), shard(1)]);
    for index in 0..2 {
        let Some(Delivery::Channel { except, .. }) = test.deliveries(index).pop_front() else {
            panic!("it is delivered")
        };
        assert_eq!(except, Some(id));
    }
}

#[test]
fn the_events_of_a_batch_have_one_order_and_each_its_counts() {
    let test = test(|_| {});
    test.subscribe(0, "a", None);
    test.subscribe(1, "b", None);
    let event = |text: &'static str, channels: &[&str]| AppEvent {
        name: Cow::Borrowed(text),
        data: EventData::new("\"x\""),
        channels: channels.iter().map(|text| name(text)).collect(),
        except: None,
        idempotency_key: None,
    };
    let events = [event("first", &["a", "none", "b"]), event("second", &["a"])];
    let (counts, shards) = publish(&test.broker, &test.hub, &events, test.now);
    let counts: Vec<usize> = counts.iter().map(|counts| counts.subscriptions).collect();
    assert_eq!((counts, shards.iter().count()), (vec![1, 0, 1, 1], 2));
    let names = |index| test.received(index).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!((names(0), names(1)), (vec!["first".into(), "second".into()], vec!["first".into()]));
}
