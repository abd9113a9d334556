//! The nodes of a run, the network between each of them and Redis, and Redis itself.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::support::{RedisCluster, Watched, WebhookRequest};
use kit::webhook_receiver::{ALL_EVENTS, WebhookReceiver};
use kit::{Proxy, Redis, Server, Settings, becomes_ready, cluster_settings, unready_node};

use super::world::World;

/// Streams of random numbers below this one belong to the clients.
const PART: u64 = 1_000_000;
/// The processes of a run. Fields are dropped in this order, so nodes end before Redis.
#[derive(Debug)]
pub(super) struct Testbed {
    pub(super) nodes: Vec<NodeProcess>,
    pub(super) servers: Servers,
    pub(super) world: Arc<World>,
    pub(super) random: StdRng,
    /// How many seconds the clock of Redis is ahead.
    pub(super) clock: i64,
    /// The keys that the test has deleted in the current fault.
    pub(super) deleted: HashSet<String>,
    /// Whether the run includes long faults.
    pub(super) is_long: bool,
    settings: Settings,
    requests: Arc<Mutex<Vec<WebhookRequest>>>,
}

#[derive(Debug)]
pub(super) struct NodeProcess {
    /// The process; `None` while the node is down.
    pub(super) server: Option<Server>,
    pub(super) starts_at: Instant,
    /// The proxy between the node and Redis. `None` on a Redis Cluster and behind Sentinels, since
    /// nodes connect to addresses that they discover.
    pub(super) proxy: Option<Proxy>,
}

#[derive(Debug)]
pub(super) enum Servers {
    One(Redis),
    Cluster(RedisCluster),
    Watched(Watched),
}

impl Servers {
    /// The only Redis, or the first server.
    pub(super) fn one(&mut self) -> &mut Redis {
        match self {
            Self::One(redis) => redis,
            Self::Cluster(cluster) => &mut cluster.0[0],
            Self::Watched(watched) => &mut watched.servers[0],
        }
    }

    pub(super) fn all(&self) -> &[Redis] {
        match self {
            Self::One(redis) => std::slice::from_ref(redis),
            Self::Cluster(cluster) => &cluster.0,
            Self::Watched(watched) => &watched.servers,
        }
    }

    pub(super) async fn masters(&self) -> Vec<usize> {
        match self {
            Self::One(_) => vec![0],
            Self::Cluster(cluster) => cluster.masters().await,
            Self::Watched(watched) => vec![watched.master().await],
        }
    }

    fn url(&self) -> String {
        match self {
            Self::One(redis) => redis.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Watched(watched) => watched.url(),
        }
    }
}

impl Testbed {
    /// Starts this many nodes and waits until they have joined.
    pub(super) async fn start(world: Arc<World>, servers: Servers, nodes: usize) -> Self {
        let (webhook, requests) = receive_webhooks().await;
        let settings = cluster_settings()
            .app("client_events_per_second", 1_000)
            .app("webhooks", format!(r#"[{{ url = "{webhook}", events = {ALL_EVENTS} }}]"#));
        let random = world.random(PART);
        let mut bed = Self {
            nodes: Vec::new(),
            servers,
            world,
            random,
            clock: 0,
            deleted: HashSet::new(),
            is_long: false,
            settings,
            requests,
        };
        for _ in 0..nodes {
            let proxy = match &bed.servers {
                Servers::One(redis) => Some(Proxy::in_front_of(redis.address()).await),
                Servers::Cluster(_) | Servers::Watched(_) => None,
            };
            bed.nodes.push(NodeProcess { server: None, starts_at: Instant::now(), proxy });
        }
        bed.start_nodes(Instant::now()).await;
        bed.become_ready(Duration::from_secs(20)).await;
        bed
    }

    /// Starts the nodes that are down and whose restart is due.
    pub(super) async fn start_nodes(&mut self, now: Instant) {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if node.server.is_some() || now < node.starts_at {
                continue;
            }
            let url = node.proxy.as_ref().map_or_else(|| self.servers.url(), Proxy::url);
            let server = unready_node(&self.settings, &url).await;
            self.world.note(format!("node {at} listens on {}", server.address));
            self.world.place(at, Some(server.address));
            node.server = Some(server);
        }
    }

    /// Waits until all nodes run and have joined.
    pub(super) async fn become_ready(&mut self, deadline: Duration) {
        self.start_nodes(Instant::now() + Duration::from_secs(60)).await;
        for node in &self.nodes {
            if let Some(server) = &node.server {
                becomes_ready(server, deadline).await;
            }
        }
        self.world.note("all nodes are ready".to_owned());
    }

    /// The indexes of the nodes that run.
    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].server.is_some()).collect()
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().filter_map(|node| Some(node.server.as_ref()?.address)).collect()
    }

    pub(super) fn webhook_requests(&self) -> Vec<WebhookRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn draw(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(milliseconds))
    }

    pub(super) fn any(&mut self, among: &[usize]) -> usize {
        among[self.random.random_range(0..among.len())]
    }

    /// Stops all nodes gracefully, and waits until they have exited.
    pub(super) async fn stop_nodes(&mut self) {
        for node in &self.nodes {
            if let Some(server) = &node.server {
                server.signal("TERM");
            }
        }
        for node in &mut self.nodes {
            if let Some(server) = &mut node.server {
                assert_eq!(server.process.exit_code().await, Some(0), "a node exits with status 0");
            }
        }
    }
}

/// Starts a webhook endpoint that records all requests.
async fn receive_webhooks() -> (String, Arc<Mutex<Vec<WebhookRequest>>>) {
    let mut receiver = WebhookReceiver::new().await;
    let url = receiver.url();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        // The task ends with the runtime of the test.
        loop {
            if receiver.taken() == receiver.count() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            let request = receiver.next().await;
            let request = WebhookRequest { at: request.at, body: request.body };
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        }
    });
    (url, requests)
}
