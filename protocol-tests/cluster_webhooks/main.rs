//! Webhooks of several nodes that share a Redis: the cluster delivers every event once, and queued events outlive the
//! delivering node. The tests use real nodes, a real `redis-server`, and an endpoint that records its requests.
//!
//! The absence of further events is not tested by waiting: a later event is caused, and it must be the next one.

mod failure;
mod group;
mod once;
mod partitions;
mod redis;
mod refused;
mod reload;

#[expect(
    dead_code,
    unused_imports,
    reason = "the harness is that of the conformance tests, and serves more than is needed here"
)]
#[path = "../rust/harness/mod.rs"]
mod harness;
#[expect(dead_code, reason = "as above")]
#[path = "../cluster/kit/proxy.rs"]
mod proxy;
#[expect(dead_code, reason = "as above")]
#[path = "../rust/webhook_receiver.rs"]
mod webhook_receiver;

use harness::{Server, Settings};

/// Starts one node; `group` starts several.
async fn start(settings: &Settings) -> Server {
    Server::start(settings, Vec::new(), None).await
}
