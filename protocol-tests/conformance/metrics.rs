//! Each documented metric increases by exactly what it counts, and by nothing else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use kit::{Call, Client, Frame, KEY, SECRET, Server, Settings, eventually, frames, sign, unix_now};

use crate::Start as _;

/// Increases of counters, by metric and labels.
type Rise = BTreeMap<String, u64>;

fn settings() -> Settings {
    Settings::new().section("metrics", "token", r#""t""#).app("subscription_count", false)
}

/// The counters of a page, except those of time; for histograms, the number of samples.
fn counters(page: &str) -> Rise {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    let is_count = |series: &str| {
        let name = series.split('{').next().unwrap_or_default();
        let is_time = name.ends_with("_seconds_total");
        (name.ends_with("_total") && !is_time) || name.ends_with("_latency_seconds_count")
    };
    samples
        .filter(|(series, _)| is_count(series))
        .map(|(series, value)| (series.to_owned(), value.parse().expect("a count is whole")))
        .collect()
}

/// Records the counts; the returned function reads the increases since then.
async fn watch(server: &Server) -> impl AsyncFn() -> Rise {
    let before = counters(&server.metrics_page().await);
    async move || {
        let now = counters(&server.metrics_page().await);
        let risen = |(series, value): (String, u64)| {
            let more = value - before.get(&series).copied().unwrap_or_default();
            (0 < more).then_some((series, more))
        };
        now.into_iter().filter_map(risen).collect()
    }
}

fn rise<const N: usize>(series: [(&str, usize); N]) -> Rise {
    series.map(|(name, count)| (format!("campanile_{name}"), count as u64)).into()
}

/// Waits until exactly these counts have increased.
async fn expect<const N: usize>(
    what: &str,
    risen: impl AsyncFn() -> Rise,
    expected: [(&str, usize); N],
) {
    let expected = rise(expected);
    // A count that is too high fails in the assertion below.
    let has_increased = |now: &Rise| {
        now == &expected || now.iter().any(|(series, count)| expected.get(series) < Some(count))
    };
    eventually(what, async || has_increased(&risen().await)).await;
    assert_eq!(risen().await, expected, "{what}");
}

fn event_to(channel: &str, data: &str) -> Value {
    json!({ "name": "e", "channel": channel, "data": data })
}

/// The bytes of the event's frame, as sent to each subscriber.
fn frame_bytes(name: &str, channel: &str, data: &str) -> usize {
    let text = json!({ "event": name, "channel": channel, "data": data }).to_string();
    assert!(text.len() < 126);
    2 + text.len()
}

#[tokio::test]
async fn publishes_are_counted_by_the_status_of_the_answer() {
    let server = settings()
        .server("max_request_bytes", 2_000)
        .server("request_timeout_s", 1)
        .app("max_event_bytes", 1_000)
        .add_app("4", "key-of-4", "secret-of-4")
        .app("enabled", false)
        .app("max_event_bytes", 1_000)
        .add_app("5", "key-of-5", "secret-of-5")
        .app("max_event_bytes", 1_000)
        .app("requests_per_second", 1)
        .start()
        .await;
    let of = |app: &str, path: &str| {
        let body = event_to("a", "1").to_string();
        Call::new("POST", &format!("/apps/{app}/{path}"), body)
            .credentials(&format!("key-of-{app}"), &format!("secret-of-{app}"))
    };
    let publishes = [
        (Call::post("events", &event_to("a", "1")), 200),
        (Call::post("batch_events", &json!({ "batch": [event_to("a", "1")] })), 200),
        (Call::post("events", &json!({})), 400),
        (Call::post_text("batch_events", "{"), 400),
        (Call::post("events", &event_to("a", "1")).query("auth_key", "nope"), 400),
        (Call::post("events", &event_to("a", "1")).signature("00"), 401),
        (Call::post("batch_events", &json!({})).without("body_md5"), 401),
        (of("4", "events"), 403),
        (of("nobody", "events"), 404),
        (of("nobody", "batch_events"), 404),
        (Call::post("events", &event_to("a", &"x".repeat(1_001))), 413),
        (Call::post("events", &event_to("a", &"x".repeat(2_000))), 413),
        (Call::post("events", &event_to("a", "1")).header("content-encoding", "br"), 415),
    ];
    for (call, status) in publishes {
        let risen = watch(&server).await;
        let reply = call.send(&server).await;
        assert_eq!(reply.status, status, "{reply}");
        let series = format!(r#"publishes_total{{status="{status}"}}"#);
        assert_eq!(risen().await, rise([(&series, 1)]), "{reply}");
    }
    // How many requests the limit accepts depends on the speed of the machine, so counts are compared with answers.
    let risen = watch(&server).await;
    let mut answers = Rise::new();
    while answers.len() < 2 {
        let status = of("5", "events").send(&server).await.status;
        assert!([200, 429].contains(&status), "{status}");
        *answers
            .entry(format!(r#"campanile_publishes_total{{status="{status}"}}"#))
            .or_default() += 1;
    }
    assert_eq!(risen().await, answers);
}

#[tokio::test]
async fn other_requests_are_no_publishes() {
    let server = settings().start().await;
    let risen = watch(&server).await;
    for (call, status) in [
        (Call::get("channels"), 200),
        (Call::get("channels").signature("00"), 401),
        (Call::get("channels/a"), 200),
        (Call::get("connections"), 200),
        (Call::get("events"), 405),
        (Call::get("nothing"), 404),
        (Call::post("users/1/terminate_connections", &json!({})), 200),
        (Call::new("OPTIONS", "/apps/3/events", ""), 204),
    ] {
        let reply = call.send(&server).await;
        assert_eq!(reply.status, status, "{reply}");
    }
    assert_eq!(risen().await, Rise::new());
}

#[tokio::test]
async fn events_are_counted_for_each_subscriber_but_the_excluded_one() {
    let server = settings().start().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.client().await;
        client.subscribe("private-a").await;
        clients.push(client);
    }
    let bytes = frame_bytes("e", "private-a", "1");
    for (excluded, count) in [(None, 3), (Some(&clients[0].socket_id), 2)] {
        let risen = watch(&server).await;
        let mut event = event_to("private-a", "1");
        if let Some(socket_id) = excluded {
            event["socket_id"] = json!(socket_id);
        }
        server.publish_event(event).await;
        expect(
            "events to subscribers",
            risen,
            [
                (r#"publishes_total{status="200"}"#, 1),
                (r#"messages_sent_total{kind="event"}"#, count),
                (r#"bytes_sent_total{kind="event"}"#, count * bytes),
                ("delivery_latency_seconds_count", count),
            ],
        )
        .await;
    }
    let risen = watch(&server).await;
    server.publish("nobody", "e", "1").await;
    assert_eq!(risen().await, rise([(r#"publishes_total{status="200"}"#, 1)]));
    let risen = watch(&server).await;
    let text = r#"{"event":"client-x","channel":"private-a","data":"1"}"#;
    clients[0].text(text).await;
    expect(
        "a client event",
        risen,
        [
            (r#"messages_received_total{kind="client_event"}"#, 1),
            (r#"bytes_received_total{kind="client_event"}"#, text.len()),
            (r#"messages_sent_total{kind="client_event"}"#, 2),
            (
                r#"bytes_sent_total{kind="client_event"}"#,
                2 * frame_bytes("client-x", "private-a", "1"),
            ),
            ("delivery_latency_seconds_count", 2),
        ],
    )
    .await;
}

#[tokio::test]
async fn messages_of_clients_are_counted_by_kind() {
    let server = settings().start().await;
    let mut client = server.client().await;
    let user = r#"{"id":"1"}"#;
    let auth = sign::user_auth(KEY, SECRET, &client.socket_id, user);
    let signin = json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user } });
    for (kind, text) in [
        ("ping", r#"{"event":"pusher:ping"}"#.to_owned()),
        ("subscribe", r#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#.to_owned()),
        ("unsubscribe", r#"{"event":"pusher:unsubscribe","data":{"channel":"a"}}"#.to_owned()),
        ("signin", signin.to_string()),
        ("other", r#"{"event":"pusher:unheard-of"}"#.to_owned()),
        ("other", r#"{"event":"pusher:pong"}"#.to_owned()),
    ] {
        let risen = watch(&server).await;
        client.text(&text).await;
        let (count, bytes) = (
            format!(r#"campanile_messages_received_total{{kind="{kind}"}}"#),
            format!(r#"campanile_bytes_received_total{{kind="{kind}"}}"#),
        );
        let received = async || -> Rise {
            risen().await.into_iter().filter(|(series, _)| series.contains("_received")).collect()
        };
        eventually(kind, async || received().await.len() == 2).await;
        assert_eq!(received().await, [(count, 1), (bytes, text.len() as u64)].into());
    }
}

#[tokio::test]
async fn rejected_messages_are_counted_by_kind_and_reason() {
    let server = settings()
        .connection("max_channels", 3)
        .app("client_events_per_second", 1)
        .app("max_event_bytes", 20)
        .app("max_event_name_length", 20)
        .app("max_channel_name_length", 20)
        .app("max_presence_members", 1)
        .app("max_presence_user_info_bytes", 20)
        .start()
        .await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    other.join("presence-full", "1").await;
    client.subscribe("private-a").await;
    let auth = format!("{KEY}:{}", "0".repeat(64));
    let subscribe = |data: Value| json!({ "event": "pusher:subscribe", "data": data });
    let member = |channel: &str, data: &str| {
        let auth = client.auth(channel, Some(data));
        subscribe(json!({ "channel": channel, "auth": auth, "channel_data": data }))
    };
    let event = |name: &str, channel: &str, data: &str| json!({ "event": name, "channel": channel, "data": data });
    let signin = |data: Value| json!({ "event": "pusher:signin", "data": data });
    let large = json!({ "user_id": "2", "user_info": { "n": "x".repeat(20) } }).to_string();
    for (message, kind, reason) in [
        (json!(1), "other", "malformed"),
        (subscribe(json!({ "channel": "a b" })), "subscribe", "channel_name"),
        (subscribe(json!({ "channel": "c".repeat(21) })), "subscribe", "channel_name"),
        (
            subscribe(json!({ "channel": "private-a", "auth": client.auth("private-a", None) })),
            "subscribe",
            "existing",
        ),
        (subscribe(json!({ "channel": "private-b" })), "subscribe", "auth_missing"),
        (subscribe(json!({ "channel": "private-b", "auth": "x" })), "subscribe", "auth_format"),
        (subscribe(json!({ "channel": "private-b", "auth": "x:y" })), "subscribe", "auth_key"),
        (subscribe(json!({ "channel": "private-b", "auth": auth })), "subscribe", "auth_signature"),
        (member("presence-b", "{}"), "subscribe", "member"),
        (member("presence-b", &large), "subscribe", "member_too_large"),
        (member("presence-full", r#"{"user_id":"2"}"#), "subscribe", "roster_full"),
        (event("x", "private-a", "1"), "client_event", "unknown_event"),
        (json!({ "event": "client-x", "data": "1" }), "client_event", "no_channel"),
        (event("client-x", "a", "1"), "client_event", "channel_kind"),
        (event("client-x", "private-b", "1"), "client_event", "not_subscribed"),
        (
            event(&format!("client-{}", "x".repeat(20)), "private-a", "1"),
            "client_event",
            "name_too_long",
        ),
        (event("client-x", "private-a", &"x".repeat(21)), "client_event", "too_large"),
        (signin(json!({ "user_data": r#"{"id":"1"}"# })), "signin", "auth_missing"),
        (signin(json!({ "auth": auth, "user_data": r#"{"id":"1"}"# })), "signin", "auth_signature"),
    ] {
        is_rejected(&server, &mut client, &message, kind, reason).await;
    }
}

/// Sends a message that is rejected; it is counted once, by kind and reason.
async fn is_rejected(
    server: &Server,
    client: &mut Client,
    message: &Value,
    kind: &str,
    reason: &str,
) {
    let risen = watch(server).await;
    let text = message.to_string();
    client.text(&text).await;
    let rejected = format!(r#"messages_rejected_total{{kind="{kind}",reason="{reason}"}}"#);
    let what = format!("{rejected} for {text}");
    // The broker rejects a full channel after the session has accepted the message.
    let received = if reason == "roster_full" { "subscribe" } else { "rejected" };
    let expected = rise([
        (&rejected, 1),
        (&format!(r#"messages_received_total{{kind="{received}"}}"#), 1),
        (&format!(r#"bytes_received_total{{kind="{received}"}}"#), text.len()),
    ]);
    let counted = async || -> Rise {
        risen().await.into_iter().filter(|(series, _)| !series.contains("_sent_")).collect()
    };
    eventually(&what, async || counted().await.len() == expected.len()).await;
    assert_eq!(counted().await, expected, "{what}");
}

#[tokio::test]
async fn ended_connections_are_counted_by_reason_and_code() {
    let server = settings()
        .app("max_connections", 1)
        .app("allowed_origins", r#"["a.example"]"#)
        .connection("max_message_bytes", 1_024)
        .add_app("4", "key-of-4", "secret-of-4")
        .app("enabled", false)
        .start()
        .await;
    let ended = |reason: &str, code: u16| {
        format!(r#"connections_ended_total{{reason="{reason}",code="{code}"}}"#)
    };
    let origin = [("origin", "https://b.example")];
    let target = format!("/app/{KEY}?protocol=7");
    for (target, headers, reason, code) in [
        ("/app/nope", &[][..], "app_not_found", 4001),
        ("/app/key-of-4", &[], "app_disabled", 4003),
        (&format!("/app/{KEY}?protocol=3"), &[], "version", 4007),
        (&target, &origin, "origin_not_allowed", 4009),
    ] {
        let risen = watch(&server).await;
        let mut client = server.open_with(target, headers).await;
        let received_code = client.closed_eventually().await.0;
        assert_eq!(received_code, code);
        let of_ends = async || -> Rise {
            risen().await.into_iter().filter(|(series, _)| series.contains("_ended_")).collect()
        };
        eventually(reason, async || !of_ends().await.is_empty()).await;
        assert_eq!(of_ends().await, rise([(&ended(reason, received_code), 1)]));
    }
    let close = |code: u16| frames::masked(frames::FIN | frames::CLOSE, &code.to_be_bytes());
    let long = frames::text("x".repeat(1_025));
    for (bytes, reason, code) in [
        (close(1_000), "closed_by_client", 1_000),
        (close(1_001), "closed_by_client", 1_001),
        (frames::masked(frames::FIN | frames::CLOSE, b""), "closed_by_client", 1_005),
        (close(4_321), "closed_by_client", 0),
        (long, "message_too_big", 1_009),
        (frames::unmasked(frames::FIN | frames::TEXT, b"{}"), "not_websocket", 1_002),
        (frames::text(b"\xff"), "not_utf8", 1_007),
        (Vec::new(), "disconnected", 0),
    ] {
        let risen = watch(&server).await;
        let mut client = server.client().await;
        let over_quota = server.open(&target).await.closed_eventually().await.0;
        assert_eq!(over_quota, 4_004);
        if bytes.is_empty() {
            drop(client);
        } else {
            client.bytes(bytes).await;
            while !matches!(client.frame().await, None | Some(Frame::Close(..))) {}
            drop(client);
        }
        server.wait_for_connections(0).await;
        let expected = rise([(&ended("over_quota", 4_004), 1), (&ended(reason, code), 1)]);
        let of_ends = async || -> Rise {
            risen().await.into_iter().filter(|(series, _)| series.contains("_ended_")).collect()
        };
        eventually(reason, async || of_ends().await.len() == 2).await;
        assert_eq!(of_ends().await, expected);
    }
}

#[tokio::test]
async fn gauges_follow_connections_subscriptions_and_channels() {
    let server =
        settings().add_app("4", "key-of-4", "secret-of-4").server("shards", 2).start().await;
    let shows = async |connections: usize, subscriptions: usize, channels: usize| {
        eventually("the gauges follow", async || {
            let page = server.metrics_page().await;
            let has = |name: &str, app: &str, value: usize| {
                page.lines()
                    .any(|line| line == format!(r#"campanile_{name}{{app="{app}"}} {value}"#))
            };
            let of_shards =
                page.lines().filter(|line| line.starts_with("campanile_shard_connections{"));
            let of_shards: Vec<usize> = of_shards
                .map(|line| line.rsplit_once(' ').expect("a value").1.parse().expect("a number"))
                .collect();
            has("connections", "3", connections)
                && has("subscriptions", "3", subscriptions)
                && has("channels", "3", channels)
                && has("connections", "4", 0)
                && of_shards.len() == 2
                && of_shards.iter().sum::<usize>() == connections
        })
        .await;
    };
    shows(0, 0, 0).await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    for client in [&mut first, &mut second] {
        client.subscribe("a").await;
    }
    first.subscribe("b").await;
    shows(2, 3, 2).await;
    first.unsubscribe("b").await;
    shows(2, 2, 1).await;
    drop(first);
    shows(1, 1, 1).await;
    drop(second);
    shows(0, 0, 0).await;
}

#[tokio::test]
async fn events_dropped_from_the_cache_are_counted_by_reason() {
    let server = settings().app("max_cache_bytes", 5_000).start().await;
    let dropped =
        |reason: &str| format!(r#"cache_events_dropped_total{{app="3",reason="{reason}"}}"#);
    let data = "x".repeat(3_000);
    for (channel, data, reason) in [
        ("cache-a", data.clone(), None),
        ("cache-b", data, Some("evicted")),
        ("cache-c", "x".repeat(5_001), Some("too_large")),
    ] {
        let risen = watch(&server).await;
        server.publish(channel, "e", &data).await;
        let mut expected = rise([(r#"publishes_total{status="200"}"#, 1)]);
        expected.extend(reason.map(|reason| (format!("campanile_{}", dropped(reason)), 1)));
        eventually(channel, async || risen().await.len() == expected.len()).await;
        assert_eq!(risen().await, expected, "{channel}");
    }
    let page = server.metrics_page().await;
    let bytes =
        page.lines().find_map(|line| line.strip_prefix(r#"campanile_cache_bytes{app="3"} "#));
    let bytes: usize = bytes.expect("a gauge").parse().expect("a number");
    assert!((3_000..=5_000).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn reloads_are_counted_by_result_and_the_load_time_is_that_of_the_last_success() {
    let server = settings().start().await;
    let loaded_at = async || -> u64 {
        let page = server.metrics_page().await;
        let name = "campanile_config_last_load_timestamp_seconds ";
        page.lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a gauge")
            .parse()
            .expect("seconds")
    };
    let started = loaded_at().await;
    let result = |result: &str| format!(r#"config_reloads_total{{result="{result}"}}"#);
    // The metric counts seconds.
    eventually("another second", async || started < unix_now()).await;
    for text in ["nonsense", "[server]\nmax_connections = -1\n"] {
        let risen = watch(&server).await;
        server.reload_text(text).await;
        expect("a rejected reload", risen, [(&result("rejected"), 1)]).await;
    }
    assert_eq!(loaded_at().await, started, "the configuration is still the first");
    let risen = watch(&server).await;
    server.reload(&settings().server("max_connections", 77)).await;
    expect("a reload", risen, [(&result("success"), 1)]).await;
    assert!(started < loaded_at().await);
    let page = server.metrics_page().await;
    assert!(page.contains("\ncampanile_max_connections 77\n"), "{page}");
}

#[tokio::test]
async fn repeated_publishes_are_counted_for_each_channel() {
    let server = settings().start().await;
    let risen = watch(&server).await;
    let event = json!({ "name": "e", "channels": ["a", "b"], "data": "1", "idempotency_key": "k" });
    for _ in 0..3 {
        server.publish_event(event.clone()).await;
    }
    let publishes = r#"publishes_total{status="200"}"#;
    let expected = [("repeated_publishes_total", 4), (publishes, 3)];
    expect("three publishes with one key", risen, expected).await;
}
