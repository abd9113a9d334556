//! How a subscription uses the log of its channel, and what logs keep.

use crate::{
    channel::{HistoryPage, HistoryQuery, LogLimits, Position, ReplayLimits},
    config::{AppConfig, ConnectionConfig, HistoryConfig, HistoryReplay},
    protocol::{ChannelName, SocketId},
};
use std::{sync::Arc, time::Duration};

/// How a subscription uses the log of its channel.
#[derive(Clone, Copy, Debug, Default)]
pub enum LogRequest<'a> {
    /// The connection does not resume: it reads nothing.
    #[default]
    No,
    /// The connection may resume later: events are logged from now on.
    Begin,
    /// The connection resumes: it receives the events after the position.
    After(&'a Position),
}

/// A [`LogRequest`] that waits for the decision about its subscription.
#[derive(Clone, Debug)]
pub(in crate::broker) enum PendingLogRequest {
    No,
    Begin,
    /// With the socket id that the connection has.
    After(Position, SocketId),
}

impl PendingLogRequest {
    pub(in crate::broker) fn new(request: LogRequest<'_>, socket_id: SocketId) -> Self {
        match request {
            LogRequest::No => Self::No,
            LogRequest::Begin => Self::Begin,
            LogRequest::After(position) => Self::After(position.clone(), socket_id),
        }
    }

    /// Whether the connection may resume in the channel.
    pub(in crate::broker) fn is_reader(&self) -> bool {
        !matches!(self, Self::No)
    }
}

/// What is known of the history of a channel.
#[derive(Clone, Debug)]
pub enum HistoryRead {
    /// The events of the channel are not kept, by configuration.
    NotKept,
    /// No event is kept at present.
    Empty,
    /// The log of the query was lost.
    OtherLog,
    /// The events.
    Page(HistoryPage),
}

impl HistoryRead {
    /// What a log has; without a page, it is another one than that of the query.
    pub(in crate::broker) fn of_page(page: Option<HistoryPage>) -> Self {
        page.map_or(Self::OtherLog, Self::Page)
    }

    /// What is known without a log.
    pub(in crate::broker) fn without_log(query: &HistoryQuery) -> Self {
        if query.epoch.is_some() { Self::OtherLog } else { Self::Empty }
    }
}

/// Counters of the logs of an app's channels in the memory of this node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogStats {
    /// Bytes in the logs.
    pub bytes: usize,
    /// Events that were dropped before their time because a channel's log was full.
    pub dropped_of_channel: u64,
    /// Events that were dropped before their time because the logs of the node were full.
    pub dropped_of_node: u64,
}

/// Maximum size of the log of one channel, in bytes.
const CHANNEL_BYTES_MAX: usize = 1024 * 1024;
/// Maximum size of one replay, in bytes.
const REPLAY_BYTES_MAX: usize = 256 * 1024;
/// Time between the loss of a connection's last events and the time at which the connection is known to be
/// lost, in addition to the time-outs.
const DETECTION_MARGIN: Duration = Duration::from_secs(10);

/// What the logs of the node's channels keep for connections that resume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::broker) struct LogSettings {
    /// How long a log is kept after its last reader.
    pub(in crate::broker) kept: Duration,
    /// Age up to which a log has its events.
    pub(in crate::broker) age: Duration,
    /// Maximum number of events of a replay.
    max_events: usize,
}

/// Why the events of channels are kept without readers: the channels' names have a prefix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::broker) struct HistoryRule {
    /// The beginning of the channels' names.
    pub(super) prefix: Arc<str>,
    /// What is kept.
    pub(in crate::broker) limits: LogLimits,
    /// Whether new subscribers receive what is kept.
    pub(in crate::broker) replays_first: bool,
}

impl HistoryRule {
    /// The rules of an app.
    pub(in crate::broker) fn of_app(config: &AppConfig) -> Vec<Self> {
        let rule = |history: &HistoryConfig| Self {
            prefix: history.prefix.as_str().into(),
            limits: LogLimits {
                events: history.events,
                bytes: CHANNEL_BYTES_MAX,
                age: Duration::from_secs(history.seconds),
            },
            replays_first: history.replay == HistoryReplay::First,
        };
        config.history.iter().map(rule).collect()
    }

    /// The rule of a channel: that with the longest prefix of its name. Server-to-user channels have none.
    pub(in crate::broker) fn of_channel(config: &AppConfig, channel: &ChannelName) -> Option<Self> {
        // Most apps have no history.
        if config.history.is_empty() {
            return None;
        }
        Self::matching(&Self::of_app(config), channel).cloned()
    }

    /// The rule of a channel among those of its app.
    pub(super) fn matching<'a>(rules: &'a [Self], channel: &ChannelName) -> Option<&'a Self> {
        let is_match = |rule: &&Self| channel.as_str().starts_with(&*rule.prefix);
        let matching = rules.iter().filter(is_match).filter(|_| channel.is_listed());
        matching.max_by_key(|rule| rule.prefix.len())
    }
}

impl LogSettings {
    /// The settings of logs that follow from those of connections.
    pub(in crate::broker) fn new(connection: &ConnectionConfig) -> Self {
        let seconds = Duration::from_secs;
        // A line that carries nothing is known to be lost only when a ping was not answered, and the
        // client has missed events since before it.
        let detection = seconds(connection.activity_timeout_s)
            + seconds(connection.pong_timeout_s)
            + DETECTION_MARGIN;
        let kept = seconds(connection.resume_s) + DETECTION_MARGIN;
        Self { kept, age: kept + detection, max_events: connection.resume_max_events }
    }

    /// What a log keeps at most while connections may resume from it.
    pub(in crate::broker) fn log_limits(&self) -> LogLimits {
        LogLimits {
            // Events that exclude the connection do not count for its replay, but are in the log.
            events: self.max_events.saturating_mul(2),
            bytes: CHANNEL_BYTES_MAX,
            age: self.age,
        }
    }

    /// How much a connection that resumes receives of one channel at most.
    pub(in crate::broker) fn replay_limits(&self) -> ReplayLimits {
        ReplayLimits { events: self.max_events, bytes: REPLAY_BYTES_MAX }
    }
}
