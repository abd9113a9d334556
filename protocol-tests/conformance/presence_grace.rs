//! Cases of `docs/resume.md#presence`: a member whose connection is lost has some time to return.

use std::time::Duration;

use serde_json::json;

use kit::{Client, Server, Settings, eventually, frames};

use crate::Start as _;

const R: &str = "presence-r";

/// A server on which members may return for this many seconds, and a witness in the channel.
async fn server_and_witness(grace_s: u32) -> (Server, Client) {
    let server = Settings::new().connection("presence_grace_s", grace_s).start().await;
    let mut witness = server.client().await;
    witness.join(R, "witness").await;
    (server, witness)
}

/// A member of the channel, which the witness has seen come.
async fn member(server: &Server, witness: &mut Client, user_id: &str) -> Client {
    let mut client = server.client().await;
    client.join(R, user_id).await;
    witness.expect_member_added(R, user_id, json!({ "n": user_id })).await;
    client
}

#[tokio::test]
async fn a_member_who_returns_in_time_has_never_left() {
    let (server, mut witness) = server_and_witness(60).await;
    let mut client = member(&server, &mut witness, "1").await;
    for _ in 0..3 {
        drop(client);
        server.wait_for_connections(1).await;
        let users = server.get(&format!("channels/{R}/users"), &[]).await.json();
        assert_eq!(users, json!({ "users": [{ "id": "1" }, { "id": "witness" }] }));
        client = server.client().await;
        let roster = client.join(R, "1").await;
        assert_eq!(roster["ids"], json!(["1", "witness"]));
        server.assert_no_other_events(R, &mut [&mut witness, &mut client]).await;
    }
    // It has returned, so that its own end counts.
    client.unsubscribe(R).await;
    witness.expect_member_removed(R, "1").await;
}

#[tokio::test]
async fn a_member_who_does_not_return_leaves_after_the_grace_period() {
    let (server, mut witness) = server_and_witness(1).await;
    let client = member(&server, &mut witness, "1").await;
    let lost = tokio::time::Instant::now();
    drop(client);
    witness.expect_member_removed(R, "1").await;
    assert!(Duration::from_millis(900) <= lost.elapsed(), "{:?}", lost.elapsed());
    server.assert_no_other_events(R, &mut [&mut witness]).await;
}

#[tokio::test]
async fn a_member_who_closes_its_connection_leaves_at_once() {
    let (server, mut witness) = server_and_witness(600).await;
    let mut client = member(&server, &mut witness, "1").await;
    for code in [1000, 1001] {
        client.bytes(close(code)).await;
        witness.expect_member_removed(R, "1").await;
        client = member(&server, &mut witness, "1").await;
    }
    client.bytes(frames::masked(frames::FIN | frames::CLOSE, &[])).await;
    witness.expect_member_removed(R, "1").await;
    let mut client = member(&server, &mut witness, "1").await;
    client.unsubscribe(R).await;
    witness.expect_member_removed(R, "1").await;
}

/// Browsers close with 1001 when a tab is closed, but also when a page that was suspended comes back.
#[tokio::test]
async fn a_member_with_a_token_whose_page_is_gone_leaves_after_three_seconds_unless_it_returns() {
    const TOKEN: &str = "0123456789abcdef";
    let (server, mut witness) = server_and_witness(600).await;
    let mut client = server.client_with_token(TOKEN).await;
    client.join(R, "1").await;
    witness.expect_member_added(R, "1", json!({ "n": "1" })).await;
    client.bytes(close(1001)).await;
    server.wait_for_connections(1).await;
    let mut back = server.client_with_token(TOKEN).await;
    back.join(R, "1").await;
    server.assert_no_other_events(R, &mut [&mut witness, &mut back]).await;
    let gone = tokio::time::Instant::now();
    back.bytes(close(1001)).await;
    witness.expect_member_removed(R, "1").await;
    let after = gone.elapsed();
    assert!(Duration::from_millis(2_900) <= after && after < Duration::from_secs(30), "{after:?}");
}

fn close(code: u16) -> Vec<u8> {
    frames::masked(frames::FIN | frames::CLOSE, &code.to_be_bytes())
}

#[tokio::test]
async fn a_client_that_gave_up_a_lost_line_is_expected_back() {
    let (server, mut witness) = server_and_witness(600).await;
    let mut client = member(&server, &mut witness, "1").await;
    // This is what pusher-js sends that had no answer to its ping, once the line is back: in a browser, and in Node.
    let ping = frames::text(r#"{"event":"pusher:ping","data":{}}"#);
    for close in [frames::masked(frames::FIN | frames::CLOSE, &[]), close(1000)] {
        client.bytes([ping.clone(), close].concat()).await;
        server.wait_for_connections(1).await;
        server.assert_no_other_events(R, &mut [&mut witness]).await;
        client = server.client().await;
        client.join(R, "1").await;
        server.assert_no_other_events(R, &mut [&mut witness, &mut client]).await;
    }
}

#[tokio::test]
async fn the_other_channels_of_a_client_without_a_token_are_left_at_once() {
    let (server, mut witness) = server_and_witness(600).await;
    let mut client = member(&server, &mut witness, "1").await;
    client.subscribe("public").await;
    drop(client);
    eventually("the public channel is vacated", async || {
        server.channel("public", "").await["occupied"] == false
    })
    .await;
    assert_eq!(server.channel(R, "user_count").await["user_count"], 2);
}

#[tokio::test]
async fn a_user_whose_connections_are_terminated_leaves_at_once() {
    let (server, mut witness) = server_and_witness(600).await;
    let mut client = server.client().await;
    client.sign_in(r#"{"id":"1"}"#).await;
    client.join(R, "1").await;
    witness.expect_member_added(R, "1", json!({ "n": "1" })).await;
    let reply = server.post("users/1/terminate_connections", &json!({})).await;
    assert_eq!(reply.status, 200, "{reply}");
    witness.expect_member_removed(R, "1").await;
}
