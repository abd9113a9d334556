//! What can happen to nodes, to their network and to Redis.

use super::World;
use crate::cluster::simulation::network::{Direction, Keep, Late, OldMaster, Wires};
use rand::RngExt as _;
use std::time::Duration;
use tokio::time::Instant;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cluster::simulation) enum Fault {
    /// A node ends without a word, and another starts in its place later.
    KillNode,
    /// Nothing passes between a node and Redis, as if the node stood still.
    StallNode,
    /// The node does not hear Redis.
    StallToNode,
    /// Redis does not hear the node.
    StallToServer,
    /// The connections of a node are reset.
    Cut,
    /// The same, and what the node has sent on them is executed seconds later.
    CutWithLateBytes,
    /// The network of a node is away for longer than it waits, and its bytes come after it is back.
    AwayWithLateBytes,
    PauseRedis,
    RestartWithData,
    RestartEmpty,
    /// Redis has lost its last writes.
    RestartOlder,
    /// The same, and a node is away until the others go on without it.
    RestartOlderWithoutNode,
    Failover,
    Flush,
    ClockForward,
    ClockBackward,
    /// Keys are taken away.
    Evict,
    Distance,
    SlowNetwork,
    ReadOnly,
    OutOfMemory,
    NoRights,
    /// A slot of a partition moves to another server.
    MoveSlot,
    /// All slots of a server move away, and it becomes a replica.
    EmptyServer,
}

impl Fault {
    /// What can happen with one Redis.
    pub(in crate::cluster::simulation) const ON_ONE: [Self; 21] = [
        Self::KillNode,
        Self::StallNode,
        Self::StallToNode,
        Self::StallToServer,
        Self::Cut,
        Self::CutWithLateBytes,
        Self::AwayWithLateBytes,
        Self::PauseRedis,
        Self::RestartWithData,
        Self::RestartEmpty,
        Self::RestartOlder,
        Self::RestartOlderWithoutNode,
        Self::Failover,
        Self::Flush,
        Self::ClockForward,
        Self::ClockBackward,
        Self::SlowNetwork,
        Self::Distance,
        Self::ReadOnly,
        Self::OutOfMemory,
        Self::NoRights,
    ];
    /// What can happen with a Redis Cluster.
    pub(in crate::cluster::simulation) const ON_CLUSTER: [Self; 13] = [
        Self::KillNode,
        Self::StallNode,
        Self::StallToNode,
        Self::StallToServer,
        Self::Cut,
        Self::CutWithLateBytes,
        Self::AwayWithLateBytes,
        Self::PauseRedis,
        Self::Flush,
        Self::ClockForward,
        Self::Distance,
        Self::MoveSlot,
        Self::EmptyServer,
    ];
}

impl World {
    /// Draws something that can happen, and has it happen.
    pub(super) fn fault(&mut self) {
        let all: &[Fault] = match (self.plan.faults.is_empty(), self.plan.is_cluster) {
            (false, _) => &self.plan.faults.clone(),
            (true, false) => &Fault::ON_ONE,
            (true, true) => &Fault::ON_CLUSTER,
        };
        let fault = all[self.random.random_range(0..all.len())];
        let slot = self.random.random_range(0..self.nodes.len());
        let server = self.random.random_range(0..self.addresses.len());
        self.happen(fault, slot, server);
    }

    /// Has something happen to the node of a slot, or to a server.
    pub(super) fn happen(&mut self, fault: Fault, slot: usize, server: usize) {
        let now = Instant::now();
        let (host, port) = self.addresses[server].clone();
        let wires = Wires::all().of(slot);
        let (short, long) = (self.draw(100..3_000), self.draw(300..15_000));
        let late = self.draw(100..6_000);
        self.note(format!(
            "{fault:?} node {slot} {host} short {short:?} long {long:?} late {late:?}"
        ));
        let mut disturbed = None;
        match fault {
            Fault::KillNode => {
                let running = self.nodes.iter().flatten().count();
                if 1 < running && self.nodes[slot].is_some() {
                    self.kill(slot, Late::After(late));
                    self.revivals.insert(slot, now + long);
                    disturbed = Some(long);
                }
            }
            Fault::StallNode => {
                self.network.stall(&wires, Direction::ToNode, now + long);
                self.network.stall(&wires, Direction::ToServer, now + long);
                disturbed = Some(long);
            }
            Fault::StallToNode => {
                self.network.stall(&wires, Direction::ToNode, now + long);
                disturbed = Some(long);
            }
            Fault::StallToServer => {
                self.network.stall(&wires, Direction::ToServer, now + long);
                disturbed = Some(long);
            }
            Fault::Cut => {
                self.network.cut(&wires, Late::Lost);
                disturbed = Some(Duration::ZERO);
            }
            Fault::CutWithLateBytes => {
                self.network.cut(&wires, Late::After(late));
                disturbed = Some(late);
            }
            Fault::AwayWithLateBytes => {
                // Whatever is said meanwhile waits in the network, and comes after the end of the connection.
                let away = Duration::from_millis(3_600);
                self.network.stall(&wires, Direction::ToServer, now + away);
                self.network.stall(&wires, Direction::ToNode, now + away);
                self.mends.push((now + away - Duration::from_millis(50), fault));
                self.away = Some((slot, late));
                disturbed = Some(away + late);
            }
            Fault::PauseRedis => self.network.pause(&host, port, now + long / 2),
            Fault::RestartWithData => self.restart(server, Keep::All),
            Fault::RestartEmpty => self.restart(server, Keep::Nothing),
            Fault::RestartOlder => {
                let lost = self.random.random_range(1..20);
                self.restart(server, Keep::AllBut(lost));
            }
            Fault::RestartOlderWithoutNode => {
                let lost = self.random.random_range(1..6);
                self.restart(server, Keep::AllBut(lost));
                for direction in [Direction::ToServer, Direction::ToNode] {
                    self.network.stall(&wires, direction, now + Duration::from_secs(5));
                }
                disturbed = Some(Duration::from_secs(5));
            }
            Fault::Failover => {
                let lost = self.random.random_range(0..6);
                self.history.has_lost_data = true;
                self.network.failover(&host, port, lost, OldMaster::Dies);
                self.keep_rules(server);
            }
            Fault::Flush => {
                self.history.has_lost_data = true;
                self.network.flush(&host, port);
            }
            Fault::ClockForward => {
                let ms = [700, 2_000, 3_500, 60_000, 3_600_000][self.random.random_range(0..5)];
                self.network.step_clock(&host, port, ms);
            }
            Fault::ClockBackward => {
                let ms = [700, 2_000, 3_500, 60_000, 600_000][self.random.random_range(0..5)];
                self.network.step_clock(&host, port, -ms);
            }
            Fault::Evict => {
                let keys = self.network.keys(&host, port);
                for _ in 0..self.random.random_range(1..5) {
                    if !keys.is_empty() {
                        let key = &keys[self.random.random_range(0..keys.len())];
                        let name = String::from_utf8_lossy(key).into_owned();
                        self.log.push((self.start.elapsed(), format!("  {name}")));
                        self.network.evict(&host, port, key);
                    }
                }
            }
            Fault::Distance => {
                let way = Duration::from_millis(self.random.random_range(10..200));
                self.network.set_latency(Some(slot), way..=way + way / 10);
                self.mends.push((now + long, fault));
            }
            Fault::SlowNetwork => {
                self.network.set_bandwidth(slot, Some(125_000));
                self.mends.push((now + long, fault));
            }
            Fault::ReadOnly => {
                self.network.rules(&host, port, |rules| rules.read_only = true);
                self.mends.push((now + short, fault));
            }
            Fault::OutOfMemory => {
                self.network.rules(&host, port, |rules| rules.out_of_memory = true);
                self.mends.push((now + short, fault));
            }
            Fault::NoRights => {
                let refusal = "NOPERM this user has no permissions to run the command";
                self.network
                    .rules(&host, port, |rules| rules.everything = Some(refusal.to_owned()));
                self.mends.push((now + short, fault));
            }
            Fault::MoveSlot => self.move_slots(server, 1),
            Fault::EmptyServer => self.move_slots(server, usize::MAX),
        }
        if let Some(time) = disturbed {
            self.history.disturbed.entry(slot).or_default().push((now, now + time));
        }
    }

    fn restart(&mut self, server: usize, keep: Keep) {
        let (host, port) = self.addresses[server].clone();
        if !matches!(keep, Keep::All) {
            self.history.has_lost_data = true;
        }
        self.network.restart(&host, port, keep);
        self.keep_rules(server);
    }

    /// A server that begins anew answers as the one before did.
    fn keep_rules(&self, server: usize) {
        let (host, port) = &self.addresses[server];
        let is_later = self.plan.seed % 2 == 1;
        self.network.rules(host, *port, |rules| rules.pushes_after_reply = is_later);
    }

    /// Ends what was done to Redis or to the network and is over.
    pub(super) fn mend(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.mends.extract_if(.., |(at, _)| *at <= now).collect();
        let addresses = self.addresses.clone();
        for (_, fault) in due {
            for (host, port) in &addresses {
                self.network.rules(host, *port, |rules| match fault {
                    Fault::ReadOnly => rules.read_only = false,
                    Fault::OutOfMemory => rules.out_of_memory = false,
                    Fault::NoRights => rules.everything = None,
                    _ => {}
                });
            }
            let near = Duration::from_micros(100)..=Duration::from_millis(2);
            for slot in 0..self.nodes.len() {
                match fault {
                    Fault::Distance => self.network.set_latency(Some(slot), near.clone()),
                    Fault::SlowNetwork => self.network.set_bandwidth(slot, None),
                    _ => {}
                }
            }
            if fault == Fault::AwayWithLateBytes
                && let Some((slot, late)) = self.away.take()
            {
                self.network.cut(&Wires::all().of(slot), Late::After(late));
            }
        }
    }

    /// Moves slots of partitions from a server to the next one, with their keys.
    fn move_slots(&mut self, server: usize, most: usize) {
        let (host, port) = self.addresses[server].clone();
        let others = (1..self.addresses.len()).map(|step| (server + step) % self.addresses.len());
        let mut masters = others.filter(|other| !self.replicas.contains(other));
        let Some(to) = masters.next().map(|other| self.addresses[other].clone()) else { return };
        let told = self.addresses.clone();
        let told: Vec<(&str, u16)> =
            told.iter().map(|(host, port)| (host.as_str(), *port)).collect();
        let slots = self.network.slots_of(&host, port);
        let first = if slots.is_empty() { 0 } else { self.random.random_range(0..slots.len()) };
        let all = most == usize::MAX;
        let some = slots.iter().cycle().skip(first).take(most.min(slots.len()));
        for slot in some {
            self.network.begin_migration(*slot, (&to.0, to.1));
            self.network.finish_migration(*slot, (&to.0, to.1), &told);
        }
        if all && !slots.is_empty() {
            self.network.make_replica(&host, port, (&to.0, to.1));
            self.replicas.insert(server);
        }
    }
}
