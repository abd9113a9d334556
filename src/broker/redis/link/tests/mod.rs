//! Tests of the link against fake servers.

mod client;
mod connect;
mod fake;
mod routing;
mod sentinel;
mod tls;

use super::{LinkEvent, LinkEvents, RedisConnection, RedisEndpoint};
use crate::config::{RedisConfig, RedisTarget};
use redis::{Cmd, RedisResult, cmd};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// A timeout for every step of a test.
const PATIENCE: Duration = Duration::from_secs(10);

async fn connect(url: &str) -> RedisResult<(RedisConnection, LinkEvents)> {
    endpoint(url).connect().await
}

fn endpoint(url: &str) -> RedisEndpoint {
    endpoint_of(&RedisConfig { url: url.parse().unwrap(), ..RedisConfig::default() })
}

fn endpoint_of(config: &RedisConfig) -> RedisEndpoint {
    let target: RedisTarget = config.url.target().unwrap().clone();
    RedisEndpoint::new(config, target).unwrap()
}

async fn next(events: &mut LinkEvents) -> LinkEvent {
    timeout(PATIENCE, events.next()).await.expect("no push")
}

/// Asserts that no push arrives for a while.
async fn receives_nothing(events: &mut LinkEvents, a_while: Duration) {
    if let Ok(event) = timeout(a_while, events.next()).await {
        panic!("unexpected push {event:?}");
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn echo(word: &str) -> Cmd {
    let mut command = cmd("ECHO");
    command.arg(word);
    command
}
