//! The logs of an app's channels: their latest events, for clients that return and for new subscribers. Limited
//! in bytes for each channel and for the node.

mod settings;
mod usage;

pub use settings::{HistoryRead, LogRequest, LogStats};
pub(super) use settings::{HistoryRule, LogSettings, PendingLogRequest};
pub(super) use usage::NodeLogs;

use crate::{
    channel::{ChannelLog, HistoryQuery, LogLimits, LogStart},
    protocol::{ChannelName, Frame, SocketId},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use usage::Usage;

/// The bytes that a log counts in addition to its events and the channel's name. The maps and sets need
/// about as much for an entry.
const LOG_OVERHEAD_BYTES: usize = 512;

/// The logs of the channels of one app.
///
/// Its lock is taken under that of a channel, and no other lock is taken under it.
#[derive(Debug)]
pub(super) struct Logs {
    /// Whether any channel has a log, or gets one with its first event. Most apps have none, and their
    /// publishes read only this.
    is_active: AtomicBool,
    /// Begins the epochs of all logs.
    epoch: u64,
    state: Mutex<LogsState>,
}

#[derive(Debug, Default)]
struct LogsState {
    logs: HashMap<ChannelName, LogEntry>,
    /// The channels that have a log without readers.
    rules: Vec<HistoryRule>,
    /// The channels of the logs by their numbers.
    names: HashMap<u64, ChannelName>,
    /// The number of logs that were made.
    made: u64,
    /// What is evicted first: logs by their oldest event, and empty logs without readers.
    evictable: BTreeSet<(Instant, u64)>,
    /// When a log has an event that is too old, or is not kept any longer.
    deadlines: BTreeSet<(Instant, u64)>,
    /// The bytes of the logs, while there are any.
    usage: Option<Usage>,
    dropped_of_channel: u64,
    dropped_of_node: u64,
}

/// The log of one channel.
#[derive(Debug)]
struct LogEntry {
    /// Identifies the log among those of the app. Not reused.
    number: u64,
    log: ChannelLog,
    /// The subscriptions of connections that may resume.
    readers: usize,
    /// Until when connections may resume, without readers.
    kept_until: Instant,
    /// Why its events are kept without readers.
    rule: Option<HistoryRule>,
    /// The entries of the log in `evictable` and in `deadlines`.
    indexed: [Option<Instant>; 2],
    /// The bytes that are counted for the log.
    counted: usize,
}

impl Logs {
    /// No logs. `epoch` is random.
    pub(super) fn new(epoch: u64, rules: Vec<HistoryRule>) -> Self {
        let is_active = AtomicBool::new(!rules.is_empty());
        Self { is_active, epoch, state: Mutex::new(LogsState { rules, ..LogsState::default() }) }
    }

    /// Replaces the rules by which events are kept without readers.
    pub(super) fn set_rules(&self, node: &NodeLogs, rules: Vec<HistoryRule>, now: Instant) {
        let mut state = self.state.lock();
        state.rules = rules;
        self.is_active.store(state.is_active(), Ordering::Release);
        for channel in state.names.values().cloned().collect::<Vec<_>>() {
            let rule = state.rule_of(&channel);
            state.change(&channel, &node.settings, now, |entry| entry.rule = rule);
        }
        state.set_alarm(node, now);
    }

    /// Whether events may have to be logged.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Acquire)
    }

    /// Begins a subscription of `receiver`: counts a reader, and returns what it has missed. Called under
    /// the channel's lock.
    pub(super) fn subscribe(
        &self,
        node: &Arc<NodeLogs>,
        channel: &ChannelName,
        request: LogRequest<'_>,
        receiver: SocketId,
        now: Instant,
    ) -> Option<LogStart> {
        let is_reader = !matches!(request, LogRequest::No);
        if !is_reader && !self.is_active() {
            return None;
        }
        let limits = node.settings.replay_limits();
        let mut state = self.state.lock();
        if is_reader {
            self.is_active.store(true, Ordering::Release);
            state.find_or_make(node, channel, self.epoch, now);
        }
        let start = state.change(channel, &node.settings, now, |entry| {
            entry.readers += usize::from(is_reader);
            let replay = match (request, &entry.rule) {
                (LogRequest::After(position), _) => entry.log.after(position, receiver, limits),
                (_, Some(rule)) if rule.replays_first => {
                    Ok(entry.log.latest(rule.limits, limits.bytes, now))
                }
                (LogRequest::Begin, _) => Ok(Vec::new()),
                (LogRequest::No, _) => return None,
            };
            Some(LogStart { end: entry.log.end(), replay, is_reader })
        });
        state.evict(&node.settings, now);
        state.set_alarm(node, now);
        start.flatten()
    }

    /// Ends a reader of a channel. Its log is kept for the time in which a connection may resume.
    pub(super) fn release(&self, node: &NodeLogs, channel: &ChannelName, now: Instant) {
        let mut state = self.state.lock();
        state.change(channel, &node.settings, now, |entry| {
            entry.readers = entry.readers.saturating_sub(1);
            entry.kept_until = now + node.settings.kept;
        });
        state.set_alarm(node, now);
    }

    /// Adds an event to the channel's log, if it has one or gets one by a rule. Returns the event's sequence in the
    /// log; 0 without one. Called under the channel's lock.
    pub(super) fn append(
        &self,
        node: &Arc<NodeLogs>,
        channel: &ChannelName,
        frame: &Frame,
        except: Option<SocketId>,
        now: Instant,
    ) -> u64 {
        if !self.is_active() {
            return 0;
        }
        let mut state = self.state.lock();
        if state.rule_of(channel).is_some() {
            state.find_or_make(node, channel, self.epoch, now);
        }
        let appended = state.change(channel, &node.settings, now, |entry| {
            entry.log.append(frame.clone(), except, now)
        });
        state.evict(&node.settings, now);
        state.set_alarm(node, now);
        appended.unwrap_or(0)
    }

    /// Reads the events of a channel that are kept by a rule.
    pub(super) fn history(
        &self,
        channel: &ChannelName,
        query: &HistoryQuery,
        now: Instant,
    ) -> HistoryRead {
        let state = self.state.lock();
        let Some(rule) = state.rule_of(channel) else { return HistoryRead::NotKept };
        match state.logs.get(channel) {
            Some(entry) => HistoryRead::of_page(entry.log.page(query, rule.limits, now)),
            None => HistoryRead::without_log(query),
        }
    }

    /// Drops events that are too old, and logs that are not kept any longer. Returns when the next ones are.
    pub(super) fn expire(&self, node: &NodeLogs, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        while let Some(&(deadline, number)) = state.deadlines.first()
            && deadline <= now
        {
            let Some(channel) = state.names.get(&number).cloned() else { break };
            state.change(&channel, &node.settings, now, |_| {});
        }
        // Another app may have logs now, which lowers the share of this one.
        state.evict(&node.settings, now);
        self.is_active.store(state.is_active(), Ordering::Release);
        state.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The bytes of the logs, added up.
    #[cfg(test)]
    pub(super) fn measured_bytes(&self) -> usize {
        let state = self.state.lock();
        let each = state.logs.iter();
        each.map(|(name, entry)| entry.log.bytes() + name.as_str().len() + LOG_OVERHEAD_BYTES).sum()
    }

    pub(super) fn stats(&self) -> LogStats {
        let state = self.state.lock();
        LogStats {
            bytes: state.usage.as_ref().map_or(0, |usage| usage.bytes),
            dropped_of_channel: state.dropped_of_channel,
            dropped_of_node: state.dropped_of_node,
        }
    }
}

impl LogsState {
    fn is_active(&self) -> bool {
        !self.logs.is_empty() || !self.rules.is_empty()
    }

    /// Sets the alarm for what is to be dropped next, by this app or by one that exceeds its share.
    fn set_alarm(&self, node: &NodeLogs, now: Instant) {
        if let Some((deadline, _)) = self.deadlines.first() {
            node.alarm.set(*deadline);
        }
        if node.is_over() {
            node.alarm.set(now);
        }
    }

    fn rule_of(&self, channel: &ChannelName) -> Option<HistoryRule> {
        HistoryRule::matching(&self.rules, channel).cloned()
    }

    fn find_or_make(
        &mut self,
        node: &Arc<NodeLogs>,
        channel: &ChannelName,
        epoch: u64,
        now: Instant,
    ) {
        if self.logs.contains_key(channel) {
            return;
        }
        self.made += 1;
        self.usage.get_or_insert_with(|| Usage::new(node));
        self.names.insert(self.made, channel.clone());
        let log = ChannelLog::new(format!("{epoch:016x}.{:x}", self.made).into());
        let entry = LogEntry {
            number: self.made,
            log,
            readers: 0,
            kept_until: now,
            rule: self.rule_of(channel),
            indexed: [None; 2],
            counted: 0,
        };
        self.logs.insert(channel.clone(), entry);
    }

    /// Changes the log of a channel, if it has one, and drops what it does not keep any longer: events, or
    /// the log.
    fn change<T>(
        &mut self,
        channel: &ChannelName,
        settings: &LogSettings,
        now: Instant,
        change: impl FnOnce(&mut LogEntry) -> T,
    ) -> Option<T> {
        let entry = self.logs.get_mut(channel)?;
        let result = change(entry);
        let dropped = entry.log.trim(entry.limits(settings, now), now);
        self.dropped_of_channel += u64::try_from(dropped).unwrap_or(u64::MAX);
        let has_history = entry.rule.is_some() && entry.log.oldest().is_some();
        let is_kept = entry.is_resumable(now) || has_history;
        let bytes = entry.log.bytes() + channel.as_str().len() + LOG_OVERHEAD_BYTES;
        let (number, before) = (entry.number, std::mem::take(&mut entry.indexed));
        let counted = if is_kept { bytes } else { 0 };
        let counted_before = std::mem::replace(&mut entry.counted, counted);
        if is_kept {
            entry.indexed = [entry.evictable_from(settings), entry.deadline(settings, now)];
        }
        let after = entry.indexed;
        let indexes = [&mut self.evictable, &mut self.deadlines];
        for (index, (before, after)) in indexes.into_iter().zip(before.into_iter().zip(after)) {
            if before != after {
                before.map(|at| index.remove(&(at, number)));
                after.map(|at| index.insert((at, number)));
            }
        }
        if let Some(usage) = &mut self.usage {
            usage.change(counted_before, counted);
        }
        if !is_kept {
            self.remove(channel, number);
        }
        Some(result)
    }

    /// Removes a log that is not indexed and counts no bytes.
    fn remove(&mut self, channel: &ChannelName, number: u64) {
        self.logs.remove(channel);
        self.names.remove(&number);
        if self.logs.is_empty() {
            // Their memory is freed, and with `usage` the share of the app.
            *self = Self {
                rules: std::mem::take(&mut self.rules),
                made: self.made,
                dropped_of_channel: self.dropped_of_channel,
                dropped_of_node: self.dropped_of_node,
                ..Self::default()
            };
        }
    }

    /// Drops the oldest events while the node is over its limit, and then logs without events and readers.
    fn evict(&mut self, settings: &LogSettings, now: Instant) {
        while self.usage.as_ref().is_some_and(Usage::is_over)
            && let Some(&(_, number)) = self.evictable.first()
            && let Some(channel) = self.names.get(&number).cloned()
        {
            let had_event = self.change(&channel, settings, now, |entry| {
                let had_event = entry.log.drop_oldest() != 0;
                if !had_event {
                    // Only a log without readers is evictable, and this ends the time that it is kept.
                    entry.kept_until = now;
                }
                had_event
            });
            self.dropped_of_node += u64::from(had_event.unwrap_or(false));
        }
    }
}

impl LogEntry {
    /// Whether a connection reads it, or may return to read it.
    fn is_resumable(&self, now: Instant) -> bool {
        self.readers != 0 || now < self.kept_until
    }

    /// What it keeps at most: enough for connections that resume, and for its rule.
    fn limits(&self, settings: &LogSettings, now: Instant) -> LogLimits {
        let of_readers = self.is_resumable(now).then(|| settings.log_limits());
        let of_rule = self.rule.as_ref().map(|rule| rule.limits);
        match (of_readers, of_rule) {
            (Some(a), Some(b)) => LogLimits {
                events: a.events.max(b.events),
                bytes: a.bytes.max(b.bytes),
                age: a.age.max(b.age),
            },
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => settings.log_limits(),
        }
    }

    /// The age by which it is evicted, before others that are younger; `None` if nothing can be dropped.
    fn evictable_from(&self, settings: &LogSettings) -> Option<Instant> {
        let released_at = || self.kept_until.checked_sub(settings.kept).unwrap_or(self.kept_until);
        self.log.oldest().or_else(|| (self.readers == 0).then(released_at))
    }

    /// When something in it is not kept any longer; `None` if it has readers and no events.
    fn deadline(&self, settings: &LogSettings, now: Instant) -> Option<Instant> {
        // Events of exactly the limit's age are kept, so the next millisecond is the time to look.
        let age = self.limits(settings, now).age + Duration::from_millis(1);
        let aged = self.log.oldest().map(|oldest| oldest + age);
        let ended = (self.readers == 0 && now < self.kept_until).then_some(self.kept_until);
        [aged, ended].into_iter().flatten().min()
    }
}
