//! A Redis Cluster of three masters and three replicas.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Call, Server, eventually};
use crate::kit::{
    Ledger, Listener, Monitor, Redis, View, assert_agrees, assert_view_everywhere, becomes_ready,
    cluster_settings, free_port, node, publish_from, they_are_one,
};

/// The Cluster needs a second to miss a master, and some to elect another.
const FAILED_OVER: Duration = Duration::from_secs(30);
const SLOTS: usize = 16_384;
/// Channels enough that each master has some.
const CHANNELS: usize = 12;

/// Masters first, then the replica of each.
struct RedisCluster(Vec<Redis>);

impl RedisCluster {
    async fn start() -> Self {
        let mut servers = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..6 {
            let bus = free_port().to_string();
            let arguments = [
                "--save",
                "",
                "--appendonly",
                "no",
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &bus,
                "--cluster-replica-validity-factor",
                "0",
            ];
            servers.push(Redis::start_with(&arguments).await);
            buses.push(bus);
        }
        let first = servers[0].port.to_string();
        for (at, server) in servers.iter().enumerate() {
            let mut client = server.client().await;
            if at < 3 {
                let (from, to) = (SLOTS * at / 3, SLOTS * (at + 1) / 3 - 1);
                client
                    .command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()])
                    .await;
            }
            client.command(&["CLUSTER", "MEET", "127.0.0.1", &first, &buses[0]]).await;
        }
        let cluster = Self(servers);
        cluster.all(|said| said.matches("connected").count() == 6).await;
        for at in 3..6 {
            let master = cluster.0[at - 3].client().await.command(&["CLUSTER", "MYID"]).await;
            cluster.0[at].client().await.command(&["CLUSTER", "REPLICATE", master.text()]).await;
        }
        cluster
            .all(|said| {
                said.matches(" slave ").count() + said.matches("myself,slave ").count() == 3
            })
            .await;
        cluster.is_ok(&[0, 1, 2, 3, 4, 5]).await;
        cluster.are_linked().await;
        cluster
    }

    /// Waits until what each server says of the nodes fulfils a condition.
    async fn all(&self, condition: impl Fn(&str) -> bool) {
        for server in &self.0 {
            let mut client = server.client().await;
            let start = Instant::now();
            loop {
                let said = client.command(&["CLUSTER", "NODES"]).await;
                if condition(said.text()) {
                    break;
                }
                assert!(start.elapsed() < FAILED_OVER, "no cluster: {said:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until these servers find that all slots are served.
    async fn is_ok(&self, servers: &[usize]) {
        for at in servers {
            let mut client = self.0[*at].client().await;
            let start = Instant::now();
            while !client.command(&["CLUSTER", "INFO"]).await.text().contains("cluster_state:ok") {
                assert!(start.elapsed() < FAILED_OVER, "the cluster does not become whole");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until the replicas have what their masters have; others may not take over.
    async fn are_linked(&self) {
        for replica in &self.0[3..] {
            let mut client = replica.client().await;
            let start = Instant::now();
            while !client
                .command(&["INFO", "replication"])
                .await
                .text()
                .contains("master_link_status:up")
            {
                assert!(start.elapsed() < FAILED_OVER, "a replica does not follow its master");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn url(&self) -> String {
        let hosts: Vec<String> =
            self.0[..3].iter().map(|server| server.address().to_string()).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}

#[tokio::test]
async fn nodes_on_a_redis_cluster_are_one_and_survive_the_death_of_a_master() {
    let mut redis = RedisCluster::start().await;
    let settings = cluster_settings();
    let nodes = [node(&settings, &redis.url()).await, node(&settings, &redis.url()).await];
    they_are_one(&nodes[0], &nodes[1]).await;

    let mut listeners = vec![everywhere(&nodes[0], "1").await, everywhere(&nodes[1], "2").await];
    let ledger = Arc::new(Ledger::default());
    let mut publishing = Vec::new();
    for number in 0..CHANNELS {
        publishing.push(publish_from(&ledger, nodes[number % 2].address, &format!("c{number}")));
    }
    listeners[0].hears("numbered", "c0", 20, FAILED_OVER).await;
    redis.0[1].kill();
    redis.is_ok(&[0, 2, 3, 4, 5]).await;
    let whole = is_replaced(&redis.0[4]).await;
    for node in &nodes {
        becomes_ready(node, FAILED_OVER).await;
    }
    let is_served = |number: usize| {
        let channel = format!("c{number}");
        ledger.all().iter().any(|published| {
            published.channel == channel
                && whole < published.begun
                && published.outcome == crate::kit::Outcome::Accepted
        })
    };
    while !(0..CHANNELS).all(is_served) {
        assert!(whole.elapsed() < FAILED_OVER, "publishes are not accepted again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for publishing in publishing {
        publishing.stop().await;
    }
    assert_agrees(&ledger, &listeners).await;
    for (at, user) in [(0, "1"), (1, "2")] {
        if listeners[at].closed().is_some() {
            assert_eq!(listeners[at].closed(), Some(4200), "{}", listeners[at].tail(5));
            listeners.push(everywhere(&nodes[at], user).await);
        }
    }
    let mut truth = View::default().with_connections(2);
    for number in 0..CHANNELS {
        truth = truth.with_count(&format!("c{number}"), 2);
        truth = truth.with_users(&format!("presence-{number}"), &["1", "2"]);
    }
    assert_view_everywhere(&[nodes[0].address, nodes[1].address], FAILED_OVER, &truth).await;
    assert_agrees(&ledger, &listeners).await;
}

/// Each lies in its own slot, but their account in one.
#[tokio::test]
async fn what_one_request_publishes_on_cache_channels_is_accounted_at_once() {
    let redis = RedisCluster::start().await;
    let node = node(&cluster_settings(), &redis.url()).await;
    let mut monitors = Vec::new();
    for master in &redis.0[..3] {
        monitors.push(Monitor::start(master).await);
    }
    let channels: Vec<String> = (0..50).map(|number| format!("cache-{number}")).collect();
    let body = json!({ "name": "e", "channels": channels, "data": "x" });
    let reply = Call::post("events", &body).send(&node).await;
    assert_eq!(reply.status, 200, "{reply}");
    let mut accounts = Vec::new();
    eventually("they are accounted", async || {
        for monitor in &mut monitors {
            let lines = monitor.since_last().await;
            let is_account =
                |line: &String| line.contains("\"EVALSHA\"") && line.contains(":cacheorder{");
            accounts.extend(lines.into_iter().filter(is_account));
        }
        !accounts.is_empty()
    })
    .await;
    for channel in &channels {
        assert!(accounts[0].contains(&format!("\"{channel}\"")), "{channel}: {accounts:?}");
    }
}

/// A listener on all channels.
async fn everywhere(node: &Server, user: &str) -> Listener {
    let listener = Listener::of(node).await;
    for number in 0..CHANNELS {
        listener.subscribe(&format!("c{number}")).await;
        listener.join(&format!("presence-{number}"), user).await;
    }
    listener
}

/// Waits until a replica has taken its master's place.
async fn is_replaced(replica: &Redis) -> Instant {
    let mut client = replica.client().await;
    let start = Instant::now();
    while !client.command(&["ROLE"]).await.texts().contains(&"master".to_owned()) {
        assert!(start.elapsed() < FAILED_OVER, "nobody takes the place of the master");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Instant::now()
}
