//! When `pusher:ping` asks a client for an acknowledgement, and what its answers acknowledge.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What the client has acknowledged, by its shard's counter of deliveries.
#[derive(Debug)]
pub(super) struct Acknowledgements {
    pub(super) acknowledged: u64,
    /// The counter at each `pusher:ping` that the client has not answered, and when it was queued.
    pub(super) pings: VecDeque<(u64, Instant)>,
    /// When something was first written after the latest ping; `None` if nothing was.
    unconfirmed_since: Option<Instant>,
    /// The number of queued frames if none of them is worth a ping; otherwise 0.
    frames_of_ping: usize,
    written_at: Instant,
    pinged_at: Instant,
    /// From when on a ping follows a write at once.
    ping_due: Instant,
    /// The counter after which nothing more is delivered, and until when its acknowledgement is waited for.
    last: Option<(u64, Instant)>,
}

/// What is to be done for an acknowledgement when something is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AfterWrite {
    /// Nothing: a ping is on its way, or its time is known.
    Nothing,
    /// A ping follows later: the deadline of the connection may be earlier now.
    Check,
    /// A ping is to be written with it.
    Ping,
}

/// How long the last confirmation before a close may take. Without it, the client receives some events twice.
const LAST_PONG_TIMEOUT: Duration = Duration::from_secs(1);
/// A ping that follows a write at once comes this much after the one before, at least: the price of
/// resumability is one ping and one pong a second.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Once nothing was written for this long, the last events are confirmed earlier.
const QUIET: Duration = Duration::from_millis(20);
/// Minimum time between two pings of a connection that becomes quiet again and again, and between two checks whether it is
/// quiet: under steady traffic, these are in vain.
pub(super) const QUIET_PING_INTERVAL: Duration = Duration::from_millis(250);

impl Acknowledgements {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            acknowledged: 0,
            pings: VecDeque::new(),
            unconfirmed_since: None,
            frames_of_ping: 0,
            written_at: now,
            pinged_at: now,
            ping_due: now + PING_INTERVAL,
            last: None,
        }
    }

    /// Whether the client may not have handled everything that was written.
    pub(super) fn is_behind(&self) -> bool {
        self.unconfirmed_since.is_some() || !self.pings.is_empty()
    }

    /// Records that nothing is delivered after `counter`, which a ping is about to confirm.
    pub(super) fn finish(&mut self, counter: u64, now: Instant) {
        self.last = Some((counter, now + LAST_PONG_TIMEOUT));
    }

    /// When the connection may be closed: once everything is confirmed, or has not been for too long.
    pub(super) fn finished_at(&self) -> Option<Instant> {
        self.last.map(
            |(counter, until)| {
                if counter <= self.acknowledged { self.pinged_at } else { until }
            },
        )
    }

    pub(super) fn on_write(&mut self, counter: u64, frames: usize, now: Instant) -> AfterWrite {
        if std::mem::take(&mut self.frames_of_ping) == frames {
            return AfterWrite::Nothing;
        }
        self.written_at = now;
        if self.pings.is_empty() && self.ping_due <= now {
            self.on_ping(counter, 0, now);
            return AfterWrite::Ping;
        }
        if self.unconfirmed_since.is_some() {
            return AfterWrite::Nothing;
        }
        self.unconfirmed_since = Some(now);
        if self.pings.is_empty() { AfterWrite::Check } else { AfterWrite::Nothing }
    }

    pub(super) fn on_ping(&mut self, counter: u64, frames_of_ping: usize, now: Instant) {
        // Later deliveries were held back.
        let counter = self.last.map_or(counter, |(last, _)| counter.min(last));
        self.pings.push_back((counter, now));
        self.pinged_at = now;
        self.ping_due = now + PING_INTERVAL;
        self.unconfirmed_since = None;
        self.frames_of_ping = frames_of_ping;
    }

    /// When a ping is due that follows no write.
    pub(super) fn ping_at(&self) -> Option<Instant> {
        let since = self.unconfirmed_since.filter(|_| self.pings.is_empty())?;
        let first_check = (since + QUIET).max(self.pinged_at + QUIET_PING_INTERVAL);
        let busy = (self.written_at + QUIET).saturating_duration_since(first_check);
        let more_checks = busy.as_nanos().div_ceil(QUIET_PING_INTERVAL.as_nanos());
        let more_checks = u32::try_from(more_checks).unwrap_or(u32::MAX);
        let quiet =
            first_check + QUIET_PING_INTERVAL.saturating_mul(more_checks).min(PING_INTERVAL);
        Some(quiet.min(self.ping_due))
    }
}
