//! The faults that are injected, each with a beginning and an end.

mod cluster;
mod network;
mod node;
mod redis;
mod split;

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::support::Period;
use kit::Redis;

use super::testbed::Testbed;
use cluster::ClusterFault;
use network::NetworkFault;
use node::NodeFault;
use redis::RedisFault;

/// A fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// A fault of nodes.
    NodeProcess(NodeFault),
    /// A fault of the network between nodes and Redis.
    Network(NetworkFault),
    /// A fault of Redis.
    Redis(RedisFault),
    /// A split brain: a replica is promoted while the old master runs, and one node stays connected to the old master
    /// for a while.
    Split,
    /// A fault of a Redis Cluster.
    Cluster(ClusterFault),
}

/// The faults of nodes on a single Redis, by their names.
pub(super) const ON_ONE_REDIS: [(&str, Fault); 31] = [
    ("kill", Fault::NodeProcess(NodeFault::Kill)),
    ("pause", Fault::NodeProcess(NodeFault::Pause)),
    ("stall-to-redis", Fault::Network(NetworkFault::StallToRedis)),
    ("stall-to-node", Fault::Network(NetworkFault::StallToNode)),
    ("deaf-redis", Fault::Network(NetworkFault::DeafRedis)),
    ("deaf-node", Fault::Network(NetworkFault::DeafNode)),
    ("late-bytes", Fault::Network(NetworkFault::LateBytes)),
    ("away", Fault::Network(NetworkFault::Away)),
    ("reset", Fault::Network(NetworkFault::Reset)),
    ("latency", Fault::Network(NetworkFault::Latency)),
    ("bandwidth", Fault::Network(NetworkFault::Bandwidth)),
    ("freeze", Fault::Redis(RedisFault::Freeze)),
    ("restart", Fault::Redis(RedisFault::Restart)),
    ("out-of-memory", Fault::Redis(RedisFault::OutOfMemory)),
    ("read-only", Fault::Redis(RedisFault::ReadOnly)),
    ("misconf", Fault::Redis(RedisFault::Misconf)),
    ("acl", Fault::Redis(RedisFault::Acl)),
    ("password", Fault::Redis(RedisFault::Password)),
    ("flush-all", Fault::Redis(RedisFault::FlushAll)),
    ("flush-db", Fault::Redis(RedisFault::FlushDb)),
    ("script-flush", Fault::Redis(RedisFault::ScriptFlush)),
    ("kill-clients", Fault::Redis(RedisFault::KillClients)),
    ("kill-pubsub", Fault::Redis(RedisFault::KillPubsub)),
    ("client-pause", Fault::Redis(RedisFault::ClientPause)),
    ("client-pause-write", Fault::Redis(RedisFault::ClientPauseWrite)),
    ("debug-sleep", Fault::Redis(RedisFault::DebugSleep)),
    ("evict", Fault::Redis(RedisFault::Evict)),
    ("delete-keys", Fault::Redis(RedisFault::DeleteKeys)),
    ("clock-forward", Fault::Redis(RedisFault::ClockForward)),
    ("clock-back", Fault::Redis(RedisFault::ClockBack)),
    ("split", Fault::Split),
];

/// The faults of nodes on a Redis Cluster, by their names.
pub(super) const ON_A_CLUSTER: [(&str, Fault); 7] = [
    ("kill", Fault::NodeProcess(NodeFault::Kill)),
    ("pause", Fault::NodeProcess(NodeFault::Pause)),
    ("reshard", Fault::Cluster(ClusterFault::Reshard)),
    ("fail-over", Fault::Cluster(ClusterFault::FailOver)),
    ("freeze-master", Fault::Cluster(ClusterFault::FreezeMaster)),
    ("flush-master", Fault::Cluster(ClusterFault::FlushMaster)),
    ("clock-ahead", Fault::Cluster(ClusterFault::ClockAhead)),
];

/// The faults of nodes on a Redis monitored by Sentinels, by their names.
pub(super) const BEHIND_SENTINELS: [(&str, Fault); 4] = [
    ("kill", Fault::NodeProcess(NodeFault::Kill)),
    ("pause", Fault::NodeProcess(NodeFault::Pause)),
    ("fail-over", Fault::Cluster(ClusterFault::FailOver)),
    ("freeze-master", Fault::Cluster(ClusterFault::FreezeMaster)),
];

/// How long differences that nothing announces may last: nodes find them by comparison, one part every two seconds.
const COMPARED_WITHIN: Duration = Duration::from_secs(35);

const LONG_PAUSE: Duration = Duration::from_secs(30);

/// A fault that has begun.
#[derive(Debug)]
pub(super) struct Active {
    /// The affected nodes, or the affected servers of a Redis Cluster.
    at: Vec<usize>,
    begin: Instant,
    /// The new master of a split brain.
    replica: Option<Redis>,
    /// The moved slots.
    slots: Vec<usize>,
}

impl Fault {
    /// The range of the fault's duration, in milliseconds.
    pub(super) fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::NodeProcess(fault) => fault.lasts(),
            Self::Network(fault) => fault.lasts(),
            Self::Redis(fault) => fault.lasts(),
            Self::Cluster(fault) => fault.lasts(),
            Self::Split => 2_000..8_000,
        }
    }

    /// The time after the end of the fault within which the state is right again.
    pub(super) fn heals_within(self) -> Duration {
        match self {
            Self::NodeProcess(_) | Self::Network(_) => Duration::from_secs(10),
            Self::Redis(fault) => {
                if fault.is_silent() {
                    COMPARED_WITHIN
                } else {
                    Duration::from_secs(10)
                }
            }
            Self::Split | Self::Cluster(_) => COMPARED_WITHIN,
        }
    }

    fn loses_data(self) -> bool {
        match self {
            Self::NodeProcess(_) | Self::Network(_) => false,
            Self::Redis(fault) => fault.loses_data(),
            Self::Cluster(fault) => fault.loses_data(),
            Self::Split => true,
        }
    }

    /// Whether data of webhooks may be lost while the topics that it concerns are not.
    pub(super) fn loses_webhooks(self) -> bool {
        match self {
            Self::Redis(fault) => matches!(fault, RedisFault::Evict | RedisFault::DeleteKeys),
            Self::Cluster(fault) => fault.loses_data(),
            Self::NodeProcess(_) | Self::Network(_) | Self::Split => false,
        }
    }

    /// Whether the two faults can't be active at once, since one could prevent the end of the other.
    pub(super) fn excludes(self, other: Self) -> bool {
        let is_of_redis =
            |fault: Self| matches!(fault, Self::Redis(_) | Self::Split | Self::Cluster(_));
        let is_of_network = |fault: Self| matches!(fault, Self::Network(_) | Self::Split);
        (is_of_redis(self) && is_of_redis(other))
            || (is_of_network(self) && is_of_network(other))
            || matches!((self, other), (Self::NodeProcess(_), Self::NodeProcess(_)))
    }
}

impl Testbed {
    /// Injects a fault for a random time and, if given, another one during it.
    pub(super) async fn suffer(&mut self, fault: Fault, other: Option<Fault>) {
        let (at, lasts) = (self.targets(fault).await, self.time_of(fault));
        let Some(other) = other else {
            return self.inject_at(fault, at, lasts).await;
        };
        let mut active = self.begin(fault, at, lasts).await;
        tokio::time::sleep(lasts / 2).await;
        let (at, lasts) = (self.targets(other).await, self.time_of(other));
        self.inject_at(other, at, lasts).await;
        self.end(fault, &mut active).await;
    }

    /// Injects a fault at some nodes or servers for this long.
    pub(super) async fn inject_at(&mut self, fault: Fault, at: Vec<usize>, lasts: Duration) {
        let mut active = self.begin(fault, at, lasts).await;
        self.hold(fault, &active, lasts).await;
        self.end(fault, &mut active).await;
    }

    fn time_of(&mut self, fault: Fault) -> Duration {
        if fault == Fault::NodeProcess(NodeFault::Pause)
            && self.is_long
            && self.random.random_bool(0.25)
        {
            return LONG_PAUSE;
        }
        self.draw(fault.lasts())
    }

    async fn begin(&mut self, fault: Fault, at: Vec<usize>, lasts: Duration) -> Active {
        self.world.fault_free_ends();
        self.world.note(format!("{fault:?} begins at {at:?} for {lasts:?}"));
        let mut active = Active { at, begin: Instant::now(), replica: None, slots: Vec::new() };
        match fault {
            Fault::NodeProcess(fault) => self.begin_on_nodes(fault, &active).await,
            Fault::Network(fault) => self.begin_on_network(fault, &active),
            Fault::Redis(fault) => self.begin_on_redis(fault, lasts).await,
            Fault::Cluster(fault) => self.begin_on_cluster(fault, &mut active).await,
            Fault::Split => self.begin_split(&mut active).await,
        }
        active
    }

    /// Waits while a fault lasts, and repeats it if it is recurring.
    async fn hold(&mut self, fault: Fault, active: &Active, lasts: Duration) {
        let end = Instant::now() + lasts;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            tokio::time::sleep(rest.min(Duration::from_millis(400))).await;
            match fault {
                Fault::Network(fault) => self.repeat_on_network(fault, active),
                Fault::Redis(fault) => self.repeat_on_redis(fault).await,
                Fault::NodeProcess(_) | Fault::Split | Fault::Cluster(_) => {}
            }
        }
    }

    async fn end(&mut self, fault: Fault, active: &mut Active) {
        match fault {
            Fault::NodeProcess(fault) => self.end_on_nodes(fault, active),
            Fault::Network(fault) => self.end_on_network(fault, active),
            Fault::Redis(fault) => self.end_on_redis(fault).await,
            Fault::Cluster(fault) => self.end_on_cluster(fault, active).await,
            Fault::Split => self.end_split(active),
        }
        self.world.note(format!("{fault:?} ends"));
        // Nodes detect data that Redis loses at the end of a fault a moment later.
        let end = Instant::now() + Duration::from_secs(5);
        let period = Period { begin: active.begin, end };
        self.world.record_fault(fault, period, fault.loses_data());
    }

    /// The affected nodes: one, or all; or one master of a Redis Cluster.
    pub(super) async fn targets(&mut self, fault: Fault) -> Vec<usize> {
        match fault {
            Fault::NodeProcess(_) => {
                let running = self.running();
                if running.len() < 2 { Vec::new() } else { vec![self.any(&running)] }
            }
            Fault::Network(_) => {
                let all: Vec<usize> = (0..self.nodes.len()).collect();
                if self.random.random_bool(0.5) { vec![self.any(&all)] } else { all }
            }
            Fault::Cluster(_) => self.any_master().await,
            Fault::Redis(_) | Fault::Split => Vec::new(),
        }
    }
}
