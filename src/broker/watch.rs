//! Watching a channel for the console, without subscribing to it.

use super::{Broker, redis::RedisWatch};
use crate::{
    hub::{ChannelWatcher, Hub, WatchedEvent},
    protocol::ChannelName,
};

/// Receives the events that any node publishes on a channel. Dropping it ends the watch.
#[derive(Debug)]
pub struct BrokerWatch {
    watcher: ChannelWatcher,
    _of_cluster: Option<RedisWatch>,
}

impl Broker {
    /// Watches a channel of the hub's app. A watch is no subscription: it is not counted, and causes no
    /// webhook.
    #[must_use]
    pub fn watch(&self, hub: &Hub, channel: &ChannelName) -> BrokerWatch {
        let watcher = hub.watches().watch(hub.app_id(), channel.clone());
        let of_cluster = match self {
            Self::Local(_) => None,
            Self::Redis(broker) => Some(broker.watch(hub, channel.clone())),
        };
        BrokerWatch { watcher, _of_cluster: of_cluster }
    }
}

impl BrokerWatch {
    /// The next event. Safe to cancel.
    pub async fn next(&mut self) -> Option<WatchedEvent> {
        self.watcher.next().await
    }

    /// The number of events that were dropped since the last call, because they were not taken in time.
    #[must_use]
    pub fn take_missed(&self) -> u64 {
        self.watcher.take_missed()
    }
}
