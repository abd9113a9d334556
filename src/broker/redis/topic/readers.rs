//! The readers of a channel's log on one node: connections that may resume.

use super::{LogUse, Waiter, view::BUFFERED_MAX};
use crate::{
    broker::{logs::PendingLogRequest, redis::channel_logs::ReceivedEvent},
    channel::LoggedEvent,
};

/// The number of readers, and what Redis knows of them: whether there are any.
#[derive(Debug, Default)]
pub(super) struct Readers {
    count: usize,
    /// Whether there ever were any.
    were_any: bool,
    /// What Redis has acknowledged.
    acknowledged: bool,
    /// What the sync in flight tells Redis.
    in_flight: bool,
    /// The events that were received since the sync in flight was sent, if it reads the log. Those that follow its reply may be
    /// handled before it.
    received: Option<Vec<ReceivedEvent>>,
}

impl Readers {
    /// Adds a subscription that was accepted, if it reads the log.
    pub(super) fn add(&mut self, request: &PendingLogRequest) {
        self.count += usize::from(request.is_reader());
        self.were_any |= request.is_reader();
    }

    pub(super) fn remove(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// The sequence of an event, if it is followed in the log; otherwise 0.
    pub(super) fn logged(&self, sequence: u64) -> u64 {
        if 0 < self.count { sequence } else { 0 }
    }

    pub(super) fn were_any(&self) -> bool {
        self.were_any
    }

    /// Whether Redis has to receive a change.
    pub(super) fn must_sync(&self) -> bool {
        (0 < self.count) != self.acknowledged
    }

    /// Begins a sync with these waiters. `reads_history`: it reads the log also without readers.
    pub(super) fn on_sync(&mut self, waiters: &[Waiter], reads_history: bool) -> LogUse {
        self.in_flight =
            0 < self.count || waiters.iter().any(|waiter| waiter.log_request().is_reader());
        self.received = (self.in_flight || reads_history).then(Vec::new);
        match (self.in_flight, first_missed(waiters)) {
            (false, _) => LogUse::NoReaders,
            (true, None) => LogUse::Readers,
            (true, Some(first)) => LogUse::From(first),
        }
    }

    /// The sync was executed. Returns the events that were received meanwhile.
    pub(super) fn on_synced(&mut self) -> Vec<ReceivedEvent> {
        self.acknowledged = self.in_flight;
        self.received.take().unwrap_or_default()
    }

    /// An event was received.
    pub(super) fn on_event(&mut self, sequence: u64, event: impl FnOnce() -> Option<LoggedEvent>) {
        let Some(received) = &mut self.received else { return };
        if received.len() == BUFFERED_MAX {
            // The part that is missing then is a gap.
            received.clear();
        }
        received.push((sequence, event()));
    }

    /// Redis has nothing of this node under its current name.
    pub(super) fn forget_acknowledged(&mut self) {
        self.acknowledged = false;
    }
}

/// The first sequence that one of the waiters may have missed, if some resume.
fn first_missed(waiters: &[Waiter]) -> Option<u64> {
    let after = waiters.iter().filter_map(|waiter| match waiter.log_request() {
        PendingLogRequest::After(position, _) => Some(position.sequence),
        PendingLogRequest::No | PendingLogRequest::Begin => None,
    });
    after.min().map(|sequence| sequence.saturating_add(1))
}
