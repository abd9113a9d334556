//! Reads from sockets, passes messages to the session, and executes its actions.

use super::{
    admitted::{AdmittedClient, SubscriptionHandle},
    close_reason::CloseReason,
    connection::{Connection, PeerState, Phase, ReadUntil},
    decoder::{Decoder, Reader, Received},
    event_loop::Shard,
    frame_validator::FrameError,
};
use crate::{
    broker::AcceptedClientEvent,
    metrics::ReceivedKind,
    protocol::{
        ChannelName, CloseCode, Consequence, EventData, Frame, Malformed, ProtocolError, User,
        event,
    },
    session::Action,
};
use std::{
    io::{ErrorKind, Read},
    sync::Arc,
};

/// Maximum number of reads from one socket in one turn; the rest waits for the next. A second one
/// detects the end of a stream.
const READS_PER_TURN: usize = 2;
/// Minimum cost of a read against the turn's budget, in bytes.
const READ_COST_MIN: usize = 512;

impl Shard {
    /// Reads from the socket, within the turn's budget.
    pub(super) fn read(&mut self, slot: u32, until: ReadUntil) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for reads in 1.. {
            let Some(connection) = self.connections.get_mut(slot as usize) else { break };
            if connection.is_blocked || READS_PER_TURN < reads || self.read_budget == 0 {
                self.read_later(slot);
                break;
            }
            if connection.is_throttled(self.now) {
                connection.may_have_input = true;
                self.schedule_check(slot);
                break;
            }
            connection.may_have_input = false;
            self.response_bytes = 0;
            if self.resume(slot) {
                self.read_budget =
                    self.read_budget.saturating_sub(READ_COST_MIN.max(self.response_bytes));
                continue;
            }
            let connection = &mut self.connections[slot as usize];
            // A short read of TLS says nothing about the socket.
            let until = if connection.socket.is_tls() { ReadUntil::Blocked } else { until };
            match connection.socket.read(&mut buffer) {
                Ok(0) if self.hand_over_unfinished(slot) => break,
                Ok(0) => {
                    // A client that has only closed its writing half may still read, so it gets one
                    // more write.
                    self.flush(slot);
                    self.drop_connection(slot, CloseReason::Disconnected);
                    break;
                }
                Ok(len) => {
                    self.receive(slot, &buffer[..len]);
                    if let Some(connection) = self.connections.get_mut(slot as usize) {
                        connection.delay_next_read(self.now);
                    }
                    // Small requests with large responses use up the budget as well.
                    let cost = len.max(READ_COST_MIN).max(self.response_bytes);
                    self.read_budget = self.read_budget.saturating_sub(cost);
                    if until == ReadUntil::Short && len < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_broken) => {
                    self.drop_connection(slot, CloseReason::NetworkError);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Records that there may be more input. A blocked connection is listed once it is not blocked
    /// any more, any other is read in the next turn.
    pub(super) fn read_later(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.may_have_input = true;
        if !connection.is_blocked && !connection.is_in_pending_reads {
            connection.is_in_pending_reads = true;
            self.pending_reads.push_back(slot);
        }
    }

    /// Reads the pending input of a throttled client, if it may be read again.
    pub(super) fn read_if_unthrottled(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        if connection.may_have_input && !connection.is_throttled(self.now) {
            self.read_later(slot);
        }
    }

    /// Reads the input that earlier turns have left. While reading is paused, that of HTTP connections: their answers
    /// wait for shards that are behind, and a request that causes no delivery waits for nothing.
    pub(super) fn read_pending(&mut self) {
        if !self.is_reading_paused {
            self.pending_reads.append(&mut self.paused_reads);
        }
        for _ in 0..self.pending_reads.len() {
            if self.read_budget == 0 {
                return;
            }
            let Some(slot) = self.pending_reads.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(slot as usize) else { continue };
            if self.is_reading_paused && !matches!(connection.phase, Phase::Http(_)) {
                self.paused_reads.push_back(slot);
                continue;
            }
            connection.is_in_pending_reads = false;
            if connection.may_have_input {
                self.catch_panic_for(slot, |shard, slot| shard.read(slot, ReadUntil::Blocked));
            }
        }
    }

    /// Handles bytes of a client.
    pub(super) fn receive(&mut self, slot: u32, bytes: &[u8]) {
        let connection = &mut self.connections[slot as usize];
        if let Phase::Http(_) = connection.phase {
            return self.receive_http(slot, bytes);
        }
        if connection.is_undecodable() {
            return;
        }
        let incomplete = connection.incomplete.take();
        let mut replies = Vec::new();
        let reader = self.decoder.start_read(incomplete, bytes, &mut replies);
        let (now, fragments) = (self.now, reader.fragments());
        if let Some(client) = self.client(slot)
            && let Err(error) = client.session.on_fragments(fragments, now)
        {
            return self.report(slot, &error);
        }
        self.read_messages(slot, reader);
    }

    /// Resumes a paused reading, if there is one.
    fn resume(&mut self, slot: u32) -> bool {
        let connection = &mut self.connections[slot as usize];
        let Some(mut incomplete) = connection.incomplete.take() else { return false };
        let Some(paused_bytes) = incomplete.take_paused_bytes() else {
            connection.incomplete = Some(incomplete);
            return false;
        };
        let mut replies = Vec::new();
        self.read_messages(slot, Decoder::resume(*incomplete, &paused_bytes, &mut replies));
        true
    }

    /// Handles the messages of a read, until none is left or the client is throttled.
    fn read_messages(&mut self, slot: u32, mut reader: Reader<'_>) {
        loop {
            let next = reader.next();
            if let Some(replies) = reader.take_replies() {
                self.respond(slot, Frame::raw(replies));
                if !self.connections.contains(slot as usize) {
                    return;
                }
            }
            match next {
                Ok(Some(Received::Close(code))) => return self.peer_closed(slot, code),
                Ok(Some(received)) => self.on_received(slot, &received),
                Ok(None) => break,
                Err(error) => return self.on_frame_error(slot, error),
            }
            let Some(connection) = self.connections.get_mut(slot as usize) else { return };
            if connection.is_undecodable() {
                return;
            }
            if connection.is_throttled(self.now) {
                connection.incomplete = Some(Box::new(Decoder::pause(reader, self.now)));
                connection.may_have_input = true;
                return self.schedule_check(slot);
            }
        }
        let incomplete = self.decoder.finish_read(reader, self.now);
        self.connections[slot as usize].incomplete = incomplete;
        // The next deadline may be earlier than the scheduled one.
        self.schedule_check(slot);
    }

    fn on_frame_error(&mut self, slot: u32, error: FrameError) {
        let code = match error {
            FrameError::TooBig => CloseCode::MessageTooBig { max: self.config.max_message_bytes },
            FrameError::NotUtf8 => CloseCode::NotUtf8,
            FrameError::NotWebSocket => CloseCode::NotWebSocket,
        };
        self.close(slot, &code);
        self.set_peer_state(slot, PeerState::Undecodable);
    }

    /// Closes a connection whose message is incomplete for too long. Further input can't be
    /// distinguished from the rest of that message.
    pub(super) fn abort_message(&mut self, slot: u32) {
        self.close(slot, &CloseCode::MessageTimeout);
        self.set_peer_state(slot, PeerState::Undecodable);
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            connection.incomplete = None;
        }
    }

    pub(super) fn client(&mut self, slot: u32) -> Option<&mut AdmittedClient> {
        match &mut self.connections.get_mut(slot as usize)?.phase {
            Phase::Open(client) => Some(client),
            Phase::Http(_) | Phase::Closing(_) => None,
        }
    }

    /// Queues a frame that the connection requested, and charges it for the bytes.
    pub(super) fn respond(&mut self, slot: u32, frame: Frame) {
        self.charge(slot, frame.bytes().len());
        self.send(slot, frame);
    }

    /// Charges a client for bytes that it makes the server send.
    pub(super) fn charge(&mut self, slot: u32, bytes: usize) {
        self.response_bytes += bytes;
        let now = self.now;
        if let Some(client) = self.client(slot) {
            client.session.charge(bytes, now);
        }
    }

    fn on_received(&mut self, slot: u32, received: &Received) {
        let now = self.now;
        if let Received::Text(_) | Received::Binary(_) = received {
            self.connections[slot as usize].messages_in += 1;
        }
        let Some(client) = self.client(slot) else { return };
        match received {
            Received::Text(text) => self.on_text(slot, text),
            Received::Binary(bytes) => {
                if let Ok(text) = std::str::from_utf8(bytes) {
                    return self.on_text(slot, text);
                }
                let error = client.session.malformed(Malformed::Binary, now);
                self.on_error(slot, &error, bytes.len());
            }
            Received::Ping | Received::Pong(_) | Received::Close(_) => {
                if let Received::Pong(Some(number)) = received {
                    client.session.on_websocket_pong(*number);
                }
                if let Err(error) = client.session.on_control(now) {
                    self.report(slot, &error);
                }
            }
        }
    }

    pub(super) fn on_text(&mut self, slot: u32, text: &str) {
        if self.connections[slot as usize].is_resumable && !self.claim(slot, text) {
            return;
        }
        self.watch_in(slot, text);
        let now = self.now;
        let Some(client) = self.client(slot) else { return };
        match client.session.on_text(text, now) {
            Ok(action) => {
                self.metrics().received(kind_of(action.as_ref()), text.len());
                if let Some(action) = action {
                    self.apply(slot, action);
                }
            }
            Err(error) => self.on_error(slot, &error, text.len()),
        }
    }

    fn on_error(&mut self, slot: u32, error: &ProtocolError, bytes: usize) {
        self.metrics().received(ReceivedKind::Rejected, bytes);
        self.report(slot, error);
    }

    /// Reports an error to the client, or closes the connection.
    pub(super) fn report(&mut self, slot: u32, error: &ProtocolError) {
        let (kind, reason) = error.labels();
        self.node.metrics().message_rejected(kind, reason);
        self.log_rejected(slot, error, kind, reason);
        self.record_authorization(slot, error);
        if let ProtocolError::Subscription { channel, rejection } = error
            && let Some((kind, status)) = rejection.subscription_error()
        {
            let message = rejection.message(channel);
            self.respond(slot, event::subscription_error(channel, kind, status, &message));
        }
        match error.consequence() {
            Consequence::Report(code) => {
                self.respond(slot, event::error(code, error.channel(), &error.to_string()));
            }
            Consequence::Close(code) => {
                self.close(slot, &code);
                if code == CloseCode::TooManyMessages {
                    // The rest of the input is discarded.
                    self.set_peer_state(slot, PeerState::Undecodable);
                }
            }
        }
    }

    fn log_rejected(&mut self, slot: u32, error: &ProtocolError, kind: &str, reason: &str) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let Some(client) = self.client(slot) else { return };
        let (socket_id, app) = (client.session.socket_id(), client.hub.app_id());
        let channel = if let ProtocolError::Subscription { channel, .. } = error {
            Some(channel.as_str())
        } else {
            None
        };
        let error = error.log_text();
        tracing::debug!(%socket_id, app = &*app, kind, channel, reason, error, "message rejected");
    }

    fn apply(&mut self, slot: u32, action: Action<'_, SubscriptionHandle>) {
        match action {
            Action::Pong => self.respond(slot, event::pong()),
            Action::Subscribe { channel, member } => self.subscribe(slot, channel, member),
            Action::Unsubscribe { channel, subscription } => {
                let now = self.now;
                let node = Arc::clone(&self.node);
                let Some(client) = self.client(slot) else { return };
                let hub = Arc::clone(&client.hub);
                let resumable = client.session.resumable_mut();
                if resumable.is_some_and(|resumable| resumable.forget(&channel)) {
                    node.broker().release_log(&hub, &channel, now);
                }
                self.unsubscribe(&hub, &channel, &subscription);
            }
            Action::Publish { channel, name, data, user_id } => {
                self.publish(slot, &channel, &name, &data, user_id.as_ref());
            }
            Action::SignIn { user, user_data } => self.sign_in(slot, user, &user_data),
        }
    }

    fn publish(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        name: &str,
        data: &EventData<'_>,
        user_id: Option<&Arc<str>>,
    ) {
        let (connection, now) = (self.connection_ref(slot), self.now);
        let node = Arc::clone(&self.node);
        let Some(client) = self.client(slot) else { return };
        let sender = client.session.socket_id();
        let event = AcceptedClientEvent { connection, channel, name, data, sender, user_id };
        node.broker().publish_client_event(&client.hub, event, now);
    }

    fn sign_in(&mut self, slot: u32, user: User, user_data: &str) {
        let connection = self.connection_ref(slot);
        let node = Arc::clone(&self.node);
        let Some(client) = self.client(slot) else { return };
        let before = client.session.user();
        let signed_in = node.broker().sign_in(&client.hub, connection, &user, user_data, before);
        let is_truncated = user.watchlist_truncated;
        client.session.set_user(user);
        self.respond(slot, signed_in.success);
        if is_truncated {
            let error = ProtocolError::WatchlistTooLong { max: User::WATCHLIST_MAX };
            self.report(slot, &error);
        }
        if let Some(watchlist) = signed_in.watchlist {
            self.respond(slot, watchlist);
        }
    }
}

fn kind_of(action: Option<&Action<'_, SubscriptionHandle>>) -> ReceivedKind {
    match action {
        Some(Action::Pong) => ReceivedKind::Ping,
        Some(Action::Subscribe { .. }) => ReceivedKind::Subscribe,
        Some(Action::Unsubscribe { .. }) => ReceivedKind::Unsubscribe,
        Some(Action::Publish { .. }) => ReceivedKind::ClientEvent,
        Some(Action::SignIn { .. }) => ReceivedKind::SignIn,
        None => ReceivedKind::Other,
    }
}

impl Connection {
    /// Whether the connection is not closing.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether the client's messages are discarded.
    fn is_undecodable(&self) -> bool {
        match &self.phase {
            Phase::Http(_) | Phase::Open(_) => false,
            Phase::Closing(closing) => closing.peer_state == PeerState::Undecodable,
        }
    }
}
