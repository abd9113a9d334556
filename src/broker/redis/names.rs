//! Names of keys and pub/sub channels in Redis.
//!
//! Each name contains the hash tag of its [`Partition`], so that a script about one channel, or
//! about the contribution of a node, uses one slot of a Redis Cluster. The pub/sub channel of a topic has
//! the same name as its hash.

use super::partition::{PARTITIONS, Partition};
use crate::{
    broker::PublishId,
    protocol::{ChannelName, ClientName},
};
use std::{fmt, sync::Arc};

/// The kinds of state that nodes share.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum TopicSubject {
    /// A channel: its subscribers, members and events.
    Channel(ChannelName),
    /// A user: whether it is signed in anywhere.
    User(Arc<str>),
    /// The connections of an app.
    Connections,
}

/// A subject of an app.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct TopicName {
    pub(super) app_id: Arc<str>,
    pub(super) subject: TopicSubject,
}

/// Formats and parses the names.
#[derive(Debug)]
pub(super) struct KeyNames {
    prefix: String,
    /// The hash tag of each partition, in braces.
    tags: Vec<String>,
}

impl KeyNames {
    /// The prefix of all names.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn new(prefix: &str, is_redis_cluster: bool) -> Self {
        let partitions = Partition::all(if is_redis_cluster { PARTITIONS } else { 1 });
        let tags = partitions.map(|partition| format!("{{{partition}}}")).collect();
        Self { prefix: prefix.to_owned(), tags }
    }

    /// All partitions of this Redis.
    pub(super) fn partitions(&self) -> impl ExactSizeIterator<Item = Partition> + Clone + use<> {
        Partition::all(self.tags.len())
    }

    /// The partition of a topic.
    pub(super) fn partition(&self, name: &TopicName) -> Partition {
        match &name.subject {
            TopicSubject::Channel(channel) => self.channel_partition(&name.app_id, channel),
            TopicSubject::User(user_id) => self.partition_of(&name.app_id, user_id),
            TopicSubject::Connections => self.app_partition(&name.app_id),
        }
    }

    /// The partition of a channel.
    pub(super) fn channel_partition(&self, app_id: &str, channel: &ChannelName) -> Partition {
        self.partition_of(app_id, channel.as_str())
    }

    /// The partition of data that an app has once.
    pub(super) fn app_partition(&self, app_id: &str) -> Partition {
        self.partition_of(app_id, "")
    }

    fn partition_of(&self, app_id: &str, name: &str) -> Partition {
        if self.tags.len() == 1 {
            return Partition::LEASES;
        }
        Partition::for_name(&[app_id.as_bytes(), b":", name.as_bytes()], self.tags.len())
    }

    /// Made without `format!`: a publish has eight keys.
    fn key(&self, kind: &str, partition: Partition, rest: &[&str]) -> String {
        let begin = [&*self.prefix, ":", kind, &*self.tags[partition.index()]];
        let parts = || begin.iter().chain(rest);
        let mut key = String::with_capacity(parts().map(|part| part.len()).sum());
        parts().for_each(|part| key.push_str(part));
        key
    }

    /// The hash of a topic, and its pub/sub channel.
    pub(super) fn topic_key(&self, name: &TopicName) -> String {
        let app_id = &name.app_id;
        match &name.subject {
            TopicSubject::Channel(channel) => self.channel_topic_key(app_id, channel),
            TopicSubject::User(user_id) => {
                self.key("u", self.partition(name), &[app_id, ":", user_id])
            }
            TopicSubject::Connections => self.key("n", self.app_partition(app_id), &[app_id]),
        }
    }

    /// The hash of a channel, and its pub/sub channel.
    pub(super) fn channel_topic_key(&self, app_id: &str, channel: &ChannelName) -> String {
        self.channel_key("c", app_id, channel)
    }

    fn channel_key(&self, kind: &str, app_id: &str, channel: &ChannelName) -> String {
        let partition = self.channel_partition(app_id, channel);
        self.key(kind, partition, &[app_id, ":", channel.as_str()])
    }

    /// Parses the name of a topic. User ids and channel names have no colon, app ids may have some.
    pub(super) fn parse(&self, name: &str) -> Option<TopicName> {
        let rest = name.strip_prefix(&self.prefix)?.strip_prefix(':')?;
        let (kind, rest) = rest.split_once('{')?;
        let (tag, rest) = rest.split_once('}')?;
        let partition = Partition::from_tag(tag)?;
        let (app_id, subject) = match kind {
            "n" => (rest, TopicSubject::Connections),
            "u" => {
                let (app_id, user_id) = rest.rsplit_once(':')?;
                (app_id, TopicSubject::User(user_id.into()))
            }
            "c" => {
                let (app_id, channel) = rest.rsplit_once(':')?;
                // Its length was checked when it was first received.
                let channel = ChannelName::parse(channel, usize::MAX).ok()?;
                (app_id, TopicSubject::Channel(channel))
            }
            _ => return None,
        };
        let name = TopicName { app_id: app_id.into(), subject };
        (self.partition(&name) == partition).then_some(name)
    }

    /// The cached event of a cache channel.
    pub(super) fn cached_event_key(&self, app_id: &str, channel: &ChannelName) -> String {
        self.channel_key("e", app_id, channel)
    }

    /// The ids of a channel's recent events.
    pub(super) fn recent_event_ids_key(&self, app_id: &str, channel: &ChannelName) -> String {
        self.channel_key("r", app_id, channel)
    }

    /// The log of a channel's events.
    pub(super) fn channel_log_key(&self, app_id: &str, channel: &ChannelName) -> String {
        self.channel_key("x", app_id, channel)
    }

    /// The logs of the channels of a partition, by their oldest events.
    pub(super) fn log_order_key(&self, partition: Partition) -> String {
        self.key("xo", partition, &[])
    }

    /// The logs of the channels of a partition, by the times after which their oldest events are too old.
    pub(super) fn log_ends_key(&self, partition: Partition) -> String {
        self.key("xe", partition, &[])
    }

    /// The bytes of the logs of the channels of a partition.
    pub(super) fn log_sizes_key(&self, partition: Partition) -> String {
        self.key("xs", partition, &[])
    }

    /// The record of a publish with an idempotency key.
    pub(super) fn publish_record_key(
        &self,
        app_id: &str,
        channel: &ChannelName,
        id: PublishId,
    ) -> String {
        let partition = self.channel_partition(app_id, channel);
        self.key("k", partition, &[app_id, ":", &id.to_string()])
    }

    /// The record of a client with a token, and its partition.
    pub(super) fn client_record(&self, client: &ClientName) -> (Partition, String) {
        let ClientName { app_id, token } = client;
        let partition = self.partition_of(app_id, token.as_str());
        (partition, self.key("t", partition, &[app_id, ":", token.as_str()]))
    }

    /// The app's occupied channels of a partition, with their counts.
    pub(super) fn channel_index_key(&self, app_id: &str, partition: Partition) -> String {
        self.key("i", partition, &[app_id])
    }

    /// The app's users of a partition that are signed in.
    pub(super) fn user_index_key(&self, app_id: &str, partition: Partition) -> String {
        self.key("j", partition, &[app_id])
    }

    /// A key that an app has once, in its partition.
    pub(super) fn app_key(&self, what: &str, app_id: &str) -> String {
        self.key(what, self.app_partition(app_id), &[app_id])
    }

    /// The webhook log of an app in a partition. That in the partition of the app is the app's log.
    pub(super) fn webhook_log_key(&self, app_id: &str, partition: Partition) -> String {
        self.key("log", partition, &[app_id])
    }

    /// The state of a webhook log (see `lua/log.lua`).
    pub(super) fn webhook_log_state_key(&self, app_id: &str, partition: Partition) -> String {
        self.key("logstate", partition, &[app_id])
    }

    /// The nodes that may write to a partition, and the partition's generation.
    pub(super) fn registry_key(&self, partition: Partition) -> String {
        self.key("nodes", partition, &[])
    }

    /// The pub/sub channel on which all nodes receive control messages.
    pub(super) fn control_channel(&self) -> String {
        self.key("bus", Partition::LEASES, &[])
    }

    /// The pub/sub channel on which one process receives control messages.
    pub(super) fn process_channel(&self, process: &str) -> String {
        self.key("bus", Partition::LEASES, &[process])
    }

    /// The topics of a partition to which a node contributes.
    pub(super) fn node_topics_key(&self, node: &str, partition: Partition) -> String {
        self.key("topics", partition, &[node])
    }

    /// The leases of the first key layout, which had no version.
    pub(super) fn unversioned_leases(&self) -> String {
        format!("{}:leases{{nodes}}", self.prefix)
    }
}

impl fmt::Display for TopicSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => channel.fmt(f),
            Self::User(user_id) => write!(f, "user {user_id}"),
            Self::Connections => f.write_str("connections"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::IdempotencyKey;

    #[test]
    fn names_are_parsed_as_they_were_formatted() {
        let channel = ChannelName::parse("presence-a.b;c", 100).unwrap();
        for is_redis_cluster in [false, true] {
            let names = KeyNames::new("campanile", is_redis_cluster);
            for subject in [
                TopicSubject::Channel(channel.clone()),
                TopicSubject::User("a=1".into()),
                TopicSubject::Connections,
            ] {
                let name = TopicName { app_id: "an:app{1}".into(), subject };
                assert_eq!(names.parse(&names.topic_key(&name)), Some(name));
            }
        }
    }

    #[test]
    fn names_of_other_programs_are_rejected() {
        let names = KeyNames::new("campanile", true);
        let channel = ChannelName::parse("a", 100).unwrap();
        let known = names.channel_topic_key("1", &channel);
        assert!(names.parse(&known).is_some());
        let elsewhere = names.partitions().map(|partition| names.key("c", partition, &["1:a"]));
        assert_eq!(elsewhere.filter(|name| names.parse(name).is_some()).count(), 1);
        for name in ["", "x", "campanile:", "campanile:c{a}", "campanile:x{a:b}", "other:c{a:b}"] {
            assert_eq!(names.parse(name), None, "{name}");
        }
    }

    /// Nodes of one layout version find one another's keys by these names.
    #[test]
    fn each_kind_of_key_has_its_name() {
        let names = KeyNames::new("p", false);
        let channel = ChannelName::parse("cache-a", 100).unwrap();
        let leases = Partition::LEASES;
        let publish_id = IdempotencyKey::parse("k").unwrap().publish_id(&channel, "e");
        for (name, expected) in [
            (names.channel_topic_key("1", &channel), "p:c{460}1:cache-a"),
            (names.cached_event_key("1", &channel), "p:e{460}1:cache-a"),
            (names.recent_event_ids_key("1", &channel), "p:r{460}1:cache-a"),
            (names.channel_log_key("1", &channel), "p:x{460}1:cache-a"),
            (names.log_order_key(leases), "p:xo{460}"),
            (names.log_ends_key(leases), "p:xe{460}"),
            (names.log_sizes_key(leases), "p:xs{460}"),
            (
                names.publish_record_key("1", &channel, publish_id),
                "p:k{460}1:ebc114150ce03d54d4b8d4a5e18ab0c4",
            ),
            (names.channel_index_key("1", leases), "p:i{460}1"),
            (names.user_index_key("1", leases), "p:j{460}1"),
            (names.app_key("queue", "1"), "p:queue{460}1"),
            (names.webhook_log_key("1", leases), "p:log{460}1"),
            (names.webhook_log_state_key("1", leases), "p:logstate{460}1"),
            (names.registry_key(leases), "p:nodes{460}"),
            (names.control_channel(), "p:bus{460}"),
            (names.process_channel("0a1b2c"), "p:bus{460}0a1b2c"),
            (names.node_topics_key("ab.1", leases), "p:topics{460}ab.1"),
            (names.unversioned_leases(), "p:leases{nodes}"),
        ] {
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn only_a_redis_cluster_has_several_partitions() {
        let channels: Vec<_> =
            (0..99).map(|at| ChannelName::parse(&format!("c{at}"), 100).unwrap()).collect();
        let used = |names: &KeyNames| {
            let used = channels.iter().map(|channel| names.channel_partition("1", channel));
            used.collect::<std::collections::BTreeSet<_>>().len()
        };
        let (single, cluster) = (KeyNames::new("p", false), KeyNames::new("p", true));
        assert_eq!((single.partitions().len(), used(&single)), (1, 1));
        assert_eq!(cluster.partitions().len(), PARTITIONS);
        assert!(60 < used(&cluster));
        assert_ne!(cluster.app_partition("1"), cluster.app_partition("2"), "apps spread, too");
    }
}
