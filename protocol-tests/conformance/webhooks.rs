//! Cases of `docs/protocol.md#cases-webhooks` that need no clients, from an event in an app to the bytes that an
//! endpoint receives. Each test calls `Webhooks` as the server does.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use campanile::{
    config::{AppConfig, Config, Secret, WebhookConfig, WebhookEvent as Kind},
    hub::{HubEvent, Observer as _},
    protocol::{ChannelName, SocketId},
    shutdown::Shutdown,
    signature::Signer,
    webhook::{PreparedWebhooks, Webhooks},
};
use serde_json::{Value, json};

use kit::webhook_receiver::{Request, WebhookReceiver};
use kit::{APP_ID, KEY, SECRET, eventually};

/// Running webhooks of the test app.
struct RunningWebhooks {
    webhooks: Arc<Webhooks>,
    shutdown: Shutdown,
}

impl RunningWebhooks {
    fn new(endpoints: Vec<WebhookConfig>) -> Self {
        Self::configured(endpoints, |_| {})
    }

    fn configured(endpoints: Vec<WebhookConfig>, change: impl FnOnce(&mut Config)) -> Self {
        let config = config(endpoints, change);
        let webhooks = Arc::new(Webhooks::new(&config).expect("webhooks over http can be used"));
        let shutdown = Shutdown::new();
        tokio::spawn(Arc::clone(&webhooks).run(shutdown.guard()));
        Self { webhooks, shutdown }
    }

    fn observe(&self, hub_event: HubEvent) {
        self.webhooks.observe(APP_ID, hub_event);
    }

    /// Applies another configuration, like a reload.
    fn change(&self, endpoints: Vec<WebhookConfig>, change: impl FnOnce(&mut Config)) {
        let plan = PreparedWebhooks::new(&config(endpoints, change))
            .expect("webhooks over http can be used");
        self.webhooks.change(plan);
    }

    fn metric(&self, line: &str) -> bool {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(self.webhooks.metrics()));
        let mut page = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut page, &registry)
            .expect("a String takes all text");
        page.lines().any(|found| found == line)
    }
}

/// The test app with these webhooks.
fn config(endpoints: Vec<WebhookConfig>, change: impl FnOnce(&mut Config)) -> Config {
    let app = AppConfig {
        id: APP_ID.into(),
        key: KEY.into(),
        secret: Secret::new(SECRET),
        webhooks: endpoints,
        ..AppConfig::default()
    };
    let mut config = Config { apps: vec![app], ..Config::default() };
    change(&mut config);
    config
}

fn endpoint(receiver: &WebhookReceiver, events: &[Kind]) -> WebhookConfig {
    WebhookConfig { url: receiver.url(), events: events.to_vec(), ..WebhookConfig::default() }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name, 200).expect("a name that is legal")
}

fn occupied(name: &str) -> HubEvent {
    HubEvent::Occupied { channel: channel(name) }
}

fn vacated(name: &str) -> HubEvent {
    HubEvent::Vacated { channel: channel(name) }
}

/// A marker: all earlier events are sent before it.
fn marker() -> HubEvent {
    HubEvent::SubscriptionCount { channel: channel("marker"), count: 1 }
}

fn names(request: &Request) -> Vec<String> {
    let events = request.events();
    events.iter().map(|event| event["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn w01_a_request_is_signed_over_its_raw_body() {
    let mut receiver = WebhookReceiver::new().await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::ChannelOccupied])]);
    bench.observe(occupied("t"));
    let request = receiver.next().await;
    assert_eq!(request.line, "POST /hooks HTTP/1.1");
    assert_eq!(request.header("content-type"), ["application/json"]);
    assert_eq!(request.header("x-pusher-key"), [KEY]);
    let signature = Signer::new(SECRET).sign(&request.body);
    assert_eq!(request.header("x-pusher-signature"), [signature]);
    let body: Value = serde_json::from_str(&request.body).expect("the body is JSON");
    let time_ms = body["time_ms"].as_u64().expect("a number");
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later");
    let age = since_1970.saturating_sub(Duration::from_millis(time_ms));
    assert!(
        Duration::from_millis(time_ms) <= since_1970 && age < Duration::from_secs(60),
        "{age:?}"
    );
    assert_eq!(body["events"], json!([{"name": "channel_occupied", "channel": "t"}]));
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(2));
}

#[tokio::test]
async fn w02_the_names_of_headers_are_in_title_case() {
    let mut receiver = WebhookReceiver::new().await;
    let headers = [("authorization".to_owned(), Secret::new("Bearer x"))].into();
    let webhook = WebhookConfig { headers, ..endpoint(&receiver, &[Kind::ChannelOccupied]) };
    let bench = RunningWebhooks::new(vec![webhook]);
    bench.observe(occupied("t"));
    let request = receiver.next().await;
    for line in [
        "Content-Type: application/json",
        &format!("X-Pusher-Key: {KEY}"),
        "Authorization: Bearer x",
    ] {
        assert!(request.head.lines().any(|found| found == line), "{line} in {}", request.head);
    }
    assert!(request.head.contains("\r\nX-Pusher-Signature: "), "{}", request.head);
}

#[tokio::test]
async fn w03_a_channel_that_stays_empty_is_vacated_within_three_seconds() {
    let mut receiver = WebhookReceiver::new().await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::ChannelVacated])]);
    bench.observe(occupied("t"));
    bench.observe(vacated("t"));
    let start = Instant::now();
    assert_eq!(
        receiver.next().await.events(),
        [json!({"name": "channel_vacated", "channel": "t"})]
    );
    let waited = start.elapsed();
    assert!(Duration::from_secs(2) < waited, "{waited:?}: shorter than a page reload");
}

#[tokio::test]
async fn w04_a_return_within_the_delay_is_not_reported() {
    let mut receiver = WebhookReceiver::new().await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &Kind::ALL)]);
    bench.observe(occupied("t"));
    assert_eq!(names(&receiver.next().await), ["channel_occupied"]);
    bench.observe(vacated("t"));
    bench.observe(occupied("t"));
    // The later event of another channel is sent after any event of the first.
    bench.observe(occupied("u"));
    bench.observe(vacated("u"));
    let delivered = [receiver.next().await.events(), receiver.next().await.events()].concat();
    let expected = [
        json!({"name": "channel_occupied", "channel": "u"}),
        json!({"name": "channel_vacated", "channel": "u"}),
    ];
    assert_eq!(delivered, expected);
}

#[tokio::test]
async fn w05_a_member_is_added_and_removed_with_its_id_as_text() {
    let mut receiver = WebhookReceiver::new().await;
    let bench =
        RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::MemberAdded, Kind::MemberRemoved])]);
    let (channel, user_id): (_, Arc<str>) = (channel("presence-room"), "10".into());
    bench.observe(HubEvent::MemberAdded { channel: channel.clone(), user_id: user_id.clone() });
    let added = json!({"name": "member_added", "channel": "presence-room", "user_id": "10"});
    assert_eq!(receiver.next().await.events(), [added]);
    bench.observe(HubEvent::MemberRemoved { channel, user_id });
    let removed = json!({"name": "member_removed", "channel": "presence-room", "user_id": "10"});
    assert_eq!(receiver.next().await.events(), [removed]);
}

#[tokio::test]
async fn w06_a_client_event_has_text_for_data_and_a_user_on_presence_channels() {
    let mut receiver = WebhookReceiver::new().await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::ClientEvent])]);
    for name in ["presence-room", "private-room"] {
        bench.observe(HubEvent::ClientEvent {
            channel: channel(name),
            name: "client-typing".into(),
            data: r#""{\"name\":\"Ann\"}""#.into(),
            socket_id: SocketId::from_random(0x0000_007b_0000_01c8),
            user_id: name.starts_with("presence-").then(|| "10".into()),
        });
    }
    let whisper = |channel| {
        json!({"name": "client_event", "channel": channel, "event": "client-typing",
            "data": "{\"name\":\"Ann\"}", "socket_id": "123.456"})
    };
    let mut on_presence = whisper("presence-room");
    on_presence["user_id"] = json!("10");
    assert_eq!(receiver.next().await.events(), [on_presence, whisper("private-room")]);
}

#[tokio::test]
async fn w07_many_simultaneous_cache_misses_are_reported_once() {
    let mut receiver = WebhookReceiver::new().await;
    let bench = RunningWebhooks::new(vec![endpoint(
        &receiver,
        &[Kind::CacheMiss, Kind::SubscriptionCount],
    )]);
    for _ in 0..3 {
        bench.observe(HubEvent::CacheMiss { channel: channel("cache-x") });
    }
    bench.observe(marker());
    assert_eq!(names(&receiver.next().await), ["cache_miss", "subscription_count"]);
}

#[tokio::test]
async fn w08_a_rejected_request_is_repeated_byte_for_byte_with_growing_delays() {
    let mut receiver =
        WebhookReceiver::answering(|at| if at < 2 { Some(500) } else { Some(200) }).await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::ChannelOccupied])]);
    bench.observe(occupied("t"));
    let (first, second, third) =
        (receiver.next().await, receiver.next().await, receiver.next().await);
    assert_eq!([&first.body, &second.body], [&second.body, &third.body]);
    assert_eq!(first.header("x-pusher-signature"), third.header("x-pusher-signature"));
    let gaps = [second.at - first.at, third.at - second.at];
    assert!(gaps[0] < gaps[1] && Duration::from_millis(700) < gaps[0], "{gaps:?}");
    let delivered =
        format!("campanile_webhook_events_sent_total{{app=\"{APP_ID}\",webhook=\"127.0.0.1\"}} 1");
    eventually("the delivery is counted", async || bench.metric(&delivered)).await;
    let failed = format!(
        "campanile_webhook_requests_failed_total{{app=\"{APP_ID}\",webhook=\"127.0.0.1\"}} 2"
    );
    assert!(bench.metric(&failed));
}

#[tokio::test]
async fn w08_a_redirect_is_a_rejection_and_is_not_followed() {
    let elsewhere = WebhookReceiver::new().await;
    let location = elsewhere.url();
    let mut receiver = WebhookReceiver::answering_with(move |at| {
        if at == 0 { (307, location.clone()) } else { (200, String::new()) }
    })
    .await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::ChannelOccupied])]);
    bench.observe(occupied("t"));
    assert_eq!(receiver.next().await.body, receiver.next().await.body);
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn w10_without_batching_each_request_carries_one_event() {
    let mut receiver = WebhookReceiver::new().await;
    let endpoints = vec![endpoint(&receiver, &[Kind::ChannelOccupied])];
    let bench = RunningWebhooks::configured(endpoints, |config| config.webhooks.batch_ms = 0);
    for name in ["a", "b", "c"] {
        bench.observe(occupied(name));
    }
    for name in ["a", "b", "c"] {
        let expected = json!({"name": "channel_occupied", "channel": name});
        assert_eq!(receiver.next().await.events(), [expected]);
    }
}

#[tokio::test]
async fn w10_with_batching_a_request_carries_at_most_a_hundred_events_in_order() {
    let mut receiver = WebhookReceiver::new().await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::SubscriptionCount])]);
    let count = |count| HubEvent::SubscriptionCount { channel: channel("t"), count };
    (0..250).for_each(|number| bench.observe(count(number)));
    let mut delivered = Vec::new();
    while delivered.len() < 250 {
        let events = receiver.next().await.events();
        assert!(events.len() <= 100, "{}", events.len());
        delivered.extend(events.iter().map(|event| event["subscription_count"].as_u64()));
    }
    assert_eq!(delivered, (0..250).map(Some).collect::<Vec<_>>());
    assert!(receiver.count() < 25, "{} requests", receiver.count());
}

#[tokio::test]
async fn w11_each_endpoint_receives_its_filtered_events_signed_after_filtering() {
    let (mut kinds, mut channels) = (WebhookReceiver::new().await, WebhookReceiver::new().await);
    let by_channel = WebhookConfig {
        channel_prefix: "private-".into(),
        channel_suffix: "-log".into(),
        ..endpoint(&channels, &Kind::ALL)
    };
    let bench = RunningWebhooks::new(vec![endpoint(&kinds, &[Kind::ChannelOccupied]), by_channel]);
    bench.observe(marker());
    for name in ["private-a", "private-b-log", "c-log"] {
        bench.observe(occupied(name));
        bench.observe(HubEvent::SubscriptionCount { channel: channel(name), count: 1 });
    }
    let request = kinds.next().await;
    assert_eq!(names(&request), ["channel_occupied"; 3]);
    assert_eq!(request.header("x-pusher-signature"), [Signer::new(SECRET).sign(&request.body)]);
    let request = channels.next().await;
    let of = |event: &Value| event["channel"].as_str().map(ToOwned::to_owned);
    assert_eq!(names(&request), ["channel_occupied", "subscription_count"]);
    assert!(request.events().iter().all(|event| of(event).as_deref() == Some("private-b-log")));
    assert_eq!(request.header("x-pusher-signature"), [Signer::new(SECRET).sign(&request.body)]);
}

#[tokio::test]
async fn w12_a_subscription_count_is_a_number() {
    let mut receiver = WebhookReceiver::new().await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::SubscriptionCount])]);
    bench.observe(HubEvent::SubscriptionCount { channel: channel("my-channel"), count: 13 });
    let expected =
        json!({"name": "subscription_count", "channel": "my-channel", "subscription_count": 13});
    assert_eq!(receiver.next().await.events(), [expected]);
}

#[tokio::test]
async fn w13_a_hanging_endpoint_does_not_affect_others() {
    let (mut hanging, mut healthy) =
        (WebhookReceiver::answering(|_| None).await, WebhookReceiver::new().await);
    let kinds = [Kind::ChannelOccupied];
    let bench = RunningWebhooks::new(vec![endpoint(&hanging, &kinds), endpoint(&healthy, &kinds)]);
    bench.observe(occupied("first"));
    assert_eq!(names(&hanging.next().await), ["channel_occupied"]);
    for number in 0..5 {
        bench.observe(occupied(&number.to_string()));
        let delivered = healthy.next().await.events();
        assert!(delivered.iter().all(|event| event["name"] == "channel_occupied"), "{delivered:?}");
    }
    assert_eq!(hanging.count(), 1, "later events wait for earlier ones");
    let name = hanging.authority();
    let waiting =
        format!("campanile_webhook_events_waiting{{app=\"{APP_ID}\",webhook=\"{name}\"}} 6");
    eventually("all wait for the one", async || bench.metric(&waiting)).await;
}

/// Occupies valid channels and poisonous ones, and expects an event for each valid one although the endpoint answers
/// `status` to every request that contains a poisonous one.
async fn good_ones_pass(status: u16) {
    let judge = move |request: &Request| if request.body.contains("poison") { status } else { 200 };
    let mut receiver = WebhookReceiver::answering_by_request(judge).await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::ChannelOccupied])]);
    let start = Instant::now();
    let mut delivered = Vec::new();
    for round in 0..20 {
        for channel in ["a", "poison", "b"] {
            bench.observe(occupied(&format!("{channel}-{round}")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    while delivered.len() < 40 {
        let request = receiver.next().await;
        if !request.body.contains("poison") {
            let events = request.events();
            delivered.extend(events.iter().map(|event| event["channel"].to_string()));
        }
    }
    let late = start.elapsed();
    assert!(late < Duration::from_secs(12), "{status}: {late:?}");
    let expected: Vec<_> =
        (0..20).flat_map(|round| [format!("\"a-{round}\""), format!("\"b-{round}\"")]).collect();
    assert_eq!(delivered, expected, "{status}: each once and in order");
    let dead_letters =
        format!("campanile_webhook_dead_letters{{app=\"{APP_ID}\",webhook=\"127.0.0.1\"}} 20");
    eventually("all poisonous ones are dead letters", async || bench.metric(&dead_letters)).await;
}

#[tokio::test]
async fn a_repeatedly_rejected_event_becomes_a_dead_letter() {
    good_ones_pass(400).await;
}

#[tokio::test]
async fn an_event_on_which_the_endpoint_repeatedly_fails_becomes_a_dead_letter() {
    good_ones_pass(500).await;
}

#[tokio::test]
async fn user_events_have_the_server_to_user_channel() {
    let mut receiver = WebhookReceiver::new().await;
    let bench =
        RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::UserOnline, Kind::UserOffline])]);
    bench.observe(HubEvent::UserOnline { user_id: "ann".into() });
    bench.observe(HubEvent::UserOffline { user_id: "ann".into() });
    let user = |name| json!({"name": name, "channel": "#server-to-user-ann", "user_id": "ann"});
    assert_eq!(receiver.next().await.events(), [user("user_online"), user("user_offline")]);
}

#[tokio::test]
async fn the_end_releases_held_events_and_counts_undelivered_ones() {
    let (mut healthy, dead) =
        (WebhookReceiver::new().await, WebhookReceiver::answering(|_| Some(500)).await);
    let bench =
        RunningWebhooks::new(vec![endpoint(&healthy, &Kind::ALL), endpoint(&dead, &Kind::ALL)]);
    bench.observe(occupied("t"));
    bench.observe(vacated("t"));
    let start = Instant::now();
    assert_eq!(bench.shutdown.drain(Duration::from_secs(5)).await, 0);
    assert!(start.elapsed() < Duration::from_secs(2), "nothing waits for its deadline");
    let delivered = [names(&healthy.next().await), remaining_names(&mut healthy).await].concat();
    assert_eq!(delivered, ["channel_occupied", "channel_vacated"]);
    assert_eq!(bench.webhooks.abandon(), 2);
    let name = dead.authority();
    let dropped = format!(
        "campanile_webhook_events_dropped_total{{app=\"{APP_ID}\",webhook=\"{name}\",reason=\"shutdown\"}} 2"
    );
    assert!(bench.metric(&dropped));
}

/// The names of the events in the next request, if there is one.
async fn remaining_names(receiver: &mut WebhookReceiver) -> Vec<String> {
    if receiver.taken() < receiver.count() { names(&receiver.next().await) } else { Vec::new() }
}

#[tokio::test]
async fn a_private_address_is_not_dialled_when_that_is_denied() {
    let receiver = WebhookReceiver::new().await;
    let endpoints = vec![endpoint(&receiver, &[Kind::ChannelOccupied])];
    let bench =
        RunningWebhooks::configured(endpoints, |config| config.webhooks.deny_private = true);
    bench.observe(occupied("t"));
    let failed = format!(
        "campanile_webhook_requests_failed_total{{app=\"{APP_ID}\",webhook=\"127.0.0.1\"}} 1"
    );
    eventually("the attempt has failed", async || bench.metric(&failed)).await;
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn an_app_observes_only_what_its_webhooks_need() {
    let receiver = WebhookReceiver::new().await;
    let bench = RunningWebhooks::new(vec![endpoint(&receiver, &[Kind::ChannelVacated])]);
    let wanted = Kind::ALL.map(|kind| bench.webhooks.wants(APP_ID, kind));
    assert_eq!(wanted, [true, true, false, false, false, false, false, false, false]);
    assert!(Kind::ALL.iter().all(|kind| !bench.webhooks.wants("another", *kind)));
}

/// The events and the changes are not separated by a yield, so the task that reads events finds them at once.
#[tokio::test]
async fn events_are_sent_with_the_settings_of_their_time() {
    let (mut one, mut two) = (WebhookReceiver::new().await, WebhookReceiver::new().await);
    let at_once = |config: &mut Config| config.webhooks.batch_ms = 0;
    let settings = [&one, &two].map(|receiver| vec![endpoint(receiver, &[Kind::ChannelOccupied])]);
    let bench = RunningWebhooks::configured(settings[0].clone(), at_once);
    for round in 0..40 {
        let [first, second] = ["one", "two"].map(|name| format!("{name}-{round}"));
        bench.observe(occupied(&first));
        bench.change(settings[1].clone(), at_once);
        bench.observe(occupied(&second));
        bench.change(settings[0].clone(), at_once);
        for (receiver, channel) in [(&mut one, first), (&mut two, second)] {
            let expected = json!({"name": "channel_occupied", "channel": channel});
            assert_eq!(receiver.next().await.events(), [expected]);
        }
    }
    assert_eq!((one.count(), two.count()), (one.taken(), two.taken()));
}

#[tokio::test]
async fn a_change_separates_batches_and_keeps_the_order() {
    let mut receiver = WebhookReceiver::new().await;
    let both = [Kind::ChannelOccupied, Kind::CacheMiss];
    let [all, misses] = [&both[..], &both[1..]].map(|events| vec![endpoint(&receiver, events)]);
    let other_secret = |config: &mut Config| config.apps[0].secret = Secret::new("another");
    let bench = RunningWebhooks::new(all.clone());
    for round in 0..10 {
        let name = |part: &str| format!("{part}-{round}");
        let miss = |part| HubEvent::CacheMiss { channel: channel(&name(part)) };
        bench.observe(occupied(&name("a")));
        bench.observe(miss("b"));
        bench.change(misses.clone(), other_secret);
        bench.observe(occupied(&name("c")));
        bench.observe(miss("d"));
        bench.change(all.clone(), |_| {});
        bench.observe(occupied(&name("e")));
        for (parts, secret) in [(&["a", "b"][..], SECRET), (&["d"], "another"), (&["e"], SECRET)] {
            let request = receiver.next().await;
            let found: Vec<_> =
                request.events().iter().map(|event| event["channel"].clone()).collect();
            assert_eq!(found, parts.iter().map(|part| name(part)).collect::<Vec<_>>());
            let signature = Signer::new(secret).sign(&request.body);
            assert_eq!(request.header("x-pusher-signature"), [signature]);
        }
    }
}
