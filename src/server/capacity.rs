//! Computes the connection limits from the file descriptors and the configuration.

use super::Server;
use crate::config::{Config, ServerConfig};
use std::fmt;

/// The file descriptors that the process may open, and how many are reserved.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileDescriptors {
    limit: usize,
    /// Descriptors that are not for connections: listeners, pollers, files, Redis, webhooks.
    reserved: usize,
}

/// The error that the process may have too few file descriptors.
#[derive(Clone, Copy, Debug)]
pub struct TooFewDescriptors {
    limit: usize,
    required: usize,
}

/// Maximum numbers of connections of both kinds.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    pub(super) max_connections: usize,
    pub(super) max_http_connections: usize,
    /// What sets `max_connections`, for the log.
    limited_by: &'static str,
}

/// File descriptors that a process needs besides its connections and its shards.
const OTHER_DESCRIPTORS: usize = 40;
/// File descriptors of a shard: its two pollers and their wakers.
const SHARD_DESCRIPTORS: usize = 6;
/// Descriptors reserved for HTTP connections, if there are enough.
const HTTP_DESCRIPTORS: usize = 192;
/// Minimum number of descriptors for connections: with fewer, a handful of clients and publishers
/// would block each other.
const CONNECTIONS_MIN: usize = 64;
/// Default limit of HTTP connections: the size of the accept queue.
const HTTP_CONNECTIONS: usize = super::listeners::BACKLOG as usize;
/// A capacity below this causes a warning if the system's limit is the reason.
const SMALL_CAPACITY: usize = 4_096;

impl FileDescriptors {
    /// Raises the soft limit of the process to its hard one.
    ///
    /// # Errors
    ///
    /// The hard limit is below the minimum.
    pub(super) fn raise_limit(shards: usize) -> Result<Self, TooFewDescriptors> {
        let all = rlimit::increase_nofile_limit(rlimit::INFINITY).unwrap_or(1_024);
        Self::new(usize::try_from(all).unwrap_or(usize::MAX), shards)
    }

    fn new(all: usize, shards: usize) -> Result<Self, TooFewDescriptors> {
        let others = OTHER_DESCRIPTORS + SHARD_DESCRIPTORS * shards;
        let need = others + CONNECTIONS_MIN;
        if all < need {
            return Err(TooFewDescriptors { limit: all, required: need });
        }
        Ok(Self { limit: all, reserved: others })
    }

    /// Descriptors for connections of both kinds.
    pub(super) fn for_connections(self) -> usize {
        self.limit - self.reserved
    }

    /// The configured limits, or as many connections as there are file descriptors for.
    pub(super) fn limits(self, server: &ServerConfig) -> ConnectionLimits {
        let room = self.for_connections();
        let possible = room - HTTP_DESCRIPTORS.min(room / 4);
        let (max_connections, limited_by) = match server.max_connections {
            0 => (possible, "RLIMIT_NOFILE"),
            configured if possible < configured => {
                tracing::warn!(
                    configured,
                    possible,
                    "max_connections reduced to fit RLIMIT_NOFILE"
                );
                (possible, "RLIMIT_NOFILE")
            }
            configured => (configured, "server.max_connections"),
        };
        let max_http_connections = match server.max_http_connections {
            0 => HTTP_CONNECTIONS,
            configured => configured,
        };
        ConnectionLimits { max_connections, max_http_connections, limited_by }
    }
}

impl Server {
    /// Logs the listen address and the limits.
    pub fn log_listening(&self, config: &Config) {
        let ConnectionLimits { max_connections, max_http_connections, limited_by } = self.limits;
        let address = self.address().to_string();
        let redis = config.redis.target().map(|target| target.servers());
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address,
            shards = self.node.inboxes().shards().count(),
            max_connections,
            limited_by,
            max_http_connections,
            redis,
            apps = config.apps.len(),
            "listening"
        );
        if limited_by == "RLIMIT_NOFILE" && max_connections < SMALL_CAPACITY {
            tracing::warn!(
                max_connections,
                "low connection limit: raise RLIMIT_NOFILE to one descriptor per client plus a few \
                 hundred (ulimit -n, LimitNOFILE= of systemd, --ulimit of docker)"
            );
        }
    }
}

impl fmt::Display for TooFewDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit: have, required: need } = self;
        write!(
            f,
            "RLIMIT_NOFILE allows {have} open files, and this server needs {need} at least: raise \
             the hard limit, best to 65536 or more (ulimit -Hn, LimitNOFILE= of systemd, --ulimit \
             nofile= of docker)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all: usize, shards: usize, configured: usize) -> (usize, &'static str) {
        let server = ServerConfig { max_connections: configured, ..ServerConfig::default() };
        let limits = FileDescriptors::new(all, shards).unwrap().limits(&server);
        (limits.max_connections, limits.limited_by)
    }

    #[test]
    fn the_lower_of_both_limits_holds() {
        assert_eq!(limits(20_000, 2, 0), (20_000 - 52 - 192, "RLIMIT_NOFILE"));
        assert_eq!(limits(20_000, 2, 100), (100, "server.max_connections"));
        assert_eq!(limits(1_024, 2, 5_000), (1_024 - 52 - 192, "RLIMIT_NOFILE"));
    }

    #[test]
    fn with_too_few_descriptors_there_is_no_server() {
        for shards in [1, 2, 8, 64] {
            let TooFewDescriptors { required: need, .. } =
                FileDescriptors::new(64, shards).unwrap_err();
            assert!(FileDescriptors::new(need - 1, shards).is_err());
            assert_eq!(limits(need, shards, 0), (48, "RLIMIT_NOFILE"), "{shards}");
        }
        let text = FileDescriptors::new(64, 2).unwrap_err().to_string();
        assert!(text.contains("RLIMIT_NOFILE allows 64 open files"), "{text}");
        assert!(text.contains("needs 116 at least"), "{text}");
    }

    #[test]
    fn http_connections_get_a_quarter_of_few_descriptors_and_192_of_many() {
        for (room, possible) in [(64, 48), (400, 300), (768, 576), (769, 577), (10_000, 9_808)] {
            let descriptors = FileDescriptors::new(room + 46, 1).unwrap();
            assert_eq!(descriptors.for_connections(), room);
            for (configured, max) in [(0, possible), (possible, possible), (possible + 1, possible)]
            {
                assert_eq!(limits(room + 46, 1, configured).0, max, "{room} {configured}");
            }
        }
        for (configured, max) in [(0, 4_096), (1, 1), (50_000, 50_000)] {
            let server =
                ServerConfig { max_http_connections: configured, ..ServerConfig::default() };
            let limits = FileDescriptors::new(20_000, 2).unwrap().limits(&server);
            assert_eq!(limits.max_http_connections, max);
        }
    }
}
