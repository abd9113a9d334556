//! Steps of topics, as commands; and what came of them, as effects on this node.

use super::{
    envelope::{Envelope, Notice},
    link::Connection,
    logged::{self, Wanted},
    manager::{Manager, Outcome},
    names::{Subject, TopicName},
    publish::was_refused,
    scripts::{Answer, Call, Unexpected},
    shared::Shared,
    topic::{Assertion, Effect, Synced, Topic},
};
use crate::{config::AppConfig, protocol::CloseCode};
use redis::{Cmd, RedisError, RedisResult, Value, cmd};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// How long an assertion may take until it is not done any more. What lies in the way of a lost
/// link is never done later than this, and so never after what the next link says.
pub(super) const ASSERT_WITHIN: Duration = Duration::from_secs(1);

/// When what a lost link never answered is forgotten.
const WORK_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the call that asserts something for `node`, which need not be this one.
pub(super) fn assertion_call(
    shared: &Shared,
    name: &TopicName,
    (config, wanted): (&AppConfig, Wanted),
    node: &str,
    assertion: &Assertion,
    now: Instant,
) -> Call {
    let hash = shared.names.topic(name);
    let mut flags = String::new();
    // Nothing ever lies there, in the same slot, for what has no last event.
    let mut last = format!("{hash}:none");
    let (mut field, mut most, mut largest) = ("", 0, 0);
    match &name.subject {
        Subject::Channel(channel) => {
            last = shared.names.last_event(&name.app_id, channel);
            field = channel.as_str();
            most = config.max_presence_members;
            if channel.server_to_user().is_none() {
                if !shared.is_cluster {
                    flags.push('i');
                }
                if config.subscription_count && !channel.is_presence() {
                    flags.push('t');
                }
            }
        }
        Subject::User(user_id) => {
            field = user_id;
            flags.push('o');
        }
        Subject::Connections => largest = config.max_connections,
    }
    if assertion.is_full {
        flags.push('f');
        if name.subject != Subject::Connections {
            flags.push('s');
        }
    }
    let index = if flags.contains('i') { shared.names.index(&name.app_id) } else { hash.clone() };
    let mut call = Call::of(&shared.scripts.sync).key(&hash).key(index).key(last);
    let mut notice = String::new();
    if !wanted.is_nothing() && !shared.is_cluster {
        flags.extend(wanted.flags());
        notice = Notice::Logged { app_id: name.app_id.to_string() }.encode();
        call = call.key(shared.names.log(&name.app_id)).key(shared.names.log_state(&name.app_id));
    }
    let call = call
        .number(shared.clock.at(now + ASSERT_WITHIN))
        .arg(node)
        .arg(format!("{:016x}", rand::random::<u64>()))
        .number(assertion.base)
        .arg(flags)
        .number(most)
        .number(largest)
        .arg(hash)
        .arg(field)
        .arg(shared.names.all_nodes())
        .arg(notice)
        .number(assertion.joins.len());
    with_users(call, assertion)
}

fn with_users(mut call: Call, assertion: &Assertion) -> Call {
    for join in &assertion.joins {
        call = call
            .arg(&*join.user_id)
            .arg(&*join.user_info)
            .number(join.connections)
            .arg(if join.is_limited { "1" } else { "0" });
    }
    for user_id in &assertion.departed {
        call = call.arg(&**user_id);
    }
    call
}

/// What an assertion came to.
#[derive(Debug)]
pub(super) enum Verdict {
    Done(Box<Synced>, Turn),
    /// It came too late, and was not done.
    Late,
}

/// How the topic's counts turned, for those who keep books elsewhere.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) was_total: usize,
    pub(super) total: usize,
    pub(super) members: usize,
    /// Users who came with their first connection of all nodes.
    pub(super) added: Vec<Arc<str>>,
    /// Users who left with their last.
    pub(super) removed: Vec<Arc<str>>,
    pub(super) at_ms: u64,
    pub(super) at_us: u64,
}

/// Reads what the script answered.
pub(super) fn read(value: Value, now: Instant) -> Result<Verdict, Unexpected> {
    let mut answer = Answer::new(value)?;
    match answer.text()?.as_str() {
        "late" => return Ok(Verdict::Late),
        "ok" => {}
        _ => return Err(Unexpected),
    }
    let (epoch, version, sequence) = (answer.text()?, answer.number()?, answer.number()?);
    let (total, members, mine, was_total) =
        (answer.count()?, answer.count()?, answer.count()?, answer.count()?);
    let accepted = answer.text()?.bytes().map(|byte| byte == b'1').collect();
    let shared = |texts: Vec<String>| texts.into_iter().map(Arc::from).collect();
    let (added, removed) = (shared(answer.texts()?), shared(answer.texts()?));
    let roster = answer.texts()?;
    let last = answer.bytes()?;
    let last_ms = answer.number().unwrap_or(0);
    let at_ms = answer.number()?;
    let microseconds = at_ms * 1_000 + answer.number()?;
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
    };
    let turn = Turn { was_total, total, members, added, removed, at_ms, at_us: microseconds };
    Ok(Verdict::Done(Box::new(synced), turn))
}

impl Manager {
    /// Notes that this node contributes to a topic, and listens to it.
    pub(super) fn enter(&mut self, topic: Arc<str>, mut connection: Connection) {
        let (note, is_heard) = self.note("SADD", &topic);
        let mut second = connection.clone();
        self.begin(async move {
            let noted = connection.query::<()>(&note);
            let listening =
                async { if is_heard { second.subscribe(&topic).await } else { Ok(()) } };
            let (noted, listening) = tokio::join!(noted, listening);
            Outcome::Entered { is_done: noted.and(listening).is_ok(), topic }
        });
    }

    /// Forgets a topic that nobody needs.
    pub(super) fn leave_topic(&mut self, topic: Arc<str>, mut connection: Connection) {
        let (note, is_heard) = self.note("SREM", &topic);
        let mut second = connection.clone();
        self.begin(async move {
            let noted = connection.query::<()>(&note);
            let ending = async { if is_heard { second.unsubscribe(&topic).await } else { Ok(()) } };
            let (noted, ending) = tokio::join!(noted, ending);
            Outcome::Left { is_done: noted.and(ending).is_ok(), topic }
        });
    }

    /// The command that changes the list of this node's topics, and whether this one is listened to.
    fn note(&self, command: &str, topic: &Arc<str>) -> (Cmd, bool) {
        let mut note = cmd(command);
        note.arg(self.shared.names.topics_of(&self.membership.node())).arg(&**topic);
        (note, self.topics.get(topic).is_some_and(Topic::is_heard))
    }

    /// Asserts what this node has.
    pub(super) fn assert(
        &mut self,
        topic: Arc<str>,
        assertion: &Assertion,
        mut connection: Connection,
        now: Instant,
    ) {
        let Some(found) = self.topics.get(&topic) else { return };
        let Some(hub) = self.hubs.get(&found.name.app_id) else { return };
        let (app, node) = (hub.app(), self.membership.node());
        let is_full = assertion.is_full;
        let asked = (&app.config, Wanted::of(hub, &found.name.subject));
        let call = assertion_call(&self.shared, &found.name, asked, &node, assertion, now);
        self.begin(async move {
            let answer = call.run(&mut connection).await;
            Outcome::Synced { topic, is_full, answer }
        });
    }

    /// Does something in the background, and takes what came of it unless the link is another by
    /// then.
    pub(super) fn begin(&self, work: impl Future<Output = Outcome> + Send + 'static) {
        let (outcomes, link) = (self.outcomes.clone(), self.link_number);
        tokio::spawn(async move {
            // The link is given up much sooner, and then nobody asks what came of it.
            if let Ok(outcome) = timeout(WORK_TIMEOUT, work).await {
                // The manager is gone when the process ends.
                let _ = outcomes.send((link, outcome));
            }
        });
    }

    pub(super) fn on_entered(&mut self, topic: &Arc<str>, is_done: bool) {
        self.in_flight -= 1;
        if is_done {
            self.with(topic, Topic::entered);
        } else {
            self.lose_link("redis refused a subscription");
        }
    }

    pub(super) fn on_left(&mut self, topic: &Arc<str>, is_done: bool) {
        self.in_flight -= 1;
        if is_done {
            self.with(topic, Topic::left);
        } else {
            self.lose_link("redis refused to end a subscription");
        }
    }

    pub(super) fn on_synced(
        &mut self,
        topic: &Arc<str>,
        is_full: bool,
        answer: RedisResult<Value>,
    ) {
        self.in_flight -= 1;
        let now = Instant::now();
        let is_provisional = self.is_provisional();
        match answer.map(|value| read(value, now)) {
            Ok(Ok(Verdict::Done(synced, turn))) => {
                self.keep_books(topic, turn);
                let Some(found) = self.topics.get_mut(topic) else { return };
                let hub = self.hubs.get(&found.name.app_id);
                let most = hub.map_or(0, |hub| hub.app().config.max_presence_members);
                let context = (most, is_provisional);
                let effects = found.on_synced(&synced, is_full, context, now);
                if found.has_settled() || !found.is_heard() {
                    self.settled(topic);
                }
                self.carry_out(topic, effects, now);
                self.touch(topic);
            }
            Ok(Ok(Verdict::Late)) => self.with(topic, Topic::not_synced),
            Ok(Err(Unexpected)) => self.not_ours(topic),
            Err(error) if is_wrong_type(&error) => self.not_ours(topic),
            Err(error) if was_refused(&error) => {
                tracing::warn!(%error, "redis refused to share a topic");
                self.lose_link("redis refuses to share a topic");
            }
            // The link says so itself.
            Err(_lost) => {}
        }
    }

    /// Something else lies where the topic's hash is to be. It is our place.
    fn not_ours(&mut self, topic: &Arc<str>) {
        self.shared.metrics.foreign("a key of another type");
        let Some(mut connection) = self.connection.clone() else { return };
        let mut free = cmd("DEL");
        free.arg(&**topic);
        let topic = Arc::clone(topic);
        self.in_flight += 1;
        self.begin(async move {
            // If it fails, the next assertion does as well, and comes here again.
            let _ = connection.query::<()>(&free).await;
            Outcome::Freed { topic }
        });
    }

    pub(super) fn on_freed(&mut self, topic: &Arc<str>) {
        self.in_flight -= 1;
        self.with(topic, Topic::not_synced);
    }

    /// On a Redis Cluster, index and log lie elsewhere and are written by themselves.
    fn keep_books(&self, topic: &Arc<str>, turn: Turn) {
        if !self.shared.is_cluster {
            return;
        }
        let (Some(mut connection), Some(found)) = (self.connection.clone(), self.topics.get(topic))
        else {
            return;
        };
        let (shared, name) = (Arc::clone(&self.shared), found.name.clone());
        if let Some(hub) = self.hubs.get(&name.app_id) {
            logged::log(hub, &name.subject, &turn);
        }
        tokio::spawn(async move { write_index(&shared, &name, &mut connection, &turn).await });
    }

    /// Carries out on this node what came of a topic.
    pub(super) fn carry_out(&mut self, topic: &Arc<str>, effects: Vec<Effect>, now: Instant) {
        let Some(found) = self.topics.get(topic) else { return };
        let Some(hub) = self.hubs.get(&found.name.app_id).cloned() else { return };
        let subject = found.name.subject.clone();
        for effect in effects {
            match (effect, &subject) {
                (
                    Effect::Attach { connection, ticket, user_id, welcome },
                    Subject::Channel(channel),
                ) => {
                    hub.attach(channel, connection, ticket, user_id, welcome, now);
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
                (Effect::Interrupt, Subject::Channel(channel)) => {
                    self.shared.metrics.interrupted();
                    hub.interrupt(channel, &CloseCode::Interrupted);
                }
                (Effect::Doubt, _) => self.doubts.push(Arc::clone(topic)),
                (Effect::Online(is_online), Subject::User(user_id)) => {
                    let watchers = self.topics.get(topic).into_iter().flat_map(Topic::watchers);
                    hub.tell_watchers(watchers, user_id, is_online);
                }
                (Effect::Admit(admission, is_admitted), _) => {
                    // Whoever does not wait any more was let in, or will say that it is gone.
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

/// Writes what an assertion turned into the index of a Redis Cluster.
pub(super) async fn write_index(
    shared: &Shared,
    name: &TopicName,
    connection: &mut Connection,
    turn: &Turn,
) {
    let Subject::Channel(channel) = &name.subject else { return };
    if channel.server_to_user().is_some() {
        return;
    }
    let call = Call::of(&shared.scripts.index)
        .key(shared.names.index(&name.app_id))
        .key(shared.names.gone(&name.app_id))
        .arg(channel.as_str())
        .number(turn.total)
        .number(turn.members)
        .number(turn.at_ms);
    if let Err(error) = call.run(connection).await {
        tracing::debug!(%error, "the index was not written");
    }
}

fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE")
}
