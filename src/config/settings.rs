//! The declarations of the settings of the server, except those of apps.
//!
//! [`load`](super::load) has checked the rules.

use super::{
    AppConfig, RedisTarget, RedisUrl, RowDefaults, Secret,
    declare::{
        AppliesTo::{
            NewConnections, NewHandshakes, NewMessages, NewRequests, NextShutdown, Restart,
        },
        Rule::{Any, OneOf, Parse, Range},
        SectionInfo, Setting, SettingType, SettingsSection, section, setting_types, string_enum,
    },
    values,
};
use ipnet::IpNet;

setting_types! {
    String: RedisUrl, LogFormat, LogLevel, ResumeAck;
}

section! {
    /// The whole configuration of one node.
    #[derive(Debug)]
    Config at "" {
        sections {
            /// The listener, HTTP, and the process.
            server: ServerConfig = ServerConfig::default(),
            /// The limits of WebSocket connections.
            connection: ConnectionConfig = ConnectionConfig::default(),
            /// The apps. At least one, unless they are in a database; the development app when none is
            /// configured.
            apps: Vec<AppConfig> = vec![AppConfig::development()],
            /// Apps from other places than this file.
            apps_from: AppsFromConfig = AppsFromConfig::default(),
            /// The Redis that joins the nodes of a cluster.
            redis: RedisConfig = RedisConfig::default(),
            /// The settings of all webhooks.
            webhooks: WebhooksConfig = WebhooksConfig::default(),
            /// Access to the metrics.
            metrics: MetricsConfig = MetricsConfig::default(),
            /// The console, a page in the browser.
            console: ConsoleConfig = ConsoleConfig::default(),
            /// The log.
            log: LogConfig = LogConfig::default(),
        }
    }
}

impl Config {
    /// True if the only app is the development app, whose secret is published.
    #[must_use]
    pub fn is_development(&self) -> bool {
        matches!(self.apps.as_slice(), [app] if app.is_development())
    }

    /// True if nothing but the development app can be served: there are no apps in a database either.
    #[must_use]
    pub fn serves_only_development(&self) -> bool {
        self.is_development() && !self.apps_from.has_database()
    }
}

section! {
    /// The listener, HTTP, and the process.
    #[derive(Debug)]
    ServerConfig at "server" {
        /// Address or name to listen on. While only the development app is configured, the default means
        /// `127.0.0.1`, as `0.0.0.0` in a file does; as a flag or in the environment it is an error.
        host: String = "0.0.0.0".to_owned() => {
            rule: Parse(values::host, "address or host name"), reload: Restart,
        },
        /// Port to listen on. 0: any free port. If no source sets it, `PORT` in the environment applies,
        /// which Heroku and Cloud Run set.
        port: u16 = 8080 => { rule: Range(0, 65_535), reload: Restart, soketi: Some("6_001") },
        /// `true`: other processes of the same user may listen on the port too (`SO_REUSEPORT`), so that
        /// the next process can start before this one is stopped: docs/restart.md.
        reuse_port: bool = false => { reload: Restart },
        /// Prefix of all routes, such as `/ws`. Empty: none. Calls of the HTTP API may lack it.
        path: String = String::new() => { rule: Parse(values::path, "path"), reload: NewRequests },
        /// `true`: `GET /` answers programs with 200, for health checks of load balancers that ask for it.
        /// Browsers get a page either way.
        health_at_root: bool = false => { reload: NewRequests, soketi: Some("true") },
        /// Threads that serve connections. 0: one per core.
        shards: usize = 0 => { rule: Range(0, 64), reload: Restart },
        /// Maximum WebSocket connections of this node. 0: as many as the file descriptor limit allows. Beyond
        /// it: close code 4100.
        max_connections: usize = 0 => { rule: Range(0, 10_000_000), reload: NewConnections },
        /// Maximum HTTP connections of this node, handshakes included: publishers, probes, clients that are
        /// not upgraded yet. 0: 4096. At the limit, the longest-idle one is closed, after one second at least;
        /// new ones wait meanwhile.
        max_http_connections: usize = 0 => { rule: Range(0, 1_000_000), reload: NewConnections },
        /// Maximum size of the request line and headers. Beyond it: 431. At most 100 header lines.
        max_head_bytes: usize = 32_768 => { rule: Range(1_024, 1_048_576), reload: NewConnections },
        /// Maximum size of a request body; at least each app's `max_event_bytes`. Beyond it: 413.
        max_request_bytes: usize = 1_048_576 => {
            rule: Range(1_024, 1_073_741_824),
            at_least: &["apps[].max_event_bytes"],
            reload: NewRequests,
            soketi: Some("8_388_608"),
        },
        /// Timeout for each of: the TLS handshake, the request head, the request body, writing the response,
        /// one client message from its first to its last byte. Between two requests, a connection may be idle
        /// for 90 s.
        request_timeout_s: u64 = 10 => { rule: Range(1, 3_600), reload: NewRequests },
        /// Time limit of a shutdown, even if clients do not cooperate. 0: at once.
        shutdown_grace_s: u64 = 10 => { rule: Range(0, 3_600), reload: NextShutdown, soketi: Some("3") },
        /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are used, such as `["10.0.0.0/8"]`:
        /// docs/proxies.md. Empty: none.
        trusted_proxies: Vec<IpNet> = Vec::new() => {
            rule: Parse(values::network, "addresses, CIDR networks"), reload: NewRequests,
        },
        sections {
            /// TLS in this process.
            tls: TlsConfig = TlsConfig::default(),
        }
    }
}

section! {
    /// TLS in this process. With both files, everything on the port is TLS 1.2 or 1.3. SIGHUP reloads the
    /// files; connections stay. An expired certificate causes a warning; the metric
    /// `campanile_tls_certificate_expiry_timestamp_seconds` shows when it expires. `campanile check` reads
    /// these files and redis.ca.
    #[derive(Debug)]
    TlsConfig at "server.tls" {
        /// Certificate with its chain. Needs `server.tls.key`.
        cert: String = String::new() => { rule: Any("PEM file"), reload: NewHandshakes },
        /// Private key, without a passphrase. Needs `server.tls.cert`.
        key: String = String::new() => { rule: Any("PEM file"), reload: NewHandshakes },
    }
}

section! {
    /// Limits of each WebSocket connection.
    #[derive(Debug)]
    ConnectionConfig at "connection" {
        /// Idle time after which the server sends a ping. Sent to the client as `activity_timeout`. Proxies
        /// and load balancers disconnect after 60 seconds of silence by default: stay well below that.
        activity_timeout_s: u64 = 30 => { rule: Range(1, 3_600), reload: NewConnections },
        /// Time to answer that ping. Beyond it: close code 4201.
        pong_timeout_s: u64 = 30 => { rule: Range(1, 3_600), reload: NewConnections },
        /// Maximum size of a client message. Beyond it: close code 1009.
        max_message_bytes: usize = 65_536 => {
            rule: Range(1_024, 16_777_216), reload: NewMessages, soketi: Some("262_144"),
        },
        /// Maximum bytes queued for one client; at least `max_message_bytes` and each app's
        /// `max_event_bytes`. Beyond it: close code 4100, and the client reconnects. Responses to the
        /// client's own messages are limited to this many bytes per second, with a burst of half of it;
        /// beyond that, reading from the client pauses.
        max_outbox_bytes: usize = 1_048_576 => {
            rule: Range(1_024, 1_073_741_824),
            // Otherwise an accepted event would close all of its receivers.
            at_least: &["connection.max_message_bytes", "apps[].max_event_bytes"],
        },
        /// Maximum subscriptions per connection; a further one gets a subscription error of the type
        /// `LimitReached`. Subscribing and signing in is limited to a burst of `max_channels`, then 10 per
        /// second: beyond that, error 4301, then close code 4100.
        max_channels: usize = 1_000 => { rule: Range(1, 1_000_000), reload: NewConnections },
        /// Maximum connections per address (IPv6: per /64). 0: no limit.
        max_connections_per_ip: usize = 0 => { rule: Range(0, 10_000_000), reload: NewConnections },
        /// Maximum new connections per second and address (IPv6: /64), HTTP included: a publisher that
        /// opens a connection for each event counts as well, one that keeps its connection does not. 0: no
        /// limit. Beyond it: close code 4100, or 429.
        new_connections_per_second_per_ip: u32 = 0 => { rule: Range(0, 1_000_000), reload: NewConnections },
        /// Maximum messages per second from one client, including pings, pongs and fragments; `max_channels` more in a burst,
        /// since a client that reconnects subscribes to all its channels. 0: no limit. Beyond it: messages
        /// are dropped with error 4301 once a second, then close code 4100.
        max_messages_per_second: u32 = 1_000 => { rule: Range(0, 1_000_000), reload: NewConnections },
        /// Reject clients whose `?protocol=` is missing or not a number. Versions below 4 are always
        /// rejected.
        strict_protocol: bool = false => { reload: NewConnections },
        /// How long a lost connection with a token can be resumed, and the events of its channels are kept.
        /// 0: not at all.
        resume_s: u64 = 120 => { rule: Range(0, 86_400), reload: Restart },
        /// Maximum events of one channel that a resumed connection receives, and 256 KiB. Beyond it: none, and
        /// the event `campanile:gap`.
        resume_max_events: usize = 300 => { rule: Range(1, 100_000), unit: Some("events"), reload: Restart },
        /// What proves that a client has received an event: `pusher`, its answer to a `pusher:ping` message;
        /// `websocket`, its answer to a ping frame, which is cheaper, and no proof if the client is a browser.
        resume_ack: ResumeAck = ResumeAck::Pusher => { rule: OneOf(ResumeAck::NAMES), reload: Restart },
        /// How long a member whose connection was lost stays in a presence channel, so that it can return. 0:
        /// not at all.
        presence_grace_s: u64 = 10 => { rule: Range(0, 3_600), reload: Restart },
    }
}

string_enum! {
    /// What proves that a client with a token has received an event.
    ResumeAck {
        /// The answer of the client's code to a `pusher:ping` message.
        Pusher = "pusher",
        /// The answer of the client's WebSocket implementation to a ping frame.
        Websocket = "websocket",
    }
}

section! {
    /// Apps from other places than this file: docs/apps.md. They are added to those of `[[apps]]`.
    #[derive(Debug)]
    AppsFromConfig at "apps_from" {
        /// Folder whose `*.toml` files have further `[[apps]]`, read in the order of their names. Empty:
        /// `apps.d` beside config.toml, if there is one.
        directory: String = String::new() => { rule: Any("path of a folder") },
        /// Database with a table of apps, which are looked up when a client or a request names them, such
        /// as `postgres://user:password@host/database`, `mysql://user:password@host/database` or
        /// `sqlite:///path/of/file`: docs/apps.md#apps-in-a-database. Empty: none.
        url: Secret = Secret::default() => {
            rule: Parse(values::database_url, "`postgres://`, `mysql://`, `sqlite://`"),
            reload: Restart,
            is_secret: true,
        },
        /// File that contains the URL, instead of `url`.
        url_file: String = String::new() => { rule: Any("path of a file"), reload: Restart },
        /// Name of the table, with that of its schema if needed, such as `public.apps`.
        table: String = "apps".to_owned() => {
            rule: Parse(values::table_name, "letters, digits, `_`, `-`, and one `.`"), reload: Restart,
        },
        /// After this time, a known app is read again, and changes in the table apply as at a reload.
        cache_ttl_s: u64 = 60 => { rule: Range(1, 86_400), reload: Restart },
        /// Maximum connections of this node to the database.
        pool_size: u32 = 5 => { rule: Range(1, 100), unit: Some("connections"), reload: Restart },
        /// Time limit of a query, with the time to connect.
        timeout_ms: u64 = 2_000 => { rule: Range(100, 60_000), reload: Restart },
        derived {
            /// What a null or missing column of the table means.
            row_defaults: RowDefaults,
        }
    }
}

impl AppsFromConfig {
    /// Whether apps are looked up in a database.
    #[must_use]
    pub fn has_database(&self) -> bool {
        !self.url.is_empty()
    }
}

section! {
    /// The Redis that joins the nodes of a cluster.
    #[derive(Debug)]
    RedisConfig at "redis" {
        /// Redis that the nodes share, such as `redis://user:password@host:6379/0`: docs/cluster.md#connect-nodes.
        /// Other characters of a password than letters and digits are percent-encoded. Empty: one node.
        url: RedisUrl = RedisUrl::default() => {
            rule: Parse(
                values::redis_url,
                "`redis://`, `rediss://`, `redis+unix://`, `redis+sentinel://`, `redis+cluster://`",
            ),
            reload: Restart,
            is_secret: true,
        },
        /// File that contains the URL, instead of `url`.
        url_file: String = String::new() => { rule: Any("path of a file"), reload: Restart },
        /// File with the CA certificates for Redis. Only with TLS. Empty: the system's.
        ca: String = String::new() => { rule: Any("PEM file"), reload: Restart },
        /// Prefix of all keys. Nodes with the same prefix form one cluster.
        prefix: String = "campanile".to_owned() => {
            rule: Parse(values::redis_prefix, "at most 100 bytes, no braces or white space"),
            reload: Restart,
        },
        /// How long a publish waits while Redis is unavailable, before it gets 503.
        broker_wait_ms: u64 = 2_000 => { rule: Range(100, 60_000), reload: Restart },
        /// Time without a heartbeat after which the other nodes remove a node. Nodes send one a second.
        node_timeout_ms: u64 = 6_000 => { rule: Range(3_000, 300_000), reload: Restart },
    }
}

impl RedisConfig {
    /// The address of Redis; `None` for a single node.
    #[must_use]
    pub fn target(&self) -> Option<RedisTarget> {
        self.url.target().cloned()
    }
}

section! {
    /// The settings of all webhooks. The webhooks themselves belong to the apps.
    #[derive(Debug)]
    WebhooksConfig at "webhooks" {
        /// How long an event waits for others to share its request. 0: one event per request.
        batch_ms: u64 = 50 => { rule: Range(0, 1_000), soketi: Some("0") },
        /// Reject endpoints whose resolved address is not on the public internet. For servers whose apps are
        /// configured by third parties.
        deny_private: bool = false => {},
    }
}

section! {
    /// Access to the metrics.
    #[derive(Debug)]
    MetricsConfig at "metrics" {
        /// Bearer token of `/metrics` on the main port. Empty: not served there, except with the
        /// development app on loopback.
        token: Secret = Secret::default() => {
            rule: Parse(values::no_white_space, "no white space"), reload: NewRequests, is_secret: true,
        },
        /// File that contains the token, instead of `token`. A reload reads it again.
        token_file: String = String::new() => { rule: Any("path of a file"), reload: NewRequests },
        /// Separate listener for `/metrics`, without a token, such as `127.0.0.1:9601`. At most 32
        /// connections; at the limit, the longest-idle one is closed. Empty: none.
        listen: String = String::new() => { rule: Parse(values::address, "address and port"), reload: Restart },
    }
}

section! {
    /// The console, a page under `/console` that shows what happens in the server: docs/console.md. Off
    /// unless a password is set here or for an app, except with the development app on loopback, where it
    /// needs none.
    #[derive(Debug)]
    ConsoleConfig at "console" {
        /// Password of the console, for all apps, the log and the configuration: a line that
        /// `campanile hash-password` prints, or the password itself. Another one ends the sessions.
        password: Secret = Secret::default() => {
            rule: Parse(values::console_password, "`$argon2…`, or at least 8 characters"),
            is_secret: true,
        },
        /// File that contains the password, instead of `password`. A reload reads it again.
        password_file: String = String::new() => { rule: Any("path of a file") },
    }
}

section! {
    /// The log.
    #[derive(Debug)]
    LogConfig at "log" {
        /// Least severe level that is logged.
        level: LogLevel = LogLevel::Info => { rule: OneOf(LogLevel::NAMES) },
        /// Format of log lines: `text` for people, `json` for programs.
        format: LogFormat = LogFormat::Text => { rule: OneOf(LogFormat::NAMES), reload: Restart },
    }
}

string_enum! {
    /// The level of a log line.
    LogLevel {
        /// An operator must act.
        Error = "error",
        /// A problem that may resolve itself.
        Warn = "warn",
        /// Events of the process and of its connections.
        Info = "info",
        /// Single steps.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
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

string_enum! {
    /// The format of log lines.
    LogFormat {
        /// Text, for people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}
