//! Decides which events are reported, and when, for a log in memory as well as for one in Redis.
//!
//! - Paired events alternate. A channel, member or user that leaves and returns within [`Debouncer::DELAY`] is not
//!   reported: its departure is *delayed*, and cancelled by the return.
//! - A cache miss of a channel is reported once in [`Debouncer::MISS_INTERVAL`].
//! - Subscription counts are limited by the rule of [`crate::channel::CountThrottle`]; on a single node
//!   the broker does that.
//! - Everything else is reported at once.
//!
//! Time is an argument, in ms of the log's clock: for a log in memory since it was created, for one
//! in Redis that of its records, so that the result does not depend on when and by which node the log
//! is read. Redis' clock may step backward; then nothing is delayed by the length of the step.

mod key;
mod present;

use super::record;
use crate::{
    channel::{COUNT_INTERVAL, COUNT_UNTHROTTLED_MAX},
    hub::HubEvent,
    protocol::ChannelName,
};
use key::DebounceKey;
use present::PresentKeys;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// The debouncer of one app's events.
#[derive(Debug)]
pub(super) struct Debouncer {
    log: LogKind,
    delayed: BTreeMap<DebounceKey, DelayedEvent>,
    /// The key of each entry of `delayed`, by deadline and number.
    due: BTreeMap<(u64, u64), DebounceKey>,
    /// The number of the next delayed event.
    next_number: u64,
    /// The count that was reported last, and until when further ones are delayed.
    last_counts: HashMap<ChannelName, (usize, u64)>,
    /// Until when a cache miss is not reported again.
    last_misses: HashMap<ChannelName, u64>,
    /// When expired entries of `last_counts` and `last_misses` were last removed.
    expired_ms: u64,
}

/// The log from which the events are read, and the state that depends on it.
#[derive(Debug)]
enum LogKind {
    /// It lacks events that had no room, and those before the first webhook was configured.
    /// Therefore those that are present are known here.
    Memory(PresentKeys),
    /// It alternates, because each record was written in the same step as its change, and it outlives
    /// its reader. Delayed events are stored beside it, for the next reader: these are the changes since
    /// they were last taken, by the names of their keys.
    Redis(BTreeMap<String, String>),
}

/// An event that is reported when it is due, unless it is cancelled.
#[derive(Debug)]
struct DelayedEvent {
    due_ms: u64,
    /// Keeps the order of events with the same deadline.
    number: u64,
    hub_event: HubEvent,
}

/// How far clocks of the masters of a Redis Cluster may differ without an effect on deadlines.
const CLOCK_SKEW_MS: u64 = 1_000;
/// The interval at which expired entries are removed.
const EXPIRE_INTERVAL_MS: u64 = 10_000;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The maximum time between an event and its deadline.
fn delay_max_ms() -> u64 {
    ms(Debouncer::DELAY.max(COUNT_INTERVAL))
}

/// Whether `at_ms` is in the interval that ends at `until`. An end that is further away was computed before the clock
/// stepped backward.
fn is_within(at_ms: u64, until: u64, interval: Duration) -> bool {
    at_ms < until && until <= at_ms + ms(interval) + CLOCK_SKEW_MS
}

/// Removes expired entries, and the table when it is empty.
fn remove_expired<V>(
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

impl Debouncer {
    /// The delay of a departure. Pusher promises at most 3 s, which includes batching and the
    /// request.
    pub(super) const DELAY: Duration = Duration::from_millis(2_900);
    /// Minimum interval between reported misses of a channel. Pusher sends one when several clients
    /// miss at once, without documenting the interval.
    const MISS_INTERVAL: Duration = Duration::from_secs(10);
    /// Maximum number of channels with a recorded miss, and of those with a recorded count. Misses and
    /// counts of further ones are always reported.
    const CHANNELS_MAX: usize = 100_000;

    fn new(log: LogKind) -> Self {
        Self {
            log,
            delayed: BTreeMap::new(),
            due: BTreeMap::new(),
            next_number: 0,
            last_counts: HashMap::new(),
            last_misses: HashMap::new(),
            expired_ms: 0,
        }
    }

    /// A debouncer for a log in memory.
    pub(super) fn for_memory_log() -> Self {
        Self::new(LogKind::Memory(PresentKeys::default()))
    }

    /// A debouncer for a log in Redis. It continues from `delayed`, the delayed events of the previous one.
    pub(super) fn for_redis_log(delayed: Vec<(String, String)>) -> Self {
        let mut debouncer = Self::new(LogKind::Redis(BTreeMap::new()));
        let mut readable = Vec::new();
        // Not written by a node: removed with the next commit.
        let mut unreadable = BTreeMap::new();
        for (name, text) in delayed {
            let event = record::parse(text.as_bytes());
            let event = event.and_then(|(ms, event)| Some((ms, DebounceKey::of(&event)?, event)));
            match event.filter(|(_, key, _)| key.to_string() == name) {
                Some(event) => readable.push(event),
                None => _ = unreadable.insert(name, String::new()),
            }
        }
        // Members come before channels, so that `member_removed` precedes `channel_vacated`.
        readable.sort_unstable_by(|(_, one, _), (_, other, _)| one.cmp(other));
        for (due_ms, key, hub_event) in readable {
            debouncer.delay(&key, due_ms, hub_event);
        }
        debouncer.log = LogKind::Redis(unreadable);
        debouncer
    }

    /// Handles the next event of the log, and adds the events to report at its time to `ready`.
    pub(super) fn apply(&mut self, at_ms: u64, hub_event: HubEvent, ready: &mut Vec<HubEvent>) {
        self.advance(at_ms, ready);
        let is_reported = match &hub_event {
            HubEvent::Occupied { channel } => {
                self.on_arrival(DebounceKey::Channel(channel.clone()))
            }
            HubEvent::MemberAdded { channel, user_id } => {
                self.on_arrival(DebounceKey::Member(channel.clone(), user_id.clone()))
            }
            HubEvent::UserOnline { user_id } => self.on_arrival(DebounceKey::User(user_id.clone())),
            HubEvent::Vacated { channel } => {
                self.on_departure(&DebounceKey::Channel(channel.clone()), at_ms, &hub_event)
            }
            HubEvent::MemberRemoved { channel, user_id } => {
                let member = DebounceKey::Member(channel.clone(), user_id.clone());
                self.on_departure(&member, at_ms, &hub_event)
            }
            // The node has delayed it already.
            HubEvent::UserOffline { user_id } => {
                self.mark_absent(&DebounceKey::User(user_id.clone()))
            }
            HubEvent::CacheMiss { channel } => self.on_miss(channel, at_ms),
            HubEvent::SubscriptionCount { channel, count } => self.on_count(channel, *count, at_ms),
            HubEvent::ClientEvent { .. } => true,
        };
        if is_reported {
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
            let key = entry.remove();
            self.report(&key, ready);
        }
        if now_ms < self.expired_ms || self.expired_ms + EXPIRE_INTERVAL_MS < now_ms {
            self.expired_ms = now_ms;
            remove_expired(&mut self.last_counts, |(_, until)| *until, now_ms, COUNT_INTERVAL);
            remove_expired(&mut self.last_misses, |until| *until, now_ms, Self::MISS_INTERVAL);
        }
    }

    /// For a log in memory: adds all delayed events to `ready`, since nothing returns after the end.
    /// Those of a log in Redis are left to the next leader.
    pub(super) fn finish(&mut self, ready: &mut Vec<HubEvent>) {
        if matches!(self.log, LogKind::Redis(_)) {
            return;
        }
        while let Some((_, key)) = self.due.pop_first() {
            self.report(&key, ready);
        }
    }

    /// When [`Debouncer::advance`] must be called.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let is_empty = self.last_counts.is_empty() && self.last_misses.is_empty();
        let expire_at_ms = (!is_empty).then_some(self.expired_ms + EXPIRE_INTERVAL_MS + 1);
        let due_ms = self.due.first_key_value().map(|((ms, _), _)| *ms);
        [due_ms, expire_at_ms].into_iter().flatten().min()
    }

    /// For a log in Redis: the changes of delayed events since the last call, by name. A removed event
    /// has an empty value.
    pub(super) fn take_changes(&mut self) -> Vec<(String, String)> {
        match &mut self.log {
            LogKind::Memory(_) => Vec::new(),
            LogKind::Redis(changes) => std::mem::take(changes).into_iter().collect(),
        }
    }

    /// The number of events since the last call that were dropped, because too many
    /// channels, members and users are present.
    pub(super) fn take_lost(&mut self) -> usize {
        match &mut self.log {
            LogKind::Memory(present) => present.take_lost(),
            LogKind::Redis(_) => 0,
        }
    }

    /// Whether an arrival must be reported.
    fn on_arrival(&mut self, key: DebounceKey) -> bool {
        let has_returned = self.cancel(&key);
        !has_returned
            && match &mut self.log {
                LogKind::Memory(present) => present.add(key),
                LogKind::Redis(_) => true,
            }
    }

    /// Delays a departure. Returns false: it is reported at its deadline.
    fn on_departure(&mut self, key: &DebounceKey, at_ms: u64, hub_event: &HubEvent) -> bool {
        let was_present = match &self.log {
            LogKind::Memory(present) => present.has(key),
            LogKind::Redis(_) => true,
        };
        if was_present && !self.delayed.contains_key(key) {
            self.delay(key, at_ms + ms(Self::DELAY), hub_event.clone());
        }
        false
    }

    /// Records an absence. Returns whether it was present.
    fn mark_absent(&mut self, key: &DebounceKey) -> bool {
        match &mut self.log {
            LogKind::Memory(present) => present.remove(key),
            LogKind::Redis(_) => true,
        }
    }

    /// Adds the delayed event of a key to `ready`.
    fn report(&mut self, key: &DebounceKey, ready: &mut Vec<HubEvent>) {
        let Some(delayed) = self.delayed.remove(key) else { return };
        self.record_change(key);
        if let HubEvent::SubscriptionCount { channel, count } = &delayed.hub_event {
            if self.last_counts.get(channel).is_some_and(|(reported, _)| reported == count) {
                return;
            }
            self.record_count(channel, *count, delayed.due_ms);
        } else {
            self.mark_absent(key);
        }
        ready.push(delayed.hub_event);
    }

    /// Replaces deadlines that are too far away, because the clock has stepped backward since they were computed.
    fn shorten_deadlines(&mut self, now_ms: u64) {
        let latest_ms = now_ms + delay_max_ms();
        while let Some(entry) = self.due.last_entry()
            && latest_ms + CLOCK_SKEW_MS < entry.key().0
        {
            let ((_, number), key) = entry.remove_entry();
            if let Some(delayed) = self.delayed.get_mut(&key) {
                delayed.due_ms = latest_ms;
            }
            self.record_change(&key);
            self.due.insert((latest_ms, number), key);
        }
    }

    fn delay(&mut self, key: &DebounceKey, due_ms: u64, hub_event: HubEvent) {
        self.cancel(key);
        let number = self.next_number;
        self.next_number += 1;
        self.due.insert((due_ms, number), key.clone());
        self.delayed.insert(key.clone(), DelayedEvent { due_ms, number, hub_event });
        self.record_change(key);
    }

    /// Removes a delayed event. Returns whether it was there.
    fn cancel(&mut self, key: &DebounceKey) -> bool {
        let Some(delayed) = self.delayed.remove(key) else { return false };
        self.due.remove(&(delayed.due_ms, delayed.number));
        self.record_change(key);
        true
    }

    /// Records that the delayed event of a key has changed.
    fn record_change(&mut self, key: &DebounceKey) {
        if let LogKind::Redis(changes) = &mut self.log {
            let text = self.delayed.get(key).map_or_else(String::new, |delayed| {
                format!("{} {}", delayed.due_ms, record::encode(&delayed.hub_event))
            });
            changes.insert(key.to_string(), text);
        }
    }

    /// Whether a cache miss must be reported.
    fn on_miss(&mut self, channel: &ChannelName, at_ms: u64) -> bool {
        let last = self.last_misses.get(channel);
        if last.is_some_and(|until| is_within(at_ms, *until, Self::MISS_INTERVAL)) {
            return false;
        }
        if self.last_misses.len() < Self::CHANNELS_MAX || self.last_misses.contains_key(channel) {
            self.last_misses.insert(channel.clone(), at_ms + ms(Self::MISS_INTERVAL));
        }
        true
    }

    /// Whether a count is reported now. While one is delayed, each later one takes its place.
    fn on_count(&mut self, channel: &ChannelName, count: usize, at_ms: u64) -> bool {
        if matches!(self.log, LogKind::Memory(_)) {
            // The broker has limited them already.
            return true;
        }
        let key = DebounceKey::Count(channel.clone());
        if count == 0 {
            // The channel is reported as vacated.
            self.cancel(&key);
            self.last_counts.remove(channel);
            return false;
        }
        let delayed = self.delayed.get(&key).map(|delayed| delayed.due_ms);
        let reported = self.last_counts.get(channel).copied();
        let until = delayed.or(reported.map(|(_, until)| until));
        if let Some(until) = until.filter(|until| is_within(at_ms, *until, COUNT_INTERVAL))
            && (delayed.is_some() || COUNT_UNTHROTTLED_MAX < count)
        {
            let hub_event = HubEvent::SubscriptionCount { channel: channel.clone(), count };
            self.delay(&key, until, hub_event);
            return false;
        }
        self.cancel(&key);
        self.record_count(channel, count, at_ms);
        true
    }

    /// Records that a count is reported.
    fn record_count(&mut self, channel: &ChannelName, count: usize, at_ms: u64) {
        if self.last_counts.len() < Self::CHANNELS_MAX || self.last_counts.contains_key(channel) {
            self.last_counts.insert(channel.clone(), (count, at_ms + ms(COUNT_INTERVAL)));
        }
    }
}

#[cfg(test)]
mod tests;
