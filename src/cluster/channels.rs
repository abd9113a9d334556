//! The list of an app's occupied channels: read from Redis page by page, and shared by the requests
//! that wait for it.
//!
//! At most one read of an app is running. Requests that arrive meanwhile share the next read, which
//! covers the prefixes of all of them: an answer is never older than its request.

use super::{
    clock::now,
    partition::Partition,
    scripts::{ScriptCall, Unexpected},
    shared::{ANSWER_GRACE, ClusterState, Unavailable},
};
use crate::{hub::Counts, protocol::ChannelName};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout_at,
};

/// Maximum time for which a request waits for the list while pages of it arrive.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of index entries that one page visits: a few milliseconds of Redis' time.
const PAGE_ENTRIES: usize = 4_000;
/// The maximum bytes of names and counts in a page.
const PAGE_BYTES: usize = 256 * 1_024;
/// The maximum number of pages in flight, of all apps. A single server has time for publishes in
/// between.
const PAGES_OF_ONE: usize = 4;
/// The same on a Redis Cluster, where a list has at least one page of each partition.
const PAGES_OF_CLUSTER: usize = 32;
/// Maximum number of variants of a response that are kept with a list.
const BODIES_MAX: usize = 8;

/// The occupied channels of an app with their counts. Shared by concurrent requests.
#[derive(Debug, Default)]
pub struct ChannelList {
    channels: BTreeMap<ChannelName, Counts>,
    bodies: Mutex<Vec<(BodyKey, Bytes)>>,
}

/// The prefix of a response, and its attributes in an order that the caller defines.
type BodyKey = (Box<str>, [bool; 2]);

/// The running and pending reads of the lists of all apps.
#[derive(Debug)]
pub(super) struct ListReads {
    /// The pending read of each app that has one running.
    apps: Mutex<HashMap<Arc<str>, Option<NextRead>>>,
    /// One permit for each page in flight.
    pages: Semaphore,
    /// When the last page arrived.
    progressed: Mutex<Instant>,
}

type ListResult = Result<Arc<ChannelList>, Unavailable>;

/// A read that has not started.
#[derive(Debug)]
struct NextRead {
    /// The longest common prefix of its requests.
    prefix: String,
    requests: Vec<oneshot::Sender<ListResult>>,
}

/// A page of the index of one partition.
struct IndexPage {
    cursor: u64,
    /// The scope in which the cursor is valid: the generation, and the run id of the server.
    source: (Arc<str>, String),
    entries: Vec<String>,
}

impl ChannelList {
    /// The channels whose names begin with `prefix`, in order.
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a ChannelName, Counts)> {
        self.channels
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, counts)| (name, *counts))
    }

    /// The response that `render` makes of the channels with a prefix. It is rendered once for all
    /// requests with the same attributes.
    pub fn body(
        &self,
        prefix: &str,
        attributes: [bool; 2],
        render: impl FnOnce(&mut dyn Iterator<Item = (&ChannelName, Counts)>) -> String,
    ) -> Bytes {
        let is_same = |(key, _): &&(BodyKey, Bytes)| *key.0 == *prefix && key.1 == attributes;
        if let Some((_, body)) = self.bodies.lock().iter().find(is_same) {
            return body.clone();
        }
        // The lock is released, so that other threads do not wait.
        let body = Bytes::from(render(&mut self.with_prefix(prefix)));
        let mut bodies = self.bodies.lock();
        if bodies.len() < BODIES_MAX {
            bodies.push(((prefix.into(), attributes), body.clone()));
        }
        body
    }
}

impl ListReads {
    pub(super) fn new(is_cluster: bool) -> Self {
        let pages = if is_cluster { PAGES_OF_CLUSTER } else { PAGES_OF_ONE };
        Self { apps: Mutex::default(), pages: Semaphore::new(pages), progressed: Mutex::new(now()) }
    }

    /// Adds a request to the next read. Returns true if no read is running, so that one must be
    /// started.
    fn join(&self, app_id: &Arc<str>, prefix: &str, request: oneshot::Sender<ListResult>) -> bool {
        let mut apps = self.apps.lock();
        let is_first = !apps.contains_key(app_id);
        let next = apps.entry(Arc::clone(app_id)).or_default();
        match next {
            Some(next) => {
                next.prefix.truncate(common_prefix(&next.prefix, prefix));
                next.requests.push(request);
            }
            None => *next = Some(NextRead { prefix: prefix.to_owned(), requests: vec![request] }),
        }
        is_first
    }

    /// Takes the next read, which begins now. `None` if no request waits; then no read of the app
    /// is running.
    fn next(&self, app_id: &str) -> Option<NextRead> {
        let mut apps = self.apps.lock();
        let next = apps.get_mut(app_id).and_then(Option::take);
        if next.is_none() {
            apps.remove(app_id);
        }
        next
    }
}

impl ClusterState {
    /// The occupied channels of an app whose names begin with `prefix`, and possibly others, as of
    /// a moment after this call.
    pub(super) async fn channels(
        self: &Arc<Self>,
        app_id: &Arc<str>,
        prefix: &str,
    ) -> Result<Arc<ChannelList>, Unavailable> {
        let (request, answer) = oneshot::channel();
        if self.reads.join(app_id, prefix, request) {
            tokio::spawn(Arc::clone(self).read_lists(Arc::clone(app_id)));
        }
        self.await_list(answer).await
    }

    /// Waits as long as any request waits for Redis, and longer while pages arrive.
    async fn await_list(&self, mut answer: oneshot::Receiver<ListResult>) -> ListResult {
        let asked = now();
        loop {
            let progressed = *self.reads.progressed.lock();
            let silent = asked.max(progressed) + self.broker_wait + ANSWER_GRACE;
            let give_up = silent.min(asked + LIST_TIMEOUT);
            if let Ok(answer) = timeout_at(give_up.into(), &mut answer).await {
                return answer.unwrap_or(Err(Unavailable));
            }
            if give_up < silent || *self.reads.progressed.lock() == progressed {
                return Err(Unavailable);
            }
        }
    }

    /// Reads lists as long as requests wait.
    async fn read_lists(self: Arc<Self>, app_id: Arc<str>) {
        while let Some(next) = self.reads.next(&app_id) {
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
        let give_up = now() + LIST_TIMEOUT;
        let pattern: Arc<str> = pattern(&prefix).into();
        let of_partition = |partition| {
            let (shared, app_id, pattern) =
                (Arc::clone(&self), Arc::clone(&app_id), Arc::clone(&pattern));
            async move { shared.read_partition(&app_id, partition, &pattern).await }
        };
        let parts = stream::iter(self.names.partitions()).map(of_partition);
        let mut parts = std::pin::pin!(parts.buffer_unordered(PAGES_OF_CLUSTER));
        let mut channels = BTreeMap::new();
        while let Some(part) =
            timeout_at(give_up.into(), parts.next()).await.map_err(|_| Unavailable)?
        {
            if channels.is_empty() {
                channels = part?;
            } else {
                channels.extend(part?);
            }
        }
        Ok(ChannelList { channels, bodies: Mutex::default() })
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
            *self.reads.progressed.lock() = now();
            if source.as_ref().is_some_and(|source| *source != page.source) {
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
            (cursor, source) = (page.cursor, Some(page.source));
        }
    }

    async fn page(
        &self,
        app_id: &str,
        partition: Partition,
        pattern: &str,
        cursor: u64,
    ) -> Result<IndexPage, Unavailable> {
        let _permit = self.reads.pages.acquire().await.map_err(|_| Unavailable)?;
        let (mut answer, lease) = self
            .run_with_lease(partition, |lease| {
                ScriptCall::guarded(&self.scripts.scan, partition, &self.names, lease)
                    .key(self.names.channel_index(app_id, partition))
                    .number(cursor)
                    .arg(pattern)
                    .number(PAGE_ENTRIES)
                    .number(PAGE_BYTES)
            })
            .await?;
        let mut read = || {
            let cursor = answer.text()?.parse().map_err(|_| Unexpected)?;
            let source = (Arc::from(lease.generation(partition)), answer.text()?);
            Ok(IndexPage { cursor, source, entries: answer.texts()? })
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

/// The length of the longest common prefix.
fn common_prefix(one: &str, other: &str) -> usize {
    let differs = |((_, one), other): &((usize, char), char)| one != other;
    let end = one.char_indices().zip(other.chars()).find(differs);
    end.map_or(one.len().min(other.len()), |((at, _), _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, 100).unwrap()
    }

    #[test]
    fn a_pattern_escapes_its_prefix() {
        assert_eq!(pattern(""), "*");
        assert_eq!(pattern("a.b;c"), "a.b;c*");
        assert_eq!(pattern(r"a*?[^b-c]\d"), r"a\*\?\[^b-c\]\\d*");
    }

    #[test]
    fn a_common_prefix_ends_between_characters() {
        for (one, other, common) in
            [("", "a", 0), ("ab", "abc", 2), ("abd", "abc", 2), ("aé", "aè", 1), ("x", "y", 0)]
        {
            assert_eq!(common_prefix(one, other), common, "{one} {other}");
            assert_eq!(common_prefix(other, one), common, "{one} {other}");
        }
    }

    #[test]
    fn requests_share_the_next_read_and_never_the_running_one() {
        let (reads, app): (_, Arc<str>) = (ListReads::new(false), "app".into());
        let join = |prefix| reads.join(&app, prefix, oneshot::channel().0);
        assert!(join("presence-a"), "the first request starts a read");
        let first = reads.next(&app).unwrap();
        assert_eq!((first.prefix.as_str(), first.requests.len()), ("presence-a", 1));
        for prefix in ["presence-ab", "presence-ac", "presence-"] {
            assert!(!join(prefix), "a read is running");
        }
        let second = reads.next(&app).unwrap();
        assert_eq!((second.prefix.as_str(), second.requests.len()), ("presence-", 3));
        assert!(reads.next(&app).is_none());
        assert!(join(""), "no read is running any more");
    }

    #[test]
    fn a_response_is_rendered_once_for_each_prefix_and_attributes() {
        let counts = Counts { subscriptions: 1, users: 0 };
        let channels = ["a", "ab", "b", "ba"].map(|text| (name(text), counts)).into();
        let list = ChannelList { channels, bodies: Mutex::default() };
        let mut rendered = 0;
        for (prefix, attributes, expected) in [
            ("a", [true, false], "a,ab"),
            ("a", [true, false], "a,ab"),
            ("a", [false, false], "a,ab"),
            ("b", [true, false], "b,ba"),
            ("c", [true, false], ""),
            ("", [true, false], "a,ab,b,ba"),
        ] {
            let body = list.body(prefix, attributes, |each| {
                rendered += 1;
                each.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
            });
            assert_eq!(body, expected);
        }
        assert_eq!(rendered, 5);
    }
}
