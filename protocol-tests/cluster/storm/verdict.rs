//! Whether every promise was kept.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::kit::{
    Api, Checker, Entry, History, Listener, Outcome, Rule, View, Violation, caches_differ,
    is_cache_channel, until_everywhere, webhook_violations, webhooks_differ,
};

use super::clients::{Life, Session};
use super::testbed::Testbed;
use super::world::World;

/// The default of `redis.broker_wait_ms`, and what the answer may take beyond it.
const ANSWERED_WITHIN: Duration = Duration::from_millis(2_000 + 150);
/// What a busy machine adds, whose cores the nodes, Redis and the test share, beside the time for which it was seen not to
/// run this process.
const BUSY: Duration = Duration::from_millis(350);
/// Webhooks are told that much later: a departure is kept back, a dispatcher is replaced.
const TOLD_WITHIN: Duration = Duration::from_secs(15);
/// What a client that leaves may lack: what was accepted during the longest pause.
const LONGEST_DELAY: Duration = Duration::from_secs(45);

/// Everything that is wrong when the faults are over.
pub(super) async fn violations(world: &World, bed: &Testbed, lives: &[Life]) -> Vec<Violation> {
    let suffered = world.suffered();
    let healed_at = suffered.healed_at.unwrap_or_else(Instant::now);
    let mut found = Vec::new();
    found.extend(until(healed_at, async || unsettled(bed, lives).await).await);
    let newcomers = Newcomers::subscribe(world, bed).await;
    found.extend(newcomers.violations());
    let told_at = healed_at.max(Instant::now()) + TOLD_WITHIN;
    let truth = truth(lives);
    let losses = &suffered.losses;
    let differs = async || webhooks_differ(&bed.webhook_requests(), &truth, losses);
    if !suffered.has_lost_webhooks {
        found.extend(until(told_at, differs).await);
        found.extend(webhook_violations(&bed.webhook_requests(), losses, &suffered.excused));
    }
    let mut heard: Vec<_> = lives.iter().flat_map(Life::all).collect();
    heard.extend(newcomers.heard);
    let checker = Checker::new(world.ledger.all(), &heard)
        .with_losses(losses)
        .excusing(&suffered.excused)
        .with_delays_of(LONGEST_DELAY);
    found.extend(checker.violations());
    found.extend(late_answers(world));
    found
}

/// What is wrong at last. Asks again and again until nothing is, or the time is over.
async fn until(end: Instant, question: impl AsyncFn() -> Option<Violation>) -> Option<Violation> {
    loop {
        let wrong = question().await?;
        if end < Instant::now() {
            return Some(wrong);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Every request of every open connection is fulfilled, every node gives the right answers, and clients were told the
/// same. A connection may still be closed while nodes find out what they missed, so the truth may change.
async fn unsettled(bed: &Testbed, lives: &[Life]) -> Option<Violation> {
    for (_, session) in open(lives) {
        let is_missing = |(channel, asked): &(&String, &usize)| {
            session.listener.acknowledgements(channel) < **asked
        };
        if let Some((channel, _)) = session.wanted.iter().find(is_missing) {
            let text = format!("{} waits for the acknowledgement of {channel}", session.name);
            return Some(Violation::new(Rule::Acknowledged, channel, text));
        }
    }
    let truth = truth(lives);
    if let Err(text) = until_everywhere(&bed.addresses(), Duration::ZERO, &truth).await {
        return Some(Violation::new(Rule::Api, "", text));
    }
    let heard: Vec<_> =
        open(lives).map(|(_, session)| (session.name.clone(), session.listener.heard())).collect();
    let checker = Checker::new(Vec::new(), &heard);
    checker
        .histories()
        .filter(|history| history.is_open())
        .find_map(|history| told(history, &truth))
}

/// Where a subscription was told something else than the truth.
fn told(history: &History, truth: &View) -> Option<Violation> {
    let channel = &history.channel;
    let (rule, text) = if let Some(present) = truth.users.get(channel) {
        // A change that is none is found elsewhere.
        let told = history.members().ok()?;
        let differing: BTreeSet<_> = told.symmetric_difference(present).collect();
        (!differing.is_empty())
            .then(|| (Rule::Members, format!("was told {told:?}, there are {present:?}")))?
    } else {
        let (told, count) = (history.last_count(), truth.counts.get(channel).copied());
        (told != count)
            .then(|| (Rule::Counts, format!("was told {told:?}, there are {count:?}")))?
    };
    let mut violation = Violation::new(rule, channel, format!("{} {text}", history.client));
    violation.client.clone_from(&history.client);
    Some(violation)
}

/// Open connections and their users.
fn open(lives: &[Life]) -> impl Iterator<Item = (&str, &Session)> {
    let present =
        lives.iter().filter_map(|life| Some((life.user.as_str(), life.present.as_ref()?)));
    present.filter(|(_, session)| session.listener.closed().is_none())
}

/// What the clients themselves know about who is where.
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

/// Clients that subscribe to the cache channels when everything is over, one on each node.
struct Newcomers {
    heard: Vec<(String, Vec<Entry>)>,
    unacknowledged: Vec<Violation>,
    /// By channel, what each was given, and what each node's API says.
    given: HashMap<String, Vec<(String, Option<String>)>>,
}

impl Newcomers {
    async fn subscribe(world: &World, bed: &Testbed) -> Self {
        let published = world.ledger.all();
        let channels: BTreeSet<&String> = published
            .iter()
            .map(|event| &event.channel)
            .filter(|channel| is_cache_channel(channel))
            .collect();
        let mut newcomers =
            Self { heard: Vec::new(), unacknowledged: Vec::new(), given: HashMap::new() };
        for address in bed.addresses() {
            let name = format!("newcomer on {address}");
            let listener = Listener::connect(address).await.expect("the node is ready");
            let mut api = Api::new(address);
            for channel in &channels {
                listener.ask_for(channel);
                let end = Instant::now() + Duration::from_secs(5);
                let is_missing = async || {
                    let text = format!("{name} waits for the acknowledgement of {channel}");
                    (listener.acknowledgements(channel) == 0)
                        .then(|| Violation::new(Rule::Acknowledged, channel, text))
                };
                newcomers.unacknowledged.extend(until(end, is_missing).await);
                let query = [("info", "cache")];
                let answer = api.get(&format!("channels/{channel}"), &query).await;
                let answer = answer.expect("the node runs");
                let cached = answer.body["cache"]["data"].as_str().map(str::to_owned);
                newcomers.add(channel, format!("the API of {address}"), cached);
            }
            if listener.closed().is_none() {
                listener.fence().await;
            }
            newcomers.heard.push((name, listener.hang_up()));
        }
        let checker = Checker::new(Vec::new(), &newcomers.heard);
        for history in checker.histories() {
            newcomers.add(&history.channel, history.client.clone(), history.cached.clone());
        }
        newcomers
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

/// Publishes whose answer took too long, but for those to a node that was paused.
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

/// When all clients have hung up, every node says so and webhooks tell it.
pub(super) async fn departures(world: &World, bed: &Testbed) -> Option<Violation> {
    let nobody = View::default();
    let suffered = world.suffered();
    let is_told = async || {
        if let Err(text) = until_everywhere(&bed.addresses(), Duration::ZERO, &nobody).await {
            return Some(Violation::new(Rule::Api, "", text));
        }
        webhooks_differ(&bed.webhook_requests(), &nobody, &[])
    };
    let untold = until(Instant::now() + TOLD_WITHIN, is_told).await?;
    let is_excused = untold.rule == Rule::Webhooks
        && (suffered.has_lost_webhooks
            || webhooks_differ(&bed.webhook_requests(), &nobody, &suffered.losses).is_none());
    (!is_excused).then_some(untold)
}

/// Keys that would stay in Redis for ever when everybody has left, each with its type.
pub(super) async fn lasting_keys(world: &World, bed: &Testbed) -> Option<Violation> {
    // Who left while Redis lost data is not told to be gone, so it is remembered as there.
    let has_lost_departures = !world.suffered().losses.is_empty();
    let mut lasting = Vec::new();
    for redis in bed.servers.all() {
        let mut admin = redis.admin().await;
        if !admin.command(&["ROLE"]).await.texts().contains(&"master".to_owned()) {
            continue;
        }
        for key in admin.command(&["KEYS", "campanile:*"]).await.texts() {
            if admin.command(&["PTTL", &key]).await == crate::kit::Resp::Number(-1) {
                let kind = admin.command(&["TYPE", &key]).await;
                let fields = match kind.text() {
                    "hash" => admin.command(&["HKEYS", &key]).await.texts(),
                    _ => Vec::new(),
                };
                lasting.push((key, kind.text().to_owned(), fields));
            }
        }
    }
    // The hash of a channel that only a dead node had, and of which every list was deleted, is in no list.
    let has_lost_lists = world.suffered().has_lost_webhooks;
    let is_hash = |key: &str| key.starts_with("campanile:c{") || key.starts_with("campanile:u{");
    lasting.retain(|(key, _, fields)| {
        if has_lost_lists && is_hash(key) {
            return false;
        }
        let is_excused = has_lost_departures && key.starts_with("campanile:held{");
        !is_excused && !may_last(key, fields)
    });
    (!lasting.is_empty())
        .then(|| Violation::new(Rule::Keys, "", format!("keys are left: {lasting:?}")))
}

/// What the nodes agree on outlasts them, but none of its parts names a node, and so do the number of the last request
/// to a webhook and, on a Redis Cluster, the number of the last record that came from each partition: a record that is
/// forwarded again must be known, and there are no more of them than partitions.
fn may_last(key: &str, fields: &[String]) -> bool {
    let is_registry =
        ["campanile:generation{", "campanile:nodes{"].iter().any(|kind| key.starts_with(kind));
    let is_mark = |field: &String| field == "id" || field.starts_with("f:");
    let is_number = key.starts_with("campanile:logstate{") && fields.iter().all(is_mark);
    is_number || (is_registry && !fields.iter().any(|field| field.contains(':')))
}
