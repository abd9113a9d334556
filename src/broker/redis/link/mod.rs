//! The link to Redis, of any topology: requests, replies, and pub/sub messages.
//!
//! - `stream` opens TCP, TLS and Unix connections, and `client` speaks RESP3 over one. `server` holds two
//!   connections to one server: one for commands, and one for subscriptions and for queries that must be
//!   ordered with its messages. `resp` parses what arrives. `pending` bounds how long replies may take.
//! - `routing` and `slots` find the master of each partition of a Redis Cluster and follow it.
//! - `sentinel` finds the master that Sentinels watch.

mod client;
mod events;
mod facts;
mod pending;
mod resp;
mod routing;
mod sentinel;
mod server;
mod slots;
mod stream;

#[cfg(test)]
mod tests;

pub use facts::RedisFacts;

pub(super) use events::{LinkEvent, LinkEvents, ServerId};
#[cfg(test)]
pub(super) use stream::{Dial, RedisStream};

use super::partition::Partition;
use crate::config::{RedisConfig, RedisTarget, Topology};
use client::{AbortOnDrop, Incoming};
use events::{LOST, LinkEventSender};
use futures_util::future::{join_all, try_join_all};
use redis::{Cmd, FromRedisValue, RedisResult, Value, cmd, from_redis_value};
use routing::RedisCluster;
use sentinel::Sentinels;
use server::{RedisServer, ServerConnector, ServerRequest};
use std::{io, sync::Arc, time::Duration};
use stream::{RedisDialer, ServerAddress, timed_out};
use tokio::time::timeout;

/// Maximum time for connecting, including the discovery of servers. Each step has a shorter
/// timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of pub/sub channels in one command, so that neither it nor its reply blocks Redis for long.
const CHANNELS_PER_COMMAND: usize = 512;

/// The configured Redis.
#[derive(Debug)]
pub(super) struct RedisEndpoint {
    target: RedisTarget,
    connector: ServerConnector,
}

/// A link to Redis for concurrent use. Cheap to clone; it ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct RedisConnection(Arc<Link>);

#[derive(Debug)]
enum Link {
    Standalone {
        server: Arc<RedisServer>,
        /// A connection to the Sentinels, if configured.
        _watch: Option<AbortOnDrop>,
    },
    Cluster(RedisCluster),
}

impl RedisEndpoint {
    /// Reads the files that connecting needs.
    ///
    /// # Errors
    ///
    /// The file with the certificates can't be read.
    pub(super) fn new(config: &RedisConfig, target: RedisTarget) -> io::Result<Self> {
        let opener = ServerConnector::new(RedisDialer::new(config, target.is_tls)?, &target);
        Ok(Self { target, connector: opener })
    }

    /// An endpoint over streams that a test opens: a Redis Cluster, or the first of the addresses.
    #[cfg(test)]
    pub(super) fn over(dial: Dial, addresses: &[(String, u16)], is_redis_cluster: bool) -> Self {
        let topology = if is_redis_cluster {
            Topology::Cluster { nodes: addresses.to_vec() }
        } else {
            Topology::Single { address: addresses[0].clone() }
        };
        let target = RedisTarget { topology, is_tls: false, username: None, password: None, db: 0 };
        let opener = ServerConnector::new(RedisDialer::Test(dial), &target);
        Self { target, connector: opener }
    }

    pub(super) fn is_redis_cluster(&self) -> bool {
        matches!(self.target.topology, Topology::Cluster { .. })
    }

    /// Connects, and returns the connection with the queue of its messages. Times out after
    /// `CONNECT_TIMEOUT`.
    pub(super) async fn connect(&self) -> RedisResult<(RedisConnection, LinkEvents)> {
        let (events, pushes) = LinkEventSender::new();
        let connecting = timeout(CONNECT_TIMEOUT, self.link(events)).await;
        let link = connecting.map_err(|_| timed_out("connecting to redis", CONNECT_TIMEOUT))??;
        Ok((RedisConnection(Arc::new(link)), pushes))
    }

    async fn link(&self, events: LinkEventSender) -> RedisResult<Link> {
        match &self.target.topology {
            Topology::Single { address: (host, port) } => {
                let server = self.master(&ServerAddress::Tcp(host.clone(), *port), &events).await?;
                Ok(Link::Standalone { server, _watch: None })
            }
            Topology::Unix { path } => {
                let server = self.master(&ServerAddress::Unix(path.clone()), &events).await?;
                Ok(Link::Standalone { server, _watch: None })
            }
            Topology::Sentinel { sentinels, master, password } => {
                let dialer = self.connector.dialer.clone();
                let mut sentinels = Sentinels::new(dialer, sentinels, master, password.as_ref());
                let address = sentinels.master().await?;
                let server = self.master(&address, &events).await?;
                Ok(Link::Standalone { server, _watch: Some(sentinels.watch(address, events)) })
            }
            Topology::Cluster { nodes } => {
                Ok(Link::Cluster(RedisCluster::connect(&self.connector, nodes, events).await?))
            }
        }
    }

    /// Connects to the only server, which must be a master.
    async fn master(
        &self,
        address: &ServerAddress,
        events: &LinkEventSender,
    ) -> RedisResult<Arc<RedisServer>> {
        let (on_commands, on_pubsub) = (events.clone(), events.clone());
        let on_commands = move |incoming| {
            if incoming == Incoming::Lost {
                on_commands.push(LinkEvent::Lost(LOST));
            }
        };
        let on_pubsub = move |incoming| on_pubsub.push_incoming(incoming);
        let server =
            self.connector.connect_pair(ServerId::ONLY, address, on_commands, on_pubsub).await?;
        server.check_role().await?;
        Ok(Arc::new(server))
    }
}

impl RedisConnection {
    /// The reply of the server that has the partition.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        partition: Partition,
        command: &Cmd,
    ) -> RedisResult<T> {
        let reply = self.run(partition, ServerRequest::Query(command)).await?;
        Ok(from_redis_value(reply)?)
    }

    /// Like [`Self::query`], in order with the pub/sub messages of the partition: those that were published
    /// before the command arrive before the reply.
    pub(super) async fn query_in_order<T: FromRedisValue>(
        &self,
        partition: Partition,
        command: &Cmd,
    ) -> RedisResult<T> {
        let reply = self.run(partition, ServerRequest::QueryInOrder(command)).await?;
        Ok(from_redis_value(reply)?)
    }

    /// Subscribes to pub/sub channels of a partition. Returns for each the server that has it.
    pub(super) async fn subscribe(
        &self,
        partition: Partition,
        pubsub_channels: &[Arc<str>],
    ) -> RedisResult<Vec<ServerId>> {
        let subscribing =
            pubsub_channels.chunks(CHANNELS_PER_COMMAND).map(|pubsub_channels| async move {
                let command = self.pubsub_command(["SUBSCRIBE", "SSUBSCRIBE"], pubsub_channels);
                let id = self
                    .run(partition, ServerRequest::Subscribe(&command, pubsub_channels.len()))
                    .await?;
                Ok(vec![ServerId(from_redis_value(id)?); pubsub_channels.len()])
            });
        try_join_all(subscribing).await.map(|ids| ids.concat())
    }

    pub(super) async fn unsubscribe(
        &self,
        partition: Partition,
        pubsub_channels: &[Arc<str>],
    ) -> RedisResult<()> {
        let unsubscribing =
            pubsub_channels.chunks(CHANNELS_PER_COMMAND).map(|pubsub_channels| async move {
                let command = self.pubsub_command(["UNSUBSCRIBE", "SUNSUBSCRIBE"], pubsub_channels);
                self.run(partition, ServerRequest::Unsubscribe(&command)).await
            });
        try_join_all(unsubscribing).await.map(drop)
    }

    fn pubsub_command(
        &self,
        [standalone, cluster]: [&str; 2],
        pubsub_channels: &[Arc<str>],
    ) -> Cmd {
        let mut command = cmd(match &*self.0 {
            Link::Standalone { .. } => standalone,
            Link::Cluster(_) => cluster,
        });
        for pubsub_channel in pubsub_channels {
            command.arg(&**pubsub_channel);
        }
        command
    }

    /// Loads scripts on every server. Returns their digests, in order.
    pub(super) async fn load(&self, scripts: &[&str]) -> RedisResult<Vec<String>> {
        let servers = self.servers().await?;
        let digests = try_join_all(servers.iter().map(|server| server.load(scripts))).await?;
        // The same text has the same digest on every server.
        Ok(digests.into_iter().next().unwrap_or_default())
    }

    /// A warning for the operator if a server may evict keys; `None` if that is unknown.
    pub(super) async fn memory_warning(&self) -> Option<String> {
        let servers = self.servers().await.ok()?;
        let warnings = join_all(servers.iter().map(|server| server.memory_warning())).await;
        warnings.into_iter().flatten().next()
    }

    /// What each server says of itself.
    pub(super) async fn facts(&self) -> RedisResult<Vec<RedisFacts>> {
        let servers = self.servers().await?;
        try_join_all(servers.iter().map(|server| server.facts())).await
    }

    async fn servers(&self) -> RedisResult<Vec<Arc<RedisServer>>> {
        match &*self.0 {
            Link::Standalone { server, .. } => Ok(vec![Arc::clone(server)]),
            Link::Cluster(cluster) => cluster.servers().await,
        }
    }

    async fn run(&self, partition: Partition, request: ServerRequest<'_>) -> RedisResult<Value> {
        match &*self.0 {
            Link::Standalone { server, .. } => server.run(request, false).await,
            Link::Cluster(cluster) => cluster.run(partition, request).await,
        }
    }
}
