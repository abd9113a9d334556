//! The steps of topics as commands, and their results as effects on this node.

use super::{
    clock::now,
    coordinator::{Completion, Coordinator},
    envelope::{ControlMessage, Envelope, EnvelopeId, Message},
    in_flight::time_for,
    lease::Lease,
    link::{RedisConnection, ServerId},
    logged::Wanted,
    membership::Stage,
    names::{Subject, TopicName},
    partition::Partition,
    random,
    reason::{Reason, was_refused},
    scripts::{ScriptCall, ScriptReply, Status, Unexpected},
    shared::ClusterState,
    topic::{Effect, SyncRequest, Synced, Topic},
};
use crate::{
    config::AppConfig,
    protocol::{ChannelName, CloseCode},
};
use redis::{RedisResult, Value};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Time within which Redis must execute a small sync, by its clock.
const SYNC_WITHIN: Duration = Duration::from_secs(5);
/// Maximum time for one background task. The link is closed if it takes longer.
const WORK_TIMEOUT: Duration = Duration::from_secs(120);
/// The pause before a sync is repeated that was late by Redis' clock.
const LATE_PAUSE: Duration = Duration::from_millis(100);

/// The result of a sync.
#[derive(Debug)]
pub(super) struct SyncAnswer {
    topic: Arc<str>,
    attempt: u32,
    partition: Partition,
    is_full: bool,
    /// Whether other nodes still had to report their state when it was sent.
    was_provisional: bool,
    /// Bytes that it counts as in flight.
    bytes: usize,
    asked: Instant,
    answer: RedisResult<Value>,
}

/// The call that syncs a contribution of `node`, which may be another node.
pub(super) fn sync_call(
    (shared, lease): (&ClusterState, &Lease),
    name: &TopicName,
    (config, wanted): (&AppConfig, Wanted),
    node: &str,
    request: &SyncRequest,
    now: Instant,
) -> ScriptCall {
    let names = &shared.names;
    let (hash, partition) = (names.topic(name), names.partition(name));
    let (mut flags, last, field, most, largest) = about(shared, name, config);
    let index = index_of(shared, name);
    if index.is_some() {
        flags.push('i');
    }
    if request.is_full {
        flags.push('f');
        // Removing the contribution of another node needs no snapshot.
        if name.subject != Subject::Connections && node == lease.node {
            flags.push('s');
        }
    }
    if request.was_told {
        flags.push('h');
    }
    if request.knows_others {
        flags.push('k');
    }
    let mut call = ScriptCall::guarded(&shared.scripts.sync, partition, names, lease)
        .key(&hash)
        .key(index.unwrap_or_else(|| hash.clone()))
        .key(last)
        .key(names.topics_of(node, partition));
    let mut control_message = String::new();
    if !wanted.is_nothing() {
        flags.extend(wanted.flags());
        if partition != names.home_of(&name.app_id) {
            flags.push('p');
        }
        if shared.rings_itself(&name.app_id, partition) {
            control_message = ControlMessage::Logged { app_id: name.app_id.to_string() }.encode();
        }
        call = call.key(names.of_app_in("log", &name.app_id, partition)).key(names.of_app_in(
            "logstate",
            &name.app_id,
            partition,
        ));
    }
    let (epoch, reached) =
        request.reached.as_ref().map_or(("", 0), |(epoch, reached)| (epoch, *reached));
    let call = call
        .number(shared.clock.at(partition, now + SYNC_WITHIN + time_for(call_bytes(request))))
        .arg(node)
        .arg(random::digits())
        .number(request.base)
        .arg(flags)
        .number(most)
        .number(largest)
        .arg(field)
        .number(reached)
        .arg(epoch)
        .arg(names.all_nodes())
        .arg(control_message)
        .number(request.joins.len());
    with_users(call, request)
}

/// The parameters that depend on the subject: flags of `lua/sync.lua`, the key of the last event,
/// the field of the index, the maximum number of members and the maximum total.
fn about<'a>(
    shared: &ClusterState,
    name: &'a TopicName,
    config: &AppConfig,
) -> (String, String, &'a str, usize, usize) {
    let mut flags = String::new();
    // An unused key in the same slot, for subjects without a last event.
    let none = || format!("{}:none", shared.names.topic(name));
    match &name.subject {
        Subject::Channel(channel) => {
            if is_listed(channel) && config.subscription_count && !channel.is_presence() {
                flags.push('t');
            }
            let last = shared.names.last_event(&name.app_id, channel);
            (flags, last, channel.as_str(), config.max_presence_members, 0)
        }
        Subject::User(user_id) => {
            flags.push('o');
            (flags, none(), user_id, 0, 0)
        }
        Subject::Connections => (flags, none(), "", 0, config.max_connections),
    }
}

/// Whether a channel is listed: server-to-user channels are not.
fn is_listed(channel: &ChannelName) -> bool {
    channel.server_to_user().is_none()
}

/// The index that lists a topic.
pub(super) fn index_of(shared: &ClusterState, name: &TopicName) -> Option<String> {
    let partition = shared.names.partition(name);
    match &name.subject {
        Subject::Channel(channel) if is_listed(channel) => {
            Some(shared.names.channel_index(&name.app_id, partition))
        }
        Subject::User(_) => Some(shared.names.user_index(&name.app_id, partition)),
        Subject::Channel(_) | Subject::Connections => None,
    }
}

/// The approximate size of a sync and its answer, in bytes.
fn call_bytes(request: &SyncRequest) -> usize {
    let joins = request.joins.iter();
    let joins: usize = joins.map(|join| 64 + join.user_id.len() + join.user_info.len()).sum();
    512 + joins + request.answer_bytes
}

fn with_users(mut call: ScriptCall, request: &SyncRequest) -> ScriptCall {
    for join in &request.joins {
        call = call
            .arg(&*join.user_id)
            .arg(&*join.user_info)
            .number(join.connections)
            .arg(if join.is_limited { "1" } else { "0" });
    }
    for user_id in &request.departed {
        call = call.arg(&**user_id);
    }
    call
}

/// The outcome of a sync.
#[derive(Debug)]
pub(super) enum SyncOutcome {
    Done(Box<Synced>),
    /// It was too late, and was not executed.
    Late,
    /// The lease is not valid, and it was not executed.
    Refused,
}

/// Parses the script's answer, with the server's clock in ms.
pub(super) fn read(value: Value, now: Instant) -> Result<(SyncOutcome, u64), Unexpected> {
    let mut answer = ScriptReply::new(value)?;
    let (status, redis_ms) = answer.status()?;
    match status {
        Status::Late => return Ok((SyncOutcome::Late, redis_ms)),
        Status::Refused => return Ok((SyncOutcome::Refused, redis_ms)),
        Status::Done => {}
    }
    let (epoch, version, sequence) = (answer.text()?, answer.number()?, answer.number()?);
    let (total, _members, mine) = (answer.count()?, answer.count()?, answer.count()?);
    let accepted = answer.text()?.bytes().map(|byte| byte == b'1').collect();
    let roster = answer.texts()?;
    let last = answer.bytes()?;
    let last_ms = answer.number().unwrap_or(0);
    let is_logged = answer.number()? == 1;
    let published = answer.all_bytes()?;
    let latest = EnvelopeId::read(&answer.bytes()?);
    let changes = published.iter().filter_map(|message| Message::decode(message, now).ok());
    let pairs =
        roster.chunks_exact(2).map(|pair| (pair[0].as_str().into(), pair[1].as_str().into()));
    let synced = Synced {
        epoch,
        version,
        sequence,
        total,
        mine,
        accepted,
        members: pairs.collect(),
        last: Envelope::decode(&last, now)
            .ok()
            .map(|envelope| (envelope.id, envelope.frame, Duration::from_millis(last_ms))),
        latest,
        is_logged,
        changes: changes.collect(),
    };
    Ok((SyncOutcome::Done(Box::new(synced)), redis_ms))
}

impl Coordinator {
    /// Subscribes to topics of a partition.
    pub(super) fn enter(
        &mut self,
        partition: Partition,
        topics: Vec<(Arc<str>, u32)>,
        connection: RedisConnection,
    ) {
        self.in_flight.add(0);
        self.begin(async move {
            let buses: Vec<Arc<str>> = topics.iter().map(|(topic, _)| Arc::clone(topic)).collect();
            let result = connection.subscribe(partition, &buses).await;
            Completion::Entered { topics, result: result.map_err(|error| Reason::of(&error)) }
        });
    }

    /// Removes an unused topic.
    pub(super) fn leave_topic(&mut self, topic: Arc<str>, connection: RedisConnection) {
        let Some(found) = self.topics.get(&topic) else { return };
        let (partition, attempt) = (found.partition, found.attempt);
        self.in_flight.add(0);
        self.begin(async move {
            let result = connection.unsubscribe(partition, &[Arc::clone(&topic)]).await;
            let result = result.map_err(|error| Reason::of(&error));
            Completion::Left { topic: (topic, attempt), result }
        });
    }

    /// Syncs the contribution of this node.
    pub(super) fn sync(
        &mut self,
        topic: Arc<str>,
        request: &SyncRequest,
        connection: RedisConnection,
        now: Instant,
    ) {
        let Some(found) = self.topics.get(&topic) else { return };
        let Some(hub) = self.hubs.get(&found.name.app_id) else { return };
        let (app, lease) = (hub.app(), Arc::clone(&self.membership.lease));
        let (is_full, partition, attempt) = (request.is_full, found.partition, found.attempt);
        let asked = (&app.config, Wanted::of(hub, &found.name.subject));
        let by = (&*self.shared, &*lease);
        let call = sync_call(by, &found.name, asked, &lease.node, request, now);
        let bytes = call.len() + request.answer_bytes;
        self.in_flight.add(bytes);
        let was_provisional = self.membership.is_provisional(partition);
        self.begin(async move {
            let answer = call.run_in_order(&connection).await;
            let asked = now;
            Completion::Synced(SyncAnswer {
                topic,
                attempt,
                partition,
                is_full,
                was_provisional,
                bytes,
                asked,
                answer,
            })
        });
    }

    /// Starts a background task. Its result is discarded if the link was replaced meanwhile.
    pub(super) fn begin(&self, work: impl Future<Output = Completion> + Send + 'static) {
        let (completions, link) = (self.completions.clone(), self.link_number);
        tokio::spawn(async move {
            let completion = timeout(WORK_TIMEOUT, work).await.unwrap_or(Completion::Stuck);
            // The coordinator ends with the process.
            let _ = completions.send((link, completion));
        });
    }

    /// The same for tasks of many commands without a time limit: each command fails with its
    /// connection.
    pub(super) fn begin_long(&self, work: impl Future<Output = Completion> + Send + 'static) {
        let (completions, link) = (self.completions.clone(), self.link_number);
        tokio::spawn(async move {
            let _ = completions.send((link, work.await));
        });
    }

    pub(super) fn on_entered(
        &mut self,
        topics: &[(Arc<str>, u32)],
        result: Result<Vec<ServerId>, Reason>,
    ) {
        self.in_flight.end(0, Duration::ZERO);
        let servers = match result {
            Ok(servers) => servers,
            Err(reason) => return self.lose_link(reason),
        };
        for ((topic, attempt), server) in topics.iter().zip(servers) {
            if self.topics.get(topic).is_some_and(|found| found.attempt == *attempt) {
                self.with(topic, |topic| topic.entered(server));
            }
        }
    }

    pub(super) fn on_left(
        &mut self,
        (topic, attempt): &(Arc<str>, u32),
        result: Result<(), Reason>,
    ) {
        self.in_flight.end(0, Duration::ZERO);
        if let Err(reason) = result {
            self.lose_link(reason);
        } else if self.topics.get(topic).is_some_and(|found| found.attempt == *attempt) {
            self.with(topic, Topic::left);
        }
    }

    pub(super) fn on_synced(&mut self, answered: SyncAnswer) {
        let SyncAnswer {
            topic,
            attempt,
            partition,
            is_full,
            was_provisional,
            bytes,
            asked,
            answer,
        } = answered;
        let now = now();
        self.in_flight.end(bytes, now.saturating_duration_since(asked));
        self.membership.heard = Some(now);
        if self.topics.get(&topic).is_none_or(|found| found.attempt != attempt) {
            // The partition has moved meanwhile: the topic is synced and read again there.
            return;
        }
        match answer.map(|value| read(value, now)) {
            Ok(Ok((SyncOutcome::Done(synced), redis_ms))) => {
                self.shared.clock.learn(partition, redis_ms, (asked, now));
                let Some(found) = self.topics.get_mut(&topic) else { return };
                let hub = self.hubs.get(&found.name.app_id);
                let most = hub.map_or(0, |hub| hub.app().config.max_presence_members);
                let app_id = Arc::clone(&found.name.app_id);
                let context = (most, was_provisional);
                let is_logged = synced.is_logged;
                let effects = found.on_synced(*synced, is_full, context, now);
                if was_provisional && !self.membership.is_provisional(partition) {
                    found.end_provisional();
                }
                if found.has_settled() || !found.is_heard() {
                    self.settled(&topic);
                }
                if is_logged {
                    self.on_logged(&app_id, partition);
                }
                self.apply_effects(&topic, effects, now);
                self.touch(&topic);
            }
            Ok(Ok((SyncOutcome::Late, redis_ms))) => {
                // The server's clock was stepped, or differs from those of the other servers.
                self.shared.clock.learn(partition, redis_ms, (asked, now));
                self.shared.metrics.late();
                if let Some(found) = self.topics.get_mut(&topic) {
                    found.not_synced();
                }
                self.touch_at(&topic, now + LATE_PAUSE);
            }
            Ok(Ok((SyncOutcome::Refused, _))) => {
                self.lose_link("this node's lease has ended, or redis has lost its data");
            }
            Ok(Err(Unexpected)) => {
                self.shared.metrics.unexpected_data("an answer about a topic");
                self.lose_link("unexpected reply about a topic");
            }
            Err(error) if was_refused(&error) => self.lose_link(Reason::of(&error)),
            // The link reports it itself.
            Err(_lost) => {}
        }
    }

    /// Applies the effects of a topic on this node.
    pub(super) fn apply_effects(&mut self, topic: &Arc<str>, effects: Vec<Effect>, now: Instant) {
        let Some(found) = self.topics.get(topic) else { return };
        let Some(hub) = self.hubs.get(&found.name.app_id).cloned() else { return };
        let subject = found.name.subject.clone();
        for effect in effects {
            match (effect, &subject) {
                (
                    Effect::Attach { connection, ticket, user_id, initial },
                    Subject::Channel(channel),
                ) => {
                    hub.attach(channel, connection, ticket, user_id, initial, now);
                }
                (Effect::Refuse { connection, ticket, refusal }, Subject::Channel(channel)) => {
                    hub.refuse(channel, connection, ticket, refusal);
                }
                (Effect::Deliver(frame, except), Subject::Channel(channel)) => {
                    hub.publish(channel, &frame, except, None, now);
                }
                (Effect::Total(total), Subject::Channel(channel)) => {
                    hub.total_changed(channel, total, now);
                }
                (Effect::ForceResubscribe, Subject::Channel(channel)) => {
                    self.shared.metrics.forced_resubscribes();
                    hub.force_resubscribe(channel, &CloseCode::Interrupted);
                }
                // On a link without gaps, nothing was missed.
                (Effect::Doubt, _) if self.membership.stage == Stage::Joined => {}
                (Effect::Doubt, _) => self.unverified.push(Arc::clone(topic)),
                (Effect::Online(is_online), Subject::User(user_id)) => {
                    let watchers = self.topics.get(topic).into_iter().flat_map(Topic::watchers);
                    hub.tell_watchers(watchers, user_id, is_online);
                }
                (Effect::Admit(admission, is_admitted), _) => {
                    // A client that does not wait any more was admitted, or reports its end.
                    let was_let_in = admission.send(is_admitted).is_err() && !is_admitted;
                    if was_let_in {
                        self.with(topic, Topic::add);
                    }
                }
                (_, _) => {}
            }
        }
        self.tell_settled_sign_ins();
    }
}

#[cfg(test)]
mod tests;
