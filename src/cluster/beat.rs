//! Coming, staying and going: the link to Redis, and this node's place among the others.

use super::{
    assert::ASSERT_WITHIN,
    cleanup,
    link::{Connection, Pushes},
    manager::{Manager, Outcome},
    scripts::{Answer, Call, Unexpected},
    shared::{Joined, SUSPECT_AFTER, Shared, Standing},
};
use redis::{RedisResult, Value};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// How this node stands with the others.
#[derive(Debug)]
pub(super) struct Membership {
    process: String,
    /// Nodes are named anew when their lease has ended: somebody cleans up after the old name.
    incarnation: u32,
    has_lease: bool,
    node_timeout: Duration,
    stage: Stage,
    /// When the last beat was sent, while it is not answered.
    asked: Option<Instant>,
    pub(super) next_beat: Instant,
    /// When this node last heard itself on the bus.
    echo: Option<Instant>,
    /// The run of the server that the link leads to; empty if that is not known.
    run_id: String,
    /// The generation that this node last joined.
    generation: Option<Arc<str>>,
    is_open: bool,
    /// The other processes, as far as was heard.
    known: Vec<String>,
    /// The processes that have a lease, including this one. A process that can only publish on the
    /// bus has none.
    leased: Vec<u32>,
    /// Names that this node had, and under which it may have said something that nobody knows of.
    former: Vec<String>,
    retry_after: Duration,
}

/// How far joining has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// There is no link; the next attempt is due.
    Away(Instant),
    Connecting,
    /// Linked, and asked to be let in.
    Joining,
    /// Redis has begun again: this node has it know how far the channels had come.
    Bringing,
    /// Everything that this node has is asserted, from then on.
    Asserting(Instant),
    /// That is done, and was said.
    Arriving,
    /// It waits until it hears itself, and until all others have arrived.
    Waiting,
    Joined,
}

/// A node says that it is there so often. Its lease is some times as long.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// And so often while it waits for something.
const EAGER_INTERVAL: Duration = Duration::from_millis(100);
/// After so long without an answer, the link is given up.
const LINK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an empty Redis waits for the processes that were there before.
const ARRIVAL_WINDOW: Duration = Duration::from_secs(3);
/// How long it waits for somebody who knows of any: whoever lost its link is back by then.
const KNOWING_WINDOW: Duration = Duration::from_millis(1_500);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(400);

/// Maximum number of processes that are known by their own messages only. Redis confirms once a
/// second which of them are nodes.
const KNOWN_MAX: usize = 1_024;

/// What a beat was answered.
struct Reply {
    is_lapsed: bool,
    generation: String,
    is_open: bool,
    was_open: bool,
    redis_ms: u64,
    dead: Vec<String>,
    alive: Vec<String>,
}

impl Membership {
    pub(super) fn new(process: String, node_timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            process,
            incarnation: 1,
            has_lease: false,
            node_timeout,
            stage: Stage::Away(now),
            asked: None,
            next_beat: now,
            echo: None,
            run_id: String::new(),
            generation: None,
            is_open: false,
            known: Vec::new(),
            leased: Vec::new(),
            former: Vec::new(),
            retry_after: RETRY_FIRST,
        }
    }

    /// This node's name.
    pub(super) fn node(&self) -> String {
        format!("{}.{}", self.process, self.incarnation)
    }

    /// Whether it takes part.
    pub(super) fn is_joined(&self) -> bool {
        self.stage == Stage::Joined
    }

    /// Learns of a process by its node.
    pub(super) fn hear_of(&mut self, node: &str) {
        let process = node.split('.').next().unwrap_or_default();
        let is_new = process != self.process && !self.known.iter().any(|known| known == process);
        if is_new && self.known.len() < KNOWN_MAX {
            self.known.push(process.to_owned());
        }
    }

    /// Whether Redis lists the process as a node.
    pub(super) fn has_lease(&self, process: u32) -> bool {
        self.leased.contains(&process)
    }

    pub(super) fn call(&self, shared: &Shared, phase: &str) -> Call {
        let names = &shared.names;
        let mut call = Call::of(&shared.scripts.beat)
            .key(names.leases())
            .key(names.generation())
            .key(names.expected())
            .arg(phase)
            .arg(self.node())
            .arg(&*self.process)
            .number(self.node_timeout.as_millis())
            .arg(format!("{:016x}", rand::random::<u64>()))
            .arg(names.all_nodes())
            .number(ARRIVAL_WINDOW.as_millis())
            .number(KNOWING_WINDOW.as_millis())
            .arg(if self.has_lease { "1" } else { "0" })
            .arg(&*self.run_id)
            .arg(self.state(shared).letter());
        for process in &self.known {
            call = call.arg(&**process);
        }
        call
    }
}

impl Reply {
    fn read(value: Value) -> Result<Self, Unexpected> {
        let mut answer = Answer::new(value)?;
        Ok(Self {
            is_lapsed: answer.text()? == "lapsed",
            generation: answer.text()?,
            is_open: answer.number()? == 1,
            was_open: answer.number()? == 1,
            redis_ms: answer.number()?,
            dead: answer.texts()?,
            alive: answer.texts()?,
        })
    }
}

impl Manager {
    /// Whether topics may be asserted now.
    pub(super) fn may_assert(&self) -> bool {
        match self.membership.stage {
            Stage::Away(_) | Stage::Connecting | Stage::Joining | Stage::Bringing => false,
            Stage::Asserting(from) => from <= Instant::now(),
            Stage::Arriving | Stage::Waiting => true,
            Stage::Joined => matches!(&*self.shared.standing.borrow(), Standing::Joined(_)),
        }
    }

    /// Does what time brings for the link.
    pub(super) fn keep_link(&mut self, now: Instant) {
        if let Some(asked) = self.membership.asked {
            let waited = now.saturating_duration_since(asked);
            if LINK_TIMEOUT < waited {
                return self.lose_link("redis does not answer");
            }
            if SUSPECT_AFTER < waited {
                self.shared.suspect();
            }
        }
        match self.membership.stage {
            Stage::Away(at) if at <= now && self.stopping.is_none() => self.connect(),
            Stage::Away(_) | Stage::Connecting | Stage::Joining | Stage::Arriving => {}
            Stage::Asserting(from) => {
                if from <= now && self.unsettled.is_empty() {
                    self.membership.stage = Stage::Arriving;
                    self.beat("arrive", now);
                } else {
                    self.beat_when_due("beat", now);
                }
            }
            Stage::Bringing | Stage::Waiting => self.beat_when_due("beat", now),
            Stage::Joined => {
                let echo = self.membership.echo.unwrap_or(now);
                if LINK_TIMEOUT + BEAT_INTERVAL < now.saturating_duration_since(echo) {
                    return self.lose_link("the bus is silent");
                }
                let is_suspect = matches!(&*self.shared.standing.borrow(), Standing::Suspect);
                if is_suspect && self.membership.asked.is_none() {
                    self.membership.next_beat = now;
                }
                self.beat_when_due("beat", now);
            }
        }
    }

    fn connect(&mut self) {
        self.membership.stage = Stage::Connecting;
        let (endpoint, shared) = (Arc::clone(&self.endpoint), Arc::clone(&self.shared));
        self.begin(async move {
            let connecting = async {
                let (mut connection, pushes) = endpoint.connect().await?;
                shared.scripts.load(&mut connection).await?;
                connection.subscribe(&shared.names.all_nodes()).await?;
                let run_id = connection.run_id().await?;
                Ok(Box::new((connection, pushes, run_id)))
            };
            let late =
                || Err(redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)));
            Outcome::Connected(
                timeout(endpoint.patience(), connecting).await.unwrap_or_else(|_| late()),
            )
        });
    }

    fn on_connected(&mut self, result: RedisResult<Box<(Connection, Pushes, String)>>) {
        match result {
            Ok(linked) => {
                let (connection, pushes, run_id) = *linked;
                self.membership.run_id = run_id;
                self.connection = Some(connection);
                self.pushes = Some(pushes);
                self.membership.stage = Stage::Joining;
                self.beat("join", Instant::now());
            }
            Err(error) => {
                if self.membership.retry_after == RETRY_FIRST {
                    tracing::warn!(%error, "redis can't be reached");
                } else {
                    tracing::debug!(%error, "redis can't be reached");
                }
                self.stay_away("redis can't be reached");
            }
        }
    }

    fn beat_when_due(&mut self, phase: &str, now: Instant) {
        if self.membership.asked.is_none() && self.membership.next_beat <= now {
            self.beat(phase, now);
        }
    }

    pub(super) fn beat(&mut self, phase: &str, now: Instant) {
        let Some(mut connection) = self.connection.clone() else { return };
        let is_calm = self.membership.stage == Stage::Joined;
        let call = self.membership.call(&self.shared, phase);
        self.membership.asked = Some(now);
        self.membership.next_beat = now + if is_calm { BEAT_INTERVAL } else { EAGER_INTERVAL };
        self.begin(async move {
            let asked = Instant::now();
            let answer = call.run(&mut connection).await;
            Outcome::Beat { asked, answered: Instant::now(), answer }
        });
    }

    fn on_beat(&mut self, asked: Instant, answered: Instant, answer: RedisResult<Value>) {
        self.membership.asked = None;
        let reply = match answer.map(Reply::read) {
            Ok(Ok(reply)) => reply,
            Ok(Err(Unexpected)) => return self.lose_link("redis answers nonsense"),
            Err(error) => {
                tracing::warn!(%error, "redis refused a beat");
                return self.lose_link("redis does not take part");
            }
        };
        self.shared.clock.learn(reply.redis_ms, asked, answered);
        if reply.is_lapsed {
            return self.on_lapsed();
        }
        self.membership.is_open = reply.is_open;
        match self.membership.stage {
            Stage::Joining => {
                self.membership.has_lease = true;
                if reply.is_open {
                    self.begin_to_assert();
                } else {
                    self.membership.stage = Stage::Bringing;
                    self.bring();
                }
            }
            Stage::Arriving => self.on_arrived(&reply),
            Stage::Away(_) | Stage::Connecting | Stage::Bringing | Stage::Asserting(_) => {}
            Stage::Waiting | Stage::Joined => {
                if self.membership.generation.as_deref() != Some(&*reply.generation) {
                    return self.lose_link("redis has begun again");
                }
                if self.membership.stage == Stage::Joined {
                    self.stand_joined();
                }
            }
        }
        if matches!(self.membership.stage, Stage::Waiting | Stage::Joined) {
            let process = |node: &String| node.split('.').next().unwrap_or_default().to_owned();
            let number = |node: &String| u32::from_str_radix(&process(node), 16).ok();
            self.membership.leased = reply.alive.iter().filter_map(number).collect();
            self.membership.known = reply.alive.iter().map(process).collect();
            let own = self.membership.process.clone();
            self.membership.known.retain(|known| *known != own);
        }
        self.come_in();
        self.shared.metrics.set_topics(self.topics.len());
        for node in reply.dead {
            self.clean_up_after(node);
        }
    }

    /// The lease is gone: Redis has lost its data, or somebody cleans up after this node. It comes
    /// again under another name.
    fn on_lapsed(&mut self) {
        let is_joining = self.membership.stage == Stage::Joining;
        self.membership.has_lease = false;
        self.membership.former.push(self.membership.node());
        self.membership.incarnation += 1;
        for topic in self.topics.values_mut() {
            topic.is_unknown();
        }
        if is_joining {
            self.beat("join", Instant::now());
        } else {
            self.lose_link("this node's lease has ended");
        }
    }

    fn on_brought(&mut self, is_done: bool) {
        if is_done {
            self.begin_to_assert();
        } else {
            self.lose_link("redis does not keep sequences");
        }
    }

    fn begin_to_assert(&mut self) {
        // What was said on the last link is done by then, or never.
        let from = self.asserted_at.map(|at| at + ASSERT_WITHIN + SUSPECT_AFTER / 5);
        self.membership.stage = Stage::Asserting(from.unwrap_or_else(Instant::now));
        self.touch_all();
    }

    fn on_arrived(&mut self, reply: &Reply) {
        let is_new = self.membership.generation.as_deref() != Some(&*reply.generation);
        // In a generation that was not open yet, nobody could publish.
        let has_missed_nothing = is_new && !reply.was_open;
        self.membership.generation = Some(reply.generation.as_str().into());
        for topic in std::mem::take(&mut self.doubts) {
            if !has_missed_nothing {
                self.carry_out(&topic, vec![super::topic::Effect::Interrupt], Instant::now());
            }
        }
        self.membership.stage = Stage::Waiting;
        self.give_up_former_names();
    }

    /// Has everything cleaned away that this node may have said under a name that it lost. By now
    /// nothing more can come under it.
    fn give_up_former_names(&mut self) {
        let Some(connection) = self.connection.clone() else { return };
        for node in std::mem::take(&mut self.membership.former) {
            let topics: Vec<Arc<str>> = self.topics.keys().cloned().collect();
            tokio::spawn(cleanup::condemn(
                Arc::clone(&self.shared),
                connection.clone(),
                node,
                topics,
            ));
        }
    }

    /// Counts as joined when it hears itself, and all others have arrived.
    fn come_in(&mut self) {
        let is_heard = self.membership.echo.is_some();
        if self.membership.stage != Stage::Waiting || !is_heard || !self.membership.is_open {
            return;
        }
        self.read_provisional_again();
        self.membership.stage = Stage::Joined;
        self.membership.retry_after = RETRY_FIRST;
        self.shared.metrics.joined();
        tracing::info!(
            node = self.membership.node(),
            others = self.membership.known.len(),
            "joined"
        );
        self.stand_joined();
    }

    fn stand_joined(&self) {
        if let (Some(connection), Some(generation)) =
            (self.connection.clone(), self.membership.generation.clone())
        {
            self.shared.standing.send_replace(Standing::Joined(Joined { connection, generation }));
        }
    }

    /// Whether others may still be about to say what they have.
    pub(super) fn is_provisional(&self) -> bool {
        !self.membership.is_open
    }

    /// All others have arrived: what was read before may be read as it is now.
    fn read_provisional_again(&mut self) {
        let provisional = self
            .topics
            .iter_mut()
            .filter_map(|(name, topic)| topic.end_provisional().then(|| Arc::clone(name)));
        for name in provisional.collect::<Vec<_>>() {
            self.touch(&name);
        }
    }

    pub(super) fn on_echo(&mut self, node: &str, now: Instant) {
        if node == self.membership.node() {
            self.membership.echo = Some(now);
            self.come_in();
        }
    }

    pub(super) fn settled(&mut self, topic: &Arc<str>) {
        self.unsettled.remove(topic);
    }

    /// Gives the link up. Everything will be said and heard again over the next.
    pub(super) fn lose_link(&mut self, reason: &'static str) {
        if self.connection.is_none() {
            return;
        }
        tracing::warn!(reason, "the link to redis is given up");
        self.shared.metrics.lost();
        for topic in self.topics.values_mut() {
            topic.detach();
        }
        self.stay_away(reason);
    }

    fn stay_away(&mut self, reason: &'static str) {
        self.connection = None;
        self.pushes = None;
        self.link_number += 1;
        self.in_flight = 0;
        self.unsettled.clear();
        self.cleaning.clear();
        let membership = &mut self.membership;
        membership.asked = None;
        membership.echo = None;
        membership.is_open = false;
        let jitter = membership.retry_after.mul_f64(rand::random::<f64>() / 2.0);
        membership.stage = Stage::Away(Instant::now() + membership.retry_after + jitter);
        membership.retry_after = (membership.retry_after * 2).min(RETRY_MAX);
        self.shared.standing.send_replace(Standing::Away(reason));
    }

    pub(super) fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Connected(result) => self.on_connected(result),
            Outcome::Beat { asked, answered, answer } => self.on_beat(asked, answered, answer),
            Outcome::Entered { topic, is_done } => self.on_entered(&topic, is_done),
            Outcome::Synced { topic, is_full, answer } => self.on_synced(&topic, is_full, answer),
            Outcome::Left { topic, is_done } => self.on_left(&topic, is_done),
            Outcome::Brought { is_done } => self.on_brought(is_done),
            Outcome::Freed { topic } => self.on_freed(&topic),
            Outcome::Cleaned { node } => {
                self.cleaning.remove(&node);
            }
            Outcome::GoneAway => {
                tracing::info!(node = self.membership.node(), "left the others");
                self.stay_away("this node has left");
            }
        }
    }
}
