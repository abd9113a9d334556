//! What the calls of the store send and return.

use std::time::Duration;

/// A record to append to the log.
#[derive(Clone, Debug)]
pub(in crate::webhook) struct LogRecord {
    /// When it happened, in µs since 1970 by the clock of the Redis that made the change; 0 for the
    /// time of the append.
    pub(in crate::webhook) at_us: u64,
    /// The maximum size of the log including it, in bytes.
    pub(in crate::webhook) most_bytes: usize,
    /// The record.
    pub(in crate::webhook) record: Vec<u8>,
}

/// The reply to a poll.
#[derive(Debug)]
pub(in crate::webhook) enum PollReply {
    /// Another process holds it.
    Held {
        /// The name of the other's lease.
        by: String,
        /// The time until it expires, unless it is renewed.
        remaining: Duration,
    },
    /// This process holds it.
    Ours(LogView),
}

/// The state of the log for the holder of the lease.
#[derive(Debug, Default)]
pub(in crate::webhook) struct LogView {
    /// Whether the lease is new, so that earlier knowledge is invalid.
    pub(in crate::webhook) is_new: bool,
    /// Redis' clock, in ms since 1970.
    pub(in crate::webhook) now_ms: u64,
    /// The number of records that were dropped since the last poll, because the log was full.
    pub(in crate::webhook) lost: usize,
    /// The oldest records, each after its time in µs since 1970 and a space.
    pub(in crate::webhook) records: Vec<Vec<u8>>,
    /// Whether `records` is the whole log.
    pub(in crate::webhook) is_all: bool,
    /// The number of queued events, for each queue.
    pub(in crate::webhook) waiting: Vec<usize>,
    /// For a new lease: the delayed events, by name.
    pub(in crate::webhook) delayed: Vec<(String, String)>,
}

/// The result of a commit, for each queue.
#[derive(Debug)]
pub(in crate::webhook) struct CommitResult {
    /// Events that were dropped to make room, or for which there was none.
    pub(in crate::webhook) dropped: Vec<usize>,
    /// The number of queued events.
    pub(in crate::webhook) waiting: Vec<usize>,
    /// The number of records left in the log.
    pub(in crate::webhook) left: usize,
}

/// The oldest request of a queue.
#[derive(Debug)]
pub(in crate::webhook) struct Head {
    /// Its id, unique within the app.
    pub(in crate::webhook) id: u64,
    /// The time since it was queued.
    pub(in crate::webhook) age: Duration,
    /// The number of its events.
    pub(in crate::webhook) events: usize,
    /// The request's body.
    pub(in crate::webhook) body: Vec<u8>,
}

/// The state of a queue.
#[derive(Debug, Default)]
pub(in crate::webhook) struct QueueState {
    /// Events that were dropped because their requests were too old.
    pub(in crate::webhook) expired: usize,
    /// The number of queued events.
    pub(in crate::webhook) waiting: usize,
    /// The oldest request; of dead letters, that of the turn.
    pub(in crate::webhook) head: Option<Head>,
    /// The number of dead letters, if they were asked for.
    pub(in crate::webhook) count: usize,
}
