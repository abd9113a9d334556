use super::*;
use crate::{
    app::App,
    broker::redis::{
        coordinator::{
            Completion, CoordinatorRequest,
            testbed::{APP, Testbed, channel_name, connection},
        },
        envelope::Change,
        sync::tests::reply,
    },
    channel::{COUNT_INTERVAL, COUNT_UNTHROTTLED_MAX, OFFLINE_GRACE},
    config::AppConfig,
    hub::{Delivery, Inboxes, Observer},
};
use parking_lot::Mutex;

const LEASES: Partition = Partition::LEASES;

fn reply_with(testbed: &mut Testbed, reply: SyncReply) {
    testbed.coordinator.on_completion(Completion::Topic(TopicReply::Synced(reply)));
}

/// A node with a sync in flight, whose reply the test makes.
async fn asserting() -> (Testbed, Arc<str>) {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.until_synced().await;
    let topic: Arc<str> = testbed.channel("a").0.into();
    (testbed, topic)
}

fn sync_reply(testbed: &Testbed, topic: &Arc<str>, reply: RedisResult<Value>) -> SyncReply {
    SyncReply {
        topic: Arc::clone(topic),
        attempt: testbed.coordinator.topics.all[topic].attempt,
        partition: LEASES,
        is_full: false,
        was_provisional: false,
        bytes: 0,
        requested_at: now(),
        reply,
    }
}

fn is_disconnected(testbed: &Testbed) -> bool {
    testbed.coordinator.link.connection.is_none()
}

#[tokio::test(start_paused = true)]
async fn replies_update_the_clock_of_redis() {
    for (status, late) in [("ok", 0), ("late", 1)] {
        let (mut testbed, topic) = asserting().await;
        testbed.coordinator.topics.in_flight.add(0);
        let reply = sync_reply(&testbed, &topic, Ok(reply(status, 5_000_000)));
        reply_with(&mut testbed, reply);
        assert_eq!(
            testbed.coordinator.shared.redis_clocks.at(LEASES, now()),
            5_000_000,
            "{status}"
        );
        assert_eq!(testbed.coordinator.shared.metrics.late.get(), late);
        assert_eq!(testbed.coordinator.topics.in_flight.commands, 0);
        assert!(!is_disconnected(&testbed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_sync_is_repeated() {
    let (mut testbed, topic) = asserting().await;
    testbed.coordinator.topics.in_flight.add(0);
    let reply = sync_reply(&testbed, &topic, Ok(reply("late", 1)));
    reply_with(&mut testbed, reply);
    assert!(!testbed.coordinator.topics.all[&topic].is_synced());
    testbed.until_synced().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_sync_closes_the_link() {
    let rejection = redis::make_extension_error("OOM".to_owned(), None);
    let lost = std::io::Error::from(std::io::ErrorKind::TimedOut).into();
    for (result, ends) in [
        (Ok(reply("ok", 1)), false),
        (Ok(reply("fenced", 1)), true),
        (Ok(Value::Int(1)), true),
        (Err(rejection), true),
        (Err(lost), false),
    ] {
        let (mut testbed, topic) = asserting().await;
        testbed.coordinator.topics.in_flight.add(0);
        let what = format!("{result:?}");
        let reply = sync_reply(&testbed, &topic, result);
        reply_with(&mut testbed, reply);
        assert_eq!(is_disconnected(&testbed), ends, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_reply_to_an_earlier_attempt_is_discarded() {
    let (mut testbed, topic) = asserting().await;
    testbed.coordinator.topics.in_flight.add(0);
    let mut earlier = sync_reply(&testbed, &topic, Ok(reply("fenced", 1)));
    earlier.attempt = earlier.attempt.wrapping_sub(1);
    reply_with(&mut testbed, earlier);
    assert!(!is_disconnected(&testbed));
    assert_eq!(
        testbed.coordinator.topics.in_flight.commands, 0,
        "but it is not in flight any more"
    );
}

/// Records what topics report on this node.
#[derive(Debug, Default)]
struct EventRecorder(Mutex<Vec<HubEvent>>);

impl Observer for EventRecorder {
    fn wants(&self, _app_id: &str, _kind: WebhookEvent) -> bool {
        true
    }

    fn observe(&self, _app_id: &str, hub_event: HubEvent) {
        self.0.lock().push(hub_event);
    }

    fn observe_at(&self, _app_id: &str, _at_us: u64, hub_event: HubEvent) {
        self.0.lock().push(hub_event);
    }
}

/// Redis logs the transitions for all nodes.
#[tokio::test(start_paused = true)]
async fn a_node_of_a_cluster_reports_only_cache_misses() {
    let mut testbed = Testbed::joined(false).await;
    let recorder = Arc::new(EventRecorder::default());
    let config =
        AppConfig { id: APP.to_owned(), subscription_count: true, ..AppConfig::development() };
    let observer = Arc::clone(&recorder) as Arc<dyn Observer>;
    let hub = Hub::new(App::new(config), Arc::new(Inboxes::new(1)), observer, now());
    testbed.request(CoordinatorRequest::SetApps(HashMap::from([(APP.into(), Arc::new(hub))])));
    testbed.subscribe(1, "presence-r", Some("1"));
    testbed.subscribe(2, "c", None);
    let (app_id, user_id) = (Arc::from(APP), Arc::from("ann"));
    let (connection, watchlist) = (connection(1), Vec::new());
    testbed.request(CoordinatorRequest::SignIn { app_id, connection, user_id, watchlist });
    testbed.until_synced().await;
    let (name, user_id) = (channel_name("presence-r"), Some(Arc::from("1")));
    testbed.request(CoordinatorRequest::Unsubscribe {
        app_id: Arc::from(APP),
        channel: name,
        user_id,
    });
    testbed.request(CoordinatorRequest::SignOut { connection });
    tokio::time::advance(OFFLINE_GRACE + COUNT_INTERVAL).await;
    testbed.until_synced().await;
    assert_eq!(*recorder.0.lock(), []);
    for slot in [3, 4] {
        testbed.subscribe(slot, "cache-c", None);
        testbed.until_synced().await;
    }
    let miss = HubEvent::CacheMiss { channel: channel_name("cache-c") };
    assert_eq!(*recorder.0.lock(), [miss.clone(), miss]);
}

/// The counts that the subscribers of this node were sent.
fn counts(testbed: &Testbed) -> Vec<String> {
    let text = |delivery: &Delivery| {
        let Delivery::Channel { frame, .. } = delivery else { return None };
        frame.as_text().map(str::to_owned)
    };
    testbed.deliveries().iter().filter_map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_delayed_total_is_announced_in_time_even_without_a_link() {
    let (mut testbed, topic) = asserting().await;
    let (key, _) = testbed.channel("a");
    let epoch = testbed.field(LEASES, &key, "e");
    let version = testbed.field(LEASES, &key, "v").parse::<u64>().unwrap() + 1;
    let total = COUNT_UNTHROTTLED_MAX + 1;
    let message = Message::Change { epoch, version, change: Change::Total(total) };
    testbed.coordinator.topics.on_message(&topic, message, false, true, now());
    testbed.coordinator.close_link("a test");
    testbed.coordinator.topics.on_tick(now());
    assert_eq!(counts(&testbed), [""; 0]);
    tokio::time::advance(COUNT_INTERVAL).await;
    for expected in [1, 0] {
        testbed.coordinator.topics.on_tick(now());
        let counts = counts(&testbed);
        assert_eq!(counts.len(), expected, "{counts:?}");
        assert!(counts.iter().all(|count| count.contains(&total.to_string())), "{counts:?}");
    }
}
