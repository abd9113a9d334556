//! Decides which events of all nodes are reported, and when: the rules of
//! [`Machine`](crate::webhook::machine::Machine) for a log that outlives its reader.
//!
//! Time is that of the log's records, in ms of Redis' clock, so the result does not depend on when
//! and by which node the log is read. Held events are stored beside the log, for the next reader.
//!
//! The log alternates, because each record was written in the same step as its change, and the
//! records of one channel or user stay in order. The present state is therefore not stored: an
//! arrival is reported unless the departure before it is still held, and a departure always follows
//! an arrival.

use super::super::{debouncer::Debouncer, machine::Machine};
use crate::{
    hub::{Hub, HubEvent},
    protocol::ChannelName,
};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// The state machine of one app in a cluster.
#[derive(Debug, Default)]
pub(super) struct SharedMachine {
    held: HashMap<String, Held>,
    /// The deadline of each entry of `held`.
    due: BTreeSet<Deadline>,
    /// The changes of `held` since they were last taken.
    changed: BTreeSet<String>,
    /// Channels with many subscribers: until when their count is not reported again.
    counted: HashMap<ChannelName, u64>,
    /// Until when a cache miss is not reported again.
    missed: HashMap<ChannelName, u64>,
    tidied_ms: u64,
}

/// A deadline. At the same ms, members come before channels, so that `member_removed` precedes `channel_vacated`.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Deadline {
    ms: u64,
    is_of_channel: bool,
    name: String,
}

impl Deadline {
    fn new(ms: u64, name: &str) -> Self {
        Self { ms, is_of_channel: name.starts_with(CHANNEL), name: name.to_owned() }
    }
}

/// An event that is reported when it is due, unless it is cancelled.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Held {
    due_ms: u64,
    hub_event: HubEvent,
}

/// The prefix of channels in [`name_of`].
const CHANNEL: &str = "c ";
/// The interval at which expired entries are removed.
const TIDY_MS: u64 = 10_000;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Parses a record: its time and its event. The time is in µs, or for held events their deadline in
/// ms.
pub(super) fn parse(record: &[u8]) -> Option<(u64, HubEvent)> {
    let space = record.iter().position(|byte| *byte == b' ')?;
    let time = std::str::from_utf8(&record[..space]).ok()?.parse().ok()?;
    Some((time, HubEvent::from_bytes(&record[space + 1..]).ok()?))
}

impl SharedMachine {
    /// A machine that continues from `held`, the held events of the previous one.
    pub(super) fn resume(held: Vec<(String, String)>) -> Self {
        let mut machine = Self::default();
        for (name, text) in held {
            match parse(text.as_bytes()) {
                Some((due_ms, hub_event)) => {
                    machine.due.insert(Deadline::new(due_ms, &name));
                    machine.held.insert(name, Held { due_ms, hub_event });
                }
                // Not written by a node: removed with the next commit.
                None => machine.note(name),
            }
        }
        machine
    }

    /// Handles the next record, and adds the events to report at its time to `ready`.
    pub(super) fn apply(&mut self, at_ms: u64, hub_event: HubEvent, ready: &mut Vec<HubEvent>) {
        self.advance(at_ms, ready);
        let name = name_of(&hub_event);
        let is_news = match &hub_event {
            HubEvent::Occupied { .. }
            | HubEvent::MemberAdded { .. }
            | HubEvent::UserOnline { .. } => !self.release(&name),
            HubEvent::Vacated { .. } | HubEvent::MemberRemoved { .. } => {
                if !self.held.contains_key(&name) {
                    self.hold(name, at_ms + ms(Debouncer::DELAY), hub_event.clone());
                }
                false
            }
            // The node has delayed it already.
            HubEvent::UserOffline { .. } | HubEvent::ClientEvent { .. } => true,
            HubEvent::CacheMiss { channel } => self.misses(channel, at_ms),
            HubEvent::SubscriptionCount { channel, count } => {
                self.counts(name, channel, *count, at_ms)
            }
        };
        if is_news {
            ready.push(hub_event);
        }
    }

    /// Adds the events that are due at `now_ms` to `ready`. Must be called when the whole log was
    /// read: a later record may cancel a departure.
    pub(super) fn advance(&mut self, now_ms: u64, ready: &mut Vec<HubEvent>) {
        while self.due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let Some(Deadline { ms: due_ms, name, .. }) = self.due.pop_first() else { return };
            let Some(held) = self.held.remove(&name) else { continue };
            self.note(name);
            if let HubEvent::SubscriptionCount { channel, .. } = &held.hub_event {
                self.counted.insert(channel.clone(), due_ms + ms(Hub::COUNT_INTERVAL));
            }
            ready.push(held.hub_event);
        }
        if self.tidied_ms + TIDY_MS < now_ms {
            self.tidied_ms = now_ms;
            self.counted.retain(|_, until| now_ms < *until);
            self.missed.retain(|_, until| now_ms < *until);
        }
    }

    /// When [`SharedMachine::advance`] must be called.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due.first().map(|due| due.ms)
    }

    /// The changes of held events since the last call: new values, and empty ones for removed
    /// events.
    pub(super) fn take_changes(&mut self) -> Vec<(String, String)> {
        let changed = std::mem::take(&mut self.changed);
        let held = |name: &String| {
            self.held.get(name).map_or_else(String::new, |held| {
                let record = held.hub_event.to_bytes();
                format!("{} {}", held.due_ms, String::from_utf8_lossy(&record))
            })
        };
        changed
            .into_iter()
            .map(|name| (held(&name), name))
            .map(|(held, name)| (name, held))
            .collect()
    }

    fn note(&mut self, name: String) {
        self.changed.insert(name);
    }

    fn hold(&mut self, name: String, due_ms: u64, hub_event: HubEvent) {
        self.release(&name);
        self.due.insert(Deadline::new(due_ms, &name));
        self.held.insert(name.clone(), Held { due_ms, hub_event });
        self.note(name);
    }

    /// Removes a held event. Returns whether it was there.
    fn release(&mut self, name: &str) -> bool {
        let Some((name, held)) = self.held.remove_entry(name) else { return false };
        self.due.remove(&Deadline::new(held.due_ms, &name));
        self.note(name);
        true
    }

    /// Whether a cache miss must be reported.
    fn misses(&mut self, channel: &ChannelName, at_ms: u64) -> bool {
        if self.missed.get(channel).is_some_and(|until| at_ms < *until) {
            return false;
        }
        if self.missed.len() < Machine::MISSES_MAX {
            self.missed.insert(channel.clone(), at_ms + ms(Machine::MISS_INTERVAL));
        }
        true
    }

    /// Whether a count is reported now. Counts of many subscribers are limited to an interval; the
    /// last one is reported at its end.
    fn counts(&mut self, name: String, channel: &ChannelName, count: usize, at_ms: u64) -> bool {
        let was_held = self.held.get(&name).map(|held| held.due_ms);
        if count <= Hub::COUNT_UNTHROTTLED_MAX {
            self.release(&name);
            // Without subscribers, the channel is reported as vacated.
            return 0 < count;
        }
        let until = was_held.or_else(|| self.counted.get(channel).copied());
        if let Some(until) = until.filter(|until| at_ms < *until) {
            let hub_event = HubEvent::SubscriptionCount { channel: channel.clone(), count };
            self.hold(name, until, hub_event);
            return false;
        }
        self.counted.insert(channel.clone(), at_ms + ms(Hub::COUNT_INTERVAL));
        true
    }
}

/// The name of a subject in `held`. Channel names contain no space.
fn name_of(hub_event: &HubEvent) -> String {
    let channel = hub_event.channel().map_or("", |channel| channel.as_str());
    let user_id = hub_event.user_id().map_or("", |user_id| user_id);
    match hub_event {
        HubEvent::Occupied { .. } | HubEvent::Vacated { .. } => format!("{CHANNEL}{channel}"),
        HubEvent::MemberAdded { .. } | HubEvent::MemberRemoved { .. } => {
            format!("m {channel} {user_id}")
        }
        HubEvent::UserOnline { .. } | HubEvent::UserOffline { .. } => format!("u {user_id}"),
        HubEvent::SubscriptionCount { .. } => format!("n {channel}"),
        HubEvent::ClientEvent { .. } | HubEvent::CacheMiss { .. } => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::{channel, one_of_each};
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::sync::Arc;

    fn occupied(name: &str) -> HubEvent {
        HubEvent::Occupied { channel: channel(name) }
    }

    fn vacated(name: &str) -> HubEvent {
        HubEvent::Vacated { channel: channel(name) }
    }

    fn count(count: usize) -> HubEvent {
        HubEvent::SubscriptionCount { channel: channel("t"), count }
    }

    /// The events that are reported for these records, and then at `end`.
    fn ready(machine: &mut SharedMachine, log: &[(u64, HubEvent)], end: u64) -> Vec<HubEvent> {
        let mut ready = Vec::new();
        for (at_ms, hub_event) in log {
            machine.apply(*at_ms, hub_event.clone(), &mut ready);
        }
        machine.advance(end, &mut ready);
        ready
    }

    #[test]
    fn a_return_within_the_delay_is_not_reported_even_if_the_log_is_read_late() {
        let log = [(0, occupied("t")), (1_000, vacated("t")), (3_899, occupied("t"))];
        let mut machine = SharedMachine::default();
        assert_eq!(ready(&mut machine, &log, 60_000), [occupied("t")]);
        let log = [(0, occupied("t")), (1_000, vacated("t")), (3_900, occupied("t"))];
        let mut machine = SharedMachine::default();
        let expected = [occupied("t"), vacated("t"), occupied("t")];
        assert_eq!(ready(&mut machine, &log, 60_000), expected);
        assert_eq!(machine.due_ms(), None);
    }

    /// Redis logs both in one step, with the same time.
    #[test]
    fn a_member_leaves_before_its_channel_is_vacated() {
        let [_, _, _, removed, ..] = one_of_each();
        let vacated = HubEvent::Vacated { channel: removed.channel().unwrap().clone() };
        let log = [(5, removed.clone()), (5, vacated.clone())];
        let mut machine = SharedMachine::default();
        assert_eq!(ready(&mut machine, &log, 2_904), []);
        let mut resumed = SharedMachine::resume(machine.take_changes());
        for machine in [&mut machine, &mut resumed] {
            assert_eq!(ready(machine, &[], 2_905), [removed.clone(), vacated.clone()]);
        }
    }

    #[test]
    fn unreadable_held_events_are_removed() {
        let held = "7 {\"k\":\"channel_vacated\",\"c\":\"t\"}";
        assert_eq!(parse(held.as_bytes()), Some((7, vacated("t"))));
        let foreign = ["", "7", "x {}", "7 {}"].map(|text| (format!("c {text}"), text.to_owned()));
        let all = [&foreign[..], &[("c t".to_owned(), held.to_owned())]].concat();
        let mut machine = SharedMachine::resume(all);
        let mut removed = machine.take_changes();
        removed.sort();
        let mut expected = foreign.map(|(name, _)| (name, String::new()));
        expected.sort();
        assert_eq!(removed, expected);
        assert_eq!(machine.take_changes(), [], "once");
        // Events held by the other machine are reported by this one, and then no longer held.
        assert_eq!((machine.due_ms(), ready(&mut machine, &[], 7)), (Some(7), vec![vacated("t")]));
        assert_eq!(machine.take_changes(), [("c t".to_owned(), String::new())]);
    }

    #[test]
    fn a_repeated_departure_keeps_its_time() {
        let log = [(0, vacated("t")), (1_000, vacated("t"))];
        assert_eq!(ready(&mut SharedMachine::default(), &log, 2_900), [vacated("t")]);
    }

    #[test]
    fn members_users_and_channels_are_distinguished() {
        let (channel, other) = (channel("presence-a"), channel("presence-b"));
        let removed = |channel: &ChannelName, user_id: &str| HubEvent::MemberRemoved {
            channel: channel.clone(),
            user_id: user_id.into(),
        };
        let log = [
            (0, removed(&channel, "1")),
            (0, removed(&channel, "2")),
            (0, removed(&other, "1")),
            (0, HubEvent::Vacated { channel: channel.clone() }),
            (1, HubEvent::MemberAdded { channel: channel.clone(), user_id: "1".into() }),
            (1, HubEvent::UserOnline { user_id: "2".into() }),
        ];
        let online = HubEvent::UserOnline { user_id: "2".into() };
        let expected = [
            online,
            removed(&channel, "2"),
            removed(&other, "1"),
            HubEvent::Vacated { channel: channel.clone() },
        ];
        assert_eq!(ready(&mut SharedMachine::default(), &log, 2_900), expected);
    }

    #[test]
    fn recorded_misses_and_counts_expire_and_are_limited() {
        let mut machine = SharedMachine::default();
        let mut ready = Vec::new();
        for number in 0..=Machine::MISSES_MAX {
            let channel = channel(&format!("cache-{number}"));
            let at_ms = if number + 1 < Machine::MISSES_MAX { 20_000 } else { 21_000 };
            machine.apply(at_ms, HubEvent::CacheMiss { channel }, &mut ready);
        }
        machine.apply(21_000, count(101), &mut ready);
        machine.apply(27_000, count(101), &mut ready);
        assert_eq!(ready.len(), Machine::MISSES_MAX + 3, "all are reported");
        assert_eq!((machine.missed.len(), machine.counted.len()), (Machine::MISSES_MAX, 1));
        // Checked every 10 s, before each is over.
        machine.advance(29_999, &mut ready);
        assert_eq!((machine.missed.len(), machine.counted.len()), (Machine::MISSES_MAX, 1));
        machine.advance(30_001, &mut ready);
        assert_eq!((machine.missed.len(), machine.counted.len()), (1, 1));
        machine.advance(60_000, &mut ready);
        assert_eq!((machine.missed.len(), machine.counted.len()), (0, 0));
    }

    #[test]
    fn a_departure_is_reported_without_a_stored_arrival() {
        let mut machine = SharedMachine::default();
        assert_eq!(ready(&mut machine, &[(5, vacated("t"))], 2_904), []);
        assert_eq!(machine.due_ms(), Some(2_905));
        assert_eq!(ready(&mut machine, &[], 2_905), [vacated("t")]);
    }

    #[test]
    fn momentary_events_and_arrivals_are_reported_at_once() {
        for hub_event in one_of_each() {
            let held =
                matches!(hub_event, HubEvent::Vacated { .. } | HubEvent::MemberRemoved { .. });
            let ready = ready(&mut SharedMachine::default(), &[(7, hub_event.clone())], 7);
            let expected = if held { vec![] } else { vec![hub_event] };
            assert_eq!(ready, expected);
        }
    }

    #[test]
    fn large_counts_are_reported_every_five_seconds_and_the_last_one_at_the_end() {
        let mut machine = SharedMachine::default();
        let log: Vec<_> =
            (0..120).map(|number| (u64::try_from(number).unwrap(), count(number + 1))).collect();
        let first = ready(&mut machine, &log, 4_000);
        assert_eq!(first, (1..=101).map(count).collect::<Vec<_>>());
        assert_eq!(machine.due_ms(), Some(5_100));
        assert_eq!(ready(&mut machine, &[], 5_100), [count(120)]);
        assert_eq!(ready(&mut machine, &[(5_200, count(121))], 10_099), []);
        assert_eq!(ready(&mut machine, &[], 10_100), [count(121)]);
        // A channel that loses all subscribers has no held count.
        assert_eq!(ready(&mut machine, &[(10_200, count(120)), (10_300, count(0))], 60_000), []);
        assert_eq!(ready(&mut machine, &[(60_001, count(3))], 60_001), [count(3)]);
    }

    #[test]
    fn a_cache_miss_is_reported_once_in_ten_seconds() {
        let miss = HubEvent::CacheMiss { channel: channel("cache-x") };
        let log = [0, 1, 9_999, 10_000, 10_001].map(|at_ms| (at_ms, miss.clone()));
        let mut machine = SharedMachine::default();
        assert_eq!(ready(&mut machine, &log, 10_001).len(), 2);
        machine.advance(60_000, &mut Vec::new());
        assert!(machine.missed.is_empty(), "memory returns");
    }

    /// The part of Redis that a reader of the log uses.
    #[derive(Default)]
    struct StoredLog {
        log: Vec<Vec<u8>>,
        held: HashMap<String, String>,
    }

    /// For any sequence of events and times, any split of the log into parts, and readers that die
    /// between reading and committing: reported events alternate, are reported exactly once, and in
    /// the end the application's state is correct.
    #[test]
    fn reported_events_alternate_whichever_reader_dies() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut now_ms = 1_000_000;
            let (mut kept, mut machine) = (StoredLog::default(), SharedMachine::default());
            let (mut truth, mut believed) = (HashMap::new(), HashMap::new());
            for step in 0..400 {
                now_ms += random.random_range(0..900);
                let member = format!("{}", random.random_range(0..3));
                let (came, hub_event) = next(&mut truth, &member, step % 2 == 0);
                let record = [format!("{now_ms} ").into_bytes(), hub_event.to_bytes()].concat();
                kept.log.push(record);
                truth.insert(name_of(&hub_event), came);
                if random.random_bool(0.3) {
                    let some = random.random_range(0..=kept.log.len());
                    let is_committed = random.random_bool(0.7);
                    read(&mut kept, &mut machine, (some, now_ms), is_committed, &mut believed);
                }
            }
            let all = kept.log.len();
            read(
                &mut kept,
                &mut machine,
                (all, now_ms + ms(Debouncer::DELAY)),
                true,
                &mut believed,
            );
            assert!(kept.held.is_empty() && kept.log.is_empty());
            for (name, is_here) in truth {
                let believed = believed.get(&name).copied().unwrap_or(false);
                assert_eq!(believed, is_here, "seed {seed}: {name}");
            }
        }
    }

    /// The next event of a channel or of its member: the opposite of the last one.
    fn next(truth: &mut HashMap<String, bool>, id: &str, is_member: bool) -> (bool, HubEvent) {
        let channel = channel(&format!("presence-{id}"));
        let user_id: Arc<str> = "u 1".into();
        let hub_event = if is_member {
            HubEvent::MemberAdded { channel: channel.clone(), user_id: Arc::clone(&user_id) }
        } else {
            HubEvent::Occupied { channel: channel.clone() }
        };
        let comes = !truth.get(&name_of(&hub_event)).copied().unwrap_or(false);
        let gone = if is_member {
            HubEvent::MemberRemoved { channel, user_id }
        } else {
            HubEvent::Vacated { channel }
        };
        (comes, if comes { hub_event } else { gone })
    }

    /// Reads this many records; a reader that dies before its commit is replaced.
    fn read(
        kept: &mut StoredLog,
        machine: &mut SharedMachine,
        (some, now_ms): (usize, u64),
        is_committed: bool,
        believed: &mut HashMap<String, bool>,
    ) {
        let mut ready = Vec::new();
        for record in &kept.log[..some] {
            let (at_ms, hub_event) = parse(record).unwrap();
            machine.apply(at_ms, hub_event, &mut ready);
        }
        if some == kept.log.len() {
            machine.advance(now_ms, &mut ready);
        }
        if is_committed {
            kept.log.drain(..some);
            for (name, held) in machine.take_changes() {
                if held.is_empty() {
                    kept.held.remove(&name)
                } else {
                    kept.held.insert(name, held)
                };
            }
            for hub_event in ready {
                let comes =
                    matches!(hub_event, HubEvent::Occupied { .. } | HubEvent::MemberAdded { .. });
                let was = believed.insert(name_of(&hub_event), comes).unwrap_or(false);
                assert_ne!(was, comes, "{hub_event:?} does not alternate");
            }
        } else {
            let held = kept.held.iter().map(|(name, held)| (name.clone(), held.clone()));
            *machine = SharedMachine::resume(held.collect());
        }
    }
}
