//! HTTP: the API for application servers, the probes for operators, and the WebSocket handshake.
//!
//! The shards answer the most frequent requests themselves, by `direct`. hyper parses all others; this
//! module decides the responses. A request's path is parsed once into a `Route`. Requests of the API are
//! authenticated before their body is read.

mod activity;
mod api;
mod auth;
mod body;
mod check;
mod console;
mod cors;
mod diagnostics;
mod direct;
mod event_body;
mod head;
mod history;
mod idempotency;
mod idle;
mod info;
mod limiter;
mod malformed;
mod other_protocol;
mod probes;
mod publish;
mod query;
mod response;
mod root_page;
mod route;
mod serve;
mod signed_paths;
mod stream;
mod upgrade;
mod upgraded;

pub use diagnostics::prefix_hash;
pub use direct::DirectRequests;
pub use limiter::{HttpConnectionLimiter, PendingConnection};
pub use probes::serve_metrics;
pub use serve::{ListenerKind, serve};

use crate::{
    config::{AppConfig, Config},
    console::Console,
    node::{Node, TrustedProxies},
    permit::Quota,
    tls::Tls,
};
use hyper::header::HeaderValue;
use other_protocol::ProtocolLog;
use root_page::RootPage;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// The configuration and the state that all HTTP connections share. Replaced as a whole on a reload.
#[derive(Debug)]
pub struct HttpContext {
    node: Arc<Node>,
    /// Path prefix of all routes (`server.path`).
    prefix: String,
    max_head_bytes: usize,
    max_request_bytes: usize,
    request_timeout: Duration,
    /// How long a shutdown waits for started requests: slightly less than the grace period.
    shutdown_timeout: Duration,
    proxies: TrustedProxies,
    tls: Option<Arc<Tls>>,
    metrics: MetricsAccess,
    console: Arc<Console>,
    root_page: RootPage,
    /// Whether all apps have the well-known secret.
    all_well_known: bool,
    /// Whether at least one app has the well-known secret.
    any_well_known: bool,
    protocol_log: ProtocolLog,
    activity_permits: Arc<Quota>,
    activity_timeout_s: u64,
    /// The name of the node, for the header of signed answers.
    node_header: HeaderValue,
    requests: AtomicU32,
    /// Random prefix of the request ids of this process.
    process_id_prefix: u32,
}

/// Access to `/metrics` on the main port.
#[derive(Debug)]
enum MetricsAccess {
    /// The page does not exist.
    Disabled,
    /// Anyone may read it: only the development app is served, on loopback.
    Public,
    /// With the token.
    Token(String),
}

impl HttpContext {
    /// The context for connections to `node`. With `tls`, the main listener uses TLS.
    ///
    /// # Panics
    ///
    /// Never: the name of a node has hexadecimal digits only.
    #[must_use]
    pub fn new(
        config: &Config,
        node: Arc<Node>,
        tls: Option<Arc<Tls>>,
        console: Arc<Console>,
    ) -> Self {
        let token = config.metrics.token.expose();
        let metrics = match token {
            "" if config.serves_only_development() => MetricsAccess::Public,
            "" => MetricsAccess::Disabled,
            token => MetricsAccess::Token(token.to_owned()),
        };
        let node_header = HeaderValue::from_str(node.name());
        Self {
            node_header: node_header.expect("a name has hexadecimal digits only"),
            activity_timeout_s: config.connection.activity_timeout_s,
            node,
            prefix: config.server.path.clone(),
            max_head_bytes: config.server.max_head_bytes,
            max_request_bytes: config.server.max_request_bytes,
            request_timeout: Duration::from_secs(config.server.request_timeout_s),
            shutdown_timeout: Duration::from_secs(config.server.shutdown_grace_s).mul_f64(0.9),
            proxies: TrustedProxies::new(config.server.trusted_proxies.clone()),
            tls,
            metrics,
            console,
            root_page: RootPage::new(config),
            all_well_known: !config.apps_from.has_database()
                && config.apps.iter().all(AppConfig::has_well_known_secret),
            any_well_known: config.apps.iter().any(AppConfig::has_well_known_secret),
            protocol_log: ProtocolLog::default(),
            activity_permits: Quota::new(activity::CONCURRENT_MAX),
            requests: AtomicU32::new(0),
            process_id_prefix: rand::random(),
        }
    }

    /// Creates a request id: unique within this process, and almost certainly across processes.
    fn request_id(&self) -> String {
        self.request_id_digits().map(char::from).iter().collect()
    }

    /// A request id as hexadecimal digits.
    fn request_id_digits(&self) -> [u8; 16] {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = u64::from(self.process_id_prefix) << 32 | u64::from(number);
        std::array::from_fn(|at| {
            let nibble = id >> (60 - 4 * at) & 15;
            b"0123456789abcdef"[usize::try_from(nibble).expect("four bits")]
        })
    }
}
