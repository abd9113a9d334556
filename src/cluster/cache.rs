//! The bound on the last events of cache channels in Redis.
//!
//! Each lies in the slot of its channel, so no script sees them all. An account in the slot of the
//! app lists them with their bytes in the order of their publishing. The node that has published
//! adds to it before the publisher gets its answer, and evicts what the account says is too much.
//! What nodes publish in the same moment may exceed the bound until then; and what a node has
//! published just before it died is not in the account until it expires.

use super::{
    envelope::EnvelopeId,
    link::Connection,
    scripts::{Answer, Call, Unexpected},
    shared::Shared,
};
use crate::protocol::ChannelName;
use redis::RedisResult;
use std::time::Duration;
use tokio::time::timeout;

/// An event that was published on a cache channel.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) channel: &'a ChannelName,
    pub(super) id: EnvelopeId,
    /// Bytes in Redis, 0 if it is not kept.
    pub(super) bytes: usize,
    pub(super) keep_ms: u64,
}

/// Bytes that an event counts beside its envelope and the name of its channel.
const OVERHEAD_BYTES: usize = 256;
/// How long the account may take.
const WITHIN: Duration = Duration::from_secs(1);
/// How long the account is kept at least.
const MEMORY_MS: u64 = 60_000;

/// What an event of so many bytes counts.
pub(super) fn weight(channel: &ChannelName, envelope_bytes: usize) -> usize {
    envelope_bytes + channel.as_str().len() + OVERHEAD_BYTES
}

impl Shared {
    /// Adds to the account of an app what was published at `at_us`, and evicts what is beyond
    /// `max_bytes`. If Redis does not answer, what was added is missing in the account.
    pub(super) async fn account(
        &self,
        app_id: &str,
        max_bytes: usize,
        (at_us, entries): (u64, &[Entry<'_>]),
    ) {
        let Some(joined) = self.joined_now() else { return };
        let accounted = self.try_account(app_id, max_bytes, (at_us, entries), joined.connection);
        match timeout(WITHIN, accounted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(app = app_id, %error, "cached events not accounted"),
            Err(_elapsed) => tracing::debug!(app = app_id, "cached events not accounted in time"),
        }
    }

    async fn try_account(
        &self,
        app_id: &str,
        max_bytes: usize,
        (at_us, entries): (u64, &[Entry<'_>]),
        mut connection: Connection,
    ) -> RedisResult<()> {
        let keep_ms = entries.iter().map(|entry| entry.keep_ms).fold(MEMORY_MS, u64::max);
        let mut call = Call::of(&self.scripts.cache)
            .key(self.names.of_app("cacheorder", app_id))
            .key(self.names.of_app("cached", app_id))
            .number(max_bytes)
            .number(keep_ms);
        for entry in entries {
            call = call
                .arg(entry.channel.as_str())
                .number(at_us)
                .number(entry.bytes)
                .number(entry.keep_ms)
                .arg(format!("{:x}", entry.id.0));
        }
        let answer = Answer::new(call.run(&mut connection).await?);
        let Ok((bytes, evicted)) = answer.and_then(read) else {
            self.metrics.foreign("the account of cached events");
            return Ok(());
        };
        self.metrics.cached(app_id, bytes, evicted.len());
        let each = evicted.iter().map(|(channel, id)| {
            let call = Call::of(&self.scripts.evict)
                .key(self.names.channel(app_id, channel))
                .key(self.names.last_event(app_id, channel))
                .arg(id.to_be_bytes())
                .arg(format!("{id:x}"));
            let mut connection = connection.clone();
            async move { call.run(&mut connection).await.map(drop) }
        });
        futures_util::future::try_join_all(each).await.map(drop)
    }
}

/// The sum of the bytes, and the events to evict.
fn read(mut answer: Answer) -> Result<(u64, Vec<(ChannelName, u64)>), Unexpected> {
    let sum = answer.text()?.parse().map_err(|_| Unexpected)?;
    let mut evicted = Vec::new();
    while let (Ok(channel), Ok(id)) = (answer.text(), answer.text()) {
        let channel = ChannelName::parse(&channel, usize::MAX).map_err(|_| Unexpected)?;
        evicted.push((channel, u64::from_str_radix(&id, 16).map_err(|_| Unexpected)?));
    }
    Ok((sum, evicted))
}
