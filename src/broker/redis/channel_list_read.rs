//! The list of an app's occupied channels: read from Redis page by page, and shared by the requests
//! that wait for it.
//!
//! At most one read of an app is running. Requests that arrive meanwhile share the next read, which
//! covers the prefixes of all of them: a reply is never older than its request.

use super::{
    clock::now,
    cluster_state::{ClusterState, REPLY_GRACE},
    list_reads::{CONCURRENT_PAGES_ON_CLUSTER, ListResult},
    partition::Partition,
    scripts::{ScriptCall, Unexpected},
};
use crate::{
    broker::{Unavailable, occupied_channels::ChannelList},
    channel::Counts,
    protocol::ChannelName,
};
use futures_util::{StreamExt as _, stream};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout_at};

/// Maximum time for which a request waits for the list while pages of it arrive.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of index entries that one page visits: a few milliseconds of Redis' time.
const PAGE_ENTRIES: usize = 4_000;
/// The maximum bytes of names and counts in a page.
const PAGE_BYTES: usize = 256 * 1_024;

/// A page of the index of one partition.
struct IndexPage {
    cursor: u64,
    /// The scope in which the cursor is valid: the generation, and the run id of the server.
    cursor_scope: (Arc<str>, String),
    entries: Vec<String>,
}

impl ClusterState {
    /// The occupied channels of an app whose names begin with `prefix`, and possibly others, as of
    /// a moment after this call.
    pub(super) async fn channels(
        self: &Arc<Self>,
        app_id: &Arc<str>,
        prefix: &str,
    ) -> Result<Arc<ChannelList>, Unavailable> {
        let (request, reply) = oneshot::channel();
        if self.list_reads.enqueue(app_id, prefix, request) {
            tokio::spawn(Arc::clone(self).read_lists(Arc::clone(app_id)));
        }
        self.await_list(reply).await
    }

    /// Waits as long as any request waits for Redis, and longer while pages arrive.
    async fn await_list(&self, mut reply: oneshot::Receiver<ListResult>) -> ListResult {
        let requested_at = now();
        loop {
            let progressed = *self.list_reads.last_page_at.lock();
            let progress_deadline = requested_at.max(progressed) + self.broker_wait + REPLY_GRACE;
            let deadline = progress_deadline.min(requested_at + LIST_TIMEOUT);
            if let Ok(reply) = timeout_at(deadline.into(), &mut reply).await {
                return reply.unwrap_or(Err(Unavailable));
            }
            if deadline < progress_deadline || *self.list_reads.last_page_at.lock() == progressed {
                return Err(Unavailable);
            }
        }
    }

    /// Reads lists as long as requests wait.
    async fn read_lists(self: Arc<Self>, app_id: Arc<str>) {
        while let Some(next) = self.list_reads.next(&app_id) {
            // A read has its own task, so that the next read runs even if this one panics.
            let read = Arc::clone(&self).read_list(Arc::clone(&app_id), next.prefix);
            let list = tokio::spawn(read).await.unwrap_or(Err(Unavailable)).map(Arc::new);
            for request in next.requests {
                // The request may have been cancelled.
                let _ = request.send(list.clone());
            }
        }
    }

    async fn read_list(
        self: Arc<Self>,
        app_id: Arc<str>,
        prefix: String,
    ) -> Result<ChannelList, Unavailable> {
        let deadline = now() + LIST_TIMEOUT;
        let pattern: Arc<str> = pattern(&prefix).into();
        let of_partition = |partition| {
            let (shared, app_id, pattern) =
                (Arc::clone(&self), Arc::clone(&app_id), Arc::clone(&pattern));
            async move { shared.read_partition(&app_id, partition, &pattern).await }
        };
        let parts = stream::iter(self.names.partitions()).map(of_partition);
        let mut parts = std::pin::pin!(parts.buffer_unordered(CONCURRENT_PAGES_ON_CLUSTER));
        let mut channels = BTreeMap::new();
        while let Some(part) =
            timeout_at(deadline.into(), parts.next()).await.map_err(|_| Unavailable)?
        {
            if channels.is_empty() {
                channels = part?;
            } else {
                channels.extend(part?);
            }
        }
        Ok(ChannelList::new(channels))
    }

    /// The channels of a partition whose names match. A channel that is occupied throughout is in
    /// some page: a page from another source than the first restarts the scan.
    async fn read_partition(
        &self,
        app_id: &str,
        partition: Partition,
        pattern: &str,
    ) -> Result<BTreeMap<ChannelName, Counts>, Unavailable> {
        let mut channels = BTreeMap::new();
        let (mut cursor, mut source) = (0, None);
        loop {
            let page = self.page(app_id, partition, pattern, cursor).await?;
            *self.list_reads.last_page_at.lock() = now();
            if source.as_ref().is_some_and(|source| *source != page.cursor_scope) {
                channels.clear();
                (cursor, source) = (0, None);
                continue;
            }
            // Redis may return an entry in two pages; the later one is used.
            for entry in page.entries.chunks_exact(2) {
                let Some(counts) = counts(&entry[1]) else { continue };
                let Ok(name) = ChannelName::parse(&entry[0], usize::MAX) else { continue };
                if 0 < counts.subscriptions {
                    channels.insert(name, counts);
                } else {
                    channels.remove(&name);
                }
            }
            if page.cursor == 0 {
                return Ok(channels);
            }
            (cursor, source) = (page.cursor, Some(page.cursor_scope));
        }
    }

    async fn page(
        &self,
        app_id: &str,
        partition: Partition,
        pattern: &str,
        cursor: u64,
    ) -> Result<IndexPage, Unavailable> {
        let _permit = self.list_reads.pages.acquire().await.map_err(|_| Unavailable)?;
        let (mut reply, token) = self
            .run_with_token(partition, |token| {
                ScriptCall::fenced(&self.scripts.scan, partition, &self.names, token)
                    .key(self.names.channel_index_key(app_id, partition))
                    .number(cursor)
                    .arg(pattern)
                    .number(PAGE_ENTRIES)
                    .number(PAGE_BYTES)
            })
            .await?;
        let mut read = || {
            let cursor = reply.text()?.parse().map_err(|_| Unexpected)?;
            let source = (Arc::from(token.generation(partition)), reply.text()?);
            Ok(IndexPage { cursor, cursor_scope: source, entries: reply.texts()? })
        };
        read().map_err(|Unexpected| self.unexpected())
    }
}

/// Parses the counts of an index entry.
fn counts(entry: &str) -> Option<Counts> {
    let mut numbers = entry.split(' ');
    let subscriptions = numbers.next()?.parse().ok()?;
    Some(Counts { subscriptions, users: numbers.next()?.parse().ok()? })
}

/// A pattern that matches names beginning with `prefix`; special characters are escaped.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_escapes_its_prefix() {
        assert_eq!(pattern(""), "*");
        assert_eq!(pattern("a.b;c"), "a.b;c*");
        assert_eq!(pattern(r"a*?[^b-c]\d"), r"a\*\?\[^b-c\]\\d*");
    }
}
