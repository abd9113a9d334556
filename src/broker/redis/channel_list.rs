//! The list of an app's occupied channels, and the requests that share the reads of it.

use super::clock::now;
use crate::broker::error::Unavailable;
use crate::{channel::Counts, protocol::ChannelName};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
    time::Instant,
};
use tokio::sync::{Semaphore, oneshot};

/// The maximum number of pages in flight, of all apps. A single server has time for publishes in
/// between.
const PAGES_OF_ONE: usize = 4;
/// The same on a Redis Cluster, where a list has at least one page of each partition.
pub(super) const PAGES_OF_CLUSTER: usize = 32;
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
    pub(super) pages: Semaphore,
    /// When the last page arrived.
    pub(super) progressed: Mutex<Instant>,
}

pub(super) type ListResult = Result<Arc<ChannelList>, Unavailable>;

/// A read that has not started.
#[derive(Debug)]
pub(super) struct NextRead {
    /// The longest common prefix of its requests.
    pub(super) prefix: String,
    pub(super) requests: Vec<oneshot::Sender<ListResult>>,
}

impl ChannelList {
    pub(super) fn new(channels: BTreeMap<ChannelName, Counts>) -> Self {
        Self { channels, bodies: Mutex::default() }
    }

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
    pub(super) fn new(is_redis_cluster: bool) -> Self {
        let pages = if is_redis_cluster { PAGES_OF_CLUSTER } else { PAGES_OF_ONE };
        Self { apps: Mutex::default(), pages: Semaphore::new(pages), progressed: Mutex::new(now()) }
    }

    /// Adds a request to the next read. Returns true if no read is running, so that one must be
    /// started.
    pub(super) fn join(
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

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, 100).unwrap()
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
        let list = ChannelList::new(channels);
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
