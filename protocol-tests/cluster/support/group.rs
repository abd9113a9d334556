//! Several nodes and the Redis that they share.

use std::net::SocketAddr;
use std::time::Duration;

use kit::{Server, Settings};

use super::Listener;
use kit::{Redis, becomes_ready, cluster_settings, node};

/// How long nodes may take to recover after Redis is reachable: twice the time that `docs/cluster.md` states, for busy
/// machines.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// How long the others may take to clean up after a node that died: 8 s, and the rest for busy machines.
pub(crate) const CLEANUP_MAX: Duration = Duration::from_secs(15);

/// A Redis and its nodes. Fields are dropped in this order, so nodes end before Redis.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) nodes: Vec<Server>,
    pub(crate) settings: Settings,
    pub(crate) redis: Redis,
}

impl Group {
    pub(crate) async fn of(count: usize) -> Self {
        Self::with(count, cluster_settings(), Redis::start().await).await
    }

    pub(crate) async fn with(count: usize, settings: Settings, redis: Redis) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(node(&settings, &redis.url()).await);
        }
        Self { nodes, settings, redis }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// Adds a node.
    pub(crate) async fn grow(&mut self) {
        self.nodes.push(node(&self.settings, &self.redis.url()).await);
    }

    /// Waits until all nodes are joined.
    pub(crate) async fn are_ready(&self, deadline: Duration) {
        for node in &self.nodes {
            becomes_ready(node, deadline).await;
        }
    }

    /// Kills a node with SIGKILL.
    pub(crate) async fn kill(&mut self, at: usize) {
        let mut node = self.nodes.remove(at);
        node.signal("KILL");
        assert_eq!(node.process.exit_code().await, None, "the node was killed");
    }
}

/// The channels of most of these tests: one public, one with presence.
pub(crate) const C: &str = "c";
pub(crate) const R: &str = "presence-r";

/// A listener that is a member of [`R`] and subscribed to [`C`].
pub(crate) async fn member(node: &Server, user: &str) -> Listener {
    let listener = Listener::of(node).await;
    listener.join(R, user).await;
    listener.subscribe(C).await;
    listener
}
