//! What every test stands on: the real server as a child process, a client that controls every byte, and signing.

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

/// The longest that a test waits for anything. It is a verdict, not a pause: what comes, comes at once, unless the machine
/// is busy with much else.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The value of `future`, or a failure that says what did not come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, future).await;
    waited.unwrap_or_else(|_elapsed| panic!("waited {DEADLINE:?} for {what}"))
}

/// Asks again and again until the answer is yes. For what the server promises to become true without telling anybody.
pub(crate) async fn eventually(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !question().await {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
