//! The checks of all guarantees at the end of a run.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::support::{
    Api, Checker, History, Least, Listener, Outcome, Rule, TimedObservation, View, Violation,
    caches_differ, is_cache_channel, wait_for_state_on_all, webhook_violations, webhooks_differ,
};

use super::clients::{ClientConnection, Life};
use super::testbed::Testbed;
use super::world::World;

/// The maximum time of an answer: the default of `redis.broker_wait_ms`, and a tolerance.
const ANSWERED_WITHIN: Duration = Duration::from_millis(2_000 + 150);
/// A further tolerance for a busy machine, since the nodes, Redis and the test share its cores. The time for which this
/// process was observed not to run is added.
const BUSY: Duration = Duration::from_millis(1_000);
/// The maximum delay of webhooks: a removal is held back, and a dispatcher is replaced.
const REPORTED_WITHIN: Duration = Duration::from_secs(15);
/// How long before its disconnection a client may miss accepted events: the longest pause.
const LONGEST_DELAY: Duration = Duration::from_secs(45);

/// All violations at the end of the faults.
pub(super) async fn violations(world: &World, bed: &Testbed, lives: &[Life]) -> Vec<Violation> {
    let faults_so_far = world.faults_so_far();
    let healed_at = faults_so_far.healed_at.unwrap_or_else(Instant::now);
    let mut found = Vec::new();
    found.extend(until(healed_at, async || unsettled(bed, lives).await).await);
    let subscribers = NewSubscribers::subscribe(world, bed).await;
    found.extend(subscribers.violations());
    let reported_at = healed_at.max(Instant::now()) + REPORTED_WITHIN;
    let truth = truth(lives);
    let losses = &faults_so_far.losses;
    let excused = &faults_so_far.excused;
    let differs = async || webhooks_differ(&bed.webhook_requests(), &truth, losses, excused);
    if !faults_so_far.has_lost_webhooks {
        found.extend(until(reported_at, differs).await);
        found.extend(webhook_violations(&bed.webhook_requests(), losses, excused));
    }
    let mut received: Vec<_> = lives.iter().flat_map(Life::all).collect();
    received.extend(subscribers.received);
    let checker = Checker::new(world.ledger.all(), &received)
        .with_losses(losses)
        .with_moves(&faults_so_far.moves)
        .excusing(&faults_so_far.excused)
        .with_delays_of(LONGEST_DELAY);
    found.extend(checker.violations());
    found.extend(late_answers(world));
    found
}

/// Repeats a check until it succeeds or the time is over. Returns the last violation.
async fn until(end: Instant, question: impl AsyncFn() -> Option<Violation>) -> Option<Violation> {
    loop {
        let wrong = question().await?;
        if end < Instant::now() {
            return Some(wrong);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Checks that every request of every open connection is fulfilled, and that every node and every client has the true
/// state. Connections may still be closed while nodes discover missed events, so the truth may change.
async fn unsettled(bed: &Testbed, lives: &[Life]) -> Option<Violation> {
    for (_, session) in open(lives) {
        let is_missing = |(channel, requested_at): &(&String, &usize)| {
            session.listener.acknowledgements(channel) < **requested_at
        };
        if let Some((channel, _)) = session.wanted.iter().find(is_missing) {
            let text = format!("{} waits for the acknowledgement of {channel}", session.name);
            return Some(Violation::new(Rule::Acknowledged, channel, text));
        }
    }
    let truth = truth(lives);
    if let Err(text) = wait_for_state_on_all(&bed.addresses(), Duration::ZERO, &truth).await {
        return Some(Violation::new(Rule::Api, "", text));
    }
    let received: Vec<_> = open(lives)
        .map(|(_, session)| (session.name.clone(), session.listener.received()))
        .collect();
    let checker = Checker::new(Vec::new(), &received);
    checker
        .histories()
        .filter(|history| history.is_open())
        .find_map(|history| wrong_state(history, &truth))
}

/// Compares the state that a subscription received with the truth.
fn wrong_state(history: &History, truth: &View) -> Option<Violation> {
    let channel = &history.channel;
    let (rule, text) = if let Some(present) = truth.users.get(channel) {
        // An event that changes nothing is reported by the checker.
        let received = history.members().ok()?;
        let differing: BTreeSet<_> = received.symmetric_difference(present).collect();
        (!differing.is_empty()).then(|| {
            (Rule::Members, format!("received members {received:?} instead of {present:?}"))
        })?
    } else {
        let (received, count) = (history.last_count(), truth.counts.get(channel).copied());
        (received != count)
            .then(|| (Rule::Counts, format!("received count {received:?} instead of {count:?}")))?
    };
    let mut violation = Violation::new(rule, channel, format!("{} {text}", history.client));
    violation.client.clone_from(&history.client);
    Some(violation)
}

/// Open connections and their users.
fn open(lives: &[Life]) -> impl Iterator<Item = (&str, &ClientConnection)> {
    let present =
        lives.iter().filter_map(|life| Some((life.user.as_str(), life.present.as_ref()?)));
    present.filter(|(_, session)| session.listener.closed().is_none())
}

/// The true state, according to the clients.
fn truth(lives: &[Life]) -> View {
    let mut view = View::default();
    for (user, session) in open(lives) {
        view.connections += 1;
        for channel in session.wanted.keys() {
            if channel.starts_with("presence-") {
                view.users.entry(channel.clone()).or_default().insert(user.to_owned());
            } else {
                *view.counts.entry(channel.clone()).or_default() += 1;
            }
        }
    }
    view
}

/// Clients that subscribe to the cache channels at the end of the run, one on each node.
struct NewSubscribers {
    received: Vec<(String, Vec<TimedObservation>)>,
    unacknowledged: Vec<Violation>,
    /// By channel: the cached event that each client received, and that each node's API returned.
    given: HashMap<String, Vec<(String, Option<String>)>>,
}

impl NewSubscribers {
    async fn subscribe(world: &World, bed: &Testbed) -> Self {
        let published = world.ledger.all();
        let channels: BTreeSet<&String> = published
            .iter()
            .map(|event| &event.channel)
            .filter(|channel| is_cache_channel(channel))
            .collect();
        let mut subscribers =
            Self { received: Vec::new(), unacknowledged: Vec::new(), given: HashMap::new() };
        for address in bed.addresses() {
            let name = format!("new subscriber on {address}");
            let listener = Listener::connect(address).await.expect("the node is ready");
            let mut api = Api::new(address);
            for channel in &channels {
                listener.send_subscribe(channel);
                let end = Instant::now() + Duration::from_secs(5);
                let is_missing = async || {
                    let text = format!("{name} waits for the acknowledgement of {channel}");
                    (listener.acknowledgements(channel) == 0)
                        .then(|| Violation::new(Rule::Acknowledged, channel, text))
                };
                subscribers.unacknowledged.extend(until(end, is_missing).await);
                let query = [("info", "cache")];
                let answer = api.get(&format!("channels/{channel}"), &query).await;
                let answer = answer.expect("the node runs");
                let cached = answer.body["cache"]["data"].as_str().map(str::to_owned);
                subscribers.add(channel, format!("the API of {address}"), cached);
            }
            if listener.closed().is_none() {
                listener.ping_barrier().await;
            }
            subscribers.received.push((name, listener.hang_up()));
        }
        let checker = Checker::new(Vec::new(), &subscribers.received);
        for history in checker.histories() {
            subscribers.add(&history.channel, history.client.clone(), history.cached.clone());
        }
        subscribers
    }

    fn add(&mut self, channel: &str, by: String, cached: Option<String>) {
        self.given.entry(channel.to_owned()).or_default().push((by, cached));
    }

    fn violations(&self) -> Vec<Violation> {
        let differing =
            self.given.iter().filter_map(|(channel, given)| caches_differ(channel, given));
        self.unacknowledged.iter().cloned().chain(differing).collect()
    }
}

/// The bounds on successes that were missed without a fault. Each client publishes with nearly every second action and
/// subscribes with every third.
pub(super) fn unserved(world: &World, lives: &[Life]) -> Vec<Violation> {
    let received: Vec<_> = lives.iter().flat_map(Life::all).collect();
    let least = Least { publishes: lives.len() / 4, joins: lives.len() / 8 };
    Checker::new(world.ledger.all(), &received).unserved(&world.faults_so_far().calm, least)
}

/// A publish whose answer took too long, except on a paused node.
fn late_answers(world: &World) -> Option<Violation> {
    world.ledger.all().into_iter().find_map(|event| {
        let (begun, answered) = (event.begun, event.answered);
        let took = answered - begun;
        let is_late = event.outcome != Outcome::Broken
            && ANSWERED_WITHIN + BUSY < took
            && ANSWERED_WITHIN + BUSY + 2 * world.stalled(begun, answered) < took
            && !world.was_paused(event.node, begun, answered);
        is_late.then(|| {
            let stalled = world.stalled(begun, answered);
            let text = format!("{event:?} was answered after {took:?}, stalled for {stalled:?}");
            let mut violation = Violation::new(Rule::Late, &event.channel, text);
            violation.at = answered;
            violation
        })
    })
}

/// Checks that once all clients have disconnected, every node and the webhooks report it.
pub(super) async fn departures(world: &World, bed: &Testbed) -> Option<Violation> {
    let empty = View::default();
    let faults_so_far = world.faults_so_far();
    let is_reported = async || {
        if let Err(text) = wait_for_state_on_all(&bed.addresses(), Duration::ZERO, &empty).await {
            return Some(Violation::new(Rule::Api, "", text));
        }
        webhooks_differ(&bed.webhook_requests(), &empty, &[], &[])
    };
    let unreported = until(Instant::now() + REPORTED_WITHIN, is_reported).await?;
    let is_excused = unreported.rule == Rule::Webhooks
        && (faults_so_far.has_lost_webhooks
            || webhooks_differ(&bed.webhook_requests(), &empty, &faults_so_far.losses, &[])
                .is_none());
    (!is_excused).then_some(unreported)
}

/// Finds keys that would remain in Redis permanently after all clients and nodes have left, with their types.
pub(super) async fn lasting_keys(world: &World, bed: &Testbed) -> Option<Violation> {
    // A departure during a loss of data is not reported to the webhooks, so the channel or member stays recorded as
    // present.
    let has_lost_departures = !world.faults_so_far().losses.is_empty();
    let mut lasting = Vec::new();
    for redis in bed.servers.all() {
        let mut admin = redis.admin().await;
        if !admin.command(&["ROLE"]).await.texts().contains(&"master".to_owned()) {
            continue;
        }
        for key in admin.command(&["KEYS", "campanile:*"]).await.texts() {
            if admin.command(&["PTTL", &key]).await == kit::Resp::Number(-1) {
                let kind = admin.command(&["TYPE", &key]).await;
                let fields = match kind.text() {
                    "hash" => admin.command(&["HKEYS", &key]).await.texts(),
                    _ => Vec::new(),
                };
                lasting.push((key, kind.text().to_owned(), fields));
            }
        }
    }
    // The hash of a channel that only a dead node had is unlisted if all lists with it were deleted.
    let has_lost_lists = world.faults_so_far().has_lost_webhooks;
    let is_hash = |key: &str| key.starts_with("campanile:c{") || key.starts_with("campanile:u{");
    lasting.retain(|(key, _, fields)| {
        if has_lost_lists && is_hash(key) {
            return false;
        }
        let is_excused = has_lost_departures && key.starts_with("campanile:held{");
        !is_excused && !may_last(key, fields)
    });
    (!lasting.is_empty())
        .then(|| Violation::new(Rule::Keys, "", format!("keys remain: {lasting:?}")))
}

/// Whether a key may remain. The shared state of the nodes remains, but none of its fields may name a node. So do the
/// number of the last webhook request and, on a Redis Cluster, the number of the last record that was received from
/// each partition: a record that is forwarded again must be recognised, and there are at most as many of these numbers
/// as partitions.
fn may_last(key: &str, fields: &[String]) -> bool {
    let is_registry =
        ["campanile:generation{", "campanile:nodes{"].iter().any(|kind| key.starts_with(kind));
    let is_mark = |field: &String| field == "id" || field.starts_with("f:");
    let is_number = key.starts_with("campanile:logstate{") && fields.iter().all(is_mark);
    is_number || (is_registry && !fields.iter().any(|field| field.contains(':')))
}
