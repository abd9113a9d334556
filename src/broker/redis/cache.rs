//! The limit on the cached events of cache channels in Redis.
//!
//! Each event is stored in the slot of its channel, so no script can access all of them. An index in the slot of the
//! app lists them with their bytes, in the order of publishing. The publishing node updates the index soon after,
//! even if the publisher has disconnected, and evicts the events that exceed the limit. Until then, concurrent
//! publishes of several nodes may exceed it. An event is missing in the index until it expires if its node died
//! before adding it, or if it is unknown whether Redis has stored it.

use super::{
    cache_updates::{AppCacheUpdate, UPDATE_EVENTS_MAX},
    cluster_state::ClusterState,
    fencing_token::FencingToken,
    link_state::JoinedLink,
    scripts::{ScriptCall, ScriptReply, Status, Unexpected},
};
use crate::protocol::ChannelName;
use std::{sync::Arc, time::Duration};
use tokio::time::{self, timeout};

/// The timeout of a call to Redis.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The pause before a failed call is retried.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The minimum time for which the index is kept.
const INDEX_RETENTION_MS: u64 = 60_000;
/// The logged reason when the timeout passes.
const LATE: &str = "Redis does not answer";
/// The logged reason when the fencing token is outdated.
const FENCED: &str = "the lease of this node has ended";
/// How long publishes are collected for one update of an index.
const BATCH_DELAY: Duration = Duration::from_millis(50);
/// How many calls one index takes before those of other apps continue.
const CALLS_PER_UPDATE_MAX: usize = 16;

/// An event in an index: its channel and its id, as stored there.
type IndexEntry = (Vec<u8>, Vec<u8>);

impl ClusterState {
    /// Updates the indexes of cached events as long as the node runs.
    pub(super) async fn update_cache_indexes(self: Arc<Self>) {
        loop {
            self.cache_updates.added.notified().await;
            let mut is_full = false;
            loop {
                if !is_full {
                    time::sleep(BATCH_DELAY).await;
                }
                self.link_state.wait_joined().await;
                let taken = self.cache_updates.take();
                if taken.is_empty() {
                    break;
                }
                is_full = taken.iter().any(|(_, update)| update.entries.len() == UPDATE_EVENTS_MAX);
                let each = taken
                    .into_iter()
                    .map(|(app_id, update)| self.update_cache_index(app_id, update));
                let are_updated = futures_util::future::join_all(each).await;
                if !are_updated.into_iter().all(|is_updated| is_updated) {
                    time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Updates the index of one app, or puts back its events.
    async fn update_cache_index(&self, app_id: Arc<str>, mut update: AppCacheUpdate) -> bool {
        let done = match self.joined_now() {
            Some(joined) => self.send_update(&app_id, &mut update, joined).await,
            None => Err(LATE.to_owned()),
        };
        if let Err(error) = &done {
            tracing::debug!(app = &*app_id, %error, "updating the cache index failed, retrying");
            self.cache_updates.put_back(&app_id, update);
        }
        done.is_ok()
    }

    /// Adds the events to the index, and evicts events beyond the limit. Added events are removed from
    /// `update`.
    async fn send_update(
        &self,
        app_id: &Arc<str>,
        update: &mut AppCacheUpdate,
        joined: JoinedLink,
    ) -> Result<(), String> {
        let mut evicted = Vec::new();
        for _ in 0..CALLS_PER_UPDATE_MAX {
            let call = self.cache_call(app_id, update, (&evicted, &joined.token));
            let value = timeout(TIMEOUT, call.run(&joined.connection)).await;
            let value = value.map_err(|_elapsed| LATE.to_owned())?;
            let reply = ScriptReply::new(value.map_err(|error| error.to_string())?)
                .and_then(parse_cache_reply);
            if matches!(reply, Ok(None)) {
                self.on_fenced(&joined.token);
                return Err(FENCED.to_owned());
            }
            update.entries.clear();
            let Ok(Some((bytes, is_more, to_evict))) = reply else {
                self.metrics.count_unexpected_data("the index of cached events");
                return Ok(());
            };
            self.metrics.set_cache_bytes(app_id, bytes);
            if to_evict.is_empty() && !is_more {
                return Ok(());
            }
            let has_some = !to_evict.is_empty();
            let each = to_evict.into_iter().map(|entry| self.evict(app_id, entry, &joined));
            evicted = futures_util::future::join_all(each).await.into_iter().flatten().collect();
            if has_some && evicted.is_empty() {
                return Err("no event could be evicted".to_owned());
            }
        }
        self.cache_updates.put_back(app_id, AppCacheUpdate::new(update.max_bytes));
        Ok(())
    }

    fn cache_call(
        &self,
        app_id: &str,
        update: &AppCacheUpdate,
        (evicted, token): (&[IndexEntry], &FencingToken),
    ) -> ScriptCall {
        let retention_ms = update
            .entries
            .iter()
            .map(|entry| entry.retention_ms)
            .fold(INDEX_RETENTION_MS, u64::max);
        let app_partition = self.names.app_partition(app_id);
        let mut call = ScriptCall::fenced(&self.scripts.cache, app_partition, &self.names, token)
            .key(self.names.app_key("cacheorder", app_id))
            .key(self.names.app_key("cached", app_id))
            .number(update.max_bytes)
            .number(retention_ms)
            .number(evicted.len());
        for (channel, id) in evicted {
            call = call.arg(channel).arg(id);
        }
        for entry in &update.entries {
            call = call
                .arg(entry.channel.as_str())
                .number(entry.at_us)
                .number(entry.bytes)
                .number(entry.retention_ms)
                .arg(format!("{:x}", entry.id.0));
        }
        call
    }

    /// Evicts an event. Returns it once it is no longer in Redis.
    async fn evict(
        &self,
        app_id: &str,
        entry: IndexEntry,
        joined: &JoinedLink,
    ) -> Option<IndexEntry> {
        let Some((channel, id)) = parse(&entry) else {
            // No node publishes an event like that.
            self.metrics.count_unexpected_data("the index of cached events");
            return Some(entry);
        };
        let partition = self.names.channel_partition(app_id, &channel);
        let call = ScriptCall::fenced(&self.scripts.evict, partition, &self.names, &joined.token)
            .key(self.names.channel_topic_key(app_id, &channel))
            .key(self.names.cached_event_key(app_id, &channel))
            .arg(id.to_be_bytes())
            .arg(format!("{id:x}"));
        let value = timeout(TIMEOUT, call.run(&joined.connection)).await.ok()?.ok()?;
        let mut reply = ScriptReply::new(value).ok()?;
        let (status, _) = reply.status().ok()?;
        if status != Status::Done {
            self.on_fenced(&joined.token);
            return None;
        }
        let was_cached = reply.number() == Ok(1);
        self.metrics.count_cache_evicted(app_id, u64::from(was_cached));
        Some(entry)
    }
}

fn parse((channel, id): &IndexEntry) -> Option<(ChannelName, u64)> {
    let channel = ChannelName::parse(std::str::from_utf8(channel).ok()?, usize::MAX).ok()?;
    Some((channel, u64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()?))
}

/// The sum of the bytes, whether another call is needed, and the events to evict. `None` if the
/// fencing token is outdated.
fn parse_cache_reply(
    mut reply: ScriptReply,
) -> Result<Option<(u64, bool, Vec<IndexEntry>)>, Unexpected> {
    let (status, _) = reply.status()?;
    if status != Status::Done {
        return Ok(None);
    }
    let sum = reply.text()?.parse().map_err(|_| Unexpected)?;
    let is_more = reply.number()? == 1;
    let mut values = reply.all_bytes()?.into_iter();
    let mut to_evict = Vec::new();
    while let (Some(channel), Some(id)) = (values.next(), values.next()) {
        to_evict.push((channel, id));
    }
    Ok(Some((sum, is_more, to_evict)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unexpected_entries_of_an_index_are_not_evicted() {
        let entry = |channel: &[u8], id: &[u8]| (channel.to_vec(), id.to_vec());
        let channel = ChannelName::parse("cache-x", 100).unwrap();
        assert_eq!(parse(&entry(b"cache-x", b"ff")), Some((channel, 255)));
        for unexpected_data in [entry(b"", b"ff"), entry(b"cache-x", b"no"), entry(b"\xFF", b"ff")]
        {
            assert_eq!(parse(&unexpected_data), None, "{unexpected_data:?}");
        }
    }
}
