//! Takes over connections after their handshake.

use super::{
    close_reason::CloseReason,
    connection::{Connection, Phase, Registration, UpgradedSocket},
    dirty::Urgency,
    event_loop::Shard,
    socket::Socket,
};
use crate::{
    hub::ConnectionKey,
    protocol::{CloseCode, Frame, event},
};

impl Shard {
    /// The key of the connection that is inserted next.
    pub(super) fn next_key(&mut self) -> ConnectionKey {
        let slot = u32::try_from(self.connections.vacant_key());
        self.generation = self.generation.wrapping_add(1);
        let slot = slot.expect("fewer connections than file descriptors");
        ConnectionKey { slot, generation: self.generation }
    }

    pub(super) fn add_connection(&mut self, upgraded: UpgradedSocket) {
        let UpgradedSocket { socket, tls, response, received, client, permit, drain } = upgraded;
        let key = self.next_key();
        let rejection = client.as_ref().err().cloned();
        let mut phase = Phase::of_client(client, self.now);
        if let Phase::Closing(closing) = &mut phase {
            closing.permit = Some(permit);
        }
        let mut connection = Connection::new(Socket::new(socket, tls), key, phase, drain);
        let registered = self.readiness.register(connection.socket.source(), key);
        connection.registration = Registration::ReadableAndWritable;
        self.connections.insert(connection);
        if registered.is_err() {
            return self.drop_connection(key.slot, CloseReason::NetworkError);
        }
        self.open(key.slot, Frame::raw(response), rejection.as_ref(), &received);
    }

    /// Starts a WebSocket after its handshake. `received` are bytes that the client sent behind it.
    pub(super) fn open(
        &mut self,
        slot: u32,
        response: Frame,
        rejection: Option<&CloseCode>,
        received: &[u8],
    ) {
        let connection = &mut self.connections[slot as usize];
        let key = connection.key;
        self.dirty.add(slot, &mut connection.queued, Urgency::Urgent);
        self.schedule_check(slot);
        self.send_handshake(slot, response, rejection);
        if !received.is_empty() {
            self.catch_panic_for(slot, |shard, slot| shard.receive(slot, received));
        }
        // TLS may have received more than the HTTP library has read, and the poller reports no edge
        // for it.
        if self.is_alive(key) && self.connections[slot as usize].socket.is_tls() {
            self.read_later(slot);
        }
        if self.drain_schedule.is_some() && self.is_open(key) {
            self.close(slot, &CloseCode::ShuttingDown);
        }
        self.evict_if_disabled(key);
    }

    /// Queues the first frames, so that they are sent in one write.
    fn send_handshake(&mut self, slot: u32, response: Frame, rejection: Option<&CloseCode>) {
        self.metrics().sent(response.kind(), 1, response.bytes().len());
        let connection = &mut self.connections[slot as usize];
        connection.outbox.push_control(response);
        if let Some(code) = rejection {
            return self.queue_close_frames(slot, code);
        }
        if let Phase::Open(client) = &connection.phase {
            let socket_id = client.session.socket_id();
            let activity_timeout = client.session.activity_timeout();
            let (app, from) = (client.hub.app_id(), &client.info);
            let (address, origin) = (from.address, from.origin.as_deref());
            tracing::info!(%socket_id, app = &*app, %address, origin, "connection opened");
            self.send(slot, event::connection_established(socket_id, activity_timeout.as_secs()));
        }
    }
}
