//! The map of partitions to masters of a Redis Cluster.

use super::stream::ServerAddress;
use crate::broker::redis::partition::{PARTITIONS, Partition};
use redis::{RedisError, ServerErrorKind, Value, from_redis_value};
use std::collections::BTreeMap;

/// The master of each partition; `None` if it has none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SlotMap(Vec<Option<ServerAddress>>);

/// A redirection by a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Redirection {
    /// The partition has moved for good.
    Moved(ServerAddress),
    /// It is moving: this command is for the other server.
    Ask(ServerAddress),
    /// The server rejects the command for now (`TRYAGAIN`, `CLUSTERDOWN`, `LOADING`): retry it.
    TryAgain,
}

impl SlotMap {
    /// Parses the reply to `CLUSTER SLOTS`; `None` if it is invalid.
    pub(super) fn from_reply(reply: Value, server: &ServerAddress) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let mut map = vec![None; PARTITIONS];
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let first: u16 = from_redis_value(range.next()?).ok()?;
            let last: u16 = from_redis_value(range.next()?).ok()?;
            let Some(Value::Array(master)) = range.next() else { continue };
            let mut master = master.into_iter();
            // A server that does not know its address for clients leaves the host empty.
            let host: Option<String> = from_redis_value(master.next()?).ok()?;
            let port: u16 = from_redis_value(master.next()?).ok()?;
            let Some(address) = resolve_address(host.as_deref().unwrap_or_default(), port, server)
            else {
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

    pub(super) fn master(&self, partition: Partition) -> Option<&ServerAddress> {
        self.0[partition.index()].as_ref()
    }

    pub(super) fn set(&mut self, partition: Partition, master: ServerAddress) {
        self.0[partition.index()] = Some(master);
    }

    /// The masters, each once.
    pub(super) fn masters(&self) -> Vec<ServerAddress> {
        let mut masters: Vec<ServerAddress> = self.0.iter().flatten().cloned().collect();
        masters.sort();
        masters.dedup();
        masters
    }

    /// The slot of a partition without a master.
    pub(super) fn unassigned_slot(&self) -> Option<u16> {
        Partition::all(PARTITIONS).find(|it| self.master(*it).is_none()).map(Partition::slot)
    }

    /// Assigns each partition to the master in most of the views; without a majority it is
    /// unchanged. Returns the partitions whose master has changed.
    ///
    /// A single server may be outdated: a master that was replaced while it was disconnected, or
    /// one that has not been notified yet.
    pub(super) fn adopt_majority(&mut self, views: &[Self]) -> Vec<Partition> {
        let decided = |partition: &Partition| {
            let mut votes: BTreeMap<&ServerAddress, usize> = BTreeMap::new();
            for master in views.iter().filter_map(|view| view.master(*partition)) {
                *votes.entry(master).or_default() += 1;
            }
            let most = votes.values().copied().max()?;
            let mut leading = votes.into_iter().filter(|(_, count)| *count == most);
            let (first, _) = leading.next()?;
            let is_decided = leading.next().is_none();
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

impl Redirection {
    /// Parses a redirection error.
    pub(super) fn from_error(error: &RedisError, server: &ServerAddress) -> Option<Self> {
        let redirected = || {
            let (_, address) = error.detail()?.split_once(' ')?;
            let (host, port) = address.trim().rsplit_once(':')?;
            resolve_address(host, port.parse().ok()?, server)
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
        is_later.then_some(Self::TryAgain)
    }
}

/// The address in a reply: without a host, it is that of the server that replied.
fn resolve_address(host: &str, port: u16, server: &ServerAddress) -> Option<ServerAddress> {
    if !matches!(host, "" | "?") {
        return Some(ServerAddress::Tcp(host.to_owned(), port));
    }
    match server {
        ServerAddress::Tcp(host, _) => Some(ServerAddress::Tcp(host.clone(), port)),
        ServerAddress::Unix(_) => None,
    }
}
