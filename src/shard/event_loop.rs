//! A shard's event loop.

use super::{
    BACKPRESSURE_BYTES,
    close_reason::CloseReason,
    connection::{Connection, Phase, ReadUntil, Registration, UpgradedSocket, Watches},
    decoder::Decoder,
    dirty::{Dirty, Queued, Urgency},
    lost_pending::LostPending,
    outbox::Written,
    readiness::{LISTENER, Readiness, Ready},
    requests::{AcceptedSockets, NoSockets, Responses},
    settings::ShardConfig,
    subscribers::Subscribers,
    wheel::Wheel,
};
use crate::{
    clock,
    hub::{ConnectionKey, ConnectionRef, Delivery, Inbox, ShardIndex},
    metrics::ShardMetrics,
    node::Node,
    protocol::{CloseCode, Frame, event},
    session::DeadlineAction,
};
use arc_swap::ArcSwap;
use slab::Slab;
use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};
use tokio::sync::mpsc;

/// A shard: a set of connections, and the loop that serves them.
#[derive(Debug)]
pub struct Shard {
    pub(super) index: ShardIndex,
    pub(super) node: Arc<Node>,
    /// The settings at the start of this turn.
    pub(super) config: ShardConfig,
    settings: Arc<ArcSwap<ShardConfig>>,
    pub(super) connections: Slab<Connection>,
    pub(super) generation: u32,
    pub(super) subscribers: Subscribers,
    pub(super) dirty: Dirty,
    pub(super) watches: Watches,
    wheel: Wheel,
    pub(super) readiness: Readiness,
    pub(super) decoder: Decoder,
    /// The number of connections before their upgrade.
    pub(super) http_connections: usize,
    /// Accepted sockets.
    pub(super) accepted: Box<dyn AcceptedSockets>,
    /// Whether it may block its thread.
    pub(super) owns_thread: bool,
    pub(super) responses: Responses,
    /// Deliveries taken from the inbox and not handled yet.
    pub(super) batch: VecDeque<Delivery>,
    /// Connections with input for which the poller reports no further edge.
    pub(super) pending_reads: VecDeque<u32>,
    /// Upgraded connections with input that are read when reading is not paused any more.
    pub(super) paused_reads: VecDeque<u32>,
    /// Bytes that may still be read in this turn.
    pub(super) read_budget: usize,
    /// Bytes that the client that is read now has made the server send.
    pub(super) response_bytes: usize,
    /// Whether to query the poller.
    pub(super) should_poll: bool,
    /// Whether upgraded connections are not read in this turn.
    pub(super) is_reading_paused: bool,
    ready: Vec<Ready>,
    /// The buffer for reads from sockets.
    pub(super) buffer: Box<[u8]>,
    /// The buffer that joins small frames into one write.
    staging: Vec<u8>,
    /// The time of this turn. Read at its start, and again before a slice.
    pub(super) now: Instant,
    pub(super) drain_schedule: Option<super::drain_schedule::DrainSchedule>,
    /// Connections to be closed because their app was disabled or removed.
    pub(super) evicting: VecDeque<ConnectionKey>,
    /// The number of deliveries of events that are in the log of their channel. By it, an acknowledgement is a
    /// position in each channel.
    pub(super) logged_deliveries: u64,
    /// The `pusher:ping` for all connections.
    pub(super) ack_ping: Frame,
    /// The counter of tickets for subscriptions that wait for the broker.
    pub(super) tickets: u32,
    /// Subscriptions whose connection was lost before the broker has decided.
    pub(super) lost_pending: LostPending,
}

/// Connections flushed in one slice: about 0.15 ms of work.
const FLUSHES_PER_SLICE: usize = 64;
/// Maximum size of one read from a socket, in bytes.
const READ_BUFFER: usize = 64 * 1024;
/// Maximum number of bytes read from all sockets in one turn: some milliseconds of messages.
const READ_PER_TURN: usize = 256 * 1024;

impl Shard {
    /// A shard without connections. Must be called on the thread that runs it.
    ///
    /// # Errors
    ///
    /// The system cannot create a poller.
    pub fn new(
        index: ShardIndex,
        node: Arc<Node>,
        settings: Arc<ArcSwap<ShardConfig>>,
    ) -> io::Result<Self> {
        let (now, config) = (clock::now(), **settings.load());
        Ok(Self {
            index,
            node,
            connections: Slab::new(),
            generation: 0,
            subscribers: Subscribers::default(),
            dirty: Dirty::default(),
            watches: Watches::new(),
            wheel: Wheel::new(now),
            readiness: Readiness::new()?,
            decoder: Decoder::new(config.max_message_bytes),
            http_connections: 0,
            accepted: Box::new(NoSockets),
            owns_thread: false,
            responses: Responses::default(),
            batch: VecDeque::new(),
            pending_reads: VecDeque::new(),
            paused_reads: VecDeque::new(),
            read_budget: 0,
            response_bytes: 0,
            should_poll: true,
            is_reading_paused: false,
            ready: Vec::new(),
            buffer: vec![0; READ_BUFFER].into(),
            staging: Vec::new(),
            now,
            drain_schedule: None,
            evicting: VecDeque::new(),
            logged_deliveries: 0,
            ack_ping: event::ping(),
            tickets: 0,
            lost_pending: LostPending::new(),
            config,
            settings,
        })
    }

    /// Lets the shard serve the HTTP requests of accepted sockets as well.
    ///
    /// # Errors
    ///
    /// The system's poller is full.
    pub fn with_accepted(mut self, mut accepted: Box<dyn AcceptedSockets>) -> io::Result<Self> {
        accepted.register(self.readiness.registry(), LISTENER)?;
        self.accepted = accepted;
        Ok(self)
    }

    /// Lets the shard block its thread while its task is the only one of its runtime.
    #[must_use]
    pub fn on_own_thread(mut self) -> Self {
        self.owns_thread = true;
        self
    }

    /// Does the work of one turn, as described in [`super`].
    pub(super) fn turn(
        &mut self,
        inbox: &Inbox,
        upgraded_sockets: &mut mpsc::UnboundedReceiver<UpgradedSocket>,
        is_draining: bool,
    ) {
        self.now = clock::now();
        let began = self.now;
        self.reload_settings();
        while let Ok(upgraded) = upgraded_sockets.try_recv() {
            self.catch_panic(|shard| shard.add_connection(upgraded));
        }
        if 0 < self.http_connections && self.node.is_draining() {
            self.catch_panic(Self::hand_over_all);
        }
        self.catch_panic(|shard| shard.deliver(inbox));
        // Messages of clients may cause deliveries, so queued deliveries are handled first.
        self.is_reading_paused = self.node.is_backpressured();
        self.read_budget = READ_PER_TURN;
        self.accept_some();
        self.read_pending();
        if std::mem::take(&mut self.should_poll) {
            self.poll_sockets();
        }
        if !self.responses.is_empty() {
            // Subscribers receive an event before its publisher is answered.
            self.catch_panic(|shard| shard.deliver(inbox));
        }
        self.check_deadlines();
        self.catch_panic(Self::evict_some);
        if is_draining {
            self.catch_panic(Self::advance_drain);
        }
        self.flush_slice();
        inbox.set_behind(self.is_behind());
        self.catch_panic(Self::write_responses);
        let metrics = self.metrics();
        metrics.set_connections(self.connections.len() - self.http_connections);
        metrics.was_busy(began.elapsed());
    }

    fn reload_settings(&mut self) {
        self.config = **self.settings.load();
        self.decoder.set_max(self.config.max_message_bytes);
    }

    pub(super) fn metrics(&self) -> &ShardMetrics {
        self.node.metrics().shard(self.index.get())
    }

    /// Runs `work`, and catches its panic: only that work is aborted.
    pub(super) fn catch_panic(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!(shard = self.index.get(), "panic recovered");
        }
    }

    /// Runs `work` for one connection. A panic closes that connection.
    pub(super) fn catch_panic_for(&mut self, slot: u32, work: impl FnOnce(&mut Self, u32)) {
        if catch_unwind(AssertUnwindSafe(|| work(self, slot))).is_err() {
            if self.buffer.is_empty() {
                self.buffer = vec![0; READ_BUFFER].into();
            }
            self.catch_panic(|shard| shard.drop_connection(slot, CloseReason::Panic));
        }
    }

    #[cfg(test)]
    pub(super) fn request_poll(&mut self) {
        self.should_poll = true;
    }

    #[cfg(test)]
    pub(super) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    #[cfg(test)]
    pub(super) fn is_idle_until_a_deadline(&self) -> bool {
        self.wake_at() == self.wheel.next_due()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.batch.is_empty()
            || !self.pending_reads.is_empty()
            || !self.paused_reads.is_empty()
            || !self.evicting.is_empty()
            || self.should_poll
            || self.accepted.has_more()
            || !self.responses.is_empty()
            || self.readiness.may_have_more()
    }

    /// When the next turn is due without any event.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let schedule = self.drain_schedule.as_ref().filter(|_| !self.connections.is_empty());
        let next_close = schedule.and_then(|schedule| schedule.next_step(self.now));
        [self.wheel.next_due(), next_close, self.accepted.retry_at()].into_iter().flatten().min()
    }

    /// Whether publishers should wait.
    fn is_behind(&self) -> bool {
        let is_far_behind = |slot: u32| {
            let waiting = self.connections.get(slot as usize);
            waiting.is_some_and(|connection| {
                !connection.is_blocked && BACKPRESSURE_BYTES < connection.outbox.bytes()
            })
        };
        !self.batch.is_empty() || self.dirty.fronts().any(is_far_behind)
    }

    /// Schedules a check of the connection at its deadline, unless an earlier one is scheduled.
    pub(super) fn schedule_check(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let step = self.wheel.add_if_earlier(
            connection.key,
            connection.deadline(self.config.message_timeout, self.now),
            connection.check_step,
        );
        connection.check_step = step;
    }

    fn poll_sockets(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        if self.readiness.take(&mut ready) {
            self.accepted.set_ready();
            self.accept_some();
        }
        for event in ready.drain(..) {
            if self.is_alive(event.key) {
                self.catch_panic_for(event.key.slot, |shard, slot| shard.on_ready(slot, event));
            }
        }
        self.ready = ready;
    }

    pub(super) fn is_alive(&self, key: ConnectionKey) -> bool {
        self.connections.get(key.slot as usize).is_some_and(|connection| connection.key == key)
    }

    fn on_ready(&mut self, slot: u32, event: Ready) {
        let connection = &mut self.connections[slot as usize];
        if event.writable && connection.is_blocked {
            connection.is_blocked = false;
            self.dirty.add(slot, &mut connection.queued, Urgency::Urgent);
            if connection.may_have_input {
                self.read_later(slot);
            }
        }
        let is_http = matches!(self.connections[slot as usize].phase, Phase::Http(_));
        if self.is_reading_paused && !is_http {
            if event.is_ended || event.readable {
                self.read_later(slot);
            }
        } else if event.is_ended {
            self.read(slot, ReadUntil::Blocked);
        } else if event.readable {
            self.read(slot, ReadUntil::Short);
        }
    }

    fn check_deadlines(&mut self) {
        while let Some((step, keys)) = self.wheel.take_due(self.now) {
            for key in keys {
                if self.is_alive(key) && self.connections[key.slot as usize].check_step == step {
                    self.catch_panic_for(key.slot, Self::check_deadline);
                }
            }
        }
    }

    fn check_deadline(&mut self, slot: u32) {
        let now = self.now;
        let connection = &mut self.connections[slot as usize];
        connection.check_step = u64::MAX;
        if connection.message_timed_out(self.config.message_timeout, now) {
            return self.abort_message(slot);
        }
        self.read_if_unthrottled(slot);
        let connection = &mut self.connections[slot as usize];
        let due = match &mut connection.phase {
            Phase::Open(client) => client.session.on_deadline(now),
            Phase::Closing(closing) if closing.deadline <= now => {
                let reason = closing.reason.clone();
                return self.drop_connection(slot, reason);
            }
            Phase::Http(_) => return self.check_http_deadline(slot),
            Phase::Closing(_) => None,
        };
        match due {
            Some(DeadlineAction::Ping) => {
                // Browsers reply to the WebSocket ping without running the page's code; the other
                // ping shows that this code runs. Either reply counts.
                let is_idle = self.connections[slot as usize].outbox.is_empty();
                self.send(slot, Frame::ping());
                self.send_ping(slot, usize::from(is_idle));
            }
            Some(DeadlineAction::Acknowledge) => self.send_ping(slot, 0),
            Some(DeadlineAction::Close(code)) => self.close(slot, &code),
            None => self.schedule_check(slot),
        }
    }

    /// Queues a frame for one connection, unless it is closing: nothing follows a close frame.
    pub(super) fn send(&mut self, slot: u32, frame: Frame) {
        self.watch_out(slot, &frame);
        let connection = self.connections.get_mut(slot as usize).filter(|found| found.is_open());
        let Some(connection) = connection else { return };
        self.node.metrics().shard(self.index.get()).sent(frame.kind(), 1, frame.bytes().len());
        connection.queue(frame);
        self.dirty.add(slot, &mut connection.queued, Urgency::Urgent);
        if self.config.max_outbox_bytes < connection.outbox.bytes() {
            self.flush_or_close(slot);
        }
    }

    fn flush_slice(&mut self) {
        self.now = clock::now();
        for _ in 0..FLUSHES_PER_SLICE {
            let Some(slot) = self.dirty.pop() else { break };
            if let Some(connection) = self.connections.get_mut(slot as usize) {
                connection.queued = Queued::No;
                self.catch_panic_for(slot, Self::flush);
            }
        }
    }

    pub(super) fn flush(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let has_nothing = connection.outbox.is_empty() && !connection.socket.has_unsent();
        if connection.is_blocked || has_nothing {
            return;
        }
        if connection.is_resumable {
            self.append_ping(slot);
        }
        let connection = &mut self.connections[slot as usize];
        let accepted_at = connection.outbox.accepted_at();
        let written = connection
            .outbox
            .write_to(&mut connection.socket, &mut self.staging)
            .and_then(|written| connection.socket.flush_tls_after(written));
        match written {
            Ok(Written::All) if connection.is_close_complete() => self.finish_closing(slot),
            Ok(Written::All) if matches!(connection.phase, Phase::Http(_)) => {
                self.on_answered(slot);
            }
            Ok(Written::All) => connection.shutdown_write_if_undecodable(),
            Ok(Written::BudgetUsed) => self.dirty.add(slot, &mut connection.queued, Urgency::Bulk),
            Ok(Written::Blocked) => self.set_blocked(slot),
            Err(_broken) => self.drop_connection(slot, CloseReason::NetworkError),
        }
        if let Some(accepted_at) = accepted_at {
            self.metrics().delivered_after(self.now.saturating_duration_since(accepted_at));
        }
    }

    /// Records that a socket accepts no more data, and has the poller report when it does.
    pub(super) fn set_blocked(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.is_blocked = true;
        let (key, socket) = (connection.key, connection.socket.source());
        let added = match connection.registration {
            Registration::None => self.readiness.register(socket, key),
            Registration::Readable => self.readiness.add_writable(socket, key),
            Registration::ReadableAndWritable => return,
        };
        connection.registration = Registration::ReadableAndWritable;
        if added.is_err() {
            self.drop_connection(slot, CloseReason::NetworkError);
        }
    }

    /// The hub's reference to a connection.
    pub(super) fn connection_ref(&self, slot: u32) -> ConnectionRef {
        ConnectionRef { shard: self.index, key: self.connections[slot as usize].key }
    }

    /// Reduces an outbox that exceeds its limit: flushes it, and closes the connection if the
    /// socket accepts too little.
    pub(super) fn flush_or_close(&mut self, slot: u32) {
        let max = self.config.max_outbox_bytes;
        loop {
            let Some(connection) = self.connections.get_mut(slot as usize) else { return };
            if connection.outbox.bytes() <= max {
                return;
            }
            if connection.is_blocked {
                return match &connection.phase {
                    Phase::Open(_) => self.close(slot, &CloseCode::SlowConsumer),
                    // Its last frames are bounded, and its deadline is near.
                    Phase::Http(_) | Phase::Closing(_) => {}
                };
            }
            self.flush(slot);
        }
    }
}
