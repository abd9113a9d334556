//! The node: hubs, broker, quotas and counters as one. The shards and the HTTP API reach the rest
//! of the server through it.

mod address;
mod admission;
mod apps;
mod connection_rate;
mod database;
mod exposition;
mod rejections;
mod report;
mod resume;

pub use address::{ClientAddress, TrustedProxies, rate_limit_network};
pub use admission::{AdmittedClient, ClientInfo, ConnectRequest};
pub use database::AppsUnavailable;
pub use report::NodeReport;
pub use resume::{ClaimResult, GraceSubscriptions, Lingering, Owner, ResumeRegistry, ResumeStats};

use crate::{
    alarm::Alarm,
    broker::Broker,
    config::Config,
    hub::{Hub, Inboxes, ShardSet},
    metrics::{Metrics, NodeTotals},
    permit::Quota,
    shutdown::Shutdown,
    webhook::Webhooks,
};
use address::AddressQuota;
use admission::AdmissionPolicy;
use apps::{Apps, HubFactory};
use arc_swap::ArcSwap;
use connection_rate::ConnectionRateLimiter;
use database::DatabaseApps;
use rejections::RejectionThrottle;
use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Everything the shards and the HTTP API share: apps, broker, limits, webhooks, metrics.
#[derive(Debug)]
pub struct Node {
    /// The name of the process, unless the cluster gives it one.
    name: String,
    started_at: Instant,
    apps: ArcSwap<Apps>,
    inboxes: Arc<Inboxes>,
    metrics: Arc<Metrics>,
    policy: ArcSwap<AdmissionPolicy>,
    connections: Arc<Quota>,
    addresses: Arc<AddressQuota>,
    connection_rates: ConnectionRateLimiter,
    rejections: RejectionThrottle,
    resume: Arc<ResumeRegistry>,
    grace: Arc<GraceSubscriptions>,
    /// When [`Node::on_tick`] has something to do.
    alarm: Arc<Alarm>,
    shutdown: Shutdown,
    broker: Broker,
    webhooks: Arc<Webhooks>,
    /// The apps that are not in the configuration.
    database: Option<Box<DatabaseApps>>,
}

/// Maximum time between two ticks.
const UPKEEP_INTERVAL: Duration = Duration::from_hours(1);

impl Node {
    /// Makes a node of `shards` shards with at most `max_connections` connections.
    #[must_use]
    pub fn new(
        config: &Config,
        shards: usize,
        max_connections: usize,
        shutdown: Shutdown,
        webhooks: Arc<Webhooks>,
    ) -> Self {
        let inboxes = Arc::new(Inboxes::new(shards));
        let alarm = Arc::new(Alarm::new());
        let factory = HubFactory { inboxes: &inboxes, webhooks: &webhooks };
        Self {
            name: format!("{:06x}", rand::random::<u32>() >> 8),
            started_at: Instant::now(),
            apps: ArcSwap::from_pointee(Apps::new(&config.apps, &Apps::default(), factory).0),
            metrics: Arc::new(Metrics::new(shards)),
            policy: ArcSwap::from_pointee(AdmissionPolicy::new(&config.connection)),
            connections: Quota::new(max_connections),
            addresses: AddressQuota::new(config.connection.max_connections_per_ip),
            connection_rates: ConnectionRateLimiter::new(
                config.connection.new_connections_per_second_per_ip,
            ),
            rejections: RejectionThrottle::new(),
            resume: Arc::new(ResumeRegistry::new(false)),
            grace: Arc::new(GraceSubscriptions::new(&alarm)),
            shutdown,
            webhooks,
            inboxes,
            broker: Broker::local(&config.connection, &alarm),
            database: None,
            alarm,
        }
    }

    /// Joins the nodes that share the Redis of `config`, if configured. Connecting continues in the
    /// background. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The file that `redis.ca` names can't be read.
    pub fn join(&mut self, config: &Config) -> io::Result<()> {
        let Config { redis, connection, .. } = config;
        if let Some(broker) = Broker::in_redis(redis, connection, self.apps.load().by_id())? {
            self.broker = broker;
        }
        if let Some(cluster) = self.broker.cluster() {
            self.name = cluster.process;
        }
        if let Some(broker) = self.broker.redis() {
            self.webhooks.use_redis(broker);
            self.resume = Arc::new(ResumeRegistry::new(true));
            resume::serve_other_nodes(broker, &self.resume, &self.grace, &self.inboxes);
        }
        Ok(())
    }

    /// The name of this process among the nodes: different for each, and for each start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the process started.
    #[must_use]
    pub fn started_at(&self) -> Instant {
        self.started_at
    }

    /// The broker: local or in Redis.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The reasons why the node does not take traffic; empty if it does.
    #[must_use]
    pub fn not_ready_reasons(&self) -> Vec<String> {
        let draining = self.is_draining().then(|| "draining".to_owned());
        let unavailable = self.broker.unavailable_reason();
        draining.into_iter().chain(unavailable.map(|reason| reason.to_string())).collect()
    }

    /// Whether shards pause reading from clients because too much is queued.
    #[must_use]
    pub fn is_backpressured(&self) -> bool {
        self.inboxes.pauses_reads() || self.broker.is_backlogged()
    }

    /// The hub of the app with this id, if it is known: [`Node::find_hub`] looks it up.
    #[must_use]
    pub fn hub(&self, app_id: &str) -> Option<Arc<Hub>> {
        let configured = self.apps.load().hub(app_id).cloned();
        configured.or_else(|| self.database.as_ref()?.hub(app_id))
    }

    /// The hub of the app with this key, if it is known: [`Node::find_hub_by_key`] looks it up.
    #[must_use]
    pub fn hub_by_key(&self, key: &str) -> Option<Arc<Hub>> {
        let configured = self.apps.load().hub_by_key(key).cloned();
        configured.or_else(|| self.database.as_ref()?.hub_by_key(key))
    }

    /// The webhooks of all apps.
    #[must_use]
    pub fn webhooks(&self) -> &Arc<Webhooks> {
        &self.webhooks
    }

    /// The totals of this node.
    #[must_use]
    pub fn totals(&self) -> NodeTotals {
        NodeTotals {
            uptime_s: self.started_at.elapsed().as_secs(),
            connections: self.local_connections(),
            subscriptions: self.hubs().iter().map(|hub| hub.subscription_count()).sum(),
            ..self.metrics.totals()
        }
    }

    /// The hubs of all known apps.
    #[must_use]
    pub fn hubs(&self) -> Vec<Arc<Hub>> {
        let configured = self.apps.load().hubs().cloned().collect();
        let found = self.database.as_ref().map(|database| database.hubs());
        [configured, found.unwrap_or_default()].concat()
    }

    /// The inboxes of the shards.
    #[must_use]
    pub fn inboxes(&self) -> &Arc<Inboxes> {
        &self.inboxes
    }

    /// The counters of the node.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The clients with a token.
    #[must_use]
    pub fn resume(&self) -> &ResumeRegistry {
        &self.resume
    }

    /// The subscriptions of lost connections.
    #[must_use]
    pub fn grace(&self) -> &GraceSubscriptions {
        &self.grace
    }

    /// Ends a subscription of a lost connection.
    pub fn end_lingering(&self, lingering: &Lingering, now: Instant) {
        let Lingering { hub, channel, shard, user_id, .. } = lingering;
        self.broker.unsubscribe(hub, *shard, channel, user_id.as_ref(), now);
    }

    /// Ends all subscriptions of lost connections: the process ends.
    pub fn end_grace(&self, now: Instant) {
        for lingering in self.grace.take_all() {
            self.end_lingering(&lingering, now);
        }
    }

    /// The shutdown signal of the process.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Whether the node is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_started()
    }

    /// Whether one of these shards is behind with its deliveries.
    #[must_use]
    pub fn pauses_publishers(&self, shards: ShardSet) -> bool {
        shards.iter().any(|shard| self.inboxes.inbox(shard).pauses_publishers())
    }

    /// Waits while one of these shards is behind with its deliveries: backpressure for publishers
    /// that are faster than the node.
    pub async fn wait_for_backpressure(&self, shards: ShardSet) {
        for shard in shards.iter() {
            self.inboxes.inbox(shard).wait_for_backpressure().await;
        }
    }

    /// The number of WebSocket connections of this node.
    #[must_use]
    pub fn local_connections(&self) -> usize {
        self.connections.in_use()
    }

    /// The maximum number of WebSocket connections of this node.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.connections.max()
    }

    /// Counts a new HTTP connection from `address` against its rate.
    ///
    /// # Errors
    ///
    /// The rate is exceeded. Contains the time until the next connection is allowed.
    pub fn count_connection(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let counted = self.connection_rates.take(address, now);
        if self.connection_rates.is_limited() {
            self.alarm.set(now + connection_rate::FULL_AFTER);
        }
        counted
    }

    /// Counts a rejected request or connection from `address`. True if it may be logged: the number
    /// of lines for one address is limited.
    #[must_use]
    pub fn should_log_rejection(&self, address: IpAddr, now: Instant) -> bool {
        let should_log = self.rejections.count(address, now);
        self.alarm.set(now + rejections::WINDOW);
        should_log
    }

    /// Rings when [`Node::on_tick`] has something to do.
    #[must_use]
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Runs the due timers, and sets the alarm for the next ones.
    pub fn on_tick(self: &Arc<Self>, now: Instant) {
        for hub in self.hubs() {
            self.set_alarm(self.broker.on_tick(&hub, now));
        }
        self.set_alarm(self.send_due_report(now));
        self.set_alarm(self.connection_rates.remove_full_buckets(now));
        self.set_alarm(self.rejections.on_tick(now));
        // These wait for a day, and set no alarm.
        self.resume.on_tick(now);
        self.set_alarm(self.maintain_records(now));
        self.alarm.set(now + UPKEEP_INTERVAL);
        for lingering in self.grace.take_due(now) {
            self.end_lingering(&lingering, now);
        }
        self.set_alarm(self.grace.next_end());
    }

    fn set_alarm(&self, at: Option<Instant>) {
        if let Some(at) = at {
            self.alarm.set(at);
        }
    }
}
