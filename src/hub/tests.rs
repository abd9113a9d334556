use super::*;
use crate::{
    config::AppConfig,
    protocol::{EventData, User, event},
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

mod observed;
mod remote;

/// Ignores all events.
#[derive(Clone, Copy, Debug)]
struct NoopObserver;

impl Observer for NoopObserver {
    fn wants(&self, _app_id: &str, _kind: Kind) -> bool {
        false
    }

    fn observe(&self, _app_id: &str, _hub_event: HubEvent) {}

    fn observe_at(&self, _app_id: &str, _at_us: u64, _hub_event: HubEvent) {}
}

/// A hub with two shards, and a simulated clock.
struct Bench {
    hub: Hub,
    now: Instant,
}

fn bench(change: impl FnOnce(&mut AppConfig)) -> Bench {
    let mut config = AppConfig::development();
    change(&mut config);
    let now = Instant::now();
    let inboxes = Arc::new(Inboxes::new(2));
    Bench { hub: Hub::new(App::new(config), inboxes, Arc::new(NoopObserver), now), now }
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text, 200).unwrap()
}

fn member(user_id: &str) -> Member {
    Member { user_id: user_id.into(), user_info: "{}".into() }
}

fn shard(index: usize) -> ShardIndex {
    ShardIndex::new(index)
}

fn connection(index: usize, slot: u32) -> ConnectionRef {
    ConnectionRef { shard: shard(index), key: ConnectionKey { slot, generation: 0 } }
}

fn json_of(frame: &Frame) -> Value {
    let start = frame.bytes().iter().position(|byte| *byte == b'{').unwrap();
    serde_json::from_slice(&frame.bytes()[start..]).unwrap()
}

/// The event's name, and its parsed data.
fn said(frame: &Frame) -> (String, Value) {
    let outer = json_of(frame);
    let data = outer["data"].as_str().map(|text| serde_json::from_str(text).unwrap_or(json!(text)));
    (outer["event"].as_str().unwrap().to_owned(), data.unwrap_or(Value::Null))
}

impl Bench {
    fn subscribe(&self, index: usize, channel: &str, user: Option<&str>) -> Subscribed {
        let member = user.map(member);
        self.hub.subscribe(shard(index), &name(channel), member.as_ref(), self.now).unwrap()
    }

    fn publish(&self, channel: &str, data: &str) -> Published {
        let raw = json!(data).to_string();
        let data = EventData::new(&raw);
        let channel = name(channel);
        let frame = event::published("e", &channel, &data, self.now);
        self.hub.publish(&channel, &frame, None, Some(&ToCache::new("e", &data)), self.now)
    }

    fn deliveries(&self, index: usize) -> VecDeque<Delivery> {
        deliveries(&self.hub, index)
    }

    fn heard(&self, index: usize) -> Vec<(String, Value)> {
        heard(&self.hub, index)
    }
}

fn deliveries(hub: &Hub, index: usize) -> VecDeque<Delivery> {
    let mut batch = VecDeque::new();
    hub.inboxes.of(shard(index)).take(&mut batch);
    batch
}

/// The messages to the subscribers on a shard since the last call.
fn heard(hub: &Hub, index: usize) -> Vec<(String, Value)> {
    deliveries(hub, index)
        .iter()
        .map(|delivery| match delivery {
            Delivery::Channel { frame, .. } | Delivery::Connections { frame, .. } => said(frame),
            Delivery::Close { code, .. } | Delivery::CloseChannel { code, .. } => {
                (code.to_string(), Value::Null)
            }
            Delivery::CloseHub(_) => ("not served".to_owned(), Value::Null),
            Delivery::Subscription { ticket, result, .. } => match result {
                Ok(attached) => said(&attached.subscribed.acknowledgement),
                Err(_refusal) => (format!("refused {ticket}"), Value::Null),
            },
        })
        .collect()
}

#[test]
fn a_subscriber_receives_only_later_sequences() {
    let bench = bench(|_| {});
    bench.subscribe(0, "c", None);
    bench.publish("c", "before");
    let second = bench.subscribe(0, "c", None);
    bench.publish("c", "after");
    let sequences: Vec<u64> = bench
        .deliveries(0)
        .iter()
        .map(|delivery| {
            let Delivery::Channel { sequence, channel, .. } = delivery else { panic!() };
            assert_eq!(*channel, second.channel);
            *sequence
        })
        .collect();
    assert_eq!(sequences, [second.since, second.since + 1]);
}

#[test]
fn only_shards_with_subscribers_receive_deliveries() {
    let bench = bench(|_| {});
    bench.subscribe(1, "c", None);
    assert_eq!(bench.publish("c", "1").shards.iter().collect::<Vec<_>>(), [shard(1)]);
    assert_eq!(bench.heard(0), []);
    assert_eq!(bench.heard(1).len(), 1);
    bench.hub.unsubscribe(shard(1), &name("c"), None, bench.now);
    assert_eq!(bench.publish("c", "2"), Published::default());
    assert_eq!(bench.heard(1), []);
}

#[test]
fn a_channel_without_subscribers_takes_no_memory() {
    let bench = bench(|_| {});
    bench.publish("c", "1");
    assert!(bench.hub.channels.is_empty());
    bench.subscribe(0, "c", None);
    bench.hub.unsubscribe(shard(0), &name("c"), None, bench.now);
    assert!(bench.hub.channels.is_empty());
    assert_eq!((bench.hub.channels(), bench.hub.subscriptions()), (0, 0));
}

#[test]
fn a_member_is_announced_to_the_others_once() {
    let bench = bench(|_| {});
    let first = bench.subscribe(0, "presence-r", Some("1"));
    let roster = json!({"presence": {"count": 1, "ids": ["1"], "hash": {"1": {}}}});
    assert_eq!(said(&first.acknowledgement).1, roster);
    assert_eq!(bench.heard(0), []);

    let second = bench.subscribe(0, "presence-r", Some("2"));
    let Some(Delivery::Channel { sequence, .. }) = bench.deliveries(0).pop_front() else {
        panic!()
    };
    assert!(sequence <= second.since, "the joiner does not hear of itself");

    bench.subscribe(0, "presence-r", Some("2"));
    bench.hub.unsubscribe(shard(0), &name("presence-r"), Some("2"), bench.now);
    assert_eq!(bench.heard(0), []);
    bench.hub.unsubscribe(shard(0), &name("presence-r"), Some("2"), bench.now);
    let removed = ("pusher_internal:member_removed".to_owned(), json!({"user_id": "2"}));
    assert_eq!(bench.heard(0), [removed]);
}

#[test]
fn a_refused_member_changes_nothing() {
    let bench = bench(|app| app.max_presence_members = 1);
    bench.subscribe(0, "presence-r", Some("1"));
    let refused = bench.hub.subscribe(shard(1), &name("presence-r"), Some(&member("2")), bench.now);
    assert_eq!(refused.unwrap_err(), SubscriptionRefusal::RosterFull { max: 1 });
    assert_eq!(bench.hub.subscriptions(), 1);
    assert_eq!(bench.publish("presence-r", "1").shards.iter().collect::<Vec<_>>(), [shard(0)]);
}

#[test]
fn a_cache_channel_keeps_its_last_event_until_it_expires() {
    let mut bench = bench(|app| app.cache_ttl_s = 10);
    assert_eq!(said(&bench.subscribe(0, "cache-c", None).cached.unwrap()).0, "pusher:cache_miss");
    bench.publish("cache-c", "1");
    bench.publish("cache-c", "2");
    bench.hub.unsubscribe(shard(0), &name("cache-c"), None, bench.now);
    bench.now += Duration::from_secs(9);
    bench.hub.on_time(bench.now);
    assert_eq!(said(&bench.subscribe(0, "cache-c", None).cached.unwrap()).1, json!(2));
    let (data, ttl) = bench.hub.channel_summary(&name("cache-c"), bench.now).cached.unwrap();
    assert_eq!((data.as_str(), ttl), (r#""2""#, Duration::from_secs(1)));

    bench.now += Duration::from_secs(1);
    assert_eq!(said(&bench.subscribe(0, "cache-c", None).cached.unwrap()).0, "pusher:cache_miss");
}

#[test]
fn an_expired_event_of_an_empty_channel_is_forgotten() {
    let mut bench = bench(|app| app.cache_ttl_s = 10);
    bench.publish("cache-c", "1");
    bench.now += Duration::from_secs(5);
    bench.publish("cache-c", "2");
    bench.now += Duration::from_secs(6);
    bench.hub.on_time(bench.now);
    assert!(bench.hub.channel_summary(&name("cache-c"), bench.now).cached.is_some());
    assert!(bench.hub.channels.is_empty(), "no connection is subscribed");
    bench.now += Duration::from_secs(5);
    bench.hub.on_time(bench.now);
    assert_eq!(bench.hub.cache_stats().bytes, 0);
}

#[test]
fn a_lower_limit_evicts_and_the_miss_is_reported() {
    let bench = bench(|_| {});
    let hub = Arc::new(bench.hub);
    let publish = |channel: &str| {
        let data = EventData::new("\"123\"");
        let frame = event::published("e", &name(channel), &data, bench.now);
        hub.publish(&name(channel), &frame, None, Some(&ToCache::new("e", &data)), bench.now);
    };
    publish("cache-a");
    publish("cache-b");
    let mut config = hub.app().config.clone();
    config.max_cache_bytes = 1_024;
    hub.reconfigure(App::new(config));
    let summary = |channel: &str| hub.channel_summary(&name(channel), bench.now).cached;
    assert_eq!((summary("cache-a"), summary("cache-b").is_some()), (None, true));
    assert_eq!(hub.cache_stats().evicted, 1);
    let subscribe = |channel: &str| {
        let shard = ShardIndex::new(0);
        hub.subscribe(shard, &name(channel), None, bench.now).unwrap().cached.unwrap()
    };
    assert_eq!(said(&subscribe("cache-a")).0, "pusher:cache_miss");
    assert_eq!(said(&subscribe("cache-b")).0, "e");
}

#[test]
fn every_change_of_a_small_count_is_sent_at_once() {
    let bench = bench(|app| app.subscription_count = true);
    let count = |count: usize| {
        ("pusher_internal:subscription_count".to_owned(), json!({"subscription_count": count}))
    };
    bench.subscribe(0, "c", None);
    assert_eq!(bench.heard(0), [count(1)]);
    bench.subscribe(0, "c", None);
    assert_eq!(bench.heard(0), [count(2)]);
    bench.hub.unsubscribe(shard(0), &name("c"), None, bench.now);
    assert_eq!(bench.heard(0), [count(1)]);
    bench.subscribe(0, "presence-r", Some("1"));
    assert_eq!(bench.heard(0), []);
}

#[test]
fn a_subscriber_that_returns_to_a_cached_channel_receives_the_count() {
    let bench = bench(|app| app.subscription_count = true);
    bench.publish("cache-c", "1");
    for _ in 0..2 {
        bench.subscribe(0, "cache-c", None);
        assert_eq!(bench.heard(0).len(), 1);
        bench.hub.unsubscribe(shard(0), &name("cache-c"), None, bench.now);
    }
}

#[test]
fn a_large_count_is_sent_every_five_seconds_at_most() {
    let mut bench = bench(|app| app.subscription_count = true);
    for _ in 0..150 {
        bench.subscribe(0, "c", None);
    }
    let at_once = bench.heard(0).len();
    assert_eq!(at_once, Hub::COUNT_UNTHROTTLED_MAX);
    bench.now += Hub::COUNT_INTERVAL - Duration::from_millis(1);
    bench.hub.on_time(bench.now);
    assert_eq!(bench.heard(0), []);
    bench.now += Duration::from_millis(1);
    bench.hub.on_time(bench.now);
    assert_eq!(bench.heard(0).last().unwrap().1, json!({"subscription_count": 150}));
    bench.now += Hub::COUNT_INTERVAL * 2;
    bench.hub.on_time(bench.now);
    assert_eq!(bench.heard(0), [], "nothing has changed");
}

fn user(id: &str, watchlist: &[&str]) -> User {
    User {
        id: id.into(),
        info: None,
        watchlist: watchlist.iter().map(|&id| id.into()).collect(),
        watchlist_was_cut: false,
    }
}
#[test]
fn a_watcher_receives_the_current_state_and_then_changes() {
    let mut bench = bench(|_| {});
    let [a, b, c] = [connection(0, 1), connection(1, 2), connection(1, 3)];
    let _ = bench.hub.sign_in(b, &user("b", &[]), "{}", None);
    let signed_in = bench.hub.sign_in(a, &user("a", &["b", "c"]), "{}", None);
    let events = json!({"events": [
        {"name": "online", "user_ids": ["b"]},
        {"name": "offline", "user_ids": ["c"]},
    ]});
    assert_eq!(said(&signed_in.watchlist.unwrap()).1, events);

    let _ = bench.hub.sign_in(c, &user("c", &[]), "{}", None);
    let online = json!({"events": [{"name": "online", "user_ids": ["c"]}]});
    assert_eq!(bench.heard(0)[0].1, online);

    bench.hub.sign_out(c, &user("c", &[]), bench.now);
    bench.now += Hub::OFFLINE_GRACE - Duration::from_millis(1);
    bench.hub.on_time(bench.now);
    assert_eq!(bench.heard(0), [], "a page may be reloading");
    bench.now += Duration::from_millis(1);
    bench.hub.on_time(bench.now);
    assert_eq!(bench.heard(0)[0].1, json!({"events": [{"name": "offline", "user_ids": ["c"]}]}));
}

#[test]
fn a_page_reload_is_not_reported() {
    let mut bench = bench(|_| {});
    let [a, c, again] = [connection(0, 1), connection(1, 3), connection(1, 4)];
    let _ = bench.hub.sign_in(c, &user("c", &[]), "{}", None);
    let _ = bench.hub.sign_in(a, &user("a", &["c"]), "{}", None);
    bench.hub.sign_out(c, &user("c", &[]), bench.now);
    bench.now += Duration::from_secs(1);
    let _ = bench.hub.sign_in(again, &user("c", &[]), "{}", None);
    bench.hub.sign_out(again, &user("c", &[]), bench.now);
    bench.now += Duration::from_secs(2);
    bench.hub.on_time(bench.now);
    assert_eq!(bench.heard(0), [], "the second leave has its own three seconds");
    bench.now += Duration::from_secs(1);
    bench.hub.on_time(bench.now);
    assert_eq!(bench.heard(0).len(), 1);
}

#[test]
fn unused_users_take_no_memory() {
    let mut bench = bench(|_| {});
    let a = connection(0, 1);
    let _ = bench.hub.sign_in(a, &user("a", &["b", "c"]), "{}", None);
    let _ = bench.hub.sign_in(a, &user("a", &["c", "d"]), "{}", Some(&user("a", &["b", "c"])));
    assert!(!bench.hub.users.knows("b") && bench.hub.users.knows("d"));
    bench.hub.sign_out(a, &user("a", &["c", "d"]), bench.now);
    bench.now += Hub::OFFLINE_GRACE;
    bench.hub.on_time(bench.now);
    assert!(["a", "b", "c", "d"].iter().all(|id| !bench.hub.users.knows(id)));
}

#[test]
fn terminating_a_user_closes_all_its_connections() {
    let bench = bench(|_| {});
    for slot in 0..3 {
        let _ = bench.hub.sign_in(connection(1, slot), &user("a", &[]), "{}", None);
    }
    bench.hub.terminate("a");
    bench.hub.terminate("nobody");
    let Some(Delivery::Close { keys, .. }) = bench.deliveries(1).pop_front() else { panic!() };
    assert_eq!(keys.len(), 3);
    assert!(bench.deliveries(0).is_empty());
}

/// A subscription in the model.
struct Window {
    shard: usize,
    user: String,
    since: u64,
    heard: Vec<Value>,
    expected: Vec<Value>,
}

/// A presence channel of at most three members, as a model to compare the hub with.
struct Model {
    bench: Bench,
    channel: ChannelName,
    windows: BTreeMap<u32, Window>,
    present: BTreeMap<String, usize>,
}

impl Model {
    fn new() -> Self {
        let bench = bench(|app| app.max_presence_members = 3);
        let channel = name("presence-r");
        Self { bench, channel, windows: BTreeMap::new(), present: BTreeMap::new() }
    }

    fn expect(&mut self, event: &Value) {
        for window in self.windows.values_mut() {
            window.expected.push(event.clone());
        }
    }

    fn join(&mut self, id: u32, index: usize, user: String) {
        let who = member(&user);
        let joined =
            self.bench.hub.subscribe(shard(index), &self.channel, Some(&who), self.bench.now);
        let is_new = !self.present.contains_key(&user);
        assert_eq!(joined.is_err(), is_new && self.present.len() == 3);
        let Ok(joined) = joined else { return };
        if is_new {
            self.expect(&json!(["+", user]));
        }
        *self.present.entry(user.clone()).or_insert(0) += 1;
        let ids: Vec<&String> = self.present.keys().collect();
        assert_eq!(said(&joined.acknowledgement).1["presence"]["ids"], json!(ids));
        let (heard, expected) = (Vec::new(), Vec::new());
        self.windows
            .insert(id, Window { shard: index, user, since: joined.since, heard, expected });
    }

    fn leave(&mut self, id: u32) {
        self.settle();
        let Some(window) = self.windows.remove(&id) else { return };
        assert_eq!(window.heard, window.expected);
        let (hub, now) = (&self.bench.hub, self.bench.now);
        hub.unsubscribe(shard(window.shard), &self.channel, Some(&window.user), now);
        let connections = self.present.get_mut(&window.user).unwrap();
        *connections -= 1;
        if *connections == 0 {
            self.present.remove(&window.user);
            self.expect(&json!(["-", window.user]));
        }
    }

    fn publish(&mut self, data: u32) {
        self.bench.publish("presence-r", &data.to_string());
        self.expect(&json!(data));
    }

    /// Delivers like the shards.
    fn settle(&mut self) {
        for index in 0..2 {
            for delivery in self.bench.deliveries(index) {
                let Delivery::Channel { sequence, frame, .. } = delivery else { panic!() };
                let heard = match said(&frame) {
                    (event, data) if event.ends_with("member_added") => {
                        json!(["+", data["user_id"]])
                    }
                    (event, data) if event.ends_with("member_removed") => {
                        json!(["-", data["user_id"]])
                    }
                    (_, data) => data,
                };
                let on_shard = self.windows.values_mut().filter(|window| window.shard == index);
                for window in on_shard.filter(|window| window.since < sequence) {
                    window.heard.push(heard.clone());
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
            assert_eq!(window.heard, window.expected, "seed {seed}");
        }
        let ids: Vec<String> =
            model.bench.hub.users(&model.channel).iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(ids, model.present.into_keys().collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_shard_receives_deliveries_until_its_last_subscriber_has_left() {
    let bench = bench(|_| {});
    let channel = name("room");
    for _ in 0..2 {
        bench.hub.subscribe(shard(0), &channel, None, bench.now).unwrap();
    }
    // The shard may know only one of the two: the other is still in its inbox.
    bench.hub.unsubscribe(shard(0), &channel, None, bench.now);
    assert_eq!(bench.hub.shards_of(&channel).iter().count(), 1);
    bench.hub.unsubscribe(shard(0), &channel, None, bench.now);
    assert_eq!(bench.hub.shards_of(&channel).iter().count(), 0);
}
