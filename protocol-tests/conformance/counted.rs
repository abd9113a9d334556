//! Pages that count the events of their channels, as `clients/campanile-resume` does: each event exactly once.

use serde_json::{Value, json};

use kit::{Client, Server, Settings, inner};

use crate::Start as _;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const C: &str = "private-c";

/// A client with a token that has told `channels`, subscribed to the channel.
async fn counting(server: &Server, channels: Value) -> Client {
    let mut client = server.client_with_token(TOKEN).await;
    client.command("campanile:resume", json!({ "channels": channels })).await;
    client.subscribe(C).await;
    client
}

/// The position that the next message tells: epoch and sequence.
async fn position(client: &mut Client) -> (String, u64) {
    let message = client.next().await;
    assert_eq!(
        (&message["event"], &message["channel"]),
        (&json!("pusher_internal:position"), &json!(C)),
        "{message}"
    );
    serde_json::from_value(inner(&message)).expect("an epoch and a sequence")
}

async fn publish(server: &Server, names: &[&str]) {
    for name in names {
        server.publish(C, "e", name).await;
    }
}

async fn lose(server: &Server, client: Client) {
    drop(client);
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn a_page_is_told_where_it_counts_from() {
    let server = Settings::new().start().await;
    let mut client = counting(&server, json!({})).await;
    let (epoch, start) = position(&mut client).await;
    let own = json!({ "name": "e", "channel": C, "data": "own", "socket_id": client.socket_id });
    server.publish_event(own).await;
    assert_eq!(position(&mut client).await, (epoch.clone(), start + 1), "in place of the event");
    publish(&server, &["1"]).await;
    client.expect_event(C, "e", "1").await;
    client.unsubscribe(C).await;
    client.subscribe(C).await;
    assert_eq!(position(&mut client).await, (epoch, start + 2));
}

#[tokio::test]
async fn what_a_page_has_counted_decides_what_is_replayed() {
    let server = Settings::new().section("metrics", "token", r#""t""#).start().await;
    let mut client = counting(&server, json!({})).await;
    let (epoch, start) = position(&mut client).await;
    publish(&server, &["1", "2", "3"]).await;
    for counted in [start + 2, start, start + 3] {
        lose(&server, client).await;
        client = counting(&server, json!({ C: [epoch, counted] })).await;
        for name in &["1", "2", "3"][usize::try_from(counted - start).unwrap()..] {
            client.expect_event(C, "e", name).await;
        }
        assert_eq!(position(&mut client).await, (epoch.clone(), start + 3), "nothing between");
    }
    // Two when it had left the start, none, and three.
    let page = server.metrics_page().await;
    for line in [r#"{by="page"} 5"#, r#"{by="acknowledgement"} 0"#] {
        let line = format!("\ncampanile_duplicates_avoided_total{line}\n");
        assert!(page.contains(&line), "{line} in {page}");
    }
}

#[tokio::test]
async fn a_position_that_the_server_does_not_know_is_a_gap() {
    let server = Settings::new().start().await;
    let mut client = counting(&server, json!({ C: ["of-another-process", 7] })).await;
    let gap = client.next().await;
    assert_eq!(gap["event"], "campanile:gap", "{gap}");
    assert_eq!(inner(&gap), json!({ "channel": C }), "since when is unknown");
    let (epoch, start) = position(&mut client).await;
    publish(&server, &["1"]).await;
    client.expect_event(C, "e", "1").await;
    lose(&server, client).await;
    let mut client = counting(&server, json!({ C: [epoch, start + 9] })).await;
    assert_eq!(client.next().await["event"], "campanile:gap", "it is ahead of the log");
    assert_eq!(position(&mut client).await, (epoch, start + 1));
}

#[tokio::test]
async fn a_client_without_a_token_is_told_nothing() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.command("campanile:resume", json!({ "channels": { C: ["x", 1] } })).await;
    client.subscribe(C).await;
    publish(&server, &["1"]).await;
    client.expect_event(C, "e", "1").await;
}

#[tokio::test]
async fn what_is_no_position_is_an_error() {
    let server = Settings::new().start().await;
    let mut client = server.client_with_token(TOKEN).await;
    for data in
        [json!({}), json!({ "channels": { C: 1 } }), json!({ "channels": { C: ["x", -1] } })]
    {
        client.command("campanile:resume", data).await;
        let error = client.next().await;
        assert_eq!(error["event"], "pusher:error", "{error}");
        let message = error["data"]["message"].as_str().expect("a message");
        assert!(message.contains("campanile:resume needs data"), "{message}");
    }
}

#[tokio::test]
async fn what_was_replayed_and_what_was_not_are_counted() {
    let server = Settings::new().section("metrics", "token", r#""t""#).start().await;
    let mut client = server.client_with_token(TOKEN).await;
    client.subscribe(C).await;
    server.publish(C, "e", "1").await;
    client.acknowledge().await;
    publish(&server, &["2", "3"]).await;
    lose(&server, client).await;
    let mut client = server.client_with_token(TOKEN).await;
    client.subscribe(C).await;
    client.expect_event(C, "e", "2").await;
    let page = server.metrics_page().await;
    for line in ["replayed_events_total 2", r#"duplicates_avoided_total{by="acknowledgement"} 1"#] {
        assert!(page.contains(&format!("\ncampanile_{line}\n")), "{line} in {page}");
    }
}
