//! Decides which events are reported, and when, for a log in memory as well as for one in Redis.
//!
//! - Paired events alternate. A subject that leaves and returns within [`Machine::DELAY`] is not
//!   reported: its departure is *held*, and cancelled by the return.
//! - A cache miss of a channel is reported once in [`Machine::MISS_INTERVAL`].
//! - Subscription counts are limited by the rule of [`crate::channel::CountNotice`]; on a single node
//!   the broker does that.
//! - Everything else is reported at once.
//!
//! Time is an argument, in ms of the log's clock: for a log in memory since its reader began, for one
//! in Redis that of its records, so that the result does not depend on when and by which node the log
//! is read. Redis' clock may step backward; then nothing is delayed by the length of the step.

mod present;
mod subject;

use super::record;
use crate::{
    channel::{COUNT_INTERVAL, COUNT_UNTHROTTLED_MAX},
    hub::HubEvent,
    protocol::ChannelName,
};
use present::PresentSubjects;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use subject::Subject;

/// The state machine of one app's events.
#[derive(Debug)]
pub(super) struct Machine {
    log: Log,
    held: BTreeMap<Subject, Held>,
    /// The subject of each entry of `held`, by deadline and number.
    due: BTreeMap<(u64, u64), Subject>,
    /// The number of events that were held so far.
    numbers: u64,
    /// The count that was reported last, and until when further ones are delayed.
    counted: HashMap<ChannelName, (usize, u64)>,
    /// Until when a cache miss is not reported again.
    missed: HashMap<ChannelName, u64>,
    /// When expired entries of `counted` and `missed` were last removed.
    tidied_ms: u64,
}

/// The log from which the events are read, and the state that depends on it.
#[derive(Debug)]
enum Log {
    /// It lacks events that had no room, and those before the first webhook was configured.
    /// Therefore the present subjects are known here.
    Memory(PresentSubjects),
    /// It alternates, because each record was written in the same step as its change, and it outlives
    /// its reader. Held events are stored beside it, for the next reader: these are the changes since
    /// they were last taken, by the names of their subjects.
    Redis(BTreeMap<String, String>),
}

/// An event that is reported when it is due, unless it is cancelled.
#[derive(Debug)]
struct Held {
    due_ms: u64,
    /// Keeps the order of events with the same deadline.
    number: u64,
    hub_event: HubEvent,
}

/// How far clocks of the masters of a Redis Cluster may differ without an effect on deadlines.
const CLOCK_SKEW_MS: u64 = 1_000;
/// The interval at which expired entries are removed.
const TIDY_MS: u64 = 10_000;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The maximum time between an event and its deadline.
fn hold_max_ms() -> u64 {
    ms(Machine::DELAY.max(COUNT_INTERVAL))
}

/// Whether `at_ms` is in the interval that ends at `until`. An end that is further away was computed before the clock
/// stepped backward.
fn is_within(at_ms: u64, until: u64, interval: Duration) -> bool {
    at_ms < until && until <= at_ms + ms(interval) + CLOCK_SKEW_MS
}

/// Removes expired entries, and the table when it is empty.
fn tidy<V>(
    table: &mut HashMap<ChannelName, V>,
    until: impl Fn(&V) -> u64,
    now_ms: u64,
    interval: Duration,
) {
    table.retain(|_, value| is_within(now_ms, until(value), interval));
    if table.is_empty() {
        *table = HashMap::new();
    }
}

impl Machine {
    /// The delay of a departure. Pusher promises at most 3 s, which includes batching and the
    /// request.
    pub(super) const DELAY: Duration = Duration::from_millis(2_900);
    /// Minimum interval between reported misses of a channel. Pusher sends one when several clients
    /// miss at once, without documenting the interval.
    const MISS_INTERVAL: Duration = Duration::from_secs(10);
    /// Maximum number of channels with a recorded miss, and of those with a recorded count. Misses and
    /// counts of further ones are always reported.
    const CHANNELS_MAX: usize = 100_000;

    fn new(log: Log) -> Self {
        Self {
            log,
            held: BTreeMap::new(),
            due: BTreeMap::new(),
            numbers: 0,
            counted: HashMap::new(),
            missed: HashMap::new(),
            tidied_ms: 0,
        }
    }

    /// A machine for a log in memory.
    pub(super) fn of_memory() -> Self {
        Self::new(Log::Memory(PresentSubjects::default()))
    }

    /// A machine for a log in Redis. It continues from `held`, the held events of the previous one.
    pub(super) fn of_redis(held: Vec<(String, String)>) -> Self {
        let mut machine = Self::new(Log::Redis(BTreeMap::new()));
        let mut readable = Vec::new();
        // Not written by a node: removed with the next commit.
        let mut unreadable = BTreeMap::new();
        for (name, text) in held {
            let event = record::parse(text.as_bytes());
            let event = event.and_then(|(ms, event)| Some((ms, Subject::of(&event)?, event)));
            match event.filter(|(_, subject, _)| subject.to_string() == name) {
                Some(event) => readable.push(event),
                None => _ = unreadable.insert(name, String::new()),
            }
        }
        // Members come before channels, so that `member_removed` precedes `channel_vacated`.
        readable.sort_unstable_by(|(_, one, _), (_, other, _)| one.cmp(other));
        for (due_ms, subject, hub_event) in readable {
            machine.hold(&subject, due_ms, hub_event);
        }
        machine.log = Log::Redis(unreadable);
        machine
    }

    /// Handles the next event of the log, and adds the events to report at its time to `ready`.
    pub(super) fn apply(&mut self, at_ms: u64, hub_event: HubEvent, ready: &mut Vec<HubEvent>) {
        self.advance(at_ms, ready);
        let is_news = match &hub_event {
            HubEvent::Occupied { channel } => self.arrives(Subject::Channel(channel.clone())),
            HubEvent::MemberAdded { channel, user_id } => {
                self.arrives(Subject::Member(channel.clone(), user_id.clone()))
            }
            HubEvent::UserOnline { user_id } => self.arrives(Subject::User(user_id.clone())),
            HubEvent::Vacated { channel } => {
                self.departs(&Subject::Channel(channel.clone()), at_ms, &hub_event)
            }
            HubEvent::MemberRemoved { channel, user_id } => {
                let member = Subject::Member(channel.clone(), user_id.clone());
                self.departs(&member, at_ms, &hub_event)
            }
            // The node has delayed it already.
            HubEvent::UserOffline { user_id } => self.left(&Subject::User(user_id.clone())),
            HubEvent::CacheMiss { channel } => self.misses(channel, at_ms),
            HubEvent::SubscriptionCount { channel, count } => self.counts(channel, *count, at_ms),
            HubEvent::ClientEvent { .. } => true,
        };
        if is_news {
            ready.push(hub_event);
        }
    }

    /// Adds the events that are due at `now_ms` to `ready`. Must be called when the whole log was
    /// read: a later event may cancel a departure.
    pub(super) fn advance(&mut self, now_ms: u64, ready: &mut Vec<HubEvent>) {
        self.shorten_deadlines(now_ms);
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now_ms
        {
            let subject = entry.remove();
            self.report(&subject, ready);
        }
        if now_ms < self.tidied_ms || self.tidied_ms + TIDY_MS < now_ms {
            self.tidied_ms = now_ms;
            tidy(&mut self.counted, |(_, until)| *until, now_ms, COUNT_INTERVAL);
            tidy(&mut self.missed, |until| *until, now_ms, Self::MISS_INTERVAL);
        }
    }

    /// For a log in memory: adds all held events to `ready`, since at the end no subject can return.
    /// Those of a log in Redis are left to the next leader.
    pub(super) fn finish(&mut self, ready: &mut Vec<HubEvent>) {
        if matches!(self.log, Log::Redis(_)) {
            return;
        }
        while let Some((_, subject)) = self.due.pop_first() {
            self.report(&subject, ready);
        }
    }

    /// When [`Machine::advance`] must be called.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let is_tidy = self.counted.is_empty() && self.missed.is_empty();
        let tidy_ms = (!is_tidy).then_some(self.tidied_ms + TIDY_MS + 1);
        let due_ms = self.due.first_key_value().map(|((ms, _), _)| *ms);
        [due_ms, tidy_ms].into_iter().flatten().min()
    }

    /// For a log in Redis: the changes of held events since the last call, by name. A removed event
    /// has an empty value.
    pub(super) fn take_changes(&mut self) -> Vec<(String, String)> {
        match &mut self.log {
            Log::Memory(_) => Vec::new(),
            Log::Redis(changes) => std::mem::take(changes).into_iter().collect(),
        }
    }

    /// The number of events since the last call that were dropped, because too many subjects are
    /// present.
    pub(super) fn take_lost(&mut self) -> usize {
        match &mut self.log {
            Log::Memory(present) => present.take_lost(),
            Log::Redis(_) => 0,
        }
    }

    /// Whether an arrival must be reported.
    fn arrives(&mut self, subject: Subject) -> bool {
        let has_returned = self.release(&subject);
        !has_returned
            && match &mut self.log {
                Log::Memory(present) => present.add(subject),
                Log::Redis(_) => true,
            }
    }

    /// Holds a departure. Returns false: it is reported at its deadline.
    fn departs(&mut self, subject: &Subject, at_ms: u64, hub_event: &HubEvent) -> bool {
        let was_here = match &self.log {
            Log::Memory(present) => present.has(subject),
            Log::Redis(_) => true,
        };
        if was_here && !self.held.contains_key(subject) {
            self.hold(subject, at_ms + ms(Self::DELAY), hub_event.clone());
        }
        false
    }

    /// Records that a subject has left. Returns whether it was present.
    fn left(&mut self, subject: &Subject) -> bool {
        match &mut self.log {
            Log::Memory(present) => present.remove(subject),
            Log::Redis(_) => true,
        }
    }

    /// Adds the held event of a subject to `ready`.
    fn report(&mut self, subject: &Subject, ready: &mut Vec<HubEvent>) {
        let Some(held) = self.held.remove(subject) else { return };
        self.note(subject);
        if let HubEvent::SubscriptionCount { channel, count } = &held.hub_event {
            if self.counted.get(channel).is_some_and(|(reported, _)| reported == count) {
                return;
            }
            self.note_count(channel, *count, held.due_ms);
        } else {
            self.left(subject);
        }
        ready.push(held.hub_event);
    }

    /// Replaces deadlines that are too far away, because the clock has stepped backward since they were computed.
    fn shorten_deadlines(&mut self, now_ms: u64) {
        let latest_ms = now_ms + hold_max_ms();
        while let Some(entry) = self.due.last_entry()
            && latest_ms + CLOCK_SKEW_MS < entry.key().0
        {
            let ((_, number), subject) = entry.remove_entry();
            if let Some(held) = self.held.get_mut(&subject) {
                held.due_ms = latest_ms;
            }
            self.note(&subject);
            self.due.insert((latest_ms, number), subject);
        }
    }

    fn hold(&mut self, subject: &Subject, due_ms: u64, hub_event: HubEvent) {
        self.release(subject);
        let number = self.numbers;
        self.numbers += 1;
        self.due.insert((due_ms, number), subject.clone());
        self.held.insert(subject.clone(), Held { due_ms, number, hub_event });
        self.note(subject);
    }

    /// Removes a held event. Returns whether it was there.
    fn release(&mut self, subject: &Subject) -> bool {
        let Some(held) = self.held.remove(subject) else { return false };
        self.due.remove(&(held.due_ms, held.number));
        self.note(subject);
        true
    }

    /// Records that the held event of a subject has changed.
    fn note(&mut self, subject: &Subject) {
        if let Log::Redis(changes) = &mut self.log {
            let text = self.held.get(subject).map_or_else(String::new, |held| {
                format!("{} {}", held.due_ms, record::encode(&held.hub_event))
            });
            changes.insert(subject.to_string(), text);
        }
    }

    /// Whether a cache miss must be reported.
    fn misses(&mut self, channel: &ChannelName, at_ms: u64) -> bool {
        let last = self.missed.get(channel);
        if last.is_some_and(|until| is_within(at_ms, *until, Self::MISS_INTERVAL)) {
            return false;
        }
        if self.missed.len() < Self::CHANNELS_MAX || self.missed.contains_key(channel) {
            self.missed.insert(channel.clone(), at_ms + ms(Self::MISS_INTERVAL));
        }
        true
    }

    /// Whether a count is reported now. While one is delayed, each later one takes its place.
    fn counts(&mut self, channel: &ChannelName, count: usize, at_ms: u64) -> bool {
        if matches!(self.log, Log::Memory(_)) {
            // The broker has limited them already.
            return true;
        }
        let subject = Subject::Count(channel.clone());
        if count == 0 {
            // The channel is reported as vacated.
            self.release(&subject);
            self.counted.remove(channel);
            return false;
        }
        let delayed = self.held.get(&subject).map(|held| held.due_ms);
        let reported = self.counted.get(channel).copied();
        let until = delayed.or(reported.map(|(_, until)| until));
        if let Some(until) = until.filter(|until| is_within(at_ms, *until, COUNT_INTERVAL))
            && (delayed.is_some() || COUNT_UNTHROTTLED_MAX < count)
        {
            let hub_event = HubEvent::SubscriptionCount { channel: channel.clone(), count };
            self.hold(&subject, until, hub_event);
            return false;
        }
        self.release(&subject);
        self.note_count(channel, count, at_ms);
        true
    }

    /// Records that a count is reported.
    fn note_count(&mut self, channel: &ChannelName, count: usize, at_ms: u64) {
        if self.counted.len() < Self::CHANNELS_MAX || self.counted.contains_key(channel) {
            self.counted.insert(channel.clone(), (count, at_ms + ms(COUNT_INTERVAL)));
        }
    }
}

#[cfg(test)]
mod tests;
