//! The randomised test of the cluster: clients use all functions while faults of nodes, the network and Redis are
//! injected one after the other. Then the checker verifies every guarantee.
//!
//! - `chaos::single::…`: each fault once, for a few seconds, on three nodes with few clients.
//! - `chaos::mix::…`: faults drawn at random, on one Redis, on a Redis Cluster, behind Sentinels and on fifteen nodes.
//!
//! All random choices derive from a seed, which is printed: `CAMPANILE_SEED=n` repeats them. The scheduling of the
//! machine is not part of the seed, so a seed that failed once may need several runs to fail again. For long runs:
//!
//! | variable | meaning |
//! |---|---|
//! | `CAMPANILE_CHAOS_SECONDS` | the duration of a mix, 15 to 25 by default; more than 60 are split into rounds of 60 seconds, each with the next seed and new servers |
//! | `CAMPANILE_CHAOS_SEEDS` | how many seeds are run one after the other, 1 by default |
//! | `CAMPANILE_CHAOS_FAULTS` | the names of the faults of a mix, separated by commas: `pause,flush-all` |
//! | `CAMPANILE_CHAOS_NODES`, `CAMPANILE_CHAOS_CLIENTS` | the number of nodes and clients of a mix |
//! | `CAMPANILE_REDIS_SERVER` | the server program, such as `valkey-server` or the path of a Redis 6.2 |
//!
//! ```sh
//! CAMPANILE_CHAOS_SECONDS=3600 cargo test --test cluster chaos::mix::on_one_redis -- --nocapture
//! ```
//!
//! Redis runs with a small library that shifts its clock and is compiled with `cc`.

mod clients;
mod faults;
mod mix;
mod run;
mod single;
mod testbed;
mod verdict;
mod world;
