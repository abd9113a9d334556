//! Several nodes with webhooks to test endpoints.

use std::time::{Duration, Instant};

use campanile::signature::Signer;
use serde_json::Value;

use kit::webhook_receiver::{Request, WebhookReceiver};
use kit::{Client, Http, KEY, Redis, SECRET, Server, Settings, eventually, free_port, quoted};

const METRICS_TOKEN: &str = "metrics-of-the-tests";

/// Nodes, and their Redis. Fields are dropped in this order, so nodes end before Redis.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) nodes: Vec<Server>,
    pub(crate) redis: Vec<Redis>,
}

/// Webhooks in TOML: each endpoint with its events.
pub(crate) fn webhooks(endpoints: &[(&WebhookReceiver, &str)]) -> Settings {
    let one = |(receiver, events): &(&WebhookReceiver, &str)| {
        format!(r#"{{ url = "{}", events = {events} }}"#, receiver.url())
    };
    let all = endpoints.iter().map(one).collect::<Vec<_>>().join(", ");
    Settings::new()
        .section("metrics", "token", quoted(METRICS_TOKEN))
        .app("webhooks", format!("[{all}]"))
}

impl Group {
    pub(crate) async fn of(count: usize, settings: Settings) -> Self {
        let redis = Redis::start().await;
        let url = redis.url();
        Self::beside(vec![redis], &url, count, settings).await
    }

    /// Nodes on a Redis Cluster.
    pub(crate) async fn on_a_cluster(count: usize, settings: Settings) -> Self {
        let redis = start_cluster().await;
        let hosts: Vec<_> = redis.iter().map(|redis| redis.address().to_string()).collect();
        let url = format!("redis+cluster://{}", hosts.join(","));
        Self::beside(redis, &url, count, settings).await
    }

    async fn beside(redis: Vec<Redis>, url: &str, count: usize, settings: Settings) -> Self {
        let settings = settings.section("redis", "url", quoted(url));
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(settings.start_node().await);
        }
        for node in &nodes {
            until("a node is joined", async || is_ready(node).await).await;
        }
        Self { nodes, redis }
    }

    pub(crate) async fn client(&self, node: usize) -> Client {
        self.nodes[node].client().await
    }

    /// The node that delivers the webhooks, once there is one.
    pub(crate) async fn leader(&self) -> usize {
        let mut found = None;
        until("one node delivers webhooks", async || {
            let mut leaders = Vec::new();
            for (at, node) in self.nodes.iter().enumerate() {
                if sample(node, "campanile_webhook_leader").await == Some(1) {
                    leaders.push(at);
                }
            }
            if let [first, _, ..] = leaders[..] {
                // The delivery may have moved after the first answer.
                let answer = sample(&self.nodes[first], "campanile_webhook_leader").await;
                assert_ne!(answer, Some(1), "{leaders:?} deliver webhooks");
                return false;
            }
            found = leaders.pop();
            found.is_some()
        })
        .await;
        found.expect("it was waited for")
    }

    /// The number of script calls by nodes. Idle nodes send no other commands.
    pub(crate) async fn scripts_called(&self) -> u32 {
        let answer = self.redis[0].command(&["INFO", "commandstats"]).await;
        let mut lines = answer.text().lines();
        let calls = lines.find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let calls = calls.and_then(|calls| calls.split(',').next()?.parse().ok());
        calls.unwrap_or_else(|| panic!("no scripts in {answer:?}"))
    }

    /// Kills a node with SIGKILL.
    pub(crate) async fn kill(&mut self, at: usize) {
        let mut node = self.nodes.remove(at);
        node.signal("KILL");
        assert_eq!(node.process.exit_code().await, None, "it was killed");
    }
}

/// Three servers of a Redis Cluster, without replicas.
async fn start_cluster() -> Vec<Redis> {
    const SLOTS: usize = 16_384;
    let mut servers = Vec::new();
    let mut buses = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        let options = ["--save", "", "--cluster-enabled", "yes", "--cluster-port", &bus];
        servers.push(Redis::start_with(&options).await);
        buses.push(bus);
    }
    for (at, server) in servers.iter().enumerate() {
        let (from, to) = (SLOTS * at / 3, SLOTS * (at + 1) / 3 - 1);
        let (from, to) = (from.to_string(), to.to_string());
        server.command(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await;
        let first = servers[0].port.to_string();
        server.command(&["CLUSTER", "MEET", "127.0.0.1", &first, &buses[0]]).await;
    }
    for server in &servers {
        eventually("the cluster is whole", async || {
            let info = server.command(&["CLUSTER", "INFO"]).await;
            let info = info.text();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    servers
}

pub(crate) async fn is_ready(node: &Server) -> bool {
    Http::plain(node.address, "GET", "/ready", &[]).await.status == 200
}

/// The sum of all samples of this name on a node, if there are any.
pub(crate) async fn sample(node: &Server, name: &str) -> Option<u64> {
    let bearer = format!("Bearer {METRICS_TOKEN}");
    let reply = Http::plain(node.address, "GET", "/metrics", &[("authorization", &bearer)]).await;
    assert_eq!(reply.status, 200, "{reply}");
    let samples = reply.text().lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit(' ').next()?.parse::<u64>().ok()
    });
    samples.reduce(|sum, more| sum + more)
}

/// The longest time until a node's death is detected, plus the delay of removals.
const PATIENCE: Duration = Duration::from_secs(25);

/// Repeats a check until it succeeds; waits longer than the conformance tests, because nodes die
/// here.
pub(crate) async fn until(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !question().await {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The next request, whose signature is verified.
pub(crate) async fn request(receiver: &mut WebhookReceiver) -> Request {
    until("the webhook hears more", async || receiver.taken() < receiver.count()).await;
    let request = receiver.next().await;
    let signature = Signer::new(SECRET).sign(&request.body);
    assert_eq!(request.header("x-pusher-signature"), [signature]);
    assert_eq!(request.header("x-pusher-key"), [KEY]);
    request
}

/// The next `count` events, from any number of requests.
pub(crate) async fn received(receiver: &mut WebhookReceiver, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(request(receiver).await.events());
    }
    assert_eq!(events.len(), count, "{events:?}");
    events
}
