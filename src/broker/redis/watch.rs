//! What the console sees of the cluster.

use super::{RedisBroker, coordinator::CoordinatorRequest};
use crate::{hub::Hub, protocol::ChannelName};
use std::{sync::Arc, time::Duration};

/// A watched channel. Dropping it ends the watch.
#[derive(Debug)]
pub(in crate::broker) struct RedisWatch {
    broker: RedisBroker,
    app_id: Arc<str>,
    channel: ChannelName,
}

impl RedisBroker {
    /// How long the last heartbeat took; `None` before the first.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        Some(self.shared.round_trip()).filter(|time| !time.is_zero())
    }

    /// Gives the events that any node publishes on a channel to the watches of this node's hub.
    pub(in crate::broker) fn watch(&self, hub: &Hub, channel: ChannelName) -> RedisWatch {
        let app_id = hub.app_id();
        self.request(CoordinatorRequest::Watch {
            app_id: Arc::clone(&app_id),
            channel: channel.clone(),
        });
        RedisWatch { broker: self.clone(), app_id, channel }
    }
}

impl Drop for RedisWatch {
    fn drop(&mut self) {
        let (app_id, channel) = (Arc::clone(&self.app_id), self.channel.clone());
        self.broker.request(CoordinatorRequest::Unwatch { app_id, channel });
    }
}
