//! The checker: a model of what the server promises, held against everything that clients received.

mod cache;
mod history;
mod order;
mod tests;
mod webhooks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

pub(crate) use cache::caches_differ;
pub(crate) use history::{History, histories, is_cache_channel};
pub(crate) use webhooks::{WebhookRequest, webhook_violations, webhooks_differ};

use order::Order;

use super::{Entry, Heard, Outcome, Published};

/// How the data of client events begins, which are in no ledger.
pub(crate) const WHISPER: &str = "whisper";
/// How long before a client leaves an event may be accepted and still be on its way to it. A Redis that stands still may
/// have answered the publisher and not have told every node yet: it does so when it goes on, after up to eight seconds,
/// or the node's link is given up by then and its clients are closed a while later.
const ON_ITS_WAY: Duration = Duration::from_secs(13);

/// Which promise was broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// An event is received at most once.
    Once,
    /// Only published events are received, and on their channel.
    Published,
    /// A refused event is never received.
    Refused,
    /// All connections receive a channel's events in one order.
    Order,
    /// A subscription lacks nothing between two events that it received.
    Gap,
    /// A subscription lacks no accepted event.
    Complete,
    /// Additions and removals of members alternate, and add up to the truth.
    Members,
    /// The number of subscriptions that clients are told is right.
    Counts,
    /// A new subscriber of a cache channel gets its last event.
    Cache,
    /// Webhooks alternate, and the last one is right.
    Webhooks,
    /// What the HTTP API says is right, on each node.
    Api,
    /// A subscription is acknowledged.
    Acknowledged,
    /// A publish is answered in time.
    Late,
    /// Nothing that does not expire is left in Redis.
    Keys,
}

/// A promise that was not kept, and where to look.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) text: String,
    pub(crate) client: String,
    pub(crate) channel: String,
    pub(crate) at: Instant,
}

impl Violation {
    /// One that no single client has seen.
    pub(crate) fn new(rule: Rule, channel: &str, text: String) -> Self {
        Self { rule, text, client: String::new(), channel: channel.to_owned(), at: Instant::now() }
    }
}

/// A time in which something was the case.
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

/// What became of an event, as far as anybody knows.
#[derive(Debug)]
pub(super) struct Event {
    published: Published,
    begun: Instant,
    /// Since when it certainly has its place in the order: the acceptance, or the first receipt.
    in_place_since: Option<Instant>,
    /// Whether it was published while the limits of `docs/cluster.md` apply.
    is_excused: bool,
}

/// All that was published and received in a run.
#[derive(Debug)]
pub(crate) struct Checker {
    events: HashMap<String, Event>,
    histories: BTreeMap<String, Vec<History>>,
    /// When Redis lost data.
    losses: Vec<Period>,
    on_its_way: Duration,
}

impl Checker {
    /// The publishes of a ledger, and what each connection heard, by its name.
    pub(crate) fn new(published: Vec<Published>, heard: &[(String, Vec<Entry>)]) -> Self {
        let mut events = HashMap::new();
        for published in published {
            let accepted = (published.outcome == Outcome::Accepted).then_some(published.answered);
            insert(&mut events, published, accepted);
        }
        let mut by_channel: BTreeMap<String, Vec<History>> = BTreeMap::new();
        for (client, entries) in heard {
            for published in client_events(entries) {
                insert(&mut events, published, None);
            }
            for history in histories(client, entries) {
                by_channel.entry(history.channel.clone()).or_default().push(history);
            }
        }
        let mut checker =
            Self { events, histories: by_channel, losses: Vec::new(), on_its_way: ON_ITS_WAY };
        checker.place_what_was_received();
        checker
    }

    /// Redis lost data in these periods: cache channels may have forgotten.
    pub(crate) fn with_losses(mut self, losses: &[Period]) -> Self {
        self.losses = losses.to_vec();
        self
    }

    /// The limits of `docs/cluster.md` apply to what was published in these periods.
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

    /// A client may lack events that were accepted so long before it left.
    pub(crate) fn with_delays_of(mut self, longest: Duration) -> Self {
        self.on_its_way = self.on_its_way.max(longest);
        self
    }

    pub(crate) fn histories(&self) -> impl Iterator<Item = &History> {
        self.histories.values().flatten()
    }

    /// Whatever was received has its place in the order since then; a client event that was received was accepted.
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

    /// Everything that is wrong, at most one thing of each kind for each subscription.
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
            match Order::of(&events, &histories) {
                Ok(order) => {
                    for history in &histories {
                        found.extend(gap(history, &order, &events));
                        found.extend(self.check_cache(history, &order, &events).err());
                    }
                }
                Err(cycle) => {
                    let text = format!("{channel}: {cycle}");
                    found.push(Violation::new(Rule::Order, channel, text));
                }
            }
        }
        found
    }

    /// Each event once, only what was published on this channel, and nothing that was refused.
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
                let text = format!("of another channel: {:?}", event.published);
                return Err(history.violation(Rule::Published, at, &text));
            }
            if event.published.outcome == Outcome::Refused {
                let text = format!("received what was refused: {:?}", event.published);
                return Err(history.violation(Rule::Refused, at, &text));
            }
        }
        Ok(())
    }

    /// A cut subscription may lack its end, and one that was left the last moments.
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
                let text = format!("lacks {:?}", event.published);
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

/// The client events that a connection sent. Nobody answers them, so nothing is known of them until somebody receives
/// them.
fn client_events(entries: &[Entry]) -> impl Iterator<Item = Published> {
    entries.iter().filter_map(|entry| match &entry.what {
        Heard::Sent(channel, data) => Some(Published {
            id: data.clone(),
            channel: channel.clone(),
            node: ([0, 0, 0, 0], 0).into(),
            begun: entry.at,
            answered: entry.at,
            outcome: Outcome::Unknown,
        }),
        Heard::Asked(_) | Heard::Left(_) | Heard::Message(_) | Heard::Closed(_) | Heard::Ended => {
            None
        }
    })
}

/// An event that a connection received in two of its subscriptions to a channel.
fn twice_on_a_connection(histories: &[&History]) -> Option<Violation> {
    let mut seen = HashSet::new();
    for history in histories {
        for (at, id) in history.sequence() {
            // Twice in one subscription is found elsewhere.
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

/// An event that certainly lies between two that a subscription received one after the other, and that it lacks.
fn gap(history: &History, order: &Order<'_>, events: &HashMap<&str, &Event>) -> Option<Violation> {
    let ids: Vec<&str> = history.all_ids().collect();
    let seen: HashSet<&str> = ids.iter().copied().collect();
    for (at, pair) in ids.windows(2).enumerate() {
        let is_from_cache = at == 0 && history.cached.is_some();
        for id in order.between(pair[0], pair[1]) {
            let event = events.get(id).filter(|event| {
                let is_delivered =
                    event.in_place_since.is_some() && event.published.outcome != Outcome::Refused;
                // A new subscriber gets the last event of the cache, and client events are not kept there.
                let is_kept = !is_from_cache || !id.starts_with(WHISPER);
                is_delivered && is_kept && !event.is_excused
            });
            let Some(event) = event else { continue };
            if seen.contains(id) || history.sent.contains(id) {
                continue;
            }
            let (one, other) = (pair[0], pair[1]);
            let text = format!("lacks what lies between {one} and {other}: {:?}", event.published);
            return Some(history.violation(Rule::Gap, event.published.answered, &text));
        }
    }
    None
}
