//! HTTP connections: a shard owns their sockets until they are upgraded or handed over.
//!
//! What a request means is decided by a handler. A response is written after the deliveries that its request has
//! caused, and later while shards are behind.

use super::{
    admitted::AdmittedClient,
    close_reason::CloseReason,
    connection::{Connection, Phase, ReadUntil, Registration},
    event_loop::Shard,
    requests::{AcceptedSocket, Handled, HttpPhase, REST_TIMEOUT},
    socket::Socket,
};
use crate::{
    hub::{ConnectionKey, ConnectionRef, ShardSet},
    protocol::{CloseCode, Frame},
};
use std::io::{ErrorKind, Write};

/// The buffer of responses keeps this capacity at most, in bytes.
const RESPONSES_CAPACITY: usize = 64 * 1024;
/// Connections that are accepted before the shard does something else.
const ACCEPTS_AT_ONCE: usize = 32;

impl Shard {
    pub(super) fn add_accepted(&mut self, accepted: AcceptedSocket) {
        let AcceptedSocket { socket, mut handler, drain } = accepted;
        if !handler.is_direct() || self.node.is_draining() {
            return handler.hand_over(socket, Vec::new(), drain);
        }
        let key = self.next_key();
        handler.owned_by(&self.node, ConnectionRef { shard: self.index, key });
        let phase = Phase::Http(Box::new(HttpPhase::new(handler)));
        self.connections.insert(Connection::new(Socket::new(socket, None), key, phase, drain));
        self.http_connections += 1;
        self.schedule_check(key.slot);
        // The first request is usually there. What is received before the registration causes no event.
        self.catch_panic_for(key.slot, |shard, slot| shard.read(slot, ReadUntil::Short));
        self.register_readable(key);
    }

    fn register_readable(&mut self, key: ConnectionKey) {
        if !self.is_alive(key) {
            return;
        }
        let connection = &mut self.connections[key.slot as usize];
        if connection.registration == Registration::None {
            connection.registration = Registration::Readable;
            if self.readiness.register_readable(connection.socket.source(), key).is_err() {
                self.drop_connection(key.slot, CloseReason::NetworkError);
            }
        }
    }

    /// Accepts some connections.
    pub(super) fn accept_some(&mut self) {
        let shards = self.node.inboxes().shards().count();
        for _ in 0..ACCEPTS_AT_ONCE.div_ceil(shards) {
            let Some(accepted) = self.accepted.try_next(self.now) else { return };
            self.catch_panic(|shard| shard.add_accepted(accepted));
        }
        // There may be more of those that are accepted elsewhere.
        self.should_poll = true;
    }

    fn http(&mut self, slot: u32) -> Option<&mut HttpPhase> {
        match &mut self.connections.get_mut(slot as usize)?.phase {
            Phase::Http(http) => Some(http),
            Phase::Open(_) | Phase::Closing(_) => None,
        }
    }

    /// Handles bytes of an HTTP client.
    pub(super) fn receive_http(&mut self, slot: u32, bytes: &[u8]) {
        let Some(http) = self.http(slot) else { return };
        let joined;
        let mut input = bytes;
        if !http.received.is_empty() {
            http.received.extend_from_slice(bytes);
            if http.received.len() < http.needed {
                return;
            }
            joined = std::mem::take(&mut http.received);
            input = &joined;
        }
        let (start, mut reached) = (self.responses.bytes.len(), ShardSet::default());
        let mut is_answering = false;
        while !input.is_empty() {
            let now = self.now;
            let Connection { phase: Phase::Http(http), .. } = &mut self.connections[slot as usize]
            else {
                return;
            };
            // A request of another kind waits until the publishes before it are answered.
            if is_answering && !input.starts_with(b"POST ") {
                http.received = input.to_vec();
                break;
            }
            match http.handler.handle(input, &mut self.responses.bytes, now) {
                Handled::Response { consumed, reached: more } => {
                    (http.needed, http.incomplete_since) = (0, None);
                    input = &input[consumed..];
                    reached = reached.union(more);
                    is_answering = true;
                }
                Handled::Incomplete { needed } => {
                    http.received = input.to_vec();
                    http.needed = needed;
                    // While a response is not written, the rest is not read.
                    if !is_answering {
                        http.incomplete_since.get_or_insert(now);
                        self.schedule_check(slot);
                    }
                    break;
                }
                Handled::Begun { consumed } => {
                    (http.needed, http.incomplete_since) = (0, None);
                    http.received = input[consumed..].to_vec();
                    http.is_answering = true;
                    break;
                }
                Handled::Upgrade { consumed, client } => {
                    let response = self.responses.bytes.split_off(start);
                    return self.upgrade(slot, response, client, &input[consumed..]);
                }
                Handled::Other if is_answering => {
                    http.received = input.to_vec();
                    break;
                }
                Handled::Other => return self.hand_over(slot, input.to_vec()),
            }
        }
        if is_answering {
            let key = self.connections[slot as usize].key;
            self.http(slot).expect("it was one above").is_answering = true;
            let end = self.responses.bytes.len();
            self.responses.ready.push((key, start..end, reached));
        }
    }

    /// Makes a WebSocket of a connection, which has the same slot and registration.
    fn upgrade(
        &mut self,
        slot: u32,
        response: Vec<u8>,
        client: Result<Box<AdmittedClient>, CloseCode>,
        received: &[u8],
    ) {
        let now = self.now;
        let connection = &mut self.connections[slot as usize];
        let rejection = client.as_ref().err().cloned();
        let http = connection.set_client(Phase::of_client(client, now));
        if let (Phase::Http(http), Phase::Closing(closing)) = (http, &mut connection.phase) {
            closing.permit = Some(http.handler.into_permit());
        }
        self.http_connections -= 1;
        self.open(slot, Frame::raw(response), rejection.as_ref(), received);
    }

    /// Gives a connection to its handler, which serves it elsewhere.
    fn hand_over(&mut self, slot: u32, input: Vec<u8>) {
        let connection = self.connections.remove(slot as usize);
        let Phase::Http(http) = connection.phase else { return };
        self.http_connections -= 1;
        let mut socket = connection.socket;
        if connection.registration != Registration::None {
            // A socket that is not registered any more needs no removal.
            let _ = self.readiness.deregister(socket.source());
        }
        http.handler.hand_over(socket.into_tcp(), input, connection.drain);
    }

    /// Hands over a connection whose client has ended its half of it in the middle of a request. Returns false if it is in none.
    pub(super) fn hand_over_unfinished(&mut self, slot: u32) -> bool {
        let Some(http) = self.http(slot) else { return false };
        let is_unfinished = !http.is_answering && !http.received.is_empty();
        if is_unfinished {
            let input = std::mem::take(&mut http.received);
            self.hand_over(slot, input);
        }
        is_unfinished
    }

    /// Hands over all HTTP connections when the process shuts down.
    pub(super) fn hand_over_all(&mut self) {
        let is_http = |connection: &Connection| matches!(connection.phase, Phase::Http(_));
        let slots: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| is_http(connection))
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            let slot = u32::try_from(slot).expect("a slot of the slab");
            let Some(http) = self.http(slot) else { continue };
            if !http.is_answering {
                let input = std::mem::take(&mut http.received);
                self.hand_over(slot, input);
            }
        }
    }

    /// Closes an HTTP connection so that others can connect.
    pub(super) fn evict_http(&mut self, key: ConnectionKey) -> usize {
        if self.is_alive(key) && self.http(key.slot).is_some_and(|http| !http.is_answering) {
            tracing::debug!("connection evicted");
            self.drop_connection(key.slot, CloseReason::NetworkError);
        }
        1
    }

    /// Closes an HTTP connection whose client is too slow, or hands it over.
    pub(super) fn check_http_deadline(&mut self, slot: u32) {
        let now = self.now;
        let Some(http) = self.http(slot) else { return };
        if http.incomplete_since.is_some_and(|since| since + REST_TIMEOUT <= now) {
            let input = std::mem::take(&mut http.received);
            return self.hand_over(slot, input);
        }
        if http.deadline(now) <= now {
            return self.drop_connection(slot, CloseReason::NetworkError);
        }
        self.schedule_check(slot);
    }

    /// Adds the response to a request that was begun in an earlier turn.
    pub(super) fn respond_later(
        &mut self,
        key: ConnectionKey,
        response: &[u8],
        reached: ShardSet,
    ) -> usize {
        if response.is_empty() && self.is_alive(key) {
            self.drop_connection(key.slot, CloseReason::Panic);
        } else {
            let start = self.responses.bytes.len();
            self.responses.bytes.extend_from_slice(response);
            self.responses.ready.push((key, start..self.responses.bytes.len(), reached));
        }
        1
    }

    /// Writes the responses whose shards are not behind.
    pub(super) fn write_responses(&mut self) {
        let mut ready = std::mem::take(&mut self.responses.ready);
        let bytes = std::mem::take(&mut self.responses.bytes);
        for (key, range, reached) in ready.drain(..) {
            if self.node.pauses_publishers(reached) {
                self.responses.held.push((key, bytes[range].to_vec(), reached));
            } else {
                self.write_response(key, &bytes[range]);
            }
        }
        if self.responses.ready.is_empty() {
            self.responses.ready = ready;
        }
        if self.responses.bytes.is_empty() && bytes.capacity() <= RESPONSES_CAPACITY {
            self.responses.bytes = bytes;
            self.responses.bytes.clear();
        }
        if !self.responses.held.is_empty() {
            self.write_held_responses();
        }
    }

    fn write_held_responses(&mut self) {
        let held = std::mem::take(&mut self.responses.held);
        for (key, bytes, reached) in held {
            if self.node.pauses_publishers(reached) {
                self.responses.held.push((key, bytes, reached));
            } else {
                self.write_response(key, &bytes);
            }
        }
    }

    fn write_response(&mut self, key: ConnectionKey, bytes: &[u8]) {
        if !self.is_alive(key) {
            return;
        }
        let slot = key.slot;
        let written = match self.connections[slot as usize].socket.write(bytes) {
            Ok(len) if len == bytes.len() => return self.on_answered(slot),
            Ok(len) => len,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            Err(_broken) => return self.drop_connection(slot, CloseReason::NetworkError),
        };
        let rest = Frame::raw(bytes[written..].to_vec());
        self.connections[slot as usize].outbox.push_control(rest);
        self.set_blocked(slot);
        let now = self.now;
        if let Some(http) = self.http(slot) {
            http.blocked_since = Some(now);
        }
        self.schedule_check(slot);
    }

    /// Continues with the next request once a response is written.
    pub(super) fn on_answered(&mut self, slot: u32) {
        let now = self.now;
        let Some(http) = self.http(slot) else { return };
        if !std::mem::take(&mut http.is_answering) {
            return;
        }
        http.blocked_since = None;
        http.handler.answered(now);
        if self.node.is_draining() {
            let input = self.http(slot).map(|http| std::mem::take(&mut http.received));
            return self.hand_over(slot, input.unwrap_or_default());
        }
        let Some(http) = self.http(slot) else { return };
        if !http.received.is_empty() {
            if http.needed <= http.received.len() {
                self.catch_panic_for(slot, |shard, slot| shard.receive_http(slot, &[]));
            } else {
                http.incomplete_since = Some(now);
                self.schedule_check(slot);
            }
        }
        let may_have_input =
            self.connections.get(slot as usize).is_some_and(|connection| connection.may_have_input);
        if may_have_input {
            self.read_later(slot);
        }
    }
}
