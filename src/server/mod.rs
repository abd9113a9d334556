//! Builds the parts of the server, runs them, and drains them in order.
//!
//! The main thread runs timers and tasks. Each shard has a thread, which also serves the HTTP connections assigned to
//! it; the first one accepts them all.

mod accept;
mod capacity;
mod drain;
mod listeners;
mod probe;
mod reload;
mod shard_thread;

pub use capacity::TooFewDescriptors;
pub use reload::{PreparedReload, ReloadError, ReloadSummary, Reloader};

use crate::{
    app_database::DatabaseUrlError,
    clock,
    config::{Config, ConfigError},
    console::Console,
    http::{self, HttpConnectionLimiter, HttpContext},
    hub::ShardIndex,
    node::Node,
    shard::ShardConfig,
    shutdown::Shutdown,
    tls::{Tls, TlsError},
    webhook::{WebhookError, Webhooks},
};
use accept::Acceptor;
use arc_swap::ArcSwap;
use capacity::{ConnectionLimits, FileDescriptors};
use listeners::Listeners;
use reload::CurrentConfig;
use std::{
    fmt, io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

/// A server whose sockets are bound and that does not serve yet.
#[derive(Debug)]
pub struct Server {
    listeners: Listeners,
    /// The address of the main socket.
    address: SocketAddr,
    /// The prefix of every route.
    path: String,
    node: Arc<Node>,
    http: Arc<ArcSwap<HttpContext>>,
    console: Arc<Console>,
    limiter: Arc<HttpConnectionLimiter>,
    tls: Option<Arc<Tls>>,
    shard_settings: Arc<ArcSwap<ShardConfig>>,
    descriptors: FileDescriptors,
    limits: ConnectionLimits,
    shutdown: Shutdown,
    webhooks: Arc<Webhooks>,
}

/// The error of a server that cannot start or continue.
#[derive(Debug)]
pub enum ServerError {
    /// An address cannot be bound.
    Bind {
        /// The setting that names the address.
        setting: &'static str,
        /// The configured address.
        address: String,
        /// The system's error.
        error: io::Error,
    },
    /// A passed socket does not listen.
    Inherit(io::Error),
    /// An app with a guessable secret would be reachable from the network.
    Exposed {
        /// The address of the socket.
        address: SocketAddr,
        /// The app, and what to change.
        error: ConfigError,
    },
    /// Two sockets were passed to the process for the same service.
    InheritedTwice {
        /// The service: `server` or `metrics`.
        service: &'static str,
        /// Where the two listen.
        addresses: [SocketAddr; 2],
    },
    /// The file of `redis.ca` cannot be read.
    CaFile {
        /// The path in `redis.ca`.
        path: String,
        /// The system's error.
        error: io::Error,
    },
    /// The URL of the database of apps is invalid.
    AppDatabase(DatabaseUrlError),
    /// The certificate or its key is invalid.
    Tls(TlsError),
    /// The process may not open enough files.
    Descriptors(TooFewDescriptors),
    /// The system cannot start a thread or a poller.
    Thread(io::Error),
    /// A webhook is invalid.
    Webhook(WebhookError),
    /// A shard's thread has ended, which is a bug.
    ShardEnded,
}

/// The settings that name the listen addresses.
const PORT: &str = "server.port (--port)";
const METRICS: &str = "metrics.listen";
/// The precision of the node's timers: the minimum time between two ticks.
const TICK: Duration = Duration::from_millis(100);

impl Server {
    /// Binds the sockets and builds the parts. Needs a runtime.
    ///
    /// # Errors
    ///
    /// [`ServerError::Bind`] if an address cannot be bound, [`ServerError::Tls`] for an invalid
    /// certificate or key, [`ServerError::Webhook`] for an invalid webhook,
    /// [`ServerError::Exposed`] if an app with a guessable secret would be reachable from the
    /// network.
    pub async fn build(config: &Config) -> Result<Self, ServerError> {
        let server = &config.server;
        let tls = Tls::load(&server.tls, None).map_err(ServerError::Tls)?.map(Arc::new);
        let listeners = Listeners::open(config).await?;
        // The actual address may differ from the configured one: a passed socket, or a resolved
        // name.
        let address = listeners.main.local_addr().map_err(ServerError::Inherit)?;
        config.check_for(address.ip()).map_err(|error| ServerError::Exposed { address, error })?;
        let shards = match server.shards {
            0 => thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        }
        .min(ShardIndex::COUNT_MAX);
        let shutdown = Shutdown::new();
        let webhooks = Arc::new(Webhooks::new(config).map_err(ServerError::Webhook)?);
        let descriptors = FileDescriptors::raise_limit(shards).map_err(ServerError::Descriptors)?;
        let limits = descriptors.limits(server);
        let max = limits.max_connections;
        let mut node = Node::new(config, shards, max, shutdown.clone(), Arc::clone(&webhooks));
        node.join(config)
            .map_err(|error| ServerError::CaFile { path: config.redis.ca.clone(), error })?;
        node.open_database(config, address.ip()).map_err(ServerError::AppDatabase)?;
        let node = Arc::new(node);
        node.metrics().set_certificate_expiry(tls.as_deref().and_then(Tls::expiry));
        node.metrics().set_limits(limits.max_connections, limits.max_http_connections);
        node.metrics().loaded();
        let console = Arc::new(Console::new(config, Arc::clone(&node)));
        console.start_answering();
        Ok(Self {
            listeners,
            address,
            path: server.path.clone(),
            http: Arc::new(ArcSwap::from_pointee(HttpContext::new(
                config,
                Arc::clone(&node),
                tls.clone(),
                Arc::clone(&console),
            ))),
            console,
            limiter: Arc::new(HttpConnectionLimiter::new(
                limits.max_http_connections,
                descriptors.for_connections(),
                Arc::clone(&node),
            )),
            tls,
            node,
            shard_settings: Arc::new(ArcSwap::from_pointee(shard_config(config))),
            descriptors,
            limits,
            shutdown,
            webhooks,
        })
    }

    /// The address on which the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The console.
    #[must_use]
    pub fn console(&self) -> &Arc<Console> {
        &self.console
    }

    /// A handle to reconfigure the server, which was built from `config`.
    #[must_use]
    pub fn reloader(&self, config: Config) -> Reloader {
        Reloader {
            current: ArcSwap::from_pointee(CurrentConfig { config, tls: self.tls.clone() }),
            node: Arc::clone(&self.node),
            http: Arc::clone(&self.http),
            console: Arc::clone(&self.console),
            limiter: Arc::clone(&self.limiter),
            shard_settings: Arc::clone(&self.shard_settings),
            descriptors: self.descriptors,
            address: self.address,
        }
    }

    /// Serves until `stop` completes, then drains: rejects new connections, closes the others,
    /// completes responses, and sends the resulting webhooks. Returns the number of connections and
    /// tasks that did not finish in the grace period.
    ///
    /// # Errors
    ///
    /// [`ServerError::Thread`] if a thread cannot start, [`ServerError::ShardEnded`] if one has
    /// ended.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<usize, ServerError> {
        let Self {
            listeners, node, http, limiter, shard_settings, shutdown, webhooks, path, ..
        } = self;
        let Listeners { main, metrics, is_inherited } = listeners;
        let shards = node.inboxes().shards();
        let (shard_senders, inputs): (Vec<_>, Vec<_>) =
            shards.clone().map(|_| mpsc::unbounded_channel()).unzip();
        let (accepting, acceptor) = Acceptor::new(main, is_inherited, limiter, shard_senders)
            .map_err(ServerError::Thread)?;
        let mut accepting = Some(accepting);
        let mut shard_ends = JoinSet::new();
        // The first one accepts, so it starts last.
        for (index, inputs) in shards.zip(inputs).collect::<Vec<_>>().into_iter().rev() {
            let (alive, mut ended) = mpsc::channel(1);
            // Nothing is sent: the channel closes when the other side is dropped.
            shard_ends.spawn(async move { ended.recv().await });
            let dependencies = shard_thread::ShardDependencies {
                index,
                node: Arc::clone(&node),
                http: Arc::clone(&http),
                shard_settings: Arc::clone(&shard_settings),
                shutdown: shutdown.clone(),
                inputs,
                acceptor: accepting.take_if(|_| index.get() == 0),
                alive,
            };
            shard_thread::start(dependencies).await.map_err(ServerError::Thread)?;
        }
        let ticking = tokio::spawn(run_timers(Arc::clone(&node)));
        let looking_up = tokio::spawn(Arc::clone(&node).run_app_database());
        let metrics = metrics.map(|listener| serve_metrics(listener, &http, &node)).transpose();
        let metrics = metrics.map_err(ServerError::Thread)?;
        let webhook_shutdown = Shutdown::new();
        tokio::spawn(Arc::clone(&webhooks).run(webhook_shutdown.guard()));
        tokio::select! {
            () = stop => {}
            _ = shard_ends.join_next() => return Err(ServerError::ShardEnded),
        }
        let grace = shard_settings.load().shutdown_grace;
        let sequence = drain::ShutdownSequence {
            node,
            acceptor,
            metrics,
            shutdown,
            webhook_shutdown,
            webhooks,
            grace,
            path,
            is_inherited,
        };
        let unfinished = sequence.run().await;
        ticking.abort();
        looking_up.abort();
        Ok(unfinished)
    }
}

fn serve_metrics(
    listener: std::net::TcpListener,
    http: &Arc<ArcSwap<HttpContext>>,
    node: &Arc<Node>,
) -> io::Result<drain::MetricsTask> {
    listener.set_nonblocking(true)?;
    let serving = TcpListener::from_std(listener.try_clone()?)?;
    let task = tokio::spawn(http::serve_metrics(serving, Arc::clone(http), Arc::clone(node)));
    Ok(drain::MetricsTask { listener, task })
}

async fn run_timers(node: Arc<Node>) {
    loop {
        // A panic aborts only this tick.
        if catch_unwind(AssertUnwindSafe(|| node.on_tick(clock::now()))).is_err() {
            tracing::error!("panic recovered");
            node.alarm().set(clock::now());
        }
        node.alarm().wait(TICK).await;
    }
}

/// The settings of a shard.
fn shard_config(config: &Config) -> ShardConfig {
    ShardConfig {
        max_message_bytes: config.connection.max_message_bytes,
        max_outbox_bytes: config.connection.max_outbox_bytes,
        message_timeout: Duration::from_secs(config.server.request_timeout_s),
        presence_grace: Duration::from_secs(config.connection.presence_grace_s),
        resume_ack: config.connection.resume_ack,
        resume_max_events: config.connection.resume_max_events,
        shutdown_grace: Duration::from_secs(config.server.shutdown_grace_s),
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { setting, address, error } => {
                write!(f, "cannot listen on {address} ({setting}): ")?;
                let is = |kind| error.kind() == kind;
                if is(io::ErrorKind::AddrInUse) {
                    let hint = "stop that, or choose another port";
                    write!(f, "the port is in use by another process; {hint}")
                } else if is(io::ErrorKind::PermissionDenied) {
                    let unit = "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit";
                    let program = "setcap cap_net_bind_service=+ep on the program";
                    let hint = format!("{unit}, or {program}; or choose another port");
                    write!(f, "{error}; ports below 1024 require a privilege: {hint}")
                } else if is(io::ErrorKind::AddrNotAvailable) {
                    write!(f, "{error}; no interface of this machine has the address")
                } else {
                    error.fmt(f)
                }
            }
            Self::Inherit(error) => {
                write!(f, "cannot use a socket passed by LISTEN_FDS: {error}")
            }
            Self::Exposed { address, error } => {
                write!(
                    f,
                    "cannot listen on {address}, which is reachable from the network: {error}"
                )
            }
            Self::InheritedTwice { service: what, addresses: [first, second] } => {
                write!(f, "LISTEN_FDS passes two sockets for the {what}, {first} and {second}: ")?;
                f.write_str("pass one; [::]:PORT (ListenStream=PORT) accepts IPv4 and IPv6")
            }
            Self::CaFile { path, error } => {
                write!(f, "cannot read {path} (redis.ca): {error}")
            }
            Self::AppDatabase(error) => write!(f, "apps_from.url is invalid: {error}"),
            Self::Tls(error) => error.fmt(f),
            Self::Descriptors(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Webhook(error) => error.fmt(f),
            Self::ShardEnded => f.write_str("a shard has ended, which is a bug"),
        }
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{AdmittedClient, ClientAddress, ConnectRequest};

    #[test]
    fn an_address_error_names_its_setting_and_a_remedy() {
        for (setting, kind, hint) in [
            (PORT, io::ErrorKind::PermissionDenied, "setcap cap_net_bind_service"),
            (METRICS, io::ErrorKind::AddrInUse, "choose another port"),
            (PORT, io::ErrorKind::AddrNotAvailable, "no interface"),
        ] {
            let error = ServerError::Bind { setting, address: "a:80".into(), error: kind.into() };
            let text = error.to_string();
            assert!(text.starts_with(&format!("cannot listen on a:80 ({setting}): ")));
            assert!(text.contains(hint), "{text}");
        }
    }

    #[tokio::test]
    async fn parts_unfinished_at_the_end_of_the_grace_period_are_counted() {
        let mut config = Config::default();
        config.server.host = "127.0.0.1".to_owned();
        config.server.port = 0;
        // With nothing unfinished it ends at once, with any grace period.
        for (unfinished, grace_s) in [(0, 60), (2, 2)] {
            config.server.shutdown_grace_s = grace_s;
            let server = Server::build(&config).await.unwrap();
            let held: Vec<_> = (0..unfinished).map(|_| server.shutdown.guard()).collect();
            let left = server.run(std::future::ready(())).await.unwrap();
            assert_eq!(left, unfinished);
            drop(held);
        }
    }

    #[tokio::test]
    async fn a_reloader_knows_how_many_connections_there_are() {
        let mut config = Config::default();
        config.server.host = "127.0.0.1".to_owned();
        config.server.port = 0;
        let server = Server::build(&config).await.unwrap();
        let peer = ClientAddress { address: server.address().ip(), is_tls: false };
        let request = ConnectRequest {
            key: "app-key",
            token: None,
            protocol: None,
            origin: None,
            peer,
            is_from_loopback: true,
        };
        let mut admitted: Vec<AdmittedClient<()>> = Vec::new();
        for _ in 0..3 {
            admitted.push(server.node.admit(request).await.unwrap());
        }
        let reloader = server.reloader(config);
        assert_eq!(reloader.connections(), 3);
        admitted.pop();
        assert_eq!(reloader.connections(), 2);
    }

    #[tokio::test]
    async fn a_reload_gives_the_shards_each_of_their_settings() {
        let mut config = Config::default();
        config.server.host = "127.0.0.1".to_owned();
        config.server.port = 0;
        let server = Server::build(&config).await.unwrap();
        let reloader = server.reloader(config.clone());
        let settings = Arc::clone(&server.shard_settings);
        config.connection.max_message_bytes = 20_001;
        config.connection.max_outbox_bytes = 2_000_002;
        config.server.request_timeout_s = 3;
        config.server.shutdown_grace_s = 4;
        let prepared = reloader.prepare(config).unwrap();
        let before = **settings.load();
        assert_ne!(before.max_message_bytes, 20_001, "nothing has changed yet");
        reloader.apply(prepared);
        let after = **settings.load();
        assert_eq!(after.max_message_bytes, 20_001);
        assert_eq!(after.max_outbox_bytes, 2_000_002);
        assert_eq!(after.message_timeout, Duration::from_secs(3));
        assert_eq!(after.shutdown_grace, Duration::from_secs(4));
    }
}
