//! Closes connections, individually and at the end of the process.

use super::{
    connection::{Admission, CLOSING_TIMEOUT, Closing, ClosingPeer, Connection, Phase},
    dirty::Urgency,
    ended::{Ended, Served},
    engine::Engine,
};
use crate::{
    hub::{ConnectionKey, ConnectionRef, Hub},
    protocol::{CloseCode, Frame, event},
    shutdown::DrainPlan,
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// The schedule by which all connections are closed when the process ends.
#[derive(Debug)]
pub(super) struct DrainSchedule {
    waiting: VecDeque<ConnectionKey>,
    all: usize,
    began: Instant,
    /// The time over which the connections are closed, if they are not closed at once.
    spread: Duration,
    /// Deadline after which open connections are dropped.
    ends: Instant,
    plan: DrainPlan,
    /// The number of connections that may still be closed with 4200, for [`DrainPlan::Queue`].
    queue_room: usize,
    /// When the last close frame was sent; `None` before.
    closed_all_at: Option<Instant>,
}

/// Maximum number of connections closed in one turn, of a removed app or a process that ends at
/// once: about a millisecond of work.
const CLOSED_PER_TURN: usize = 64;
/// Maximum number of connections, of all shards, that reconnect to a queue at once: a quarter of
/// the usual backlog, so that no handshake has to be repeated.
const QUEUE_ROOM: usize = 1_024;
/// How long clients have to answer the close frame if the process ends at once: clients are not
/// served until it has ended.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// The time over which a shard closes `connections` connections while another process serves:
/// clients that are closed with 4200 reconnect at once, and must not all reconnect together.
#[must_use]
pub fn drain_spread(connections: usize, grace: Duration) -> Duration {
    let pace = DrainSchedule::PACE.saturating_mul(u32::try_from(connections).unwrap_or(u32::MAX));
    grace.mul_f64(DrainSchedule::SPREAD).min(pace)
}

impl DrainSchedule {
    /// The part of the remaining grace period in which connections are closed.
    const SPREAD: f64 = 0.7;
    /// The part of the whole grace period after which open connections are dropped. The server
    /// stops waiting for the shards at its end, so they must finish earlier.
    const END: f64 = 0.95;
    /// The time per connection that is enough to avoid a burst of reconnections.
    const PACE: Duration = Duration::from_millis(100);
    const STEP: Duration = Duration::from_millis(10);

    /// Starts at `now`, in a shutdown that began at `since`: the decision about the plan took part
    /// of the grace period.
    fn new(
        connections: Vec<ConnectionKey>,
        now: Instant,
        (since, grace): (Instant, Duration),
        plan: DrainPlan,
        shards: usize,
    ) -> Self {
        let closed_all_at = connections.is_empty().then_some(now);
        let left = (since + grace).saturating_duration_since(now);
        Self {
            all: connections.len(),
            began: now,
            spread: drain_spread(connections.len(), left),
            ends: since + grace.mul_f64(Self::END),
            plan,
            queue_room: QUEUE_ROOM / shards.max(1),
            closed_all_at,
            waiting: connections.into(),
        }
    }

    /// The connections to close now, each with its close code.
    fn take_due(&mut self, now: Instant) -> Vec<(ConnectionKey, CloseCode)> {
        let count = match self.plan {
            DrainPlan::Spread => self.due(now),
            DrainPlan::Queue | DrainPlan::Alone => CLOSED_PER_TURN.min(self.waiting.len()),
        };
        let keys: Vec<ConnectionKey> = self.waiting.drain(..count).collect();
        if self.waiting.is_empty() {
            self.closed_all_at.get_or_insert(now);
        }
        keys.into_iter().map(|key| (key, self.next_code())).collect()
    }

    fn next_code(&mut self) -> CloseCode {
        match self.plan {
            DrainPlan::Spread => CloseCode::Draining,
            DrainPlan::Queue if 0 < self.queue_room => {
                self.queue_room -= 1;
                CloseCode::Draining
            }
            DrainPlan::Queue | DrainPlan::Alone => CloseCode::ShuttingDown,
        }
    }

    /// The number of connections that are due, if closing is spread.
    fn due(&self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.began);
        let part = if self.spread.is_zero() { 1.0 } else { elapsed.div_duration_f64(self.spread) };
        // The first is closed at once, the last at the end of the time.
        #[expect(clippy::cast_precision_loss, reason = "connections number below 2^52")]
        let due = (part.min(1.0) * self.all as f64).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most `all`"
        )]
        let due = (due as usize + 1).min(self.all);
        let left = self.all - self.waiting.len();
        due.saturating_sub(left)
    }

    /// When open connections are dropped, as far as it is known.
    fn drops_at(&self) -> Instant {
        match (self.plan, self.closed_all_at) {
            (DrainPlan::Queue | DrainPlan::Alone, Some(told)) => self.ends.min(told + ANSWER_TIME),
            (DrainPlan::Queue | DrainPlan::Alone, None) | (DrainPlan::Spread, _) => self.ends,
        }
    }

    /// The time of the next step; `None` when the schedule is finished.
    pub(super) fn next_step(&self, now: Instant) -> Option<Instant> {
        match (self.plan, self.waiting.is_empty()) {
            // Only rejected connections can be left, which have deadlines of their own.
            (_, true) if self.drops_at() <= now => None,
            // The plan may change until then.
            (DrainPlan::Spread, true) => Some(self.ends.min(now + 10 * Self::STEP)),
            (DrainPlan::Queue | DrainPlan::Alone, true) => Some(self.drops_at()),
            (DrainPlan::Spread, false) => Some(now + Self::STEP),
            (DrainPlan::Queue | DrainPlan::Alone, false) => Some(now),
        }
    }
}

impl Engine {
    pub(super) fn is_open(&self, key: ConnectionKey) -> bool {
        self.is_alive(key) && self.connections[key.slot as usize].is_open()
    }

    /// Closes a connection gracefully: the client leaves the hub, receives a close frame, and has
    /// [`CLOSING_TIMEOUT`] to answer.
    pub(super) fn close(&mut self, slot: u32, code: &CloseCode) {
        let by = self.now + CLOSING_TIMEOUT;
        let why = Ended::ByServer(code.clone());
        let peer = ClosingPeer::Answers;
        let closing = Closing { by, why, peer, reads_at: None, served: None, _permit: None };
        if !self.begin_closing(slot, closing) {
            return;
        }
        if *code == CloseCode::SlowConsumer {
            self.connections[slot as usize].outbox.clear();
        }
        self.queue_close_frames(slot, code);
    }

    /// Queues the server's last frames.
    pub(super) fn queue_close_frames(&mut self, slot: u32, code: &CloseCode) {
        let announcement = code.is_announced().then(|| event::closing(code));
        let close = Frame::close(code.number(), &code.to_string());
        for frame in announcement.into_iter().chain([close]) {
            self.metrics().sent(frame.kind(), 1, frame.bytes().len());
            self.connections[slot as usize].outbox.push(frame);
        }
    }

    /// Handles a close frame of the client. The answer, if one is due, is already queued.
    pub(super) fn peer_closed(&mut self, slot: u32, code: u16) {
        let by = self.now + CLOSING_TIMEOUT;
        let (why, peer) = (Ended::ByClient(code), ClosingPeer::HasClosed);
        let closing = Closing { by, why, peer, reads_at: None, served: None, _permit: None };
        if !self.begin_closing(slot, closing) {
            self.peer_is(slot, ClosingPeer::HasClosed);
        }
        if self.connections.get(slot as usize).is_some_and(Connection::is_over) {
            self.finish_closing(slot);
        }
    }

    /// Changes what the server expects from the client of a closing connection.
    pub(super) fn peer_is(&mut self, slot: u32, peer: ClosingPeer) {
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && let Phase::Closing(closing) = &mut connection.phase
        {
            closing.peer = peer;
        }
    }

    /// Returns false if the connection is closing already.
    fn begin_closing(&mut self, slot: u32, closing: Closing) -> bool {
        let connection = self.connections.get_mut(slot as usize).filter(|found| found.is_open());
        let Some(connection) = connection else { return false };
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing(Box::new(closing)));
        self.dirty.add(slot, &mut connection.queued, Urgency::Urgent);
        let reference = self.connection_ref(slot);
        if let Phase::Open(client) = phase {
            let served = self.leave(reference, *client);
            if let Phase::Closing(closing) = &mut self.connections[slot as usize].phase {
                closing.served = Some(served);
            }
        }
        // The client's answer may be queued behind unread messages.
        self.read_if_rested(slot);
        self.schedule_check(slot);
        true
    }

    pub(super) fn finish_closing(&mut self, slot: u32) {
        if let Phase::Closing(closing) = &self.connections[slot as usize].phase {
            let why = closing.why.clone();
            self.drop_connection(slot, why);
        }
    }

    /// Removes a client from the hub, at a cost proportional to its subscriptions. Its permits are
    /// released when it is dropped.
    fn leave(&mut self, connection: ConnectionRef, mut client: Admission) -> Served {
        for (channel, subscription) in client.session.take_subscriptions() {
            self.unsubscribe(&client.hub, &channel, &subscription);
        }
        if let Some(user) = client.session.user() {
            self.node.broker().sign_out(&client.hub, connection, user, self.now);
        }
        Served::new(client)
    }

    /// Drops a connection.
    pub(super) fn drop_connection(&mut self, slot: u32, ended: Ended) {
        if !self.connections.contains(slot as usize) {
            return;
        }
        let reference = self.connection_ref(slot);
        let mut connection = self.connections.remove(slot as usize);
        if !matches!(ended, Ended::Transport) {
            connection.socket.say_end();
        }
        let is_late = self.drain_schedule.is_some() && matches!(ended, Ended::ByServer(_));
        let (ended, served) = match connection.phase {
            // A connection that is closing already keeps its first reason.
            Phase::Closing(closing) => {
                let is_unanswered = matches!(closing.peer, ClosingPeer::Answers);
                if is_late && closing.served.is_some() && is_unanswered {
                    self.node.shutdown().count_dropped();
                }
                (closing.why, closing.served)
            }
            Phase::Open(client) => (ended, Some(self.leave(reference, *client))),
        };
        self.node.metrics().connection_ended(ended.label(), ended.code());
        // A rejected connection was logged at its rejection.
        if let Some(served) = served {
            served.log_end(&ended, self.now);
        }
    }

    /// Schedules the connections of an app that is not served any more to be closed, some in each
    /// turn: clients closed with 4003 do not reconnect, so they need no spread.
    pub(super) fn evict_all(&mut self, hub: &Arc<Hub>) -> usize {
        let of_hub = |connection: &Connection| match &connection.phase {
            Phase::Open(client) => Arc::ptr_eq(&client.hub, hub),
            Phase::Closing(_) => false,
        };
        let found = self.connections.iter().filter(|(_, connection)| of_hub(connection));
        self.evicting.extend(found.map(|(_, connection)| connection.key));
        self.connections.len()
    }

    /// Closes the next of the scheduled connections.
    pub(super) fn evict_some(&mut self) {
        for _ in 0..CLOSED_PER_TURN {
            let Some(key) = self.evicting.pop_front() else { return };
            self.evict_if_unserved(key);
        }
    }

    /// Closes a connection if its app is not served any more.
    pub(super) fn evict_if_unserved(&mut self, key: ConnectionKey) {
        if !self.is_alive(key) {
            return;
        }
        if let Phase::Open(client) = &self.connections[key.slot as usize].phase
            && !client.hub.is_served()
        {
            self.close(key.slot, &CloseCode::AppDisabled);
        }
    }

    /// Advances the drain: closes the connections that are due.
    pub(super) fn advance_drain(&mut self) {
        let (now, grace) = (self.now, self.config.shutdown_grace);
        let Some(plan) = self.node.shutdown().plan() else { return };
        if self.drain_schedule.is_none() {
            let keys = self.connections.iter().map(|(_, connection)| connection.key).collect();
            let shards = self.node.inboxes().shards().count();
            let since = self.node.shutdown().since().unwrap_or(now);
            self.drain_schedule = Some(DrainSchedule::new(keys, now, (since, grace), plan, shards));
        }
        let Some(drain_schedule) = &mut self.drain_schedule else { return };
        drain_schedule.plan = plan;
        let due = drain_schedule.take_due(now);
        let is_over = drain_schedule.drops_at() <= now;
        for (key, code) in due {
            if self.is_open(key) {
                self.close(key.slot, &code);
            }
        }
        if is_over {
            self.drop_all();
        }
    }

    /// Drops the admitted connections, and the rejected ones that were open when the shutdown
    /// began. Connections rejected later have their own deadline.
    fn drop_all(&mut self) {
        let is_waited_for = |connection: &Connection| match &connection.phase {
            Phase::Open(_) => true,
            Phase::Closing(closing) => closing.served.is_some() || connection.drain.is_early(),
        };
        let found = self.connections.iter().filter(|(_, connection)| is_waited_for(connection));
        let places: Vec<usize> = found.map(|(slot, _)| slot).collect();
        for slot in places {
            let slot = u32::try_from(slot).expect("a slot of the slab");
            // Its close frame may have been queued in this turn.
            self.flush(slot);
            self.drop_connection(slot, Ended::ByServer(CloseCode::ShuttingDown));
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
        plan: DrainPlan,
    ) -> DrainSchedule {
        let keys = (0..count).map(|slot| ConnectionKey { slot, generation: 0 }).collect();
        DrainSchedule::new(keys, start, (start, grace), plan, 1)
    }

    #[test]
    fn a_drain_is_spread_evenly_over_its_time() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(1_000, start, Duration::from_secs(10), DrainPlan::Spread);
        assert_eq!(drain_schedule.take_due(start).len(), 1);
        assert_eq!(drain_schedule.take_due(start).len(), 0);
        assert_eq!(drain_schedule.take_due(start + Duration::from_millis(3_500)).len(), 500);
        assert_eq!(drain_schedule.take_due(start + Duration::from_secs(7)).len(), 499);
        assert_eq!(drain_schedule.drops_at(), start + Duration::from_millis(9_500));
    }

    #[test]
    fn time_spent_on_the_plan_is_taken_from_the_grace_period() {
        let (since, grace) = (Instant::now(), Duration::from_secs(10));
        let now = since + Duration::from_secs(4);
        for plan in [DrainPlan::Spread, DrainPlan::Alone] {
            let keys = (0..1_000).map(|slot| ConnectionKey { slot, generation: 0 }).collect();
            let mut drain_schedule = DrainSchedule::new(keys, now, (since, grace), plan, 1);
            assert!(drain_schedule.drops_at() < since + grace);
            drain_schedule.plan = DrainPlan::Spread;
            assert_eq!(drain_schedule.take_due(now + Duration::from_millis(2_100)).len(), 501);
            assert_eq!(drain_schedule.take_due(now + Duration::from_millis(4_200)).len(), 499);
        }
    }

    #[test]
    fn a_finished_schedule_has_no_next_step() {
        let start = Instant::now();
        for plan in [DrainPlan::Spread, DrainPlan::Queue, DrainPlan::Alone] {
            let mut drain_schedule = drain_schedule(10, start, Duration::from_secs(1), plan);
            let mut now = start;
            while let Some(next) = drain_schedule.next_step(now) {
                assert!(!drain_schedule.waiting.is_empty() || now < next, "{plan:?}: no progress");
                now = next;
                drain_schedule.take_due(now);
            }
            assert!(
                drain_schedule.waiting.is_empty() && drain_schedule.drops_at() <= now,
                "{plan:?}"
            );
        }
    }

    #[test]
    fn few_connections_are_closed_soon() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(3, start, Duration::from_secs(10), DrainPlan::Spread);
        assert_eq!(drain_schedule.take_due(start).len(), 1);
        assert_eq!(drain_schedule.take_due(start + Duration::from_millis(300)).len(), 2);
    }

    #[test]
    fn without_a_grace_period_all_are_closed_at_once() {
        let start = Instant::now();
        let mut drain_schedule = drain_schedule(100, start, Duration::ZERO, DrainPlan::Spread);
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
            drain_schedule(1_000, start, Duration::from_secs(10), DrainPlan::Alone);
        assert_eq!(close_all(&mut drain_schedule, start), vec![4100; 1_000]);
        assert_eq!(drain_schedule.drops_at(), start + ANSWER_TIME);
    }

    #[test]
    fn a_queue_receives_as_many_connections_as_it_has_room_for() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(3_000, start, Duration::from_secs(10), DrainPlan::Queue);
        let codes = close_all(&mut drain_schedule, start);
        assert_eq!(codes.iter().filter(|code| **code == 4200).count(), QUEUE_ROOM);
        assert_eq!(codes.iter().filter(|code| **code == 4100).count(), 3_000 - QUEUE_ROOM);
    }

    #[test]
    fn if_the_other_process_ends_the_rest_is_closed_with_4100_at_once() {
        let start = Instant::now();
        let mut drain_schedule =
            drain_schedule(100, start, Duration::from_secs(10), DrainPlan::Spread);
        assert_eq!(drain_schedule.take_due(start)[0].1, CloseCode::Draining);
        drain_schedule.plan = DrainPlan::Alone;
        assert_eq!(close_all(&mut drain_schedule, start), vec![4100; 99]);
    }
}
