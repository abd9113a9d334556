//! The faults of nodes, of their network and of Redis.

use super::World;
use crate::broker::redis::simulation::network::{Direction, KeptData, Late, OldMaster, WireFilter};
use rand::RngExt as _;
use std::{ops::RangeInclusive, time::Duration};
use tokio::time::Instant;

/// The one-way delay to a nearby Redis.
pub(super) const NEAR: RangeInclusive<Duration> =
    Duration::from_micros(100)..=Duration::from_millis(2);

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::broker::redis::simulation) enum Fault {
    /// A node is killed, and another one starts in its place later.
    KillNode,
    /// No bytes pass between a node and Redis, as if the node were paused.
    StallNode,
    /// Bytes from Redis do not reach the node.
    StallToNode,
    /// Bytes from the node do not reach Redis.
    StallToServer,
    /// The connections of a node are reset.
    Cut,
    /// The connections of a node are reset, and bytes that it has sent on them are executed seconds later.
    CutWithLateBytes,
    /// The network of a node is interrupted for longer than it waits, and its bytes arrive after it has reconnected.
    AwayWithLateBytes,
    PauseRedis,
    RestartWithData,
    RestartEmpty,
    /// Redis restarts without its last writes.
    RestartOlder,
    /// Redis restarts without its last writes, and a node is disconnected until the others continue without it.
    RestartOlderWithoutNode,
    Failover,
    Flush,
    ClockForward,
    ClockBackward,
    /// Keys are deleted.
    Evict,
    Distance,
    SlowNetwork,
    ReadOnly,
    OutOfMemory,
    NoRights,
    /// A slot moves to another server.
    MoveSlot,
    /// All slots of a server move away, and it becomes a replica.
    EmptyServer,
}

/// The time of a fault, and random durations for its parameters.
#[derive(Clone, Copy, Debug)]
struct FaultTimes {
    now: Instant,
    short: Duration,
    long: Duration,
    late: Duration,
}

impl Fault {
    /// Faults of nodes and of their networks.
    const OF_NODES: [Self; 9] = [
        Self::KillNode,
        Self::StallNode,
        Self::StallToNode,
        Self::StallToServer,
        Self::Cut,
        Self::CutWithLateBytes,
        Self::AwayWithLateBytes,
        Self::Distance,
        Self::SlowNetwork,
    ];
    /// Commands that Redis rejects for a while.
    const REJECTIONS: [Self; 3] = [Self::ReadOnly, Self::OutOfMemory, Self::NoRights];
    /// Faults of a single Redis.
    const ON_ONE: [Self; 9] = [
        Self::PauseRedis,
        Self::RestartWithData,
        Self::RestartEmpty,
        Self::RestartOlder,
        Self::RestartOlderWithoutNode,
        Self::Failover,
        Self::Flush,
        Self::ClockForward,
        Self::ClockBackward,
    ];
    /// Faults of the servers of a Redis Cluster.
    const ON_CLUSTER: [Self; 5] =
        [Self::PauseRedis, Self::Flush, Self::ClockForward, Self::MoveSlot, Self::EmptyServer];

    /// All faults except for the eviction of keys.
    pub(in crate::broker::redis::simulation) fn all(is_redis_cluster: bool) -> Vec<Self> {
        let of_nodes = Self::OF_NODES.iter();
        if is_redis_cluster {
            of_nodes.chain(&Self::ON_CLUSTER).copied().collect()
        } else {
            of_nodes.chain(&Self::ON_ONE).chain(&Self::REJECTIONS).copied().collect()
        }
    }
}

impl World {
    /// Draws a fault and injects it.
    pub(super) fn fault(&mut self) {
        let all = match self.plan.faults.as_slice() {
            [] => Fault::all(self.plan.is_redis_cluster),
            some => some.to_vec(),
        };
        let fault = all[self.random.random_range(0..all.len())];
        let slot = self.random.random_range(0..self.nodes.len());
        let server = self.random.random_range(0..self.addresses.len());
        self.happen(fault, slot, server);
    }

    /// Injects a fault at the node of a slot, or at a server.
    fn happen(&mut self, fault: Fault, slot: usize, server: usize) {
        let now = Instant::now();
        let times = FaultTimes {
            now,
            short: self.draw(100..3_000),
            long: self.draw(300..15_000),
            late: self.draw(100..6_000),
        };
        let FaultTimes { short, long, late, .. } = times;
        let host = &self.addresses[server].0;
        self.note(format!(
            "{fault:?} node {slot} {host} short {short:?} long {long:?} late {late:?}"
        ));
        let disturbed = if Fault::OF_NODES.contains(&fault) {
            self.happen_to_node(fault, slot, times)
        } else if Fault::REJECTIONS.contains(&fault) {
            self.reject(fault, server, times);
            None
        } else {
            self.happen_to_redis(fault, slot, server, times)
        };
        if let Some(time) = disturbed {
            self.history.disturbed.entry(slot).or_default().push((now, now + time));
        }
    }

    /// Records how long the node is disturbed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are faults of Redis")]
    fn happen_to_node(&mut self, fault: Fault, slot: usize, times: FaultTimes) -> Option<Duration> {
        let FaultTimes { now, long, late, .. } = times;
        self.history.has_lost_nodes |= !matches!(
            fault,
            Fault::Cut | Fault::CutWithLateBytes | Fault::Distance | Fault::SlowNetwork
        );
        let wires = WireFilter::all().of(slot);
        match fault {
            Fault::KillNode => {
                let running = self.nodes.iter().flatten().count();
                if running < 2 || self.nodes[slot].is_none() {
                    return None;
                }
                self.kill(slot, Late::After(late));
                self.revivals.insert(slot, now + long);
            }
            Fault::StallNode => {
                self.network.stall(&wires, Direction::ToNode, now + long);
                self.network.stall(&wires, Direction::ToServer, now + long);
            }
            Fault::StallToNode => self.network.stall(&wires, Direction::ToNode, now + long),
            Fault::StallToServer => self.network.stall(&wires, Direction::ToServer, now + long),
            Fault::Cut => {
                self.network.cut(&wires, Late::Lost);
                return Some(Duration::ZERO);
            }
            Fault::CutWithLateBytes => {
                self.network.cut(&wires, Late::After(late));
                return Some(late);
            }
            Fault::AwayWithLateBytes => {
                // Bytes that are sent meanwhile are held, and arrive after the end of the connection.
                let away = Duration::from_millis(3_600);
                self.network.stall(&wires, Direction::ToServer, now + away);
                self.network.stall(&wires, Direction::ToNode, now + away);
                self.mends.push((now + away - Duration::from_millis(50), fault));
                self.away = Some((slot, late));
                return Some(away + late);
            }
            Fault::Distance => {
                let way = Duration::from_millis(self.random.random_range(10..200));
                self.network.set_latency(Some(slot), way..=way + way / 10);
                self.mends.push((now + long, fault));
                return None;
            }
            Fault::SlowNetwork => {
                self.network.set_bandwidth(slot, Some(125_000));
                self.mends.push((now + long, fault));
                return None;
            }
            _ => unreachable!("{fault:?} is a fault of Redis"),
        }
        Some(long)
    }

    fn reject(&mut self, fault: Fault, server: usize, times: FaultTimes) {
        let (host, port) = self.addresses[server].clone();
        self.network.rules(&host, port, |rules| {
            rules.read_only |= fault == Fault::ReadOnly;
            rules.out_of_memory |= fault == Fault::OutOfMemory;
            if fault == Fault::NoRights {
                rules.everything = Some("NOPERM this user has no permissions".to_owned());
            }
        });
        self.mends.push((times.now + times.short, fault));
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are faults of nodes")]
    fn happen_to_redis(
        &mut self,
        fault: Fault,
        slot: usize,
        server: usize,
        times: FaultTimes,
    ) -> Option<Duration> {
        let FaultTimes { now, long, .. } = times;
        let (host, port) = self.addresses[server].clone();
        match fault {
            Fault::PauseRedis => self.network.pause(&host, port, now + long / 2),
            Fault::RestartWithData => self.restart(server, KeptData::All),
            Fault::RestartEmpty => self.restart(server, KeptData::Nothing),
            Fault::RestartOlder => {
                let lost = self.random.random_range(1..20);
                self.restart(server, KeptData::AllBut(lost));
            }
            Fault::RestartOlderWithoutNode => {
                let lost = self.random.random_range(1..6);
                self.restart(server, KeptData::AllBut(lost));
                self.history.has_lost_nodes = true;
                let away = Duration::from_secs(5);
                for direction in [Direction::ToServer, Direction::ToNode] {
                    self.network.stall(&WireFilter::all().of(slot), direction, now + away);
                }
                return Some(away);
            }
            Fault::Failover => {
                let lost = self.random.random_range(0..6);
                self.history.allow_gaps(lost == 0);
                self.history.has_lost_data = true;
                self.network.failover(&host, port, lost, OldMaster::Dies);
                self.keep_rules(server);
            }
            Fault::Flush => {
                self.history.allow_gaps(false);
                self.history.has_lost_data = true;
                self.network.flush(&host, port);
            }
            Fault::ClockForward => {
                // Records expire.
                self.history.has_dropped_records = true;
                let ms = [700, 2_000, 3_500, 60_000, 3_600_000][self.random.random_range(0..5)];
                if 60_000 <= ms {
                    self.history.allow_gaps(false);
                }
                self.network.step_clock(&host, port, ms);
            }
            Fault::ClockBackward => {
                let ms = [700, 2_000, 3_500, 60_000, 600_000][self.random.random_range(0..5)];
                self.network.step_clock(&host, port, -ms);
            }
            Fault::Evict => {
                self.history.allow_gaps(false);
                self.history.has_dropped_records = true;
                self.evict(&host, port);
            }
            Fault::MoveSlot => self.move_slots(server, 1),
            Fault::EmptyServer => self.move_slots(server, usize::MAX),
            _ => unreachable!("{fault:?} is not a fault of Redis"),
        }
        None
    }

    fn evict(&mut self, host: &str, port: u16) {
        let keys = self.network.keys(host, port);
        for _ in 0..self.random.random_range(1..5) {
            if !keys.is_empty() {
                let key = &keys[self.random.random_range(0..keys.len())];
                self.note(format!("  {}", String::from_utf8_lossy(key)));
                self.network.evict(host, port, key);
            }
        }
    }

    fn restart(&mut self, server: usize, keep: KeptData) {
        let (host, port) = self.addresses[server].clone();
        let has_all = matches!(keep, KeptData::All);
        self.history.has_lost_data |= !has_all;
        self.history.allow_gaps(has_all);
        self.network.restart(&host, port, keep);
        self.keep_rules(server);
    }

    /// A restarted server pushes in the same order as before.
    fn keep_rules(&self, server: usize) {
        let (host, port) = &self.addresses[server];
        let is_later = self.plan.seed % 2 == 1;
        self.network.rules(host, *port, |rules| rules.pushes_after_reply = is_later);
    }

    /// Ends the faults of Redis and of the network that are over.
    pub(super) fn end_due_faults(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.mends.extract_if(.., |(at, _)| *at <= now).collect();
        let addresses = self.addresses.clone();
        for (_, fault) in due {
            for (host, port) in &addresses {
                self.network.rules(host, *port, |rules| {
                    rules.read_only &= fault != Fault::ReadOnly;
                    rules.out_of_memory &= fault != Fault::OutOfMemory;
                    if fault == Fault::NoRights {
                        rules.everything = None;
                    }
                });
            }
            for slot in 0..self.nodes.len() {
                if fault == Fault::Distance {
                    self.network.set_latency(Some(slot), NEAR);
                }
                if fault == Fault::SlowNetwork {
                    self.network.set_bandwidth(slot, None);
                }
            }
            if fault == Fault::AwayWithLateBytes
                && let Some((slot, late)) = self.away.take()
            {
                self.network.cut(&WireFilter::all().of(slot), Late::After(late));
            }
        }
    }

    /// Moves slots with their keys from a server to the next one.
    fn move_slots(&mut self, server: usize, most: usize) {
        let (host, port) = self.addresses[server].clone();
        let others = (1..self.addresses.len()).map(|step| (server + step) % self.addresses.len());
        let mut masters = others.filter(|other| !self.replicas.contains(other));
        let Some(to) = masters.next().map(|other| self.addresses[other].clone()) else { return };
        let informed = self.addresses.clone();
        let informed: Vec<(&str, u16)> =
            informed.iter().map(|(host, port)| (host.as_str(), *port)).collect();
        let slots = self.network.slots_of(&host, port);
        let first = if slots.is_empty() { 0 } else { self.random.random_range(0..slots.len()) };
        let all = most == usize::MAX;
        let some = slots.iter().cycle().skip(first).take(most.min(slots.len()));
        for slot in some {
            self.network.begin_migration(*slot, (&to.0, to.1));
            self.network.finish_migration(*slot, (&to.0, to.1), &informed);
        }
        if all && !slots.is_empty() {
            self.network.make_replica(&host, port, (&to.0, to.1));
            self.replicas.insert(server);
        }
    }
}
