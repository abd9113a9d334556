//! Nodes that share a simulated Redis, for tests of what uses the cluster.

use super::network::{KeptData, Network, NodeId};
use crate::broker::redis::{RedisBroker, cluster_state::ClusterState, random};
use std::{collections::HashMap, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

const HOST: &str = "redis";
const PORT: u16 = 6379;
/// The prefix of all keys.
const PREFIX: &str = "test";
/// `redis.node_timeout_ms`.
const NODE_TIMEOUT: Duration = Duration::from_secs(6);
/// `redis.broker_wait_ms`.
const BROKER_WAIT: Duration = Duration::from_secs(2);

/// One Redis in simulated time. Requires a runtime of one thread with a paused clock.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedRedis {
    network: Network,
    nodes: NodeId,
}

/// A node without apps. Dropping it ends its process without leaving the cluster.
#[derive(Debug)]
pub(crate) struct SimulatedNode {
    pub(crate) broker: RedisBroker,
    tasks: Vec<JoinHandle<()>>,
}

impl SimulatedRedis {
    /// An empty Redis.
    pub(crate) fn new() -> Self {
        random::seed(1);
        let network = Network::new(1);
        network.add_server(HOST, PORT);
        Self { network, nodes: 0 }
    }

    /// A node that begins to join.
    pub(crate) fn start_node(&mut self) -> SimulatedNode {
        let endpoint = self.network.endpoint(self.nodes, &[(HOST, PORT)], false);
        self.nodes += 1;
        let shared = ClusterState::new(PREFIX, false, BROKER_WAIT);
        let (broker, tasks) = RedisBroker::new(shared, endpoint, HashMap::new(), NODE_TIMEOUT);
        SimulatedNode { broker, tasks: tasks.into_iter().map(tokio::spawn).collect() }
    }

    /// A node that has joined.
    pub(crate) async fn join(&mut self) -> SimulatedNode {
        let node = self.start_node();
        node.until_joined().await;
        node
    }

    /// Executes a command at once, in any state of the server.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let reply = self.network.ask(HOST, PORT, words);
        redis::from_redis_value(reply).expect("a reply of this type")
    }

    /// The key whose name, without the common prefix, begins with `begin`.
    pub(crate) fn key(&self, begin: &str) -> Option<String> {
        self.key_ending(begin, "")
    }

    /// The key whose name, without the common prefix, begins with `begin` and ends with `end`.
    pub(crate) fn key_ending(&self, begin: &str, end: &str) -> Option<String> {
        let keys = self.network.keys(HOST, PORT).into_iter();
        let mut names = keys.map(|key| String::from_utf8(key).expect("it is text"));
        names.find(|name| name.starts_with(&format!("{PREFIX}:{begin}")) && name.ends_with(end))
    }

    /// Stops the execution of commands for `duration`.
    pub(crate) fn pause(&self, duration: Duration) {
        self.network.pause(HOST, PORT, Instant::now() + duration);
    }

    /// Closes all connections and rejects new ones, until [`Self::restart`].
    pub(crate) fn stop(&self) {
        self.network.kill(HOST, PORT);
    }

    /// Starts Redis again with all its data.
    pub(crate) fn restart(&self) {
        self.restart_with(KeptData::All);
    }

    /// Starts Redis again with a part of its data.
    pub(crate) fn restart_with(&self, kept: KeptData) {
        self.network.restart(HOST, PORT, kept);
    }

    /// The number of commands that Redis has executed for nodes.
    pub(crate) fn commands(&self) -> u64 {
        self.network.commands(HOST, PORT)
    }
}

impl SimulatedNode {
    /// The number of replies and messages that could not be read.
    pub(crate) fn unexpected_data(&self) -> u64 {
        self.broker.shared.metrics.unexpected_data.get()
    }

    /// Waits until the node has joined; it must within a minute.
    pub(crate) async fn until_joined(&self) {
        let end = Instant::now() + Duration::from_mins(1);
        while let Some(reason) = self.broker.unavailable_reason() {
            assert!(Instant::now() < end, "not joined within a minute: {reason}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for SimulatedNode {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
