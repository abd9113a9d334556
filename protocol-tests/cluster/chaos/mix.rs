//! Faults drawn at random.

use std::time::Duration;

use super::faults::Fault;
use super::run::{Place, Plan, Run, faults, variable};

/// Longer runs consist of rounds of this many seconds, so that the received messages fit into
/// memory.
const ROUND: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_redis() {
    let plan = Plan {
        name: "on one Redis",
        seed: 1,
        nodes: 3,
        clients: 120,
        pause: 300..1_500,
        place: Place::OneRedis,
    };
    rounds(plan, 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_redis_cluster() {
    let plan = Plan {
        name: "on a Redis Cluster",
        seed: 2,
        nodes: 3,
        clients: 60,
        pause: 300..1_500,
        place: Place::Cluster,
    };
    rounds(plan, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels() {
    let plan = Plan {
        name: "behind Sentinels",
        seed: 1,
        nodes: 3,
        clients: 60,
        pause: 300..1_500,
        place: Place::Sentinels,
    };
    rounds(plan, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_fifteen_nodes() {
    let plan = Plan {
        name: "on fifteen nodes",
        seed: 3,
        nodes: 15,
        clients: 60,
        pause: 300..1_500,
        place: Place::OneRedis,
    };
    rounds(plan, 15).await;
}

/// Runs a plan for this many seconds, or as long as the environment specifies.
async fn rounds(mut plan: Plan, seconds: u64) {
    let seconds = variable("CAMPANILE_CHAOS_SECONDS", seconds);
    let first = variable("CAMPANILE_SEED", plan.seed);
    let number = |name, default: usize| {
        let default = u64::try_from(default).expect("it is small");
        usize::try_from(variable(name, default)).expect("it is small")
    };
    plan.nodes = number("CAMPANILE_CHAOS_NODES", plan.nodes);
    plan.clients = number("CAMPANILE_CHAOS_CLIENTS", plan.clients);
    let faults = chosen(faults(plan.place));
    let rounds = variable("CAMPANILE_CHAOS_SEEDS", 1) * seconds.div_ceil(ROUND).max(1);
    for seed in first..first + rounds {
        let mut run = Run::start(Plan { seed, ..plan.clone() }).await;
        run.inject_any(Duration::from_secs(seconds.min(ROUND)), &faults).await;
        run.check().await;
    }
}

/// The faults that the environment specifies, or all.
fn chosen(all: &[(&str, Fault)]) -> Vec<Fault> {
    let Ok(names) = std::env::var("CAMPANILE_CHAOS_FAULTS") else {
        return all.iter().map(|(_, fault)| *fault).collect();
    };
    let find = |name: &str| {
        let known: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let found = all.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("unknown fault {name:?}; known are {known:?}")).1
    };
    names.split(',').map(find).collect()
}
