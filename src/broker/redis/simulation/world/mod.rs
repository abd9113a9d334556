//! The simulated world: nodes, clients and publishers on the network, with faults.

mod faults;
mod history;
mod node;
mod publishing;
mod readers;
mod receiving;
mod report;

pub(super) use faults::Fault;

use super::network::{Late, Network, WireFilter};
use crate::{
    broker::{LogRequest, redis::random},
    protocol::ChannelName,
};
use history::{ClientSession, History, PublishOutcome, Violation};
use node::{BROKER_WAIT, PREFIX, SimNode};
use publishing::PublishAttempt;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use readers::READERS;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// The duration of one step.
const STEP: Duration = Duration::from_millis(20);
/// The channels, presence channels among them.
const CHANNELS: [&str; 5] = ["a", "presence-b", "private-c", "presence-d", "presence-e"];
const USERS: usize = 6;
const CLIENTS: usize = 12;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(super) struct RunPlan {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) is_redis_cluster: bool,
    pub(super) time: Duration,
    /// The faults to draw from; empty for all that are possible.
    pub(super) faults: Vec<Fault>,
    /// The factor by which clients subscribe and leave more often than usual.
    pub(super) churn: u32,
    /// The time after the last fault within which the state must be right.
    pub(super) settles_within: Duration,
}

/// The state of a run.
#[derive(Debug)]
pub(super) struct World {
    plan: RunPlan,
    network: Network,
    addresses: Vec<(String, u16)>,
    random: StdRng,
    /// For what publishers with keys do, so that it changes no draw of the rest.
    publisher_random: StdRng,
    /// For what readers do, likewise.
    reader_random: StdRng,
    start: Instant,
    /// The nodes by slot; `None` while a node is down.
    nodes: Vec<Option<SimNode>>,
    /// The restart time of each node that is down.
    revivals: BTreeMap<usize, Instant>,
    /// The end times of faults of Redis and of the network.
    mends: Vec<(Instant, Fault)>,
    /// The node whose network is interrupted, and the delay of its bytes.
    away: Option<(usize, Duration)>,
    /// Servers of a Redis Cluster that have lost all slots and became replicas.
    replicas: BTreeSet<usize>,
    history: History,
    /// The sessions of the clients, readers last; `None` while a client has none.
    clients: Vec<Option<usize>>,
    /// What each client that resumes has of its channel; `None` before it has chosen one.
    readers: Vec<Option<usize>>,
    publishes: Vec<PublishAttempt>,
    /// The events with keys that are published again, and when.
    retries: Vec<(Instant, usize)>,
    /// The injected faults, for the report.
    pub(super) log: Vec<(Duration, String)>,
    is_calm: bool,
}

impl World {
    pub(super) fn new(plan: RunPlan) -> Self {
        random::seed(plan.seed);
        let network = Network::new(plan.seed);
        let servers = if plan.is_redis_cluster { 3 } else { 1 };
        let addresses: Vec<(String, u16)> =
            (0..servers).map(|number| (format!("redis{number}"), 6379)).collect();
        for (host, port) in &addresses {
            network.add_server(host, *port);
            // Pushes follow replies, as from Redis 7.2 on, with every other seed.
            network.rules(host, *port, |rules| rules.pushes_after_reply = plan.seed % 2 == 1);
        }
        if plan.is_redis_cluster {
            let named: Vec<(&str, u16)> =
                addresses.iter().map(|(host, port)| (host.as_str(), *port)).collect();
            network.make_cluster(&named);
        }
        let mut world = Self {
            random: StdRng::seed_from_u64(plan.seed ^ 0x5EED),
            publisher_random: StdRng::seed_from_u64(plan.seed ^ 0x1DE),
            reader_random: StdRng::seed_from_u64(plan.seed ^ 0x4EAD),
            network,
            addresses,
            start: Instant::now(),
            nodes: Vec::new(),
            revivals: BTreeMap::new(),
            mends: Vec::new(),
            away: None,
            replicas: BTreeSet::new(),
            history: History::default(),
            clients: vec![None; CLIENTS + READERS],
            readers: vec![None; READERS],
            publishes: Vec::new(),
            retries: Vec::new(),
            log: Vec::new(),
            is_calm: false,
            plan,
        };
        for slot in 0..world.plan.nodes {
            let node = world.start_node(slot);
            world.nodes.push(Some(node));
        }
        world
    }

    fn start_node(&self, slot: usize) -> SimNode {
        SimNode::start(&self.network, slot, &self.addresses, self.plan.is_redis_cluster)
    }

    fn note(&mut self, what: String) {
        self.log.push((self.start.elapsed(), what));
    }

    /// Runs the whole plan: a period with faults, and a calm one, after which the state must be
    /// right.
    pub(super) async fn run(&mut self) -> Result<(), Violation> {
        self.until_ready(Duration::from_secs(10)).await?;
        let end = Instant::now() + self.plan.time;
        let mut next_fault = Instant::now() + self.draw(500..3_000);
        while Instant::now() < end {
            self.step().await;
            if next_fault <= Instant::now() {
                next_fault = Instant::now() + self.draw(300..6_000);
                self.fault();
            }
        }
        self.end_faults();
        self.wait_for_expected_state().await?;
        self.last_events_reach_all().await?;
        self.history.check(Instant::now())?;
        self.nothing_is_left().await
    }

    async fn until_ready(&mut self, within: Duration) -> Result<(), Violation> {
        let end = Instant::now() + within;
        while !self.nodes.iter().flatten().all(SimNode::is_ready) {
            if end < Instant::now() {
                return Err(format!("not ready within {within:?}"));
            }
            self.step().await;
        }
        Ok(())
    }

    /// Draws a duration from a range of milliseconds.
    fn draw(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    /// Runs one step, in which clients subscribe and leave and events are published.
    async fn step(&mut self) {
        tokio::time::sleep(STEP).await;
        self.revive();
        self.end_due_faults();
        for slot in 0..self.nodes.len() {
            let Some(node) = &mut self.nodes[slot] else { continue };
            let sent = node.take();
            for (session, sent) in sent {
                self.receive(session, sent);
            }
        }
        for client in 0..CLIENTS {
            self.step_client(client);
        }
        for client in CLIENTS..CLIENTS + READERS {
            self.step_reader(client);
        }
        if !self.is_calm && self.random.random_range(0..4) == 0 {
            let channel = self.random.random_range(0..CHANNELS.len());
            let slot = self.random.random_range(0..self.nodes.len());
            self.publish(slot, channel);
        }
        self.retry_publishes();
    }

    /// Lets a client connect, stay or leave.
    fn step_client(&mut self, client: usize) {
        let Some(number) = self.clients[client] else {
            if self.is_calm || self.random.random_range(0..25) < self.plan.churn {
                self.connect(client);
            }
            return;
        };
        if !self.is_calm && self.random.random_range(0..400) < self.plan.churn {
            self.disconnect(client, number);
        }
    }

    fn connect(&mut self, client: usize) {
        let slot = self.random.random_range(0..self.nodes.len());
        let channel = self.random.random_range(0..CHANNELS.len());
        let user = self.random.random_range(0..USERS);
        let Some(node) = &mut self.nodes[slot] else { return };
        let name = CHANNELS[channel];
        let user = name.starts_with("presence-").then(|| format!("u{user}"));
        let number = self.history.sessions.len();
        node.connect(number, &channel_name(name), user.as_deref(), LogRequest::No);
        self.history.sessions.push(ClientSession {
            slot,
            channel,
            user,
            received: Vec::new(),
            acknowledged: None,
            ended: None,
            reader: None,
        });
        self.clients[client] = Some(number);
    }

    fn disconnect(&mut self, client: usize, number: usize) {
        self.clients[client] = None;
        let session = &mut self.history.sessions[number];
        session.ended = Some(Instant::now());
        if let Some(node) = &mut self.nodes[session.slot] {
            node.disconnect(number, Duration::ZERO);
        }
    }

    fn kill(&mut self, slot: usize, late: Late) {
        let Some(node) = self.nodes[slot].take() else { return };
        let now = Instant::now();
        for number in node.kill() {
            self.history.sessions[number].ended = Some(now);
            self.on_session_ended(number);
        }
        self.abort_publishes(slot);
        self.network.cut(&WireFilter::all().of(slot), late);
    }

    fn revive(&mut self) {
        let now = Instant::now();
        let due: Vec<usize> =
            self.revivals.iter().filter(|(_, at)| **at <= now).map(|(slot, _)| *slot).collect();
        for slot in due {
            self.revivals.remove(&slot);
            self.note(format!("node {slot} starts again"));
            self.nodes[slot] = Some(self.start_node(slot));
        }
    }

    /// Ends all actions of the test. Afterwards, only the nodes are active.
    fn end_faults(&mut self) {
        self.note("calm".to_owned());
        self.is_calm = true;
        self.network.heal();
        for at in self.revivals.values_mut() {
            *at = Instant::now();
        }
        for (at, _) in &mut self.mends {
            *at = Instant::now();
        }
        self.network.set_latency(None, faults::NEAR);
        for slot in 0..self.nodes.len() {
            self.network.set_latency(Some(slot), faults::NEAR);
            self.network.set_bandwidth(slot, None);
        }
    }

    /// Waits until the state is right; it must be within some time.
    async fn wait_for_expected_state(&mut self) -> Result<(), Violation> {
        let end = Instant::now() + self.plan.settles_within;
        loop {
            for _ in 0..25 {
                self.step().await;
            }
            match self.check_state().await {
                Ok(()) => return Ok(()),
                Err(violation) if end < Instant::now() => return Err(violation),
                Err(_) => {}
            }
        }
    }

    /// The users and counts of each channel, according to the frames that its clients have received.
    fn expected_state(&self) -> Vec<(BTreeSet<String>, usize)> {
        let mut expected_state = vec![(BTreeSet::new(), 0); CHANNELS.len()];
        for session in self.history.sessions.iter().filter(|session| session.is_open()) {
            let (users, count) = &mut expected_state[session.channel];
            users.extend(session.user.clone());
            *count += 1;
        }
        expected_state
    }

    /// Whether every client and every node has the true state.
    async fn check_state(&self) -> Result<(), Violation> {
        let expected_state = self.expected_state();
        for client in &self.clients {
            let number = client.ok_or("a client has no connection")?;
            let session = &self.history.sessions[number];
            let name = CHANNELS[session.channel];
            if session.acknowledged.is_none() {
                return Err(format!("session {number} waits for {name}"));
            }
            let (users, count) = &expected_state[session.channel];
            let members = session.members()?;
            if session.user.is_some() && members != *users {
                return Err(format!(
                    "session {number} on {name} received {members:?} instead of {users:?}"
                ));
            }
            if session.user.is_none() && session.count().is_some_and(|received| received != *count)
            {
                let received = session.count();
                return Err(format!(
                    "session {number} on {name} received {received:?} instead of {count}"
                ));
            }
        }
        for node in &self.nodes {
            let node = node.as_ref().ok_or("a node is down")?;
            if let Some(reason) = node.broker.unavailable_reason() {
                return Err(format!("node {} is not ready: {reason}", node.id));
            }
            self.check_node(node, &expected_state).await?;
        }
        Ok(())
    }

    async fn check_node(
        &self,
        node: &SimNode,
        expected_state: &[(BTreeSet<String>, usize)],
    ) -> Result<(), Violation> {
        let id = node.id;
        for (name, (users, count)) in CHANNELS.iter().zip(expected_state) {
            let channel = channel_name(name);
            let users_on_node = node.broker.users(&node.hub, &channel, false).await;
            let users_on_node = users_on_node.map_err(|_| format!("node {id} does not answer"))?;
            let known: BTreeSet<String> =
                users_on_node.iter().map(|(user, _)| user.to_string()).collect();
            let summary = node.broker.channel(&node.hub, &channel).await;
            let counts = summary.map_err(|_| format!("node {id} does not answer"))?.counts;
            if known != *users || counts.subscriptions != *count || counts.users != users.len() {
                return Err(format!(
                    "{name}: node {id} reports {known:?} {counts:?} instead of {users:?} {count}"
                ));
            }
        }
        let listed = node.broker.channels(&node.hub, "").await;
        let listed = listed.map_err(|_| format!("node {id} does not answer"))?;
        let listed: BTreeMap<String, usize> = listed
            .with_prefix("")
            .map(|(name, counts)| (name.as_str().to_owned(), counts.subscriptions))
            .collect();
        let occupied: BTreeMap<String, usize> = CHANNELS
            .iter()
            .zip(expected_state)
            .filter(|(_, (_, count))| 0 < *count)
            .map(|(name, (_, count))| ((*name).to_owned(), *count))
            .collect();
        if listed != occupied {
            return Err(format!("node {id} lists {listed:?} instead of {occupied:?}"));
        }
        Ok(())
    }

    /// Checks that events published through each node reach all clients.
    async fn last_events_reach_all(&mut self) -> Result<(), Violation> {
        for slot in 0..self.nodes.len() {
            for channel in 0..CHANNELS.len() {
                self.publish(slot, channel);
            }
        }
        let end = Instant::now() + BROKER_WAIT + Duration::from_secs(1);
        while Instant::now() < end {
            self.step().await;
        }
        let events = self.history.events.lock().expect("one thread");
        let last = events.iter().rev().take(self.nodes.len() * CHANNELS.len());
        match last
            .filter(|event| !matches!(event.replied, Some((_, PublishOutcome::Accepted))))
            .count()
        {
            0 => Ok(()),
            rejected => Err(format!("{rejected} of the last events were not accepted")),
        }
    }

    /// Checks that every remaining key expires once all clients and nodes have left.
    async fn nothing_is_left(&mut self) -> Result<(), Violation> {
        for client in 0..self.clients.len() {
            if let Some(number) = self.clients[client] {
                self.disconnect(client, number);
            }
        }
        // Meanwhile, nodes that were declared dead are cleaned up.
        for _ in 0..1_000 {
            tokio::time::sleep(STEP).await;
            for node in self.nodes.iter_mut().flatten() {
                let _ = node.take();
            }
        }
        for node in self.nodes.iter().flatten() {
            node.broker.leave(Duration::from_secs(5)).await;
        }
        for (host, port) in &self.addresses {
            for key in self.network.keys(host, *port) {
                let key = String::from_utf8_lossy(&key).into_owned();
                let rest = key.strip_prefix(PREFIX).unwrap_or_default();
                // The webhook log waits for a node that delivers it.
                let is_log = rest.starts_with(":log{") || rest.starts_with(":logstate{");
                let ttl = self.network.ask(host, *port, &["PTTL", &key]);
                if !is_log && ttl == redis::Value::Int(-1) {
                    let fields = self.network.ask(host, *port, &["HGETALL", &key]);
                    return Err(format!("{host} {key} remains: {fields:?}"));
                }
            }
        }
        Ok(())
    }
}

fn channel_name(name: &str) -> ChannelName {
    ChannelName::parse(name, 100).expect("a good name")
}
