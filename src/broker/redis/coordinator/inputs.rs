//! What the coordinator handles besides the events of the link.

use crate::{
    broker::redis::{
        cleanup::Cleaned,
        compare::{Compared, Swept},
        forwarding::Forwarded,
        heartbeat::Connected,
        membership::{HeartbeatPhase, HeartbeatReply},
        reason::UnavailableReason,
        topic::Waiter,
        topics::TopicReply,
    },
    hub::{ConnectionRef, Hub},
    protocol::ChannelName,
};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::oneshot;

/// A request of a shard or of the HTTP API.
#[derive(Debug)]
pub(in crate::broker::redis) enum CoordinatorRequest {
    Subscribe {
        app_id: Arc<str>,
        channel: ChannelName,
        waiter: Waiter,
    },
    Unsubscribe {
        app_id: Arc<str>,
        channel: ChannelName,
        user_id: Option<Arc<str>>,
    },
    /// A subscription does not use the channel's log any more.
    ReleaseLog {
        app_id: Arc<str>,
        channel: ChannelName,
    },
    /// A connection has signed in, or again with another watchlist.
    SignIn {
        app_id: Arc<str>,
        connection: ConnectionRef,
        user_id: Arc<str>,
        watchlist: Vec<Arc<str>>,
    },
    /// A signed-in connection has ended.
    SignOut {
        connection: ConnectionRef,
    },
    /// A connection is admitted; without a sender, it is only counted.
    Connect {
        app_id: Arc<str>,
        reply: Option<oneshot::Sender<bool>>,
    },
    /// An admitted connection has ended.
    Disconnect {
        app_id: Arc<str>,
    },
    /// Replaces the apps.
    SetApps(HashMap<Arc<str>, Arc<Hub>>),
    /// Adds an app, or replaces its hub.
    SetApp(Arc<Hub>),
    /// Removes an app once it has no topics.
    RemoveApp(Arc<str>),
    /// A channel is watched for the console.
    Watch {
        app_id: Arc<str>,
        channel: ChannelName,
    },
    /// A watch has ended.
    Unwatch {
        app_id: Arc<str>,
        channel: ChannelName,
    },
    /// The node drains; notify the others.
    AnnounceDrain,
    /// Everything has ended: leave the cluster.
    Stop(oneshot::Sender<()>),
}

/// The result of background work of the coordinator.
#[derive(Debug)]
pub(in crate::broker::redis) enum Completion {
    /// A command timed out or was rejected: the link must be replaced.
    TimedOut,
    /// The control channel is subscribed to again.
    Subscribed,
    Connected(Result<Connected, UnavailableReason>),
    Heartbeat(HeartbeatPhase, Result<Vec<HeartbeatReply>, UnavailableReason>),
    Topic(TopicReply),
    Restored(Result<(), UnavailableReason>),
    Compared(Compared),
    Swept(Swept),
    Forwarded(Forwarded),
    Cleaned(Cleaned),
    /// The lease is released.
    Left,
    /// The node has unsubscribed from the pub/sub channel of a topic that was watched only.
    Unwatched(Arc<str>),
}
