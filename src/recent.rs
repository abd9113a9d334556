//! The latest closed and rejected connections, failed authorizations, deliveries of webhooks and
//! warnings of this process, for its console.
//!
//! They are recorded only while there is a console, never on the path of an event. A record never
//! waits: it is dropped if another thread has the lock or the rate is exceeded. What one app or one
//! client causes does not displace the records of the others.

use crate::{
    config::Secret,
    protocol::{ChannelName, SocketId},
    rate::{Rate, TokenBucket},
};
use bytes::Bytes;
use parking_lot::{Mutex, const_mutex};
use serde_json::Value;
use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

/// A closed connection.
#[derive(Debug)]
pub struct ClosedConnection {
    /// The id of its app.
    pub app: Arc<str>,
    /// Its socket id.
    pub socket_id: SocketId,
    /// The client's address.
    pub address: IpAddr,
    /// The page that opened it.
    pub origin: Option<Box<str>>,
    /// The user that it was signed in as.
    pub user_id: Option<Arc<str>>,
    /// The number of its subscriptions when it was closed.
    pub subscriptions: usize,
    /// The channels of these subscriptions, or some of many.
    pub channels: Vec<ChannelName>,
    /// The number of messages that it has sent.
    pub messages_in: u64,
    /// The number of messages that were written to it.
    pub messages_out: u64,
    /// How long it was open, in milliseconds.
    pub duration_ms: u64,
    /// The close code; `None` without a close frame.
    pub code: Option<u16>,
    /// The label of the reason.
    pub reason: &'static str,
    /// The message of the server's close frame.
    pub message: Option<String>,
}

/// A rejected connection.
#[derive(Debug)]
pub struct RejectedConnection {
    /// The id of the app with the key, if there is one.
    pub app: Option<Arc<str>>,
    /// The client's address.
    pub address: IpAddr,
    /// The key that it named, cut.
    pub key: String,
    /// The page that opened it, cut.
    pub origin: Option<String>,
    /// The close code.
    pub code: u16,
    /// The label of the reason.
    pub reason: &'static str,
    /// The message of the close frame.
    pub message: String,
}

/// A subscription or a sign-in whose authorization was wrong.
#[derive(Debug)]
pub struct FailedAuthorization {
    /// The id of the app.
    pub app: Arc<str>,
    /// The connection.
    pub socket_id: SocketId,
    /// The client's address.
    pub address: IpAddr,
    /// The channel, cut; `None` for a sign-in.
    pub channel: Option<String>,
    /// The key that was sent, cut; `None` if the authorization was missing or malformed.
    pub key: Option<String>,
    /// The signature that was sent, cut.
    pub signature: Option<String>,
    /// The string that should have been signed, cut.
    pub string_to_sign: Option<String>,
    /// What is wrong.
    pub why: String,
}

/// An attempt to deliver a request of a webhook.
#[derive(Clone, Debug)]
pub struct WebhookAttempt {
    /// The id of the app.
    pub app: Arc<str>,
    /// The name of the webhook.
    pub webhook: String,
    /// The URL of the endpoint, which may contain a token.
    pub url: Secret,
    /// Scheme, host and port of the endpoint.
    pub endpoint: String,
    /// The body, unless it is large.
    pub body: Option<Bytes>,
    /// Whether an earlier attempt has failed.
    pub is_retry: bool,
    /// Whether the events have left the queue without being delivered.
    pub is_given_up: bool,
    /// The status of the response.
    pub status: Option<u16>,
    /// Why there was no response.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A warning or an error of the log.
#[derive(Debug)]
pub struct Warning {
    /// `WARN` or `ERROR`.
    pub level: &'static str,
    /// The message.
    pub message: String,
    /// The fields of the line, as it has them.
    pub fields: serde_json::Map<String, Value>,
}

/// Who has caused a record: an app, and one of its clients. `None` where it is not known.
pub type Cause<'a> = (Option<&'a str>, Option<IpAddr>);

/// What is recorded.
pub trait Record {
    /// Who has caused it.
    fn cause(&self) -> Cause<'_>;
}

impl Record for ClosedConnection {
    fn cause(&self) -> Cause<'_> {
        (Some(&self.app), Some(self.address))
    }
}

impl Record for RejectedConnection {
    fn cause(&self) -> Cause<'_> {
        (self.app.as_deref(), Some(self.address))
    }
}

impl Record for FailedAuthorization {
    fn cause(&self) -> Cause<'_> {
        (Some(&self.app), Some(self.address))
    }
}

impl Record for WebhookAttempt {
    fn cause(&self) -> Cause<'_> {
        (Some(&self.app), None)
    }
}

impl Record for Warning {
    fn cause(&self) -> Cause<'_> {
        (None, None)
    }
}

/// A record with its number and the time at which it was recorded.
#[derive(Debug)]
pub struct Recorded<T> {
    /// Ascending, and never used twice. It changes when the record changes.
    pub number: u64,
    /// The number that it had first.
    pub id: u64,
    /// In milliseconds since 1970.
    pub time_ms: u64,
    /// What was recorded.
    pub record: T,
}

/// The latest records of one kind.
#[derive(Debug)]
pub struct Recent<T>(Mutex<Records<T>>);

#[derive(Debug)]
struct Records<T> {
    latest: VecDeque<Arc<Recorded<T>>>,
    recorded: u64,
    rate: Option<TokenBucket>,
    /// The rates of the apps with recent records; `None` is the rate of records without an app.
    rates_by_app: Option<HashMap<Option<Arc<str>>, TokenBucket>>,
}

/// Maximum number of records of a kind that are kept.
const RECORDS_MAX: usize = 200;
/// Maximum number of records of a kind in a second, of all apps and of one; further ones are dropped.
const PER_SECOND: u32 = 800;
const PER_SECOND_OF_APP: u32 = 200;
/// Maximum number of apps whose rates are known.
const APPS_MAX: usize = 256;
/// Maximum length of a text of a client that is kept, in bytes.
pub const TEXT_MAX: usize = 2_048;
/// Maximum size of a body of a webhook that is kept, in bytes.
pub const BODY_MAX: usize = 16 * 1_024;

static IS_ON: AtomicBool = AtomicBool::new(false);
/// The latest closed connections.
pub static CLOSED: Recent<ClosedConnection> = Recent::new();
/// The latest rejected connections.
pub static REJECTED: Recent<RejectedConnection> = Recent::new();
/// The latest failed authorizations.
pub static AUTHORIZATIONS: Recent<FailedAuthorization> = Recent::new();
/// The latest attempts to deliver webhooks.
pub static WEBHOOKS: Recent<WebhookAttempt> = Recent::new();
/// The latest warnings and errors.
pub static WARNINGS: Recent<Warning> = Recent::new();

/// Sets whether there is a console. Without one nothing is kept.
pub fn set_on(is_on: bool) {
    IS_ON.store(is_on, Ordering::Relaxed);
    if !is_on {
        CLOSED.clear();
        REJECTED.clear();
        AUTHORIZATIONS.clear();
        WEBHOOKS.clear();
        WARNINGS.clear();
    }
}

/// Whether there is a console.
#[must_use]
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// The beginning of a text that a client chose.
#[must_use]
pub fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

impl<T> Recent<T> {
    const fn new() -> Self {
        let records =
            Records { latest: VecDeque::new(), recorded: 0, rate: None, rates_by_app: None };
        Self(const_mutex(records))
    }

    fn clear(&self) {
        self.0.lock().latest.clear();
    }

    /// The records after the one with this number, the oldest first.
    #[must_use]
    pub fn since(&self, number: u64) -> Vec<Arc<Recorded<T>>> {
        let records = self.0.lock();
        records.latest.iter().filter(|record| number < record.number).cloned().collect()
    }
}

impl<T: Record> Recent<T> {
    /// Records what `make` makes, if there is a console and the rate of the app allows it. Never
    /// waits. Returns the id of the record.
    pub fn record(&self, app: Option<&str>, make: impl FnOnce() -> T) -> Option<u64> {
        if !is_on() {
            return None;
        }
        self.0.try_lock()?.add(app, make, Instant::now())
    }

    /// Replaces the record with this id, if it is still kept. Waits for other threads.
    pub fn change(&self, id: u64, change: impl FnOnce(&T) -> T) {
        let mut records = self.0.lock();
        let Some(at) = records.latest.iter().position(|record| record.id == id) else { return };
        let Some(before) = records.latest.remove(at) else { return };
        records.recorded += 1;
        let number = records.recorded;
        let record = change(&before.record);
        let changed = Recorded { number, id, time_ms: before.time_ms, record };
        records.latest.push_back(Arc::new(changed));
    }
}

impl<T: Record> Records<T> {
    fn add(&mut self, app: Option<&str>, make: impl FnOnce() -> T, now: Instant) -> Option<u64> {
        if !self.admits(app, now) {
            return None;
        }
        if RECORDS_MAX <= self.latest.len() {
            self.make_room();
        }
        self.recorded += 1;
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let number = self.recorded;
        self.latest.push_back(Arc::new(Recorded { number, id: number, time_ms, record: make() }));
        Some(number)
    }

    /// Whether the rates of the app and of all apps allow another record.
    fn admits(&mut self, app: Option<&str>, now: Instant) -> bool {
        let rates = self.rates_by_app.get_or_insert_default();
        let app = app.map(Arc::<str>::from);
        if APPS_MAX <= rates.len() && !rates.contains_key(&app) {
            rates.retain(|_, rate| !rate.is_full(now));
            if APPS_MAX <= rates.len() {
                return false;
            }
        }
        let of_app = rates.entry(app).or_insert_with(|| TokenBucket::full(now));
        let of_all = self.rate.get_or_insert_with(|| TokenBucket::full(now));
        of_app.take(Rate::per_second(PER_SECOND_OF_APP), now).is_ok()
            && of_all.take(Rate::per_second(PER_SECOND), now).is_ok()
    }

    /// Removes the oldest record of the app that has the most, and there of the client that has the
    /// most.
    fn make_room(&mut self) {
        let app = most_frequent(self.latest.iter().map(|record| record.record.cause().0));
        let of_app = self.latest.iter().map(|record| record.record.cause());
        let clients = of_app.filter(|(of, _)| Some(*of) == app).map(|(_, client)| client);
        let client = most_frequent(clients);
        let cause = app.zip(client);
        let oldest = self.latest.iter().position(|record| Some(record.record.cause()) == cause);
        self.latest.remove(oldest.unwrap_or_default());
    }
}

/// The value that occurs most; of several the one that occurs first.
fn most_frequent<V: Copy + Eq + Hash>(values: impl Iterator<Item = V> + Clone) -> Option<V> {
    let first = values.clone().next()?;
    // Usually there is one, which is found without counting.
    if values.clone().all(|value| value == first) {
        return Some(first);
    }
    let mut counts: HashMap<V, (usize, Reverse<usize>)> = HashMap::new();
    for (at, value) in values.enumerate() {
        counts.entry(value).or_insert((0, Reverse(at))).0 += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A record of tests: an app and one of its clients, by the last part of its address, and a value.
    type TestRecord = (&'static str, u8, usize);

    impl Record for TestRecord {
        fn cause(&self) -> Cause<'_> {
            (Some(self.0), Some([127, 0, 0, self.1].into()))
        }
    }

    fn add(recent: &Recent<TestRecord>, record: TestRecord, now: Instant) -> Option<u64> {
        recent.0.lock().add(Some(record.0), || record, now)
    }

    #[test]
    fn the_latest_records_are_kept_within_a_rate() {
        let recent = Recent::new();
        let mut now = Instant::now();
        for value in 0..300 {
            add(&recent, ("a", 1, value), now);
        }
        assert_eq!(recent.since(0).len(), PER_SECOND_OF_APP as usize, "the rest was dropped");
        assert!(add(&recent, ("b", 1, 0), now).is_some(), "another app has a rate of its own");
        now += Duration::from_secs(1);
        add(&recent, ("a", 1, 1_000), now);
        let all = recent.since(0);
        assert_eq!(all.len(), RECORDS_MAX);
        assert_eq!((all[0].record.2, all[RECORDS_MAX - 1].record.2), (2, 1_000));
        let latest = recent.since(all[RECORDS_MAX - 2].number);
        assert_eq!((latest.len(), latest[0].record.2), (1, 1_000));
        assert_eq!(recent.since(latest[0].number).len(), 0);
    }

    #[test]
    fn all_apps_together_have_a_rate() {
        let (recent, now) = (Recent::new(), Instant::now());
        let apps = ["a", "b", "c", "d", "e"].iter().flat_map(|app| [*app; 250]);
        let added = apps.filter(|app| add(&recent, (app, 1, 0), now).is_some()).count();
        assert_eq!(added, PER_SECOND as usize);
    }

    #[test]
    fn the_number_of_known_rates_is_bounded() {
        let (recent, now) = (Recent::new(), Instant::now());
        let apps: Vec<_> = (0..=APPS_MAX).map(|app| app.to_string()).collect();
        let mut records = recent.0.lock();
        let mut add = |app: &String, now| records.add(Some(app), || ("", 1, 0), now);
        for app in &apps[..APPS_MAX] {
            assert!(add(app, now).is_some());
        }
        assert_eq!(add(&apps[APPS_MAX], now), None);
        assert!(add(&apps[APPS_MAX], now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn an_app_or_a_client_displaces_its_own_records_and_not_those_of_others() {
        let recent = Recent::new();
        let mut now = Instant::now();
        add(&recent, ("quiet", 1, 0), now);
        add(&recent, ("loud", 1, 0), now);
        for value in 0..1_000 {
            now += Duration::from_millis(10);
            add(&recent, ("loud", 2, value), now);
        }
        let all = recent.since(0);
        assert_eq!(all.len(), RECORDS_MAX);
        assert_eq!((all[0].record, all[1].record), (("quiet", 1, 0), ("loud", 1, 0)));
        assert_eq!((all[2].record.2, all[RECORDS_MAX - 1].record.2), (802, 999));
    }

    #[test]
    fn a_changed_record_has_a_new_number_and_keeps_its_id() {
        let (recent, now) = (Recent::new(), Instant::now());
        let first = add(&recent, ("a", 1, 1), now).unwrap();
        let second = add(&recent, ("a", 1, 2), now).unwrap();
        recent.change(first, |before| (before.0, before.1, 3));
        let changed = recent.since(second);
        assert_eq!((changed.len(), changed[0].id, changed[0].record.2), (1, first, 3));
        assert_eq!(recent.since(0).len(), 2);
        recent.change(4_711, |_| unreachable!("it is not kept"));
    }

    #[test]
    fn a_record_does_not_wait() {
        let recent: Recent<TestRecord> = Recent::new();
        let reading = recent.0.lock();
        set_on(true);
        recent.record(Some("a"), || unreachable!("another thread has the lock"));
        drop(reading);
        assert!(recent.since(0).is_empty());
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"\u{e9}".repeat(TEXT_MAX)).len(), TEXT_MAX);
        assert_eq!(cut(&format!("x{}", "\u{e9}".repeat(TEXT_MAX))).len(), TEXT_MAX - 1);
    }
}
