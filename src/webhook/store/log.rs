//! The log of an app's events, as its reader sees it: what the logs in memory and in Redis have in
//! common.

use crate::{
    broker::{Unavailable, redis},
    hub::HubEvent,
    webhook::{debouncer::Debouncer, queue::Queue, settings::AppWebhookSettings},
};
use std::{
    future,
    sync::Arc,
    time::{Duration, Instant},
};

/// Maximum size of the log of one app, in bytes: in memory about 200,000 pairs of events, which take
/// seconds without a reader.
pub(in crate::webhook) const LOG_BYTES_MAX: usize = redis::LOG_BYTES_MAX;
/// Momentary events may fill half of it; the rest is for events that come in pairs.
pub(in crate::webhook) const MOMENTARY_BYTES_MAX: usize = LOG_BYTES_MAX / 2;
/// Maximum number of records that one poll of a log returns.
pub(in crate::webhook) const RECORDS_MAX: usize = 1_000;

/// The error of a full log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::webhook) struct Full;

/// The maximum size of a log including this event, in bytes.
pub(super) fn bytes_max(hub_event: &HubEvent) -> usize {
    if hub_event.is_transition() { LOG_BYTES_MAX } else { MOMENTARY_BYTES_MAX }
}

/// The log of an app and the queues of its endpoints, for the one task that reads them.
///
/// A log in memory has one reader, which always leads. A log in Redis has a reader on each node, of
/// which the holder of the lease leads.
pub(in crate::webhook) trait EventLog: Sync {
    type Queue: Queue + 'static;

    /// Starts a reader. Returns its debouncer, and the settings that apply to the next record.
    fn start(&self) -> (Debouncer, Arc<AppWebhookSettings>);

    /// The queue of each endpoint. Those that stay the same are taken from `before`.
    fn queues(
        &self,
        settings: &AppWebhookSettings,
        before: &[Arc<Self::Queue>],
    ) -> Vec<Arc<Self::Queue>>;

    /// Reads the next records, at most [`RECORDS_MAX`], and acquires or renews the lease.
    fn poll(
        &self,
        settings: &Arc<AppWebhookSettings>,
        queues: &[Arc<Self::Queue>],
    ) -> impl Future<Output = Result<Poll, Unavailable>> + Send;

    /// Removes the records that were read, and queues requests for them, if the lease is still held.
    /// Returns the number of records left in the log.
    fn commit(
        &self,
        settings: &AppWebhookSettings,
        queues: &[Arc<Self::Queue>],
        commit: Commit,
    ) -> impl Future<Output = Result<usize, NotCommitted>> + Send;

    /// Waits until there is a record. May return spuriously. Safe to cancel.
    fn has_records(&self) -> impl Future<Output = ()> + Send;

    /// Waits until there are as many records as a request may have events, if that is known.
    fn has_full_batch(&self) -> impl Future<Output = ()> + Send {
        future::pending()
    }

    /// Waits until the lease of another node seems to be free.
    fn lease_is_free(&self, _lease: &LeaseOfOther) -> impl Future<Output = ()> + Send {
        future::pending()
    }

    /// Releases the lease, if there is one.
    fn release(&self, _queues: &[Arc<Self::Queue>]) -> impl Future<Output = ()> + Send {
        future::ready(())
    }
}

/// The result of a poll.
#[derive(Debug)]
pub(in crate::webhook) enum Poll {
    /// This node leads, and these are the next records.
    Records(Records),
    /// These settings apply to the next record.
    Settings(Arc<AppWebhookSettings>),
    /// Another node leads.
    StandBy(LeaseOfOther),
    /// This node has no endpoints, and leaves the lease to nodes that have some.
    NoEndpoints,
}

/// The oldest records of a log.
#[derive(Debug, Default)]
pub(in crate::webhook) struct Records {
    /// For a new lease in Redis: a debouncer that continues from the previous leader's.
    pub(in crate::webhook) debouncer: Option<Box<Debouncer>>,
    /// The events, each with its time, in ms of the log's clock.
    pub(in crate::webhook) events: Vec<(u64, HubEvent)>,
    /// What [`EventLog::commit`] removes.
    pub(in crate::webhook) read: ReadRecords,
    /// Whether these are all records of the log.
    pub(in crate::webhook) is_all: bool,
    /// The number of records that were dropped since the last poll, because the log was full.
    pub(in crate::webhook) lost: usize,
    /// The log's clock, in ms.
    pub(in crate::webhook) now_ms: u64,
    /// The time for the bodies of requests, in ms since 1970.
    pub(in crate::webhook) time_ms: u128,
    /// When to poll again, to keep the lease.
    pub(in crate::webhook) renew_at: Option<Instant>,
}

/// The size of the records that were read.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::webhook) struct ReadRecords {
    pub(in crate::webhook) count: usize,
    pub(in crate::webhook) bytes: usize,
}

/// The lease of another node.
#[derive(Debug)]
pub(in crate::webhook) struct LeaseOfOther {
    pub(in crate::webhook) name: String,
    /// The time until it expires, unless it is renewed.
    pub(in crate::webhook) remaining: Duration,
}

/// The changes that result from the records that were read.
#[derive(Debug, Default)]
pub(in crate::webhook) struct Commit {
    pub(in crate::webhook) read: ReadRecords,
    /// The changed delayed events, by name; an empty value removes one. Only for a log in Redis.
    pub(in crate::webhook) delayed: Vec<(String, String)>,
    pub(in crate::webhook) requests: Vec<NewRequest>,
}

impl Commit {
    pub(in crate::webhook) fn is_empty(&self) -> bool {
        self.read.count == 0 && self.delayed.is_empty() && self.requests.is_empty()
    }
}

/// A request to queue.
#[derive(Debug)]
pub(in crate::webhook) struct NewRequest {
    /// The index of the endpoint in the settings.
    pub(in crate::webhook) endpoint: usize,
    /// The number of events in the body.
    pub(in crate::webhook) events: usize,
    pub(in crate::webhook) body: String,
}

/// The error of a commit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::webhook) enum NotCommitted {
    /// The lease has expired. Nothing was changed.
    NotOurs,
    /// There was no reply: it may have been committed.
    Unknown,
}
