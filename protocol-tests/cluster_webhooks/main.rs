//! Webhooks of several nodes that share a Redis: every event is delivered once by all of them together, and queued
//! events survive the node that was to deliver them. Real nodes, a real `redis-server`, and an endpoint that records
//! its requests.
//!
//! "Nothing more is delivered" is not tested by waiting: a later event is caused, and it must be the next one.

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

/// One node; `group` starts several.
async fn start(settings: &Settings) -> Server {
    Server::start(settings, Vec::new(), None).await
}
