//! The randomised test of the cluster: clients do everything they can while one fault after the other happens to nodes,
//! the network and Redis, and then the checker says whether every promise was kept.
//!
//! - `storm::single::…`: each fault once, a few seconds each, on three nodes with few clients.
//! - `storm::mix::…`: faults drawn at random, on one Redis, on a Redis Cluster, behind Sentinels and on fifteen nodes.
//!
//! What is drawn is drawn from a seed, which is printed: `CAMPANILE_SEED=n` draws the same again. The schedule of the
//! machine is not part of it, so a seed that failed once may have to be tried some times. For the long form:
//!
//! | variable | is |
//! |---|---|
//! | `CAMPANILE_STORM_SECONDS` | how long a mix runs, 20 by itself; more than 60 are rounds of 60 seconds, each with the next seed and new servers |
//! | `CAMPANILE_STORM_SEEDS` | how many seeds are tried one after the other, 1 by itself |
//! | `CAMPANILE_STORM_FAULTS` | names of the faults that a mix draws from, with commas between: `pause,flush-all` |
//! | `CAMPANILE_STORM_NODES`, `CAMPANILE_STORM_CLIENTS` | how many there are in a mix |
//! | `CAMPANILE_REDIS_SERVER` | the server to test with, such as `valkey-server` or the path of a Redis 6.2 |
//!
//! ```sh
//! CAMPANILE_STORM_SECONDS=3600 cargo test --test cluster storm::mix::on_one_redis -- --nocapture
//! ```
//!
//! Redis runs with a small library that shifts its clock, which is compiled with `cc`.

mod clients;
mod faults;
mod mix;
mod run;
mod single;
mod testbed;
mod verdict;
mod world;
