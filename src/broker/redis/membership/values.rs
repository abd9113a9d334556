//! The inputs, outputs and parts of the membership.

use crate::{
    backoff::Backoff,
    broker::redis::{partition::Partition, reason::UnavailableReason},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The delays between attempts to connect.
pub(super) const BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(50), max: Duration::from_millis(400), jitter: 0.5 };
/// The same on a Redis Cluster, where joining takes some hundred commands.
pub(super) const BACKOFF_ON_CLUSTER: Backoff = Backoff { max: Duration::from_secs(2), ..BACKOFF };

/// The reason that is shown while nodes of another version use the same keys.
pub(in crate::broker::redis) const OTHER_KEY_LAYOUT: &str =
    "nodes of another version of Campanile, with another key layout, use this Redis and prefix";
/// The reason for joining again after the lease has ended.
pub(in crate::broker::redis) const LEASE_ENDED: &str =
    "this node's lease has ended, or redis has lost its data";

/// What is known of the pub/sub connection.
#[derive(Debug)]
pub(in crate::broker::redis) struct PubSubHealth {
    /// When it last received a message, or the reply to a sync.
    pub(in crate::broker::redis) received_at: Option<Instant>,
    /// Since when messages may have been missed: the last one before the link was lost. `None` while joined.
    pub(super) missed_since: Option<Instant>,
    /// When the node's own heartbeat was last received.
    pub(in crate::broker::redis) confirmed_at: Instant,
    /// Whether the node's own heartbeat was received on this link.
    pub(in crate::broker::redis) is_confirmed: bool,
}

/// The progress of joining.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::broker::redis) enum Stage {
    /// There is no link; the next attempt is due.
    Disconnected(Instant),
    Connecting,
    /// Linked; the registration was requested.
    Joining,
    /// Redis has begun a new generation: this node reports the sequences that it knows.
    Restoring,
    /// The topics are being synced.
    Syncing,
    /// The topics are synced, and the report to Redis is in flight.
    ReportingSync,
    /// Waiting for its own heartbeat on the control channel, and for all partitions to open.
    Waiting,
    Joined,
}

/// The progress of leaving.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stopping {
    No,
    /// Contributions are being withdrawn.
    Withdrawing,
    /// The lease is being released. Without a link, another node cleans up.
    Leaving,
}

/// What the coordinator does for the membership.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::broker::redis) enum MembershipAction {
    /// Connect to Redis.
    Connect,
    /// Send a round of heartbeats to the lease partition and to these.
    Heartbeat(HeartbeatPhase, Vec<Partition>),
    /// Send nothing more until Redis replies: a reply is overdue.
    Suspect,
    /// Close the link.
    Close(UnavailableReason),
    /// Forget what Redis has acknowledged: the node has another name there.
    ForgetAcknowledgements,
    /// All partitions have registered this node.
    ApplyRegistration {
        /// Those that may have lost data.
        lost_data: BTreeSet<Partition>,
    },
    /// Report the sequences that this node knows to these partitions.
    Restore(BTreeSet<Partition>),
    /// Sync every topic.
    SyncAll,
    /// Close the connections of subscribers that may have missed events, except in these partitions.
    Resubscribe {
        /// Partitions in which no event was published meanwhile.
        unaffected: BTreeSet<Partition>,
    },
    /// Read the topics again that were read before all nodes had synced.
    RefreshProvisional,
    /// Log and count that the node has joined.
    ReportJoined {
        /// The number of other processes.
        others: usize,
    },
    /// Allow requests to use the link.
    AllowRequests,
    /// Clean up after a dead node.
    CleanUp(String),
    /// Release the lease in all partitions.
    Leave(Vec<Partition>),
}

/// The state outside of the membership that `on_tick` needs.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker::redis) struct TickInputs {
    /// Whether Redis rejects the writes of this link.
    pub(in crate::broker::redis) is_fenced: bool,
    /// Whether a reply of Redis is overdue.
    pub(in crate::broker::redis) is_suspect: bool,
    /// How long a reply may take until Redis is suspected to be down.
    pub(in crate::broker::redis) suspect_after: Duration,
    /// The time that a slow link needs for the writes in flight.
    pub(in crate::broker::redis) in_flight: Duration,
    /// Whether every topic is synced.
    pub(in crate::broker::redis) all_synced: bool,
}

/// The purpose of a heartbeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::broker::redis) enum HeartbeatPhase {
    Join,
    Syncing,
    Synced,
    Heartbeat,
    Leave,
}

/// A partition's reply to a heartbeat.
#[derive(Clone, Debug)]
pub(in crate::broker::redis) struct HeartbeatReply {
    pub(in crate::broker::redis) partition: Partition,
    pub(in crate::broker::redis) status: RegistrationStatus,
    pub(in crate::broker::redis) generation: String,
    pub(in crate::broker::redis) is_open: bool,
    pub(in crate::broker::redis) was_open: bool,
    pub(in crate::broker::redis) redis_ms: u64,
    /// The times of the request and of the reply.
    pub(in crate::broker::redis) times: (Instant, Instant),
    pub(in crate::broker::redis) dead: Vec<String>,
    pub(in crate::broker::redis) alive: Vec<String>,
    /// The age of the generation.
    pub(in crate::broker::redis) generation_age: Duration,
}

/// Whether a node is registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::broker::redis) enum RegistrationStatus {
    Ok,
    /// The registration is not valid: the node was declared dead, its name has a later link, or Redis has lost its data.
    LeaseExpired,
    /// Nodes with another key layout use this prefix. Its version is in the reply's `generation`.
    LayoutMismatch,
}
