//! This node's membership, as a state machine without I/O: it connects, joins, sends heartbeats,
//! and leaves.
//!
//! Each input may return [`MembershipAction`]s, which the coordinator executes in their order. The time is
//! an argument of each input.

#[cfg(test)]
mod tests;
mod values;

pub(super) use values::{
    HeartbeatPhase, HeartbeatReply, LEASE_ENDED, MembershipAction, OTHER_KEY_LAYOUT,
    RegistrationStatus, Stage, TickInputs,
};

use super::{
    fencing_token::FencingToken, nodes::Nodes, partition::Partition, random, ready::NodeState,
    reason::UnavailableReason, recent_sequences,
};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use values::{BACKOFF, BACKOFF_ON_CLUSTER, PubSubHealth, Stopping};

/// The state of this node's membership, and the nodes that it knows.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) process: String,
    /// The suffix of the node's name. A node that was declared dead takes another name, since the
    /// old one is cleaned up.
    incarnation: u32,
    pub(super) token: Arc<FencingToken>,
    /// Whether Redis has had this node's present name in the generations of `token`.
    pub(super) was_registered: bool,
    /// How long the lease lasts without a heartbeat.
    pub(super) node_timeout: Duration,
    /// All partitions of this Redis.
    partitions: Vec<Partition>,
    pub(super) stage: Stage,
    stopping: Stopping,
    /// When the unanswered round of heartbeats was sent.
    pub(super) requested_at: Option<Instant>,
    pub(super) next_heartbeat: Instant,
    pub(super) pubsub: PubSubHealth,
    /// The partitions that are not open for publishing yet.
    pub(super) unopened: BTreeSet<Partition>,
    /// Partitions that have lost data since this node was last linked.
    pub(super) lost_data: BTreeSet<Partition>,
    pub(super) nodes: Nodes,
    /// Failed attempts to connect and join since the node was joined.
    failures: u32,
}

/// The version of the key layout: nodes of another one can't share a prefix.
pub(super) const KEY_LAYOUT: &str = "3";
/// Interval of the heartbeats of a joined node. Its lease is several times as long.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the heartbeats while joining.
const JOINING_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// The same, if several partitions are not open yet.
const JOINING_HEARTBEAT_INTERVAL_MANY: Duration = Duration::from_millis(500);
/// Time without a reply after which the link is closed.
pub(super) const LINK_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum error of a node's estimate of a time in Redis.
const CLOCK_ERROR_MARGIN: Duration = Duration::from_secs(1);

impl Membership {
    pub(super) fn new(
        process: String,
        node_timeout: Duration,
        partitions: Vec<Partition>,
        now: Instant,
    ) -> Self {
        let token =
            FencingToken { node: format!("{process}.1"), link_number: 0, generations: Vec::new() };
        Self {
            nodes: Nodes::new(process.clone()),
            process,
            incarnation: 1,
            token: Arc::new(token),
            was_registered: false,
            node_timeout,
            partitions,
            stage: Stage::Disconnected(now),
            stopping: Stopping::No,
            requested_at: None,
            next_heartbeat: now,
            pubsub: PubSubHealth {
                received_at: None,
                missed_since: None,
                confirmed_at: now,
                is_confirmed: false,
            },
            unopened: BTreeSet::new(),
            lost_data: BTreeSet::new(),
            failures: 0,
        }
    }

    /// `process.incarnation`
    pub(super) fn node(&self) -> &str {
        &self.token.node
    }

    /// Whether this node is a member that may publish.
    pub(super) fn is_joined(&self) -> bool {
        self.stage == Stage::Joined
    }

    /// Whether there is a connection to Redis, joined or not.
    fn is_linked(&self) -> bool {
        !matches!(self.stage, Stage::Disconnected(_) | Stage::Connecting)
    }

    /// Whether Redis has registered this node, so that it may sync its topics.
    pub(super) fn may_sync(&self) -> bool {
        match self.stage {
            Stage::Disconnected(_) | Stage::Connecting | Stage::Joining | Stage::Restoring => false,
            Stage::Syncing | Stage::ReportingSync | Stage::Waiting | Stage::Joined => true,
        }
    }

    /// The state that this node's heartbeats report.
    pub(super) fn state(&self, is_draining: bool) -> NodeState {
        if is_draining {
            NodeState::Draining
        } else if self.is_joined() {
            NodeState::Ready
        } else {
            NodeState::Joining
        }
    }

    /// Whether other nodes may still have to write their contributions to a partition.
    pub(super) fn is_provisional(&self, partition: Partition) -> bool {
        self.unopened.contains(&partition)
    }

    /// The actions that are due.
    pub(super) fn on_tick(&mut self, now: Instant, inputs: &TickInputs) -> Vec<MembershipAction> {
        let mut actions = Vec::new();
        if let Some(requested_at) = self.requested_at {
            let waited = now.saturating_duration_since(requested_at);
            if LINK_TIMEOUT < waited {
                return vec![MembershipAction::Close("redis does not answer".into())];
            }
            if inputs.suspect_after < waited {
                actions.push(MembershipAction::Suspect);
            }
        }
        if self.is_linked() && inputs.is_fenced {
            return vec![MembershipAction::Close(LEASE_ENDED.into())];
        }
        // From its first heartbeat on, this node receives its own messages on the control channel.
        let is_registered = self.is_linked() && self.stage != Stage::Joining;
        let timeout = LINK_TIMEOUT + HEARTBEAT_INTERVAL + inputs.in_flight;
        if is_registered && timeout < now.saturating_duration_since(self.pubsub.confirmed_at) {
            return vec![MembershipAction::Close("no message on the pub/sub connection".into())];
        }
        actions.extend(match self.stage {
            Stage::Disconnected(at) if at <= now && self.stopping == Stopping::No => {
                self.stage = Stage::Connecting;
                self.advance_link_number();
                Some(MembershipAction::Connect)
            }
            Stage::Disconnected(_) | Stage::Connecting | Stage::Joining | Stage::ReportingSync => {
                None
            }
            Stage::Syncing if inputs.all_synced => {
                self.stage = Stage::ReportingSync;
                Some(self.heartbeat(HeartbeatPhase::Synced, now))
            }
            Stage::Syncing | Stage::Restoring => {
                self.heartbeat_when_due(HeartbeatPhase::Syncing, now)
            }
            Stage::Waiting => self.heartbeat_when_due(HeartbeatPhase::Heartbeat, now),
            Stage::Joined => {
                if inputs.is_suspect && self.requested_at.is_none() {
                    self.next_heartbeat = now;
                }
                self.heartbeat_when_due(HeartbeatPhase::Heartbeat, now)
            }
        });
        actions
    }

    fn heartbeat_when_due(
        &mut self,
        phase: HeartbeatPhase,
        now: Instant,
    ) -> Option<MembershipAction> {
        let is_due = self.requested_at.is_none() && self.next_heartbeat <= now;
        is_due.then(|| self.heartbeat(phase, now))
    }

    pub(super) fn heartbeat(&mut self, phase: HeartbeatPhase, now: Instant) -> MembershipAction {
        let partitions = match phase {
            HeartbeatPhase::Join | HeartbeatPhase::Leave => self.partitions.clone(),
            HeartbeatPhase::Syncing | HeartbeatPhase::Synced | HeartbeatPhase::Heartbeat => {
                self.unopened.iter().copied().collect()
            }
        };
        self.requested_at = Some(now);
        self.next_heartbeat = now + self.interval();
        MembershipAction::Heartbeat(phase, partitions)
    }

    /// A heartbeat at once, if the node is joined: whether it takes connections has changed.
    pub(super) fn on_drain(&mut self, now: Instant) -> Option<MembershipAction> {
        self.is_joined().then(|| self.heartbeat(HeartbeatPhase::Heartbeat, now))
    }

    /// The next tick sends a heartbeat: another node is new or drains. One heartbeat is enough for
    /// any number of them.
    pub(super) fn heartbeat_soon(&mut self, now: Instant) {
        self.next_heartbeat = now;
    }

    /// The time until the next heartbeat.
    fn interval(&self) -> Duration {
        if self.is_joined() {
            HEARTBEAT_INTERVAL
        } else if 1 < self.unopened.len() {
            JOINING_HEARTBEAT_INTERVAL_MANY
        } else {
            JOINING_HEARTBEAT_INTERVAL
        }
    }

    /// There is a link: registers this node.
    pub(super) fn on_connected(&mut self, now: Instant) -> MembershipAction {
        self.stage = Stage::Joining;
        self.pubsub.confirmed_at = now;
        self.heartbeat(HeartbeatPhase::Join, now)
    }

    /// A round of heartbeats was answered; the lease partition comes first.
    pub(super) fn on_heartbeat(
        &mut self,
        phase: HeartbeatPhase,
        replies: Result<Vec<HeartbeatReply>, UnavailableReason>,
        now: Instant,
    ) -> Vec<MembershipAction> {
        self.requested_at = None;
        let mut replies = match replies {
            Ok(replies) => replies,
            Err(reason) => return vec![MembershipAction::Close(reason)],
        };
        for reply in &replies {
            match reply.status {
                RegistrationStatus::Ok => {}
                RegistrationStatus::LeaseExpired => {
                    return self.on_lease_expired(phase, reply.partition, now);
                }
                RegistrationStatus::LayoutMismatch => {
                    let versions = format!("theirs is {}, ours is {KEY_LAYOUT}", reply.generation);
                    let text = format!("{OTHER_KEY_LAYOUT}: {versions}");
                    return vec![MembershipAction::Close(UnavailableReason::other_layout(&text))];
                }
            }
        }
        let is_other =
            |reply: &HeartbeatReply| reply.generation != self.token.generation(reply.partition);
        if phase != HeartbeatPhase::Join && replies.iter().any(is_other) {
            return vec![MembershipAction::Close("redis started a new generation".into())];
        }
        for reply in replies.iter().filter(|reply| reply.is_open) {
            self.unopened.remove(&reply.partition);
        }
        let mut actions = match phase {
            HeartbeatPhase::Join => return self.on_registered(&replies),
            HeartbeatPhase::Synced => vec![self.on_sync_reported(&replies, now)],
            HeartbeatPhase::Syncing | HeartbeatPhase::Heartbeat | HeartbeatPhase::Leave => {
                Vec::new()
            }
        };
        actions.extend(self.try_complete_join(now));
        let first = replies.swap_remove(0);
        if matches!(self.stage, Stage::Waiting | Stage::Joined) {
            self.nodes.set_alive(first.alive);
        }
        if self.is_joined() {
            actions.push(MembershipAction::AllowRequests);
            let former_names: Vec<String> = self.nodes.former_names.iter().cloned().collect();
            actions.extend(self.clean_up(first.dead.into_iter().chain(former_names)));
        }
        actions
    }

    /// Joins again after this node was declared dead or Redis has lost its data; under another name
    /// if it was declared dead.
    fn on_lease_expired(
        &mut self,
        phase: HeartbeatPhase,
        partition: Partition,
        now: Instant,
    ) -> Vec<MembershipAction> {
        if phase != HeartbeatPhase::Join {
            return vec![MembershipAction::Close(LEASE_ENDED.into())];
        }
        tracing::info!(node = self.node(), %partition, "declared dead by another node");
        self.rename();
        self.advance_link_number();
        vec![MembershipAction::ForgetAcknowledgements, self.heartbeat(HeartbeatPhase::Join, now)]
    }

    /// Continues once all partitions have registered this node. Those of another generation may
    /// have lost data.
    fn on_registered(&mut self, replies: &[HeartbeatReply]) -> Vec<MembershipAction> {
        let before = Arc::clone(&self.token);
        let token = Arc::make_mut(&mut self.token);
        token.generations = replies.iter().map(|reply| reply.generation.as_str().into()).collect();
        self.was_registered = true;
        let closed = replies.iter().filter(|reply| !reply.is_open).map(|reply| reply.partition);
        self.unopened = closed.collect();
        let is_changed = |partition: &Partition| {
            before.generation(*partition) != self.token.generation(*partition)
        };
        let changed: BTreeSet<Partition> =
            replies.iter().map(|reply| reply.partition).filter(is_changed).collect();
        self.lost_data.clone_from(&changed);
        let mut actions = vec![MembershipAction::ApplyRegistration { lost_data: changed.clone() }];
        if changed.is_empty() || before.generations.is_empty() {
            self.stage = Stage::Syncing;
            actions.push(MembershipAction::SyncAll);
        } else {
            self.stage = Stage::Restoring;
            actions.push(MembershipAction::Restore(changed));
        }
        actions
    }

    /// The sequences that this node knows were reported.
    pub(super) fn on_restored(
        &mut self,
        result: Result<(), UnavailableReason>,
    ) -> MembershipAction {
        match result {
            Ok(()) => {
                self.stage = Stage::Syncing;
                MembershipAction::SyncAll
            }
            Err(reason) => MembershipAction::Close(reason),
        }
    }

    fn on_sync_reported(&mut self, replies: &[HeartbeatReply], now: Instant) -> MembershipAction {
        self.stage = Stage::Waiting;
        // In a generation that was not open yet, nothing could be published. Recent events of the time
        // in which this node received no messages were reported by other nodes.
        let missed_for = self.missed_for(now);
        let had_no_publishes = |reply: &&HeartbeatReply| {
            let recent = recent_sequences::MIN_RETENTION;
            !reply.was_open
                && missed_for.saturating_sub(reply.generation_age) + CLOCK_ERROR_MARGIN <= recent
        };
        let unpublished = replies.iter().filter(had_no_publishes).map(|reply| reply.partition);
        let unaffected =
            unpublished.filter(|partition| self.lost_data.contains(partition)).collect();
        MembershipAction::Resubscribe { unaffected }
    }

    /// Becomes joined once it receives its own heartbeat and all partitions are open.
    fn try_complete_join(&mut self, now: Instant) -> Vec<MembershipAction> {
        let is_waiting = self.stage == Stage::Waiting;
        if !is_waiting || !self.pubsub.is_confirmed || !self.unopened.is_empty() {
            return Vec::new();
        }
        self.stage = Stage::Joined;
        self.pubsub.received_at = Some(now);
        self.pubsub.missed_since = None;
        self.failures = 0;
        let others = self.nodes.other_processes.len();
        vec![
            MembershipAction::RefreshProvisional,
            MembershipAction::ReportJoined { others },
            MembershipAction::AllowRequests,
        ]
    }

    /// Redis has sent a pub/sub message or a reply.
    pub(super) fn on_received(&mut self, now: Instant) {
        self.pubsub.received_at = Some(now);
    }

    /// The heartbeat of a node was received on the control channel.
    pub(super) fn on_node_heartbeat(&mut self, node: &str, now: Instant) -> Vec<MembershipAction> {
        self.nodes.add_process(node);
        if node != self.node() {
            return Vec::new();
        }
        self.pubsub.is_confirmed = true;
        self.pubsub.confirmed_at = now;
        self.try_complete_join(now)
    }

    /// A partition lists these nodes.
    pub(super) fn on_listed(
        &mut self,
        registered: Vec<String>,
        now: Instant,
    ) -> Vec<MembershipAction> {
        let dead = self.nodes.on_listed(registered, &self.token.node, now);
        self.clean_up(dead)
    }

    /// The cleanups after those dead nodes that are not under way.
    pub(super) fn clean_up(
        &mut self,
        dead: impl IntoIterator<Item = String>,
    ) -> Vec<MembershipAction> {
        let is_joined = self.is_joined();
        let mut actions = Vec::new();
        for node in dead {
            let is_other = is_joined && node != self.token.node;
            if is_other && self.nodes.cleaning.insert(node.clone()) {
                actions.push(MembershipAction::CleanUp(node));
            }
        }
        actions
    }

    /// Leaves the cluster, once every contribution is withdrawn.
    pub(super) fn stop(&mut self) {
        self.stopping = Stopping::Withdrawing;
    }

    /// Whether this node is about to withdraw its contributions.
    pub(super) fn is_withdrawing(&self) -> bool {
        self.stopping == Stopping::Withdrawing
    }

    /// Whether the node does not connect any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping != Stopping::No
    }

    /// Releases the lease if every contribution is withdrawn. Without a link, another node cleans
    /// up.
    pub(super) fn on_withdrawal(&mut self, is_withdrawn: bool) -> Option<MembershipAction> {
        let is_linked = self.is_linked();
        if is_withdrawn || !is_linked {
            self.stopping = Stopping::Leaving;
            return is_linked.then(|| MembershipAction::Leave(self.partitions.clone()));
        }
        None
    }

    /// Whether the node has left the cluster.
    pub(super) fn has_left(&self) -> bool {
        self.stopping == Stopping::Leaving && !self.is_linked()
    }

    /// The link is lost, or could not be made.
    pub(super) fn on_disconnected(&mut self, now: Instant) {
        if self.is_joined() {
            self.pubsub.missed_since = self.pubsub.received_at.or(Some(now));
        }
        self.pubsub.received_at = None;
        self.pubsub.is_confirmed = false;
        self.requested_at = None;
        self.unopened.clear();
        self.nodes.cleaning.clear();
        self.stage = Stage::Disconnected(now + self.next_delay());
    }

    /// For how long pub/sub messages may have been missed.
    fn missed_for(&self, now: Instant) -> Duration {
        self.pubsub
            .missed_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Advances the link number, which invalidates writes of earlier links.
    fn advance_link_number(&mut self) {
        let token = Arc::make_mut(&mut self.token);
        token.link_number += 1;
    }

    /// Takes another name, since this one was declared dead.
    fn rename(&mut self) {
        self.nodes.former_names.insert(self.token.node.clone());
        self.incarnation += 1;
        self.was_registered = false;
        let node = format!("{}.{}", self.process, self.incarnation);
        Arc::make_mut(&mut self.token).node = node;
    }

    /// The delay until the next attempt to connect.
    fn next_delay(&mut self) -> Duration {
        let jitter = u32::try_from(random::random_u64() % 512).expect("a small number");
        let is_redis_cluster = 1 < self.partitions.len();
        let backoff = if is_redis_cluster { BACKOFF_ON_CLUSTER } else { BACKOFF };
        let delay = backoff.delay(self.failures, f64::from(jitter) / 512.0);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}
