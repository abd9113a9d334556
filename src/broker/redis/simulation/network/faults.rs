//! Faults of wires and servers.

use super::{Network, NetworkState, NodeId, host::HostId, wire::Up, wire::Wire};
use crate::broker::redis::simulation::model::slots::Address;
use rand::RngExt as _;
use std::{ops::RangeInclusive, time::Duration};
use tokio::time::Instant;

/// A direction of a wire.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Direction {
    ToServer,
    ToNode,
}

/// Selects wires; all by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct WireFilter {
    node: Option<NodeId>,
    address: Option<Address>,
}

/// What happens to bytes in transit to a server when the wire is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Late {
    Lost,
    /// The bytes arrive after this time, and are executed then.
    After(Duration),
}

/// The data that a server keeps when it restarts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeptData {
    All,
    Nothing,
    /// All data but the last writes.
    AllBut(usize),
}

/// What happens to a master at a failover.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OldMaster {
    Dies,
    /// The old master keeps serving its connections and considers itself the master.
    Lives,
}

/// A period in which no bytes arrive on some wires.
#[derive(Debug)]
pub(super) struct Stall {
    wires: WireFilter,
    direction: Direction,
    pub(super) until: Instant,
}

impl WireFilter {
    /// All wires.
    pub(crate) fn all() -> Self {
        Self::default()
    }

    /// Restricts the selection to the wires of a node.
    #[must_use]
    pub(crate) fn of(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Restricts the selection to the wires to an address.
    #[must_use]
    pub(crate) fn to(self, host: &str, port: u16) -> Self {
        Self { address: Some((host.to_owned(), port)), ..self }
    }

    fn include(&self, wire: &Wire) -> bool {
        self.node.is_none_or(|node| node == wire.node)
            && self.address.as_ref().is_none_or(|address| *address == wire.address)
    }
}

impl Stall {
    pub(super) fn holds(&self, wire: &Wire, direction: Direction) -> bool {
        self.direction == direction && self.wires.include(wire)
    }
}

impl Network {
    /// Cuts wires and returns their number. Nodes detect it at once, servers when the last bytes arrive.
    pub(crate) fn cut(&self, wires: &WireFilter, late: Late) -> usize {
        self.change(|state| {
            let cut: Vec<_> = state
                .wires
                .iter()
                .filter(|(_, wire)| wires.include(wire) && !wire.is_closed)
                .map(|(id, _)| *id)
                .collect();
            for id in &cut {
                let Some(wire) = state.wires.get_mut(id) else { continue };
                wire.close();
                wire.is_cut = true;
                match late {
                    Late::Lost => wire.up.clear(),
                    Late::After(time) => wire.up.delay(Instant::now() + time),
                }
                state.send_up(*id, Up::End);
            }
            cut.len()
        })
    }

    /// Delays all bytes on wires in one direction until a time, including wires that are opened meanwhile.
    pub(crate) fn stall(&self, wires: &WireFilter, direction: Direction, until: Instant) {
        self.change(|state| {
            let now = Instant::now();
            state.stalls.retain(|stall| now < stall.until);
            state.stalls.push(Stall { wires: wires.clone(), direction, until });
        });
    }

    /// Ends all stalls.
    pub(crate) fn heal(&self) {
        self.change(|state| {
            state.stalls.clear();
            state.reschedule_all();
        });
    }

    /// Sets the one-way delay of a node from now on, or the default of all nodes.
    pub(crate) fn set_latency(&self, node: Option<NodeId>, latency: RangeInclusive<Duration>) {
        let mut state = self.lock();
        match node {
            Some(node) => drop(state.latencies.insert(node, latency)),
            None => state.latency = latency,
        }
    }

    /// Limits the bandwidth of each wire of a node in each direction, in bytes a second.
    pub(crate) fn set_bandwidth(&self, node: NodeId, bytes_per_second: Option<u32>) {
        let mut state = self.lock();
        match bytes_per_second {
            Some(bandwidth) => drop(state.bandwidths.insert(node, bandwidth)),
            None => drop(state.bandwidths.remove(&node)),
        }
    }

    /// Pauses a server until a time; it executes nothing.
    pub(crate) fn pause(&self, host: &str, port: u16, until: Instant) {
        self.change(|state| {
            let id = state.host_at(host, port);
            state.hosts[id].paused_until = Some(until);
            state.reschedule_all();
        });
    }

    /// Stops a server. Its connections are closed, and new ones rejected.
    pub(crate) fn kill(&self, host: &str, port: u16) {
        self.change(|state| {
            let id = state.host_at(host, port);
            state.kill(id);
        });
    }

    /// Starts a server that was killed, or restarts a running one.
    pub(crate) fn restart(&self, host: &str, port: u16, keep: KeptData) {
        self.change(|state| {
            let id = state.host_at(host, port);
            state.kill(id);
            let seed = state.random.random();
            let lost = match keep {
                KeptData::All => Some(0),
                KeptData::Nothing => None,
                KeptData::AllBut(lost) => Some(lost),
            };
            let host = &mut state.hosts[id];
            host.server = host.server.successor(seed, lost);
            host.is_down = false;
            host.paused_until = None;
        });
    }

    /// Removes all data of a server.
    pub(crate) fn flush(&self, host: &str, port: u16) {
        self.ask(host, port, &["FLUSHALL"]);
    }

    /// Steps the clock of a server forward, or backward.
    pub(crate) fn step_clock(&self, host: &str, port: u16, ms: i64) {
        let mut state = self.lock();
        let id = state.host_at(host, port);
        state.hosts[id].offset_us += ms * 1_000;
    }

    /// Deletes one key on a server, and returns whether it existed.
    pub(crate) fn evict(&self, host: &str, port: u16, key: &[u8]) -> bool {
        let mut state = self.lock();
        let id = state.host_at(host, port);
        let now = state.now_us(id);
        state.hosts[id].server.take(now, key).is_some()
    }

    /// Replaces a master by a replica without the last `lost` writes; new connections reach the replica.
    pub(crate) fn failover(&self, host: &str, port: u16, lost: usize, old: OldMaster) {
        self.change(|state| {
            let master = state.host_at(host, port);
            let seed = state.random.random();
            let server = state.hosts[master].server.successor(seed, Some(lost));
            let offset_us = state.hosts[master].offset_us;
            let replica = state.add_host(server, (host.to_owned(), port));
            state.hosts[replica].offset_us = offset_us;
            if old == OldMaster::Dies {
                state.kill(master);
            }
        });
    }

    /// Makes every former master at that address a replica: it rejects writes with `READONLY`.
    pub(crate) fn demote_old(&self, host: &str, port: u16) {
        let mut state = self.lock();
        let address = (host.to_owned(), port);
        let master = state.addresses[&address];
        for (id, host) in state.hosts.iter_mut().enumerate() {
            if id != master && host.address == address {
                host.server.rules().read_only = true;
            }
        }
    }
}

impl NetworkState {
    pub(super) fn kill(&mut self, id: HostId) {
        self.hosts[id].is_down = true;
        let open = self.wires.iter().filter(|(_, wire)| wire.host == Some(id) && !wire.is_reset);
        for wire in open.map(|(wire, _)| *wire).collect::<Vec<_>>() {
            self.reset_by_server(wire);
        }
    }

    /// Reschedules all deliveries that a fault may have delayed.
    fn reschedule_all(&mut self) {
        let now = Instant::now();
        let waiting: Vec<_> = self
            .wires
            .iter()
            .flat_map(|(id, wire)| {
                [
                    (*id, Direction::ToServer, wire.up.next()),
                    (*id, Direction::ToNode, wire.down.next()),
                ]
            })
            .filter_map(|(id, direction, next)| Some((id, direction, next?)))
            .collect();
        for (id, direction, next) in waiting {
            self.schedule(id, direction, next.max(now));
        }
    }
}
