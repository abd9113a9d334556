//! The storm: nodes, clients and Redis do everything they can at once, and a model says whether every promise was
//! kept.
//!
//! What is drawn by lot is drawn from a seed, which is printed: `CAMPANILE_SEED=n` draws the same again. The schedule
//! of the machine is not part of it, so a seed that failed once may have to be tried some times.
//! `CAMPANILE_STORM_SECONDS` is how long it blows (20), `CAMPANILE_STORM_SEEDS` how many seeds are tried in a row (1).

mod chaos;
mod clients;
mod verdict;
mod world;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::kit::{Redis, cluster_settings};

use chaos::Chaos;
use world::World;

const NODES: usize = 3;
const CLIENTS: usize = 200;
/// After the storm, everything is right within this time.
const QUIET: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storm() {
    let seconds = variable("CAMPANILE_STORM_SECONDS", 20);
    let first = variable("CAMPANILE_SEED", 1);
    for seed in first..first + variable("CAMPANILE_STORM_SEEDS", 1) {
        blows(seed, Duration::from_secs(seconds)).await;
    }
}

#[expect(clippy::print_stderr, reason = "the seed belongs into the report of a failed test")]
async fn blows(seed: u64, time: Duration) {
    eprintln!("storm: CAMPANILE_SEED={seed} CAMPANILE_STORM_SECONDS={}", time.as_secs());
    let redis = Redis::start().await;
    let world = Arc::new(World::new(seed));
    let mut chaos = Chaos::begin(Arc::clone(&world), redis, cluster_settings(), NODES).await;
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        clients.spawn(clients::live(Arc::clone(&world), index));
    }
    chaos.rage(time).await;
    chaos.calm(QUIET).await;
    world.stop();
    let mut lives = Vec::new();
    while let Some(life) = clients.join_next().await {
        lives.push(life.expect("a client does not panic"));
    }
    let verdict = verdict::after(&world, &chaos, &lives, QUIET).await;
    eprintln!("storm: {}", world.summary(&lives));
    if let Err(violation) = verdict {
        panic!("seed {seed}: {}", world.trace(&violation, &lives));
    }
}

fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}
