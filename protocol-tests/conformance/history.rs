//! Channels whose events are kept: `docs/history.md`.

use serde_json::json;

use kit::{Client, Server, Settings};

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
    let server = with_history(&["ai.", "private-", "presence-"], "first").start_node().await;
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
    let server = with_history(&["ai."], "first").start_node().await;
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
    let server = with_history(&["ai."], "never").start_node().await;
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
    let server = with_history(&["private-"], "first").start_node().await;
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
