//! A server in the network: its state, its clock, and its output.

use super::{
    NetworkState,
    wire::{Down, Up},
};
use crate::broker::redis::simulation::model::{
    replies::Bytes,
    resp,
    server::{ConnectionId, ModelServer},
    slots::Address,
};
use redis::Value;
use tokio::time::Instant;

/// The index of a server. A server that takes over an address has a new index.
pub(super) type HostId = usize;

/// The limit of the output for a subscriber that does not read: `client-output-buffer-limit pubsub 32mb`.
const SUBSCRIBER_OUTPUT_MAX: usize = 32 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct SimHost {
    pub(super) server: ModelServer,
    pub(super) address: Address,
    pub(super) offset_us: i64,
    pub(super) is_down: bool,
    /// The time until which nothing is executed.
    pub(super) paused_until: Option<Instant>,
    pub(super) commands: u64,
    /// The servers whose subscribers receive messages that are published on shard channels here.
    pub(super) replicas: Vec<HostId>,
}

impl SimHost {
    pub(super) fn new(server: ModelServer, address: Address) -> Self {
        Self {
            server,
            address,
            offset_us: 0,
            is_down: false,
            paused_until: None,
            commands: 0,
            replicas: Vec::new(),
        }
    }
}

impl NetworkState {
    /// Has a server execute a command now. Sends its pushes, and returns the replies.
    pub(super) fn execute(
        &mut self,
        id: HostId,
        connection: ConnectionId,
        words: &[Bytes],
    ) -> Vec<Value> {
        let now = self.now_us(id);
        let host = &mut self.hosts[id];
        host.commands += u64::from(connection != 0);
        let replies = host.server.execute(now, connection, words);
        let after_reply = host.server.rules().pushes_after_reply;
        let pushes = host.server.take_pushes();
        let published = host.server.take_published();
        let (own, others): (Vec<_>, Vec<_>) =
            pushes.into_iter().partition(|(to, _)| after_reply && *to == connection);
        self.push_all(id, others);
        let replies = if own.is_empty() {
            replies
        } else {
            replies.into_iter().chain(own.into_iter().map(|(_, push)| push)).collect()
        };
        for replica in self.hosts[id].replicas.clone() {
            for (channel, message) in &published {
                self.hosts[replica].server.receive(channel, message);
            }
            let pushes = self.hosts[replica].server.take_pushes();
            self.push_all(replica, pushes);
        }
        replies
    }

    /// Sends pushes of a server to its connections.
    pub(super) fn push_all(&mut self, id: HostId, pushes: Vec<(ConnectionId, Value)>) {
        for (connection, push) in pushes {
            let mut bytes = Vec::new();
            resp::write(&push, &mut bytes);
            self.send_down(connection, Down::Bytes(bytes));
            let queued = self.wires.get(&connection).map_or(0, |wire| wire.down.bytes());
            let is_slow = SUBSCRIBER_OUTPUT_MAX < queued;
            if is_slow && self.hosts[id].server.is_subscriber(connection) {
                self.reset_by_server(connection);
            }
        }
    }

    /// Handles what has arrived at a server on a wire.
    pub(super) fn receive(&mut self, id: ConnectionId, arrived: Up) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let host = wire.host;
        match arrived {
            Up::Open => {
                let is_listening = host.is_some_and(|host| !self.hosts[host].is_down);
                self.send_down(id, if is_listening { Down::Accepted } else { Down::Rejected });
            }
            Up::Bytes(bytes) => {
                wire.input.extend_from_slice(&bytes);
                if let Some(waker) = wire.writer.take() {
                    waker.wake();
                }
                self.read_commands(id);
            }
            Up::End => {
                if let Some(host) = host {
                    self.hosts[host].server.disconnect(id);
                }
                self.wires.remove(&id);
            }
        }
    }

    fn read_commands(&mut self, id: ConnectionId) {
        loop {
            let Some(wire) = self.wires.get_mut(&id) else { return };
            let Some(host) = wire.host else { return };
            if self.hosts[host].is_down || wire.is_reset {
                return;
            }
            let Some(words) = resp::take_command(&mut wire.input) else { return };
            let replies = self.execute(host, id, &words);
            let mut bytes = Vec::new();
            for reply in &replies {
                resp::write(reply, &mut bytes);
            }
            self.send_down(id, Down::Bytes(bytes));
        }
    }
}
