//! Cases of `docs/protocol.md#cases-cache-and-counts`.

use std::time::{Duration, Instant};

use serde_json::json;

use kit::{COUNT, Server, Settings, eventually, inner};

use crate::Start as _;

#[tokio::test]
async fn k01_an_empty_cache_channel_is_a_cache_miss() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("cache-x").await;
    client
        .expect(json!({ "event": "pusher:cache_miss", "channel": "cache-x", "data": "{}" }))
        .await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn k02_a_later_subscriber_receives_the_last_event() {
    let server = Settings::new().start().await;
    server.publish("cache-x", "t", "0").await;
    server.publish("cache-x", "u", "1").await;
    remembers_u(&server, "cache-x").await;
}

#[tokio::test]
async fn k03_the_excluded_socket_does_not_apply_to_the_cached_event() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let event =
        json!({ "name": "u", "channel": "cache-x", "data": "1", "socket_id": client.socket_id });
    server.publish_event(event).await;
    client.subscribe("cache-x").await;
    client.expect_event("cache-x", "u", "1").await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn k04_a_client_event_is_not_cached() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut bystander) =
        (server.client().await, server.client().await, server.client().await);
    for client in [&mut a, &mut bystander] {
        client.subscribe("private-cache-x").await;
        client.expect_event("private-cache-x", "pusher:cache_miss", "{}").await;
    }
    a.whisper("client-x", "private-cache-x", json!({})).await;
    bystander.expect_event("private-cache-x", "client-x", "{}").await;
    b.subscribe("private-cache-x").await;
    b.expect_event("private-cache-x", "pusher:cache_miss", "{}").await;
    b.ping_barrier().await;
}

#[tokio::test]
async fn k05_the_cached_event_expires() {
    let server = Settings::new().app("cache_ttl_s", 1).start().await;
    server.publish("cache-x", "u", "1").await;
    remembers_u(&server, "cache-x").await;
    let forgotten = async || server.channel("cache-x", "cache").await["cache"].is_null();
    eventually("the event is forgotten", forgotten).await;
    let mut client = server.client().await;
    client.subscribe("cache-x").await;
    client.expect_event("cache-x", "pusher:cache_miss", "{}").await;
}

#[tokio::test]
async fn k06_the_cached_event_outlives_the_subscribers() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("cache-x").await;
    client.expect_event("cache-x", "pusher:cache_miss", "{}").await;
    server.publish("cache-x", "u", "1").await;
    client.expect_event("cache-x", "u", "1").await;
    client.unsubscribe("cache-x").await;
    let is_vacated = async || server.channel("cache-x", "").await == json!({ "occupied": false });
    eventually("the channel is vacated on every node", is_vacated).await;
    remembers_u(&server, "cache-x").await;
}

#[tokio::test]
async fn k07_private_and_encrypted_cache_channels_cache_their_last_event() {
    let server = Settings::new().start().await;
    for channel in ["private-cache-x", "private-encrypted-cache-x"] {
        server.publish(channel, "u", "1").await;
        remembers_u(&server, channel).await;
    }
}

#[tokio::test]
async fn k08_the_api_returns_the_cached_event_and_its_ttl() {
    let server = Settings::new().start().await;
    assert_eq!(
        server.channel("cache-x", "cache").await,
        json!({ "occupied": false, "cache": null })
    );
    server.publish("cache-x", "u", "1").await;
    let mut counts = server.channel("cache-x", "cache").await;
    let ttl = counts["cache"]["ttl"].take();
    assert!(ttl.as_u64().is_some_and(|seconds| (1..=1_800).contains(&seconds)), "ttl {ttl}");
    assert_eq!(counts, json!({ "occupied": false, "cache": { "data": "1", "ttl": null } }));
}

#[tokio::test]
async fn k09_all_subscribers_receive_the_count() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await.with_counts(), server.client().await.with_counts());
    a.subscribe("c1").await;
    a.expect(json!({
        "event": "pusher_internal:subscription_count", "channel": "c1", "data": "{\"subscription_count\":1}",
    }))
    .await;
    b.subscribe("c1").await;
    a.expect_count("c1", 2).await;
    b.expect_count("c1", 2).await;
    server.assert_no_other_events("c1", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn k09_acknowledgement_and_cached_event_precede_the_count() {
    let server = Settings::new().start().await;
    let mut client = server.client().await.with_counts();
    server.publish("cache-x", "u", "1").await;
    client.subscribe("cache-x").await;
    client.expect_event("cache-x", "u", "1").await;
    client.expect_count("cache-x", 1).await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn k10_the_remaining_subscribers_receive_the_count() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await.with_counts(), server.client().await.with_counts());
    a.subscribe("c1").await;
    a.expect_count("c1", 1).await;
    for leaves_by_closing in [false, true] {
        b.subscribe("c1").await;
        a.expect_count("c1", 2).await;
        b.expect_count("c1", 2).await;
        if leaves_by_closing {
            drop(b);
            a.expect_count("c1", 1).await;
            break;
        }
        b.unsubscribe("c1").await;
        a.expect_count("c1", 1).await;
        b.ping_barrier().await;
    }
    server.assert_no_other_events("c1", &mut [&mut a]).await;
}

#[tokio::test]
async fn k11_presence_channels_have_no_count() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await.with_counts(), server.client().await.with_counts());
    a.join("presence-r", "1").await;
    b.join("presence-r", "2").await;
    a.expect_member_added("presence-r", "2", json!({ "n": "2" })).await;
    server.assert_no_other_events("presence-r", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn k12_above_a_hundred_subscribers_the_count_is_sent_every_five_seconds() {
    let server = Settings::new().start().await;
    let mut observer = server.client().await.with_counts();
    observer.subscribe("c1").await;
    let crowd = async {
        let mut others = Vec::new();
        for _ in 1..150 {
            let mut client = server.client().await;
            client.subscribe("c1").await;
            others.push(client);
        }
        let mut churner = server.client().await;
        for _ in 0..50 {
            churner.subscribe("c1").await;
            churner.unsubscribe("c1").await;
            churner.ping_barrier().await;
        }
        others.truncate(119);
        others
    };
    let watch = async {
        for count in 1..=100 {
            observer.expect_count("c1", count).await;
        }
        let mut counts: Vec<(Instant, u64)> = Vec::new();
        while counts.last().is_none_or(|(_, count)| *count != 120) {
            let message = observer.next().await;
            assert_eq!(message["event"], COUNT);
            counts.push((Instant::now(), inner(&message)["subscription_count"].as_u64().unwrap()));
        }
        counts
    };
    let (_others, counts) = tokio::join!(crowd, watch);
    for pair in counts.windows(2) {
        let [(before, old), (after, new)] = pair else { unreachable!("windows of two") };
        // On a busy machine, the first of two messages may have been delayed more than the second.
        assert!(
            after.duration_since(*before) >= Duration::from_millis(2_500),
            "too often: {counts:?}"
        );
        assert_ne!(old, new, "sent again without a change: {counts:?}");
    }
    server.assert_no_other_events("c1", &mut [&mut observer]).await;
}

#[tokio::test]
async fn k13_an_app_without_counts_sends_none() {
    let server = Settings::new().app("subscription_count", false).start().await;
    let (mut a, mut b) = (server.client().await.with_counts(), server.client().await.with_counts());
    a.subscribe("c1").await;
    b.subscribe("c1").await;
    server.assert_no_other_events("c1", &mut [&mut a, &mut b]).await;
    b.unsubscribe("c1").await;
    b.ping_barrier().await;
    server.assert_no_other_events("c1", &mut [&mut a]).await;
}

/// Asserts that a new subscriber is acknowledged, receives `u` with "1", and nothing else.
async fn remembers_u(server: &Server, channel: &str) {
    let mut client = server.client().await;
    client.subscribe(channel).await;
    client.expect_event(channel, "u", "1").await;
    client.ping_barrier().await;
}

/// Whether a new subscriber of the channel receives an event instead of a cache miss.
async fn is_remembered(server: &Server, channel: &str) -> bool {
    let mut client = server.client().await;
    client.subscribe(channel).await;
    match client.next().await["event"].as_str() {
        Some("e") => true,
        Some("pusher:cache_miss") => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn beyond_max_cache_bytes_the_least_recently_published_event_is_evicted() {
    let server = Settings::new().app("max_cache_bytes", 300_000).start().await;
    let large = "x".repeat(95_000);
    let mut subscriber = server.client().await;
    subscriber.subscribe("cache-a").await;
    subscriber.expect_event("cache-a", "pusher:cache_miss", "{}").await;
    for channel in ["cache-a", "cache-b", "cache-c", "cache-a", "cache-d"] {
        server.publish(channel, "e", &large).await;
    }
    let is_gone = async |channel: &str| {
        let has_no_cache = server.channel(channel, "cache").await["cache"].is_null();
        has_no_cache && !is_remembered(&server, channel).await
    };
    eventually("the oldest is forgotten", async || is_gone("cache-b").await).await;
    for channel in ["cache-a", "cache-c", "cache-d"] {
        assert!(is_remembered(&server, channel).await, "{channel}");
        assert_eq!(server.channel(channel, "cache").await["cache"]["data"], json!(large));
    }
    // Subscribers do not protect a channel from eviction.
    for channel in ["cache-c", "cache-d", "cache-b"] {
        server.publish(channel, "e", &large).await;
    }
    eventually("the oldest is forgotten", async || is_gone("cache-a").await).await;
    subscriber.expect_event("cache-a", "e", &large).await;
}

#[tokio::test]
async fn an_event_larger_than_max_cache_bytes_is_delivered_and_not_cached() {
    let server = Settings::new().app("max_cache_bytes", 50_000).start().await;
    let mut subscriber = server.client().await;
    subscriber.subscribe("cache-a").await;
    subscriber.expect_event("cache-a", "pusher:cache_miss", "{}").await;
    server.publish("cache-a", "e", "old").await;
    subscriber.expect_event("cache-a", "e", "old").await;
    assert!(is_remembered(&server, "cache-a").await);
    let large = "x".repeat(60_000);
    server.publish("cache-a", "e", &large).await;
    subscriber.expect_event("cache-a", "e", &large).await;
    assert!(server.channel("cache-a", "cache").await["cache"].is_null());
    assert!(!is_remembered(&server, "cache-a").await, "the previous event is removed as well");
}
