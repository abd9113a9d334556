//! Wires: connections between nodes and servers, and the delivery of their bytes.

use super::{Direction, NetworkState, NodeId, host::HostId, pipe::Pipe};
use crate::broker::redis::simulation::model::{server::ConnectionId, slots::Address};
use rand::RngExt as _;
use std::{collections::VecDeque, task::Waker, time::Duration};
use tokio::{sync::oneshot, time::Instant};

/// An item that a node sends.
#[derive(Debug)]
pub(super) enum Up {
    /// The node opens the connection.
    Open,
    Bytes(Vec<u8>),
    /// The node has closed the connection.
    End,
}

/// An item that a server sends.
#[derive(Debug)]
pub(super) enum Down {
    Accepted,
    Rejected,
    Bytes(Vec<u8>),
    /// The server has closed the connection.
    Reset,
}

/// One connection of a node to a server.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) node: NodeId,
    /// The server; `None` if no server listens at the address.
    pub(super) host: Option<HostId>,
    pub(super) address: Address,
    pub(super) up: Pipe<Up>,
    pub(super) down: Pipe<Down>,
    /// Bytes that have arrived at the server and are not a complete command yet.
    pub(super) input: Vec<u8>,
    /// Bytes that have arrived at the node and were not read yet.
    pub(super) arrived: VecDeque<u8>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    accept: Option<oneshot::Sender<bool>>,
    /// Whether the node has lost or closed the connection; bytes for the node are dropped then.
    pub(super) is_closed: bool,
    /// Whether the network has cut the connection.
    pub(super) is_cut: bool,
    /// Whether the server has closed the connection.
    pub(super) is_reset: bool,
}

impl NetworkState {
    /// Starts to open a wire.
    pub(super) fn open(
        &mut self,
        node: NodeId,
        host: Option<HostId>,
        address: &Address,
        accept: oneshot::Sender<bool>,
    ) -> ConnectionId {
        self.last_wire += 1;
        let id = self.last_wire;
        let wire = Wire {
            node,
            host,
            address: address.clone(),
            up: Pipe::new(),
            down: Pipe::new(),
            input: Vec::new(),
            arrived: VecDeque::new(),
            reader: None,
            writer: None,
            accept: Some(accept),
            is_closed: false,
            is_cut: false,
            is_reset: false,
        };
        self.wires.insert(id, wire);
        self.send_up(id, Up::Open);
        id
    }

    pub(super) fn send_up(&mut self, id: ConnectionId, what: Up) {
        let len = if let Up::Bytes(bytes) = &what { bytes.len() } else { 0 };
        let Some(wire) = self.wires.get(&id) else { return };
        let due = self.arrival(wire.node, wire.up.last(), len);
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.up.push(due, len, what);
        let due = wire.up.last();
        self.schedule(id, Direction::ToServer, due);
    }

    pub(super) fn send_down(&mut self, id: ConnectionId, what: Down) {
        let len = if let Down::Bytes(bytes) = &what { bytes.len() } else { 0 };
        let Some(wire) = self.wires.get(&id).filter(|wire| !wire.is_closed && !wire.is_reset)
        else {
            return;
        };
        let due = self.arrival(wire.node, wire.down.last(), len);
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.down.push(due, len, what);
        let due = wire.down.last();
        self.schedule(id, Direction::ToNode, due);
    }

    /// The arrival time of something that is sent now, after what arrives at `last`.
    fn arrival(&mut self, node: NodeId, last: Instant, len: usize) -> Instant {
        let latency = self.latencies.get(&node).unwrap_or(&self.latency).clone();
        let latency = self.random.random_range(latency);
        let arrival = Instant::now() + latency;
        let Some(bandwidth) = self.bandwidths.get(&node) else { return arrival };
        let len = f64::from(u32::try_from(len).expect("less than 4 GiB"));
        let takes = Duration::from_secs_f64(len / f64::from(*bandwidth));
        arrival.max(last) + takes
    }

    /// Delivers what has arrived at one end of a wire, unless a fault delays it.
    pub(super) fn deliver(&mut self, id: ConnectionId, direction: Direction, now: Instant) {
        loop {
            let Some(wire) = self.wires.get(&id) else { return };
            let next = match direction {
                Direction::ToServer => wire.up.next(),
                Direction::ToNode => wire.down.next(),
            };
            // A later part has its own wake-up.
            if next.is_none_or(|next| now < next) {
                return;
            }
            if let Some(until) = self.held_until(wire, direction, now) {
                self.schedule(id, direction, until);
                return;
            }
            let Some(wire) = self.wires.get_mut(&id) else { return };
            match direction {
                Direction::ToServer => {
                    let Some(up) = wire.up.take(now) else { return };
                    self.receive(id, up);
                }
                Direction::ToNode => {
                    let Some(down) = wire.down.take(now) else { return };
                    wire.arrive(down);
                }
            }
        }
    }

    /// The time until which a fault delays deliveries at that end.
    fn held_until(&self, wire: &Wire, direction: Direction, now: Instant) -> Option<Instant> {
        let stalls = self.stalls.iter().filter(|stall| stall.holds(wire, direction));
        let stalled = stalls.map(|stall| stall.until).max();
        let paused = match direction {
            Direction::ToServer => wire.host.and_then(|host| self.hosts[host].paused_until),
            Direction::ToNode => None,
        };
        stalled.max(paused).filter(|until| now < *until)
    }

    /// Closes a connection from the server's side.
    pub(super) fn reset_by_server(&mut self, id: ConnectionId) {
        self.send_down(id, Down::Reset);
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.is_reset = true;
        if let Some(host) = wire.host {
            self.hosts[host].server.disconnect(id);
        }
    }
}

impl Wire {
    /// Handles an item that has arrived at the node.
    fn arrive(&mut self, down: Down) {
        match down {
            Down::Accepted => self.finish_opening(true),
            Down::Rejected => {
                self.is_reset = true;
                self.finish_opening(false);
            }
            Down::Bytes(bytes) => self.arrived.extend(bytes),
            Down::Reset => self.is_closed = true,
        }
        self.wake();
    }

    fn finish_opening(&mut self, is_accepted: bool) {
        if let Some(accept) = self.accept.take() {
            // The node may have cancelled the connection attempt.
            let _ = accept.send(is_accepted);
        }
    }

    /// Closes the connection from the node's side, or marks it as lost.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.arrived.clear();
        self.down.clear();
        self.accept = None;
        self.wake();
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}
