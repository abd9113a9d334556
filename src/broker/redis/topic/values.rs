//! The inputs, commands and effects of a topic.

use crate::{
    broker::{
        logs::PendingLogRequest,
        redis::{
            channel_logs::LogRead,
            envelope::{EnvelopeId, Message},
        },
    },
    hub::{ConnectionRef, InitialMessages},
    protocol::{Frame, Member, SocketId, SubscriptionRejection},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// A connection that waits for a sync.
#[derive(Debug)]
pub(in crate::broker::redis) enum Waiter {
    /// A connection that subscribes.
    Subscriber {
        connection: ConnectionRef,
        /// Identifies the attempt for the connection's shard.
        ticket: u32,
        member: Option<Member>,
        /// How it uses the log of the channel.
        log: PendingLogRequest,
    },
    /// A connection that waits for its permit.
    Connection(oneshot::Sender<bool>),
}

/// A command to send to Redis.
#[derive(Debug)]
pub(in crate::broker::redis) enum TopicStep {
    /// Subscribe to the pub/sub channel.
    Subscribe,
    /// Sync the contribution of this node.
    Sync(SyncRequest),
    /// Unsubscribe from the pub/sub channel.
    Unsubscribe,
}

/// The contribution of this node to a topic.
#[derive(Debug, Default)]
pub(in crate::broker::redis) struct SyncRequest {
    /// The node's contribution to the total, without the joins.
    pub(in crate::broker::redis) own_total_without_joins: usize,
    pub(in crate::broker::redis) joins: Vec<UserJoin>,
    /// Users that have left.
    pub(in crate::broker::redis) removed_users: Vec<Arc<str>>,
    /// Whether the joins contain all users of this node, and a snapshot is requested.
    pub(in crate::broker::redis) is_full: bool,
    /// Whether Redis has acknowledged a contribution of this node, and no new generation has begun since: if it has
    /// none, it was deleted.
    pub(in crate::broker::redis) had_contribution: bool,
    /// Whether Redis has had contributions of other nodes.
    pub(in crate::broker::redis) has_other_contributions: bool,
    pub(in crate::broker::redis) log: LogUse,
    /// The maximum of events of the channel's history that new subscribers receive; `None` if they receive none.
    pub(in crate::broker::redis) history: Option<usize>,
    /// The epoch, and the sequence in it that this node has received.
    pub(in crate::broker::redis) received: Option<(String, u64)>,
    /// The approximate size of the reply in bytes.
    pub(in crate::broker::redis) reply_bytes: usize,
}

/// How this node uses the log of a channel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::broker::redis) enum LogUse {
    /// None of its connections may resume in the channel.
    #[default]
    NoReaders,
    /// Some may.
    Readers,
    /// Some do, and request the events from this sequence on.
    From(u64),
}

/// A user or a connection that joins on this node; a connection has an empty user id.
#[derive(Debug)]
pub(in crate::broker::redis) struct UserJoin {
    pub(in crate::broker::redis) user_id: Arc<str>,
    pub(in crate::broker::redis) user_info: Arc<str>,
    pub(in crate::broker::redis) connections: usize,
    /// Whether the limit of members applies to it.
    pub(in crate::broker::redis) is_new: bool,
}

/// The reply of Redis to a sync.
#[derive(Debug, Default)]
pub(in crate::broker::redis) struct Synced {
    pub(in crate::broker::redis) epoch: String,
    pub(in crate::broker::redis) version: u64,
    pub(in crate::broker::redis) sequence: u64,
    pub(in crate::broker::redis) total: usize,
    /// This node's contribution to the total after the sync.
    pub(in crate::broker::redis) own_total: usize,
    /// For each join, whether it was accepted.
    pub(in crate::broker::redis) accepted: Vec<bool>,
    /// With a full sync, the members.
    pub(in crate::broker::redis) members: Vec<(Arc<str>, Arc<str>)>,
    /// With a full sync, a cache channel's cached event, and the time until it expires.
    pub(in crate::broker::redis) cached_event: Option<(EnvelopeId, Frame, Duration)>,
    /// With a full sync, the id of the event that has this sequence, if it is known.
    pub(in crate::broker::redis) last_event_id: Option<EnvelopeId>,
    /// The messages that the sync has published; none with a snapshot.
    pub(in crate::broker::redis) changes: Vec<Message>,
    /// The log of the channel, if this node has readers or has requested the history.
    pub(in crate::broker::redis) log: Option<LogRead>,
    /// Whether the webhook log of the topic's partition was empty before, and has records now.
    pub(in crate::broker::redis) webhook_log_became_nonempty: bool,
}

/// What the coordinator does on this node for a topic.
#[derive(Debug)]
pub(in crate::broker::redis) enum Effect {
    /// A subscription was accepted.
    Accept {
        connection: ConnectionRef,
        ticket: u32,
        user_id: Option<Arc<str>>,
        initial: InitialMessages,
        log: (PendingLogRequest, Option<LogRead>),
    },
    /// A subscription was rejected.
    Reject { connection: ConnectionRef, ticket: u32, rejection: SubscriptionRejection },
    /// A connection was admitted, or not.
    Admit(oneshot::Sender<bool>, bool),
    /// A frame for all subscribers.
    Deliver(Frame),
    /// An event for all subscribers except one.
    DeliverEvent {
        frame: Frame,
        except: Option<SocketId>,
        /// Its sequence in the log of the channel; 0 if no subscriber of this node may resume.
        logged: u64,
    },
    /// The total has changed, and is sent to the subscribers at this time.
    SendTotalAt(Instant),
    /// The subscribers have missed events: close their connections with 4200, so that they subscribe again.
    ForceResubscribe,
    /// The subscribers may have missed events: their connections are closed unless Redis has published none meanwhile.
    Unverified,
    /// The online state must be sent to the watchers.
    Online(bool),
}

impl Waiter {
    /// How it uses the log of its channel.
    pub(super) fn log_request(&self) -> &PendingLogRequest {
        match self {
            Self::Subscriber { log, .. } => log,
            Self::Connection(_) => &PendingLogRequest::No,
        }
    }

    /// Whether it receives the channel's history, if new subscribers do.
    pub(super) fn begins_with_history(&self) -> bool {
        match self {
            Self::Subscriber { log, .. } => !matches!(log, PendingLogRequest::After(..)),
            Self::Connection(_) => false,
        }
    }

    /// Whether Redis decides about it individually.
    pub(super) fn is_decided_by_redis(&self) -> bool {
        match self {
            Self::Subscriber { member, .. } => member.is_some(),
            Self::Connection(_) => true,
        }
    }
}

impl UserJoin {
    /// A user whose connections on this node are counted already.
    pub(super) fn existing(user_id: &Arc<str>, user_info: &Arc<str>) -> Self {
        Self { connections: 0, is_new: false, ..Self::new(user_id, user_info) }
    }

    /// A user that joins with a connection, if the limit of members permits it.
    pub(super) fn new(user_id: &Arc<str>, user_info: &Arc<str>) -> Self {
        Self {
            user_id: Arc::clone(user_id),
            user_info: Arc::clone(user_info),
            connections: 1,
            is_new: true,
        }
    }
}
