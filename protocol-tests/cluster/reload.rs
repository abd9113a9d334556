//! Apps that are added and removed on some nodes while others run.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Group, R};
use kit::{
    Call, Client, Redis, Reply, Server, Settings, cluster_settings, eventually, quoted, sign,
};

/// The app that is added and removed.
const OTHER: (&str, &str, &str) = ("4", "key-of-4", "secret-of-4");

fn with_other() -> Settings {
    let (id, key, secret) = OTHER;
    cluster_settings().add_app(id, key, secret)
}

/// Reloads a node of the group with other settings.
async fn reload(group: &Group, at: usize, settings: Settings) {
    let settings = settings.section("redis", "url", quoted(&group.redis.url()));
    let reply = group.nodes[at].reload(&settings).await;
    assert!(reply.contains(" INFO "), "{reply}");
}

async fn client_of_other(node: &Server) -> Client {
    let mut client = node.open(&format!("/app/{}", OTHER.1)).await;
    client.established().await;
    client
}

/// Joins the presence channel of the other app; returns the roster.
async fn join(client: &mut Client, user_id: &str) -> Value {
    let data = json!({ "user_id": user_id, "user_info": { "n": user_id } }).to_string();
    let auth = sign::channel_auth(OTHER.1, OTHER.2, &client.socket_id, R, Some(&data));
    let request = json!({ "auth": auth, "channel_data": data, "channel": R });
    client.command("pusher:subscribe", request).await;
    client.joined(R).await
}

/// Sends a request for the other app to a node.
async fn ask(node: &Server, path: &str, query: &[(&str, &str)]) -> Reply {
    let call = Call::new("GET", &format!("/apps/{}/{path}", OTHER.0), "");
    let call = query.iter().fold(call, |call, (name, value)| call.query(name, value));
    call.credentials(OTHER.1, OTHER.2).send(node).await
}

async fn publish(node: &Server, data: &str) {
    let body = json!({ "name": "e", "channel": R, "data": data }).to_string();
    let call = Call::new("POST", &format!("/apps/{}/events", OTHER.0), body);
    let reply = call.credentials(OTHER.1, OTHER.2).send(node).await;
    assert_eq!(reply.status, 200, "{reply}");
}

#[tokio::test]
async fn the_state_of_an_app_is_removed_and_restored_with_it() {
    let group = Group::with(2, with_other(), Redis::start().await).await;
    let [one, two] = [&group.nodes[0], &group.nodes[1]];
    let (mut leaves, mut stays) = (client_of_other(one).await, client_of_other(two).await);
    join(&mut stays, "2").await;
    join(&mut leaves, "1").await;
    stays.expect_member_added(R, "1", json!({ "n": "1" })).await;
    reload(&group, 0, cluster_settings()).await;
    leaves.rejected(4003).await;
    stays.expect_member_removed(R, "1").await;
    let users = [("info", "user_count")];
    assert_eq!(ask(two, &format!("channels/{R}"), &users).await.json()["user_count"], 1);
    eventually("its connections are counted no more", async || {
        ask(two, "connections", &[]).await.json()["connections"] == 1
    })
    .await;
    assert_eq!(ask(one, "channels", &[]).await.status, 404);
    publish(two, "1").await;
    stays.expect_event(R, "e", "1").await;
    // The app is added again at once; its previous state does not count.
    reload(&group, 0, with_other()).await;
    let mut again = client_of_other(one).await;
    assert_eq!(join(&mut again, "3").await["ids"], json!(["2", "3"]));
    stays.expect_member_added(R, "3", json!({ "n": "3" })).await;
    publish(one, "2").await;
    for client in [&mut again, &mut stays] {
        client.expect_event(R, "e", "2").await;
    }
    again.unsubscribe(R).await;
    stays.expect_member_removed(R, "3").await;
}

#[tokio::test]
async fn an_app_that_is_added_to_all_nodes_is_one_app() {
    let group = Group::of(2).await;
    for at in [0, 1] {
        reload(&group, at, with_other()).await;
    }
    let [one, two] = [&group.nodes[0], &group.nodes[1]];
    let (mut a, mut b) = (client_of_other(one).await, client_of_other(two).await);
    join(&mut a, "1").await;
    assert_eq!(join(&mut b, "2").await["count"], 2);
    a.expect_member_added(R, "2", json!({ "n": "2" })).await;
    for (node, data) in [(one, "1"), (two, "2")] {
        publish(node, data).await;
        a.expect_event(R, "e", data).await;
        b.expect_event(R, "e", data).await;
    }
}

/// Connections of the new app are opened while those of the old one are being closed.
#[tokio::test]
async fn an_app_that_is_removed_and_added_repeatedly_has_correct_counts() {
    let group = Group::with(2, with_other(), Redis::start().await).await;
    let [one, two] = [&group.nodes[0], &group.nodes[1]];
    let mut stays = client_of_other(two).await;
    join(&mut stays, "0").await;
    for turn in 1..=5 {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = client_of_other(one).await;
            join(&mut client, "1").await;
            clients.push(client);
        }
        stays.expect_member_added(R, "1", json!({ "n": "1" })).await;
        reload(&group, 0, cluster_settings()).await;
        reload(&group, 0, with_other()).await;
        for mut client in clients {
            assert_eq!(client.closed_eventually().await.0, 4003, "turn {turn}");
        }
        stays.expect_member_removed(R, "1").await;
    }
    for node in [one, two] {
        eventually("one connection is counted", async || {
            ask(node, "connections", &[]).await.json()["connections"] == 1
        })
        .await;
        let channel = ask(node, &format!("channels/{R}"), &[("info", "user_count")]).await.json();
        assert_eq!(channel["user_count"], 1, "{channel}");
    }
}

#[tokio::test]
async fn a_new_limit_of_an_app_applies_to_all_nodes() {
    let group = Group::of(2).await;
    for at in [0, 1] {
        reload(&group, at, cluster_settings().app("max_connections", 2)).await;
    }
    let _clients = [group.nodes[0].client().await, group.nodes[1].client().await];
    for node in &group.nodes {
        let target = format!("/app/{}", kit::KEY);
        node.open(&target).await.rejected(4004).await;
    }
    group.are_ready(Duration::from_secs(5)).await;
}
