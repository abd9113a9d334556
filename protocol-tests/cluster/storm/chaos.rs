//! What befalls nodes and Redis in the storm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::harness::{Server, Settings};
use crate::kit::{Redis, becomes_ready, node, unready_node};

use super::world::World;

/// Milliseconds between two blows, and how long their effects last.
const PAUSE: std::ops::Range<u64> = 1_000..4_000;
const DEAD: std::ops::Range<u64> = 500..9_000;
const FROZEN: std::ops::Range<u64> = 300..8_000;
const AWAY: std::ops::Range<u64> = 0..4_000;
/// The lots of the clients are numbered from 0.
const LOTS: u64 = 1_000_000;

/// The nodes and their Redis. Nodes end first.
#[derive(Debug)]
pub(super) struct Chaos {
    nodes: Vec<Node>,
    redis: Redis,
    settings: Settings,
    world: Arc<World>,
    lots: StdRng,
}

#[derive(Debug)]
enum Node {
    Running(Server),
    DeadUntil(Instant),
}

impl Chaos {
    pub(super) async fn begin(
        world: Arc<World>,
        redis: Redis,
        settings: Settings,
        nodes: usize,
    ) -> Self {
        let mut running = Vec::new();
        for at in 0..nodes {
            let server = node(&settings, &redis.url()).await;
            world.place(at, Some(server.address));
            running.push(Node::Running(server));
        }
        let lots = world.lots(LOTS);
        Self { nodes: running, redis, settings, world, lots }
    }

    /// One blow after the other, for some time.
    pub(super) async fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let pause = self.draw(PAUSE);
            tokio::time::sleep(pause).await;
            self.revive(Instant::now()).await;
            match self.lots.random_range(0..10) {
                0..5 => self.kill_a_node().await,
                5..8 => self.freeze_redis().await,
                _ => self.restart_redis().await,
            }
        }
    }

    /// Everything runs again and is joined.
    pub(super) async fn calm(&mut self, deadline: Duration) {
        self.revive(Instant::now() + Duration::from_millis(DEAD.end)).await;
        for node in &self.nodes {
            if let Node::Running(server) = node {
                becomes_ready(server, deadline).await;
            }
        }
        self.world.note("all nodes are ready".to_owned());
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let running = self.nodes.iter().filter_map(|node| match node {
            Node::Running(server) => Some(server.address),
            Node::DeadUntil(_) => None,
        });
        running.collect()
    }

    fn draw(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.lots.random_range(range))
    }

    async fn kill_a_node(&mut self) {
        let at = self.lots.random_range(0..self.nodes.len());
        let time = self.draw(DEAD);
        let others_run = self.addresses().len() > 1;
        if let Node::Running(server) = &mut self.nodes[at]
            && others_run
        {
            self.world.place(at, None);
            self.world.note(format!("kill -9 of node {at}, {}, for {time:?}", server.address));
            server.signal("KILL");
            server.process.exit_code().await;
            self.nodes[at] = Node::DeadUntil(Instant::now() + time);
        }
    }

    async fn freeze_redis(&mut self) {
        let time = self.draw(FROZEN);
        self.world.note(format!("SIGSTOP of Redis for {time:?}"));
        self.redis.freeze();
        tokio::time::sleep(time).await;
        self.redis.thaw();
        self.world.note("SIGCONT of Redis".to_owned());
    }

    async fn restart_redis(&mut self) {
        let time = self.draw(AWAY);
        self.world.note(format!("kill -9 of Redis for {time:?}"));
        self.redis.kill();
        tokio::time::sleep(time).await;
        self.redis.start_again().await;
        self.world.note("Redis runs again, empty".to_owned());
    }

    /// Starts the nodes whose time has come.
    async fn revive(&mut self, now: Instant) {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if let Node::DeadUntil(until) = node
                && *until <= now
            {
                let server = unready_node(&self.settings, &self.redis.url()).await;
                self.world.note(format!("node {at} runs again at {}", server.address));
                self.world.place(at, Some(server.address));
                *node = Node::Running(server);
            }
        }
    }
}
