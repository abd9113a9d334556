//! The console of one node shows the others.

use std::time::Duration;

use serde_json::{Value, json};

use kit::webhook_receiver::WebhookReceiver;
use kit::{APP_ID, ConsolePage, ConsoleSession, KEY, ORIGIN, Redis, Server, Settings, quoted};

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

/// A session at another node than the one that has opened it.
fn at(session: &ConsoleSession, server: &Server) -> ConsoleSession {
    ConsoleSession { address: server.address, ..session.clone() }
}

#[tokio::test]
async fn every_node_accepts_a_session_until_it_is_ended_on_one() {
    let redis = Redis::start().await;
    let (first, second) = two_nodes(&redis).await;
    let session = ConsoleSession::log_in(first.address, None, PASSWORD).await;
    let kept = ConsoleSession::log_in(first.address, None, PASSWORD).await;
    let elsewhere = at(&session, &second);
    let described = elsewhere.request("GET", "session", &[]).await;
    assert_eq!(described.status, 200, "{described}");
    assert_eq!(described.json()["csrf"], session.csrf);
    let mut page = elsewhere.page().await;
    page.watch("overview", json!({})).await;
    let headers = [("origin", ORIGIN), ("x-csrf-token", session.csrf.as_str())];
    assert_eq!(elsewhere.request("POST", "logout", &headers).await.status, 204);
    kit::eventually("the session has ended on the other node", async || {
        session.request("GET", "session", &[]).await.status == 401
    })
    .await;
    assert_eq!(page.closed().await.0, 1008);
    // A node that starts later knows it as well.
    let settings = Settings::new().section("console", "password", quoted(PASSWORD));
    let third = kit::node(&settings, &redis.url()).await;
    assert_eq!(at(&session, &third).request("GET", "session", &[]).await.status, 401);
    assert_eq!(at(&kept, &third).request("GET", "session", &[]).await.status, 200);
}

fn app() -> Value {
    json!({"app": APP_ID})
}

/// A page at a node that knows another one, and the name of that node.
async fn page_at(server: &Server) -> (ConsolePage, String) {
    let session = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    let mut page = session.page().await;
    let (watch, mut state) = page.watch("connections", app()).await;
    while state["nodes"] != json!({"asked": 2, "answered": 2}) {
        state = page.data(watch).await;
    }
    page.unwatch(watch).await;
    let node = session.described["node"].as_str().expect("a node has a name");
    (page, node.to_owned())
}

#[tokio::test]
async fn connections_of_every_node_are_listed_and_watched_and_closed() {
    let redis = Redis::start().await;
    let (first, second) = two_nodes(&redis).await;
    let mut client = second.client().await;
    let mut own = first.client().await;
    client.subscribe("a").await;
    own.subscribe("a").await;
    let (mut page, _) = page_at(&first).await;
    let (_, other) = page_at(&second).await;
    let (lists, state) = page.watch("connections", app()).await;
    assert_eq!((&state["total"], &state["nodes"]["answered"]), (&json!(2), &json!(2)), "{state}");
    let of = |state: &Value, list: &str| {
        let items = state[list].as_array().unwrap().clone();
        items.into_iter().find(|item| item["socket_id"] == client.socket_id.as_str())
    };
    assert_eq!(of(&state, "connections").unwrap()["node"], other);
    let params = json!({"app": APP_ID, "socket_id": client.socket_id});
    let (watch, story) = page.watch("connection", params.clone()).await;
    assert_eq!((&story["channels"], &story["node"]), (&json!(["a"]), &json!(other)));
    first.publish("a", "e", "1").await;
    let message = page.data_where(watch, |data| data["type"] == "out").await;
    assert_eq!(message["event"], "e");
    page.call("disconnect", params.clone()).await;
    let end = page.data_where(watch, |data| data["type"] == "closed").await;
    assert_eq!(end["code"], 4009);
    let closed = page.data_where(lists, |state| of(state, "closed").is_some()).await;
    assert_eq!(of(&closed, "closed").unwrap()["node"], other);
    let error = page.try_call("disconnect", params.clone()).await.unwrap_err();
    assert_eq!(error, "no such connection is open");
    let (_, story) = page.watch("connection", params).await;
    assert_eq!((&story["code"], &story["channels"]), (&json!(4009), &json!(["a"])));
    let unknown = json!({"app": APP_ID, "socket_id": "1.2"});
    page.try_watch("connection", unknown).await.unwrap_err();
    let (_, overview) = page.watch("overview", json!({})).await;
    assert_eq!(overview["apps"][0]["id"], APP_ID);
}

#[tokio::test]
async fn records_of_every_node_are_shown_and_webhooks_sent_again_by_the_node_that_sent_them() {
    let mut receiver = WebhookReceiver::new().await;
    let toml =
        format!("[{{ url = {}, events = [\"channel_occupied\"] }}]", quoted(&receiver.url()));
    let settings = Settings::new().section("console", "password", quoted(PASSWORD));
    let settings = settings.app("webhooks", toml).app("console_password", quoted("of one app"));
    let redis = Redis::start().await;
    let first = kit::node(&settings, &redis.url()).await;
    let second = kit::node(&settings, &redis.url()).await;
    let mut pages = [page_at(&first).await, page_at(&second).await];
    let names: Vec<_> = pages.iter().map(|(_, name)| name.clone()).collect();
    let mut client = second.client().await;
    let auth = format!("{KEY}:{}", "0".repeat(64));
    client.command("pusher:subscribe", json!({"channel": "private-a", "auth": auth})).await;
    assert_eq!(client.next().await["event"], "pusher:subscription_error");
    assert_eq!(client.next().await["event"], "pusher:error");
    client.subscribe("occupied").await;
    let sent = receiver.next().await;
    for (page, _) in &mut pages {
        let (_, failed) = page.watch("authorizations", app()).await;
        assert_eq!(
            (&failed[0]["channel"], &failed[0]["node"]),
            (&json!("private-a"), &json!(names[1]))
        );
        let (watch, attempts) = page.watch("webhooks", app()).await;
        let attempt =
            if attempts[0].is_object() { attempts[0].clone() } else { page.data(watch).await };
        assert!(names.contains(&attempt["node"].as_str().unwrap().to_owned()), "{attempt}");
        let params = json!({"app": APP_ID, "id": attempt["id"], "node": attempt["node"]});
        assert_eq!(page.call("resend_webhook", params).await, json!({"status": 200}));
        assert_eq!(receiver.next().await.body, sent.body);
        page.unwatch(watch).await;
    }
    let (page, _) = &mut pages[0];
    let (log, _) = page.watch("log", json!({})).await;
    second
        .reload(&settings.server("shards", 3).section("redis", "url", quoted(&redis.url())))
        .await;
    let is_setting = |data: &Value| data["fields"]["key"] == "server.shards";
    assert_eq!(page.data_where(log, is_setting).await["node"], names[1]);
    // A session of one app asks the other nodes for no more than it may see here.
    let of_app = ConsoleSession::log_in(first.address, Some(APP_ID), "of one app").await;
    let mut page = of_app.page().await;
    page.try_watch("log", json!({})).await.unwrap_err();
    page.try_watch("connections", json!({"app": "another"})).await.unwrap_err();
    let (_, attempts) = page.watch("webhooks", app()).await;
    assert!(!attempts.as_array().unwrap().is_empty());
}
