//! A coordinator on the simulated network, which a test runs step by step.

use super::*;
use crate::{
    app::App,
    broker::{
        logs::PendingLogRequest,
        redis::{random, simulation::network::Network, topic::Topic},
    },
    config::AppConfig,
    hub::{
        ConnectionKey, ConnectionRef, Delivery, Inboxes, ShardIndex, testing::AllEventsObserver,
    },
    protocol::{ChannelName, Member},
};
use std::collections::VecDeque;

/// The app of all testbeds.
pub(in crate::broker::redis) const APP: &str = "app";
/// The prefix of all keys.
pub(in crate::broker::redis) const PREFIX: &str = "test";
/// `redis.node_timeout_ms`.
pub(in crate::broker::redis) const NODE_TIMEOUT: Duration = Duration::from_secs(6);
const PORT: u16 = 6379;
const SERVERS: [(&str, u16); 3] = [("redis0", PORT), ("redis1", PORT), ("redis2", PORT)];
/// The time between two ticks.
const TURN: Duration = Duration::from_millis(20);

/// A node without shards, and the Redis that it uses.
#[derive(Debug)]
pub(in crate::broker::redis) struct Testbed {
    pub(in crate::broker::redis) network: Network,
    pub(in crate::broker::redis) coordinator: Coordinator,
    pub(in crate::broker::redis) completions: mpsc::UnboundedReceiver<(u64, Completion)>,
    inboxes: Arc<Inboxes>,
}

impl Testbed {
    /// A node of one Redis, or of a Redis Cluster with three servers. It has not joined.
    pub(in crate::broker::redis) fn new(is_redis_cluster: bool) -> Self {
        random::seed(1);
        let network = Network::new(1);
        let servers = if is_redis_cluster { &SERVERS[..] } else { &SERVERS[..1] };
        for (host, port) in servers {
            network.add_server(host, *port);
        }
        if is_redis_cluster {
            network.make_cluster(servers);
        }
        let config =
            AppConfig { id: APP.to_owned(), subscription_count: true, ..AppConfig::development() };
        let inboxes = Arc::new(Inboxes::new(1));
        let hub =
            Hub::new(App::new(config), Arc::clone(&inboxes), Arc::new(AllEventsObserver), now());
        let hub = Arc::new(hub);
        let shared = Arc::new(ClusterState::new(PREFIX, is_redis_cluster, Duration::from_secs(2)));
        let endpoint = network.endpoint(0, &SERVERS, is_redis_cluster);
        let hubs = HashMap::from([(Arc::from(APP), hub)]);
        let (coordinator, completions) =
            Coordinator::new(shared, endpoint, hubs, NODE_TIMEOUT, Arc::default());
        Self { network, coordinator, completions, inboxes }
    }

    /// A node that has joined.
    pub(in crate::broker::redis) async fn joined(is_redis_cluster: bool) -> Self {
        let mut testbed = Self::new(is_redis_cluster);
        testbed.until("joined", |coordinator| coordinator.membership.is_joined()).await;
        testbed
    }

    /// Handles the next message, result or tick.
    pub(in crate::broker::redis) async fn turn(&mut self) {
        let coordinator = &mut self.coordinator;
        tokio::select! {
            biased;
            event = next(&mut coordinator.link.events) => coordinator.handle_events(event).await,
            Some((link, completion)) = self.completions.recv() => {
                if link == coordinator.link.link_number {
                    coordinator.on_completion(completion);
                }
            }
            () = time::sleep(TURN) => coordinator.on_tick(now()),
        }
        coordinator.start_topic_commands();
    }

    /// Runs until the condition holds; it must within a minute.
    pub(in crate::broker::redis) async fn until(
        &mut self,
        what: &str,
        condition: impl Fn(&Coordinator) -> bool,
    ) {
        let end = now() + Duration::from_mins(1);
        while !condition(&self.coordinator) {
            assert!(now() < end, "not within a minute: {what}");
            self.turn().await;
        }
    }

    /// Runs for a while.
    pub(in crate::broker::redis) async fn run_for(&mut self, duration: Duration) {
        let end = now() + duration;
        while now() < end {
            self.turn().await;
        }
    }

    pub(in crate::broker::redis) fn request(&mut self, input: CoordinatorRequest) {
        self.coordinator.on_request(input);
    }

    /// Subscribes a connection to a channel; the testbed must run afterwards.
    pub(in crate::broker::redis) fn subscribe(
        &mut self,
        slot: u32,
        channel: &str,
        user: Option<&str>,
    ) {
        let member = user.map(|user| Member { user_id: user.into(), user_info: "{}".into() });
        let connection = connection(slot);
        let waiter =
            Waiter::Subscriber { connection, ticket: slot, member, log: PendingLogRequest::No };
        self.request(CoordinatorRequest::Subscribe {
            app_id: APP.into(),
            channel: channel_name(channel),
            waiter,
        });
    }

    /// Runs until everything that this node has is in Redis.
    pub(in crate::broker::redis) async fn until_synced(&mut self) {
        self.until("synced", |coordinator| {
            !coordinator.topics.has_work() && coordinator.topics.all.values().all(Topic::is_synced)
        })
        .await;
    }

    /// The deliveries to the only shard since the last call.
    pub(in crate::broker::redis) fn deliveries(&self) -> Vec<Delivery> {
        let mut batch = VecDeque::new();
        self.inboxes.inbox(ShardIndex::new(0)).drain_into(&mut batch);
        batch.into()
    }

    /// The reply of the server that has the partition.
    pub(in crate::broker::redis) fn ask(
        &self,
        partition: Partition,
        words: &[&str],
    ) -> redis::Value {
        self.network.ask(self.server_of(partition), PORT, words)
    }

    /// The host of a partition.
    pub(in crate::broker::redis) fn server_of(&self, partition: Partition) -> &'static str {
        if !self.coordinator.shared.is_redis_cluster {
            return SERVERS[0].0;
        }
        let has_it = |(host, port): &&(&str, u16)| {
            self.network.slots_of(host, *port).contains(&partition.slot())
        };
        SERVERS.iter().find(has_it).expect("each slot has a server").0
    }

    /// A field of a hash; empty without one.
    pub(in crate::broker::redis) fn field(
        &self,
        partition: Partition,
        key: &str,
        field: &str,
    ) -> String {
        let value = self.ask(partition, &["HGET", key, field]);
        let value: Option<String> = redis::from_redis_value(value).expect("it is text");
        value.unwrap_or_default()
    }

    /// Everything in Redis: keys, and the fields or members of hashes and sets.
    pub(in crate::broker::redis) fn dump(&self) -> String {
        let servers =
            if self.coordinator.shared.is_redis_cluster { &SERVERS[..] } else { &SERVERS[..1] };
        let mut dump = Vec::new();
        for (host, port) in servers {
            for key in self.network.keys(host, *port) {
                let key = String::from_utf8_lossy(&key).into_owned();
                for command in ["HGETALL", "SMEMBERS"] {
                    let value = self.network.ask(host, *port, &[command, &key]);
                    if !matches!(value, redis::Value::ServerError(_)) {
                        dump.push(format!("{key} {value:?}"));
                    }
                }
            }
        }
        dump.join("\n")
    }

    /// The key of a channel's hash, and its partition.
    pub(in crate::broker::redis) fn channel(&self, channel: &str) -> (String, Partition) {
        let (names, channel) = (&self.coordinator.shared.names, channel_name(channel));
        (names.channel_topic_key(APP, &channel), names.channel_partition(APP, &channel))
    }

    /// The key of the registry of a partition.
    pub(in crate::broker::redis) fn registry(&self, partition: Partition) -> String {
        self.coordinator.shared.names.registry_key(partition)
    }
}

/// A connection of the only shard.
pub(in crate::broker::redis) fn connection(slot: u32) -> ConnectionRef {
    ConnectionRef { shard: ShardIndex::new(0), key: ConnectionKey { slot, generation: 0 } }
}

pub(in crate::broker::redis) fn channel_name(name: &str) -> ChannelName {
    ChannelName::parse(name, 100).expect("a good name")
}
