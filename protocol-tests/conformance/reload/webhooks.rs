//! Webhooks that are added, removed and changed.

use serde_json::json;

use kit::{Client, Settings, eventually, frames, sign};

use crate::Start as _;
use kit::webhook_receiver::{WebhookReceiver, of_channel};

use super::{OTHER, client_of_other, with_other};

const BOTH: &str = r#"["channel_occupied", "channel_vacated"]"#;

/// The test app with these webhooks, each with its URL and its other settings.
fn with_webhooks(webhooks: &[(&str, &str)]) -> Settings {
    let each = webhooks.iter().map(|(url, more)| format!(r#"{{ url = "{url}", {more} }}"#));
    Settings::new().app("webhooks", format!("[{}]", each.collect::<Vec<_>>().join(", ")))
}

fn events(list: &str) -> String {
    format!("events = {list}")
}

async fn occupies(client: &mut Client, receiver: &mut WebhookReceiver, channel: &str) {
    client.subscribe(channel).await;
    assert_eq!(receiver.next().await.events(), [of_channel("channel_occupied", channel)]);
}

#[tokio::test]
pub(super) async fn webhooks_are_added_changed_and_removed() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("before").await;
    let (mut one, mut two) = (WebhookReceiver::new().await, WebhookReceiver::new().await);
    let (url, both) = (one.url(), events(BOTH));
    let report = server.reload(&with_webhooks(&[(&url, &both)])).await;
    assert!(report.contains(r#"apps_changed="3 (webhooks)""#), "{report}");
    occupies(&mut client, &mut one, "a").await;
    // Add another webhook before it, and a filter to the first.
    let filtered = format!(r#"{both}, channel_prefix = "x-", headers = {{ X-A = "1" }}"#);
    server.reload(&with_webhooks(&[(&two.url(), &both), (&url, &filtered)])).await;
    occupies(&mut client, &mut two, "b").await;
    client.subscribe("x-c").await;
    assert_eq!(two.next().await.events(), [of_channel("channel_occupied", "x-c")]);
    let request = one.next().await;
    assert_eq!(request.events(), [of_channel("channel_occupied", "x-c")]);
    assert_eq!(request.header("x-a"), ["1"]);
    // A `channel_vacated` is sent to the webhooks of the time at which it is final.
    server.reload(&with_webhooks(&[(&two.url(), &both)])).await;
    client.unsubscribe("x-c").await;
    assert_eq!(two.next().await.events(), [of_channel("channel_vacated", "x-c")]);
    server.reload(&Settings::new()).await;
    client.subscribe("d").await;
    client.ping_barrier().await;
    server.reload(&with_webhooks(&[(&url, &both)])).await;
    occupies(&mut client, &mut one, "e").await;
    assert_eq!((one.count(), two.count()), (one.taken(), two.taken()), "no further requests");
}

#[tokio::test]
pub(super) async fn queued_requests_keep_their_order_if_the_url_is_unchanged() {
    // The first request fails, so that the rest waits.
    let mut receiver = WebhookReceiver::answering(|at| Some(if at == 0 { 503 } else { 200 })).await;
    let (url, both) = (receiver.url(), events(BOTH));
    let server = with_webhooks(&[(&url, &both)]).start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    assert_eq!(receiver.next().await.events(), [of_channel("channel_occupied", "a")]);
    client.subscribe("b").await;
    let changed = format!(r#"{both}, headers = {{ X-A = "1" }}"#);
    let settings = with_webhooks(&[(&url, &changed)]).section("webhooks", "batch_ms", 0);
    server.reload(&settings).await;
    client.subscribe("c").await;
    for channel in ["a", "b", "c"] {
        assert_eq!(receiver.next().await.events(), [of_channel("channel_occupied", channel)]);
    }
}

#[tokio::test]
pub(super) async fn requests_of_a_removed_webhook_are_tried_once_more_and_dropped() {
    let mut receiver = WebhookReceiver::answering(|_| Some(503)).await;
    let (url, both) = (receiver.url(), events(BOTH));
    let server = with_webhooks(&[(&url, &both)]).start().await;
    server.client().await.subscribe("a").await;
    let first = receiver.next().await;
    server.reload(&Settings::new()).await;
    assert_eq!(receiver.next().await.body, first.body);
    eventually("the log says what was given up", async || {
        server.process.stream("err").contains(r#"events=1 reason="removed""#)
    })
    .await;
}

#[tokio::test]
pub(super) async fn a_changed_secret_signs_new_requests() {
    let mut receiver = WebhookReceiver::new().await;
    let (url, both) = (receiver.url(), events(BOTH));
    let webhooks = format!(r#"[{{ url = "{url}", {both} }}]"#);
    let (id, key, _) = OTHER;
    let with = |secret| Settings::new().add_app(id, key, secret).app("webhooks", &webhooks);
    let server = with("first").start().await;
    server.reload(&with("second")).await;
    client_of_other(&server).await.subscribe("a").await;
    let request = receiver.next().await;
    let signature = sign::hmac_hex("second", &request.body);
    assert_eq!(request.header("x-pusher-signature"), [signature]);
}

#[tokio::test]
pub(super) async fn the_last_events_of_a_removed_app_are_sent_and_nothing_after() {
    let mut receiver = WebhookReceiver::new().await;
    let (url, both) =
        (receiver.url(), events(r#"["channel_occupied", "channel_vacated", "member_removed"]"#));
    let webhooks = format!(r#"[{{ url = "{url}", {both} }}]"#);
    let mut server = with_other().app("webhooks", &webhooks).start().await;
    let mut client = client_of_other(&server).await;
    client.subscribe("c").await;
    assert_eq!(receiver.next().await.events(), [of_channel("channel_occupied", "c")]);
    server.reload(&Settings::new()).await;
    client.rejected(4003).await;
    assert_eq!(receiver.next().await.events(), [of_channel("channel_vacated", "c")]);
    // The tasks of the app end, and do not delay the shutdown.
    server.signal("TERM");
    assert_eq!(server.process.exit_code().await, Some(0));
    eventually("nothing more came", async || receiver.count() == receiver.taken()).await;
}

#[tokio::test]
pub(super) async fn the_events_and_filters_of_a_webhook_apply_at_once() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let mut receiver = WebhookReceiver::new().await;
    let url = receiver.url();
    server.reload(&with_webhooks(&[(&url, &events(r#"["channel_vacated"]"#))])).await;
    client.subscribe("a").await;
    client.unsubscribe("a").await;
    assert_eq!(receiver.next().await.events(), [of_channel("channel_vacated", "a")]);
    let suffix = format!(r#"{}, channel_suffix = "-x""#, events(r#"["channel_occupied"]"#));
    server.reload(&with_webhooks(&[(&url, &suffix)])).await;
    for channel in ["a", "x-a", "a-x"] {
        client.subscribe(channel).await;
        client.unsubscribe(channel).await;
    }
    assert_eq!(receiver.next().await.events(), [of_channel("channel_occupied", "a-x")]);
    server.reload(&with_webhooks(&[(&url, &events(r#"["channel_occupied"]"#))])).await;
    client.subscribe("b").await;
    assert_eq!(receiver.next().await.events(), [of_channel("channel_occupied", "b")]);
    assert_eq!(receiver.count(), receiver.taken());
}

#[tokio::test]
pub(super) async fn the_name_of_a_webhook_labels_its_metrics() {
    let mut receiver = WebhookReceiver::new().await;
    let url = receiver.url();
    let with = |name: &str| {
        let more = format!(r#"{}, name = "{name}""#, events(BOTH));
        with_webhooks(&[(&url, &more)]).section("metrics", "token", r#""t""#)
    };
    let server = with("before").start().await;
    let mut client = server.client().await;
    let is_labelled =
        async |name: &str| server.metrics_page().await.contains(&format!(r#"webhook="{name}""#));
    occupies(&mut client, &mut receiver, "a").await;
    assert!(is_labelled("before").await && !is_labelled("after").await);
    server.reload(&with("after")).await;
    occupies(&mut client, &mut receiver, "b").await;
    eventually("the new name is the label", async || {
        is_labelled("after").await && !is_labelled("before").await
    })
    .await;
}

#[tokio::test]
pub(super) async fn batch_ms_applies_to_the_next_event() {
    let mut receiver = WebhookReceiver::new().await;
    let (url, both) = (receiver.url(), events(BOTH));
    let with = |ms: u32| with_webhooks(&[(&url, &both)]).section("webhooks", "batch_ms", ms);
    let server = with(1_000).start().await;
    let mut client = server.client().await;
    let mut subscribe_at_once = async |channels: [&str; 2]| {
        let text = |channel| json!({ "event": "pusher:subscribe", "data": { "channel": channel } });
        let both = channels.map(|channel| frames::text(text(channel).to_string()));
        client.bytes(both.concat()).await;
    };
    let occupied =
        |channels: [&str; 2]| channels.map(|channel| of_channel("channel_occupied", channel));
    subscribe_at_once(["a", "b"]).await;
    assert_eq!(receiver.next().await.events(), occupied(["a", "b"]));
    let report = server.reload(&with(0)).await;
    assert!(report.contains(r#"settings="webhooks.batch_ms""#), "{report}");
    subscribe_at_once(["c", "d"]).await;
    for channel in ["c", "d"] {
        assert_eq!(receiver.next().await.events(), [of_channel("channel_occupied", channel)]);
    }
    server.reload(&with(1_000)).await;
    subscribe_at_once(["e", "f"]).await;
    assert_eq!(receiver.next().await.events(), occupied(["e", "f"]));
}

#[tokio::test]
pub(super) async fn deny_private_applies_to_the_next_request() {
    let mut receiver = WebhookReceiver::new().await;
    let (url, both) = (receiver.url(), events(BOTH));
    let with =
        |deny: bool| with_webhooks(&[(&url, &both)]).section("webhooks", "deny_private", deny);
    let server = with(false).start().await;
    let mut client = server.client().await;
    occupies(&mut client, &mut receiver, "a").await;
    let report = server.reload(&with(true)).await;
    assert!(report.contains(r#"settings="webhooks.deny_private""#), "{report}");
    client.subscribe("b").await;
    eventually("the log says why", async || {
        server.process.stream("err").contains("is not on the public internet")
    })
    .await;
    assert_eq!(receiver.count(), 1);
    // Pending events are sent once that is allowed again.
    server.reload(&with(false)).await;
    assert_eq!(receiver.next().await.events(), [of_channel("channel_occupied", "b")]);
}
