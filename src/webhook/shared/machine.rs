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

use super::super::{debouncer::Debouncer, machine::Machine, record};
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
/// How far clocks of the masters of a Redis Cluster may differ without an effect on deadlines.
const CLOCK_SKEW_MS: u64 = 1_000;
/// The interval at which expired entries are removed.
const TIDY_MS: u64 = 10_000;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The maximum time between a record and the deadline of its event.
fn hold_max_ms() -> u64 {
    ms(Debouncer::DELAY.max(Hub::COUNT_INTERVAL))
}

/// Whether `at_ms` is in the interval that ends at `until`. An end that is further away was computed before the clock
/// stepped backward.
fn is_within(at_ms: u64, until: u64, interval: Duration) -> bool {
    at_ms < until && until <= at_ms + ms(interval) + CLOCK_SKEW_MS
}

impl SharedMachine {
    /// A machine that continues from `held`, the held events of the previous one.
    pub(super) fn resume(held: Vec<(String, String)>) -> Self {
        let mut machine = Self::default();
        for (name, text) in held {
            match record::parse(text.as_bytes()) {
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
        self.shorten_deadlines(now_ms);
        while self.due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let Some(Deadline { ms: due_ms, name, .. }) = self.due.pop_first() else { return };
            let Some(held) = self.held.remove(&name) else { continue };
            self.note(name);
            if let HubEvent::SubscriptionCount { channel, .. } = &held.hub_event {
                self.counted.insert(channel.clone(), due_ms + ms(Hub::COUNT_INTERVAL));
            }
            ready.push(held.hub_event);
        }
        if now_ms < self.tidied_ms || self.tidied_ms + TIDY_MS < now_ms {
            self.tidied_ms = now_ms;
            self.counted.retain(|_, until| is_within(now_ms, *until, Hub::COUNT_INTERVAL));
            self.missed.retain(|_, until| is_within(now_ms, *until, Machine::MISS_INTERVAL));
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
                format!("{} {}", held.due_ms, record::encode(&held.hub_event))
            })
        };
        changed
            .into_iter()
            .map(|name| (held(&name), name))
            .map(|(held, name)| (name, held))
            .collect()
    }

    /// Replaces deadlines that are too far away, because the clock has stepped backward since they were computed.
    fn shorten_deadlines(&mut self, now_ms: u64) {
        let latest_ms = now_ms + hold_max_ms();
        while self.due.last().is_some_and(|due| latest_ms + CLOCK_SKEW_MS < due.ms) {
            let Some(Deadline { name, .. }) = self.due.pop_last() else { return };
            if let Some(held) = self.held.remove(&name) {
                self.hold(name, latest_ms, held.hub_event);
            }
        }
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
        let last = self.missed.get(channel);
        if last.is_some_and(|until| is_within(at_ms, *until, Machine::MISS_INTERVAL)) {
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
        if let Some(until) = until.filter(|until| is_within(at_ms, *until, Hub::COUNT_INTERVAL)) {
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
mod tests;
