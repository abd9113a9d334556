//! The reasons for which this node is not joined, with texts for operators, and their log lines.

use super::clock::now;
use redis::{ErrorKind, RedisError};
use std::{
    collections::BTreeSet,
    error::Error as _,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

/// The reason why this node is not joined. Never contains a password or a URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct UnavailableReason {
    /// The value of the label in metrics.
    pub(super) kind: &'static str,
    pub(super) text: Arc<str>,
}

/// The maximum length of a quoted error of Redis, in bytes.
const QUOTED_MAX: usize = 200;
/// Redis quotes the arguments of a command after these words. A password may be one of them.
const ARGUMENTS: &str = ", with args beginning with";

/// Errors of Redis by code: the kind, the explanation, and whether the error is quoted.
const REDIS_ERRORS: [(&str, &str, &str, bool); 16] = [
    ("NOPERM", "permissions", "the Redis user lacks a permission", true),
    ("can't run this command", "permissions", "the Redis user lacks a permission", true),
    ("WRONGPASS", "password", "redis rejects the password", false),
    ("NOAUTH", "password", "redis rejects the password: it needs one", false),
    ("READONLY", "read_only", "redis is read-only: it is a replica", false),
    ("OOM", "memory", "redis is out of memory", false),
    ("MISCONF", "persistence", "redis can't save, and rejects writes (MISCONF)", false),
    ("NOREPLICAS", "replicas", "redis has too few replicas to write (NOREPLICAS)", false),
    ("LOADING", "loading", "redis is loading its data", false),
    ("BUSY", "busy", "redis is busy with a script (BUSY)", false),
    ("CLUSTERDOWN", "cluster_down", "the Redis Cluster is down", true),
    ("MASTERDOWN", "replica", "this Redis is a replica that has lost its master", false),
    (
        "WRONGTYPE",
        "unexpected_data",
        "a key under redis.prefix has an unexpected type (WRONGTYPE)",
        false,
    ),
    ("MOVED", "cluster", "redis is a node of a Redis Cluster: use a redis+cluster:// URL", false),
    (
        "CROSSSLOT",
        "cluster",
        "redis is a node of a Redis Cluster: use a redis+cluster:// URL",
        false,
    ),
    ("DENIED", "rejected", "redis is in protected mode: it rejects other hosts (DENIED)", false),
];

/// Whether Redis reported that it has not executed the command.
pub(super) fn was_rejected(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

impl From<&'static str> for UnavailableReason {
    fn from(text: &'static str) -> Self {
        Self { kind: "link", text: text.into() }
    }
}

impl From<&RedisError> for UnavailableReason {
    fn from(error: &RedisError) -> Self {
        let (code, detail) = (error.code().unwrap_or_default(), error.detail().unwrap_or_default());
        // Older servers wrap an error within a script in an error of their own.
        let names = |name: &str| {
            code == name
                || matches!(code, "" | "ERR") && detail.split(' ').any(|word| is(word, name))
        };
        let is_match = |name: &str| names(name) || (name.contains(' ') && detail.contains(name));
        if let Some((_, kind, text, is_quoted)) =
            REDIS_ERRORS.iter().find(|(name, ..)| is_match(name))
        {
            let text = if *is_quoted {
                format!("{text}: {}", quoted(&[code, detail].join(" ")))
            } else {
                (*text).to_owned()
            };
            return Self { kind, text: text.into() };
        }
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Self { kind: "password", text: "redis rejects the password".into() };
        }
        if error.is_timeout() {
            return Self { kind: "unreachable", text: "redis does not answer".into() };
        }
        if error.is_io_error() {
            let text = io_text(error);
            if text.contains("is a replica") {
                return Self { kind: "read_only", text: text.into() };
            }
            let text = format!("redis can't be reached: {text}");
            return Self { kind: "unreachable", text: text.into() };
        }
        if !code.is_empty() {
            let text = format!("redis rejected a command: {}", quoted(&[code, detail].join(" ")));
            return Self { kind: "rejected", text: text.into() };
        }
        // The client library appends the kind of its own errors to the text.
        let text = error.to_string();
        let text = text.strip_suffix(&format!(" - {:?}", error.kind())).unwrap_or(&text);
        Self { kind: "other", text: quoted(text).into() }
    }
}

impl UnavailableReason {
    /// The reason for a Redis whose keys have another layout.
    pub(super) fn other_layout(text: &str) -> Self {
        Self { kind: "layout", text: text.into() }
    }
}

/// Whether a word of an error is this code, with or without a leading `-`.
fn is(word: &str, code: &str) -> bool {
    word.trim_start_matches('-').trim_end_matches(':') == code
}

/// The error of the operating system or of TLS, without the client library's words.
fn io_text(error: &RedisError) -> String {
    if error.is_connection_refusal() {
        return "connection refused".to_owned();
    }
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    quoted(&source.map_or_else(|| error.to_string(), ToString::to_string))
}

/// The beginning of a text, on one line, without arguments of a command that the server repeats.
fn quoted(text: &str) -> String {
    let text = text.split(ARGUMENTS).next().unwrap_or_default().trim();
    let mut end = text.len().min(QUOTED_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(char::is_control, " ")
}

/// Limits the log lines about this node not being joined: each reason once, then the number of
/// attempts once a minute. A node that repeatedly joins and loses its link logs no more than that.
#[derive(Debug, Default)]
pub(super) struct LinkLog {
    /// Since when the node is not joined; `None` while it is.
    since: Option<Instant>,
    /// The reasons that were logged since then.
    logged: BTreeSet<Arc<str>>,
    /// Failed attempts since the last line.
    attempts: u64,
    last: Option<Instant>,
    /// The start of the current minute, and the number of lines in it.
    minute: Option<(Instant, u32)>,
}

/// The interval between lines while no new reason occurs.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The maximum number of lines in a minute.
const LINES_MAX: u32 = 8;

impl LinkLog {
    /// Records a failed attempt. Returns the number of failed attempts since the last line, if a
    /// line is due.
    fn failed(&mut self, reason: &Arc<str>, now: Instant) -> Option<u64> {
        self.attempts += 1;
        self.since.get_or_insert(now);
        let is_known = self.logged.contains(reason);
        let is_recent =
            self.last.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL);
        if is_recent && (is_known || !self.may_log(now)) {
            return None;
        }
        self.logged.insert(Arc::clone(reason));
        self.last = Some(now);
        Some(std::mem::take(&mut self.attempts))
    }

    /// Records that the node has joined. Returns for how long it was not, if a line is due.
    fn joined(&mut self, now: Instant) -> Option<Duration> {
        let downtime = now.saturating_duration_since(self.since.take()?);
        self.logged.clear();
        self.may_log(now).then_some(downtime)
    }

    fn may_log(&mut self, now: Instant) -> bool {
        let minute = self
            .minute
            .filter(|(began, _)| now.saturating_duration_since(*began) < LOG_INTERVAL)
            .unwrap_or((now, 0));
        self.minute = Some((minute.0, minute.1 + 1));
        minute.1 < LINES_MAX
    }

    /// Logs a failed attempt, if a line is due.
    pub(super) fn log_failed(&mut self, reason: &UnavailableReason) {
        if let Some(attempts) = self.failed(&reason.text, now()) {
            let reason = &*reason.text;
            tracing::warn!(reason, attempts, "not connected to the cluster");
        }
    }

    /// Logs that the node has joined, if a line is due.
    pub(super) fn log_joined(&mut self, node: &str, others: usize) {
        match self.since {
            None => tracing::info!(node, others, "joined the cluster"),
            Some(_) => {
                if let Some(downtime) = self.joined(now()) {
                    let downtime_s = downtime.as_secs_f64();
                    tracing::info!(node, others, downtime_s, "rejoined the cluster");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::{Value, parse_redis_value};

    /// The error of a reply, as the client library parses it.
    fn error(reply: &str) -> RedisError {
        let value = parse_redis_value(format!("-{reply}\r\n").as_bytes());
        let Value::ServerError(error) = value.unwrap() else { panic!("no error: {reply}") };
        error.into()
    }

    #[test]
    fn a_reason_explains_the_error() {
        for (reply, kind, text) in [
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "password",
                "rejects the password",
            ),
            (
                "NOAUTH HELLO must be called with the client already authenticated",
                "password",
                "it needs one",
            ),
            (
                "NOPERM this user has no permissions to run the 'evalsha' command",
                "permissions",
                "run the 'evalsha' command",
            ),
            (
                "NOPERM ACL failure in script: No permissions to access a key",
                "permissions",
                "to access a key",
            ),
            (
                "ERR Error running script (call to f_1): @user_script:5: @user_script: 5: \
                 The user executing the script can't run this command or subcommand",
                "permissions",
                "lacks a permission",
            ),
            ("READONLY You can't write against a read only replica.", "read_only", "read-only"),
            (
                "ERR Error running script (call to f_1): @user_script:5: \
                 -READONLY You can't write against a read only replica.",
                "read_only",
                "read-only",
            ),
            (
                "ERR user_script:9: OOM command not allowed script: 1, on @user_script:9.",
                "memory",
                "out of memory",
            ),
            ("OOM command not allowed when used memory > 'maxmemory'.", "memory", "out of memory"),
            ("MISCONF Redis is configured to save RDB snapshots", "persistence", "can't save"),
            ("NOREPLICAS Not enough good replicas to write.", "replicas", "too few replicas"),
            ("LOADING Redis is loading the dataset in memory", "loading", "loading"),
            ("BUSY Redis is busy running a script.", "busy", "busy"),
            ("CLUSTERDOWN Hash slot not served", "cluster_down", "Hash slot not served"),
            ("MASTERDOWN Link with MASTER is down", "replica", "replica"),
            ("WRONGTYPE Operation against a key", "unexpected_data", "unexpected type"),
            ("MOVED 1 127.0.0.1:7000", "cluster", "redis+cluster://"),
            ("DENIED Redis is running in protected mode", "rejected", "protected mode"),
            ("ERR max number of clients reached", "rejected", "max number of clients reached"),
            ("NEWERR something", "rejected", "NEWERR something"),
        ] {
            let reason = UnavailableReason::from(&error(reply));
            assert_eq!(reason.kind, kind, "{reply}: {reason:?}");
            assert!(reason.text.contains(text), "{reply}: {reason:?}");
        }
    }

    #[test]
    fn a_reason_contains_no_argument_and_is_short() {
        let echo = "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'hunter2' ";
        let reason = UnavailableReason::from(&error(echo));
        assert_eq!(&*reason.text, "redis rejected a command: ERR unknown command 'HELLO'");
        let long = UnavailableReason::from(&error(&format!("ERR {}", "é".repeat(500))));
        assert!(long.text.len() < 300, "{long:?}");
    }

    #[test]
    fn errors_of_the_system_are_quoted() {
        for (kind, text) in [
            (io::ErrorKind::ConnectionRefused, "redis can't be reached: connection refused"),
            (io::ErrorKind::TimedOut, "redis does not answer"),
        ] {
            let reason = UnavailableReason::from(&RedisError::from(io::Error::from(kind)));
            assert_eq!((&*reason.text, reason.kind), (text, "unreachable"));
        }
        let reason = UnavailableReason::from(&RedisError::from(io::Error::other("no such host")));
        assert_eq!(&*reason.text, "redis can't be reached: no such host");
    }

    #[test]
    fn a_reason_is_logged_once_and_then_counted_once_a_minute() {
        let (mut log, start) = (LinkLog::default(), now());
        let at = |ms| start + Duration::from_millis(ms);
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        assert_eq!(log.failed(&one, at(0)), Some(1));
        assert_eq!(log.failed(&one, at(400)), None);
        assert_eq!(log.failed(&other, at(800)), Some(2), "a new reason is logged at once");
        // Both reasons are known, so alternating between them is not logged.
        assert_eq!(log.failed(&one, at(1_200)), None);
        assert_eq!(log.failed(&other, at(1_600)), None);
        assert_eq!(log.failed(&one, at(60_800)), Some(3));
        assert_eq!(log.joined(at(61_000)), Some(Duration::from_secs(61)));
        assert_eq!(log.failed(&one, at(62_000)), Some(1), "the log starts anew after a join");
    }

    #[test]
    fn a_node_that_repeatedly_joins_and_fails_logs_a_few_lines_a_minute() {
        let (mut log, start) = (LinkLog::default(), now());
        let reason: Arc<str> = "flapping".into();
        let (mut lines, mut attempts) = (0, 0);
        for second in 0..600 {
            let at = start + Duration::from_secs(second);
            if let Some(failed) = log.failed(&reason, at) {
                lines += 1;
                attempts += failed;
            }
            lines += u32::from(log.joined(at).is_some());
        }
        assert!((10..=100).contains(&lines), "{lines}");
        assert!((540..=600).contains(&attempts), "{attempts} of 600 are counted");
    }

    #[test]
    fn a_text_is_truncated_between_characters() {
        let even = quoted(&format!("x{}", "é".repeat(QUOTED_MAX)));
        assert!((QUOTED_MAX - 1..=QUOTED_MAX).contains(&even.len()), "{}", even.len());
        let odd = quoted(&"é".repeat(QUOTED_MAX));
        assert!((QUOTED_MAX - 1..=QUOTED_MAX).contains(&odd.len()), "{}", odd.len());
        assert_eq!(quoted("a\nb\tc "), "a b c");
        assert_eq!(quoted(&"x".repeat(QUOTED_MAX)).len(), QUOTED_MAX);
    }

    #[test]
    fn a_server_that_is_a_replica_is_read_only() {
        let reason = UnavailableReason::from(&RedisError::from(io::Error::other(
            "127.0.0.1:6379 is a replica",
        )));
        assert_eq!((reason.kind, &*reason.text), ("read_only", "127.0.0.1:6379 is a replica"));
    }

    #[test]
    fn the_number_of_lines_in_a_minute_is_limited() {
        let (mut log, start) = (LinkLog::default(), now());
        let lines = |log: &mut LinkLog, at: Instant| (0..99).filter(|_| log.may_log(at)).count();
        assert_eq!(lines(&mut log, start), usize::try_from(LINES_MAX).unwrap());
        assert_eq!(lines(&mut log, start + LOG_INTERVAL - Duration::from_millis(1)), 0);
        assert_eq!(lines(&mut log, start + LOG_INTERVAL), usize::try_from(LINES_MAX).unwrap());
    }
}
