//! The console of one node shows the others.

use std::time::Duration;

use serde_json::{Value, json};

use kit::{APP_ID, ConsoleSession, Redis, Server, Settings, quoted};

use crate::support::Monitor;

const PASSWORD: &str = "correct horse";

async fn two_nodes(redis: &Redis) -> (Server, Server) {
    let settings = Settings::new().section("console", "password", quoted(PASSWORD));
    let first = kit::node(&settings, &redis.url()).await;
    let second = kit::node(&settings, &redis.url()).await;
    (first, second)
}

#[tokio::test]
async fn events_of_a_watched_channel_arrive_from_every_node() {
    let redis = Redis::start().await;
    let (first, second) = two_nodes(&redis).await;
    let mut page = ConsoleSession::log_in(first.address, None, PASSWORD).await.page().await;
    let params = json!({"app": APP_ID, "channel": "presence-room"});
    let (watch, state) = page.watch("channel", params).await;
    assert_eq!((&state["occupied"], &state["users"]), (&json!(false), &json!([])));
    let channel = second.channel("presence-room", "subscription_count").await;
    assert_eq!(channel["subscription_count"], 0, "a watch is no subscription");
    let is_event =
        |name: &'static str| move |data: &Value| data["type"] == "event" && data["event"] == name;
    // No node has a subscriber. The subscription of the watch is not confirmed to the page.
    kit::eventually("an event of the other node arrives", async || {
        second.publish("presence-room", "first", "1").await;
        page.saw(watch, is_event("first")).await
    })
    .await;
    let mut client = second.client().await;
    client.join("presence-room", "7").await;
    page.data_where(watch, |data| data["type"] == "members").await;
    second.publish("presence-room", "second", "1").await;
    page.data_where(watch, is_event("second")).await;
    client.whisper("client-x", "presence-room", json!("1")).await;
    let event = page.data_where(watch, is_event("client-x")).await;
    assert_eq!((&event["from"], &event["user_id"]), (&json!("client"), &json!("7")));
    // With a subscriber on the node of the page, each event arrives once.
    let mut local = first.client().await;
    local.join("presence-room", "8").await;
    page.data_where(watch, |data| data["type"] == "members").await;
    second.publish("presence-room", "third", "1").await;
    second.publish("presence-room", "fourth", "1").await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|name| name != "fourth") {
        let event = page.data_where(watch, |data| data["type"] == "event").await;
        seen.push(event["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["third", "fourth"]);
    // When that subscriber has left, the watch goes on.
    local.unsubscribe("presence-room").await;
    page.data_where(watch, |data| data["type"] == "members").await;
    kit::eventually("events arrive again", async || {
        second.publish("presence-room", "fifth", "1").await;
        page.saw(watch, is_event("fifth")).await
    })
    .await;
}

#[tokio::test]
async fn the_overview_has_all_nodes_and_costs_no_command_while_nobody_looks() {
    let redis = Redis::start().await;
    let (first, second) = two_nodes(&redis).await;
    let mut client = second.client().await;
    client.subscribe("a").await;
    let session = ConsoleSession::log_in(first.address, None, PASSWORD).await;
    let mut page = session.page().await;
    let (watch, state) = page.watch("overview", json!({})).await;
    assert_eq!(state["nodes"][0]["is_this"], true);
    assert_eq!(state["redis"]["connected"], true);
    let both = page.data_where(watch, |data| data["nodes"].as_array().unwrap().len() == 2).await;
    let other = &both["nodes"][1];
    assert_eq!((&other["is_this"], &other["ready"]), (&json!(false), &json!(true)));
    assert_eq!((&other["connections"], &other["subscriptions"]), (&json!(1), &json!(1)));
    assert_ne!(other["node"], both["nodes"][0]["node"]);
    page.unwatch(watch).await;
    drop(page);
    // Reports are sent for a few seconds after the last request for them.
    let mut monitor = Monitor::start(&redis).await;
    let mut has_seen_some = false;
    kit::eventually("no more reports are published", async || {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let lines = monitor.since_last().await;
        let is_report = |line: &&String| line.contains(r#""W""#) || line.contains(r#""I "#);
        let reports = lines.iter().filter(is_report).count();
        has_seen_some |= 0 < reports;
        reports == 0
    })
    .await;
    assert!(has_seen_some, "the test knows what a report looks like");
}
