//! `GET /apps/{id}/activity`.

use std::cell::Cell;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use kit::{Call, Server, Settings, eventually};

const HUNDRED_KB: usize = 100_000;

async fn activity(server: &Server, query: &[(&str, &str)]) -> Value {
    let reply = server.get("activity", query).await;
    assert_eq!(reply.status, 200, "{reply}");
    reply.json()
}

fn names(activity: &Value) -> Vec<&str> {
    let channels = activity["channels"].as_array().expect("a list");
    channels.iter().map(|channel| channel["channel"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn channels_are_listed_by_what_happens_in_them_meanwhile() {
    let server = Settings::new().start_node().await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    for client in [&mut one, &mut two] {
        client.subscribe("popular").await;
    }
    one.subscribe("busy").await;
    one.subscribe("idle").await;
    // These are before the period.
    for _ in 0..50 {
        server.publish("idle", "e", "1").await;
    }
    // Three events in one, two in the other, until both are answered.
    let is_answered = Cell::new(false);
    let publish = async {
        while !is_answered.get() {
            for channel in ["busy", "busy", "busy", "popular", "popular"] {
                server.publish(channel, "e", "1").await;
            }
        }
    };
    let ask = async {
        let by_events = [("interval_ms", "1000"), ("order", "events")];
        let limited = [("interval_ms", "1000"), ("limit", "1")];
        let answers = tokio::join!(activity(&server, &by_events), activity(&server, &limited));
        is_answered.set(true);
        answers
    };
    let ((by_events, limited), ()) = tokio::join!(ask, publish);
    assert_eq!(names(&by_events), ["busy", "popular", "idle"]);
    let [busy, popular, idle] = [0, 1, 2].map(|at| &by_events["channels"][at]);
    let counts = [busy, popular, idle].map(|channel| channel["events"].as_u64().expect("a number"));
    assert!(0 < counts[1] && (2 * counts[0]).abs_diff(3 * counts[1]) <= 6, "{counts:?}");
    assert_eq!(counts[2], 0);
    assert_eq!([&busy["subscriptions"], &popular["subscriptions"]], [1, 2]);
    assert_eq!(by_events["slow_connections"], json!([]));
    assert!(by_events["interval_ms"].as_u64().is_some_and(|interval| 1_000 <= interval));
    assert_eq!(names(&limited), ["popular"], "2 events to 2 subscribers are more than 3 to 1");
}

#[tokio::test]
async fn connections_that_do_not_read_are_listed_with_the_bytes_that_wait() {
    let settings = Settings::new().connection("max_outbox_bytes", 50_000_000);
    let server = settings.add_app("2", "k2", "s2").start_node().await;
    let mut stuck = server.client_with_small_buffers().await;
    let mut healthy = server.client().await;
    stuck.subscribe("a").await;
    healthy.subscribe("b").await;
    let data = "x".repeat(HUNDRED_KB);
    for _ in 0..100 {
        server.publish("a", "e", &data).await;
    }
    let brief = [("interval_ms", "100")];
    let socket_id = stuck.socket_id.clone();
    eventually("it is listed", async || {
        let activity = activity(&server, &brief).await;
        let slow = activity["slow_connections"].as_array().expect("a list");
        slow.len() == 1
            && slow[0]["socket_id"] == socket_id
            && slow[0]["address"] == "127.0.0.1"
            && slow[0]["waiting_bytes"].as_u64().is_some_and(|bytes| HUNDRED_KB as u64 <= bytes)
    })
    .await;
    // Another app sees nothing of it.
    let other = Call::new("GET", "/apps/2/activity", "").query("interval_ms", "100");
    let other = other.credentials("k2", "s2");
    assert_eq!(other.send(&server).await.json()["slow_connections"], json!([]));
    drop(stuck);
    eventually("it is gone", async || {
        activity(&server, &brief).await["slow_connections"] == json!([])
    })
    .await;
}

#[tokio::test]
async fn invalid_parameters_and_too_many_requests_are_rejected() {
    let server = Settings::new().add_app("2", "k2", "s2").start_node().await;
    for (name, value, rule) in [
        ("limit", "0", "limit must be 1 to 100"),
        ("limit", "101", "limit must be 1 to 100"),
        ("interval_ms", "99", "interval_ms must be 100 to 5000"),
        ("interval_ms", "soon", "interval_ms must be 100 to 5000"),
        ("order", "name", "order must be messages, events or subscriptions"),
    ] {
        let reply = server.get("activity", &[(name, value)]).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some(rule)));
    }
    // Four at a time for each app, so that no app keeps others from it.
    let server = Arc::new(server);
    let mut requests = JoinSet::new();
    for (app, number) in [("3", 5), ("2", 4)] {
        for _ in 0..number {
            let server = Arc::clone(&server);
            requests.spawn(async move {
                let call = Call::new("GET", &format!("/apps/{app}/activity"), "");
                let call = call.query("interval_ms", "2000");
                let call = if app == "2" { call.credentials("k2", "s2") } else { call };
                (app, call.send(&server).await.status)
            });
        }
    }
    let mut statuses = requests.join_all().await;
    statuses.sort_unstable();
    let expected = [("3", 200), ("3", 200), ("3", 200), ("3", 200), ("3", 429)];
    assert_eq!(statuses, [&[("2", 200); 4], &expected[..]].concat());
}
