//! The latest closed and rejected connections, failed authorizations, deliveries of webhooks and
//! warnings of this process, for its console.
//!
//! They are recorded only while there is a console, never on the path of an event. A record never
//! waits: it is dropped if another thread has the lock or the rate is exceeded.

use crate::{
    protocol::SocketId,
    rate::{Rate, TokenBucket},
};
use bytes::Bytes;
use parking_lot::{Mutex, const_mutex};
use serde_json::Value;
use std::{
    collections::VecDeque,
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
#[derive(Debug)]
pub struct WebhookAttempt {
    /// The id of the app.
    pub app: String,
    /// The name of the webhook.
    pub webhook: String,
    /// Scheme, host and port of the endpoint.
    pub endpoint: String,
    /// The body, unless it is large.
    pub body: Option<Bytes>,
    /// Whether an earlier attempt has failed.
    pub is_retry: bool,
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

/// A record with its number and the time at which it was recorded.
#[derive(Debug)]
pub struct Recorded<T> {
    /// Ascending, and never used twice.
    pub number: u64,
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
}

/// Maximum number of records of a kind that are kept.
const RECORDS_MAX: usize = 200;
/// Maximum number of records of a kind in a second; further ones are dropped.
const PER_SECOND: u32 = 200;
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
        Self(const_mutex(Records { latest: VecDeque::new(), recorded: 0, rate: None }))
    }

    /// Records what `make` makes, if there is a console and the rate allows it. Never waits.
    pub fn record(&self, make: impl FnOnce() -> T) {
        if is_on()
            && let Some(mut records) = self.0.try_lock()
        {
            records.add(make, Instant::now());
        }
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

impl<T> Records<T> {
    fn add(&mut self, make: impl FnOnce() -> T, now: Instant) {
        let bucket = self.rate.get_or_insert_with(|| TokenBucket::full(now));
        if bucket.take(Rate::per_second(PER_SECOND), now).is_err() {
            return;
        }
        if RECORDS_MAX <= self.latest.len() {
            self.latest.pop_front();
        }
        self.recorded += 1;
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.latest.push_back(Arc::new(Recorded {
            number: self.recorded,
            time_ms,
            record: make(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_latest_records_are_kept_within_a_rate() {
        let recent: Recent<u32> = Recent::new();
        let mut now = Instant::now();
        let add = |value: u32, now| recent.0.lock().add(|| value, now);
        for value in 0..300 {
            add(value, now);
        }
        assert_eq!(recent.since(0).len(), PER_SECOND as usize, "the rest was dropped");
        now += Duration::from_secs(1);
        add(1_000, now);
        let all = recent.since(0);
        assert_eq!(all.len(), RECORDS_MAX);
        assert_eq!((all[0].record, all[RECORDS_MAX - 1].record), (1, 1_000));
        let latest = recent.since(u64::from(PER_SECOND));
        assert_eq!((latest.len(), latest[0].record), (1, 1_000));
        assert_eq!(recent.since(latest[0].number).len(), 0);
    }

    #[test]
    fn a_record_does_not_wait() {
        let recent: Recent<u32> = Recent::new();
        let reading = recent.0.lock();
        set_on(true);
        recent.record(|| unreachable!("another thread has the lock"));
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
