//! Compares what this node holds with what Redis holds, continuously, in small steps.
//!
//! Each difference is found within 30 seconds: a bus that does not deliver, keys that were evicted or
//! deleted, counts that are not the sum of their parts, contributions of nodes that are not registered.
//! A topic that differs is synced in full, which repairs it silently; subscribers that have missed an
//! event are closed.

use super::{
    cleanup::clean_topic,
    coordinator::{Completion, Coordinator},
    lease::Lease,
    link::RedisConnection,
    names::{Subject, TopicName},
    partition::Partition,
    reason::was_refused,
    scripts::{ScriptCall, ScriptReply, Status, Unexpected},
    shared::ClusterState,
    sync::index_of,
    topic::{Difference, Found, Held, Topic},
};
use crate::{hub::Hub, protocol::ChannelName, throttle::LogThrottle};
use redis::{RedisResult, Value, cmd};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// The interval between comparisons.
const INTERVAL: Duration = Duration::from_secs(2);
/// Number of comparisons in a round of 30 seconds, with some time to spare.
const STEPS: usize = 14;
/// Maximum topics, and members of them, in one command: some milliseconds of Redis' time.
const TOPICS_MAX: usize = 256;
const MEMBERS_MAX: usize = 4_096;

/// The interval between sweeps: scans of the lists in Redis for topics that no node holds.
const SWEEP_INTERVAL: Duration = Duration::from_secs(6);
/// The number of sweeps in a round: half a minute on a single Redis, two minutes on a Redis Cluster.
const SWEEPS: usize = 5;
const SWEEPS_ON_CLUSTER: usize = 20;
/// Maximum entries of a list in one page.
const PAGE: usize = 4_096;
/// Time after which a node that only a partition lists is considered dead: more than joining takes.
const STRANGER_AFTER: Duration = Duration::from_secs(15);
/// When a node is removed that no comparison lists again: longer than a round.
const STRANGER_MEMORY: Duration = Duration::from_secs(40);

/// The progress of the comparison.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Topics that are still to be compared in this round.
    queue: VecDeque<Arc<str>>,
    /// The number of topics in one step.
    step: usize,
    next: Option<Instant>,
    page: ListPage,
    next_sweep: Option<Instant>,
    is_sweeping: bool,
    /// Whether this node's own lists were scanned since Redis may have lost some of its writes.
    has_own: bool,
    /// Topics that were repaired since the last log line.
    repaired: u64,
    repairs: LogThrottle,
}

/// A page of a list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ListPage {
    /// The number of the list among all.
    list: usize,
    cursor: u64,
}

/// The result of a sweep.
#[derive(Debug)]
pub(super) struct Swept {
    first: ListPage,
    next: ListPage,
    /// Topics that Redis lists as this node's and that it does not hold.
    own: Vec<TopicName>,
}

/// The result of one command.
#[derive(Debug)]
pub(super) struct Compared {
    topics: Vec<(Arc<str>, Held)>,
    answer: RedisResult<Value>,
}

/// A list of topics in a partition.
#[derive(Clone, Debug)]
enum TopicList {
    /// Those to which this node contributes.
    Own(Partition),
    /// An app's occupied channels.
    Channels(Arc<str>, Partition),
    /// An app's users that are signed in.
    Users(Arc<str>, Partition),
}

impl Comparison {
    /// Resets the progress after the link is lost.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.next = None;
        self.next_sweep = None;
        self.is_sweeping = false;
        self.scan_own_lists();
    }

    /// Schedules a scan of this node's own lists: Redis may have lost some of its writes.
    pub(super) fn scan_own_lists(&mut self) {
        self.has_own = false;
        self.page = ListPage::default();
    }
}

impl Coordinator {
    /// Starts the comparisons and sweeps that are due.
    pub(super) fn keep_comparing(&mut self, now: Instant) {
        if !self.membership.is_joined() || !self.may_sync() {
            return;
        }
        if self.comparison.next.is_none_or(|at| at <= now) {
            self.comparison.next = Some(now + INTERVAL);
            self.compare_some(now);
        }
        if !self.comparison.is_sweeping && self.comparison.next_sweep.is_none_or(|at| at <= now) {
            self.comparison.next_sweep = Some(now + SWEEP_INTERVAL);
            self.sweep();
        }
        self.log_repairs(now);
    }

    fn compare_some(&mut self, now: Instant) {
        if self.comparison.queue.is_empty() {
            // Each step asks as many masters as possible, so that one that has lost its data is
            // found soon.
            let mut names: Vec<(u8, Arc<str>)> = self
                .topics
                .iter()
                .map(|(name, topic)| (topic.partition.spread(), Arc::clone(name)))
                .collect();
            names.sort_unstable();
            self.comparison.step = names.len().div_ceil(STEPS);
            self.comparison.queue = names.into_iter().map(|(_, name)| name).collect();
        }
        let some = self.comparison.step.min(self.comparison.queue.len());
        let some: Vec<Arc<str>> = self.comparison.queue.drain(..some).collect();
        let mut batches: BTreeMap<Partition, Vec<(Arc<str>, Held)>> = BTreeMap::new();
        let mut members = 0;
        for name in some {
            let Some(topic) = self.topics.get(&name) else { continue };
            // A topic that is being synced is compared in the next round.
            let Some(held) = topic.held(now) else { continue };
            members += held.members;
            let partition = topic.partition;
            let batch = batches.entry(partition).or_default();
            batch.push((name, held));
            if TOPICS_MAX <= batch.len() || MEMBERS_MAX <= members {
                members = 0;
                let batch = std::mem::take(batch);
                self.compare(partition, batch);
            }
        }
        for (partition, batch) in batches.into_iter().filter(|(_, batch)| !batch.is_empty()) {
            self.compare(partition, batch);
        }
    }

    fn compare(&self, partition: Partition, topics: Vec<(Arc<str>, Held)>) {
        let Some(connection) = self.connection.clone() else { return };
        let named = topics
            .iter()
            .filter_map(|(name, held)| Some((&self.topics.get(name)?.name, held.mine, held.users)));
        let by = (&*self.shared, &*self.membership.lease);
        let call = compare_call(by, partition, named);
        self.begin(async move {
            // Messages that arrived on the bus before the answer are handled before it.
            let answer = call.run_in_order(&connection).await;
            Completion::Compared(Compared { topics, answer })
        });
    }

    pub(super) fn on_compared(&mut self, compared: Compared) {
        let Compared { topics, answer } = compared;
        let (found, registered) = match answer.map(read) {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => {
                return self.lose_link("this node's lease has ended, or redis has lost its data");
            }
            Ok(Err(Unexpected)) => {
                return self.shared.metrics.unexpected_data("an answer about topics");
            }
            Err(error) if was_refused(&error) => {
                return tracing::debug!(%error, "redis refused a comparison");
            }
            // The link reports its loss itself.
            Err(_lost) => return,
        };
        let mut is_deaf = false;
        for ((name, held), found) in topics.iter().zip(&found) {
            let Some(topic) = self.topics.get_mut(name) else { continue };
            match topic.compare(held, found) {
                Difference::None => continue,
                Difference::Repair => {}
                Difference::Deaf => is_deaf = true,
            }
            self.comparison.repaired += 1;
            self.shared.metrics.repaired();
            self.touch(name);
        }
        let is_due = is_deaf && self.shared.logs.deaf.due(1, super::clock::now()).is_some();
        if is_due {
            tracing::warn!(
                "the bus has not delivered published messages: topics are subscribed again"
            );
        }
        self.note_strangers(registered);
    }

    /// Cleans up nodes that a partition lists and the home partition does not, after a delay.
    fn note_strangers(&mut self, registered: Vec<String>) {
        let now = super::clock::now();
        let membership = &mut self.membership;
        for node in registered {
            let is_known = membership.alive.contains(&node) || node == membership.node();
            if !is_known {
                membership.strangers.entry(node).or_insert((now, now)).1 = now;
            }
        }
        let alive = &membership.alive;
        // A node that is not found again in a round has left.
        let is_found = |found: Instant| now.saturating_duration_since(found) < STRANGER_MEMORY;
        membership.strangers.retain(|node, (_, found)| !alive.contains(node) && is_found(*found));
        let is_gone = |(first, latest): &(Instant, Instant)| {
            STRANGER_AFTER <= latest.saturating_duration_since(*first)
        };
        let gone = membership.strangers.iter().filter(|(_, found)| is_gone(found));
        for node in gone.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.clean_up_after(node);
        }
    }

    fn log_repairs(&mut self, now: Instant) {
        let comparison = &mut self.comparison;
        let repaired = std::mem::take(&mut comparison.repaired);
        if let Some(topics) = comparison.repairs.due(repaired, now) {
            tracing::warn!(
                topics,
                "repaired topics that differed in Redis from what this node holds"
            );
        }
    }

    /// The lists that this node scans: its own, and those of the apps if it is the first node.
    fn lists(&self) -> Vec<TopicList> {
        let partitions = self.shared.names.partitions();
        if !self.comparison.has_own {
            return partitions.map(TopicList::Own).collect();
        }
        let first = self.membership.alive.iter().min();
        if first.is_none_or(|first| first != self.membership.node()) {
            return Vec::new();
        }
        let mut apps: Vec<&Arc<str>> = self.hubs.keys().collect();
        apps.sort_unstable();
        let of_apps = apps.into_iter().flat_map(|app_id| {
            partitions.clone().flat_map(|partition| {
                let (channels, users) = (Arc::clone(app_id), Arc::clone(app_id));
                [TopicList::Channels(channels, partition), TopicList::Users(users, partition)]
            })
        });
        of_apps.collect()
    }

    /// Scans some pages of the lists.
    fn sweep(&mut self) {
        let Some(connection) = self.connection.clone() else { return };
        let lists = self.lists();
        if lists.is_empty() {
            return;
        }
        let first = self.comparison.page;
        let mut next = if first.list < lists.len() { first } else { ListPage::default() };
        // After a loss, its own lists are short, and scanned at once.
        let sweeps = match (self.comparison.has_own, self.shared.is_cluster) {
            (false, _) => 1,
            (true, false) => SWEEPS,
            (true, true) => SWEEPS_ON_CLUSTER,
        };
        let sweep = Sweep {
            shared: Arc::clone(&self.shared),
            lease: Arc::clone(&self.membership.lease),
            hubs: self.hubs.clone(),
            held: self.topics.keys().cloned().collect(),
            connection,
        };
        self.comparison.is_sweeping = true;
        self.begin_long(async move {
            let mut own = Vec::new();
            for _ in 0..lists.len().div_ceil(sweeps) {
                let Some(list) = lists.get(next.list) else { break };
                match sweep.page(list, next.cursor, &mut own).await {
                    Ok(0) => next = ListPage { list: next.list + 1, cursor: 0 },
                    Ok(cursor) => next.cursor = cursor,
                    Err(error) => {
                        tracing::debug!(%error, "a list of topics was not read");
                        break;
                    }
                }
            }
            Completion::Swept(Swept { first, next, own })
        });
    }

    pub(super) fn on_swept(&mut self, swept: Swept) {
        self.comparison.is_sweeping = false;
        // Unless the scan starts again.
        if self.comparison.page == swept.first {
            self.comparison.page = swept.next;
            if !self.comparison.has_own && self.lists().len() <= swept.next.list {
                self.comparison.has_own = true;
                self.comparison.page = ListPage::default();
            }
        }
        for TopicName { app_id, subject } in swept.own {
            let name = self.topic(&app_id, subject);
            // Redis has lost a withdrawal of this node, or has an older state.
            let is_unknown = self.topics.get_mut(&name).is_some_and(Topic::take_back);
            if is_unknown {
                self.comparison.repaired += 1;
                self.shared.metrics.repaired();
                self.touch(&name);
            }
        }
    }
}

/// A scan of pages of the lists.
struct Sweep {
    shared: Arc<ClusterState>,
    lease: Arc<Lease>,
    hubs: HashMap<Arc<str>, Arc<Hub>>,
    /// The topics of this node, which are compared by themselves.
    held: BTreeSet<Arc<str>>,
    connection: RedisConnection,
}

impl Sweep {
    /// Scans one page, and returns the cursor of the next; 0 if there is none. Topics that are listed
    /// as this node's, and that it does not hold, are added to `own`.
    async fn page(
        &self,
        list: &TopicList,
        cursor: u64,
        own: &mut Vec<TopicName>,
    ) -> RedisResult<u64> {
        let names = &self.shared.names;
        let (command, key, partition) = match list {
            TopicList::Own(partition) => {
                ("SSCAN", names.topics_of(&self.lease.node, *partition), *partition)
            }
            TopicList::Channels(app_id, partition) => {
                ("HSCAN", names.channel_index(app_id, *partition), *partition)
            }
            TopicList::Users(app_id, partition) => {
                ("HSCAN", names.user_index(app_id, *partition), *partition)
            }
        };
        let mut scan = cmd(command);
        scan.arg(key).arg(cursor).arg("COUNT").arg(PAGE);
        let scanned: RedisResult<(u64, Vec<String>)> =
            self.connection.query(partition, &scan).await;
        let (next, entries) = match scanned {
            Ok(scanned) => scanned,
            // A key of another type: the next sync removes it.
            Err(error) if was_refused(&error) => return Ok(0),
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
        let unheld: Vec<(TopicName, usize)> =
            listed.filter(|(name, _)| !self.holds(name)).collect();
        let mut batch = Vec::new();
        let mut members = 0;
        for (name, count) in unheld {
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
        self.held.contains(&*self.shared.names.topic(name))
    }

    /// Repairs the inconsistent ones among topics that this node does not hold.
    async fn check(&self, partition: Partition, topics: &[TopicName]) -> RedisResult<()> {
        let by = (&*self.shared, &*self.lease);
        let call = compare_call(by, partition, topics.iter().map(|name| (name, 0, 0)));
        let Ok(Some((found, _))) = read(call.run(&self.connection).await?) else { return Ok(()) };
        // A name without a registration: only inconsistencies are removed.
        let nobody = format!("{}.0", self.shared.process());
        for (name, found) in topics.iter().zip(found) {
            if found.is_wrong {
                self.shared.metrics.repaired();
                clean_topic(by, &self.hubs, name, &nobody, &self.connection).await?;
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
                (app_id, Subject::Channel(ChannelName::parse(entry, usize::MAX).ok()?))
            }
            Self::Users(app_id, _) => (app_id, Subject::User(entry.into())),
        };
        Some(TopicName { app_id: Arc::clone(app_id), subject })
    }
}

fn compare_call<'a>(
    (shared, lease): (&ClusterState, &Lease),
    partition: Partition,
    topics: impl Iterator<Item = (&'a TopicName, usize, usize)>,
) -> ScriptCall {
    let names = &shared.names;
    let mut call = ScriptCall::guarded(&shared.scripts.compare, partition, names, lease)
        .key(names.topics_of(&lease.node, partition));
    for (name, mine, users) in topics {
        let hash = names.topic(name);
        let field = match &name.subject {
            Subject::Channel(channel) => channel.as_str(),
            Subject::User(user_id) => user_id,
            Subject::Connections => "",
        };
        call = call
            .key(&hash)
            .key(index_of(shared, name).unwrap_or(hash))
            .arg(field)
            .number(mine)
            .number(users);
    }
    call
}

/// The state of each topic, and the registered nodes; `None` if the lease is not valid.
#[expect(clippy::type_complexity, reason = "it is taken apart at once")]
fn read(value: Value) -> Result<Option<(Vec<Found>, Vec<String>)>, Unexpected> {
    let mut answer = ScriptReply::new(value)?;
    let (status, _) = answer.status()?;
    if status != Status::Done {
        return Ok(None);
    }
    let mut found = Vec::new();
    while 1 < answer.left() {
        found.push(Found {
            epoch: answer.text()?,
            version: answer.number()?,
            sequence: answer.number()?,
            is_wrong: answer.number()? == 1,
        });
    }
    Ok(Some((found, answer.texts()?)))
}

#[cfg(test)]
mod tests;
