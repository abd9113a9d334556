//! The events that the observer receives, and their order.

use super::{users::user, *};
use std::sync::{Mutex, OnceLock, Weak};

/// Records the events, each as its kind and its subject.
#[derive(Debug, Default)]
struct TextRecorder(Mutex<Vec<String>>);

impl Observer for TextRecorder {
    fn wants(&self, app_id: &str, _kind: WebhookEvent) -> bool {
        app_id == AppConfig::development().id
    }

    fn observe(&self, _app_id: &str, hub_event: HubEvent) {
        let subject = if let HubEvent::SubscriptionCount { count, .. } = &hub_event {
            count.to_string()
        } else {
            hub_event.user_id().map(ToString::to_string).unwrap_or_default()
        };
        self.0.lock().unwrap().push(format!("{} {subject}", hub_event.kind().as_str()));
    }

    fn observe_at(&self, _app_id: &str, _at_us: u64, hub_event: HubEvent) {
        panic!("{hub_event:?} is decided by this node");
    }
}

fn observed(change: impl FnOnce(&mut AppConfig)) -> (TestBroker, Arc<TextRecorder>) {
    let recorder = Arc::new(TextRecorder::default());
    let observer = Arc::clone(&recorder) as Arc<dyn Observer>;
    (bench_with(change, observer), recorder)
}

impl TextRecorder {
    /// The events since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[test]
fn channel_occupied_precedes_member_added_and_channel_vacated_follows_member_removed() {
    let (test, observed_events) = observed(|_| {});
    let leave = |user: &str| {
        test.unsubscribe(0, "presence-r", Some(user));
    };
    test.subscribe(0, "presence-r", Some("1"));
    assert_eq!(observed_events.take(), ["channel_occupied ", "member_added 1"]);
    test.subscribe(0, "presence-r", Some("1"));
    assert!(observed_events.take().is_empty(), "a second connection of a user is no transition");
    test.subscribe(0, "presence-r", Some("2"));
    assert_eq!(observed_events.take(), ["member_added 2"]);
    leave("1");
    assert!(observed_events.take().is_empty(), "the user has another connection");
    leave("1");
    assert_eq!(observed_events.take(), ["member_removed 1"]);
    leave("2");
    assert_eq!(observed_events.take(), ["member_removed 2", "channel_vacated "]);
}

#[test]
fn server_to_user_channels_are_neither_counted_nor_reported() {
    let (test, observed_events) = observed(|app| app.subscription_count = true);
    test.subscribe(0, "#server-to-user-7", None);
    assert_eq!((test.hub.channel_count(), test.hub.subscription_count()), (0, 1));
    assert!(occupied_channels(&test.hub, "").is_empty());
    test.subscribe(0, "news-1", None);
    test.subscribe(0, "other", None);
    assert_eq!((test.hub.channel_count(), test.hub.subscription_count()), (2, 3));
    let listed = occupied_channels(&test.hub, "news-");
    assert_eq!(listed, [(name("news-1"), Counts { subscriptions: 1, users: 0 })]);
    for channel in ["#server-to-user-7", "other"] {
        test.unsubscribe(0, channel, None);
    }
    assert_eq!((test.hub.channel_count(), test.hub.subscription_count()), (1, 1));
    let expected = [
        "channel_occupied ",
        "subscription_count 1",
        "channel_occupied ",
        "subscription_count 1",
        "channel_vacated ",
    ];
    assert_eq!(observed_events.take(), expected);
    assert_eq!(test.received(0).len(), 2, "the subscribers of the other two receive their count");
}

#[test]
fn each_subscriber_of_an_empty_cache_channel_is_a_cache_miss() {
    let (test, observed_events) = observed(|_| {});
    test.subscribe(0, "cache-c", None);
    test.subscribe(0, "cache-c", None);
    assert_eq!(observed_events.take(), ["channel_occupied ", "cache_miss ", "cache_miss "]);
    test.publish("cache-c", "1");
    test.subscribe(0, "cache-c", None);
    assert!(observed_events.take().is_empty());
}

#[test]
fn a_count_is_sent_to_subscribers_and_observer() {
    let (mut test, observed_events) = observed(|app| app.subscription_count = true);
    for _ in 0..150 {
        test.subscribe(0, "c", None);
    }
    let at_once = observed_events.take();
    assert_eq!(at_once.len(), 101, "a hundred counts, and that it is occupied");
    assert_eq!(at_once.last().unwrap(), "subscription_count 100");
    assert_eq!(test.received(0).len(), 100);
    test.now += Duration::from_millis(4_999);
    on_tick(&test.broker, &test.hub, test.now);
    assert!(observed_events.take().is_empty());
    test.now += Duration::from_millis(1);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(observed_events.take(), ["subscription_count 150"]);
    assert_eq!(test.received(0).len(), 1);
}

#[test]
fn a_user_is_offline_three_seconds_after_its_last_connection() {
    let (mut test, observed_events) = observed(|_| {});
    let [watcher, first, second] = [connection(0, 1), connection(1, 2), connection(1, 3)];
    let ann = user("ann", &[]);
    let _ = sign_in(&test.hub, watcher, &user("bob", &["ann"]), "{}", None);
    let _ = sign_in(&test.hub, first, &ann, "{}", None);
    let _ = sign_in(&test.hub, second, &ann, "{}", None);
    assert_eq!(observed_events.take(), ["user_online bob", "user_online ann"]);
    assert_eq!(test.received(0).len(), 1);
    // The user has another connection.
    sign_out(&test.broker, &test.hub, first, &ann, test.now);
    test.now += Duration::from_secs(10);
    on_tick(&test.broker, &test.hub, test.now);
    assert!(observed_events.take().is_empty() && test.received(0).is_empty());
    // Back within three seconds, to stay.
    sign_out(&test.broker, &test.hub, second, &ann, test.now);
    test.now += Duration::from_millis(2_999);
    on_tick(&test.broker, &test.hub, test.now);
    let _ = sign_in(&test.hub, first, &ann, "{}", None);
    test.now += Duration::from_secs(10);
    on_tick(&test.broker, &test.hub, test.now);
    assert!(
        observed_events.take().is_empty() && test.received(0).is_empty(),
        "it returned in time"
    );
    // Offline for three seconds.
    sign_out(&test.broker, &test.hub, first, &ann, test.now);
    test.now += Duration::from_secs(3);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(observed_events.take(), ["user_offline ann"]);
    on_tick(&test.broker, &test.hub, test.now + Duration::from_secs(60));
    assert!(observed_events.take().is_empty(), "once");
    assert_eq!(test.received(0).len(), 1);
    let _ = sign_in(&test.hub, first, &ann, "{}", None);
    assert_eq!(observed_events.take(), ["user_online ann"]);
    assert_eq!(test.received(0).len(), 1);
}

#[test]
fn unsubscribing_does_not_send_a_large_count_at_once() {
    let (mut test, observed_events) = observed(|app| app.subscription_count = true);
    for _ in 0..150 {
        test.subscribe(0, "c", None);
    }
    observed_events.take();
    test.now += Duration::from_secs(5);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(observed_events.take(), ["subscription_count 150"]);
    for _ in 0..2 {
        test.unsubscribe(0, "c", None);
    }
    assert!(observed_events.take().is_empty());
    test.now += Duration::from_secs(5);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(observed_events.take(), ["subscription_count 148"]);
}

/// Panics if a transition is reported while its channel or user is not locked: another thread could
/// then report the next transition first.
#[derive(Debug, Default)]
struct LockObserver {
    hub: OnceLock<Weak<Hub>>,
    recorder: TextRecorder,
}

impl Observer for LockObserver {
    fn wants(&self, app_id: &str, kind: WebhookEvent) -> bool {
        self.recorder.wants(app_id, kind)
    }

    fn observe(&self, app_id: &str, hub_event: HubEvent) {
        let hub = self.hub.get().unwrap().upgrade().unwrap();
        let is_locked = match (hub_event.channel(), hub_event.user_id()) {
            (Some(channel), _) => hub.is_locked(channel),
            (None, Some(user_id)) => app_state(&hub).users.is_locked(user_id),
            (None, None) => false,
        };
        assert!(is_locked, "{hub_event:?} is reported without the lock");
        self.recorder.observe(app_id, hub_event);
    }

    fn observe_at(&self, _app_id: &str, _at_us: u64, hub_event: HubEvent) {
        panic!("{hub_event:?} is decided by this node");
    }
}

#[test]
fn transitions_are_reported_under_the_lock_that_made_them() {
    let observer = Arc::new(LockObserver::default());
    let reports = Arc::clone(&observer) as Arc<dyn Observer>;
    let test = bench_with(|app| app.subscription_count = true, reports);
    let (hub, mut now) = (Arc::clone(&test.hub), test.now);
    observer.hub.set(Arc::downgrade(&hub)).unwrap();
    let ann = user("ann", &["bob"]);
    for watched in [&[][..], &["ann"]] {
        let bob = user("bob", watched);
        for (slot, user) in [(1, &ann), (2, &bob), (3, &ann)] {
            let _ = sign_in(&hub, connection(0, slot), user, "{}", None);
        }
        for (slot, user) in [(1, &ann), (2, &bob), (3, &ann)] {
            sign_out(&test.broker, &hub, connection(0, slot), user, now);
        }
        now += OFFLINE_GRACE;
        on_tick(&test.broker, &hub, now);
    }
    test.subscribe(0, "presence-r", Some("1"));
    test.unsubscribe(0, "presence-r", Some("1"));
    test.subscribe(0, "cache-c", None);
    let users = ["user_online ann", "user_online bob", "user_offline ann", "user_offline bob"];
    let channels = ["channel_occupied ", "member_added 1", "member_removed 1", "channel_vacated "];
    let cache = ["channel_occupied ", "cache_miss ", "subscription_count 1"];
    let mut observed_events = observer.recorder.take();
    // Both are offline at the same time.
    observed_events[2..4].sort_unstable();
    observed_events[6..8].sort_unstable();
    assert_eq!(observed_events, [&users[..], &users, &channels, &cache].concat());
}
