//! The order of a channel's events, merged from all histories.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::Instant;

use super::{Event, History, Rule, Violation, WHISPER};

/// The known constraints on the order of a channel's events: each connection received some of them in sequence, and an
/// accepted event precedes those whose publish began later.
///
/// The second constraint is expressed by one graph node for each moment at which a publish began: the moments follow
/// one another, each event follows its moment, and the first moment after its acceptance follows an event. Graph nodes
/// below `ids.len()` are events, the others are moments.
#[derive(Debug)]
pub(super) struct OrderCheck<'a> {
    ids: Vec<&'a str>,
    node_of: HashMap<&'a str, usize>,
    later: Vec<Vec<usize>>,
    earlier: Vec<Vec<usize>>,
    /// All graph nodes, sorted so that each follows its `earlier` ones.
    sorted: Vec<usize>,
    /// The index of each graph node in `sorted`.
    position: Vec<usize>,
}

impl<'a> OrderCheck<'a> {
    /// Merges the histories of a channel. The error describes a cycle.
    pub(super) fn of(
        channel: &str,
        events: &HashMap<&'a str, &Event>,
        histories: &'a [&'a History],
    ) -> Result<Self, Violation> {
        let mut order = Self::unsorted(events);
        let is_excused = |id: &str| events.get(id).is_some_and(|event| event.is_excused);
        for connection in connections(histories) {
            for [(first, has_ended), (second, _)] in successors(&connection) {
                // While there are two masters, a node that is still connected to the old one has another order. It
                // closes its subscribers when it has found the new one.
                if has_ended && is_excused(first) && is_excused(second) {
                    continue;
                }
                let (one, other) = (order.node_of.get(first), order.node_of.get(second));
                if let (Some(one), Some(other)) = (one, other)
                    && one != other
                {
                    let (one, other) = (*one, *other);
                    order.connect(one, other);
                }
            }
        }
        let times = order.connect_moments(events);
        order.sort(&times);
        if order.sorted.len() == order.later.len() {
            return Ok(order);
        }
        let (cycle, text) = order.cycle(histories);
        let events: Vec<_> = cycle.iter().map(|id| &events[id].published).collect();
        let at = events.iter().map(|event| event.begun).max().expect("a cycle has events");
        let client =
            cycle.windows(2).find_map(|pair| receiver_of_pair(histories, pair[0], pair[1]));
        let client = client.unwrap_or_default().to_owned();
        let text = format!("{channel}: {text}; {events:?}");
        Err(Violation { rule: Rule::Order, text, client, channel: channel.to_owned(), at })
    }

    fn unsorted(events: &HashMap<&'a str, &Event>) -> Self {
        let mut ids: Vec<&str> = events.keys().copied().collect();
        ids.sort_unstable();
        let node_of = ids.iter().enumerate().map(|(node, id)| (*id, node)).collect();
        let edges = vec![Vec::new(); 2 * ids.len()];
        Self {
            ids,
            node_of,
            later: edges.clone(),
            earlier: edges,
            sorted: Vec::new(),
            position: Vec::new(),
        }
    }

    fn connect(&mut self, one: usize, other: usize) {
        self.later[one].push(other);
        self.earlier[other].push(one);
    }

    /// Adds the graph nodes of the moments. Returns the time of each graph node.
    fn connect_moments(&mut self, events: &HashMap<&str, &Event>) -> Vec<Instant> {
        let count = self.ids.len();
        let mut begun: Vec<(Instant, usize)> =
            (0..count).map(|node| (events[self.ids[node]].begun, node)).collect();
        begun.sort_unstable();
        let mut times: Vec<Instant> = self.ids.iter().map(|id| events[id].begun).collect();
        for (moment, (time, node)) in begun.iter().enumerate() {
            times.push(*time);
            if moment + 1 < count {
                self.connect(count + moment, count + moment + 1);
            }
            self.connect(count + moment, *node);
        }
        for node in 0..count {
            let Some(known) = events[self.ids[node]].in_place_since else {
                continue;
            };
            let first_after = begun.partition_point(|(time, _)| *time <= known);
            if first_after < count {
                self.connect(node, count + first_after);
            }
        }
        times
    }

    /// Sorts the graph nodes; by time where the edges leave the order open.
    fn sort(&mut self, times: &[Instant]) {
        let mut missing: Vec<usize> = self.earlier.iter().map(Vec::len).collect();
        let mut free: BinaryHeap<Reverse<(Instant, usize)>> = (0..missing.len())
            .filter(|node| missing[*node] == 0)
            .map(|node| Reverse((times[node], node)))
            .collect();
        self.position = vec![usize::MAX; missing.len()];
        while let Some(Reverse((_, node))) = free.pop() {
            self.position[node] = self.sorted.len();
            self.sorted.push(node);
            for next in &self.later[node] {
                missing[*next] -= 1;
                if missing[*next] == 0 {
                    free.push(Reverse((times[*next], *next)));
                }
            }
        }
    }

    /// The events that are certainly ordered between `one` and `other`.
    pub(super) fn between(&self, one: &str, other: &str) -> Vec<&'a str> {
        let (Some(one), Some(other)) = (self.node_of.get(one), self.node_of.get(other)) else {
            return Vec::new();
        };
        let (from, to) = (self.position[*one], self.position[*other]);
        if to <= from + 1 {
            return Vec::new();
        }
        let window = &self.sorted[from..=to];
        let reach = |start: usize, nodes: &mut dyn Iterator<Item = &usize>, back: &[Vec<usize>]| {
            let mut reached = HashSet::from([start]);
            for node in nodes {
                if back[*node].iter().any(|next| reached.contains(next)) {
                    reached.insert(*node);
                }
            }
            reached
        };
        let after = reach(*one, &mut window[1..].iter(), &self.earlier);
        let before = reach(*other, &mut window[..window.len() - 1].iter().rev(), &self.later);
        let inner = window[1..window.len() - 1].iter();
        let both = inner.filter(|node| after.contains(node) && before.contains(node));
        both.filter_map(|node| self.ids.get(*node).copied()).collect()
    }

    /// Whether `one` is certainly ordered before `other`.
    pub(super) fn precedes(&self, one: &str, other: &str) -> bool {
        let (Some(one), Some(other)) = (self.node_of.get(one), self.node_of.get(other)) else {
            return false;
        };
        let (from, to) = (self.position[*one], self.position[*other]);
        if to <= from {
            return false;
        }
        let mut reached = HashSet::from([*one]);
        for node in &self.sorted[from + 1..=to] {
            if self.earlier[*node].iter().any(|before| reached.contains(before)) {
                reached.insert(*node);
            }
        }
        reached.contains(other)
    }

    /// The events of a cycle among the graph nodes that could not be sorted, and its description.
    fn cycle(&self, histories: &[&History]) -> (Vec<&'a str>, String) {
        let is_unsorted = |node: &usize| self.position[*node] == usize::MAX;
        let mut node =
            (0..self.later.len()).find(is_unsorted).expect("a graph node could not be sorted");
        let mut path = Vec::new();
        while !path.contains(&node) {
            path.push(node);
            let mut before = self.earlier[node].iter().copied();
            node = before
                .find(is_unsorted)
                .expect("an unsorted graph node has an unsorted predecessor");
        }
        let begin = path.iter().position(|known| *known == node).expect("it was just found");
        let mut cycle = path.split_off(begin);
        cycle.reverse();
        // Rotates the cycle so that it begins with an event.
        let first = cycle.iter().position(|node| *node < self.ids.len()).unwrap_or(0);
        cycle.rotate_left(first);
        cycle.push(cycle[0]);
        let events: Vec<usize> = cycle.into_iter().filter(|node| *node < self.ids.len()).collect();
        let steps = events.windows(2).map(|pair| {
            let (one, other) = (self.ids[pair[0]], self.ids[pair[1]]);
            match receiver_of_pair(histories, one, other) {
                Some(client) => format!("{one} before {other} ({client})"),
                None => format!("{one} before {other} (answered before the other began)"),
            }
        });
        let text = format!("contradictory orders: {}", steps.collect::<Vec<_>>().join(", "));
        (events.into_iter().map(|node| self.ids[node]).collect(), text)
    }
}

/// The pairs of events that a connection received one after the other. A cached event may be older than client events of
/// the subscription before, since the cache holds none of them: it follows the last event that the cache could hold.
fn successors<'a>(connection: &[ReceivedEvent<'a>]) -> Vec<[(&'a str, bool); 2]> {
    let mut pairs = Vec::new();
    let (mut last, mut last_cacheable) = (None, None);
    let mut cached = None;
    for ReceivedEvent { id, has_ended, is_cached } in connection {
        let this = (*id, *has_ended);
        let before = if *is_cached { last_cacheable } else { last };
        pairs.extend(before.map(|before| [before, this]));
        if *is_cached {
            cached = Some(this);
        } else {
            pairs.extend(cached.take().map(|before| [before, this]));
            last = Some(this);
        }
        if !id.starts_with(WHISPER) {
            last_cacheable = Some(this);
        }
    }
    pairs
}

/// An event that a connection received.
#[derive(Clone, Copy, Debug)]
struct ReceivedEvent<'a> {
    id: &'a str,
    /// Whether the subscription has ended.
    has_ended: bool,
    /// Whether it was received as the last event of a cache channel.
    is_cached: bool,
}

/// The events that each connection received, in all its subscriptions to the channel, in order.
fn connections<'a>(histories: &'a [&'a History]) -> Vec<Vec<ReceivedEvent<'a>>> {
    let mut by_client: HashMap<&str, Vec<&History>> = HashMap::new();
    for history in histories {
        by_client.entry(&history.client).or_default().push(history);
    }
    let joined = by_client.into_values().map(|mut subscriptions| {
        subscriptions.sort_by_key(|history| history.acknowledged);
        let ids = |history: &'a History| {
            let has_ended = !history.is_open();
            let has_cached = history.cached.is_some();
            history.all_ids().enumerate().map(move |(at, id)| ReceivedEvent {
                id,
                has_ended,
                is_cached: has_cached && at == 0,
            })
        };
        subscriptions.into_iter().flat_map(ids).collect()
    });
    joined.collect()
}

/// A connection that received `other` right after `one`.
fn receiver_of_pair<'a>(histories: &'a [&'a History], one: &str, other: &str) -> Option<&'a str> {
    let found = histories.iter().find(|history| {
        let ids: Vec<&str> = history.all_ids().collect();
        ids.windows(2).any(|pair| pair == [one, other])
    });
    found.map(|history| history.client.as_str())
}
