//! The harness of all tests: the real server as a child process, a client that controls every byte, and signing.

mod call;
mod client;
pub(crate) mod frames;
mod http;
mod process;
mod server;
mod settings;
pub(crate) mod sign;
pub(crate) mod tls;

pub(crate) use call::{Call, unix_now};
pub(crate) use client::{COUNT, Client, inner, is_event, upgrade_request};
pub(crate) use frames::Frame;
pub(crate) use http::{Http, RawHttp, Reply};
pub(crate) use process::{Directory, Process};
pub(crate) use server::Server;
pub(crate) use settings::{APP_ID, KEY, SECRET, Settings, quoted};

use std::time::{Duration, Instant};

/// The timeout of every wait. It is far beyond any expected duration, even on a busy machine: reaching it is a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The value of `future`. Panics with `what` at the timeout.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, future).await;
    waited.unwrap_or_else(|_elapsed| panic!("waited {DEADLINE:?} for {what}"))
}

/// Evaluates the condition repeatedly until it is true, for changes that the server does not announce.
pub(crate) async fn eventually(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !question().await {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
