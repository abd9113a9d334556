//! Hubs of a cluster, limits, and the closing of a hub.

use super::*;
use crate::protocol::CloseCode;

fn initial(total: Option<usize>) -> InitialState {
    let acknowledgement = event::subscription_succeeded(&name("c"));
    InitialState { acknowledgement, cached: None, is_cache_miss: false, total, announced: 7 }
}

fn count(count: usize) -> (String, Value) {
    ("pusher_internal:subscription_count".to_owned(), json!({ "subscription_count": count }))
}

#[test]
fn a_delayed_subscription_is_delivered_before_later_events() {
    let Bench { hub, now } = bench(|app| app.subscription_count = true);
    let hub = Arc::new(hub.clustered());
    let user_id: Option<Arc<str>> = Some("1".into());
    hub.attach(&name("c"), connection(1, 5), 9, user_id.clone(), initial(Some(3)));
    assert_eq!((hub.channels(), hub.subscriptions()), (1, 1));
    let frame = event::published("e", &name("c"), &EventData::new("\"x\""), now);
    let published = hub.publish(&name("c"), &frame, None, None, now);
    assert_eq!(published.counts, Counts { subscriptions: 1, users: 0 });
    let mut batch = VecDeque::new();
    hub.inboxes.of(shard(1)).take(&mut batch);
    let Some(Delivery::Subscription { key, ticket, name: channel, result }) = batch.pop_front()
    else {
        panic!("{batch:?}")
    };
    assert_eq!((key.slot, ticket, channel), (5, 9, name("c")));
    let attached = result.unwrap();
    assert_eq!(attached.user_id, user_id);
    assert_eq!((attached.subscribed.announced, attached.subscribed.since), (7, 0));
    assert_eq!(said(attached.subscribed.count.as_ref().unwrap()), count(3));
    let Some(Delivery::Channel { sequence, .. }) = batch.pop_front() else { panic!("{batch:?}") };
    assert!(attached.subscribed.since < sequence && batch.is_empty());
}

#[test]
fn rejections_and_messages_for_one_connection_are_delivered_to_its_shard() {
    let Bench { hub, .. } = bench(|_| {});
    hub.refuse(&name("c"), connection(1, 5), 9, SubscriptionRefusal::Rate);
    hub.tell_watchlist(connection(1, 5), &["a".into()], &["b".into()]);
    let [a, b] = [connection(1, 2), connection(1, 3)];
    hub.tell_watchers([a, b].into_iter(), &"a".into(), true);
    hub.tell_watchers([a].into_iter(), &"a".into(), false);
    assert_eq!(heard(&hub, 0), []);
    let events = |text: &str| {
        let name = "pusher_internal:watchlist_events".to_owned();
        (name, json!({ "events": serde_json::from_str::<Value>(text).unwrap() }))
    };
    let told = heard(&hub, 1);
    assert_eq!(told[0].0, "refused 9");
    let both = r#"[{"name":"online","user_ids":["a"]},{"name":"offline","user_ids":["b"]}]"#;
    assert_eq!(told[1], events(both));
    assert_eq!(told[2], events(r#"[{"name":"online","user_ids":["a"]}]"#));
    assert_eq!(told[3], events(r#"[{"name":"offline","user_ids":["a"]}]"#));
    assert_eq!(told.len(), 4, "watchers on one shard share a delivery");
}

#[test]
fn a_forced_resubscribe_closes_the_subscribers_of_the_channel() {
    let bench = bench(|_| {});
    let channel = bench.subscribe(1, "c", None).channel;
    bench.subscribe(0, "other", None);
    bench.hub.force_resubscribe(&name("c"), &CloseCode::Interrupted);
    bench.hub.force_resubscribe(&name("nobody"), &CloseCode::Interrupted);
    assert!(bench.deliveries(0).is_empty());
    let Some(Delivery::CloseChannel { channel: closed, code }) = bench.deliveries(1).pop_front()
    else {
        panic!("it is closed")
    };
    assert_eq!((closed, code), (channel, CloseCode::Interrupted));
}

#[test]
fn a_hub_is_closed_once_until_it_is_enabled_again() {
    let Bench { hub, .. } = bench(|_| {});
    let hub = Arc::new(hub);
    let reconfigure = |is_enabled: bool, max_connections: usize| {
        let mut config = hub.app().config.clone();
        (config.enabled, config.max_connections) = (is_enabled, max_connections);
        hub.reconfigure(App::new(config));
    };
    assert!(hub.is_served());
    reconfigure(false, 0);
    assert!(!hub.is_served());
    hub.close();
    for index in 0..2 {
        assert_eq!(heard(&hub, index), [("not served".to_owned(), Value::Null)]);
    }
    reconfigure(true, 1);
    assert!(hub.is_served());
    let first = hub.admit().unwrap();
    assert!(hub.admit().is_none());
    assert_eq!(hub.connections(), 1);
    drop(first);
    assert_eq!(hub.connections(), 0);
    assert!(hub.admit().is_some());
    assert!(!bench(|app| app.enabled = false).hub.is_served());
}

#[test]
fn requests_are_limited_per_second() {
    let Bench { hub, now } = bench(|app| app.requests_per_second = 2);
    assert!((0..2).all(|_| hub.admit_request(now).is_ok()));
    assert_eq!(hub.admit_request(now), Err(Duration::from_millis(500)));
    assert_eq!(hub.admit_request(now + Duration::from_millis(500)), Ok(()));
    assert!(hub.admit_request(now + Duration::from_millis(500)).is_err());
}

#[test]
fn the_cost_of_a_member_is_what_the_others_receive() {
    let bench = bench(|_| {});
    let join = |user| bench.subscribe(0, "presence-r", Some(user)).announced;
    assert_eq!(join("1"), 0, "the channel is empty");
    let added = event::member_added(&name("presence-r"), &member("2")).bytes().len();
    assert_eq!(join("2"), added);
    assert_eq!(join("2"), 0, "a second connection is not announced");
    assert_eq!(join("3"), 3 * added);
    assert_eq!(bench.subscribe(0, "c", None).announced, 0);
}

#[test]
fn the_first_connection_of_a_user_sets_its_info() {
    let bench = bench(|_| {});
    let with_info = |info: &str| Member { user_id: "1".into(), user_info: info.into() };
    let join = |info: &str| {
        let member = with_info(info);
        let channel = name("presence-r");
        bench.hub.subscribe(shard(0), &channel, Some(&member), bench.now).unwrap()
    };
    join(r#"{"n":1}"#);
    let second = join(r#"{"n":2}"#);
    let hash = json!({ "1": { "n": 1 } });
    assert_eq!(said(&second.acknowledgement).1["presence"]["hash"], hash);
    let users = bench.hub.users(&name("presence-r"));
    assert_eq!(users, [("1".into(), r#"{"n":1}"#.into())]);
    // The first connection leaves: the info belongs to the user, not to the connection.
    bench.hub.unsubscribe(shard(0), &name("presence-r"), Some("1"), bench.now);
    assert_eq!(&*bench.hub.users(&name("presence-r"))[0].1, r#"{"n":1}"#);
    bench.hub.unsubscribe(shard(0), &name("presence-r"), Some("1"), bench.now);
    join(r#"{"n":3}"#);
    assert_eq!(&*bench.hub.users(&name("presence-r"))[0].1, r#"{"n":3}"#);
}

#[test]
fn a_publish_carries_the_excluded_connection_and_the_counts() {
    let bench = bench(|_| {});
    bench.subscribe(0, "presence-r", Some("1"));
    bench.subscribe(1, "presence-r", Some("1"));
    for index in 0..2 {
        bench.deliveries(index);
    }
    let channel = name("presence-r");
    let frame = event::published("e", &channel, &EventData::new("\"x\""), bench.now);
    let id = SocketId::from_random(7);
    let published = bench.hub.publish(&channel, &frame, Some(id), None, bench.now);
    assert_eq!(published.counts, Counts { subscriptions: 2, users: 1 });
    assert_eq!(published.shards.iter().collect::<Vec<_>>(), [shard(0), shard(1)]);
    for index in 0..2 {
        let Some(Delivery::Channel { except, .. }) = bench.deliveries(index).pop_front() else {
            panic!("it is delivered")
        };
        assert_eq!(except, Some(id));
    }
}

#[test]
fn an_inbox_is_full_at_64_deliveries() {
    let inboxes = Inboxes::new(2);
    let inbox = inboxes.of(shard(1));
    let close = Delivery::Close { keys: Vec::new(), code: CloseCode::Draining };
    for _ in 0..63 {
        inbox.push(close.clone());
    }
    assert!(!inboxes.is_any_full());
    inbox.push(close.clone());
    assert!(inboxes.is_any_full());
    inbox.take(&mut VecDeque::new());
    assert!(!inboxes.is_any_full());
}

#[test]
fn a_channel_is_kept_while_it_has_subscribers() {
    let mut channel = Channel::new(ChannelId(7));
    assert!(channel.is_disposable());
    channel.add_subscriber(shard(1));
    assert!(!channel.is_disposable(), "one may subscribe while another leaves");
    channel.remove_subscriber(shard(1));
    assert!(channel.is_disposable());
}

#[test]
fn no_two_channels_have_the_same_id() {
    let bench = bench(|_| {});
    let one = bench.subscribe(0, "a", None).channel;
    assert_ne!(bench.subscribe(0, "b", None).channel, one);
    bench.hub.unsubscribe(shard(0), &name("a"), None, bench.now);
    assert_ne!(bench.subscribe(0, "a", None).channel, one, "it is another channel now");
}
