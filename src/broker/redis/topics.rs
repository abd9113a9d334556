//! The topics of this node: their steps as commands, and the results as effects on the hubs.
//!
//! A request or a message changes a topic, which is then scheduled. At the end of the turn,
//! [`Topics::next_commands`] asks each scheduled topic for its next step, and makes a command of it.
//! The reply changes the topic again, until it has no step left.

mod lifecycle;
#[cfg(test)]
mod tests;

use super::{
    channel_logs::{deliver, has_cached_event, log_start},
    clock::now,
    cluster_state::ClusterState,
    envelope::Message,
    fencing_token::FencingToken,
    in_flight::InFlight,
    link::{RedisConnection, ServerId},
    membership::{LEASE_ENDED, Membership},
    names::{TopicName, TopicSubject},
    partition::Partition,
    random::{SeededMap, SeededSet},
    reason::{UnavailableReason, was_rejected},
    scheduler::Scheduler,
    scripts::Unexpected,
    sync::{SyncOutcome, parse_sync_reply, sync_call},
    topic::{Effect, SyncRequest, Synced, Topic, TopicStep},
    unforwarded::PartitionLog,
    webhook_interest::WebhookInterest,
};
use crate::{
    config::WebhookEvent,
    hub::{Hub, HubEvent},
    protocol::CloseCode,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use redis::{RedisResult, Value};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// All topics of this node, and the apps that they belong to.
#[derive(Debug)]
pub(super) struct Topics {
    shared: Arc<ClusterState>,
    pub(super) hubs: HashMap<Arc<str>, Arc<Hub>>,
    /// The apps in `hubs` that were removed: their last topics still need them.
    removed_apps: SeededSet<Arc<str>>,
    pub(super) all: SeededMap<Arc<str>, Topic>,
    scheduler: Scheduler,
    pub(super) in_flight: InFlight,
    /// Topics that must be synced before this node counts as joined.
    unsynced: SeededSet<Arc<str>>,
    /// Topics whose subscribers may have missed something.
    unverified: Vec<Arc<str>>,
    /// Topics whose totals are announced later, by time.
    delayed_totals: BTreeSet<(Instant, Arc<str>)>,
    /// When expired events were last removed from the topics.
    expired_at: Instant,
}

/// The reply to a step of topics.
#[derive(Debug)]
pub(super) enum TopicReply {
    /// These topics were subscribed to, each in its attempt.
    Subscribed { topics: Vec<(Arc<str>, u32)>, result: Result<Vec<ServerId>, UnavailableReason> },
    /// A topic was synced.
    Synced(SyncReply),
    /// An unused topic was unsubscribed from, in its attempt.
    Unsubscribed { topic: (Arc<str>, u32), result: Result<(), UnavailableReason> },
}

/// The result of a sync.
#[derive(Debug)]
pub(super) struct SyncReply {
    topic: Arc<str>,
    attempt: u32,
    partition: Partition,
    is_full: bool,
    /// Whether other nodes still had to report their state when it was sent.
    was_provisional: bool,
    /// Bytes that it counts as in flight.
    bytes: usize,
    requested_at: Instant,
    reply: RedisResult<Value>,
}

/// A command whose reply is given to [`Topics::on_reply`].
pub(super) type TopicCommand = BoxFuture<'static, TopicReply>;

/// Maximum number of topics that one command subscribes to.
const SUBSCRIBE_MAX: usize = 256;
/// The pause before a sync is repeated that was late by Redis' clock.
const LATE_PAUSE: Duration = Duration::from_millis(100);
/// Interval at which expired events are removed from the topics. Expired events are not served.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

impl Topics {
    pub(super) fn new(shared: Arc<ClusterState>, hubs: HashMap<Arc<str>, Arc<Hub>>) -> Self {
        Self {
            shared,
            hubs,
            removed_apps: SeededSet::default(),
            all: SeededMap::default(),
            scheduler: Scheduler::default(),
            in_flight: InFlight::default(),
            unsynced: SeededSet::default(),
            unverified: Vec::new(),
            delayed_totals: BTreeSet::new(),
            expired_at: now(),
        }
    }

    /// The topic's name in Redis. Creates the topic if it does not exist.
    pub(super) fn get_or_create(&mut self, app_id: &Arc<str>, subject: TopicSubject) -> Arc<str> {
        let name = TopicName { app_id: Arc::clone(app_id), subject };
        let text = self.shared.names.topic_key(&name);
        if let Some((known, _)) = self.all.get_key_value(text.as_str()) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        if let Some(hub) = self.hubs.get(app_id) {
            let partition = self.shared.names.partition(&name);
            let topic = Topic::new(name, partition, &hub.app().config);
            self.all.insert(Arc::clone(&text), topic);
        }
        text
    }

    /// Changes a topic of a subject, which is created if it does not exist.
    pub(super) fn update(
        &mut self,
        app_id: &Arc<str>,
        subject: TopicSubject,
        change: impl FnOnce(&mut Topic),
    ) {
        let name = self.get_or_create(app_id, subject);
        self.update_by_name(&name, change);
    }

    /// Changes a topic, and schedules it.
    pub(super) fn update_by_name(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Topic)) {
        if let Some(topic) = self.all.get_mut(name) {
            change(topic);
            self.scheduler.add(name);
        }
    }

    /// Schedules a topic for the end of this turn.
    pub(super) fn schedule(&mut self, name: &Arc<str>) {
        self.scheduler.add(name);
    }

    pub(super) fn on_tick(&mut self, now: Instant) {
        self.scheduler.on_tick(now);
        self.send_due_totals(now);
        if self.expired_at + EXPIRY_INTERVAL <= now {
            self.expired_at = now;
            self.all.values_mut().for_each(|topic| topic.expire(now));
        }
    }

    /// Sends the totals whose delay has ended, whether or not there is a link.
    fn send_due_totals(&mut self, now: Instant) {
        while self.delayed_totals.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.delayed_totals.pop_first() else { return };
            let Some(topic) = self.all.get_mut(&name) else { continue };
            let effects = topic.send_due_total(now);
            self.apply_effects(&name, effects, false);
        }
    }

    /// Whether a topic may have a next step, or a reply is outstanding.
    pub(super) fn has_work(&self) -> bool {
        !self.scheduler.is_idle() || 0 < self.in_flight.commands
    }

    /// Makes commands of the next steps of scheduled topics, within the limit of commands in
    /// flight.
    pub(super) fn next_commands(
        &mut self,
        membership: &Membership,
        connection: &RedisConnection,
        now: Instant,
    ) -> Vec<TopicCommand> {
        let mut commands = Vec::new();
        let mut subscribing: BTreeMap<Partition, Vec<(Arc<str>, u32)>> = BTreeMap::new();
        while !self.in_flight.is_full() {
            let Some(name) = self.scheduler.next() else { break };
            let Some(topic) = self.all.get_mut(&name) else { continue };
            match topic.next_step(now) {
                // Its last subscription may have ended just now.
                None if topic.is_removable() => {
                    self.all.remove(&name);
                    self.scheduler.forget(&name);
                    self.unsynced.remove(&name);
                }
                None => {
                    if let Some(at) = topic.wake_at() {
                        self.scheduler.add_at(&name, at);
                    }
                }
                Some(TopicStep::Subscribe) => {
                    subscribing.entry(topic.partition).or_default().push((name, topic.attempt));
                }
                Some(TopicStep::Unsubscribe) => {
                    if let Some(sequence) = topic.left_sequence() {
                        self.shared.logged_sequences.record(&name, sequence, now);
                    }
                    let attempt = (topic.partition, topic.attempt);
                    commands.push(self.unsubscribe(name, attempt, connection.clone()));
                }
                Some(TopicStep::Sync(request)) => {
                    commands.extend(self.sync(name, &request, membership, connection, now));
                }
            }
        }
        for (partition, topics) in subscribing {
            for topics in topics.chunks(SUBSCRIBE_MAX) {
                commands.push(self.subscribe(partition, topics.to_vec(), connection.clone()));
            }
        }
        commands
    }

    /// Subscribes to the pub/sub channels of topics of a partition.
    fn subscribe(
        &mut self,
        partition: Partition,
        topics: Vec<(Arc<str>, u32)>,
        connection: RedisConnection,
    ) -> TopicCommand {
        self.in_flight.add(0);
        let command = async move {
            let pubsub_channels: Vec<Arc<str>> =
                topics.iter().map(|(topic, _)| Arc::clone(topic)).collect();
            let result = connection.subscribe(partition, &pubsub_channels).await;
            TopicReply::Subscribed {
                topics,
                result: result.map_err(|error| UnavailableReason::from(&error)),
            }
        };
        command.boxed()
    }

    /// Unsubscribes from an unused topic.
    fn unsubscribe(
        &mut self,
        name: Arc<str>,
        (partition, attempt): (Partition, u32),
        connection: RedisConnection,
    ) -> TopicCommand {
        self.in_flight.add(0);
        let command = async move {
            let result = connection.unsubscribe(partition, &[Arc::clone(&name)]).await;
            let result = result.map_err(|error| UnavailableReason::from(&error));
            TopicReply::Unsubscribed { topic: (name, attempt), result }
        };
        command.boxed()
    }

    /// Syncs the contribution of this node.
    fn sync(
        &mut self,
        name: Arc<str>,
        request: &SyncRequest,
        membership: &Membership,
        connection: &RedisConnection,
        requested_at: Instant,
    ) -> Option<TopicCommand> {
        let topic = self.all.get(&name)?;
        let hub = self.hubs.get(&topic.name.app_id)?;
        let (app, token): (_, &FencingToken) = (hub.app(), &membership.token);
        let (is_full, partition, attempt) = (request.is_full, topic.partition, topic.attempt);
        let webhooks = (&app.config, WebhookInterest::for_subject(hub, &topic.name.subject));
        let writer = (&*self.shared, token);
        let call = sync_call(writer, &topic.name, webhooks, &token.node, request, requested_at);
        let bytes = call.len() + request.reply_bytes;
        self.in_flight.add(bytes);
        let was_provisional = membership.is_provisional(partition);
        let connection = connection.clone();
        let command = async move {
            let reply = call.run_in_order(&connection).await;
            TopicReply::Synced(SyncReply {
                topic: name,
                attempt,
                partition,
                is_full,
                was_provisional,
                bytes,
                requested_at,
                reply,
            })
        };
        Some(command.boxed())
    }

    /// Handles the reply to a command. Returns the webhook log that must be forwarded, if records were
    /// added to it.
    ///
    /// # Errors
    ///
    /// The reason for which the link must be closed.
    pub(super) fn on_reply(
        &mut self,
        reply: TopicReply,
        membership: &Membership,
        now: Instant,
    ) -> Result<Option<PartitionLog>, UnavailableReason> {
        match reply {
            TopicReply::Subscribed { topics, result } => {
                self.in_flight.end(0, Duration::ZERO);
                for ((name, attempt), server) in topics.iter().zip(result?) {
                    if self.is_attempt(name, *attempt) {
                        self.update_by_name(name, |topic| topic.on_subscribed(server));
                    }
                }
                Ok(None)
            }
            TopicReply::Unsubscribed { topic: (name, attempt), result } => {
                self.in_flight.end(0, Duration::ZERO);
                result?;
                if self.is_attempt(&name, attempt) {
                    self.update_by_name(&name, Topic::on_unsubscribed);
                }
                Ok(None)
            }
            TopicReply::Synced(reply) => self.on_synced(reply, membership, now),
        }
    }

    /// Whether a reply belongs to the present attempt. Later, the partition has moved: the topic
    /// is synced and read again there.
    fn is_attempt(&self, name: &Arc<str>, attempt: u32) -> bool {
        self.all.get(name).is_some_and(|topic| topic.attempt == attempt)
    }

    fn on_synced(
        &mut self,
        sync_reply: SyncReply,
        membership: &Membership,
        now: Instant,
    ) -> Result<Option<PartitionLog>, UnavailableReason> {
        let SyncReply { topic: name, attempt, partition, bytes, requested_at, reply, .. } =
            sync_reply;
        let sync = (sync_reply.is_full, sync_reply.was_provisional);
        self.in_flight.end(bytes, now.saturating_duration_since(requested_at));
        if !self.is_attempt(&name, attempt) {
            return Ok(None);
        }
        match reply.map(|value| parse_sync_reply(value, now)) {
            Ok(Ok((SyncOutcome::Done(synced), redis_ms))) => {
                self.shared.redis_clocks.record(partition, redis_ms, (requested_at, now));
                let logged = self.apply_sync(&name, *synced, sync, membership, now);
                Ok(logged.map(|app_id| PartitionLog { app_id, partition }))
            }
            Ok(Ok((SyncOutcome::Late, redis_ms))) => {
                // The server's clock was stepped, or differs from those of the other servers.
                self.shared.redis_clocks.record(partition, redis_ms, (requested_at, now));
                self.shared.metrics.count_late_sync();
                if let Some(topic) = self.all.get_mut(&name) {
                    topic.on_sync_rejected();
                }
                self.scheduler.add_at(&name, now + LATE_PAUSE);
                Ok(None)
            }
            Ok(Ok((SyncOutcome::Fenced, _))) => Err(LEASE_ENDED.into()),
            Ok(Err(Unexpected)) => {
                self.shared.metrics.count_unexpected_data("a reply about a topic");
                Err("unexpected reply about a topic".into())
            }
            Err(error) if was_rejected(&error) => Err(UnavailableReason::from(&error)),
            // The link reports it itself.
            Err(_lost) => Ok(None),
        }
    }

    /// Applies the reply to a sync. Returns the app whose log has records now.
    fn apply_sync(
        &mut self,
        name: &Arc<str>,
        synced: Synced,
        (is_full, was_provisional): (bool, bool),
        membership: &Membership,
        now: Instant,
    ) -> Option<Arc<str>> {
        let topic = self.all.get_mut(name)?;
        let app_id = Arc::clone(&topic.name.app_id);
        let hub = self.hubs.get(&app_id);
        let max_members = hub.map_or(0, |hub| hub.app().config.max_presence_members);
        let is_logged = synced.webhook_log_became_nonempty;
        let effects = topic.on_synced(synced, is_full, (max_members, was_provisional), now);
        if was_provisional && !membership.is_provisional(topic.partition) {
            topic.end_provisional();
        }
        if topic.is_synced() || !topic.has_pubsub_channel() {
            self.unsynced.remove(name);
        }
        self.apply_effects(name, effects, membership.is_joined());
        self.scheduler.add(name);
        is_logged.then_some(app_id)
    }

    /// A message has arrived on the pub/sub channel of a topic.
    pub(super) fn on_message(
        &mut self,
        name: &Arc<str>,
        message: Message,
        is_duplicate: bool,
        is_joined: bool,
        now: Instant,
    ) {
        let mut effects = Vec::new();
        if let Some(topic) = self.all.get_mut(name) {
            topic.on_message(message, is_duplicate, now, &mut effects);
        }
        self.apply_effects(name, effects, is_joined);
        self.scheduler.add(name);
    }

    /// Applies the effects of a topic on this node.
    fn apply_effects(&mut self, name: &Arc<str>, effects: Vec<Effect>, is_joined: bool) {
        let Some(topic) = self.all.get(name) else { return };
        let Some(hub) = self.hubs.get(&topic.name.app_id).cloned() else { return };
        let subject = topic.name.subject.clone();
        for effect in effects {
            match (effect, &subject) {
                (
                    Effect::Accept { connection, ticket, user_id, initial, log },
                    TopicSubject::Channel(channel),
                ) => {
                    let (mut initial, (request, read)) = (initial, log);
                    let rule = self.all.get(name).and_then(Topic::history);
                    let limits = self.shared.logs.replay_limits();
                    let start = log_start(&request, read.as_ref(), limits, rule, now());
                    if has_cached_event(&request, start.as_ref()) {
                        (initial.cached, initial.is_cache_miss) = (None, false);
                    }
                    // All of a topic happens on one task, so the report needs no lock.
                    if initial.is_cache_miss {
                        let channel = channel.clone();
                        hub.observe(WebhookEvent::CacheMiss, || HubEvent::CacheMiss { channel });
                    }
                    hub.accept_subscription(channel, (connection, ticket), user_id, initial, start);
                }
                (
                    Effect::Reject { connection, ticket, rejection },
                    TopicSubject::Channel(channel),
                ) => {
                    hub.reject_subscription(channel, connection, ticket, rejection);
                }
                (Effect::Deliver(frame), TopicSubject::Channel(channel)) => {
                    deliver(&hub, channel, &frame, None, 0);
                }
                (
                    Effect::DeliverEvent { frame, except, logged },
                    TopicSubject::Channel(channel),
                ) => {
                    deliver(&hub, channel, &frame, except, logged);
                }
                (Effect::SendTotalAt(at), _) => {
                    self.delayed_totals.insert((at, Arc::clone(name)));
                }
                (Effect::ForceResubscribe, TopicSubject::Channel(channel)) => {
                    self.shared.metrics.count_forced_resubscribe();
                    hub.force_resubscribe(channel, &CloseCode::EventsMissed);
                }
                // On a link without gaps, nothing was missed.
                (Effect::Unverified, _) if is_joined => {}
                (Effect::Unverified, _) => self.unverified.push(Arc::clone(name)),
                (Effect::Online(is_online), TopicSubject::User(user_id)) => {
                    let watchers = self.all.get(name).into_iter().flat_map(Topic::watchers);
                    hub.notify_watchers(watchers, user_id, is_online);
                }
                (Effect::Admit(admission, is_admitted), _) => {
                    // If the request has timed out, the connection was admitted without a reply: count it. If it
                    // has ended, its end is still to be reported.
                    let was_admitted = admission.send(is_admitted).is_err() && !is_admitted;
                    if was_admitted {
                        self.update_by_name(name, Topic::increment);
                    }
                }
                (_, _) => {}
            }
        }
    }
}
