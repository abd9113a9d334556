//! The requests that share the reads of the lists of occupied channels.

use super::clock::now;
use crate::broker::{Unavailable, occupied_channels::ChannelList};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Instant};
use tokio::sync::{Semaphore, oneshot};

/// The maximum number of pages in flight, of all apps. A single server has time for publishes in
/// between.
const CONCURRENT_PAGES: usize = 4;
/// The same on a Redis Cluster, where a list has at least one page of each partition.
pub(super) const CONCURRENT_PAGES_ON_CLUSTER: usize = 32;

/// The running and pending reads of the lists of all apps.
#[derive(Debug)]
pub(super) struct ListReads {
    /// The pending read of each app that has one running.
    apps: Mutex<HashMap<Arc<str>, Option<NextRead>>>,
    /// One permit for each page in flight.
    pub(super) pages: Semaphore,
    /// When the last page arrived.
    pub(super) last_page_at: Mutex<Instant>,
}

pub(super) type ListResult = Result<Arc<ChannelList>, Unavailable>;

/// A read that has not started.
#[derive(Debug)]
pub(super) struct NextRead {
    /// The longest common prefix of its requests.
    pub(super) prefix: String,
    pub(super) requests: Vec<oneshot::Sender<ListResult>>,
}

impl ListReads {
    pub(super) fn new(is_redis_cluster: bool) -> Self {
        let pages = if is_redis_cluster { CONCURRENT_PAGES_ON_CLUSTER } else { CONCURRENT_PAGES };
        Self {
            apps: Mutex::default(),
            pages: Semaphore::new(pages),
            last_page_at: Mutex::new(now()),
        }
    }

    /// Adds a request to the next read. Returns true if no read is running, so that one must be
    /// started.
    pub(super) fn enqueue(
        &self,
        app_id: &Arc<str>,
        prefix: &str,
        request: oneshot::Sender<ListResult>,
    ) -> bool {
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
    pub(super) fn next(&self, app_id: &str) -> Option<NextRead> {
        let mut apps = self.apps.lock();
        let next = apps.get_mut(app_id).and_then(Option::take);
        if next.is_none() {
            apps.remove(app_id);
        }
        next
    }
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
        let join = |prefix| reads.enqueue(&app, prefix, oneshot::channel().0);
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
}
