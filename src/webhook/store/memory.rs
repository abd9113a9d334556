//! The log of observed events of an app on a single node.

use super::log::{Commit, EventLog, Full, NotCommitted, Poll, RECORDS_MAX, Records};
use crate::{
    broker::Unavailable,
    clock::now,
    hub::HubEvent,
    webhook::{
        batch::Batch,
        debouncer::Debouncer,
        envelope::{self, WebhookRequest},
        queue::memory::MemoryQueue,
        settings::AppWebhookSettings,
        store::log::bytes_max,
    },
};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc, time::Instant};
use tokio::sync::Notify;

/// An entry of the log.
#[derive(Debug)]
enum LogEntry {
    /// An event, and when it was appended, in ms of the log's clock.
    HubEvent(u64, HubEvent),
    /// The settings that apply to the following entries.
    Settings(Arc<AppWebhookSettings>),
}

/// The log of one app in memory: every thread that observes an event appends, one task reads.
#[derive(Debug)]
pub(in crate::webhook) struct MemoryLog {
    entries: Mutex<Unread>,
    /// Notified when an entry is the first, or completes a batch.
    filled: Notify,
    /// The beginning of the log's clock.
    began: Instant,
}

#[derive(Debug)]
struct Unread {
    /// The settings that apply to the first of the entries.
    settings: Arc<AppWebhookSettings>,
    entries: VecDeque<LogEntry>,
    /// The bytes of the events. Settings count nothing: there is at most one for each reload.
    bytes: usize,
}

impl MemoryLog {
    /// An empty log with the settings for its first entries.
    pub(in crate::webhook) fn new(settings: Arc<AppWebhookSettings>) -> Self {
        let entries = Unread { settings, entries: VecDeque::new(), bytes: 0 };
        Self { entries: Mutex::new(entries), filled: Notify::new(), began: now() }
    }

    /// Appends an event. Never blocks: the caller may hold a channel's lock.
    ///
    /// # Errors
    ///
    /// [`Full`] if it was dropped.
    pub(in crate::webhook) fn append(&self, hub_event: HubEvent) -> Result<(), Full> {
        let mut log = self.entries.lock();
        let bytes = log.bytes + hub_event.memory_bytes();
        if bytes_max(&hub_event) < bytes {
            return Err(Full);
        }
        log.bytes = bytes;
        log.entries.push_back(LogEntry::HubEvent(self.now_ms(), hub_event));
        let len = log.entries.len();
        drop(log);
        // Otherwise the reader reads again by itself.
        if len == 1 || len == Batch::EVENTS_MAX {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// The settings that apply to the next event.
    fn settings(&self) -> Arc<AppWebhookSettings> {
        Arc::clone(&self.entries.lock().settings)
    }

    /// Appends settings, which apply to all later entries.
    pub(in crate::webhook) fn append_settings(&self, settings: Arc<AppWebhookSettings>) {
        self.entries.lock().entries.push_back(LogEntry::Settings(settings));
        self.filled.notify_one();
    }

    /// The log's clock, in ms.
    fn now_ms(&self) -> u64 {
        let since = now().saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Removes the oldest events, at most [`RECORDS_MAX`] and none after a change of settings; or
    /// that change, if it is first.
    fn read(&self) -> Poll {
        let mut log = self.entries.lock();
        let mut events = Vec::new();
        while events.len() < RECORDS_MAX {
            match log.entries.pop_front() {
                None => break,
                Some(LogEntry::HubEvent(at_ms, hub_event)) => {
                    log.bytes -= hub_event.memory_bytes();
                    events.push((at_ms, hub_event));
                }
                Some(LogEntry::Settings(settings)) if events.is_empty() => {
                    log.settings = Arc::clone(&settings);
                    return Poll::Settings(settings);
                }
                Some(entry @ LogEntry::Settings(_)) => {
                    log.entries.push_front(entry);
                    break;
                }
            }
        }
        let is_all = log.entries.is_empty();
        if is_all {
            log.entries = VecDeque::new();
        }
        drop(log);
        let (now_ms, time_ms) = (self.now_ms(), envelope::time_ms());
        Poll::Records(Records { events, is_all, now_ms, time_ms, ..Records::default() })
    }

    /// Waits until there are this many entries. Safe to cancel.
    async fn has_entries(&self, count: usize) {
        while self.entries.lock().entries.len() < count {
            self.filled.notified().await;
        }
    }
}

impl EventLog for MemoryLog {
    type Queue = MemoryQueue;

    fn start(&self) -> (Debouncer, Arc<AppWebhookSettings>) {
        (Debouncer::for_memory_log(), self.settings())
    }

    fn queues(
        &self,
        settings: &AppWebhookSettings,
        _before: &[Arc<MemoryQueue>],
    ) -> Vec<Arc<MemoryQueue>> {
        settings.endpoints.iter().map(|endpoint| Arc::clone(&endpoint.queue)).collect()
    }

    async fn poll(
        &self,
        _settings: &Arc<AppWebhookSettings>,
        _queues: &[Arc<MemoryQueue>],
    ) -> Result<Poll, Unavailable> {
        Ok(self.read())
    }

    /// Queues the requests. The poll has removed the records: no other node can read them.
    async fn commit(
        &self,
        settings: &AppWebhookSettings,
        _queues: &[Arc<MemoryQueue>],
        commit: Commit,
    ) -> Result<usize, NotCommitted> {
        let created_at = now();
        for request in commit.requests {
            let endpoint = &settings.endpoints[request.endpoint];
            let (body, events) = (request.body, request.events);
            endpoint.push(WebhookRequest::with_body(&settings.signer, body, events, created_at));
        }
        Ok(0)
    }

    async fn has_records(&self) {
        self.has_entries(1).await;
    }

    async fn has_full_batch(&self) {
        self.has_entries(Batch::EVENTS_MAX).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::{channel, one_of_each};
    use crate::webhook::store::log::LOG_BYTES_MAX;
    use futures_util::FutureExt as _;
    use std::time::Duration;
    use tokio::time::sleep;

    fn settings() -> Arc<AppWebhookSettings> {
        let app = crate::config::AppConfig::development();
        Arc::new(AppWebhookSettings::new(&app, Duration::ZERO).unwrap())
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

    /// The next events, without their times.
    fn events(log: &MemoryLog) -> (Vec<HubEvent>, bool) {
        let Poll::Records(records) = log.read() else { panic!("they are events") };
        assert!(
            records.debouncer.is_none() && records.renew_at.is_none() && records.read.count == 0
        );
        let events = records.events.into_iter().map(|(_, hub_event)| hub_event).collect();
        (events, records.is_all)
    }

    fn all_events(log: &MemoryLog) -> usize {
        let (events, is_all) = events(log);
        if is_all { events.len() } else { events.len() + all_events(log) }
    }

    fn count(count: usize) -> HubEvent {
        HubEvent::SubscriptionCount { channel: channel("t"), count }
    }

    #[test]
    fn events_are_read_in_order_and_in_parts_of_a_thousand() {
        let log = empty();
        for number in 0..=1_000 {
            assert_eq!(log.append(count(number)), Ok(()));
        }
        assert_eq!(events(&log), ((0..1_000).map(count).collect(), false));
        assert_eq!(events(&log), (vec![count(1_000)], true));
        assert_eq!(events(&log), (vec![], true));
        for number in 0..1_000 {
            assert_eq!(log.append(count(number)), Ok(()));
        }
        assert_eq!(events(&log), ((0..1_000).map(count).collect(), true));
        assert_eq!(log.entries.lock().bytes, 0);
        assert_eq!(log.entries.lock().entries.capacity(), 0, "memory returns");
    }

    #[tokio::test(start_paused = true)]
    async fn events_have_the_time_of_their_observation() {
        let log = empty();
        for _ in 0..2 {
            sleep(Duration::from_millis(7)).await;
            log.append(count(1)).unwrap();
        }
        sleep(Duration::from_millis(7)).await;
        let Poll::Records(records) = log.read() else { panic!("they are events") };
        let times: Vec<u64> = records.events.iter().map(|(at_ms, _)| *at_ms).collect();
        assert_eq!((times, records.now_ms), (vec![7, 14], 21));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_reader_is_woken_by_the_first_event_and_by_that_which_completes_a_batch() {
        let log = empty();
        let is_woken =
            |reader: &mut (dyn Future<Output = ()> + Unpin)| reader.now_or_never().is_some();
        let (mut first, mut full) = (Box::pin(log.has_records()), Box::pin(log.has_full_batch()));
        assert!(!is_woken(&mut first));
        log.append(count(1)).unwrap();
        assert!(is_woken(&mut first));
        for number in 2..100 {
            log.append(count(number)).unwrap();
            assert!(!is_woken(&mut full), "{number}");
        }
        log.append(count(100)).unwrap();
        assert!(is_woken(&mut full));
    }

    #[test]
    fn events_are_read_until_a_change_of_settings_and_after_it() {
        let (log, [first, second]) = (empty(), [settings(), settings()]);
        let is_read = |expected: &Arc<AppWebhookSettings>| match log.read() {
            Poll::Settings(settings) => Arc::ptr_eq(&settings, expected),
            other @ (Poll::Records(_) | Poll::StandBy(_) | Poll::NoEndpoints) => {
                panic!("{other:?}")
            }
        };
        log.append(count(1)).unwrap();
        log.append_settings(Arc::clone(&first));
        log.append_settings(Arc::clone(&second));
        log.append(count(2)).unwrap();
        assert_eq!(events(&log), (vec![count(1)], false));
        assert!(is_read(&first) && Arc::ptr_eq(&log.settings(), &first));
        assert!(is_read(&second) && Arc::ptr_eq(&log.settings(), &second));
        assert_eq!(events(&log), (vec![count(2)], true));
    }

    #[test]
    fn the_log_holds_32_mib_and_half_of_that_of_momentary_events() {
        const MIB: usize = 1_024 * 1_024;
        let log = empty();
        let of = |bytes: usize| {
            let event = |data| HubEvent::ClientEvent {
                channel: channel("t"),
                name: String::new(),
                data,
                socket_id: crate::protocol::SocketId::from_random(1),
                user_id: None,
            };
            let rest = event(String::new()).memory_bytes();
            event("x".repeat(bytes - rest))
        };
        assert_eq!(log.append(of(8 * MIB)), Ok(()));
        assert_eq!(log.append(of(8 * MIB + 1)), Err(Full));
        assert_eq!(log.append(of(8 * MIB)), Ok(()));
        assert_eq!(log.append(of(1_024)), Err(Full));
        let [occupied, ..] = one_of_each();
        let room = (16 * MIB) / occupied.memory_bytes();
        assert!((0..room).all(|_| log.append(occupied.clone()) == Ok(())));
        assert_eq!(log.append(occupied.clone()), Err(Full));
        assert_eq!(all_events(&log), room + 2);
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
        while let Poll::Records(records) = log.read() {
            assert!(!records.is_all && Arc::ptr_eq(&log.settings(), &before));
        }
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
