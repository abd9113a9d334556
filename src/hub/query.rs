//! What the HTTP API asks of the hub.

use super::{CacheStats, Hub, ShardSet};
use crate::protocol::ChannelName;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How many are on a channel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Connections that are subscribed.
    pub subscriptions: usize,
    /// Distinct users, on a presence channel.
    pub users: usize,
}

/// What there is to say of a channel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChannelSummary {
    /// How many are on it.
    pub counts: Counts,
    /// The data of the event it remembers, as a JSON token, and how long it still will.
    pub cached: Option<(String, Duration)>,
}

impl Hub {
    /// The channels with subscribers whose names begin with `prefix`. Server-to-user channels
    /// are nobody's business.
    #[must_use]
    pub fn occupied_channels(&self, prefix: &str) -> Vec<(ChannelName, Counts)> {
        self.channels
            .iter()
            .filter(|entry| entry.key().as_str().starts_with(prefix))
            .filter(|entry| 0 < entry.subscribers() && entry.key().server_to_user().is_none())
            .map(|entry| (entry.key().clone(), entry.counts()))
            .collect()
    }

    /// One channel, whether or not it exists.
    #[must_use]
    pub fn channel_summary(&self, name: &ChannelName, now: Instant) -> ChannelSummary {
        ChannelSummary {
            counts: self.channels.get(name).map(|channel| channel.counts()).unwrap_or_default(),
            cached: self.cache.data(name, now),
        }
    }

    /// The distinct users of a presence channel and their infos, sorted by id.
    #[must_use]
    pub fn users(&self, name: &ChannelName) -> Vec<(Arc<str>, Arc<str>)> {
        self.channels.get(name).map(|channel| channel.users()).unwrap_or_default()
    }

    /// The shards with subscribers of a channel.
    #[must_use]
    pub fn shards_of(&self, name: &ChannelName) -> ShardSet {
        self.channels.get(name).map(|channel| channel.shards()).unwrap_or_default()
    }

    /// Counters of the last events of cache channels.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// How many connections are admitted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.used()
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// How many channels have subscribers, server-to-user channels aside.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.occupied.load(Ordering::Relaxed)
    }
}
