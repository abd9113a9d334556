//! The link to Redis over time: connecting, joining, heartbeats, disconnecting.

use super::{
    clock::now,
    coordinator::{Completion, Coordinator},
    link::{Pushes, RedisConnection, RedisEndpoint},
    link_state::{Joined, LinkState},
    membership::{HEARTBEAT_INTERVAL, HeartbeatPhase, HeartbeatReply, LAYOUT, Registered, Stage},
    partition::Partition,
    published_sequences,
    reason::{Reason, was_refused},
    shared::ClusterState,
    topic::Effect,
};
use redis::{RedisError, RedisResult, cmd};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Time without an answer after which the link is closed.
const LINK_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum time for connecting, with all its steps.
const CONNECTING_MAX: Duration = Duration::from_secs(15);
/// The maximum error of a node's estimate of a time in Redis.
const MARGIN: Duration = Duration::from_secs(1);

/// The reason that is shown while nodes of another version use the same keys.
const OTHER_LAYOUT: &str =
    "nodes of another version of Campanile, with another key layout, use this Redis and prefix";

impl Coordinator {
    /// Whether topics may be synced now.
    pub(super) fn may_sync(&self) -> bool {
        match self.membership.stage {
            Stage::Disconnected(_) | Stage::Connecting | Stage::Joining | Stage::Restoring => false,
            Stage::Syncing | Stage::Arriving | Stage::Waiting => true,
            Stage::Joined => matches!(&*self.shared.link_state.borrow(), LinkState::Joined(_)),
        }
    }

    /// Runs the timers of the link.
    pub(super) fn keep_link(&mut self, now: Instant) {
        if let Some(asked) = self.membership.asked {
            let waited = now.saturating_duration_since(asked);
            if LINK_TIMEOUT < waited {
                return self.lose_link("redis does not answer");
            }
            if self.shared.suspect_after() < waited {
                self.shared.suspect();
            }
        }
        if self.connection.is_some() && self.shared.is_refused(self.membership.lease.link) {
            return self.lose_link("this node's lease has ended, or redis has lost its data");
        }
        // From its first heartbeat on, this node receives its own messages on the bus.
        let is_linked = !matches!(
            self.membership.stage,
            Stage::Disconnected(_) | Stage::Connecting | Stage::Joining
        );
        let patience = LINK_TIMEOUT + HEARTBEAT_INTERVAL + self.in_flight.time();
        if is_linked && patience < now.saturating_duration_since(self.membership.echoed) {
            return self.lose_link("the bus is silent");
        }
        match self.membership.stage {
            Stage::Disconnected(at) if at <= now && self.stopping.is_none() => self.connect(),
            Stage::Disconnected(_) | Stage::Connecting | Stage::Joining | Stage::Arriving => {}
            Stage::Syncing => {
                if self.unsettled.is_empty() {
                    self.membership.stage = Stage::Arriving;
                    self.send_heartbeat(HeartbeatPhase::Arrive, now);
                } else {
                    self.heartbeat_when_due(HeartbeatPhase::Busy, now);
                }
            }
            Stage::Restoring => self.heartbeat_when_due(HeartbeatPhase::Busy, now),
            Stage::Waiting => self.heartbeat_when_due(HeartbeatPhase::Heartbeat, now),
            Stage::Joined => {
                let is_suspect = matches!(&*self.shared.link_state.borrow(), LinkState::Suspect);
                if is_suspect && self.membership.asked.is_none() {
                    self.membership.next_heartbeat = now;
                }
                self.heartbeat_when_due(HeartbeatPhase::Heartbeat, now);
            }
        }
    }

    fn connect(&mut self) {
        self.membership.stage = Stage::Connecting;
        self.membership.next_link();
        let (endpoint, shared) = (Arc::clone(&self.endpoint), Arc::clone(&self.shared));
        self.begin(async move {
            let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
            let connecting = timeout(CONNECTING_MAX, connect(&endpoint, &shared)).await;
            Completion::Connected(connecting.unwrap_or_else(|_| Err(Reason::of(&late()))))
        });
    }

    fn on_connected(&mut self, result: Result<Box<(RedisConnection, Pushes)>, Reason>) {
        match result {
            Ok(linked) => {
                let (connection, pushes) = *linked;
                self.connection = Some(connection);
                self.pushes = Some(pushes);
                self.membership.stage = Stage::Joining;
                self.membership.echoed = now();
                self.send_heartbeat(HeartbeatPhase::Join, now());
            }
            Err(reason) => {
                tracing::debug!(reason = &*reason.text, "no link to redis");
                self.disconnect(reason);
            }
        }
    }

    fn heartbeat_when_due(&mut self, phase: HeartbeatPhase, now: Instant) {
        if self.membership.asked.is_none() && self.membership.next_heartbeat <= now {
            self.send_heartbeat(phase, now);
        }
    }

    pub(super) fn send_heartbeat(&mut self, phase: HeartbeatPhase, now: Instant) {
        let Some(connection) = self.connection.clone() else { return };
        let partitions: Vec<Partition> = match phase {
            HeartbeatPhase::Join | HeartbeatPhase::Leave => {
                self.shared.names.partitions().collect()
            }
            HeartbeatPhase::Busy | HeartbeatPhase::Arrive | HeartbeatPhase::Heartbeat => {
                self.membership.closed.iter().copied().collect()
            }
        };
        self.membership.asked = Some(now);
        self.membership.next_heartbeat = now + self.membership.interval();
        let round = self.membership.round(&self.shared, phase, partitions, connection);
        self.begin(async move { Completion::Heartbeat(phase, round.await) });
    }

    fn on_heartbeat(&mut self, phase: HeartbeatPhase, replies: RedisResult<Vec<HeartbeatReply>>) {
        self.membership.asked = None;
        let mut replies = match replies {
            Ok(replies) => replies,
            Err(error) => return self.lose_link(Reason::of(&error)),
        };
        for reply in &replies {
            self.shared.clock.learn(reply.partition, reply.redis_ms, reply.times);
            let (asked, answered) = reply.times;
            self.shared.answered_in(answered.saturating_duration_since(asked));
            match reply.status {
                Registered::Yes => {}
                Registered::LeaseExpired => return self.on_lease_expired(phase, reply.partition),
                Registered::OtherLayout => {
                    let versions = format!("theirs is {}, ours is {LAYOUT}", reply.generation);
                    let text = format!("{OTHER_LAYOUT}: {versions}");
                    return self.lose_link(Reason::other_layout(&text));
                }
            }
        }
        let is_other = |reply: &HeartbeatReply| {
            reply.generation != self.membership.lease.generation(reply.partition)
        };
        if phase != HeartbeatPhase::Join && replies.iter().any(is_other) {
            return self.lose_link("redis has begun again");
        }
        for reply in replies.iter().filter(|reply| reply.is_open) {
            self.membership.closed.remove(&reply.partition);
        }
        match phase {
            HeartbeatPhase::Join => return self.on_joined(&replies),
            HeartbeatPhase::Arrive => self.on_arrived(&replies),
            HeartbeatPhase::Busy | HeartbeatPhase::Heartbeat | HeartbeatPhase::Leave => {}
        }
        self.become_joined();
        self.shared.metrics.set_topics(self.topics.len());
        let home = replies.swap_remove(0);
        if matches!(self.membership.stage, Stage::Waiting | Stage::Joined) {
            self.membership.set_alive(home.alive);
        }
        if self.membership.is_joined() {
            self.set_joined();
            let former = self.membership.former.iter().cloned();
            for node in home.dead.into_iter().chain(former.collect::<Vec<_>>()) {
                self.clean_up_after(node);
            }
        }
    }

    /// Joins again after this node was declared dead or Redis has lost its data; under another name
    /// if it was declared dead.
    fn on_lease_expired(&mut self, phase: HeartbeatPhase, partition: Partition) {
        if phase != HeartbeatPhase::Join {
            return self.lose_link("this node's lease has ended, or redis has lost its data");
        }
        tracing::info!(node = self.membership.node(), %partition, "declared dead by another node");
        self.membership.rename();
        for topic in self.topics.values_mut() {
            topic.is_unknown();
        }
        self.membership.next_link();
        self.send_heartbeat(HeartbeatPhase::Join, now());
    }

    /// Continues once all partitions have registered this node. Those of another generation may
    /// have lost data.
    fn on_joined(&mut self, replies: &[HeartbeatReply]) {
        let membership = &mut self.membership;
        let before = Arc::clone(&membership.lease);
        let lease = Arc::make_mut(&mut membership.lease);
        lease.generations = replies.iter().map(|reply| reply.generation.as_str().into()).collect();
        membership.was_registered = true;
        let closed = replies.iter().filter(|reply| !reply.is_open).map(|reply| reply.partition);
        membership.closed = closed.collect();
        let is_changed = |partition: &Partition| {
            before.generation(*partition) != self.membership.lease.generation(*partition)
        };
        let changed: BTreeSet<Partition> =
            replies.iter().map(|reply| reply.partition).filter(is_changed).collect();
        self.shared.clear_refusal();
        for topic in self.topics.values_mut().filter(|topic| changed.contains(&topic.partition)) {
            topic.lose_data();
        }
        self.changed.clone_from(&changed);
        if changed.is_empty() || before.generations.is_empty() {
            self.begin_sync();
        } else {
            self.membership.stage = Stage::Restoring;
            self.restore(&changed);
        }
    }

    fn on_restored(&mut self, result: Result<(), Reason>) {
        match result {
            Ok(()) => self.begin_sync(),
            Err(reason) => self.lose_link(reason),
        }
    }

    fn begin_sync(&mut self) {
        self.membership.stage = Stage::Syncing;
        self.touch_all();
    }

    fn on_arrived(&mut self, replies: &[HeartbeatReply]) {
        // In a generation that was not open yet, nothing could be published. Earlier events, from
        // while this node did not receive the bus, were reported by other nodes if they were
        // recent.
        let deaf_for = self.membership.deaf_for();
        let may_have_missed = |partition: Partition| {
            let reply = replies.iter().find(|reply| reply.partition == partition);
            reply.is_none_or(|reply| {
                reply.was_open
                    || published_sequences::WINDOW < deaf_for.saturating_sub(reply.age) + MARGIN
            })
        };
        for topic in std::mem::take(&mut self.unverified) {
            let Some(partition) = self.topics.get(&topic).map(|topic| topic.partition) else {
                continue;
            };
            if may_have_missed(partition) || !self.changed.contains(&partition) {
                self.apply_effects(&topic, vec![Effect::ForceResubscribe], now());
            }
        }
        self.membership.stage = Stage::Waiting;
    }

    /// Becomes joined once it receives its own heartbeat and all partitions are open.
    fn become_joined(&mut self) {
        let membership = &self.membership;
        let is_waiting = membership.stage == Stage::Waiting;
        if !is_waiting || !membership.is_heard || !membership.closed.is_empty() {
            return;
        }
        self.read_provisional_again();
        self.membership.stage = Stage::Joined;
        self.membership.hears_again();
        self.membership.failures = 0;
        self.shared.metrics.joined();
        let others = self.membership.known.len();
        self.link_log.log_joined(self.membership.node(), others);
        self.set_joined();
    }

    fn set_joined(&self) {
        let Some(connection) = self.connection.clone() else { return };
        let lease = Arc::clone(&self.membership.lease);
        self.shared.link_state.set(LinkState::Joined(Joined { connection, lease }));
    }

    /// Schedules another read of provisional topics, once all other nodes have arrived.
    fn read_provisional_again(&mut self) {
        let provisional = self
            .topics
            .iter_mut()
            .filter_map(|(name, topic)| topic.end_provisional().then(|| Arc::clone(name)));
        for name in provisional.collect::<Vec<_>>() {
            self.touch(&name);
        }
    }

    pub(super) fn on_echo(&mut self, node: &str) {
        if node == self.membership.node() {
            self.membership.is_heard = true;
            self.membership.echoed = now();
            self.become_joined();
        }
    }

    pub(super) fn settled(&mut self, topic: &Arc<str>) {
        self.unsettled.remove(topic);
    }

    /// Closes the link. Everything is synced and read again over the next one.
    pub(super) fn lose_link(&mut self, reason: impl Into<Reason>) {
        if self.connection.is_none() {
            return;
        }
        let reason = reason.into();
        tracing::debug!(reason = &*reason.text, "link to redis closed");
        self.shared.metrics.disconnected();
        for topic in self.topics.values_mut() {
            topic.detach();
        }
        self.disconnect(reason);
    }

    fn disconnect(&mut self, reason: impl Into<Reason>) {
        let reason = reason.into();
        if self.stopping.is_none() {
            self.link_log.log_failed(&reason);
        }
        self.shared.metrics.unavailable(reason.kind);
        self.connection = None;
        self.pushes = None;
        self.link_number += 1;
        self.in_flight.clear();
        self.unsettled.clear();
        self.cleaning.clear();
        self.comparison.clear();
        self.stop_forwarding();
        let membership = &mut self.membership;
        membership.become_deaf();
        membership.asked = None;
        membership.heard = None;
        membership.is_heard = false;
        membership.closed.clear();
        membership.stage = Stage::Disconnected(membership.back_off(self.shared.is_cluster));
        self.shared.link_state.set(LinkState::Unavailable(reason));
    }

    pub(super) fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Stuck => self.lose_link("redis does not answer"),
            Completion::Subscribed => {}
            Completion::Connected(result) => self.on_connected(result),
            Completion::Heartbeat(phase, replies) => self.on_heartbeat(phase, replies),
            Completion::Entered { topics, result } => self.on_entered(&topics, result),
            Completion::Synced(synced) => self.on_synced(synced),
            Completion::Left { topic, result } => self.on_left(&topic, result),
            Completion::Restored { result } => self.on_restored(result),
            Completion::Compared(compared) => self.on_compared(compared),
            Completion::Swept(swept) => self.on_swept(swept),
            Completion::Forwarded { app_id, partition, is_done } => {
                self.on_forwarded(app_id, partition, is_done);
            }
            Completion::Cleaned { node, is_done } => {
                self.cleaning.remove(&node);
                if is_done {
                    self.membership.former.remove(&node);
                    self.membership.strangers.remove(&node);
                }
            }
            Completion::GoneAway => {
                tracing::info!(node = self.membership.node(), "left the cluster");
                self.disconnect("this node has left");
            }
        }
    }
}

/// Connects, loads the scripts and subscribes to the bus of all nodes.
async fn connect(
    endpoint: &RedisEndpoint,
    shared: &Arc<ClusterState>,
) -> Result<Box<(RedisConnection, Pushes)>, Reason> {
    let because = |error: RedisError| Reason::of(&error);
    let (connection, pushes) = endpoint.connect().await.map_err(because)?;
    shared.scripts.load(&connection).await.map_err(because)?;
    if has_unversioned_nodes(shared, &connection).await.map_err(because)? {
        return Err(Reason::other_layout(OTHER_LAYOUT));
    }
    let all_nodes = [shared.names.all_nodes().into()];
    connection.subscribe(Partition::HOME, &all_nodes).await.map_err(because)?;
    shared.warn_of_eviction(&connection).await;
    Ok(Box::new((connection, pushes)))
}

/// Whether nodes are alive that use the first key layout, which had no version. Neither side would
/// detect the other.
async fn has_unversioned_nodes(
    shared: &ClusterState,
    connection: &RedisConnection,
) -> RedisResult<bool> {
    // Their keys are in a slot of their own, whose master may have no partition.
    if shared.is_cluster {
        return Ok(false);
    }
    let time: (u64, u64) = connection.query(Partition::HOME, &cmd("TIME")).await?;
    let mut count = cmd("ZCOUNT");
    count.arg(shared.names.unversioned_leases()).arg(time.0 * 1_000).arg("+inf");
    let counted: RedisResult<usize> = connection.query(Partition::HOME, &count).await;
    match counted {
        Ok(nodes) => Ok(0 < nodes),
        // A key of another type is not a lease.
        Err(error) if was_refused(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
