//! The channels of an app that have subscribers.

use crate::{channel::Counts, protocol::ChannelName};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// The channels with subscribers.
#[derive(Debug)]
pub struct OccupiedChannels(pub(super) Source);

/// A list of channels, of one node or of all.
#[derive(Debug)]
pub(super) enum Source {
    /// A single node: only channels with the prefix.
    Local(Vec<(ChannelName, Counts)>),
    /// All nodes: channels with the prefix, and others. Several requests have the same list.
    Cluster(Arc<ChannelList>),
}

/// Maximum number of variants of a response that are kept with a list.
const RESPONSES_MAX: usize = 8;

/// The occupied channels of an app with their counts. Shared by concurrent requests.
#[derive(Debug, Default)]
pub(super) struct ChannelList {
    channels: BTreeMap<ChannelName, Counts>,
    responses: Mutex<Vec<(ResponseKey, Bytes)>>,
}

/// The prefix and the attributes of a response, in an order that the caller defines.
type ResponseKey = (Box<str>, [bool; 2]);

impl OccupiedChannels {
    /// The response that `render` makes of the channels whose names begin with `prefix`. A list that
    /// several requests share is rendered once for all with the same attributes.
    pub fn response(
        &self,
        prefix: &str,
        attributes: [bool; 2],
        render: impl FnOnce(&mut dyn Iterator<Item = (&ChannelName, Counts)>) -> String,
    ) -> Bytes {
        match &self.0 {
            Source::Local(list) => {
                render(&mut list.iter().map(|(name, counts)| (name, *counts))).into()
            }
            Source::Cluster(list) => list.body(prefix, attributes, render),
        }
    }
}

impl OccupiedChannels {
    /// Calls `each` with all channels of the list. One of several nodes may list more than those with
    /// the prefix that was asked for.
    pub fn for_each(&self, mut each: impl FnMut(&ChannelName, Counts)) {
        match &self.0 {
            Source::Local(list) => list.iter().for_each(|(name, counts)| each(name, *counts)),
            Source::Cluster(list) => {
                list.channels.iter().for_each(|(name, counts)| each(name, *counts));
            }
        }
    }
}

impl ChannelList {
    pub(super) fn new(channels: BTreeMap<ChannelName, Counts>) -> Self {
        Self { channels, responses: Mutex::default() }
    }

    /// The channels whose names begin with `prefix`, in order.
    pub(super) fn with_prefix<'a>(
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
    fn body(
        &self,
        prefix: &str,
        attributes: [bool; 2],
        render: impl FnOnce(&mut dyn Iterator<Item = (&ChannelName, Counts)>) -> String,
    ) -> Bytes {
        let is_same = |(key, _): &&(ResponseKey, Bytes)| *key.0 == *prefix && key.1 == attributes;
        if let Some((_, body)) = self.responses.lock().iter().find(is_same) {
            return body.clone();
        }
        // The lock is released, so that other threads do not wait.
        let body = Bytes::from(render(&mut self.with_prefix(prefix)));
        let mut bodies = self.responses.lock();
        if bodies.len() < RESPONSES_MAX {
            bodies.push(((prefix.into(), attributes), body.clone()));
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, 100).unwrap()
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
