//! The cluster tests: several nodes joined by Redis, all of them real processes, and everything that can go wrong
//! between them.
//!
//! Each test has its own `redis-server` on a free port and its own nodes, so tests run side by side. The conformance
//! tests of what nodes share are here a second time, with connections and requests going to two nodes in turn. Those
//! that are left out are about one process alone: `cli`, `connection`, `framing`, `hostile`, `http_auth`,
//! `http_wire`, `limits`, `limits_http`, `reload`, `shutdown` and `vectors`; limits that hold for all nodes together are in
//! `cases`.

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

/// Each conformance test has two nodes and a Redis that joins them.
async fn start(settings: &Settings) -> Server {
    let redis = Redis::start().await;
    let other = node(settings, &redis.url()).await;
    node_beside(settings, &redis.url(), vec![other], Some(Box::new(redis))).await
}
