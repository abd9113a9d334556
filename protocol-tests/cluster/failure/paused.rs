//! A node is paused or disconnected for longer than `node_timeout_ms`, and its clients leave
//! meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Group, Listener, RECOVERY_MAX, View, assert_view_everywhere};
use kit::webhook_receiver::WebhookReceiver;
use kit::{
    LinkFault, Proxy, Redis, Server, Settings, becomes_ready, cluster_settings, inner, node,
};

/// The shortest `node_timeout_ms` that can be configured.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(7);
/// The time after the pause within which the state must be right.
const RIGHT: Duration = Duration::from_secs(15);
const PUBLIC: usize = 20;
const PRESENCE: usize = 20;
const USERS: usize = 6;

#[tokio::test]
async fn clients_of_a_paused_node_leave_no_state() {
    pause_last_of(3).await;
}

/// Like the previous test, but the node is alone: no other node declares it dead.
#[tokio::test]
async fn clients_of_a_single_paused_node_leave_no_state() {
    pause_last_of(1).await;
}

/// Pauses the last of `nodes` nodes while its clients leave, then resumes it.
async fn pause_last_of(nodes: usize) {
    let mut receiver = WebhookReceiver::new().await;
    let group = Group::with(nodes, settings(&receiver), Redis::start().await).await;
    let watcher = watcher(&group.nodes[0]).await;
    let paused = &group.nodes[nodes - 1];
    let clients = arrive(paused, &watcher).await;
    paused.signal("STOP");
    drop(clients);
    tokio::time::sleep(PAUSE).await;
    paused.signal("CONT");
    assert_view_everywhere(&group.addresses(), RIGHT, &only_the_watcher()).await;
    receives_departures(&watcher).await;
    all_vacated(&mut receiver).await;
}

/// The clients of a disconnected node leave before the node detects that it was declared dead.
#[tokio::test]
async fn clients_that_leave_while_their_node_is_disconnected_leave_no_state() {
    let mut receiver = WebhookReceiver::new().await;
    let redis = Redis::start().await;
    let proxy = Proxy::in_front_of(redis.address()).await;
    let near = node(&settings(&receiver), &redis.url()).await;
    let far = node(&settings(&receiver), &proxy.url()).await;
    let watcher = watcher(&near).await;
    let mut clients = arrive(&far, &watcher).await;
    let late = clients.split_off(clients.len() / 2);
    proxy.set(LinkFault::DropBoth);
    drop(clients);
    tokio::time::sleep(NODE_TIMEOUT + Duration::from_secs(2)).await;
    proxy.set(LinkFault::None);
    drop(late);
    becomes_ready(&far, RECOVERY_MAX).await;
    let addresses = [near.address, far.address];
    assert_view_everywhere(&addresses, RIGHT, &only_the_watcher()).await;
    receives_departures(&watcher).await;
    all_vacated(&mut receiver).await;
}

fn settings(receiver: &WebhookReceiver) -> Settings {
    let webhook = format!(
        r#"[{{ url = "{}", events = ["channel_occupied", "channel_vacated"] }}]"#,
        receiver.url()
    );
    cluster_settings()
        .section("redis", "node_timeout_ms", NODE_TIMEOUT.as_millis())
        .app("webhooks", webhook)
}

fn presence() -> impl Iterator<Item = String> {
    (0..PRESENCE).map(|number| format!("presence-{number}"))
}

fn public() -> impl Iterator<Item = String> {
    (0..PUBLIC).map(|number| format!("public-{number}"))
}

/// A listener on the presence channels and the watchlist.
async fn watcher(node: &Server) -> Listener {
    let watcher = Listener::of(node).await;
    for channel in presence() {
        watcher.join(&channel, "watcher").await;
    }
    let users: Vec<String> = (0..USERS).map(|user| format!("u{user}")).collect();
    watcher.sign_in(&json!({ "id": "watcher", "watchlist": users }));
    // A user that signs in before its state was read would be reported as online only.
    watcher
        .until("all are offline at first", RECOVERY_MAX, |_| reported(&watcher, "offline") == USERS)
        .await;
    watcher
}

/// Connects clients that are subscribed to all channels, some of them signed in. Waits until the
/// watcher has received them.
async fn arrive(node: &Server, watcher: &Listener) -> Vec<Listener> {
    let mut clients = Vec::new();
    for user in 0..USERS {
        let client = Listener::of(node).await;
        client.sign_in(&json!({ "id": format!("u{user}") }));
        for (number, channel) in public().enumerate() {
            if number % USERS == user {
                client.subscribe(&channel).await;
            }
        }
        for (number, channel) in presence().enumerate() {
            if number % USERS == user {
                client.join(&channel, "gone").await;
            }
        }
        clients.push(client);
    }
    for channel in presence() {
        watcher.receives("pusher_internal:member_added", &channel, 1, RECOVERY_MAX).await;
    }
    watcher.until("all are online", RECOVERY_MAX, |_| reported(watcher, "online") == USERS).await;
    clients
}

fn only_the_watcher() -> View {
    let empty = View::default().with_connections(1);
    presence().fold(empty, |view, channel| view.with_users(&channel, &["watcher"]))
}

/// Checks that the watcher received one removal of each member, and that every user is offline.
async fn receives_departures(watcher: &Listener) {
    for channel in presence() {
        watcher.receives("pusher_internal:member_removed", &channel, 1, RECOVERY_MAX).await;
    }
    // All users were offline when the watcher signed in.
    watcher
        .until("all are offline", RECOVERY_MAX, |_| reported(watcher, "offline") == 2 * USERS)
        .await;
    watcher.ping_barrier().await;
    for channel in presence() {
        let added = watcher.count("pusher_internal:member_added", &channel);
        let removed = watcher.count("pusher_internal:member_removed", &channel);
        assert_eq!(added, removed, "{channel}: {}", watcher.tail(40));
    }
    assert_eq!(watcher.closed(), None);
}

/// How many users were reported to a watcher in watchlist events with this name.
fn reported(watcher: &Listener, name: &str) -> usize {
    let received = watcher.received();
    let messages =
        received.iter().filter_map(|entry| entry.message("pusher_internal:watchlist_events", None));
    let of_message = |message: &serde_json::Value| {
        let events = inner(message)["events"].as_array().cloned().unwrap_or_default();
        let named = events.into_iter().filter(|event| event["name"] == name);
        named.map(|event| event["user_ids"].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    messages.map(of_message).sum()
}

/// Checks that the webhooks report each public channel as vacated, and alternate.
async fn all_vacated(receiver: &mut WebhookReceiver) {
    let mut occupied: BTreeMap<String, bool> = BTreeMap::new();
    let start = Instant::now();
    loop {
        while receiver.taken() < receiver.count() {
            for event in receiver.next().await.events() {
                let channel = event["channel"].as_str().expect("it has a channel").to_owned();
                let is_occupied = event["name"] == "channel_occupied";
                let before = occupied.insert(channel, is_occupied);
                assert_ne!(before.unwrap_or(false), is_occupied, "twice: {event}");
            }
        }
        let open: Vec<String> =
            public().filter(|name| occupied.get(name) != Some(&false)).collect();
        if open.is_empty() {
            return;
        }
        assert!(start.elapsed() < RIGHT, "not vacated: {open:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
