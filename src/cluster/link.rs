//! A connection to Redis, of any topology: what is asked and answered, and what the bus brings.

use super::partition::Partition;
use crate::{
    config::{RedisConfig, RedisTarget, Secret, Topology},
    file,
};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisResult,
    TlsCertificates, TlsMode, Value,
    aio::{AsyncPushSender, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cmd,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// What may wait of what the bus brings, in bytes. Beyond it this node is too slow for what it
/// wants to hear; it says so by giving up the link, and its clients come again.
const WAITING_MAX: usize = 64 * 1024 * 1024;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands that may wait to be written.
const PIPELINE: usize = 1_024;

/// How often a command is sent again to a Redis Cluster that is changing.
const CLUSTER_RETRIES: u32 = 4;
/// The longest pause before that, in ms.
const CLUSTER_RETRY_WAIT_MS: u64 = 200;

/// The way to Redis, as it was configured.
#[derive(Debug)]
pub(super) struct Endpoint {
    target: RedisTarget,
    certificates: Option<TlsCertificates>,
}

/// A connection that many may use at once.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What the bus brings.
#[derive(Debug)]
pub(super) struct Pushes {
    arrived: mpsc::UnboundedReceiver<PushInfo>,
    waiting: Arc<AtomicUsize>,
}

/// One thing that the bus brought.
#[derive(Debug)]
pub(super) enum Push {
    /// A message.
    Message { bus: Vec<u8>, message: Vec<u8> },
    /// The partition's server is another, or it ended a subscription by itself.
    #[expect(dead_code, reason = "the next commit has it")]
    Moved(Partition),
    /// The link is lost, or something on it that only a new one mends.
    Lost(&'static str),
}

impl Endpoint {
    /// Reads what is needed to connect.
    ///
    /// # Errors
    ///
    /// The file with the certificates can't be read.
    pub(super) fn new(config: &RedisConfig, target: RedisTarget) -> io::Result<Self> {
        let certificates = match config.ca.as_str() {
            "" => None,
            path => {
                let root_cert = Some(file::read(path)?);
                Some(TlsCertificates { client_tls: None, root_cert })
            }
        };
        Ok(Self { target, certificates })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.target.topology, Topology::Cluster { .. })
    }

    /// Connects, and has the bus's messages come to what is returned.
    pub(super) async fn connect(&self) -> RedisResult<(Connection, Pushes)> {
        let (sender, arrived) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let pushes = Pushes { arrived, waiting: Arc::clone(&waiting) };
        let push = move |info: PushInfo| {
            let len = len_of(&info);
            if WAITING_MAX < waiting.fetch_add(len, Ordering::Relaxed) {
                let lost = PushInfo { kind: PushKind::Disconnection, data: Vec::new() };
                return sender.send(lost);
            }
            sender.send(info)
        };
        let connection = match &self.target.topology {
            Topology::Cluster { nodes } => {
                let infos: Vec<ConnectionInfo> = nodes
                    .iter()
                    .map(|(host, port)| self.info(self.address(host, *port)))
                    .collect::<RedisResult<_>>()?;
                let mut builder = ClusterClientBuilder::new(infos)
                    .use_protocol(ProtocolVersion::RESP3)
                    .push_sender(push)
                    .connection_timeout(CONNECT_TIMEOUT)
                    .overall_response_timeout(None)
                    // It follows what moved, and asks again while the cluster heals.
                    .retries(CLUSTER_RETRIES)
                    .max_retry_wait(CLUSTER_RETRY_WAIT_MS);
                if let Some(username) = &self.target.username {
                    builder = builder.username(username);
                }
                if let Some(password) = &self.target.password {
                    builder = builder.password(password.expose());
                }
                if self.target.is_tls {
                    builder = builder.tls(TlsMode::Secure);
                    if let Some(certificates) = &self.certificates {
                        builder = builder.certs(certificates.clone());
                    }
                }
                Connection::Cluster(builder.build()?.get_async_connection().await?)
            }
            Topology::Sentinel { sentinels, master, password } => {
                let mut client = self.sentinel(sentinels, master, password.as_ref())?;
                let config = Self::config().set_push_sender(push);
                Connection::One(client.get_async_connection_with_config(&config).await?)
            }
            Topology::Single { address: (host, port) } => {
                self.single(self.address(host, *port), push).await?
            }
            Topology::Unix { path } => self.single(ConnectionAddr::Unix(path.into()), push).await?,
        };
        Ok((connection, pushes))
    }

    async fn single(
        &self,
        address: ConnectionAddr,
        push: impl AsyncPushSender,
    ) -> RedisResult<Connection> {
        let client = self.client(self.info(address)?)?;
        let config = Self::config().set_push_sender(push);
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Connection::One(connection))
    }

    fn config() -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Whoever asks knows how long it waits.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE)
    }

    fn address(&self, host: &str, port: u16) -> ConnectionAddr {
        if self.target.is_tls {
            ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host.to_owned(), port)
        }
    }

    fn info(&self, address: ConnectionAddr) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.target.db);
        if let Some(username) = &self.target.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.target.password {
            settings = settings.set_password(password.expose());
        }
        Ok(address.into_connection_info()?.set_redis_settings(settings))
    }

    fn client(&self, info: ConnectionInfo) -> RedisResult<Client> {
        match &self.certificates {
            Some(certificates) if self.target.is_tls => {
                Client::build_with_tls(info, certificates.clone())
            }
            Some(_) | None => Client::open(info),
        }
    }

    fn sentinel(
        &self,
        sentinels: &[(String, u16)],
        master: &str,
        sentinel_password: Option<&Secret>,
    ) -> RedisResult<redis::sentinel::SentinelClient> {
        let addresses = sentinels.iter().map(|(host, port)| self.address(host, *port));
        let mut builder =
            SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
                .set_client_to_redis_protocol(ProtocolVersion::RESP3)
                .set_client_to_redis_db(self.target.db);
        if let Some(username) = &self.target.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &self.target.password {
            builder = builder.set_client_to_redis_password(password.expose());
        }
        if let Some(password) = sentinel_password {
            builder = builder.set_client_to_sentinel_password(password.expose());
        }
        if self.target.is_tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
            if let Some(certificates) = &self.certificates {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates.clone());
            }
        }
        builder.build()
    }
}

impl Connection {
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        _partition: Partition,
        command: &Cmd,
    ) -> RedisResult<T> {
        match self.clone() {
            Self::One(mut connection) => command.query_async(&mut connection).await,
            Self::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }

    pub(super) async fn query_in_order<T: FromRedisValue>(
        &self,
        partition: Partition,
        command: &Cmd,
    ) -> RedisResult<T> {
        self.query(partition, command).await
    }

    pub(super) async fn load(&self, scripts: &[&str]) -> RedisResult<Vec<String>> {
        let mut names = Vec::new();
        for script in scripts {
            names.push(self.query(Partition::HOME, cmd("SCRIPT").arg("LOAD").arg(*script)).await?);
        }
        Ok(names)
    }

    #[expect(clippy::unused_async, reason = "the servers are asked by the next commit")]
    pub(super) async fn memory_warning(&self) -> Option<String> {
        None
    }

    pub(super) async fn subscribe(
        &self,
        _partition: Partition,
        buses: &[Arc<str>],
    ) -> RedisResult<()> {
        for bus in buses {
            match self.clone() {
                Self::One(mut connection) => connection.subscribe(&**bus).await?,
                Self::Cluster(mut connection) => connection.ssubscribe(&**bus).await?,
            }
        }
        Ok(())
    }

    pub(super) async fn unsubscribe(
        &self,
        _partition: Partition,
        buses: &[Arc<str>],
    ) -> RedisResult<()> {
        for bus in buses {
            match self.clone() {
                Self::One(mut connection) => connection.unsubscribe(&**bus).await?,
                Self::Cluster(mut connection) => connection.sunsubscribe(&**bus).await?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Pushes {
    /// The next thing that the bus brings. Safe to cancel.
    pub(super) async fn next(&mut self) -> Push {
        loop {
            let Some(info) = self.arrived.recv().await else {
                return Push::Lost("the link to redis is lost");
            };
            self.waiting.fetch_sub(len_of(&info), Ordering::Relaxed);
            if let Some(push) = read(info) {
                return push;
            }
        }
    }
}

fn read(info: PushInfo) -> Option<Push> {
    let PushInfo { kind, data } = info;
    let mut data = data.into_iter().map(bytes);
    let mut next = || data.next().flatten();
    if matches!(kind, PushKind::Message | PushKind::SMessage) {
        return Some(Push::Message { bus: next()?, message: next()? });
    }
    (kind == PushKind::Disconnection).then_some(Push::Lost("the link to redis is lost"))
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::BulkString(bytes) = value { Some(bytes) } else { None }
}

fn len_of(info: &PushInfo) -> usize {
    let len = |value: &Value| if let Value::BulkString(bytes) = value { bytes.len() } else { 0 };
    info.data.iter().map(len).sum::<usize>() + size_of::<PushInfo>()
}
