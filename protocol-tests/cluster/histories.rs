//! The history of channels on several nodes. What one node promises holds on two as well: `conformance/history.rs`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Group, RECOVERY_MAX};
use kit::{Redis, Server, Settings, becomes_unready, cluster_settings, eventually, quoted};

const C: &str = "private-ai.1";

/// Settings with a history of the channel, for as long and with as many events as given.
fn kept(seconds: u32, events: u32, replay: &str) -> Settings {
    let rule = format!(
        r#"{{ prefix = "private-ai.", seconds = {seconds}, events = {events}, replay = {replay:?} }}"#
    );
    cluster_settings().app("history", format!("[{rule}]"))
}

async fn publish(node: &Server, numbers: std::ops::Range<u32>) {
    for number in numbers {
        node.publish(C, "e", &number.to_string()).await;
    }
}

async fn history(node: &Server, query: &[(&str, &str)]) -> Value {
    let reply = node.get(&format!("channels/{C}/history"), query).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The data of the events of a page.
fn data(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("a list");
    items.iter().map(|item| item["message"]["data"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn what_one_node_publishes_without_subscribers_is_read_from_another() {
    let group = Group::with(2, kept(60, 500, "first"), Redis::start().await).await;
    let [a, b] = [&group.nodes[0], &group.nodes[1]];
    publish(a, 0..3).await;
    let page = history(b, &[]).await;
    assert_eq!(data(&page), ["2", "1", "0"]);
    assert_eq!(page["continuity"]["complete"], true);
    assert_eq!(a.channel(C, "").await["occupied"], false);
    let mut client = b.client().await;
    client.subscribe(C).await;
    publish(a, 3..4).await;
    for number in 0..4 {
        client.expect_event(C, "e", &number.to_string()).await;
    }
    // It is vacated, and its history goes on.
    client.unsubscribe(C).await;
    publish(b, 4..5).await;
    let next = [("direction", "forward"), ("limit", "2")];
    let page = history(a, &next).await;
    let cursor = page["next_cursor"].as_str().expect("there are more");
    let page = history(b, &[next[0], ("cursor", cursor)]).await;
    assert_eq!(data(&page), ["2", "3", "4"]);
}

#[tokio::test]
async fn a_history_ends_after_its_time() {
    let group = Group::with(2, kept(1, 500, "first"), Redis::start().await).await;
    let [a, b] = [&group.nodes[0], &group.nodes[1]];
    publish(a, 0..2).await;
    assert_eq!(data(&history(b, &[]).await), ["1", "0"]);
    eventually("the history is empty", async || data(&history(b, &[]).await).is_empty()).await;
    publish(b, 2..3).await;
    let mut client = a.client().await;
    client.subscribe(C).await;
    client.expect_event(C, "e", "2").await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn a_history_has_its_latest_events() {
    let group = Group::with(2, kept(60, 2, "first"), Redis::start().await).await;
    let [a, b] = [&group.nodes[0], &group.nodes[1]];
    publish(a, 0..5).await;
    let page = history(b, &[]).await;
    assert_eq!(data(&page), ["4", "3"]);
    assert_eq!(page["continuity"]["truncated_by_retention"], true);
    let mut client = b.client().await;
    client.subscribe(C).await;
    client.expect_event(C, "e", "3").await;
    client.expect_event(C, "e", "4").await;
    client.ping_barrier().await;
}

/// Publishes before and after Redis has died and restarted. Returns the status for a cursor from before, and the page without one.
async fn over_a_restart(redis: Redis) -> (u16, Value) {
    let mut group = Group::with(2, kept(60, 500, "never"), redis).await;
    publish(&group.nodes[0], 0..3).await;
    let first = [("direction", "forward"), ("limit", "1")];
    let page = history(&group.nodes[1], &first).await;
    let cursor = page["next_cursor"].as_str().expect("there are more").to_owned();
    let stream = page["continuity"]["stream_id"].clone();
    group.redis.kill();
    for node in &group.nodes {
        becomes_unready(node, RECOVERY_MAX).await;
        let reply = node.get(&format!("channels/{C}/history"), &[]).await;
        assert_eq!(reply.status, 503, "as of other requests that need Redis: {reply}");
    }
    group.redis.start_again().await;
    group.are_ready(2 * RECOVERY_MAX).await;
    publish(&group.nodes[1], 3..4).await;
    let node = &group.nodes[0];
    let query = [first[0], ("cursor", &*cursor)];
    let reply = node.get(&format!("channels/{C}/history"), &query).await;
    let page = history(node, &[]).await;
    if page["continuity"]["stream_id"] == stream {
        assert_eq!((reply.status, data(&reply.json())), (200, vec!["1", "2", "3"]));
    } else {
        assert!(reply.error(400).contains("events that were lost"), "{reply}");
    }
    (reply.status, page)
}

#[tokio::test]
async fn a_history_outlives_a_restart_of_redis_with_its_data() {
    // Whether it is certain that no event was lost depends on when the nodes return.
    let (_, page) = over_a_restart(Redis::start_persistent().await).await;
    assert_eq!(data(&page), ["3", "2", "1", "0"]);
}

#[tokio::test]
async fn a_cursor_of_a_history_that_redis_has_lost_is_an_error() {
    let (status, page) = over_a_restart(Redis::start().await).await;
    assert_eq!((status, data(&page)), (400, vec!["3"]));
    assert_eq!(page["continuity"]["complete"], false);
}

#[tokio::test]
async fn events_without_subscribers_that_redis_has_lost_are_a_gap_and_their_serials_are_not_used_again()
 {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let settings = kept(60, 500, "never").section("connection", "presence_grace_s", 0);
    let mut group = Group::with(2, settings, Redis::start().await).await;
    let mut client = group.nodes[1].client_with_token(TOKEN).await;
    client.subscribe(C).await;
    publish(&group.nodes[0], 0..1).await;
    client.expect_event(C, "e", "0").await;
    client.acknowledge().await;
    drop(client);
    let mut redis = group.redis.client().await;
    eventually("no node receives the channel", async || {
        redis.command(&["PUBSUB", "CHANNELS", &format!("*:{C}")]).await.texts().is_empty()
    })
    .await;
    publish(&group.nodes[0], 1..3).await;
    redis.command(&["SAVE"]).await;
    publish(&group.nodes[0], 3..6).await;
    let newest = history(&group.nodes[1], &[("limit", "2")]).await;
    assert_eq!(data(&newest), ["5", "4"]);
    let oldest = [("direction", "forward"), ("limit", "1")];
    let page = history(&group.nodes[1], &oldest).await;
    let cursor = page["next_cursor"].as_str().expect("there are more").to_owned();
    // For up to 10 s, nodes know the sequences of all events that they have published.
    tokio::time::sleep(Duration::from_secs(11)).await;
    group.redis.kill();
    for node in &group.nodes {
        becomes_unready(node, RECOVERY_MAX).await;
    }
    group.redis.start_again().await;
    group.are_ready(2 * RECOVERY_MAX).await;
    publish(&group.nodes[1], 6..7).await;
    let page = history(&group.nodes[0], &[]).await;
    assert_eq!(data(&page), ["6"], "nothing before an event that was lost");
    let serial = |page: &Value| page["items"][0]["serial"].as_u64().expect("a number");
    let query = [oldest[0], ("cursor", &*cursor)];
    let reply = group.nodes[0].get(&format!("channels/{C}/history"), &query).await;
    if page["continuity"]["stream_id"] == newest["continuity"]["stream_id"] {
        assert!(serial(&newest) < serial(&page), "{newest} {page}");
        assert_eq!(reply.json()["continuity"]["truncated_by_retention"], true, "{reply}");
    } else {
        assert!(reply.error(400).contains("events that were lost"), "{reply}");
    }
    let mut client = group.nodes[0].client_with_token(TOKEN).await;
    client.subscribe(C).await;
    assert_eq!(client.next().await["event"], "campanile:gap");
}

#[tokio::test]
async fn a_changed_history_applies_after_a_reload() {
    let group = Group::with(2, cluster_settings(), Redis::start().await).await;
    let [a, b] = [&group.nodes[0], &group.nodes[1]];
    let mut before = b.client().await;
    before.subscribe(C).await;
    publish(a, 0..1).await;
    before.expect_event(C, "e", "0").await;
    let reply = b.get(&format!("channels/{C}/history"), &[]).await;
    assert!(reply.error(404).contains("No history"));
    let reload = async |settings: Settings| {
        let settings = settings.section("redis", "url", quoted(&group.redis.url()));
        for node in [a, b] {
            let reply = node.reload(&settings).await;
            assert!(reply.contains(" INFO "), "{reply}");
        }
    };
    reload(kept(60, 500, "first")).await;
    publish(a, 1..3).await;
    assert_eq!(data(&history(b, &[]).await), ["2", "1"]);
    let mut client = b.client().await;
    client.subscribe(C).await;
    client.expect_event(C, "e", "1").await;
    client.expect_event(C, "e", "2").await;
    client.ping_barrier().await;
    reload(cluster_settings()).await;
    let reply = b.get(&format!("channels/{C}/history"), &[]).await;
    assert!(reply.error(404).contains("No history"));
    let mut client = b.client().await;
    client.subscribe(C).await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn a_cache_channel_with_a_history_sends_its_last_event_once() {
    let settings = cluster_settings()
        .app("history", r#"[{ prefix = "cache-", seconds = 60, replay = "first" }]"#);
    let group = Group::with(2, settings, Redis::start().await).await;
    let [a, b] = [&group.nodes[0], &group.nodes[1]];
    for number in 0..2 {
        a.publish("cache-c", "e", &number.to_string()).await;
    }
    let mut client = b.client().await;
    client.subscribe("cache-c").await;
    for number in 0..2 {
        client.expect_event("cache-c", "e", &number.to_string()).await;
    }
    client.ping_barrier().await;
    let mut client = b.client().await;
    client.subscribe("cache-d").await;
    assert_eq!(client.next().await["event"], json!("pusher:cache_miss"));
}
