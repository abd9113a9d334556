//! The cluster tests: several real node processes that share a Redis, and failures of every part.
//!
//! Each test has its own `redis-server` on a free port and its own nodes, so tests run in parallel. The conformance
//! tests of shared state run here a second time, with connections and requests distributed over two nodes. Those about
//! a single process are omitted: `cli`, `connection`, `framing`, `hostile`, `http_auth`, `http_wire`,
//! `limits`, `limits_http`, `reload`, `shutdown` and `vectors`; limits that apply to all nodes together are in `cases`.

mod cached;
mod cases;
mod channels;
mod chaos;
mod commands;
mod console;
mod failure;
mod histories;
mod latency;
mod model_check;
mod redis_cluster;
mod reload;
mod scripts;
mod secrets;
mod sentinel;
mod support;

// Tests belong to the crate that runs them, so these modules are compiled here once more.
#[path = "../conformance/cache_count.rs"]
mod cache_count;
#[path = "../conformance/client_events.rs"]
mod client_events;
#[path = "../conformance/delivery.rs"]
mod delivery;
#[path = "../conformance/documented_metrics.rs"]
mod documented_metrics;
#[path = "../conformance/history.rs"]
mod history;
#[path = "../conformance/http_events.rs"]
mod http_events;
#[path = "../conformance/http_queries.rs"]
mod http_queries;
#[path = "../conformance/idempotency.rs"]
mod idempotency;
#[path = "../conformance/presence.rs"]
mod presence;
#[path = "../conformance/resume.rs"]
mod resume;
#[path = "../conformance/signin.rs"]
mod signin;
#[path = "../conformance/subscription.rs"]
mod subscription;

use kit::{Redis, Server, Settings, node, node_with_peers};

/// How this suite starts the server of a conformance test: as two nodes with a Redis. Connections and requests are
/// distributed over both.
trait Start {
    async fn start(&self) -> Server;
}

impl Start for Settings {
    async fn start(&self) -> Server {
        let redis = Redis::start().await;
        let other = node(self, &redis.url()).await;
        node_with_peers(self, &redis.url(), vec![other], Some(Box::new(redis))).await
    }
}
