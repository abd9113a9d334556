//! The logs of an app's channels: their latest events, for clients that return. Limited in bytes for each
//! channel and for the node.

use crate::{
    broker::log_settings::{LogRequest, LogSettings, LogStats},
    channel::{ChannelLog, LogStart},
    config::ConnectionConfig,
    protocol::{ChannelName, Frame, SocketId},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Maximum size of all logs of a node, in bytes.
const NODE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The bytes that a log counts in addition to its events and the channel's name. The maps and sets need
/// about as much for an entry.
const LOG_OVERHEAD_BYTES: usize = 512;

/// What the logs of all apps of the node share: their settings, and the size that they have together.
#[derive(Debug)]
pub(in crate::broker) struct NodeLogs {
    settings: LogSettings,
    max_bytes: usize,
    bytes: AtomicUsize,
    /// The number of apps with logs.
    apps: AtomicUsize,
}

/// The logs of the channels of one app.
///
/// Its lock is taken under that of a channel, and no other lock is taken under it.
#[derive(Debug)]
pub(super) struct Logs {
    /// Whether any channel has a log. Most apps have none, and their publishes read only this.
    is_active: AtomicBool,
    /// Begins the epochs of all logs.
    epoch: u64,
    state: Mutex<LogsState>,
}

#[derive(Debug, Default)]
struct LogsState {
    logs: HashMap<ChannelName, LogEntry>,
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
    /// When the last reader ended.
    released_at: Instant,
    /// The entries of the log in `evictable` and in `deadlines`.
    indexed: [Option<Instant>; 2],
    /// The bytes that are counted for the log.
    counted: usize,
}

/// The bytes of an app's logs, as a part of those of the node.
#[derive(Debug)]
struct Usage {
    node: Arc<NodeLogs>,
    bytes: usize,
}

impl NodeLogs {
    pub(in crate::broker) fn new(connection: &ConnectionConfig) -> Arc<Self> {
        Self::with_max_bytes(connection, NODE_BYTES_MAX)
    }

    pub(super) fn with_max_bytes(connection: &ConnectionConfig, max_bytes: usize) -> Arc<Self> {
        let settings = LogSettings::new(connection);
        let (bytes, apps) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { settings, max_bytes, bytes, apps })
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Usage {
    fn new(node: &Arc<NodeLogs>) -> Self {
        node.apps.fetch_add(1, Ordering::Relaxed);
        Self { node: Arc::clone(node), bytes: 0 }
    }

    fn change(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes + after - before;
        // Wraps when it becomes less, and the sum is right.
        self.node.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Whether this app has to drop something: the node is over its limit, and the app over its share.
    fn is_over(&self) -> bool {
        let node = &self.node;
        let share = node.max_bytes / node.apps.load(Ordering::Relaxed).max(1);
        node.max_bytes < node.bytes.load(Ordering::Relaxed) && share < self.bytes
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.node.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.node.apps.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Logs {
    /// No logs. `epoch` is random.
    pub(super) fn new(epoch: u64) -> Self {
        Self { is_active: AtomicBool::new(false), epoch, state: Mutex::default() }
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
        if matches!(request, LogRequest::No) {
            return None;
        }
        let mut state = self.state.lock();
        self.is_active.store(true, Ordering::Release);
        state.find_or_make(node, channel, self.epoch, now);
        let start = state.change(channel, &node.settings, now, |entry| {
            entry.readers += 1;
            let replay = match request {
                LogRequest::No | LogRequest::Begin => Ok(Vec::new()),
                LogRequest::After(position) => {
                    entry.log.after(position, receiver, node.settings.replay_limits())
                }
            };
            LogStart { end: entry.log.end(), replay }
        });
        state.evict(&node.settings, now);
        start
    }

    /// Ends a reader of a channel. Its log is kept for the time in which a connection may resume.
    pub(super) fn release(&self, node: &NodeLogs, channel: &ChannelName, now: Instant) {
        self.state.lock().change(channel, &node.settings, now, |entry| {
            entry.readers = entry.readers.saturating_sub(1);
            entry.released_at = now;
        });
    }

    /// Adds an event to the channel's log, if it has one. Returns the event's sequence in the log; 0 without
    /// one. Called under the channel's lock.
    pub(super) fn append(
        &self,
        node: &NodeLogs,
        channel: &ChannelName,
        frame: &Frame,
        except: Option<SocketId>,
        now: Instant,
    ) -> u64 {
        if !self.is_active() {
            return 0;
        }
        let mut state = self.state.lock();
        let appended = state.change(channel, &node.settings, now, |entry| {
            entry.log.append(frame.clone(), except, now)
        });
        state.evict(&node.settings, now);
        appended.unwrap_or(0)
    }

    /// Drops events that are too old, and logs that are not kept any longer.
    pub(super) fn expire(&self, node: &NodeLogs, now: Instant) {
        if !self.is_active() {
            return;
        }
        let mut state = self.state.lock();
        while let Some(&(deadline, number)) = state.deadlines.first()
            && deadline <= now
        {
            let Some(channel) = state.names.get(&number).cloned() else { break };
            state.change(&channel, &node.settings, now, |_| {});
        }
        // Another app may have logs now, which lowers the share of this one.
        state.evict(&node.settings, now);
        self.is_active.store(!state.logs.is_empty(), Ordering::Release);
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
            released_at: now,
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
        let dropped = entry.log.trim(settings.log_limits(), now);
        self.dropped_of_channel += u64::try_from(dropped).unwrap_or(u64::MAX);
        let is_kept = entry.readers != 0 || now < entry.released_at + settings.kept;
        let bytes = entry.log.bytes() + channel.as_str().len() + LOG_OVERHEAD_BYTES;
        let (number, before) = (entry.number, std::mem::take(&mut entry.indexed));
        let counted = if is_kept { bytes } else { 0 };
        let counted_before = std::mem::replace(&mut entry.counted, counted);
        if is_kept {
            entry.indexed = [entry.evictable_from(), entry.deadline(settings)];
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
            let kept = (self.made, self.dropped_of_channel, self.dropped_of_node);
            *self = Self::default();
            (self.made, self.dropped_of_channel, self.dropped_of_node) = kept;
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
                    entry.released_at = now.checked_sub(settings.kept).unwrap_or(now);
                }
                had_event
            });
            self.dropped_of_node += u64::from(had_event.unwrap_or(false));
        }
    }
}

impl LogEntry {
    /// The age by which it is evicted, before others that are younger; `None` if nothing can be dropped.
    fn evictable_from(&self) -> Option<Instant> {
        self.log.oldest().or((self.readers == 0).then_some(self.released_at))
    }

    /// When something in it is not kept any longer; `None` if it has readers and no events.
    fn deadline(&self, settings: &LogSettings) -> Option<Instant> {
        // Events of exactly the limit's age are kept, so the next millisecond is the time to look.
        let step = Duration::from_millis(1);
        let aged = self.log.oldest().map(|oldest| oldest + settings.log_limits().age + step);
        let ended = (self.readers == 0).then(|| self.released_at + settings.kept);
        [aged, ended].into_iter().flatten().min()
    }
}
