//! Explores fault sequences and timings of nodes, network and Redis, derived from seeds.
//!
//! `CAMPANILE_SEED` is the first seed and `CAMPANILE_SIMULATION_SEEDS` the number of seeds, for one Redis and for a
//! Redis Cluster. A failing seed fails reproducibly. `CAMPANILE_SIMULATION_FAULTS` limits the faults to those that it
//! names, such as `Cut,Flush`; `CAMPANILE_SIMULATION_SETTLE_SECONDS` is the time within which they must be repaired.

use super::{
    paused_runtime,
    world::{Fault, RunPlan, World},
};
use std::time::Duration;

/// The time within which every fault is repaired: a round of comparisons, and a lease.
const SETTLES_WITHIN: Duration = Duration::from_secs(45);

/// Runs one plan in its own runtime.
pub(super) fn run(plan: &RunPlan) -> (Result<(), String>, u64, u64) {
    paused_runtime().block_on(async {
        let mut world = World::new(plan.clone());
        let result = world.run().await;
        let result = result.map_err(|violation| world.report(&violation));
        (result, world.fingerprint(), world.commands())
    })
}

pub(super) fn plan(seed: u64, is_redis_cluster: bool) -> RunPlan {
    RunPlan {
        seed,
        nodes: 3,
        is_redis_cluster,
        time: Duration::from_secs(40),
        faults: Vec::new(),
        churn: 1,
        settles_within: SETTLES_WITHIN,
    }
}

fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

/// The faults that `CAMPANILE_SIMULATION_FAULTS` names; without it none, which means all.
fn named_faults(is_redis_cluster: bool) -> Vec<Fault> {
    let Ok(names) = std::env::var("CAMPANILE_SIMULATION_FAULTS") else { return Vec::new() };
    let all = Fault::all(is_redis_cluster);
    let find = |name: &str| all.iter().copied().find(|fault| format!("{fault:?}") == name);
    names.split(',').map(|name| find(name).unwrap_or_else(|| panic!("no fault {name}"))).collect()
}

fn explore(name: &str, is_redis_cluster: bool, seeds: u64) {
    let first = variable("CAMPANILE_SEED", 1);
    let last = first + variable("CAMPANILE_SIMULATION_SEEDS", seeds);
    let started = std::time::Instant::now();
    let faults = named_faults(is_redis_cluster);
    let settle_s = variable("CAMPANILE_SIMULATION_SETTLE_SECONDS", SETTLES_WITHIN.as_secs());
    let mut commands = 0;
    for seed in first..last {
        let plan = RunPlan {
            faults: faults.clone(),
            settles_within: Duration::from_secs(settle_s),
            ..plan(seed, is_redis_cluster)
        };
        let (result, _, executed) = run(&plan);
        commands += executed;
        if let Err(violation) = result {
            panic!("{name}: CAMPANILE_SEED={seed}: {violation}");
        }
    }
    eprintln!(
        "{name}: CAMPANILE_SEED={first} to {last}, {commands} commands in {:.1} s",
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn on_one_redis_every_guarantee_holds() {
    explore("one Redis", false, 100);
}

#[test]
fn on_a_redis_cluster_every_guarantee_holds() {
    explore("Redis Cluster", true, 40);
}

#[test]
fn a_seed_does_the_same_each_time() {
    let plan = plan(7, false);
    let (first, second) = (run(&plan), run(&plan));
    assert_eq!(first.1, second.1, "the same observations");
    assert_eq!(first.2, second.2, "the same commands for Redis");
}

#[test]
fn deleted_keys_are_restored() {
    for seed in 1..10 {
        let plan = RunPlan { faults: vec![Fault::Evict], ..plan(seed, seed % 3 == 0) };
        if let Err(violation) = run(&plan).0 {
            panic!("CAMPANILE_SEED={seed}: {violation}");
        }
    }
}
