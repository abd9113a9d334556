//! The schedule by which a shard closes its connections while the process shuts down.

use crate::{hub::ConnectionKey, protocol::CloseCode, shutdown::DrainMode};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// When each connection of a shard is closed, and with which code, while the process shuts down.
#[derive(Debug)]
pub(super) struct DrainSchedule {
    /// The connections that are not closed yet.
    waiting: VecDeque<ConnectionKey>,
    /// The number of connections at the start.
    total: usize,
    started_at: Instant,
    /// The time over which the connections are closed, if they are not closed at once.
    spread: Duration,
    /// When open connections are dropped, if not earlier.
    latest_drop_at: Instant,
    pub(super) mode: DrainMode,
    /// The number of connections that may still be closed with 4200, for [`DrainMode::InheritedSocket`].
    backlog_capacity_left: usize,
    /// When the last close frame was sent; `None` before.
    all_closed_at: Option<Instant>,
}

/// Maximum number of connections closed in one turn, if the app was removed or the process ends at
/// once: about a millisecond of work.
pub(super) const CLOSED_PER_TURN: usize = 64;
/// Maximum number of connections, of all shards, that reconnect to a queue at once: a quarter of
/// the usual backlog, so that no handshake has to be repeated.
const BACKLOG_CAPACITY: usize = 1_024;
/// How long clients have to reply to the close frame if the process ends at once. It is short, since
/// no process serves clients until this one has ended.
const CLOSE_REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// The time over which a shard closes `connections` connections while another process serves:
/// clients that are closed with 4200 reconnect at once, and must not all reconnect together.
#[must_use]
pub fn stagger_duration(connections: usize, grace: Duration) -> Duration {
    let pace = DrainSchedule::PER_CONNECTION
        .saturating_mul(u32::try_from(connections).unwrap_or(u32::MAX));
    grace.mul_f64(DrainSchedule::SPREAD_FRACTION).min(pace)
}

impl DrainSchedule {
    /// The part of the remaining grace period in which connections are closed.
    const SPREAD_FRACTION: f64 = 0.7;
    /// The part of the whole grace period after which open connections are dropped. The server
    /// stops waiting for the shards at its end, so they must finish earlier.
    const DROP_FRACTION: f64 = 0.9;
    /// The time per connection that is enough to avoid a burst of reconnections.
    const PER_CONNECTION: Duration = Duration::from_millis(100);
    const STEP: Duration = Duration::from_millis(10);

    /// Starts at `now`, in a shutdown that began at `since`: choosing the mode took part
    /// of the grace period.
    pub(super) fn new(
        connections: Vec<ConnectionKey>,
        now: Instant,
        (since, grace): (Instant, Duration),
        mode: DrainMode,
        shards: usize,
    ) -> Self {
        let all_closed_at = connections.is_empty().then_some(now);
        let remaining = (since + grace).saturating_duration_since(now);
        Self {
            total: connections.len(),
            started_at: now,
            spread: stagger_duration(connections.len(), remaining),
            latest_drop_at: since + grace.mul_f64(Self::DROP_FRACTION),
            mode,
            backlog_capacity_left: BACKLOG_CAPACITY / shards.max(1),
            all_closed_at,
            waiting: connections.into(),
        }
    }

    /// The connections to close now, each with its close code.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(ConnectionKey, CloseCode)> {
        let count = match self.mode {
            DrainMode::Staggered => self.due(now),
            DrainMode::InheritedSocket | DrainMode::NoSuccessor => {
                CLOSED_PER_TURN.min(self.waiting.len())
            }
        };
        let keys: Vec<ConnectionKey> = self.waiting.drain(..count).collect();
        if self.waiting.is_empty() {
            self.all_closed_at.get_or_insert(now);
        }
        keys.into_iter().map(|key| (key, self.next_code())).collect()
    }

    fn next_code(&mut self) -> CloseCode {
        match self.mode {
            DrainMode::Staggered => CloseCode::Draining,
            DrainMode::InheritedSocket if 0 < self.backlog_capacity_left => {
                self.backlog_capacity_left -= 1;
                CloseCode::Draining
            }
            DrainMode::InheritedSocket | DrainMode::NoSuccessor => CloseCode::ShuttingDown,
        }
    }

    /// The number of connections that are due, if closing is spread.
    fn due(&self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.started_at);
        let fraction =
            if self.spread.is_zero() { 1.0 } else { elapsed.div_duration_f64(self.spread) };
        // The first is closed at once, the last at the end of the time.
        #[expect(clippy::cast_precision_loss, reason = "connections number below 2^52")]
        let due = (fraction.min(1.0) * self.total as f64).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most `total`"
        )]
        let due = (due as usize + 1).min(self.total);
        let closed_count = self.total - self.waiting.len();
        due.saturating_sub(closed_count)
    }

    /// Until when responses are waited for that the broker has not given yet.
    pub(super) fn latest_drop_at(&self) -> Instant {
        self.latest_drop_at
    }

    /// When open connections are dropped. Another mode may change it.
    pub(super) fn drop_at(&self) -> Instant {
        match (self.mode, self.all_closed_at) {
            (DrainMode::InheritedSocket | DrainMode::NoSuccessor, Some(closed_at)) => {
                self.latest_drop_at.min(closed_at + CLOSE_REPLY_TIMEOUT)
            }
            (DrainMode::InheritedSocket | DrainMode::NoSuccessor, None)
            | (DrainMode::Staggered, _) => self.latest_drop_at,
        }
    }

    /// The time of the next step; `None` when the schedule is finished.
    pub(super) fn next_step(&self, now: Instant) -> Option<Instant> {
        match (self.mode, self.waiting.is_empty()) {
            // Only rejected connections can be left, which have deadlines of their own.
            (_, true) if self.drop_at() <= now => None,
            // The mode may change until then.
            (DrainMode::Staggered, true) => Some(self.latest_drop_at.min(now + 10 * Self::STEP)),
            (DrainMode::InheritedSocket | DrainMode::NoSuccessor, true) => Some(self.drop_at()),
            (DrainMode::Staggered, false) => Some(now + Self::STEP),
            (DrainMode::InheritedSocket | DrainMode::NoSuccessor, false) => Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain_schedule(
        count: u32,
        start: Instant,
        grace: Duration,
        mode: DrainMode,
    ) -> DrainSchedule {
        let keys = (0..count).map(|slot| ConnectionKey { slot, generation: 0 }).collect();
        DrainSchedule::new(keys, start, (start, grace), mode, 1)
    }

    #[test]
    fn a_drain_is_spread_evenly_over_its_time() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(1_000, start, Duration::from_secs(10), DrainMode::Staggered);
        assert_eq!(drain_schedule.take_due(start).len(), 1);
        assert_eq!(drain_schedule.take_due(start).len(), 0);
        assert_eq!(drain_schedule.take_due(start + Duration::from_millis(3_500)).len(), 500);
        assert_eq!(drain_schedule.take_due(start + Duration::from_secs(7)).len(), 499);
        assert_eq!(drain_schedule.drop_at(), start + Duration::from_millis(9_000));
    }

    #[test]
    fn time_spent_on_the_plan_is_taken_from_the_grace_period() {
        let (since, grace) = (Instant::now(), Duration::from_secs(10));
        let now = since + Duration::from_secs(4);
        for mode in [DrainMode::Staggered, DrainMode::NoSuccessor] {
            let keys = (0..1_000).map(|slot| ConnectionKey { slot, generation: 0 }).collect();
            let mut drain_schedule = DrainSchedule::new(keys, now, (since, grace), mode, 1);
            assert!(drain_schedule.drop_at() < since + grace);
            drain_schedule.mode = DrainMode::Staggered;
            assert_eq!(drain_schedule.take_due(now + Duration::from_millis(2_100)).len(), 501);
            assert_eq!(drain_schedule.take_due(now + Duration::from_millis(4_200)).len(), 499);
        }
    }

    #[test]
    fn a_finished_schedule_has_no_next_step() {
        let start = Instant::now();
        for mode in [DrainMode::Staggered, DrainMode::InheritedSocket, DrainMode::NoSuccessor] {
            let mut drain_schedule = drain_schedule(10, start, Duration::from_secs(1), mode);
            let mut now = start;
            while let Some(next) = drain_schedule.next_step(now) {
                assert!(!drain_schedule.waiting.is_empty() || now < next, "{mode:?}: no progress");
                now = next;
                drain_schedule.take_due(now);
            }
            assert!(
                drain_schedule.waiting.is_empty() && drain_schedule.drop_at() <= now,
                "{mode:?}"
            );
        }
    }

    #[test]
    fn few_connections_are_closed_soon() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(3, start, Duration::from_secs(10), DrainMode::Staggered);
        assert_eq!(drain_schedule.take_due(start).len(), 1);
        assert_eq!(drain_schedule.take_due(start + Duration::from_millis(300)).len(), 2);
    }

    #[test]
    fn without_a_grace_period_all_are_closed_at_once() {
        let start = Instant::now();
        let mut drain_schedule = drain_schedule(100, start, Duration::ZERO, DrainMode::Staggered);
        assert_eq!(drain_schedule.take_due(start).len(), 100);
    }

    /// Closes all connections; returns their close codes, and when the last was closed.
    fn close_all(drain_schedule: &mut DrainSchedule, start: Instant) -> Vec<u16> {
        let mut codes = Vec::new();
        while !drain_schedule.waiting.is_empty() {
            assert_eq!(drain_schedule.next_step(start), Some(start), "no time passes in between");
            codes.extend(drain_schedule.take_due(start).iter().map(|(_, code)| code.number()));
        }
        codes
    }

    #[test]
    fn without_a_successor_all_connections_are_closed_with_4100_at_once() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(1_000, start, Duration::from_secs(10), DrainMode::NoSuccessor);
        assert_eq!(close_all(&mut drain_schedule, start), vec![4100; 1_000]);
        assert_eq!(drain_schedule.drop_at(), start + CLOSE_REPLY_TIMEOUT);
    }

    #[test]
    fn a_queue_receives_as_many_connections_as_it_has_room_for() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(3_000, start, Duration::from_secs(10), DrainMode::InheritedSocket);
        let codes = close_all(&mut drain_schedule, start);
        assert_eq!(codes.iter().filter(|code| **code == 4200).count(), BACKLOG_CAPACITY);
        assert_eq!(codes.iter().filter(|code| **code == 4100).count(), 3_000 - BACKLOG_CAPACITY);
    }

    #[test]
    fn if_the_other_process_ends_the_rest_is_closed_with_4100_at_once() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(100, start, Duration::from_secs(10), DrainMode::Staggered);
        assert_eq!(drain_schedule.take_due(start)[0].1, CloseCode::Draining);
        drain_schedule.mode = DrainMode::NoSuccessor;
        assert_eq!(close_all(&mut drain_schedule, start), vec![4100; 99]);
    }
}
