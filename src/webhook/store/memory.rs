//! The log of observed events of an app on a single node.

use crate::{
    hub::HubEvent,
    webhook::{
        settings::Settings,
        store::log::{Full, bytes_max},
    },
};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::Notify;

/// An entry of the log.
#[derive(Debug)]
pub(in crate::webhook) enum LogEntry {
    HubEvent(HubEvent),
    /// The settings that apply to the following entries.
    Settings(Arc<Settings>),
}

impl LogEntry {
    /// The bytes that count towards the limits: 0 for settings, of which there is at most one for each reload.
    fn weight(&self) -> usize {
        match self {
            Self::HubEvent(hub_event) => hub_event.weight(),
            Self::Settings(_) => 0,
        }
    }
}

/// Maximum number of entries read at once, so that other tasks can run.
pub(in crate::webhook) const READ_MAX: usize = 1_000;

/// The log of one app in memory: every thread that observes an event appends, one task reads.
#[derive(Debug)]
pub(in crate::webhook) struct MemoryLog {
    entries: Mutex<Unread>,
    /// Notified only when the log was empty: otherwise the reader reads again by itself.
    filled: Notify,
}

#[derive(Debug)]
struct Unread {
    /// The settings that apply to the first of the entries.
    settings: Arc<Settings>,
    entries: VecDeque<LogEntry>,
    bytes: usize,
}

impl MemoryLog {
    /// An empty log with the settings for its first entries.
    pub(in crate::webhook) fn new(settings: Arc<Settings>) -> Self {
        let entries = Unread { settings, entries: VecDeque::new(), bytes: 0 };
        Self { entries: Mutex::new(entries), filled: Notify::new() }
    }

    /// The settings that apply to the next entry.
    pub(in crate::webhook) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.entries.lock().settings)
    }

    /// Appends an event. Never blocks: the caller may hold a channel's lock.
    ///
    /// # Errors
    ///
    /// [`Full`] if it was dropped.
    pub(in crate::webhook) fn append(&self, hub_event: HubEvent) -> Result<(), Full> {
        let max = bytes_max(&hub_event);
        self.push(LogEntry::HubEvent(hub_event), max)
    }

    /// Appends settings, which apply to all later entries.
    pub(in crate::webhook) fn append_settings(&self, settings: Arc<Settings>) {
        let pushed = self.push(LogEntry::Settings(settings), usize::MAX);
        debug_assert_eq!(pushed, Ok(()), "there is no limit");
    }

    fn push(&self, entry: LogEntry, max: usize) -> Result<(), Full> {
        let mut log = self.entries.lock();
        let bytes = log.bytes + entry.weight();
        if max < bytes {
            return Err(Full);
        }
        log.bytes = bytes;
        log.entries.push_back(entry);
        if log.entries.len() == 1 {
            drop(log);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits until there are entries, and moves the oldest of them, at most [`READ_MAX`], to `read`.
    /// Safe to cancel.
    pub(in crate::webhook) async fn read(&self, read: &mut Vec<LogEntry>) {
        loop {
            self.read_now(read);
            if !read.is_empty() {
                return;
            }
            self.filled.notified().await;
        }
    }

    /// Like [`MemoryLog::read`], without waiting.
    pub(in crate::webhook) fn read_now(&self, read: &mut Vec<LogEntry>) {
        let mut log = self.entries.lock();
        for _ in 0..READ_MAX {
            let Some(entry) = log.entries.pop_front() else { break };
            log.bytes -= entry.weight();
            if let LogEntry::Settings(settings) = &entry {
                log.settings = Arc::clone(settings);
            }
            read.push(entry);
        }
        if log.entries.is_empty() {
            log.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::{channel, one_of_each};
    use crate::webhook::store::log::LOG_BYTES_MAX;

    fn settings() -> Arc<Settings> {
        let app = crate::config::AppConfig::development();
        Arc::new(Settings::new(&app, std::time::Duration::ZERO).unwrap())
    }

    fn empty() -> MemoryLog {
        MemoryLog::new(settings())
    }

    fn large() -> HubEvent {
        let [_, _, _, _, mut event, ..] = one_of_each();
        if let HubEvent::ClientEvent { data, .. } = &mut event {
            *data = "x".repeat(1_024 * 1_024);
        }
        event
    }

    fn events(read: &mut Vec<LogEntry>) -> Vec<HubEvent> {
        let hub_event = |entry| match entry {
            LogEntry::HubEvent(hub_event) => hub_event,
            LogEntry::Settings(settings) => panic!("{settings:?}"),
        };
        read.drain(..).map(hub_event).collect()
    }

    #[tokio::test]
    async fn entries_are_read_in_order_and_in_parts() {
        let log = empty();
        let count = |count| HubEvent::SubscriptionCount { channel: channel("t"), count };
        for number in 0..=READ_MAX {
            assert_eq!(log.append(count(number)), Ok(()));
        }
        let mut read = Vec::new();
        log.read(&mut read).await;
        assert_eq!(events(&mut read), (0..READ_MAX).map(count).collect::<Vec<_>>());
        log.read(&mut read).await;
        assert_eq!(events(&mut read), [count(READ_MAX)]);
        assert_eq!(log.entries.lock().bytes, 0);
        assert_eq!(log.entries.lock().entries.capacity(), 0, "memory returns");
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let log = empty();
        let mut read = Vec::new();
        let [occupied, ..] = one_of_each();
        tokio::join!(log.read(&mut read), async { log.append(occupied.clone()) }).1.unwrap();
        assert_eq!(events(&mut read), [occupied]);
    }

    #[test]
    fn the_log_holds_32_mib_and_half_of_that_of_momentary_events() {
        const MIB: usize = 1_024 * 1_024;
        let log = empty();
        let of = |weight: usize| {
            let event = |data| HubEvent::ClientEvent {
                channel: channel("t"),
                name: String::new(),
                data,
                socket_id: crate::protocol::SocketId::from_random(1),
                user_id: None,
            };
            let rest = event(String::new()).weight();
            event("x".repeat(weight - rest))
        };
        assert_eq!(log.append(of(8 * MIB)), Ok(()));
        assert_eq!(log.append(of(8 * MIB + 1)), Err(Full));
        assert_eq!(log.append(of(8 * MIB)), Ok(()));
        assert_eq!(log.append(of(1_024)), Err(Full));
        let [occupied, ..] = one_of_each();
        let room = (16 * MIB) / occupied.weight();
        assert!((0..room).all(|_| log.append(occupied.clone()) == Ok(())));
        assert_eq!(log.append(occupied.clone()), Err(Full));
        let mut read = Vec::new();
        while log.entries.lock().bytes > 0 {
            log.read_now(&mut read);
        }
        assert_eq!(events(&mut read).len(), room + 2);
    }

    #[test]
    fn settings_are_appended_even_to_a_full_log() {
        let log = empty();
        while log.append(large()).is_ok() {}
        let [occupied, ..] = one_of_each();
        while log.append(occupied.clone()).is_ok() {}
        let (before, after) = (log.settings(), settings());
        log.append_settings(Arc::clone(&after));
        assert!(Arc::ptr_eq(&log.settings(), &before), "until it is read");
        let mut read = Vec::new();
        while log.entries.lock().bytes > 0 {
            log.read_now(&mut read);
        }
        log.read_now(&mut read);
        assert!(matches!(read.last(), Some(LogEntry::Settings(last)) if Arc::ptr_eq(last, &after)));
        assert!(Arc::ptr_eq(&log.settings(), &after));
    }

    #[test]
    fn a_full_log_still_has_room_for_paired_events() {
        let log = empty();
        let taken = (0..100).filter(|_| log.append(large()).is_ok()).count();
        assert_eq!(taken, 15, "each takes a little more than 1 MiB");
        let [occupied, ..] = one_of_each();
        let taken = (0..1_000_000).filter(|_| log.append(occupied.clone()).is_ok()).count();
        assert!(100_000 < taken && taken < 1_000_000, "{taken}");
        assert!(log.entries.lock().bytes <= LOG_BYTES_MAX);
        assert_eq!(log.append(occupied), Err(Full));
    }
}
