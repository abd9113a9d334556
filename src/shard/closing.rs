//! Closes connections, individually and at the end of the process.

use super::{
    admitted::AdmittedClient,
    close_reason::{CloseReason, ClosedChannels, ClosedClient},
    connection::{CLOSING_TIMEOUT, Closing, Connection, PeerState, Phase},
    dirty::Urgency,
    drain_schedule::{CLOSED_PER_TURN, DrainSchedule},
    event_loop::Shard,
};
use crate::{
    hub::{ConnectionKey, ConnectionRef, Hub, MessageCounts},
    protocol::{CloseCode, Frame, event},
};
use std::sync::Arc;

impl Shard {
    pub(super) fn is_open(&self, key: ConnectionKey) -> bool {
        self.is_alive(key) && self.connections[key.slot as usize].is_open()
    }

    /// Closes a connection gracefully: the client leaves the hub, receives a close frame, and has
    /// [`CLOSING_TIMEOUT`] to reply with its own.
    pub(super) fn close(&mut self, slot: u32, code: &CloseCode) {
        let reason = CloseReason::ByServer(code.clone());
        if !self.begin_closing(slot, reason, PeerState::AwaitingClose) {
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
        for frame in announcement.iter().chain([&close]) {
            self.metrics().sent(frame.kind(), 1, frame.bytes().len());
        }
        let outbox = &mut self.connections[slot as usize].outbox;
        if let Some(announcement) = announcement {
            outbox.push(announcement);
        }
        outbox.push_control(close);
    }

    /// Handles a close frame of the client. The reply, if one is due, is already queued.
    pub(super) fn peer_closed(&mut self, slot: u32, code: u16) {
        if !self.begin_closing(slot, CloseReason::ByClient(code), PeerState::Closed) {
            self.set_peer_state(slot, PeerState::Closed);
        }
        if self.connections.get(slot as usize).is_some_and(Connection::is_close_complete) {
            self.finish_closing(slot);
        }
    }

    /// Records how far the client of a closing connection is with the closing handshake.
    pub(super) fn set_peer_state(&mut self, slot: u32, peer_state: PeerState) {
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && let Phase::Closing(closing) = &mut connection.phase
        {
            closing.peer_state = peer_state;
        }
    }

    /// Returns false if the connection is closing already.
    fn begin_closing(&mut self, slot: u32, reason: CloseReason, peer_state: PeerState) -> bool {
        let closing = Closing {
            deadline: self.now + CLOSING_TIMEOUT,
            reason,
            peer_state,
            next_read_at: None,
            client: None,
            permit: None,
        };
        let connection = self.connections.get_mut(slot as usize).filter(|found| found.is_open());
        let Some(connection) = connection else { return false };
        let reason = closing.reason.clone();
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing(Box::new(closing)));
        self.dirty.add(slot, &mut connection.queued, Urgency::Urgent);
        let reference = self.connection_ref(slot);
        if let Phase::Open(client) = phase {
            let client = self.leave(reference, *client, &reason);
            if let Phase::Closing(closing) = &mut self.connections[slot as usize].phase {
                closing.client = Some(client);
            }
        }
        // The client's close frame may be queued behind unread messages.
        self.read_if_unthrottled(slot);
        self.schedule_check(slot);
        true
    }

    pub(super) fn finish_closing(&mut self, slot: u32) {
        if let Phase::Closing(closing) = &self.connections[slot as usize].phase {
            let reason = closing.reason.clone();
            self.drop_connection(slot, reason);
        }
    }

    /// Removes a client from the hub, at a cost proportional to its subscriptions. Its permits are
    /// released when it is dropped.
    fn leave(
        &mut self,
        connection: ConnectionRef,
        mut client: AdmittedClient,
        reason: &CloseReason,
    ) -> ClosedClient {
        let channels = ClosedChannels::new(client.session.channels());
        self.end_subscriptions(connection, &mut client, reason);
        if let Some(user) = client.session.user() {
            self.node.broker().sign_out(&client.hub, connection, user, self.now);
        }
        ClosedClient::new(client, channels)
    }

    /// Drops a connection.
    pub(super) fn drop_connection(&mut self, slot: u32, reason: CloseReason) {
        if !self.connections.contains(slot as usize) {
            return;
        }
        let reference = self.connection_ref(slot);
        let mut connection = self.connections.remove(slot as usize);
        if matches!(connection.phase, Phase::Http(_)) {
            self.http_connections -= 1;
            return;
        }
        if !matches!(reason, CloseReason::NetworkError) {
            connection.socket.send_close_notify();
        }
        let is_late = self.drain_schedule.is_some() && matches!(reason, CloseReason::ByServer(_));
        let (reason, client) = match connection.phase {
            Phase::Http(_) => return,
            // A connection that is closing already keeps its first reason.
            Phase::Closing(closing) => {
                let is_awaited = closing.peer_state == PeerState::AwaitingClose;
                if is_late && closing.client.is_some() && is_awaited {
                    self.node.shutdown().count_dropped();
                }
                (closing.reason, closing.client)
            }
            Phase::Open(client) => {
                let client = self.leave(reference, *client, &reason);
                (reason, Some(client))
            }
        };
        self.node.metrics().connection_ended(reason.label(), reason.code());
        let messages =
            MessageCounts { received: connection.messages_in, sent: connection.outbox.messages() };
        self.watch_end(reference.key, &reason, messages);
        // A rejected connection was logged at its rejection.
        if let Some(client) = client {
            client.log_close(&reason, messages, self.now);
        }
    }

    /// Schedules the connections of a disabled app to be closed, some in each turn. Clients that are
    /// closed with 4003 do not reconnect, so closing them soon causes no burst of reconnects.
    pub(super) fn evict_all(&mut self, hub: &Arc<Hub>) -> usize {
        let of_hub = |connection: &Connection| match &connection.phase {
            Phase::Open(client) => Arc::ptr_eq(&client.hub, hub),
            Phase::Http(_) | Phase::Closing(_) => false,
        };
        let found = self.connections.iter().filter(|(_, connection)| of_hub(connection));
        self.evicting.extend(found.map(|(_, connection)| connection.key));
        self.connections.len()
    }

    /// Closes the next of the scheduled connections.
    pub(super) fn evict_some(&mut self) {
        for _ in 0..CLOSED_PER_TURN {
            let Some(key) = self.evicting.pop_front() else { return };
            self.evict_if_disabled(key);
        }
    }

    /// Closes a connection if its app is disabled.
    pub(super) fn evict_if_disabled(&mut self, key: ConnectionKey) {
        if !self.is_alive(key) {
            return;
        }
        if let Phase::Open(client) = &self.connections[key.slot as usize].phase
            && !client.hub.is_enabled()
        {
            self.close(key.slot, &CloseCode::AppDisabled);
        }
    }

    /// Advances the drain: closes the connections that are due.
    pub(super) fn advance_drain(&mut self) {
        let (now, grace) = (self.now, self.config.shutdown_grace);
        let Some(mode) = self.node.shutdown().mode() else { return };
        if self.drain_schedule.is_none() {
            let keys = self.connections.iter().map(|(_, connection)| connection.key).collect();
            let shards = self.node.inboxes().shards().count();
            let since = self.node.shutdown().started_at().unwrap_or(now);
            self.drain_schedule = Some(DrainSchedule::new(keys, now, (since, grace), mode, shards));
        }
        let Some(drain_schedule) = &mut self.drain_schedule else { return };
        drain_schedule.mode = mode;
        let due = drain_schedule.take_due(now);
        let is_over = drain_schedule.drop_at() <= now;
        let is_last = drain_schedule.latest_drop_at() <= now;
        for (key, code) in due {
            if self.is_open(key) && !self.finish(key.slot, &code) {
                self.close(key.slot, &code);
            }
        }
        if is_over {
            self.drop_all(is_last);
        }
    }

    /// Drops the admitted connections, and the rejected ones that were open when the shutdown
    /// began. Connections rejected later have their own deadline. Requests that are being answered are dropped at last.
    fn drop_all(&mut self, is_last: bool) {
        let is_waited_for = |connection: &Connection| match &connection.phase {
            Phase::Http(_) => is_last,
            Phase::Open(_) => true,
            Phase::Closing(closing) => closing.client.is_some() || connection.drain.delays_drain(),
        };
        let found = self.connections.iter().filter(|(_, connection)| is_waited_for(connection));
        let slots: Vec<usize> = found.map(|(slot, _)| slot).collect();
        for slot in slots {
            let slot = u32::try_from(slot).expect("a slot of the slab");
            // Its close frame may have been queued in this turn.
            self.flush(slot);
            self.drop_connection(slot, CloseReason::ByServer(CloseCode::ShuttingDown));
        }
    }
}
