//! The cluster tests: several real node processes that share a Redis, and failures of every part.
//!
//! Each test has its own `redis-server` on a free port and its own nodes, so tests run in parallel. The conformance
//! tests of shared state run here a second time, with connections and requests distributed over two nodes. Those about
//! a single process are omitted: `cli`, `connection`, `framing`, `hostile`, `http_auth`, `http_wire`,
//! `limits`, `limits_http`, `reload`, `shutdown` and `vectors`; limits that apply to all nodes together are in `cases`.

mod cached;
mod cases;
mod channels;
mod commands;
mod failure;
mod kit;
mod latency;
mod model_check;
mod redis_cluster;
mod reload;
mod scripts;
mod secrets;
mod sentinel;
mod storm;

#[expect(
    dead_code,
    unused_imports,
    reason = "the harness is that of the conformance tests, and serves more than is needed here"
)]
#[path = "../rust/harness/mod.rs"]
mod harness;

#[expect(dead_code, reason = "as above")]
#[path = "../rust/webhook_receiver.rs"]
mod webhook_receiver;

#[path = "../rust/cache_count.rs"]
mod cache_count;
#[path = "../rust/client_events.rs"]
mod client_events;
#[path = "../rust/delivery.rs"]
mod delivery;
#[path = "../rust/documented_metrics.rs"]
mod documented_metrics;
#[path = "../rust/http_events.rs"]
mod http_events;
#[path = "../rust/http_queries.rs"]
mod http_queries;
#[path = "../rust/presence.rs"]
mod presence;
#[path = "../rust/signin.rs"]
mod signin;
#[path = "../rust/subscription.rs"]
mod subscription;

use harness::{Server, Settings};
use kit::{Redis, node, node_beside};

/// Starts two nodes with a Redis, for a conformance test.
async fn start(settings: &Settings) -> Server {
    let redis = Redis::start().await;
    let other = node(settings, &redis.url()).await;
    node_beside(settings, &redis.url(), vec![other], Some(Box::new(redis))).await
}
