//! The settings of the server except those of apps: meaning, unit, range and default.
//!
//! [`load`](super::load) has checked the ranges.

use super::{AppConfig, RedisTarget, RedisUrl, Secret};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The whole configuration of one node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The listener, HTTP, and the process.
    pub server: ServerConfig,
    /// The limits of WebSocket connections.
    pub connection: ConnectionConfig,
    /// The apps. At least one; the development app when none is configured.
    pub apps: Vec<AppConfig>,
    /// The Redis that joins the nodes of a cluster.
    pub redis: RedisConfig,
    /// The settings of all webhooks.
    pub webhooks: WebhooksConfig,
    /// Access to the metrics.
    pub metrics: MetricsConfig,
    /// The console, which this version does not support.
    pub console: ConsoleConfig,
    /// The log.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::default(),
            connection: ConnectionConfig::default(),
            apps: vec![AppConfig::development()],
            redis: RedisConfig::default(),
            webhooks: WebhooksConfig::default(),
            metrics: MetricsConfig::default(),
            console: ConsoleConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Config {
    /// True if the only app is the development app, whose secret is published.
    #[must_use]
    pub fn is_development(&self) -> bool {
        matches!(self.apps.as_slice(), [app] if app.is_development())
    }
}

/// The listener, HTTP, and the process.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address or name to listen on. Default `0.0.0.0`, but `127.0.0.1` while only the development
    /// app exists.
    pub host: String,
    /// Port to listen on. 0 takes any free one. Default 8080.
    pub port: u16,
    /// Let another process of the same user listen on the port as well, so that the next process
    /// can start before this one is stopped. Default false.
    pub reuse_port: bool,
    /// Prefix of every route: empty, or beginning with a slash and not ending in one. Default
    /// empty.
    pub path: String,
    /// Threads that own connections, at most 64. 0 means one per core, which is the default.
    pub shards: usize,
    /// Connections of this node, at most 10,000,000. 0, the default, means what the file descriptor
    /// limit allows.
    pub max_connections: usize,
    /// Maximum number of HTTP connections, at most 1,000,000. At the limit, the longest idle one is
    /// closed. 0, the default, means 4,096.
    pub max_http_connections: usize,
    /// Maximum size of the head of an HTTP request: request line and headers, in bytes, from 1 KiB
    /// to 1 MiB. Default 32 KiB.
    pub max_head_bytes: usize,
    /// Maximum size of the body of an HTTP request, in bytes, from 1 KiB to 1 GiB. Never less than
    /// an app's `max_event_bytes`. Default 1 MiB.
    pub max_request_bytes: usize,
    /// Time limit of a TLS handshake, of the head of a request, of its body, and of a client's
    /// message from its first byte to its last, in seconds, 1 to 3,600. Default 10.
    pub request_timeout_s: u64,
    /// Maximum time of a shutdown, in seconds, up to 3,600. Default 10.
    pub shutdown_grace_s: u64,
    /// Networks of the proxies whose `X-Forwarded-For` is trusted. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// TLS in this process.
    pub tls: TlsConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 8080,
            reuse_port: false,
            path: String::new(),
            shards: 0,
            max_connections: 0,
            max_http_connections: 0,
            max_head_bytes: 32_768,
            max_request_bytes: 1_048_576,
            request_timeout_s: 10,
            shutdown_grace_s: 10,
            trusted_proxies: Vec::new(),
            tls: TlsConfig::default(),
        }
    }
}

/// TLS in this process: enabled if both files are set, disabled by default.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate and its chain. Default empty.
    pub cert: String,
    /// PEM file with the private key. Default empty.
    pub key: String,
}

/// The limits of WebSocket connections.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionConfig {
    /// Silence after which the server pings, in seconds, 1 to 3,600; clients receive the same value
    /// and ping by themselves. Default 30: proxies and load balancers disconnect after 60 s of
    /// silence.
    pub activity_timeout_s: u64,
    /// Time to answer that ping, in seconds, 1 to 3,600. Default 30.
    pub pong_timeout_s: u64,
    /// Maximum size of a message from a client, in bytes, from 1 KiB to 16 MiB. A longer one closes
    /// with 1009. Default 64 KiB.
    pub max_message_bytes: usize,
    /// Maximum number of bytes queued for one client, up to 1 GiB and never less than
    /// `max_message_bytes`; beyond it the connection is closed with 4100. Default 1 MiB.
    pub max_outbox_bytes: usize,
    /// Maximum number of subscriptions of one connection, 1 to 1,000,000. Default 1,000.
    pub max_channels: usize,
    /// Maximum number of connections from one address, at most 10,000,000. 0, the default, means no
    /// limit.
    pub max_connections_per_ip: usize,
    /// New connections per second from one address, at most 1,000,000. 0, the default, means no
    /// limit.
    pub new_connections_per_second_per_ip: u32,
    /// Messages per second from one client, at most 1,000,000, and as many more at once as it may
    /// have channels. 0 means no limit. Default 1,000: more than any page sends, and a flood of
    /// that size costs a small part of a core.
    pub max_messages_per_second: u32,
    /// Reject clients without `?protocol=`, or with an unknown version. Default false.
    pub strict_protocol: bool,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            activity_timeout_s: 30,
            pong_timeout_s: 30,
            max_message_bytes: 65_536,
            max_outbox_bytes: 1_048_576,
            max_channels: 1_000,
            max_connections_per_ip: 0,
            new_connections_per_second_per_ip: 0,
            max_messages_per_second: 1_000,
            strict_protocol: false,
        }
    }
}

/// The Redis that joins the nodes of a cluster.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// The URL of Redis. Empty, the default, means a single node.
    pub url: RedisUrl,
    /// PEM file with the certificate authorities of Redis, in place of the system's. Only with TLS.
    /// Default empty: the system's.
    pub ca: String,
    /// Prefix of every key and channel in Redis, at most 100 bytes, without white space or braces.
    /// Default `campanile`.
    pub prefix: String,
    /// How long a publish waits for an unavailable Redis before it is answered with 503, in
    /// milliseconds, 100 to 60,000: a sent command needs time to be answered. Default 2,000.
    pub broker_wait_ms: u64,
    /// Silence after which a node is removed by the others, in milliseconds, 3,000 to 300,000:
    /// nodes send a heartbeat once a second. Default 6,000.
    pub node_timeout_ms: u64,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: RedisUrl::default(),
            ca: String::new(),
            prefix: "campanile".to_owned(),
            broker_wait_ms: 2_000,
            node_timeout_ms: 6_000,
        }
    }
}

impl RedisConfig {
    /// The address of Redis; `None` for a single node.
    #[must_use]
    pub fn target(&self) -> Option<RedisTarget> {
        self.url.target().cloned()
    }
}

/// The settings of all webhooks. The webhooks themselves belong to the apps.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// How long an event waits for others to share its request, in milliseconds, up to 1,000. 0:
    /// each request has one event. Default 50.
    pub batch_ms: u64,
    /// Reject endpoints with addresses outside of the public internet. Default false.
    pub deny_private: bool,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self { batch_ms: 50, deny_private: false }
    }
}

/// Access to the metrics.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Bearer token for `/metrics` on the main port. Empty, the default: not served there, except
    /// with the development app on loopback.
    pub token: Secret,
    /// Address and port of a separate listener without a token. Empty, the default: no such
    /// listener.
    pub listen: String,
}

/// The console, which this version does not support.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleConfig {
    /// The console's password. Empty, the default: no console, except with the development app on
    /// loopback.
    pub password: Secret,
}

/// The log.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The minimum level of lines that are written. Default `info`.
    pub level: LogLevel,
    /// The format of lines. Default `text`.
    pub format: LogFormat,
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// A problem that may resolve itself.
    Warn,
    /// Events of the process and of its connections.
    #[default]
    Info,
    /// Single steps.
    Debug,
    /// Everything.
    Trace,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text, for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
