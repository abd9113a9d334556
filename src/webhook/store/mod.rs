//! Where the log of an app and the queues of its endpoints are: in memory, or with several nodes in
//! Redis.

pub(super) mod log;
pub(super) mod memory;
pub(super) mod redis;

use super::settings::AppWebhookSettings;
use crate::hub::HubEvent;
use log::Full;
use memory::MemoryLog;
use redis::RedisStore;
use std::sync::Arc;

/// The log of an app. The queues are in the same place.
#[derive(Debug)]
pub(super) enum Store {
    /// One node: its task reads the log, and each endpoint has its queue.
    Memory(MemoryLog),
    /// Several nodes: the one that holds the lease reads the log and delivers the queues.
    Redis(Arc<RedisStore>),
}

impl Store {
    /// Appends an event, which happened at `at_us` if it was decided elsewhere. Never blocks: the
    /// caller may hold a lock.
    ///
    /// # Errors
    ///
    /// [`Full`] if it was dropped.
    pub(super) fn append(&self, at_us: u64, hub_event: HubEvent) -> Result<(), Full> {
        match self {
            Self::Memory(log) => log.append(hub_event),
            Self::Redis(store) => store.append(at_us, &hub_event),
        }
    }

    /// Makes settings apply to all later events. With Redis, they apply to all records that this
    /// node reads from now on.
    pub(super) fn append_settings(&self, settings: &Arc<AppWebhookSettings>) {
        match self {
            Self::Memory(log) => log.append_settings(Arc::clone(settings)),
            Self::Redis(store) => store.set_settings(Arc::clone(settings)),
        }
    }

    /// The number of events that have not reached Redis yet.
    pub(super) fn unlogged(&self) -> usize {
        match self {
            Self::Memory(_) => 0,
            Self::Redis(store) => store.unlogged(),
        }
    }

    /// Whether this node holds the lease; `None` on a single node.
    pub(super) fn is_leader(&self) -> Option<bool> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => Some(store.is_leader()),
        }
    }
}
