//! Which master of a Redis Cluster has which partition.

use super::stream::Address;
use crate::cluster::partition::{PARTITIONS, Partition};
use redis::{RedisError, ServerErrorKind, Value, from_redis_value};
use std::collections::BTreeMap;

/// The master of each partition, as far as it has one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Map(Vec<Option<Address>>);

/// Where a server sends a command that is not for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// The partition has moved for good.
    Moved(Address),
    /// It is moving: this command is for the other server.
    Ask(Address),
    /// The server can't say yet.
    Later,
}

impl Map {
    /// Reads what a server answered to `CLUSTER SLOTS`. Nothing if it is something else.
    pub(super) fn read(answer: Value, asked: &Address) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut map = vec![None; PARTITIONS];
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let first: u16 = from_redis_value(range.next()?).ok()?;
            let last: u16 = from_redis_value(range.next()?).ok()?;
            let Some(Value::Array(master)) = range.next() else { continue };
            let mut master = master.into_iter();
            // Where a server does not know how clients reach it, it names no host.
            let host: Option<String> = from_redis_value(master.next()?).ok()?;
            let port: u16 = from_redis_value(master.next()?).ok()?;
            let Some(address) = at(host.as_deref().unwrap_or_default(), port, asked) else {
                continue;
            };
            for partition in Partition::all(PARTITIONS) {
                if (first..=last).contains(&partition.slot()) {
                    map[partition.index()] = Some(address.clone());
                }
            }
        }
        Some(Self(map))
    }

    pub(super) fn master(&self, partition: Partition) -> Option<&Address> {
        self.0[partition.index()].as_ref()
    }

    pub(super) fn set(&mut self, partition: Partition, master: Address) {
        self.0[partition.index()] = Some(master);
    }

    /// All masters, each one once.
    pub(super) fn masters(&self) -> Vec<Address> {
        let mut masters: Vec<Address> = self.0.iter().flatten().cloned().collect();
        masters.sort();
        masters.dedup();
        masters
    }

    /// The slot of a partition without a master.
    pub(super) fn gap(&self) -> Option<u16> {
        Partition::all(PARTITIONS).find(|it| self.master(*it).is_none()).map(Partition::slot)
    }

    /// Gives each partition the master that most of the views name; as it is if that is undecided.
    /// Returns the partitions that have another one then.
    ///
    /// One server alone may be behind: a master that was replaced while it was cut off, or one that
    /// has not heard yet.
    pub(super) fn follow(&mut self, views: &[Self]) -> Vec<Partition> {
        let decided = |partition: &Partition| {
            let mut votes: BTreeMap<&Address, usize> = BTreeMap::new();
            for master in views.iter().filter_map(|view| view.master(*partition)) {
                *votes.entry(master).or_default() += 1;
            }
            let most = votes.values().copied().max()?;
            let mut named = votes.into_iter().filter(|(_, count)| *count == most);
            let (first, _) = named.next()?;
            let is_decided = named.next().is_none();
            is_decided.then(|| first.clone())
        };
        let mut changed = Vec::new();
        for partition in Partition::all(PARTITIONS) {
            let Some(master) = decided(&partition) else { continue };
            if self.master(partition) != Some(&master) {
                self.set(partition, master);
                changed.push(partition);
            }
        }
        changed
    }
}

impl Refusal {
    /// Reads the error of a server that was asked.
    pub(super) fn of(error: &RedisError, asked: &Address) -> Option<Self> {
        let redirected = || {
            let (_, address) = error.detail()?.split_once(' ')?;
            let (host, port) = address.trim().rsplit_once(':')?;
            at(host, port.parse().ok()?, asked)
        };
        let redis::ErrorKind::Server(kind) = error.kind() else { return None };
        if kind == ServerErrorKind::Moved {
            return redirected().map(Self::Moved);
        }
        if kind == ServerErrorKind::Ask {
            return redirected().map(Self::Ask);
        }
        let is_later = [
            ServerErrorKind::TryAgain,
            ServerErrorKind::ClusterDown,
            ServerErrorKind::BusyLoading,
            ServerErrorKind::MasterDown,
        ]
        .contains(&kind);
        is_later.then_some(Self::Later)
    }
}

/// An address as a server names it: without a host, it is that of the server that was asked.
fn at(host: &str, port: u16, asked: &Address) -> Option<Address> {
    if !matches!(host, "" | "?") {
        return Some(Address::Tcp(host.to_owned(), port));
    }
    match asked {
        Address::Tcp(host, _) => Some(Address::Tcp(host.clone(), port)),
        Address::Unix(_) => None,
    }
}
