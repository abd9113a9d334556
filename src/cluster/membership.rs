//! This node's registration in Redis: its name, its lease, and its progress of joining.

use super::{
    clock::now,
    lease::Lease,
    link::RedisConnection,
    partition::Partition,
    random,
    scripts::{ScriptCall, ScriptReply, Unexpected},
    shared::ClusterState,
};
use crate::backoff::Backoff;
use redis::{RedisResult, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// The registration of this node, and the nodes that it knows.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) process: String,
    /// The suffix of the node's name. A node that was declared dead takes another name, since the
    /// old one is cleaned up.
    incarnation: u32,
    pub(super) lease: Arc<Lease>,
    /// Whether Redis has had this node's present name in the generations of `lease`.
    pub(super) was_registered: bool,
    node_timeout: Duration,
    pub(super) stage: Stage,
    /// When the unanswered round of heartbeats was sent.
    pub(super) asked: Option<Instant>,
    pub(super) next_heartbeat: Instant,
    /// When this node last received a message on the bus.
    pub(super) heard: Option<Instant>,
    /// When it last received a message while it was joined; `None` while it is.
    deaf_since: Option<Instant>,
    /// When it last received its own heartbeat on the bus.
    pub(super) echoed: Instant,
    /// Whether it has received its own heartbeat on the bus of this link.
    pub(super) is_heard: bool,
    /// The partitions that are not open for publishing yet.
    pub(super) closed: BTreeSet<Partition>,
    /// The other processes that this node knows.
    pub(super) known: Vec<String>,
    /// The nodes that have a lease, this one among them.
    pub(super) alive: Vec<String>,
    /// The processes of `alive`. A process that can only publish on the bus has none.
    leased: Vec<u32>,
    /// Earlier names of this node that are still to be cleaned up.
    pub(super) former: BTreeSet<String>,
    /// Nodes that a partition lists and the home partition does not, with the times of the first and of
    /// the latest comparison that found them.
    pub(super) strangers: BTreeMap<String, (Instant, Instant)>,
    /// Failed attempts to connect and join since the node was joined.
    pub(super) failures: u32,
}

/// The progress of joining.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// There is no link; the next attempt is due.
    Disconnected(Instant),
    Connecting,
    /// Linked; the registration was requested.
    Joining,
    /// Redis has begun a new generation: this node reports the sequences that it knows.
    Restoring,
    /// Everything that this node has is synced.
    Syncing,
    /// Everything is synced, which was reported.
    Arriving,
    /// Waiting for its own heartbeat on the bus, and for all partitions to open.
    Waiting,
    Joined,
}

/// The purpose of a heartbeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeartbeatPhase {
    Join,
    Busy,
    Arrive,
    Heartbeat,
    Leave,
}

/// A partition's answer to a heartbeat.
#[derive(Debug)]
pub(super) struct HeartbeatReply {
    pub(super) partition: Partition,
    pub(super) status: Registered,
    pub(super) generation: String,
    pub(super) is_open: bool,
    pub(super) was_open: bool,
    pub(super) redis_ms: u64,
    /// The times of the request and of the answer.
    pub(super) times: (Instant, Instant),
    pub(super) dead: Vec<String>,
    pub(super) alive: Vec<String>,
    /// The age of the generation.
    pub(super) age: Duration,
}

/// Whether a node is registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Registered {
    Yes,
    /// The registration is not valid: the node was declared dead, its name has a later link, or Redis has lost its data.
    LeaseExpired,
    /// Nodes with another key layout use this prefix. Its version is in the reply's `generation`.
    OtherLayout,
}

/// The version of the key layout: nodes of another one can't share a prefix.
pub(super) const LAYOUT: &str = "2";
/// Interval of the heartbeats of a joined node. Its lease is several times as long.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the heartbeats while joining.
const EAGER_INTERVAL: Duration = Duration::from_millis(100);
/// The same, if several partitions are not open yet.
const EAGER_INTERVAL_MANY: Duration = Duration::from_millis(500);
/// How long a new generation waits for progress of the expected processes.
const ARRIVAL_WINDOW: Duration = Duration::from_secs(3);
/// The maximum wait of a new generation.
const ARRIVAL_MAX: Duration = Duration::from_secs(60);
/// How long a new generation waits for a node that knows earlier processes. A node that lost its
/// link is back by then.
const KNOWING_WINDOW: Duration = Duration::from_millis(1_500);
/// The delays between attempts to connect.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(50), longest: Duration::from_millis(400), jitter: 0.5 };
/// The same on a Redis Cluster, where joining takes some hundred commands.
const BACKOFF_ON_CLUSTER: Backoff = Backoff { longest: Duration::from_secs(2), ..BACKOFF };

/// The error for an invalid reply.
const UNEXPECTED: (redis::ErrorKind, &str) =
    (redis::ErrorKind::UnexpectedReturnType, "unexpected reply to a heartbeat");

/// Maximum number of processes that are known by their own messages only. Redis confirms once a
/// second which of them are nodes.
const KNOWN_MAX: usize = 1_024;

/// The process of a node.
pub(super) fn process_of(node: &str) -> &str {
    node.split('.').next().unwrap_or_default()
}

impl Membership {
    pub(super) fn new(process: String, node_timeout: Duration) -> Self {
        let lease = Lease { node: format!("{process}.1"), link: 0, generations: Vec::new() };
        Self {
            process,
            incarnation: 1,
            lease: Arc::new(lease),
            was_registered: false,
            node_timeout,
            stage: Stage::Disconnected(now()),
            asked: None,
            next_heartbeat: now(),
            heard: None,
            deaf_since: None,
            echoed: now(),
            is_heard: false,
            closed: BTreeSet::new(),
            known: Vec::new(),
            alive: Vec::new(),
            leased: Vec::new(),
            former: BTreeSet::new(),
            strangers: BTreeMap::new(),
            failures: 0,
        }
    }

    /// This node's name.
    pub(super) fn node(&self) -> &str {
        &self.lease.node
    }

    /// Whether the node is joined.
    pub(super) fn is_joined(&self) -> bool {
        self.stage == Stage::Joined
    }

    /// Whether other nodes may still have to write their contributions to a partition.
    pub(super) fn is_provisional(&self, partition: Partition) -> bool {
        self.closed.contains(&partition)
    }

    /// Records that the bus is not received any more, since the last message.
    pub(super) fn become_deaf(&mut self) {
        if self.is_joined() {
            self.deaf_since = self.heard.or(Some(now()));
        }
    }

    /// Records that the bus is received.
    pub(super) fn hears_again(&mut self) {
        self.heard = Some(now());
        self.deaf_since = None;
    }

    /// How long the bus has not been received.
    pub(super) fn deaf_for(&self) -> Duration {
        self.deaf_since.map_or(Duration::ZERO, |since| now().saturating_duration_since(since))
    }

    /// Records a process by its node.
    pub(super) fn hear_of(&mut self, node: &str) {
        let process = process_of(node);
        let is_new = process != self.process && !self.known.iter().any(|known| known == process);
        if is_new && self.known.len() < KNOWN_MAX {
            self.known.push(process.to_owned());
        }
    }

    /// Whether Redis lists the process as a node.
    pub(super) fn has_lease(&self, process: u32) -> bool {
        self.leased.contains(&process)
    }

    /// Records which nodes have a lease.
    pub(super) fn set_alive(&mut self, alive: Vec<String>) {
        let number = |node: &String| u32::from_str_radix(process_of(node), 16).ok();
        self.leased = alive.iter().filter_map(number).collect();
        self.known = alive.iter().map(|node| process_of(node).to_owned()).collect();
        self.known.retain(|known| *known != self.process);
        self.alive = alive;
    }

    /// Advances the link number, which invalidates writes of earlier links.
    pub(super) fn next_link(&mut self) {
        let lease = Arc::make_mut(&mut self.lease);
        lease.link += 1;
    }

    /// Takes another name, since this one was declared dead.
    pub(super) fn rename(&mut self) {
        self.former.insert(self.lease.node.clone());
        self.incarnation += 1;
        self.was_registered = false;
        let node = format!("{}.{}", self.process, self.incarnation);
        Arc::make_mut(&mut self.lease).node = node;
    }

    /// When the next attempt to connect is due.
    pub(super) fn back_off(&mut self, is_cluster: bool) -> Instant {
        let share = u32::try_from(random::number() % 512).expect("a small number");
        let backoff = if is_cluster { BACKOFF_ON_CLUSTER } else { BACKOFF };
        let delay = backoff.delay(self.failures, f64::from(share) / 512.0);
        self.failures = self.failures.saturating_add(1);
        now() + delay
    }

    /// The time until the next heartbeat.
    pub(super) fn interval(&self) -> Duration {
        if self.is_joined() {
            HEARTBEAT_INTERVAL
        } else if 1 < self.closed.len() {
            EAGER_INTERVAL_MANY
        } else {
            EAGER_INTERVAL
        }
    }

    fn call(
        &self,
        shared: &ClusterState,
        phase: HeartbeatPhase,
        partition: Partition,
    ) -> ScriptCall {
        let names = &shared.names;
        let is_home = partition == Partition::HOME;
        let registered =
            if self.was_registered { self.lease.generation(partition) } else { Default::default() };
        let call = ScriptCall::of(&shared.scripts.heartbeat, partition)
            .key(names.registry(partition))
            .arg(phase.word())
            .arg(self.node())
            .arg(&*self.process)
            .number(self.lease.link)
            .number(if is_home { self.node_timeout.as_millis() } else { 0 })
            .arg(random::digits())
            .arg(if is_home { names.all_nodes() } else { String::new() })
            .number(ARRIVAL_WINDOW.as_millis())
            .number(KNOWING_WINDOW.as_millis())
            .number(ARRIVAL_MAX.as_millis())
            .arg(registered)
            .arg(self.state(shared).letter())
            .arg(LAYOUT)
            .arg(if shared.is_cluster { "0" } else { "1" });
        self.known.iter().fold(call, |call, process| call.arg(&**process))
    }

    /// One round of heartbeats. The home partition comes first, and alone if it does not agree;
    /// when the node leaves, it comes last.
    pub(super) fn round(
        &self,
        shared: &Arc<ClusterState>,
        phase: HeartbeatPhase,
        partitions: Vec<Partition>,
        connection: RedisConnection,
    ) -> impl Future<Output = RedisResult<Vec<HeartbeatReply>>> + use<> {
        let others = partitions.into_iter().filter(|partition| *partition != Partition::HOME);
        let others: Vec<_> =
            others.map(|partition| (partition, self.call(shared, phase, partition))).collect();
        let home = (Partition::HOME, self.call(shared, phase, Partition::HOME));
        async move {
            let ask = |(partition, call): (Partition, ScriptCall)| {
                let connection = connection.clone();
                async move {
                    let asked = now();
                    let value = call.run(&connection).await?;
                    let reply = HeartbeatReply::read(partition, value, (asked, now()));
                    reply.map_err(|Unexpected| redis::RedisError::from(UNEXPECTED))
                }
            };
            let mut replies = Vec::new();
            if phase == HeartbeatPhase::Leave {
                futures_util::future::try_join_all(others.into_iter().map(ask)).await?;
                replies.push(ask(home).await?);
                return Ok(replies);
            }
            replies.push(ask(home).await?);
            if replies[0].status == Registered::Yes {
                let others = futures_util::future::try_join_all(others.into_iter().map(ask));
                replies.extend(others.await?);
            }
            Ok(replies)
        }
    }
}

impl HeartbeatPhase {
    fn word(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Busy => "busy",
            Self::Arrive => "arrive",
            Self::Heartbeat => "beat",
            Self::Leave => "leave",
        }
    }
}

impl HeartbeatReply {
    fn read(
        partition: Partition,
        value: Value,
        times: (Instant, Instant),
    ) -> Result<Self, Unexpected> {
        let mut answer = ScriptReply::new(value)?;
        let mut reply = Self {
            partition,
            status: match answer.text()?.as_str() {
                "ok" => Registered::Yes,
                "lease_expired" => Registered::LeaseExpired,
                "layout" => Registered::OtherLayout,
                _ => return Err(Unexpected),
            },
            generation: answer.text()?,
            is_open: answer.number()? == 1,
            was_open: answer.number()? == 1,
            redis_ms: answer.number()?,
            times,
            dead: answer.texts()?,
            alive: answer.texts()?,
            age: Duration::ZERO,
        };
        let born_ms = answer.number()?;
        reply.age = Duration::from_millis(reply.redis_ms.saturating_sub(born_ms));
        Ok(reply)
    }
}

#[cfg(test)]
mod tests;
