//! What the suites share: the server under test as a child process, a client that controls every byte, signing,
//! `redis-server`, a proxy with faults, and an endpoint for webhooks.

#![expect(
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    clippy::return_self_not_must_use,
    reason = "the users are tests: a panic is a failed test, and an unused value is harmless"
)]

mod allocations;
mod call;
mod client;
mod console;
pub mod frames;
mod http;
mod nodes;
mod previous;
mod process;
mod program;
mod proxy;
mod redis;
mod resp;
mod server;
mod settings;
pub mod sign;
pub mod tls;
pub mod webhook_receiver;

pub use allocations::CountedAllocations;
pub use call::{Call, unix_now};
pub use client::{COUNT, Client, inner, is_event, upgrade_request};
pub use console::{
    ConsolePage, ConsoleSession, ORIGIN, console_file, console_login, console_request,
};
pub use frames::Frame;
pub use http::{Http, RawHttp, Reply, head_end};
pub use nodes::{
    Metrics, becomes_ready, becomes_unready, cluster_settings, metrics, node, node_with_peers,
    readiness, unready_node,
};
pub use previous::{PREVIOUS_PROGRAM, previous_program};
pub use process::{Directory, Process};
pub use program::{PROGRAM, program, root};
pub use proxy::{LinkFault, Proxy};
pub use redis::{Redis, clock_library, free_port};
pub use resp::{RedisClient, Resp};
pub use server::{KeptAlive, Server};
pub use settings::{APP_ID, KEY, SECRET, Settings, quoted};

use std::time::{Duration, Instant};

/// The timeout of every wait. It is far beyond any expected duration, even on a busy machine: reaching it is a failure.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The value of `future`. Panics with `what` at the timeout.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, future).await;
    waited.unwrap_or_else(|_elapsed| panic!("waited {DEADLINE:?} for {what}"))
}

/// Evaluates the condition repeatedly until it is true, for changes that the server does not announce.
pub async fn eventually(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !question().await {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
