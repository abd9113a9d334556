//! A Redis Cluster of three masters and three replicas.

use std::time::{Duration, Instant};

use kit::{Redis, RedisClient, free_port};

/// How long a failover may take: the Cluster needs a second to detect a lost master, and some to elect another.
pub(crate) const FAILED_OVER: Duration = Duration::from_secs(30);
const SLOTS: usize = 16_384;
/// How many slots are moved at a time.
const SLOTS_AT_ONCE: usize = 128;

/// The servers: first the masters, then the replica of each.
#[derive(Debug)]
pub(crate) struct RedisCluster(pub(crate) Vec<Redis>);

impl RedisCluster {
    pub(crate) async fn start() -> Self {
        Self::start_servers(false).await
    }

    /// Starts a cluster that a test can reconfigure, like [`Redis::start_adjustable`].
    pub(crate) async fn start_adjustable() -> Self {
        Self::start_servers(true).await
    }

    async fn start_servers(is_adjustable: bool) -> Self {
        let mut servers = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..6 {
            let bus = free_port().to_string();
            let arguments = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &bus,
                "--cluster-replica-validity-factor",
                "0",
            ];
            servers.push(if is_adjustable {
                Redis::start_adjustable(&arguments).await
            } else {
                Redis::start_with(&[&["--save", "", "--appendonly", "no"], &arguments[..]].concat())
                    .await
            });
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
        cluster.all(|reply| reply.matches("connected").count() == 6).await;
        for at in 3..6 {
            let master = cluster.0[at - 3].client().await.command(&["CLUSTER", "MYID"]).await;
            cluster.0[at].client().await.command(&["CLUSTER", "REPLICATE", master.text()]).await;
        }
        cluster
            .all(|reply| {
                reply.matches(" slave ").count() + reply.matches("myself,slave ").count() == 3
            })
            .await;
        cluster.is_ok(&[0, 1, 2, 3, 4, 5]).await;
        cluster.are_linked().await;
        cluster
    }

    /// Waits until the reply of each server to `CLUSTER NODES` fulfils a condition.
    async fn all(&self, condition: impl Fn(&str) -> bool) {
        for server in &self.0 {
            let mut client = server.client().await;
            let start = Instant::now();
            loop {
                let reply = client.command(&["CLUSTER", "NODES"]).await;
                if condition(reply.text()) {
                    break;
                }
                assert!(start.elapsed() < FAILED_OVER, "the cluster did not form: {reply:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until these servers report that all slots are served.
    pub(crate) async fn is_ok(&self, servers: &[usize]) {
        for at in servers {
            let mut client = self.0[*at].client().await;
            let start = Instant::now();
            while !client.command(&["CLUSTER", "INFO"]).await.text().contains("cluster_state:ok") {
                assert!(start.elapsed() < FAILED_OVER, "the cluster state does not become ok");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until the replicas are synchronised with their masters, which a failover requires.
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
                assert!(start.elapsed() < FAILED_OVER, "a replica does not connect to its master");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> =
            self.0[..3].iter().map(|server| server.address().to_string()).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Moves slots with their keys from one server to another, while clients use them.
    pub(crate) async fn move_slots(&self, from: usize, to: usize, slots: &[usize]) {
        let (mut source, mut target) = (self.0[from].admin().await, self.0[to].admin().await);
        let (source_id, target_id) = (id(&mut source).await, id(&mut target).await);
        let port = self.0[to].port.to_string();
        for slots in slots.chunks(SLOTS_AT_ONCE) {
            let set = |state: &str, id: &str| -> Vec<Vec<String>> {
                let command = |slot: &usize| {
                    let words = ["CLUSTER", "SETSLOT", &slot.to_string(), state, id];
                    words.map(str::to_owned).to_vec()
                };
                slots.iter().map(command).collect()
            };
            target.commands(&set("IMPORTING", &source_id), "").await;
            source.commands(&set("MIGRATING", &target_id), "").await;
            for slot in slots {
                move_keys(&mut source, &port, &slot.to_string()).await;
            }
            target.commands(&set("NODE", &target_id), "").await;
            // The source may have become a replica already, because its last slot has moved to the target.
            source.commands(&set("NODE", &target_id), "only with masters").await;
        }
    }

    /// The line of one server in the `CLUSTER NODES` reply of another.
    async fn line_of(&self, said_by: usize, at: usize) -> Option<String> {
        let reply = self.0[said_by].admin().await.command(&["CLUSTER", "NODES"]).await;
        let address = format!("{}@", self.0[at].address());
        reply.text().lines().find(|line| line.contains(&address)).map(str::to_owned)
    }

    /// The slots of a server.
    pub(crate) async fn slots_of(&self, at: usize) -> Vec<usize> {
        slots(&self.line_of(at, at).await.expect("a server lists itself"))
    }

    /// The servers that have slots.
    pub(crate) async fn masters(&self) -> Vec<usize> {
        let mut masters = Vec::new();
        for at in 0..self.0.len() {
            if !self.slots_of(at).await.is_empty() {
                masters.push(at);
            }
        }
        masters
    }

    /// Makes a server without slots an empty master again. Redis makes it a replica of the server that has its slots.
    pub(crate) async fn become_master(&self, at: usize, known: usize) {
        let is_master = |line: Option<String>| line.is_some_and(|line| line.contains("master"));
        if is_master(self.line_of(at, at).await) {
            return;
        }
        self.0[at].admin().await.command(&["CLUSTER", "RESET", "SOFT"]).await;
        let (port, bus) = (self.0[known].port.to_string(), self.bus_of(known).await);
        self.0[at].admin().await.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        let start = Instant::now();
        for server in 0..self.0.len() {
            while !is_master(self.line_of(server, at).await)
                || self.line_of(at, server).await.is_none_or(|line| line.contains("handshake"))
            {
                assert!(
                    start.elapsed() < FAILED_OVER,
                    "server {server} does not list {at} as a master"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.is_ok(&[at]).await;
    }

    async fn bus_of(&self, at: usize) -> String {
        let line = self.line_of(at, at).await.expect("a server lists itself");
        let after = line.split_once('@').expect("an address has a bus").1;
        after.chars().take_while(char::is_ascii_digit).collect()
    }

    /// Has a replica take over from its running master. Returns the replica, if there is one.
    pub(crate) async fn fail_over(&self, master: usize) -> Option<usize> {
        let mut client = self.0[master].admin().await;
        let follows = format!("slave {} ", id(&mut client).await);
        for at in 0..self.0.len() {
            if self.line_of(master, at).await.is_some_and(|line| line.contains(&follows)) {
                self.0[at].admin().await.command(&["CLUSTER", "FAILOVER"]).await;
                return Some(at);
            }
        }
        None
    }
}

async fn id(client: &mut RedisClient) -> String {
    client.command(&["CLUSTER", "MYID"]).await.text().to_owned()
}

async fn move_keys(source: &mut RedisClient, port: &str, slot: &str) {
    loop {
        let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", slot, "100"]).await.texts();
        if keys.is_empty() {
            return;
        }
        let mut words = vec!["MIGRATE", "127.0.0.1", port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        source.command(&words).await;
    }
}

/// The slots in a line of `CLUSTER NODES`, without those that are being moved.
fn slots(line: &str) -> Vec<usize> {
    let ranges = line.split(' ').skip(8).filter(|range| !range.starts_with('['));
    let slots = ranges.flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().expect("a slot is a number");
        number(first)..=number(last)
    });
    slots.collect()
}
