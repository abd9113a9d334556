use super::{
    testing::{NoopObserver, connection, decoded, deliveries, name, received, shard},
    *,
};
use crate::protocol::{CloseCode, EventData, SubscriptionRejection, event};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// A hub with two shards.
fn hub(change: impl FnOnce(&mut AppConfig)) -> Arc<Hub> {
    let mut config = AppConfig::development();
    change(&mut config);
    let inboxes = Arc::new(Inboxes::new(2));
    Arc::new(Hub::new(App::new(config), inboxes, Arc::new(NoopObserver), Instant::now()))
}

/// Adds a subscriber on a shard, and returns the channel's id.
fn subscribe(hub: &Hub, index: usize, channel: &str) -> ChannelId {
    let channel = name(channel);
    let mut locked = hub.lock_or_create(&channel);
    locked.add_subscriber(shard(index));
    locked.id()
}

fn frame(text: &str) -> Frame {
    event::app_event("e", &name("c"), &EventData::new(text), Instant::now())
}

fn initial(total: Option<usize>) -> InitialMessages {
    let acknowledgement = event::subscription_succeeded(&name("c"));
    InitialMessages {
        succeeded_frame: acknowledgement,
        cached: None,
        is_cache_miss: false,
        total,
        broadcast_bytes: 7,
    }
}

#[test]
fn a_delayed_subscription_is_delivered_before_later_events() {
    let hub = hub(|_| {});
    let user_id: Option<Arc<str>> = Some("1".into());
    hub.accept_subscription(
        &name("c"),
        (connection(1, 5), 9),
        user_id.clone(),
        initial(Some(3)),
        None,
    );
    assert_eq!((hub.channel_count(), hub.subscription_count()), (1, 1));
    hub.deliver(&name("c"), &frame("\"x\""), None);
    let mut batch = deliveries(&hub.inboxes, 1);
    let Some(Delivery::Subscription { key, ticket, name: channel, result }) = batch.pop_front()
    else {
        panic!("{batch:?}")
    };
    assert_eq!((key.slot, ticket, channel), (5, 9, name("c")));
    let accepted = result.unwrap();
    assert_eq!(accepted.user_id, user_id);
    assert_eq!((accepted.subscribed.broadcast_bytes, accepted.subscribed.after_sequence), (7, 0));
    let count = json!({ "subscription_count": 3 });
    assert_eq!(decoded(accepted.subscribed.count.as_ref().unwrap()).1, count);
    let Some(Delivery::Channel { sequence, .. }) = batch.pop_front() else { panic!("{batch:?}") };
    assert!(accepted.subscribed.after_sequence < sequence && batch.is_empty());
}

#[test]
fn rejections_and_messages_for_one_connection_are_delivered_to_its_shard() {
    let hub = hub(|_| {});
    hub.reject_subscription(&name("c"), connection(1, 5), 9, SubscriptionRejection::Rate);
    hub.send_watchlist(connection(1, 5), &["a".into()], &["b".into()]);
    let [a, b] = [connection(1, 2), connection(1, 3)];
    hub.notify_watchers([a, b].into_iter(), &"a".into(), true);
    hub.notify_watchers([a].into_iter(), &"a".into(), false);
    assert_eq!(received(&hub.inboxes, 0), []);
    let events = |text: &str| {
        let name = "pusher_internal:watchlist_events".to_owned();
        (name, json!({ "events": serde_json::from_str::<Value>(text).unwrap() }))
    };
    let deliveries = received(&hub.inboxes, 1);
    assert_eq!(deliveries[0].0, "rejected 9");
    let both = r#"[{"name":"online","user_ids":["a"]},{"name":"offline","user_ids":["b"]}]"#;
    assert_eq!(deliveries[1], events(both));
    assert_eq!(deliveries[2], events(r#"[{"name":"online","user_ids":["a"]}]"#));
    assert_eq!(deliveries[3], events(r#"[{"name":"offline","user_ids":["a"]}]"#));
    assert_eq!(deliveries.len(), 4, "watchers on one shard share a delivery");
}

#[test]
fn a_forced_resubscribe_closes_the_subscribers_of_the_channel() {
    let hub = hub(|_| {});
    let channel = subscribe(&hub, 1, "c");
    subscribe(&hub, 0, "other");
    hub.force_resubscribe(&name("c"), &CloseCode::EventsMissed);
    hub.force_resubscribe(&name("unknown"), &CloseCode::EventsMissed);
    assert!(deliveries(&hub.inboxes, 0).is_empty());
    let Some(Delivery::CloseSubscribers { channel: closed, code }) =
        deliveries(&hub.inboxes, 1).pop_front()
    else {
        panic!("it is closed")
    };
    assert_eq!((closed, code), (channel, CloseCode::EventsMissed));
}

#[test]
fn a_hub_is_closed_once_until_it_is_enabled_again() {
    let disabled = hub(|app| app.enabled = false);
    let hub = hub(|_| {});
    let reconfigure = |is_enabled: bool, max_connections: usize| {
        let mut config = hub.app().config.clone();
        (config.enabled, config.max_connections) = (is_enabled, max_connections);
        hub.reconfigure(App::new(config));
    };
    assert!(hub.is_enabled());
    reconfigure(false, 0);
    assert!(!hub.is_enabled());
    hub.close();
    for index in 0..2 {
        assert_eq!(received(&hub.inboxes, index), [("app closed".to_owned(), Value::Null)]);
    }
    reconfigure(true, 1);
    assert!(hub.is_enabled());
    let first = hub.admit().unwrap();
    assert!(hub.admit().is_none());
    assert_eq!(hub.connection_count(), 1);
    drop(first);
    assert_eq!(hub.connection_count(), 0);
    assert!(hub.admit().is_some());
    assert!(!disabled.is_enabled());
}

#[test]
fn requests_are_limited_per_second() {
    let (hub, now) = (hub(|app| app.requests_per_second = 2), Instant::now());
    assert!((0..2).all(|_| hub.admit_request(now).is_ok()));
    assert_eq!(hub.admit_request(now), Err(Duration::from_millis(500)));
    assert_eq!(hub.admit_request(now + Duration::from_millis(500)), Ok(()));
    assert!(hub.admit_request(now + Duration::from_millis(500)).is_err());
}

#[test]
fn an_inbox_is_full_at_64_deliveries() {
    let inboxes = Inboxes::new(2);
    let inbox = inboxes.inbox(shard(1));
    let close = Delivery::Close { keys: Vec::new(), code: CloseCode::Draining };
    for _ in 0..63 {
        inbox.push(close.clone());
    }
    assert!(!inboxes.pauses_reads());
    inbox.push(close.clone());
    assert!(inboxes.pauses_reads());
    inbox.drain_into(&mut VecDeque::new());
    assert!(!inboxes.pauses_reads());
}

#[test]
fn a_channel_is_kept_while_it_has_subscribers() {
    let mut channel = Channel::new(ChannelId(7));
    assert!(channel.has_no_subscribers());
    channel.add_subscriber(shard(1));
    assert!(!channel.has_no_subscribers(), "one may subscribe while another leaves");
    channel.remove_subscriber(shard(1));
    assert!(channel.has_no_subscribers());
}

#[test]
fn no_two_channels_have_the_same_id() {
    let hub = hub(|_| {});
    let one = subscribe(&hub, 0, "a");
    assert_ne!(subscribe(&hub, 0, "b"), one);
    hub.remove_subscriber(shard(0), &name("a"));
    assert_ne!(subscribe(&hub, 0, "a"), one, "it is another channel now");
}

#[test]
fn the_hub_counts_its_subscribers_and_removes_channels_without_any() {
    let hub = hub(|_| {});
    let counts = || (hub.channel_count(), hub.subscription_count());
    for index in [0, 1, 1] {
        subscribe(&hub, index, "c");
    }
    subscribe(&hub, 0, "#server-to-user-7");
    assert_eq!(counts(), (1, 4), "server-to-user channels are not counted");
    for (index, left) in [(1, 3), (1, 2), (0, 1)] {
        hub.remove_subscriber(shard(index), &name("c"));
        assert_eq!(hub.subscription_count(), left);
    }
    assert!(hub.read(&name("c"), |_| ()).is_none());
    hub.remove_subscriber(shard(0), &name("#server-to-user-7"));
    hub.remove_subscriber(shard(0), &name("unknown"));
    assert_eq!(counts(), (0, 0));
    assert!(hub.channels.is_empty());
}

#[test]
fn the_lock_of_a_channel_without_subscribers_creates_none() {
    let hub = hub(|_| {});
    let channel = name("c");
    let has_some = || hub.with_lock(&channel, |locked| locked.is_some());
    assert!(!has_some() && hub.lock(&channel).is_none() && hub.channels.is_empty());
    subscribe(&hub, 0, "c");
    assert!(has_some() && hub.lock(&channel).is_some());
}

#[test]
fn a_connection_signs_in_and_out_once() {
    let hub = hub(|_| {});
    let (user_id, [a, b]) = (Arc::from("ann"), [connection(0, 1), connection(1, 2)]);
    assert!(hub.sign_in(&user_id, a) && !hub.sign_in(&user_id, a));
    assert!(hub.sign_in(&user_id, b));
    hub.close_user("ann", UserClose::Reconnect);
    for index in 0..2 {
        let Some(Delivery::Close { keys, code }) = deliveries(&hub.inboxes, index).pop_front()
        else {
            panic!("it is closed")
        };
        assert_eq!((keys.len(), code), (1, CloseCode::ReconnectRequested));
    }
    assert!(hub.sign_out("ann", a) && !hub.sign_out("ann", a));
    assert!(hub.sign_out("ann", b) && !hub.sign_out("ann", b));
    assert!(hub.signed_in.is_empty());
}

#[test]
fn the_state_of_the_broker_is_made_once() {
    let hub = hub(|_| {});
    assert_eq!(*hub.broker_state(|| 1_u8), 1);
    assert_eq!(*hub.broker_state(|| 2_u8), 1);
}

/// Records the reports, each with its time if Redis has decided it.
#[derive(Debug, Default)]
struct RecordingObserver(Mutex<Vec<(Option<u64>, HubEvent)>>);

impl Observer for RecordingObserver {
    fn wants(&self, _app_id: &str, kind: WebhookEvent) -> bool {
        kind == WebhookEvent::ChannelVacated
    }

    fn observe(&self, _app_id: &str, hub_event: HubEvent) {
        self.0.lock().push((None, hub_event));
    }

    fn observe_at(&self, _app_id: &str, at_us: u64, hub_event: HubEvent) {
        self.0.lock().push((Some(at_us), hub_event));
    }
}

#[test]
fn an_event_that_redis_has_decided_has_its_time() {
    let recorder = Arc::new(RecordingObserver::default());
    let observer = Arc::clone(&recorder) as Arc<dyn Observer>;
    let app = App::new(AppConfig::development());
    let hub = Hub::new(app, Arc::new(Inboxes::new(1)), observer, Instant::now());
    let vacated = || HubEvent::Vacated { channel: name("c") };
    hub.observe_at(WebhookEvent::ChannelVacated, 7, vacated);
    hub.observe(WebhookEvent::ChannelVacated, vacated);
    hub.observe(WebhookEvent::ChannelOccupied, || panic!("it is not of interest"));
    assert_eq!(*recorder.0.lock(), [(Some(7), vacated()), (None, vacated())]);
}
