//! Nodes on a Redis that is monitored by Sentinels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{
    C, FAILED_OVER, Ledger, Listener, R, View, Watched, assert_history_valid,
    assert_nodes_act_as_one, assert_view_everywhere, member, publish_from,
};
use kit::{Client, Redis, Resp, Server, becomes_ready, cluster_settings, eventually, node};
use serde_json::json;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn nodes_find_the_master_and_follow_it_when_it_fails() {
    let mut watched = Watched::start().await;
    let settings = cluster_settings();
    let one = node(&settings, &watched.url()).await;
    let two = node(&settings, &watched.url()).await;
    assert_nodes_act_as_one(&one, &two).await;

    let listeners = [member(&one, "1").await, member(&two, "2").await];
    let ledger = Arc::new(Ledger::default());
    let publishing = [publish_from(&ledger, one.address, C), publish_from(&ledger, two.address, C)];
    listeners[0].receives("numbered", C, 20, FAILED_OVER).await;
    watched.servers[0].kill();
    is_promoted(&watched.servers[1]).await;
    let promoted = Instant::now();
    becomes_ready(&one, FAILED_OVER).await;
    becomes_ready(&two, FAILED_OVER).await;
    while ledger.accepted_since(promoted) < 20 {
        assert!(promoted.elapsed() < FAILED_OVER, "publishes are not accepted again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for publishing in publishing {
        publishing.stop().await;
    }
    assert_history_valid(&ledger, &listeners).await;
    // Connections that were closed because an event may have been lost with the master reconnect.
    let mut all = Vec::from(listeners);
    for (at, (node, user)) in [(&one, "1"), (&two, "2")].into_iter().enumerate() {
        if all[at].closed().is_some() {
            assert_eq!(all[at].closed(), Some(4200), "{}", all[at].tail(5));
            all.push(member(node, user).await);
        }
    }
    let open: Vec<&Listener> = all.iter().filter(|listener| listener.closed().is_none()).collect();
    assert_eq!(open.len(), 2);
    let truth = View::default().with_count(C, 2).with_users(R, &["1", "2"]).with_connections(2);
    assert_view_everywhere(&[one.address, two.address], FAILED_OVER, &truth).await;
    assert_history_valid(&ledger, &all).await;
}

/// The old master runs and accepts writes: only the Sentinels report that it is not the master.
#[tokio::test]
async fn nodes_follow_the_sentinels_although_the_old_master_runs() {
    let watched = Watched::start().await;
    let settings = cluster_settings();
    let one = node(&settings, &watched.url()).await;
    let two = node(&settings, &watched.url()).await;
    assert_nodes_act_as_one(&one, &two).await;

    let other = Redis::start().await;
    for sentinel in &watched.sentinels {
        let mut client = sentinel.client().await;
        client.command(&["SENTINEL", "REMOVE", Watched::MASTER]).await;
        let port = other.port.to_string();
        client.command(&["SENTINEL", "MONITOR", Watched::MASTER, "127.0.0.1", &port, "2"]).await;
    }
    let start = Instant::now();
    for (redis, is_used) in [(&watched.servers[0], false), (&other, true)] {
        let mut client = redis.client().await;
        while client.command(&["PUBSUB", "CHANNELS", "campanile:*"]).await.texts().is_empty()
            == is_used
        {
            assert!(start.elapsed() < FAILED_OVER, "the nodes stay connected to the old master");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    becomes_ready(&one, FAILED_OVER).await;
    becomes_ready(&two, FAILED_OVER).await;
    assert_nodes_act_as_one(&one, &two).await;
}

/// A client with a token that has confirmed one event and lost its connection, the second of two nodes, which it was connected to, and the
/// first one, on which it is going to return.
async fn lost_client(watched: &Watched) -> (String, [Server; 2]) {
    let settings = cluster_settings();
    let nodes = [node(&settings, &watched.url()).await, node(&settings, &watched.url()).await];
    let mut client = nodes[1].client_with_token(TOKEN).await;
    client.subscribe(C).await;
    nodes[0].publish(C, "e", "1").await;
    client.expect_event(C, "e", "1").await;
    client.acknowledge().await;
    let socket_id = client.socket_id.clone();
    drop(client);
    let mut redis = watched.servers[0].client().await;
    eventually("the session is parked", async || {
        let keys = redis.command(&["KEYS", "*:t{*"]).await.texts();
        let Some(key) = keys.first() else { return false };
        redis.command(&["GET", key]).await.text().starts_with("P ")
    })
    .await;
    (socket_id, nodes)
}

/// Kills the master, and returns the client once both nodes have followed the replica.
async fn returned_after_a_failover(watched: &mut Watched, nodes: &[Server; 2]) -> Client {
    watched.servers[0].kill();
    watched.servers[1].resume();
    is_promoted(&watched.servers[1]).await;
    for node in nodes {
        becomes_ready(node, FAILED_OVER).await;
    }
    let mut client = nodes[0].client_with_token(TOKEN).await;
    client.subscribe(C).await;
    client
}

#[tokio::test]
async fn a_client_that_returns_after_a_failover_misses_nothing() {
    let mut watched = Watched::start().await;
    let (socket_id, nodes) = lost_client(&watched).await;
    nodes[0].publish(C, "e", "2").await;
    let replicated = watched.servers[0].client().await.command(&["WAIT", "1", "10000"]).await;
    assert_eq!(replicated, Resp::Number(1));
    let mut client = returned_after_a_failover(&mut watched, &nodes).await;
    assert_eq!(client.socket_id, socket_id);
    client.expect_event(C, "e", "2").await;
    nodes[1].assert_no_other_events(C, &mut [&mut client]).await;
}

#[tokio::test]
async fn a_client_that_returns_after_a_failover_that_has_lost_an_event_is_notified() {
    let mut watched = Watched::start().await;
    let (socket_id, nodes) = lost_client(&watched).await;
    let mut master = watched.servers[0].client().await;
    assert_eq!(master.command(&["WAIT", "1", "10000"]).await, Resp::Number(1));
    // The replica takes nothing more, and there is nothing on its way.
    watched.servers[1].pause();
    assert_eq!(master.command(&["CLIENT", "KILL", "TYPE", "replica"]).await, Resp::Number(1));
    nodes[0].publish(C, "e", "2").await;
    let mut client = returned_after_a_failover(&mut watched, &nodes).await;
    assert_eq!(client.socket_id, socket_id);
    let gap = client.next().await;
    assert_eq!((&gap["event"], &gap["channel"]), (&json!("campanile:gap"), &json!(C)));
    nodes[1].assert_no_other_events(C, &mut [&mut client]).await;
}

async fn is_promoted(replica: &Redis) {
    let start = Instant::now();
    loop {
        // A Sentinel closes the connections of a server when it changes its role.
        let role = replica.client().await.try_command(&["ROLE"]).await;
        if role.is_some_and(|role| role.texts().contains(&"master".to_owned())) {
            return;
        }
        assert!(start.elapsed() < FAILED_OVER, "the replica is not promoted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
