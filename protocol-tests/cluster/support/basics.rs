//! Checks of two nodes that act as one server. The tests run them on one Redis, on a Redis Cluster and behind Sentinels.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use kit::Server;

use super::{Listener, Outcome, RECOVERY_MAX, View, assert_view_everywhere};

/// Enough channels to be spread over all masters of a Redis Cluster.
const CHANNELS: usize = 24;

/// Checks that two nodes act as one server: events, client events, members, counts, cached events
/// and users.
pub(crate) async fn assert_nodes_act_as_one(one: &Server, other: &Server) {
    let (a, b) = (Listener::of(one).await, Listener::of(other).await);
    let names: BTreeSet<String> = (0..CHANNELS).map(|number| format!("c{number}")).collect();
    for channel in &names {
        a.subscribe(channel).await;
        b.subscribe(channel).await;
    }
    for (node, data) in [(one, "from one"), (other, "from the other")] {
        let mut api = super::Api::new(node.address);
        for channel in &names {
            assert_eq!(api.publish(channel, "e", data).await, Outcome::Accepted);
        }
        let all: Vec<&String> = names.iter().collect();
        node.publish_event(json!({ "name": "all", "channels": all, "data": data })).await;
    }
    for listener in [&a, &b] {
        for channel in &names {
            listener.receives("all", channel, 2, RECOVERY_MAX).await;
            assert_eq!(listener.data("e", channel), ["from one", "from the other"]);
        }
    }
    members_and_client_events(one, other, &a, &b).await;
    other.publish("cache-x", "e", "remembered").await;
    assert_eq!(one.channel("cache-x", "cache").await["cache"]["data"], "remembered");
    let mut truth = View::default().with_users("presence-x", &["1", "2"]).with_connections(2);
    truth = truth.with_count("private-x", 2);
    for channel in &names {
        truth = truth.with_count(channel, 2);
    }
    assert_view_everywhere(&[one.address, other.address], RECOVERY_MAX, &truth).await;
    a.sign_in(&json!({ "id": "ann" }));
    a.until("ann is signed in", RECOVERY_MAX, |entries| {
        entries.iter().any(|entry| entry.message("pusher:signin_success", None).is_some())
    })
    .await;
    let reply = other.post("users/ann/terminate_connections", &json!({})).await;
    assert_eq!(reply.status, 200, "{reply}");
    a.until("ann is closed", RECOVERY_MAX, |_| a.closed() == Some(4009)).await;
    b.receives("pusher_internal:member_removed", "presence-x", 1, RECOVERY_MAX).await;
    drop((a, b));
    let empty = View::default();
    assert_view_everywhere(&[one.address, other.address], Duration::from_secs(10), &empty).await;
}

async fn members_and_client_events(one: &Server, other: &Server, a: &Listener, b: &Listener) {
    a.join("presence-x", "1").await;
    b.join("presence-x", "2").await;
    a.receives("pusher_internal:member_added", "presence-x", 1, RECOVERY_MAX).await;
    a.subscribe("private-x").await;
    b.subscribe("private-x").await;
    for channel in ["private-x", "presence-x"] {
        a.whisper("client-x", channel, "from a");
        b.receives("client-x", channel, 1, RECOVERY_MAX).await;
        b.whisper("client-x", channel, "from b");
        a.receives("client-x", channel, 1, RECOVERY_MAX).await;
    }
    for node in [one, other] {
        let users = node.channel("presence-x", "user_count").await;
        assert_eq!(users, json!({ "occupied": true, "user_count": 2 }));
    }
}
