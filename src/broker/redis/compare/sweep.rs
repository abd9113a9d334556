//! Scans the lists in Redis for topics that this node does not hold.

use super::{MEMBERS_MAX, TOPICS_MAX, compare_call, parse_compare_reply};
use crate::{
    broker::redis::{
        cleanup::clean_topic,
        cluster_state::ClusterState,
        fencing_token::FencingToken,
        link::RedisConnection,
        names::{TopicName, TopicSubject},
        partition::Partition,
        reason::was_rejected,
    },
    hub::Hub,
    protocol::ChannelName,
};
use redis::{RedisResult, cmd};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Maximum entries of a list in one page.
const PAGE: usize = 4_096;

/// A list of topics in a partition.
#[derive(Clone, Debug)]
pub(super) enum TopicList {
    /// Those to which this node contributes.
    Own(Partition),
    /// An app's occupied channels.
    Channels(Arc<str>, Partition),
    /// An app's users that are signed in.
    Users(Arc<str>, Partition),
}

/// A scan of pages of the lists.
pub(super) struct Sweep {
    pub(super) shared: Arc<ClusterState>,
    pub(super) token: Arc<FencingToken>,
    pub(super) hubs: HashMap<Arc<str>, Arc<Hub>>,
    /// The topics of this node, which are compared by themselves.
    pub(super) held: BTreeSet<Arc<str>>,
    pub(super) connection: RedisConnection,
}

impl Sweep {
    /// Scans one page, and returns the cursor of the next; 0 if there is none. Topics that are listed
    /// as this node's, and that it does not hold, are added to `own`.
    pub(super) async fn page(
        &self,
        list: &TopicList,
        cursor: u64,
        own: &mut Vec<TopicName>,
    ) -> RedisResult<u64> {
        let names = &self.shared.names;
        let (command, key, partition) = match list {
            TopicList::Own(partition) => {
                ("SSCAN", names.node_topics_key(&self.token.node, *partition), *partition)
            }
            TopicList::Channels(app_id, partition) => {
                ("HSCAN", names.channel_index_key(app_id, *partition), *partition)
            }
            TopicList::Users(app_id, partition) => {
                ("HSCAN", names.user_index_key(app_id, *partition), *partition)
            }
        };
        let mut scan = cmd(command);
        scan.arg(key).arg(cursor).arg("COUNT").arg(PAGE);
        let scanned: RedisResult<(u64, Vec<String>)> =
            self.connection.query(partition, &scan).await;
        let (next, entries) = match scanned {
            Ok(scanned) => scanned,
            // A key of another type: the next sync removes it.
            Err(error) if was_rejected(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        if matches!(list, TopicList::Own(_)) {
            let own_of_page = entries.iter().filter_map(|entry| names.parse(entry));
            own.extend(own_of_page.filter(|name| !self.holds(name)));
            return Ok(next);
        }
        // Each name is followed by its counts, the total and the members.
        let listed = entries.chunks_exact(2).filter_map(|entry| {
            let members = entry[1].rsplit(' ').next()?.parse().unwrap_or(0);
            Some((list.topic(&entry[0])?, members))
        });
        let not_held: Vec<(TopicName, usize)> =
            listed.filter(|(name, _)| !self.holds(name)).collect();
        let mut batch = Vec::new();
        let mut members = 0;
        for (name, count) in not_held {
            batch.push(name);
            members += count;
            if TOPICS_MAX <= batch.len() || MEMBERS_MAX <= members {
                members = 0;
                self.check(partition, &std::mem::take(&mut batch)).await?;
            }
        }
        if !batch.is_empty() {
            self.check(partition, &batch).await?;
        }
        Ok(next)
    }

    fn holds(&self, name: &TopicName) -> bool {
        self.held.contains(&*self.shared.names.topic_key(name))
    }

    /// Repairs the inconsistent ones among topics that this node does not hold.
    async fn check(&self, partition: Partition, topics: &[TopicName]) -> RedisResult<()> {
        let (shared, token) = (&*self.shared, &*self.token);
        let not_held = topics.iter().map(|name| (name, 0, 0));
        let call = compare_call(shared, token, partition, not_held);
        let Ok(Some((found, _))) = parse_compare_reply(call.run(&self.connection).await?) else {
            return Ok(());
        };
        // No node is registered under this name, so the sync changes nothing but inconsistencies.
        let no_node = format!("{}.0", self.shared.process());
        for (name, found) in topics.iter().zip(found) {
            if found.is_inconsistent {
                self.shared.metrics.count_repair();
                clean_topic((shared, token), &self.hubs, name, &no_node, &self.connection).await?;
            }
        }
        Ok(())
    }
}

impl TopicList {
    /// The topic of an index entry.
    fn topic(&self, entry: &str) -> Option<TopicName> {
        let (app_id, subject) = match self {
            Self::Own(_) => return None,
            Self::Channels(app_id, _) => {
                (app_id, TopicSubject::Channel(ChannelName::parse(entry, usize::MAX).ok()?))
            }
            Self::Users(app_id, _) => (app_id, TopicSubject::User(entry.into())),
        };
        Some(TopicName { app_id: Arc::clone(app_id), subject })
    }
}
