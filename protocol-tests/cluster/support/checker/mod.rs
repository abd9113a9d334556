//! The checker: a model of the server's guarantees, compared with everything that clients received.

mod cache;
mod history;
mod order;
mod served;
mod tests;
mod webhooks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

pub(crate) use cache::caches_differ;
pub(crate) use history::{History, histories, is_cache_channel};
pub(crate) use served::Least;
pub(crate) use webhooks::{WebhookRequest, webhook_violations, webhooks_differ};

use order::OrderCheck;

use super::{Observation, Outcome, Published, TimedObservation};

/// The prefix of the data of client events, which are in no ledger.
pub(crate) const WHISPER: &str = "whisper";
/// How long before a client leaves an event may be accepted and still be in transit to it. A paused Redis may have
/// answered the publisher without having sent the event to every node. It sends the event when it resumes, after at
/// most eight seconds; otherwise the node has given up its link by then and closes its clients shortly afterwards.
const ON_ITS_WAY: Duration = Duration::from_secs(13);

/// A guarantee that the checker verifies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// An event is received at most once.
    Once,
    /// Only published events are received, and on their channel.
    Published,
    /// A rejected event is never received.
    Rejected,
    /// All connections receive a channel's events in one order.
    Order,
    /// A subscription misses no event between two events that it received.
    Gap,
    /// A subscription misses no accepted event.
    Complete,
    /// Additions and removals of a member alternate, and their result is the true roster.
    Members,
    /// The subscription counts that clients receive are right.
    Counts,
    /// A new subscriber of a cache channel receives its last event.
    Cache,
    /// Webhook events alternate, and the last one is right.
    Webhooks,
    /// The HTTP API of each node returns the true state.
    Api,
    /// A subscription is acknowledged.
    Acknowledged,
    /// A publish is answered in time.
    Late,
    /// Without a fault, publishes are accepted and received, and subscriptions acknowledged.
    Served,
    /// Every key that remains in Redis expires.
    Keys,
}

/// A violated guarantee, with its place in the histories.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) text: String,
    pub(crate) client: String,
    pub(crate) channel: String,
    pub(crate) at: Instant,
}

impl Violation {
    /// A violation that no single client observed.
    pub(crate) fn new(rule: Rule, channel: &str, text: String) -> Self {
        Self { rule, text, client: String::new(), channel: channel.to_owned(), at: Instant::now() }
    }
}

/// A time span in which a condition held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Period {
    pub(crate) fn overlaps(&self, begin: Instant, end: Instant) -> bool {
        self.begin <= end && begin <= self.end
    }
}

/// An event, and its outcome as far as it is certain.
#[derive(Debug)]
pub(super) struct Event {
    published: Published,
    begun: Instant,
    /// Since when the event certainly has its place in the order: its acceptance or its first receipt.
    in_place_since: Option<Instant>,
    /// Whether the event was published while the limits of `docs/cluster.md` applied.
    is_excused: bool,
}

/// Everything that was published and received in a run.
#[derive(Debug)]
pub(crate) struct Checker {
    events: HashMap<String, Event>,
    histories: BTreeMap<String, Vec<History>>,
    /// When Redis lost data.
    losses: Vec<Period>,
    /// When slots moved to another master.
    moves: Vec<Period>,
    on_its_way: Duration,
}

impl Checker {
    /// Creates a checker from the publishes of a ledger and the record of each connection, by its name.
    pub(crate) fn new(
        published: Vec<Published>,
        received: &[(String, Vec<TimedObservation>)],
    ) -> Self {
        let mut events = HashMap::new();
        for published in published {
            let accepted = (published.outcome == Outcome::Accepted).then_some(published.answered);
            insert(&mut events, published, accepted);
        }
        let mut by_channel: BTreeMap<String, Vec<History>> = BTreeMap::new();
        for (client, entries) in received {
            for published in client_events(entries) {
                insert(&mut events, published, None);
            }
            for history in histories(client, entries) {
                by_channel.entry(history.channel.clone()).or_default().push(history);
            }
        }
        let mut checker = Self {
            events,
            histories: by_channel,
            losses: Vec::new(),
            moves: Vec::new(),
            on_its_way: ON_ITS_WAY,
        };
        checker.place_what_was_received();
        checker
    }

    /// Sets the periods in which Redis lost data. Cache channels may have lost their last event in them.
    pub(crate) fn with_losses(mut self, losses: &[Period]) -> Self {
        self.losses = losses.to_vec();
        self
    }

    /// Sets the periods in which slots moved to another master.
    pub(crate) fn with_moves(mut self, moves: &[Period]) -> Self {
        self.moves = moves.to_vec();
        self
    }

    /// Sets the periods in which the limits of `docs/cluster.md` applied to publishes.
    pub(crate) fn excusing(mut self, periods: &[Period]) -> Self {
        for event in self.events.values_mut() {
            let (begun, answered) = (event.begun, event.published.answered);
            event.is_excused |= periods.iter().any(|period| period.overlaps(begun, answered));
            if event.is_excused {
                event.in_place_since = None;
            }
        }
        self
    }

    /// Sets how long before it leaves a client may miss accepted events.
    pub(crate) fn with_delays_of(mut self, longest: Duration) -> Self {
        self.on_its_way = self.on_its_way.max(longest);
        self
    }

    pub(crate) fn histories(&self) -> impl Iterator<Item = &History> {
        self.histories.values().flatten()
    }

    /// Gives every received event its place in the order at its first receipt. A client event that was received counts
    /// as accepted.
    fn place_what_was_received(&mut self) {
        for history in self.histories.values().flatten() {
            for (at, id) in history.sequence() {
                let Some(event) = self.events.get_mut(id) else { continue };
                event.in_place_since = Some(event.in_place_since.map_or(at, |known| known.min(at)));
                if id.starts_with(WHISPER) {
                    event.published.outcome = Outcome::Accepted;
                    event.published.answered = event.in_place_since.expect("it was just set");
                }
            }
        }
    }

    /// All violations, at most one of each kind for each subscription.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for (channel, histories) in &self.histories {
            let histories: Vec<&History> = histories.iter().collect();
            let events: HashMap<&str, &Event> =
                self.events.iter().map(|(id, event)| (id.as_str(), event)).collect();
            let events: HashMap<&str, &Event> = events
                .into_iter()
                .filter(|(_, event)| event.published.channel == *channel)
                .collect();
            for history in &histories {
                found.extend(self.check_receipts(history).err());
                found.extend(history.members().err());
                found.extend(self.check_completeness(history, &events).err());
            }
            found.extend(twice_on_a_connection(&histories));
            match OrderCheck::of(channel, &events, &histories) {
                Ok(order) => {
                    for history in &histories {
                        found.extend(gap(history, &order, &events));
                        found.extend(self.check_cache(history, &order, &events).err());
                    }
                }
                Err(cycle) => found.push(cycle),
            }
        }
        found
    }

    /// Checks that each event is received once, was published on this channel, and was not rejected.
    fn check_receipts(&self, history: &History) -> Result<(), Violation> {
        let mut seen = HashSet::new();
        let cached = history.cached.as_deref().map(|id| (history.acknowledged, id));
        for (at, id) in cached.into_iter().chain(history.sequence()) {
            if !seen.insert(id) {
                return Err(history.violation(Rule::Once, at, &format!("received {id} twice")));
            }
            let Some(event) = self.events.get(id) else {
                let text = format!("{id} was never published");
                return Err(history.violation(Rule::Published, at, &text));
            };
            if event.published.channel != history.channel {
                let text = format!("belongs to another channel: {:?}", event.published);
                return Err(history.violation(Rule::Published, at, &text));
            }
            if event.published.outcome == Outcome::Rejected {
                let text = format!("received a rejected event: {:?}", event.published);
                return Err(history.violation(Rule::Rejected, at, &text));
            }
        }
        Ok(())
    }

    /// Checks that no accepted event is missing. A cut subscription may miss events at its end, and one that was left
    /// the last moments.
    fn check_completeness(
        &self,
        history: &History,
        events: &HashMap<&str, &Event>,
    ) -> Result<(), Violation> {
        let seen: HashSet<&str> = history.all_ids().collect();
        let received = seen.iter().filter_map(|id| events.get(id));
        let last_begun = received.map(|event| event.begun).max();
        for (id, event) in events {
            let answered = event.published.answered;
            let is_due = event.published.outcome == Outcome::Accepted
                && history.acknowledged <= event.begun
                && history.left.is_none_or(|left| answered <= left)
                && !event.is_excused
                && !history.sent.contains(*id);
            if !is_due || seen.contains(id) {
                continue;
            }
            let comes_before_another = last_begun.is_some_and(|last| answered < last);
            let was_on_its_way = history.left.is_some_and(|left| left - answered < self.on_its_way);
            let is_excused = (history.is_cut || was_on_its_way) && !comes_before_another;
            if !is_excused {
                let rule = if comes_before_another { Rule::Gap } else { Rule::Complete };
                let text = format!("misses {:?}", event.published);
                return Err(history.violation(rule, answered, &text));
            }
        }
        Ok(())
    }
}

fn insert(events: &mut HashMap<String, Event>, published: Published, known: Option<Instant>) {
    let (id, begun) = (published.id.clone(), published.begun);
    events.insert(id, Event { published, begun, in_place_since: known, is_excused: false });
}

/// The client events that a connection sent. The server does not answer them, so their outcome is unknown until a
/// connection receives them.
fn client_events(entries: &[TimedObservation]) -> impl Iterator<Item = Published> {
    entries.iter().filter_map(|entry| match &entry.what {
        Observation::ClientEventSent(channel, data) => Some(Published {
            id: data.clone(),
            channel: channel.clone(),
            node: ([0, 0, 0, 0], 0).into(),
            begun: entry.at,
            answered: entry.at,
            outcome: Outcome::Unknown,
        }),
        Observation::SubscribeSent(_)
        | Observation::UnsubscribeSent(_)
        | Observation::MessageReceived(_)
        | Observation::CloseReceived(_)
        | Observation::ConnectionEnded => None,
    })
}

/// An event that a connection received in two of its subscriptions to a channel.
fn twice_on_a_connection(histories: &[&History]) -> Option<Violation> {
    let mut seen = HashSet::new();
    for history in histories {
        for (at, id) in history.sequence() {
            // A repetition within one subscription is reported by `check_receipts`.
            if !seen.insert((&history.client, id))
                && history.sequence().filter(|(_, other)| *other == id).count() == 1
            {
                let text = format!("received {id} twice on one connection");
                return Some(history.violation(Rule::Once, at, &text));
            }
        }
    }
    None
}

/// An event that is ordered between two consecutive events of a subscription, and that the subscription misses.
fn gap(
    history: &History,
    order: &OrderCheck<'_>,
    events: &HashMap<&str, &Event>,
) -> Option<Violation> {
    let ids: Vec<&str> = history.all_ids().collect();
    let seen: HashSet<&str> = ids.iter().copied().collect();
    for (at, pair) in ids.windows(2).enumerate() {
        let is_from_cache = at == 0 && history.cached.is_some();
        // What was there when the subscription was requested is compared with the cached event by `check_cache`.
        let was_there =
            |event: &Event| event.in_place_since.is_some_and(|at| at < history.requested_at);
        for id in order.between(pair[0], pair[1]) {
            let event = events.get(id).filter(|event| {
                let is_delivered =
                    event.in_place_since.is_some() && event.published.outcome != Outcome::Rejected;
                // A new subscriber receives the cached event, and the cache holds no client events.
                let is_cacheable = !is_from_cache || !id.starts_with(WHISPER);
                let is_judged_elsewhere = is_from_cache && was_there(event);
                is_delivered && is_cacheable && !is_judged_elsewhere && !event.is_excused
            });
            let Some(event) = event else { continue };
            if seen.contains(id) || history.sent.contains(id) {
                continue;
            }
            let (one, other) = (pair[0], pair[1]);
            let text = format!("misses an event between {one} and {other}: {:?}", event.published);
            return Some(history.violation(Rule::Gap, event.published.answered, &text));
        }
    }
    None
}
