//! The task that owns this node's topics and its link to Redis.
//!
//! It handles inputs one at a time: requests of shards, replies of Redis, pub/sub messages, and
//! timers. A channel's messages therefore reach the hub in the order in which Redis publishes
//! them.
//!
//! It dispatches each input and executes the returned actions. It also drops duplicate events and decides
//! whether topics may sync. `membership` decides about the link, `topics` about the topics.

mod actions;
mod control;
mod current_link;
mod inputs;
#[cfg(test)]
pub(super) mod testbed;
#[cfg(test)]
mod tests;
mod watches;

pub(super) use inputs::{Completion, CoordinatorRequest};

use super::{
    cleanup::Cleaned,
    clock::now,
    cluster_state::ClusterState,
    compare::Comparison,
    dedup::DedupWindow,
    envelope::{EnvelopeId, Message},
    forwarding::Forwarding,
    link::{LinkEvent, LinkEvents, RedisEndpoint, ServerId},
    link_state::LinkState,
    membership::{HeartbeatPhase, HeartbeatReply, Membership},
    names::TopicSubject,
    partition::Partition,
    reason::UnavailableReason,
    sign_in::SignIns,
    tick_context::TickContext,
    topic::{Topic, Waiter},
    topics::{TopicReply, Topics},
    unforwarded::PartitionLog,
};
use crate::hub::Hub;
use current_link::CurrentLink;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use watches::WatchedTopics;

/// The interval of the coordinator's timer.
const TICK: Duration = Duration::from_millis(50);
/// Maximum number of events of the link that are handled before other inputs.
const EVENTS_PER_TURN: usize = 256;
/// Interval at which old entries of the dedup window are removed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// The owner of this node's topics and of its link to Redis.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) shared: Arc<ClusterState>,
    pub(super) link: CurrentLink,
    pub(super) membership: Membership,
    pub(super) topics: Topics,
    sign_ins: SignIns,
    pub(super) comparison: Comparison,
    forwarding: Forwarding,
    dedup: DedupWindow,
    watched: WatchedTopics,
    /// The number of inputs in the queue, for the shards.
    backlog: Arc<AtomicUsize>,
    /// Dropped once the node has left the cluster.
    stopped: Option<oneshot::Sender<()>>,
}

impl Coordinator {
    pub(super) fn new(
        shared: Arc<ClusterState>,
        endpoint: RedisEndpoint,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
        node_timeout: Duration,
        backlog: Arc<AtomicUsize>,
    ) -> (Self, mpsc::UnboundedReceiver<(u64, Completion)>) {
        let (completions, receiver) = mpsc::unbounded_channel();
        let partitions = shared.names.partitions().collect();
        let coordinator = Self {
            link: CurrentLink::new(endpoint, completions),
            membership: Membership::new(shared.process(), node_timeout, partitions, now()),
            topics: Topics::new(Arc::clone(&shared), hubs),
            shared,
            sign_ins: SignIns::default(),
            comparison: Comparison::default(),
            forwarding: Forwarding::default(),
            dedup: DedupWindow::default(),
            watched: WatchedTopics::default(),
            backlog,
            stopped: None,
        };
        (coordinator, receiver)
    }

    /// Runs until the node has left the cluster.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::UnboundedReceiver<CoordinatorRequest>,
        mut completions: mpsc::UnboundedReceiver<(u64, Completion)>,
    ) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut pruned_at = now();
        while !self.membership.has_left() {
            // Heartbeats are sent on time even if many replies are queued. Messages that arrived
            // before a reply are handled before it: the order is that of the connection.
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    let now = now();
                    self.on_tick(now);
                    if PRUNE_INTERVAL < now.saturating_duration_since(pruned_at) {
                        pruned_at = now;
                        self.dedup.prune(now);
                        self.topics.remove_retired_apps();
                    }
                }
                event = next(&mut self.link.events) => self.handle_events(event).await,
                Some((link, completion)) = completions.recv() => {
                    if link == self.link.link_number {
                        self.on_completion(completion);
                    }
                }
                Some(request) = requests.recv() => {
                    self.backlog.fetch_sub(1, Ordering::Relaxed);
                    self.on_request(request);
                }
            }
            self.start_topic_commands();
        }
    }

    fn on_request(&mut self, input: CoordinatorRequest) {
        match input {
            CoordinatorRequest::Subscribe { app_id, channel, waiter } => {
                let channel = TopicSubject::Channel(channel);
                self.topics.update(&app_id, channel, |topic| topic.enqueue(waiter));
            }
            CoordinatorRequest::Unsubscribe { app_id, channel, user_id } => {
                let channel = TopicSubject::Channel(channel);
                self.topics.update(&app_id, channel, |topic| topic.decrement(user_id.as_ref()));
            }
            CoordinatorRequest::ReleaseLog { app_id, channel } => {
                self.topics.update(&app_id, TopicSubject::Channel(channel), Topic::release_log);
            }
            CoordinatorRequest::SignIn { app_id, connection, user_id, watchlist } => {
                self.sign_ins.add(&mut self.topics, &app_id, connection, user_id, &watchlist);
            }
            CoordinatorRequest::SignOut { connection } => {
                self.sign_ins.remove(&mut self.topics, connection, now());
            }
            CoordinatorRequest::Connect { app_id, reply: admission } => {
                self.topics.update(&app_id, TopicSubject::Connections, |topic| match admission {
                    Some(admission) => topic.enqueue(Waiter::Connection(admission)),
                    None => topic.increment(),
                });
            }
            CoordinatorRequest::Disconnect { app_id } => {
                self.topics
                    .update(&app_id, TopicSubject::Connections, |topic| topic.decrement(None));
            }
            CoordinatorRequest::SetApps(hubs) => self.topics.set_apps(hubs),
            CoordinatorRequest::SetApp(hub) => self.topics.set_app(hub),
            CoordinatorRequest::RemoveApp(app_id) => self.topics.remove_app(app_id),
            CoordinatorRequest::Watch { app_id, channel } => self.watch(app_id, channel),
            CoordinatorRequest::Unwatch { app_id, channel } => self.unwatch(&app_id, &channel),
            CoordinatorRequest::AnnounceDrain => {
                let action = self.membership.on_drain(now());
                self.execute(action);
            }
            CoordinatorRequest::Stop(stopped) => {
                self.stopped = Some(stopped);
                self.membership.stop();
            }
        }
    }

    /// Starts the next steps of topics.
    fn start_topic_commands(&mut self) {
        let Some(connection) = self.link.connection.clone().filter(|_| self.may_sync()) else {
            return;
        };
        for command in self.topics.next_commands(&self.membership, &connection, now()) {
            self.link.spawn(async move { Completion::Topic(command.await) });
        }
    }

    /// Whether topics may be synced now. Nothing is sent to a Redis that is suspected to be down.
    fn may_sync(&self) -> bool {
        let is_usable = || matches!(&*self.shared.link_state.borrow(), LinkState::Joined(_));
        self.membership.may_sync() && (!self.membership.is_joined() || is_usable())
    }

    pub(super) fn on_completion(&mut self, completion: Completion) {
        let now = now();
        match completion {
            Completion::TimedOut => self.close_link("redis does not answer"),
            Completion::Subscribed => {}
            Completion::Connected(Ok(connected)) => {
                let (connection, events) = *connected;
                (self.link.connection, self.link.events) = (Some(connection), Some(events));
                let action = self.membership.on_connected(now);
                self.execute([action]);
            }
            Completion::Connected(Err(reason)) => {
                tracing::debug!(reason = &*reason.text, "connecting to redis failed");
                self.disconnect(reason);
            }
            Completion::Heartbeat(phase, replies) => self.on_heartbeat(phase, replies),
            Completion::Topic(reply) => self.on_topic_reply(reply),
            Completion::Restored(result) => {
                let action = self.membership.on_restored(result);
                self.execute([action]);
            }
            Completion::Compared(compared) => {
                match self.comparison.on_compared(compared, &self.shared, &mut self.topics) {
                    Ok(registered) => {
                        let actions = registered.map(|nodes| self.membership.on_listed(nodes, now));
                        self.execute(actions.into_iter().flatten());
                    }
                    Err(reason) => self.close_link(reason),
                }
            }
            Completion::Swept(swept) => {
                let (shared, membership) = (&self.shared, &self.membership);
                self.comparison.on_swept(swept, shared, membership, &mut self.topics);
            }
            Completion::Forwarded(forwarded) => {
                self.forwarding.on_forwarded(forwarded, &self.shared, now);
                self.forward(now);
            }
            Completion::Cleaned(Cleaned { node, is_done }) => {
                self.membership.nodes.on_cleaned(&node, is_done);
            }
            Completion::Unwatched(name) => {
                self.topics.update_by_name(&name, Topic::on_unsubscribed);
            }
            Completion::Left => {
                tracing::info!(node = self.membership.node(), "left the cluster");
                self.disconnect("this node has left");
            }
        }
    }

    fn on_topic_reply(&mut self, reply: TopicReply) {
        let now = now();
        if matches!(reply, TopicReply::Synced(_)) {
            self.membership.on_received(now);
        }
        match self.topics.on_reply(reply, &self.membership, now) {
            Ok(logged) => {
                if let Some(PartitionLog { app_id, partition }) = logged {
                    self.shared.enqueue_forwarding(&app_id, partition);
                    self.forward(now);
                }
                self.sign_ins.send_ready_watchlists(&mut self.topics);
            }
            Err(reason) => self.close_link(reason),
        }
    }

    fn on_heartbeat(
        &mut self,
        phase: HeartbeatPhase,
        replies: Result<Vec<HeartbeatReply>, UnavailableReason>,
    ) {
        for reply in replies.iter().flatten() {
            self.shared.redis_clocks.record(reply.partition, reply.redis_ms, reply.times);
            let (requested_at, replied_at) = reply.times;
            self.shared.set_round_trip(replied_at.saturating_duration_since(requested_at));
        }
        let actions = self.membership.on_heartbeat(phase, replies, now());
        let others = &self.membership.nodes.other_processes;
        self.shared.ready_nodes.set_processes(others);
        self.shared.metrics.set_others(others.len());
        self.execute(actions);
        self.shared.metrics.set_topics(self.topics.all.len());
    }

    /// Handles the events of the link, up to the limit of a turn.
    async fn handle_events(&mut self, first: LinkEvent) {
        let mut event = first;
        for left in (0..EVENTS_PER_TURN).rev() {
            match event {
                LinkEvent::Lost(reason) => return self.close_link(reason),
                LinkEvent::Message { from, pubsub_channel, message } => {
                    self.on_message(from, &pubsub_channel, &message);
                }
                LinkEvent::PartitionMoved(partition) => self.on_moved(partition),
            }
            let Some(events) = self.link.events.as_mut().filter(|_| 0 < left) else { return };
            tokio::select! {
                biased;
                next = events.next() => event = next,
                () = std::future::ready(()) => return,
            }
        }
    }

    fn on_message(&mut self, from: ServerId, pubsub_channel: &[u8], bytes: &[u8]) {
        let now = now();
        self.membership.on_received(now);
        let topics = &self.topics.all;
        let topic = std::str::from_utf8(pubsub_channel)
            .ok()
            .and_then(|pubsub_channel| topics.get_key_value(pubsub_channel));
        let Some((name, topic)) = topic else {
            // The topic is not needed any more, or it is a control channel.
            let control_channels = self.shared.control_channels();
            if control_channels.iter().any(|name| name.as_bytes() == pubsub_channel) {
                self.on_control_message(bytes, now);
            } else if self.has_watches() {
                self.on_watched_message(pubsub_channel, bytes, now);
            }
            return;
        };
        if !topic.accepts_from(from) {
            return;
        }
        let Ok(message) = Message::decode(bytes, now) else {
            return self.shared.metrics.count_unexpected_data("a message");
        };
        let is_duplicate = match &message {
            Message::Event { envelope, .. } if !topic.is_for(envelope) => {
                return self.shared.metrics.count_unexpected_data("an event for another channel");
            }
            Message::Event { sequence, envelope } => {
                let is_trusted = topic.expects(*sequence) && self.is_from_live_node(envelope.id);
                // A client that follows a redirection of a Redis Cluster can send a command twice.
                let is_duplicate = self.dedup.insert(envelope.id, is_trusted, now);
                self.shared.metrics.count_received(is_duplicate);
                is_duplicate
            }
            Message::Change { .. } | Message::Evicted(_) => false,
        };
        let name = Arc::clone(name);
        if self.has_watches()
            && !is_duplicate
            && let Message::Event { envelope, .. } = &message
        {
            self.on_watched_event(&name, envelope);
        }
        self.topics.on_message(&name, message, is_duplicate, self.membership.is_joined(), now);
        self.sign_ins.send_ready_watchlists(&mut self.topics);
    }

    /// Whether an envelope may be from a node, by its id.
    fn is_from_live_node(&self, id: EnvelopeId) -> bool {
        self.membership.nodes.has_lease(id.process()) && !self.shared.is_unassigned(id)
    }

    /// The server of a partition has changed, or has ended a subscription.
    fn on_moved(&mut self, partition: Partition) {
        self.comparison.scan_own_lists();
        self.topics.on_moved(partition);
        let has_leases = partition == Partition::LEASES;
        if let Some(connection) = self.link.connection.clone().filter(|_| has_leases) {
            let pubsub_channels = self.shared.control_channels();
            self.link.spawn(async move {
                match connection.subscribe(partition, &pubsub_channels).await {
                    Ok(_) => Completion::Subscribed,
                    Err(_) => Completion::TimedOut,
                }
            });
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.topics.on_tick(now);
        self.tick_membership(now);
        self.renew_watches(now);
        if let Some(connection) = self.link.connection.clone().filter(|_| self.may_sync()) {
            let context = TickContext {
                shared: &self.shared,
                membership: &self.membership,
                topics: &self.topics,
                connection: &connection,
            };
            let due = self.comparison.due(now, context);
            self.forwarding.poll(now, context);
            for compare in due.compare {
                self.link.spawn(async move { Completion::Compared(compare.await) });
            }
            if let Some(sweep) = due.sweep {
                self.link.spawn_unbounded(async move { Completion::Swept(sweep.await) });
            }
            self.forward(now);
        }
        if self.membership.is_withdrawing() {
            let is_withdrawn = self.topics.withdraw_all();
            let action = self.membership.on_withdrawal(is_withdrawn);
            self.execute(action);
        }
    }

    /// Forwards logs of webhook records.
    fn forward(&mut self, now: Instant) {
        let Some(connection) = self.link.connection.clone().filter(|_| self.may_sync()) else {
            return;
        };
        let token = &self.membership.token;
        for forward in self.forwarding.start(now, &self.shared, token, &connection) {
            self.link.spawn(async move { Completion::Forwarded(forward.await) });
        }
    }
}

/// The next event of the link; never completes without a link.
async fn next(events: &mut Option<LinkEvents>) -> LinkEvent {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}
