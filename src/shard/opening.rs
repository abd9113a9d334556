//! Takes over connections after their handshake.

use super::{
    close_reason::CloseReason,
    connection::{Closing, Connection, PeerState, Phase, REJECTION_TIMEOUT, UpgradedSocket},
    dirty::Urgency,
    event_loop::Shard,
    socket::Socket,
};
use crate::{
    hub::ConnectionKey,
    protocol::{CloseCode, Frame, event},
};

impl Shard {
    pub(super) fn add_connection(&mut self, upgraded: UpgradedSocket) {
        let UpgradedSocket { socket, tls, response, received, client, permit, drain } = upgraded;
        let entry = self.connections.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("fewer connections than file descriptors");
        self.generation = self.generation.wrapping_add(1);
        let key = ConnectionKey { slot, generation: self.generation };
        let rejection = client.as_ref().err().cloned();
        let phase = match client {
            Ok(client) => Phase::Open(client),
            Err(code) => Phase::Closing(Box::new(Closing {
                deadline: self.now + REJECTION_TIMEOUT,
                reason: CloseReason::ByServer(code),
                peer_state: PeerState::AwaitingClose,
                next_read_at: None,
                client: None,
                _permit: Some(permit),
            })),
        };
        let connection = entry.insert(Connection::new(Socket::new(socket, tls), key, phase, drain));
        let registered = self.readiness.register(connection.socket.source(), key);
        self.dirty.add(slot, &mut connection.queued, Urgency::Urgent);
        self.schedule_check(slot);
        self.send_handshake(slot, Frame::raw(response), rejection.as_ref());
        match registered {
            Err(_broken) => self.drop_connection(slot, CloseReason::NetworkError),
            Ok(()) if received.is_empty() => {}
            Ok(()) => self.catch_panic_for(slot, |shard, slot| shard.receive(slot, &received)),
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
