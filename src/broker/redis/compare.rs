//! Compares what this node holds with what Redis holds, continuously, in small steps.
//!
//! Each difference is found within 30 seconds, or two minutes for topics of a Redis Cluster that no node
//! holds: pub/sub messages that were lost, keys that were evicted or
//! deleted, counts that are not the sum of the contributions, contributions of nodes that are not registered.
//! A topic that differs is synced in full, which clients do not notice. The connections of subscribers that
//! have missed an event are closed with 4200.

mod sweep;
#[cfg(test)]
mod tests;

use super::{
    clock::now,
    cluster_state::ClusterState,
    fencing_token::FencingToken,
    membership::{LEASE_ENDED, Membership},
    names::{TopicName, TopicSubject},
    partition::Partition,
    reason::{UnavailableReason, was_rejected},
    scripts::{ScriptCall, ScriptReply, Status, Unexpected},
    sync::index_of,
    tick_context::TickContext,
    topic::{Difference, LocalState, RedisState, Topic},
    topics::Topics,
};
use crate::throttle::LogThrottle;
use futures_util::{FutureExt as _, future::BoxFuture};
use redis::{RedisResult, Value};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use sweep::{Sweep, TopicList};

/// The interval between comparisons.
const COMPARE_INTERVAL: Duration = Duration::from_secs(2);
/// Number of comparisons in a round of 30 seconds, with some time to spare.
const COMPARISONS_PER_ROUND: usize = 14;
/// Maximum topics, and members of them, in one command: some milliseconds of Redis' time.
const TOPICS_MAX: usize = 256;
const MEMBERS_MAX: usize = 4_096;

/// The interval between sweeps: scans of the lists in Redis for topics that no node holds.
const SWEEP_INTERVAL: Duration = Duration::from_secs(6);
/// The number of sweeps in a round: half a minute on a single Redis, two minutes on a Redis Cluster.
const SWEEPS_PER_ROUND: usize = 5;
const SWEEPS_PER_ROUND_ON_CLUSTER: usize = 20;

/// The progress of the comparison of topics, and of the scan of the lists.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The last compared topic. Topics after it, including new ones, are compared later in this round.
    last_compared: Option<ScanPosition>,
    /// Topics that were being synced when it was their turn: they are compared in the next step.
    skipped: Vec<Arc<str>>,
    compare_at: Option<Instant>,
    next_page: ListPage,
    next_sweep: Option<Instant>,
    is_sweeping: bool,
    /// Whether this node's own lists were scanned since Redis may have lost some of its writes.
    own_lists_scanned: bool,
    /// Topics that were repaired since the last log line.
    repaired: u64,
    repairs: LogThrottle,
}

/// A position in the scan order. Consecutive topics are on different masters, so that each comparison
/// queries many of them.
type ScanPosition = (u8, Arc<str>);

/// A page of one of the lists that [`Sweep`] scans.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ListPage {
    /// The number of the list among all.
    list: usize,
    cursor: u64,
}

/// The result of a scan of some pages.
#[derive(Debug)]
pub(super) struct Swept {
    first: ListPage,
    next: ListPage,
    /// Topics that Redis lists as this node's and that it does not hold.
    unknown_topics: Vec<TopicName>,
}

/// The result of one call of `lua/compare.lua`.
#[derive(Debug)]
pub(super) struct Compared {
    topics: Vec<(Arc<str>, LocalState)>,
    reply: RedisResult<Value>,
}

impl Comparison {
    /// Resets the progress after the link is lost.
    pub(super) fn clear(&mut self) {
        self.last_compared = None;
        self.skipped.clear();
        self.compare_at = None;
        self.next_sweep = None;
        self.is_sweeping = false;
        self.scan_own_lists();
    }

    /// Schedules a scan of this node's own lists: Redis may have lost some of its writes.
    pub(super) fn scan_own_lists(&mut self) {
        self.own_lists_scanned = false;
        self.next_page = ListPage::default();
    }
}

/// The comparisons and the sweep that are due, as tasks.
pub(super) struct DueComparisons {
    pub(super) compare: Vec<BoxFuture<'static, Compared>>,
    pub(super) sweep: Option<BoxFuture<'static, Swept>>,
}

impl Comparison {
    /// The comparisons and sweeps that are due.
    pub(super) fn due(&mut self, now: Instant, context: TickContext<'_>) -> DueComparisons {
        let mut due = DueComparisons { compare: Vec::new(), sweep: None };
        if !context.membership.is_joined() {
            return due;
        }
        if self.compare_at.is_none_or(|at| at <= now) {
            self.compare_at = Some(now + COMPARE_INTERVAL);
            due.compare = self.due_comparisons(context, now);
        }
        if !self.is_sweeping && self.next_sweep.is_none_or(|at| at <= now) {
            self.next_sweep = Some(now + SWEEP_INTERVAL);
            due.sweep = self.sweep(context);
        }
        self.log_repairs(now);
        due
    }

    /// The topics of the next step.
    fn next_names(&mut self, topics: &Topics) -> Vec<Arc<str>> {
        let position = |(name, topic): (_, &Topic)| (topic.partition.scan_order(), name);
        let mut ahead: Vec<(u8, &Arc<str>)> = topics.all.iter().map(position).collect();
        let step = ahead.len().div_ceil(COMPARISONS_PER_ROUND);
        if let Some((spread, name)) = &self.last_compared {
            let is_ahead = |position: &(u8, &Arc<str>)| (*spread, name) < *position;
            if ahead.iter().any(is_ahead) {
                ahead.retain(is_ahead);
            }
        }
        if step < ahead.len() {
            ahead.select_nth_unstable(step);
            ahead.truncate(step);
        }
        self.last_compared = ahead.iter().max().map(|(spread, name)| (*spread, Arc::clone(name)));
        let mut names = std::mem::take(&mut self.skipped);
        names.extend(ahead.into_iter().map(|(_, name)| Arc::clone(name)));
        names
    }

    fn due_comparisons(
        &mut self,
        context: TickContext<'_>,
        now: Instant,
    ) -> Vec<BoxFuture<'static, Compared>> {
        let topics = &context.topics.all;
        let mut full = Vec::new();
        let mut batches: BTreeMap<Partition, Vec<(Arc<str>, LocalState)>> = BTreeMap::new();
        let mut members = 0;
        for name in self.next_names(context.topics) {
            let Some(topic) = topics.get(&name) else { continue };
            let Some(local) = topic.local_state(now) else {
                self.skipped.push(name);
                continue;
            };
            members += local.members;
            let batch = batches.entry(topic.partition).or_default();
            batch.push((name, local));
            if TOPICS_MAX <= batch.len() || MEMBERS_MAX <= members {
                members = 0;
                full.push((topic.partition, std::mem::take(batch)));
            }
        }
        full.extend(batches.into_iter().filter(|(_, batch)| !batch.is_empty()));
        full.into_iter().map(|(partition, batch)| compare(context, partition, batch)).collect()
    }

    /// Schedules the repair of topics that differ. Returns the nodes that the partition lists, if
    /// it has answered.
    ///
    /// # Errors
    ///
    /// The reason for which the link must be closed.
    pub(super) fn on_compared(
        &mut self,
        Compared { topics: compared, reply }: Compared,
        shared: &ClusterState,
        topics: &mut Topics,
    ) -> Result<Option<Vec<String>>, UnavailableReason> {
        let (found, registered) = match reply.map(parse_compare_reply) {
            Ok(Ok(Some(reply))) => reply,
            Ok(Ok(None)) => return Err(LEASE_ENDED.into()),
            Ok(Err(Unexpected)) => {
                shared.metrics.count_unexpected_data("a reply about topics");
                return Ok(None);
            }
            Err(error) if was_rejected(&error) => {
                tracing::debug!(%error, "redis rejected a comparison");
                return Ok(None);
            }
            // The link reports its loss itself.
            Err(_lost) => return Ok(None),
        };
        let mut has_missed = false;
        for ((name, local), found) in compared.iter().zip(&found) {
            let Some(topic) = topics.all.get_mut(name) else { continue };
            match topic.compare(local, found) {
                Difference::None => continue,
                Difference::Repair => {}
                Difference::Missed => has_missed = true,
            }
            self.repaired += 1;
            shared.metrics.count_repair();
            topics.schedule(name);
        }
        if has_missed && shared.log_throttles.missed.record(1, now()).is_some() {
            tracing::warn!("pub/sub messages were lost, resubscribing");
        }
        Ok(Some(registered))
    }

    fn log_repairs(&mut self, now: Instant) {
        let repaired = std::mem::take(&mut self.repaired);
        if let Some(topics) = self.repairs.record(repaired, now) {
            tracing::warn!(topics, "repaired topics whose state in Redis was inconsistent");
        }
    }

    /// The lists that this node scans: its own, and those of the apps if it is the leader.
    fn lists(
        &self,
        shared: &ClusterState,
        membership: &Membership,
        topics: &Topics,
    ) -> Vec<TopicList> {
        let partitions = shared.names.partitions();
        if !self.own_lists_scanned {
            return partitions.map(TopicList::Own).collect();
        }
        if !membership.nodes.is_leader(membership.node()) {
            return Vec::new();
        }
        let mut apps: Vec<&Arc<str>> = topics.hubs.keys().collect();
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
    fn sweep(&mut self, context: TickContext<'_>) -> Option<BoxFuture<'static, Swept>> {
        let TickContext { shared, membership, topics, connection } = context;
        let lists = self.lists(shared, membership, topics);
        if lists.is_empty() {
            return None;
        }
        let first = self.next_page;
        let mut next = if first.list < lists.len() { first } else { ListPage::default() };
        // After a loss, its own lists are short, and scanned at once.
        let sweeps = match (self.own_lists_scanned, shared.is_redis_cluster) {
            (false, _) => 1,
            (true, false) => SWEEPS_PER_ROUND,
            (true, true) => SWEEPS_PER_ROUND_ON_CLUSTER,
        };
        let sweep = Sweep {
            shared: Arc::clone(shared),
            token: Arc::clone(&membership.token),
            hubs: topics.hubs.clone(),
            held: topics.all.keys().cloned().collect(),
            connection: connection.clone(),
        };
        self.is_sweeping = true;
        let task = async move {
            let mut own = Vec::new();
            for _ in 0..lists.len().div_ceil(sweeps) {
                let Some(list) = lists.get(next.list) else { break };
                match sweep.page(list, next.cursor, &mut own).await {
                    Ok(0) => next = ListPage { list: next.list + 1, cursor: 0 },
                    Ok(cursor) => next.cursor = cursor,
                    Err(error) => {
                        tracing::debug!(%error, "scanning a topic list failed");
                        break;
                    }
                }
            }
            Swept { first, next, unknown_topics: own }
        };
        Some(task.boxed())
    }

    /// Records the progress of a sweep, and withdraws contributions that this node does not have.
    pub(super) fn on_swept(
        &mut self,
        swept: Swept,
        shared: &ClusterState,
        membership: &Membership,
        topics: &mut Topics,
    ) {
        self.is_sweeping = false;
        // Unless the scan starts again.
        if self.next_page == swept.first {
            self.next_page = swept.next;
            if !self.own_lists_scanned
                && self.lists(shared, membership, topics).len() <= swept.next.list
            {
                self.own_lists_scanned = true;
                self.next_page = ListPage::default();
            }
        }
        for TopicName { app_id, subject } in swept.unknown_topics {
            let name = topics.get_or_create(&app_id, subject);
            // Redis has lost a withdrawal of this node, or has an older state.
            let is_unknown = topics.all.get_mut(&name).is_some_and(Topic::withdraw_unknown);
            if is_unknown {
                self.repaired += 1;
                shared.metrics.count_repair();
                topics.schedule(&name);
            }
        }
    }
}

fn compare(
    context: TickContext<'_>,
    partition: Partition,
    topics: Vec<(Arc<str>, LocalState)>,
) -> BoxFuture<'static, Compared> {
    let topics_with_counts = topics.iter().filter_map(|(name, local)| {
        Some((&context.topics.all.get(name)?.name, local.own_total, local.users))
    });
    let call =
        compare_call(context.shared, &context.membership.token, partition, topics_with_counts);
    let connection = context.connection.clone();
    let task = async move {
        // Pub/sub messages that arrived before the reply are handled before it.
        let reply = call.run_in_order(&connection).await;
        Compared { topics, reply }
    };
    task.boxed()
}

fn compare_call<'a>(
    shared: &ClusterState,
    token: &FencingToken,
    partition: Partition,
    topics: impl Iterator<Item = (&'a TopicName, usize, usize)>,
) -> ScriptCall {
    let names = &shared.names;
    let mut call = ScriptCall::fenced(&shared.scripts.compare, partition, names, token)
        .key(names.node_topics_key(&token.node, partition));
    for (name, own_total, users) in topics {
        let hash = names.topic_key(name);
        let field = match &name.subject {
            TopicSubject::Channel(channel) => channel.as_str(),
            TopicSubject::User(user_id) => user_id,
            TopicSubject::Connections => "",
        };
        call = call
            .key(&hash)
            .key(index_of(shared, name).unwrap_or(hash))
            .arg(field)
            .number(own_total)
            .number(users);
    }
    call
}

/// The state of each topic, and the registered nodes; `None` if the fencing token is outdated.
#[expect(clippy::type_complexity, reason = "it is taken apart at once")]
fn parse_compare_reply(value: Value) -> Result<Option<(Vec<RedisState>, Vec<String>)>, Unexpected> {
    let mut reply = ScriptReply::new(value)?;
    let (status, _) = reply.status()?;
    if status != Status::Done {
        return Ok(None);
    }
    let mut found = Vec::new();
    while 1 < reply.remaining() {
        found.push(RedisState {
            epoch: reply.text()?,
            version: reply.number()?,
            sequence: reply.number()?,
            is_inconsistent: reply.number()? == 1,
        });
    }
    Ok(Some((found, reply.texts()?)))
}
