//! One run, from the start of the first node to the end of the last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::task::JoinSet;

use crate::support::{RedisCluster, Violation, Watched};
use kit::Redis;

use super::clients::{self, Life};
use super::faults::{BEHIND_SENTINELS, Fault, ON_A_CLUSTER, ON_ONE_REDIS};
use super::testbed::{Servers, Testbed};
use super::verdict;
use super::world::World;

/// The time after the last fault within which all nodes must be ready.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Milliseconds between two faults.
const PAUSE: std::ops::Range<u64> = 500..3_000;
/// Runs at least as long include long faults.
const LONG: Duration = Duration::from_secs(60);
/// How many actions each client has time for after the faults.
const CALM_ACTIONS: u32 = 2;
/// How many violations are printed in addition to the first.
const SHOWN: usize = 12;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The name of the run in the output.
    pub(super) name: &'static str,
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) clients: usize,
    /// Milliseconds between two actions of a client.
    pub(super) pause: std::ops::Range<u64>,
    pub(super) place: Place,
}

impl Plan {
    fn longest_pause(&self) -> Duration {
        Duration::from_millis(self.pause.end)
    }
}

/// The kind of Redis deployment that the nodes use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    OneRedis,
    Cluster,
    Sentinels,
}

/// A run with active clients.
pub(super) struct Run {
    plan: Plan,
    world: Arc<World>,
    pub(super) bed: Testbed,
    clients: JoinSet<Life>,
}

impl Run {
    #[expect(clippy::print_stderr, reason = "the seed is part of the report of a failed test")]
    pub(super) async fn start(plan: Plan) -> Self {
        eprintln!("chaos, {}: CAMPANILE_SEED={}", plan.name, plan.seed);
        let servers = match plan.place {
            Place::OneRedis => Servers::One(Redis::start_adjustable(&[]).await),
            Place::Cluster => Servers::Cluster(RedisCluster::start_adjustable().await),
            Place::Sentinels => Servers::Watched(Watched::start().await),
        };
        let world = Arc::new(World::new(plan.seed, plan.pause.clone()));
        let watcher = Arc::clone(&world);
        tokio::spawn(async move { watcher.record_stalls().await });
        let bed = Testbed::start(Arc::clone(&world), servers, plan.nodes).await;
        world.fault_free_begins();
        let mut clients = JoinSet::new();
        for index in 0..plan.clients {
            clients.spawn(clients::live(Arc::clone(&world), index));
        }
        Self { plan, world, bed, clients }
    }

    /// Injects one fault after the other for this long, sometimes two at once.
    pub(super) async fn inject_any(&mut self, time: Duration, faults: &[Fault]) {
        self.bed.is_long = LONG <= time;
        let end = Instant::now() + time;
        while Instant::now() < end {
            let pause = self.bed.draw(PAUSE);
            tokio::time::sleep(pause).await;
            self.bed.start_nodes(Instant::now()).await;
            let fault = faults[self.bed.random.random_range(0..faults.len())];
            let other = faults[self.bed.random.random_range(0..faults.len())];
            let is_double = self.bed.random.random_bool(0.3) && !fault.excludes(other);
            self.bed.suffer(fault, is_double.then_some(other)).await;
        }
    }

    /// Ends the clients' actions, waits until all nodes are ready, and checks everything.
    pub(super) async fn check(mut self) {
        self.bed.become_ready(READY_WITHIN).await;
        self.world.fault_free_begins();
        tokio::time::sleep(CALM_ACTIONS * self.plan.longest_pause()).await;
        self.world.fault_free_ends();
        self.world.stop();
        let mut lives = Vec::new();
        while let Some(life) = self.clients.join_next().await {
            lives.push(life.expect("a client does not panic"));
        }
        let mut violations = verdict::violations(&self.world, &self.bed, &lives).await;
        violations.extend(verdict::unserved(&self.world, &lives));
        let summary = self.world.summary(&lives);
        if violations.is_empty() {
            for life in &mut lives {
                life.hang_up();
            }
            violations.extend(verdict::departures(&self.world, &self.bed).await);
            self.bed.stop_nodes().await;
            violations.extend(verdict::lasting_keys(&self.world, &self.bed).await);
        }
        self.report(&summary, &violations, &lives);
    }

    #[expect(clippy::print_stderr, reason = "the amount of tested actions is part of the report")]
    fn report(&self, summary: &str, violations: &[Violation], lives: &[Life]) {
        let Plan { name, seed, .. } = &self.plan;
        eprintln!("chaos, {name}, seed {seed}: {summary}");
        let Some(first) = violations.first() else { return };
        let others = violations.iter().skip(1).take(SHOWN);
        let others: Vec<String> =
            others.map(|one| format!("\nalso {:?}: {}", one.rule, one.text)).collect();
        let others = others.concat();
        panic!(
            "chaos, {name}, seed {seed}: {} violations\n{:?}: {}{others}",
            violations.len(),
            first.rule,
            self.world.trace(first, lives)
        );
    }
}

/// All faults of a deployment, by their names.
pub(super) fn faults(place: Place) -> &'static [(&'static str, Fault)] {
    match place {
        Place::OneRedis => &ON_ONE_REDIS,
        Place::Cluster => &ON_A_CLUSTER,
        Place::Sentinels => &BEHIND_SENTINELS,
    }
}

pub(super) fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}
