//! Connections that are lost before Redis has accepted their subscriptions.

use serde_json::json;

use crate::support::Group;
use kit::{Client, Redis, cluster_settings, eventually, frames};

const R: &str = "presence-r";

/// Has a client ask to join the channel of a witness while Redis does not answer, end as `end` says, and Redis answer
/// again. Returns the witness.
async fn ends_before_it_is_a_member(group: &Group, end: impl AsyncFnOnce(&mut Client)) -> Client {
    let mut witness = group.nodes[0].client().await;
    witness.join(R, "witness").await;
    let node = &group.nodes[1];
    let mut client = node.client().await;
    group.redis.pause();
    client.send_subscribe_with(R, r#"{"user_id":"1","user_info":{}}"#).await;
    // What is answered at once shows that the subscription is waiting. A ping would make the close look like a lost line.
    client.text(r#"{"event":"client-e","channel":"private-none","data":"1"}"#).await;
    client.event_error().await;
    end(&mut client).await;
    drop(client);
    eventually("the end is seen", async || {
        let page = node.metrics_page().await;
        page.lines().any(|line| line.starts_with("campanile_connections{") && line.ends_with(" 0"))
    })
    .await;
    group.redis.resume();
    witness
}

async fn two_nodes() -> Group {
    let settings = cluster_settings().connection("presence_grace_s", 600).section(
        "metrics",
        "token",
        "\"t\"".to_owned(),
    );
    Group::with(2, settings, Redis::start().await).await
}

#[tokio::test]
async fn a_member_whose_connection_was_lost_before_may_return_all_the_same() {
    let group = two_nodes().await;
    let mut witness = ends_before_it_is_a_member(&group, async |_| {}).await;
    witness.expect_member_added(R, "1", json!({})).await;
    group.nodes[1].assert_no_other_events(R, &mut [&mut witness]).await;
    let mut client = group.nodes[1].client().await;
    client.join_with(R, r#"{"user_id":"1","user_info":{}}"#).await;
    group.nodes[1].assert_no_other_events(R, &mut [&mut witness, &mut client]).await;
    client.unsubscribe(R).await;
    witness.expect_member_removed(R, "1").await;
}

#[tokio::test]
async fn a_member_who_closed_its_connection_before_leaves_at_once() {
    let group = two_nodes().await;
    let close = async |client: &mut Client| {
        client.bytes(frames::masked(frames::FIN | frames::CLOSE, &1000u16.to_be_bytes())).await;
    };
    let mut witness = ends_before_it_is_a_member(&group, close).await;
    witness.expect_member_added(R, "1", json!({})).await;
    witness.expect_member_removed(R, "1").await;
}
