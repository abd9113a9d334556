//! The task that owns this node's topics and its link to Redis.
//!
//! It handles inputs one at a time: requests of shards, answers of Redis, messages of the bus, and
//! timers. A channel's messages therefore reach the hub in the order in which the bus delivers
//! them.

use super::{
    clock::now,
    compare::{Compared, Comparison, Swept},
    dedup::DedupWindow,
    envelope::{ControlMessage, EnvelopeId, Message},
    forwarding::Forwarding,
    in_flight::InFlight,
    link::{Push, Pushes, RedisConnection, RedisEndpoint, ServerId},
    membership::{HeartbeatPhase, HeartbeatReply, Membership},
    names::{Subject, TopicName},
    partition::Partition,
    random::{Map, Set},
    reason::{LinkLog, Reason},
    shared::ClusterState,
    sign_in::SignIns,
    sync::SyncAnswer,
    topic::{Step, Topic, Waiter},
};
use crate::{
    hub::{ConnectionRef, Hub},
    protocol::ChannelName,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque},
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

/// A request of a shard or of the HTTP API.
#[derive(Debug)]
pub(super) enum Input {
    /// A connection subscribes.
    Join { app_id: Arc<str>, channel: ChannelName, waiter: Waiter },
    /// A subscription has ended.
    Leave { app_id: Arc<str>, channel: ChannelName, user_id: Option<Arc<str>> },
    /// A connection has signed in, or again with another watchlist.
    SignIn {
        app_id: Arc<str>,
        connection: ConnectionRef,
        user_id: Arc<str>,
        watchlist: Vec<Arc<str>>,
    },
    /// A signed-in connection has ended.
    SignOut { connection: ConnectionRef },
    /// A connection is admitted; without a sender, it is only counted.
    Connect { app_id: Arc<str>, admission: Option<oneshot::Sender<bool>> },
    /// An admitted connection has ended.
    Disconnect { app_id: Arc<str> },
    /// Replaces the apps.
    Serve(HashMap<Arc<str>, Arc<Hub>>),
    /// The node drains; notify the others.
    Drain,
    /// Everything has ended: leave the cluster.
    Stop(oneshot::Sender<()>),
}

/// The result of background work of the coordinator.
#[derive(Debug)]
pub(super) enum Completion {
    /// A command timed out or was refused: the link must be replaced.
    Stuck,
    /// The bus of all nodes is subscribed to again.
    Subscribed,
    Connected(Result<Box<(RedisConnection, Pushes)>, Reason>),
    Heartbeat(HeartbeatPhase, redis::RedisResult<Vec<HeartbeatReply>>),
    /// The topics, each with its attempt.
    Entered {
        topics: Vec<(Arc<str>, u32)>,
        result: Result<Vec<ServerId>, Reason>,
    },
    Synced(SyncAnswer),
    Left {
        topic: (Arc<str>, u32),
        result: Result<(), Reason>,
    },
    Restored {
        result: Result<(), Reason>,
    },
    Compared(Compared),
    Swept(Swept),
    Forwarded {
        app_id: Arc<str>,
        partition: Partition,
        is_done: bool,
    },
    Cleaned {
        node: String,
        is_done: bool,
    },
    GoneAway,
}

/// Maximum number of topics that one command subscribes to.
const ENTER_MAX: usize = 256;
/// The interval of the coordinator's timer.
const TICK: Duration = Duration::from_millis(50);
/// Maximum number of bus messages that are handled before other inputs.
const PUSHES_PER_TURN: usize = 256;

/// The owner of this node's topics and of its link to Redis.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) shared: Arc<ClusterState>,
    pub(super) endpoint: Arc<RedisEndpoint>,
    pub(super) hubs: HashMap<Arc<str>, Arc<Hub>>,
    /// The apps in `hubs` that were removed: their last topics still need them.
    retired: Set<Arc<str>>,
    pub(super) topics: Map<Arc<str>, Topic>,
    /// Topics that may have a next step.
    dirty: VecDeque<Arc<str>>,
    /// The same topics as a set.
    listed: Set<Arc<str>>,
    /// Topics that are checked at a later time.
    later: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
    /// When expired events were last removed from the topics.
    expired_at: Instant,
    pub(super) in_flight: InFlight,
    pub(super) completions: mpsc::UnboundedSender<(u64, Completion)>,
    /// The number of the link, to discard results of earlier ones.
    pub(super) link_number: u64,
    pub(super) connection: Option<RedisConnection>,
    pub(super) pushes: Option<Pushes>,
    pub(super) membership: Membership,
    pub(super) link_log: LinkLog,
    /// Topics that must be synced before this node counts as joined.
    pub(super) unsettled: Set<Arc<str>>,
    /// Partitions that have lost data since this node was last linked.
    pub(super) changed: BTreeSet<Partition>,
    /// Topics whose subscribers may have missed something.
    pub(super) unverified: Vec<Arc<str>>,
    pub(super) sign_ins: SignIns,
    /// The nodes that this one is cleaning up after.
    pub(super) cleaning: Set<String>,
    pub(super) comparison: Comparison,
    pub(super) forwarding: Forwarding,
    dedup: DedupWindow,
    /// The number of inputs in the queue, for the shards.
    backlog: Arc<AtomicUsize>,
    pub(super) stopping: Option<(oneshot::Sender<()>, bool)>,
}

/// Interval at which expired events are removed from the topics. Expired events are not served.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

impl Coordinator {
    pub(super) fn new(
        shared: Arc<ClusterState>,
        endpoint: RedisEndpoint,
        hubs: HashMap<Arc<str>, Arc<Hub>>,
        node_timeout: Duration,
        backlog: Arc<AtomicUsize>,
    ) -> (Self, mpsc::UnboundedReceiver<(u64, Completion)>) {
        let (completions, receiver) = mpsc::unbounded_channel();
        let membership = Membership::new(shared.process(), node_timeout);
        let coordinator = Self {
            shared,
            endpoint: Arc::new(endpoint),
            hubs,
            retired: Set::default(),
            topics: Map::default(),
            dirty: VecDeque::new(),
            listed: Set::default(),
            later: BinaryHeap::new(),
            expired_at: now(),
            in_flight: InFlight::default(),
            completions,
            link_number: 0,
            connection: None,
            pushes: None,
            membership,
            link_log: LinkLog::default(),
            unsettled: Set::default(),
            changed: BTreeSet::new(),
            unverified: Vec::new(),
            sign_ins: SignIns::default(),
            cleaning: Set::default(),
            comparison: Comparison::default(),
            forwarding: Forwarding::default(),
            dedup: DedupWindow::default(),
            backlog,
            stopping: None,
        };
        (coordinator, receiver)
    }

    /// Runs until the node has left the cluster.
    pub(super) async fn run(
        mut self,
        mut inputs: mpsc::UnboundedReceiver<Input>,
        mut completions: mpsc::UnboundedReceiver<(u64, Completion)>,
    ) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut tidied = now();
        while !self.is_done() {
            // Heartbeats are sent on time even if many answers are queued. Messages that the bus
            // delivered before an answer are handled before it: the order is that of the
            // connection.
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    let now = now();
                    self.on_time(now);
                    if TIDY_INTERVAL < now.saturating_duration_since(tidied) {
                        tidied = now;
                        self.dedup.tidy(now);
                        self.forget_retired();
                    }
                }
                push = next(&mut self.pushes) => self.take_pushes(push).await,
                Some((link, completion)) = completions.recv() => {
                    if link == self.link_number {
                        self.on_completion(completion);
                    }
                }
                Some(input) = inputs.recv() => {
                    self.backlog.fetch_sub(1, Ordering::Relaxed);
                    self.on_input(input);
                }
            }
            self.take_steps();
        }
    }

    fn is_done(&self) -> bool {
        self.connection.is_none() && matches!(self.stopping, Some((_, true)))
    }

    /// Handles the messages of the bus, up to the limit of a turn.
    async fn take_pushes(&mut self, first: Push) {
        let mut push = first;
        for left in (0..PUSHES_PER_TURN).rev() {
            match push {
                Push::Lost(reason) => return self.lose_link(reason),
                Push::Message { from, bus, message } => self.on_message(from, &bus, &message),
                Push::Moved(partition) => self.on_moved(partition),
            }
            let Some(pushes) = self.pushes.as_mut().filter(|_| 0 < left) else { return };
            tokio::select! {
                biased;
                next = pushes.next() => push = next,
                () = std::future::ready(()) => return,
            }
        }
    }

    fn on_message(&mut self, from: ServerId, bus: &[u8], bytes: &[u8]) {
        let now = now();
        self.membership.heard = Some(now);
        let topic = std::str::from_utf8(bus).ok().and_then(|bus| self.topics.get_key_value(bus));
        let Some((name, topic)) = topic else {
            // The topic is not needed any more, or it is the bus of all nodes.
            if bus == self.shared.names.all_nodes().as_bytes() {
                self.on_control_message(bytes, now);
            }
            return;
        };
        if !topic.hears(from) {
            return;
        }
        let name = Arc::clone(name);
        let Ok(message) = Message::decode(bytes, now) else {
            return self.shared.metrics.unexpected_data("a message");
        };
        let is_known = match &message {
            Message::Event { sequence, envelope } => {
                let Some(topic) = self.topics.get(&name).filter(|topic| topic.is_for(envelope))
                else {
                    return self.shared.metrics.unexpected_data("an event for another channel");
                };
                let is_ours = topic.expects(*sequence) && self.is_a_nodes(envelope.id);
                // A client of a Redis Cluster may have sent it twice without knowing.
                let is_known = self.dedup.note(envelope.id, is_ours, now);
                self.shared.metrics.received(is_known);
                is_known
            }
            Message::Change { .. } | Message::Evicted(_) => false,
        };
        let mut effects = Vec::new();
        if let Some(topic) = self.topics.get_mut(&name) {
            topic.on_message(message, is_known, now, &mut effects);
        }
        self.apply_effects(&name, effects, now);
        self.touch(&name);
    }

    /// Whether an envelope may be from a node, by its id.
    fn is_a_nodes(&self, id: EnvelopeId) -> bool {
        self.membership.has_lease(id.process()) && !self.shared.has_yet_to_send(id)
    }

    fn on_control_message(&mut self, bytes: &[u8], now: Instant) {
        match ControlMessage::decode(bytes) {
            Ok(ControlMessage::Heartbeat { node, state }) => {
                self.note_state(&node, state, now);
                self.shared.notifiers.heard(&node, now);
                self.membership.hear_of(&node);
                self.on_echo(&node);
            }
            Ok(ControlMessage::Logged { app_id }) => self.shared.notifiers.logged(&app_id),
            Ok(ControlMessage::Vacant { app_id }) => self.shared.notifiers.vacant(&app_id),
            Ok(ControlMessage::Terminate { app_id, user_id }) => {
                if let Some(hub) = self.hubs.get(app_id.as_str()) {
                    hub.terminate(&user_id);
                }
            }
            Err(_) => self.shared.metrics.unexpected_data("a control message"),
        }
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Join { app_id, channel, waiter } => {
                let name = self.topic(&app_id, Subject::Channel(channel));
                self.with(&name, |topic| topic.join(waiter));
            }
            Input::Leave { app_id, channel, user_id } => {
                let name = self.topic(&app_id, Subject::Channel(channel));
                self.with(&name, |topic| topic.leave(user_id.as_deref()));
            }
            Input::SignIn { app_id, connection, user_id, watchlist } => {
                self.sign_in(&app_id, connection, user_id, &watchlist);
            }
            Input::SignOut { connection } => self.sign_out(connection),
            Input::Connect { app_id, admission } => {
                let name = self.topic(&app_id, Subject::Connections);
                self.with(&name, |topic| match admission {
                    Some(admission) => topic.join(Waiter::Admission(admission)),
                    None => topic.add(),
                });
            }
            Input::Disconnect { app_id } => {
                let name = self.topic(&app_id, Subject::Connections);
                self.with(&name, |topic| topic.leave(None));
            }
            Input::Serve(hubs) => self.serve(hubs),
            Input::Drain => self.heartbeat_now(),
            Input::Stop(done) => self.stopping = Some((done, false)),
        }
    }

    /// Replaces the apps, and applies their settings to the topics.
    fn serve(&mut self, hubs: HashMap<Arc<str>, Arc<Hub>>) {
        self.retired.extend(self.hubs.keys().cloned());
        self.retired.retain(|app_id| !hubs.contains_key(app_id));
        self.hubs.extend(hubs);
        for topic in self.topics.values_mut() {
            if let Some(hub) = self.hubs.get(&topic.name.app_id) {
                topic.follow(&hub.app().config);
            }
        }
    }

    /// Removes deleted apps without topics.
    fn forget_retired(&mut self) {
        let topics = &self.topics;
        let is_left = |app_id: &Arc<str>| topics.values().any(|left| left.name.app_id == *app_id);
        let hubs = &mut self.hubs;
        self.retired.retain(|app_id| is_left(app_id) || hubs.remove(app_id).is_none());
    }

    /// The topic's name in Redis. Creates the topic if it does not exist.
    pub(super) fn topic(&mut self, app_id: &Arc<str>, subject: Subject) -> Arc<str> {
        let name = TopicName { app_id: Arc::clone(app_id), subject };
        let text = self.shared.names.topic(&name);
        if let Some((known, _)) = self.topics.get_key_value(text.as_str()) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        if let Some(hub) = self.hubs.get(app_id) {
            let partition = self.shared.names.partition(&name);
            let topic = Topic::new(name, partition, &hub.app().config);
            self.topics.insert(Arc::clone(&text), topic);
        }
        text
    }

    pub(super) fn with(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Topic)) {
        if let Some(topic) = self.topics.get_mut(name) {
            change(topic);
            self.touch(name);
        }
    }

    /// Schedules the topic for the end of this turn.
    pub(super) fn touch(&mut self, name: &Arc<str>) {
        if self.listed.insert(Arc::clone(name)) {
            self.dirty.push_back(Arc::clone(name));
        }
    }

    fn on_time(&mut self, now: Instant) {
        while self.later.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            if let Some(Reverse((_, name))) = self.later.pop() {
                self.touch(&name);
            }
        }
        if self.expired_at + EXPIRY_INTERVAL <= now {
            self.expired_at = now;
            self.topics.values_mut().for_each(|topic| topic.expire(now));
        }
        self.keep_link(now);
        self.keep_comparing(now);
        self.keep_forwarding(now);
        self.keep_stopping();
    }

    /// Schedules the topic for that time.
    pub(super) fn touch_at(&mut self, name: &Arc<str>, at: Instant) {
        self.later.push(Reverse((at, Arc::clone(name))));
    }

    /// Executes the next steps of topics, within the limit of commands in flight.
    fn take_steps(&mut self) {
        let Some(connection) = self.connection.clone().filter(|_| self.may_sync()) else {
            return;
        };
        let now = now();
        let mut entering: BTreeMap<Partition, Vec<(Arc<str>, u32)>> = BTreeMap::new();
        while !self.in_flight.is_full() {
            let Some(name) = self.dirty.pop_front() else { break };
            self.listed.remove(&name);
            let Some(topic) = self.topics.get_mut(&name) else { continue };
            match topic.next_step(now) {
                // Its last subscription may have ended just now.
                None if topic.is_forgotten() => {
                    self.topics.remove(&name);
                    self.settled(&name);
                }
                None => {
                    if let Some(at) = topic.wake_at() {
                        self.touch_at(&name, at);
                    }
                }
                Some(Step::Enter) => {
                    entering.entry(topic.partition).or_default().push((name, topic.attempt));
                }
                Some(Step::Leave) => self.leave_topic(name, connection.clone()),
                Some(Step::Sync(request)) => {
                    self.sync(name, &request, connection.clone(), now);
                }
            }
        }
        for (partition, topics) in entering {
            for topics in topics.chunks(ENTER_MAX) {
                self.enter(partition, topics.to_vec(), connection.clone());
            }
        }
    }

    /// Schedules a sync of everything that this node has.
    pub(super) fn touch_all(&mut self) {
        self.dirty = self.topics.keys().cloned().collect();
        self.listed = self.topics.keys().cloned().collect();
        self.unsettled = self.topics.keys().cloned().collect();
    }

    pub(super) fn has_steps(&self) -> bool {
        !self.dirty.is_empty() || 0 < self.in_flight.commands
    }
}

/// Interval at which old entries of the dedup window are removed.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// The next message of the bus; never completes without a link.
async fn next(pushes: &mut Option<Pushes>) -> Push {
    match pushes {
        Some(pushes) => pushes.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
pub(super) mod testbed;
#[cfg(test)]
mod tests;
