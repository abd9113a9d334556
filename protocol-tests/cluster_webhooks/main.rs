//! Webhooks of several nodes that are joined by Redis: everything is told once by all of them together, and what
//! waits outlives the node that was to tell it. Real nodes, a real `redis-server`, and an endpoint that keeps what it
//! hears.
//!
//! "Nothing more is told" is not proved by waiting: something else is done that is told later, and it is the next.

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
#[path = "../rust/sink.rs"]
mod sink;

use harness::{Server, Settings};

/// One node; `group` starts several.
async fn start(settings: &Settings) -> Server {
    Server::start(settings, Vec::new(), None).await
}
