//! Nodes that share a Redis.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Http, Server, Settings, quoted};

const METRICS_TOKEN: &str = "metrics-of-the-cluster-tests";

/// The default settings of the tests, with metrics.
pub fn cluster_settings() -> Settings {
    Settings::new().section("metrics", "token", quoted(METRICS_TOKEN))
}

/// Starts a node and waits until it is joined.
pub async fn node(settings: &Settings, redis: &str) -> Server {
    node_with_peers(settings, redis, Vec::new(), None).await
}

/// Starts a node in front of others, as [`Server::start`] does, and waits until it is joined.
pub async fn node_with_peers(
    settings: &Settings,
    redis: &str,
    others: Vec<Server>,
    kept_alive: Option<Box<dyn std::fmt::Debug + Send + Sync>>,
) -> Server {
    let settings = settings.clone().section("redis", "url", quoted(redis));
    let server = Server::start(&settings, others, kept_alive).await;
    becomes_ready(&server, Duration::from_secs(10)).await;
    server
}

/// Starts a node that may have to wait for its Redis.
pub async fn unready_node(settings: &Settings, redis: &str) -> Server {
    let settings = settings.clone().section("redis", "url", quoted(redis));
    settings.start_node().await
}

/// The status and the body of `/ready`.
pub async fn readiness(address: SocketAddr) -> (u16, Value) {
    let reply = Http::plain(address, "GET", "/ready", &[]).await;
    let body = reply.json();
    (reply.status, body)
}

/// Waits until a node is joined. Until then, it must give its reasons.
pub async fn becomes_ready(server: &Server, deadline: Duration) {
    let start = Instant::now();
    loop {
        let (status, body) = readiness(server.address).await;
        if status == 200 {
            return;
        }
        assert_eq!((status, &body["ready"]), (503, &Value::Bool(false)), "{body}");
        let reasons = body["reasons"].as_array().unwrap_or_else(|| panic!("no reasons: {body}"));
        assert!(!reasons.is_empty(), "no reasons: {body}");
        assert!(start.elapsed() < deadline, "not ready in {deadline:?}: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a node is not ready.
pub async fn becomes_unready(server: &Server, deadline: Duration) {
    let start = Instant::now();
    while readiness(server.address).await.0 == 200 {
        assert!(start.elapsed() < deadline, "still ready after {deadline:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The lines of `/metrics` that are samples.
#[derive(Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Whether a gauge with this `reason` is 1.
    pub fn has(&self, name: &str, reason: &str) -> bool {
        let sample = format!("{name}{{reason=\"{reason}\"}} 1");
        self.0.lines().any(|line| line == sample)
    }

    /// The sum of all samples of this name, with any labels. There must be one.
    pub fn sum(&self, name: &str) -> f64 {
        let samples = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then_some(())?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        let samples: Vec<f64> = samples.collect();
        assert!(!samples.is_empty(), "there is no {name} in {}", self.0);
        samples.iter().sum()
    }
}

/// The metrics of a node with [`cluster_settings`].
pub async fn metrics(address: SocketAddr) -> Metrics {
    let bearer = format!("Bearer {METRICS_TOKEN}");
    let reply = Http::plain(address, "GET", "/metrics", &[("authorization", &bearer)]).await;
    assert_eq!(reply.status, 200, "{reply}");
    Metrics(reply.text().to_owned())
}
