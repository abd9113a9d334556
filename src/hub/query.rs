//! Queries of the HTTP API.

use super::{CacheStats, Hub, ShardSet};
use crate::protocol::ChannelName;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// The counts of a channel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Subscribed connections.
    pub subscriptions: usize,
    /// Distinct users; 0 unless it is a presence channel.
    pub users: usize,
}

/// The state of one channel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChannelSummary {
    /// The channel's counts.
    pub counts: Counts,
    /// The data of the kept event as a JSON token, and the time until it expires.
    pub cached: Option<(String, Duration)>,
}

impl Hub {
    /// The channels with subscribers whose names begin with `prefix`, without server-to-user
    /// channels.
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

    /// The number of admitted connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.used()
    }

    /// The number of subscriptions, server-to-user channels included.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// The number of channels with subscribers, without server-to-user channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.occupied.load(Ordering::Relaxed)
    }
}
