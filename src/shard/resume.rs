//! Connections of clients that return: taking the place of the connection before, acknowledgements by pings, and
//! what is kept of a lost connection.

use super::{
    admitted::{AdmittedClient, SubscriptionHandle, SubscriptionState},
    close_reason::{CloseReason, Departure},
    connection::Phase,
    event_loop::Shard,
};
use crate::{
    broker::{Claim, LogRequest, ReturnedClient},
    channel::{Gap, LogStart, ParkedSession, ReplayedEvent},
    config::ResumeAck,
    hub::{AcceptedSubscription, ChannelId, ClaimOutcome, ConnectionKey, ConnectionRef, Delivery},
    node::{ClaimResult, Lingering, Owner},
    protocol::{ChannelName, ClientName, CloseCode, Frame, SocketId, event},
    session::{AfterWrite, Resumable, Subscription},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long the subscriptions of a page with a token stay that was closed or suspended: one that was suspended returns
/// after a second, since pusher-js waits for that long.
const AWAY_GRACE: Duration = Duration::from_secs(3);

type Subscriptions = HashMap<ChannelName, Subscription<SubscriptionHandle>>;

/// How a new subscription of the client uses the log of its channel.
pub(super) fn log_request<'a>(
    client: &'a AdmittedClient,
    channel: &ChannelName,
    now: Instant,
) -> LogRequest<'a> {
    let Some(resumable) = client.session.resumable() else { return LogRequest::No };
    match resumable.parked_position(channel, now) {
        Some((Some(position), _)) => LogRequest::After(position),
        Some((None, _)) | None => LogRequest::Begin,
    }
}

impl Shard {
    /// Makes the connection the one of its client, at its first message. Returns false if the message is handled
    /// later, once the session of the client's previous connection has arrived.
    pub(super) fn claim(&mut self, slot: u32, message: &str) -> bool {
        let (reference, now) = (self.connection_ref(slot), self.now);
        let node = Arc::clone(&self.node);
        let Some(client) = self.client(slot) else { return true };
        let (app_id, socket_id) = (client.hub.app_id(), client.session.socket_id());
        let Some(resumable) = client.session.resumable_mut() else { return true };
        if !resumable.is_unclaimed() {
            return true;
        }
        let name = ClientName { app_id, token: resumable.token().clone() };
        match node.resume().claim(&name, reference, socket_id, now) {
            ClaimResult::Done(outcome) => drop(self.begin_client(slot, outcome)),
            ClaimResult::Shared { number, unclaimed, session } => {
                resumable.wait(message);
                let claim = if resumable.is_known() { Claim::Known } else { Claim::Adopt };
                let (place, connection) = ((number, claim), (reference, socket_id));
                node.claim_among_nodes(name, place, connection, unclaimed, session);
                return false;
            }
            ClaimResult::Open(previous) => {
                resumable.wait(message);
                let inbox = node.inboxes().inbox(previous.shard);
                inbox.push(Delivery::Replace(previous.key));
                return false;
            }
        }
        true
    }

    /// Begins a connection that has claimed the place of its client. Returns the message that has waited for it.
    fn begin_client(&mut self, slot: u32, outcome: ClaimOutcome) -> Option<Box<str>> {
        let now = self.now;
        let client = self.client(slot)?;
        let socket_id = client.session.socket_id();
        let resumable = client.session.resumable_mut()?;
        match outcome {
            ClaimOutcome::New => resumable.resume(None, now),
            ClaimOutcome::Resumed(session) => {
                tracing::debug!(%socket_id, channels = session.positions.len(), "session resumed");
                resumable.resume(Some(*session), now)
            }
            ClaimOutcome::Refused => {
                let message = resumable.resume(None, now);
                client.session.take_resumable();
                self.connections[slot as usize].is_resumable = false;
                message
            }
        }
    }

    /// Begins to follow the log of a channel for a new subscriber, and sends it what it has missed, or that it may
    /// have missed something.
    pub(super) fn start_log(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        id: ChannelId,
        log: Option<LogStart>,
    ) {
        let now = self.now;
        // A ping that was written before this says nothing about what follows.
        self.logged_deliveries += 1;
        let counter = self.logged_deliveries;
        let Some(client) = self.client(slot) else { return };
        let resumable = client.session.resumable_mut();
        let known = resumable.as_ref().zip(log.as_ref());
        let known = known.and_then(|(to, log)| to.counted_up_to(channel, &log.end.epoch, now));
        let is_resumable = resumable.is_some();
        let ahead = resumable.as_ref().map_or(0, |to| to.counted_ahead(channel, now));
        let gap = resumable.and_then(|to| to.on_subscribed(channel, counter, log.as_ref(), now));
        if is_resumable && log.is_some() {
            self.subscribers.mark_log(id, self.config.resume_max_events);
        }
        if log.as_ref().is_some_and(|log| log.replay.is_ok()) {
            self.node.resume().count_counted(ahead);
        }
        let replay = log.and_then(|log| log.replay.ok()).unwrap_or_default();
        self.node.resume().count_replayed(replay.len());
        self.send_replay(slot, channel, known, replay);
        if let Some((away, reason)) = gap {
            self.send_gap(slot, channel, away, reason);
        }
    }

    /// Sends the events of a replay. A page that counts its events, and has counted up to the sequence `counted`, receives its
    /// position where an event is missing that is not replayed to it: the line may be lost before the replay has ended.
    fn send_replay(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        mut counted: Option<u64>,
        replay: Vec<ReplayedEvent>,
    ) {
        for ReplayedEvent { sequence, frame } in replay {
            let before = sequence - 1;
            if counted != Some(before) {
                self.tell_position(slot, channel, Some(before));
            }
            counted = Some(sequence);
            self.respond(slot, frame);
        }
    }

    /// Sends a client that it may have missed events of a channel within this time.
    fn send_gap(&mut self, slot: u32, channel: &ChannelName, away: Option<Duration>, reason: Gap) {
        self.node.resume().count_gap(reason);
        let reason = reason.as_str();
        if let Some(client) = self.client(slot) {
            let (socket_id, app) = (client.session.socket_id(), client.hub.app_id());
            tracing::debug!(%socket_id, app = &*app, %channel, reason, "client may have missed events");
        }
        self.respond(slot, event::gap(channel, away));
    }

    /// Tells a page that counts its events where it counts from: `sequence`, or where its subscription has begun.
    pub(super) fn tell_position(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        sequence: Option<u64>,
    ) {
        let Some(client) = self.client(slot) else { return };
        let counted = client.session.resumable().and_then(|to| to.counted_from(channel));
        if let Some(from) = counted {
            let sequence = sequence.unwrap_or(from.sequence);
            let frame = event::position(channel, &from.epoch, sequence);
            self.respond(slot, frame);
        }
    }

    /// Tells a page that counts its events of one that excludes it, so that it counts on behind it.
    pub(super) fn tell_excluded(&mut self, id: ChannelId, excluded: SocketId, logged: u64) {
        if let Some(slot) = self.subscribers.log_reader(id, excluded) {
            self.tell_logged(slot, id, logged);
        }
    }

    /// Tells pages that count their events of a client event, which they do not count, so that they count on behind it.
    pub(super) fn tell_uncounted(&mut self, id: ChannelId, logged: u64) {
        for slot in self.subscribers.log_readers(id) {
            self.tell_logged(slot, id, logged);
        }
    }

    /// Tells a page that counts its events that the latest one of a channel has the sequence `logged`.
    fn tell_logged(&mut self, slot: u32, id: ChannelId, logged: u64) {
        let Some(client) = self.client(slot) else { return };
        let of_channel = |handle: &SubscriptionHandle| match handle.0 {
            SubscriptionState::Active(at) => at.channel == id,
            SubscriptionState::Pending { .. } => false,
        };
        let Some(channel) = client.session.channel_of(of_channel) else { return };
        let counted = client.session.resumable().and_then(|to| to.counted_from(channel));
        if let Some(from) = counted {
            let frame = event::position(channel, &from.epoch, logged);
            self.send(slot, frame);
        }
    }

    /// Closes a connection whose client has returned on another one.
    pub(super) fn on_replaced(&mut self, key: ConnectionKey) -> usize {
        // One that is closing has handed its session over already.
        if self.is_open(key) {
            self.drop_connection(key.slot, CloseReason::Replaced);
        }
        1
    }

    /// Begins a connection whose claim was decided, and handles the message that has waited for it.
    pub(super) fn on_claimed(
        &mut self,
        key: ConnectionKey,
        name: &ClientName,
        outcome: ClaimOutcome,
    ) -> usize {
        let client = if self.is_open(key) { self.client(key.slot) } else { None };
        let resumable = client.and_then(|client| client.session.resumable());
        if !resumable.is_some_and(Resumable::is_waiting) {
            // It was lost as well. The session waits for the next one.
            let connection = ConnectionRef { shard: self.index, key };
            let session = match outcome {
                ClaimOutcome::Resumed(session) => Some(session),
                ClaimOutcome::New | ClaimOutcome::Refused => None,
            };
            self.node.end_of_client(name, connection, session, self.now);
            return 1;
        }
        let message = self.begin_client(key.slot, outcome);
        if let Some(message) = message {
            self.on_text(key.slot, &message);
        }
        if self.is_alive(key) {
            self.read_if_unthrottled(key.slot);
            self.schedule_check(key.slot);
        }
        1
    }

    /// Adds a ping to the frames that are about to be written, if one is due. Not inlined into the writes of connections
    /// without a token, which it would slow down.
    #[inline(never)]
    pub(super) fn append_ping(&mut self, slot: u32) {
        let (now, counter) = (self.now, self.logged_deliveries);
        let connection = &mut self.connections[slot as usize];
        let Phase::Open(client) = &mut connection.phase else { return };
        let Some(resumable) = client.session.resumable_mut() else { return };
        match resumable.on_write(counter, connection.outbox.len(), now) {
            AfterWrite::Nothing => {}
            AfterWrite::Check => self.schedule_check(slot),
            AfterWrite::Ping => {
                let ping = self.ping(slot);
                self.metrics().sent(ping.kind(), 1, ping.bytes().len());
                self.connections[slot as usize].queue(ping);
                self.schedule_check(slot);
            }
        }
    }

    /// Sends `pusher:ping`, whose answer acknowledges what was queued before. `more` is the number of frames that
    /// were queued with it and need no acknowledgement.
    pub(super) fn send_ping(&mut self, slot: u32, more: usize) {
        let counter = self.logged_deliveries;
        let now = self.now;
        let connection = &mut self.connections[slot as usize];
        let has_only_pings = connection.outbox.len() == more;
        if let Phase::Open(client) = &mut connection.phase
            && let Some(resumable) = client.session.resumable_mut()
        {
            resumable.on_ping(counter, if has_only_pings { more + 1 } else { 0 }, now);
        }
        let ping = self.ping(slot);
        self.send(slot, ping);
        self.schedule_check(slot);
    }

    /// Delivers nothing more to a client that is about to return to another node, and closes its connection once it has
    /// handled what was delivered: the rest follows there, from the logs. Returns false if the connection can be closed at once.
    pub(super) fn finish(&mut self, slot: u32, code: &CloseCode) -> bool {
        let (now, counter) = (self.now, self.logged_deliveries);
        let continues = *code == CloseCode::Draining && self.node.broker().redis().is_some();
        let Some(client) = self.client(slot).filter(|_| continues) else { return false };
        let Some(resumable) = client.session.resumable_mut() else { return false };
        if !resumable.should_confirm() {
            return false;
        }
        resumable.finish(counter, now);
        let subscribed: Vec<_> = client.session.handles().copied().collect();
        for handle in subscribed {
            if let SubscriptionState::Active(index) = handle.0 {
                self.subscribers.stop(index);
            }
        }
        self.send_ping(slot, 0);
        true
    }

    /// The ping whose answer acknowledges what was queued before.
    fn ping(&self, slot: u32) -> Frame {
        let is_resumable = self.connections[slot as usize].is_resumable;
        if is_resumable && self.config.resume_ack == ResumeAck::Websocket {
            Frame::numbered_ping(self.logged_deliveries)
        } else {
            self.ack_ping.clone()
        }
    }

    /// Ends all subscriptions of a client whose connection has ended. If it may return, those that others would
    /// see end stay with the broker for a while, and the positions in its channels are kept.
    pub(super) fn end_subscriptions(
        &mut self,
        connection: ConnectionRef,
        client: &mut AdmittedClient,
        reason: &CloseReason,
    ) {
        let departure = reason.departure(client.session.has_client_just_pinged(self.now));
        let subscriptions = client.session.take_subscriptions();
        let resumable = client.session.take_resumable();
        let resumable = resumable.filter(|resumable| resumable.is_claimed());
        let is_resumable = resumable.is_some();
        if let Some(mut resumable) = resumable {
            self.release_logs(client, &resumable, &subscriptions);
            let name = ClientName { app_id: client.hub.app_id(), token: resumable.token().clone() };
            let session = self.park(&mut resumable, &subscriptions);
            let session = (departure != Departure::Final).then(|| Box::new(session));
            self.node.end_of_client(&name, connection, session, self.now);
        }
        let grace = match departure {
            Departure::Lost => self.config.presence_grace,
            Departure::Away if is_resumable => self.config.presence_grace.min(AWAY_GRACE),
            Departure::Away | Departure::Left | Departure::Final => Duration::ZERO,
        };
        let (socket_id, end) = (client.session.socket_id(), self.now + grace);
        for (channel, subscription) in subscriptions {
            let lingers = !grace.is_zero() && (channel.is_presence() || is_resumable);
            if let SubscriptionState::Pending { ticket } = subscription.handle.0 {
                // It ends when its result arrives.
                if lingers {
                    let subscription = (connection.key, ticket);
                    self.lost_pending.insert(subscription, (socket_id, end), self.now);
                }
            } else if lingers {
                self.remove_subscriber(&channel, &subscription);
                let user_id = subscription.user_id;
                let hub = Arc::clone(&client.hub);
                self.linger(Lingering { hub, channel, shard: self.index, user_id, socket_id }, end);
            } else {
                self.unsubscribe(&client.hub, &channel, &subscription);
            }
        }
    }

    fn release_logs(
        &self,
        client: &AdmittedClient,
        resumable: &Resumable,
        subscriptions: &Subscriptions,
    ) {
        for channel in subscriptions.keys().filter(|channel| resumable.reads_log(channel)) {
            self.node.broker().release_log(&client.hub, channel, self.now);
        }
    }

    /// The client's positions in its channels.
    fn park(&self, resumable: &mut Resumable, subscriptions: &Subscriptions) -> ParkedSession {
        resumable.park(self.now, |channel, counter| match subscriptions.get(channel)?.handle.0 {
            SubscriptionState::Active(at) => self.subscribers.sequence_at(at.channel, counter),
            SubscriptionState::Pending { .. } => None,
        })
    }

    /// Ends a subscription whose connection has ended, or leaves it with the broker for the rest of the grace period.
    pub(super) fn end_late(
        &mut self,
        accepted: AcceptedSubscription,
        channel: &ChannelName,
        lost: Option<(SocketId, Instant)>,
    ) {
        let AcceptedSubscription { hub, user_id, subscribed } = accepted;
        let broker = self.node.broker();
        if subscribed.log.as_ref().is_some_and(|log| log.is_reader) {
            broker.release_log(&hub, channel, self.now);
        }
        match lost.filter(|(_, end)| self.now < *end) {
            Some((socket_id, end)) => {
                let (channel, shard) = (channel.clone(), self.index);
                self.linger(Lingering { hub, channel, shard, user_id, socket_id }, end);
            }
            None => broker.unsubscribe(&hub, self.index, channel, user_id.as_ref(), self.now),
        }
    }

    /// Leaves a subscription with the broker until `end`.
    fn linger(&self, lingering: Lingering, end: Instant) {
        if let Some(over) = self.node.grace().add(lingering, end) {
            self.node.end_lingering(&over, self.now);
        }
    }

    /// Ends what the client has left of this subscription on another node. Called before the subscription replaces what is known
    /// of it.
    pub(super) fn end_left_subscription(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        user_id: Option<&Arc<str>>,
    ) {
        let Some(client) = self.client(slot) else { return };
        let Some(resumable) = client.session.resumable() else { return };
        let Some(process) = resumable.left_on(channel).map(Arc::clone) else { return };
        let returned = ReturnedClient {
            app_id: client.hub.app_id(),
            socket_id: client.session.socket_id(),
            channel: channel.clone(),
            user_id: user_id.map(Arc::clone),
        };
        self.node.end_left_on(&process, returned);
    }

    /// Ends what lingers of the same member or client, which has returned.
    pub(super) fn end_replaced(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        user_id: Option<&Arc<str>>,
    ) {
        if self.node.grace().is_empty() {
            return;
        }
        let now = self.now;
        let Some(client) = self.client(slot) else { return };
        let (app_id, socket_id) = (client.hub.app_id(), client.session.socket_id());
        let returned = Owner::new(app_id, channel.clone(), user_id.map(Arc::clone), socket_id);
        for lingering in self.node.grace().take_replaced(&returned) {
            self.node.end_lingering(&lingering, now);
        }
    }
}
