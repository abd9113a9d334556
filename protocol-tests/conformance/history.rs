//! Channels whose events are kept: `docs/history.md`.

use serde_json::json;

use kit::{Call, Client, Server, Settings};

use crate::Start as _;

/// The history of channels with one of these prefixes.
pub(crate) fn with_history(prefixes: &[&str], replay: &str) -> Settings {
    let each = prefixes.iter().map(|prefix| {
        format!("{{ prefix = {prefix:?}, seconds = 60, events = 500, replay = {replay:?} }}")
    });
    let list = each.collect::<Vec<_>>().join(", ");
    Settings::new().app("history", format!("[{list}]"))
}

async fn publish(server: &Server, channel: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        server.publish(channel, "e", &number.to_string()).await;
    }
}

async fn receives(client: &mut Client, channel: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        client.expect_event(channel, "e", &number.to_string()).await;
    }
}

#[tokio::test]
async fn a_page_that_subscribes_after_the_job_has_begun_receives_all_events_in_order() {
    let kinds = ["ai.1", "private-ai.1", "private-encrypted-ai.1"];
    let server = with_history(&["ai.", "private-", "presence-"], "first").start().await;
    for channel in kinds {
        publish(&server, channel, 0..5).await;
        let mut client = server.client().await;
        client.subscribe(channel).await;
        publish(&server, channel, 5..10).await;
        receives(&mut client, channel, 0..10).await;
        client.ping_barrier().await;
    }
    publish(&server, "presence-ai.1", 0..5).await;
    let mut client = server.client().await;
    client.join("presence-ai.1", "ann").await;
    publish(&server, "presence-ai.1", 5..10).await;
    receives(&mut client, "presence-ai.1", 0..10).await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn events_that_are_published_while_clients_subscribe_arrive_once_and_in_order() {
    let server = with_history(&["ai."], "first").start().await;
    let publishing = async { publish(&server, "ai.1", 0..200).await };
    let subscribing = async {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = server.client().await;
            client.subscribe("ai.1").await;
            clients.push(client);
        }
        clients
    };
    let ((), clients) = tokio::join!(publishing, subscribing);
    for mut client in clients {
        receives(&mut client, "ai.1", 0..200).await;
        client.ping_barrier().await;
    }
}

#[tokio::test]
async fn a_history_is_not_replayed_unless_it_is_configured() {
    let server = with_history(&["ai."], "never").start().await;
    for channel in ["ai.1", "other"] {
        publish(&server, channel, 0..2).await;
        let mut client = server.client().await;
        client.subscribe(channel).await;
        publish(&server, channel, 2..3).await;
        receives(&mut client, channel, 2..3).await;
    }
}

#[tokio::test]
async fn client_events_are_not_kept() {
    let server = with_history(&["private-"], "first").start().await;
    let mut client = server.client().await;
    client.subscribe("private-ai.1").await;
    client.whisper("client-e", "private-ai.1", json!({})).await;
    client.ping_barrier().await;
    publish(&server, "private-ai.1", 0..1).await;
    let mut later = server.client().await;
    later.subscribe("private-ai.1").await;
    receives(&mut later, "private-ai.1", 0..1).await;
    later.ping_barrier().await;
}

async fn history(server: &Server, channel: &str, query: &[(&str, &str)]) -> serde_json::Value {
    let reply = server.get(&format!("channels/{channel}/history"), query).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn serials(page: &serde_json::Value) -> Vec<u64> {
    let items = page["items"].as_array().expect("a list");
    items.iter().map(|item| item["serial"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn the_history_of_a_channel_is_read_in_pages() {
    let server = with_history(&["ai."], "never").start().await;
    let empty = history(&server, "ai.1", &[]).await;
    assert_eq!((serials(&empty), &empty["continuity"]["complete"]), (vec![], &json!(true)));
    publish(&server, "ai.1", 0..5).await;
    let page = history(&server, "ai.1", &[]).await;
    assert_eq!(serials(&page), [5, 4, 3, 2, 1]);
    assert_eq!((&page["has_more"], &page["next_cursor"]), (&json!(false), &json!(null)));
    let item = &page["items"][4];
    let message = json!({ "event": "e", "channel": "ai.1", "data": "0" });
    assert_eq!((&item["message"], &item["event_name"]), (&message, &json!("e")));
    assert_eq!(item["stream_id"], page["continuity"]["stream_id"]);
    assert!(item["published_at_ms"].as_u64().is_some_and(|at| 1_700_000_000_000 < at));
    for (direction, expected) in [
        ("newest_first", [vec![5, 4], vec![3, 2], vec![1]]),
        ("forward", [vec![1, 2], vec![3, 4], vec![5]]),
    ] {
        let mut cursor = String::new();
        for (at, serials_of_page) in expected.into_iter().enumerate() {
            let mut query = vec![("direction", direction), ("limit", "2")];
            if at != 0 {
                query.push(("cursor", &cursor));
            }
            let page = history(&server, "ai.1", &query).await;
            assert_eq!(serials(&page), serials_of_page, "{direction} {at}");
            assert_eq!(page["has_more"], at < 2);
            cursor = page["next_cursor"].as_str().unwrap_or_default().to_owned();
        }
    }
    let range = [("start_serial", "2"), ("end_serial", "3")];
    assert_eq!(serials(&history(&server, "ai.1", &range).await), [3, 2]);
}

#[tokio::test]
async fn wrong_queries_for_a_history_are_errors() {
    let server = with_history(&["ai."], "never").start().await;
    publish(&server, "ai.1", 0..2).await;
    for (channel, query, message) in [
        ("ai.1", ("limit", "0"), "limit must be a number from 1"),
        ("ai.1", ("limit", "x"), "limit must be a number from 1"),
        ("ai.1", ("start_serial", "-1"), "start_serial must be"),
        ("ai.1", ("end_serial", "9007199254740992"), "end_serial must be"),
        ("ai.1", ("direction", "up"), "direction must be"),
        ("ai.1", ("cursor", "x"), "cursor must be"),
        ("ai.1", ("cursor", "x:1"), "lost"),
        ("ai.1", ("start_time_ms", "1"), "start_time_ms is not supported"),
    ] {
        let reply = server.get(&format!("channels/{channel}/history"), &[query]).await;
        assert_eq!(reply.status, 400, "{query:?}");
        assert!(reply.text().contains(message), "{}", reply.text());
    }
    let reply = server.get("channels/other/history", &[]).await;
    assert!(reply.error(404).contains("No history"));
    let unsigned = Call::get("channels/ai.1/history").signature("x").send(&server).await;
    assert_eq!(unsigned.status, 401);
}
