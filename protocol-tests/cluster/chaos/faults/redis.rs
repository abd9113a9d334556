//! Faults of Redis.

use std::time::Duration;

use rand::RngExt;

use kit::RedisClient;

use super::Testbed;

/// A directory in which no file can be created.
const UNWRITABLE: &str = "/proc";
/// A port without a server.
const UNUSED_PORT: &str = "1";
/// How far the memory limit is set below the used memory, in bytes: Redis evicts about as much.
const EVICTED: i64 = 60_000;
const OF_WEBHOOKS: [&str; 7] = [
    "campanile:log{",
    "campanile:logstate{",
    "campanile:held{",
    "campanile:queue{",
    "campanile:aside{",
    "campanile:leader{",
    "campanile:appended{",
];
/// By how many seconds the clock is stepped.
const STEP: std::ops::Range<i64> = 5..600;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::chaos) enum RedisFault {
    /// Redis is stopped with SIGSTOP.
    Freeze,
    /// Redis is killed with SIGKILL and starts again empty.
    Restart,
    /// Redis rejects writes for lack of memory, intermittently.
    OutOfMemory,
    /// Redis is a replica without a master.
    ReadOnly,
    /// Redis rejects writes because it can't save.
    Misconf,
    /// The nodes' user has no permission to run scripts.
    Acl,
    /// The nodes do not have the required password.
    Password,
    /// `FLUSHALL`, which deletes everything at once or in the background.
    FlushAll,
    /// `FLUSHDB`, likewise.
    FlushDb,
    /// Redis discards its scripts.
    ScriptFlush,
    /// Redis closes all connections but those that subscribe.
    KillClients,
    /// Redis closes all connections that subscribe.
    KillPubsub,
    /// Redis answers no command.
    ClientPause,
    /// Redis answers no command that writes.
    ClientPauseWrite,
    /// Redis executes nothing.
    DebugSleep,
    /// Redis evicts random keys.
    Evict,
    /// Random keys of the nodes are deleted.
    DeleteKeys,
    /// The clock of Redis steps forward.
    ClockForward,
    /// The clock of Redis steps backward.
    ClockBack,
}

impl RedisFault {
    pub(super) fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::Freeze | Self::ClientPause | Self::ClientPauseWrite | Self::DebugSleep => {
                300..8_000
            }
            Self::Restart => 0..4_000,
            Self::FlushAll
            | Self::FlushDb
            | Self::ScriptFlush
            | Self::KillClients
            | Self::KillPubsub => 0..1_000,
            Self::OutOfMemory
            | Self::ReadOnly
            | Self::Misconf
            | Self::Acl
            | Self::Password
            | Self::Evict
            | Self::DeleteKeys
            | Self::ClockForward
            | Self::ClockBack => 500..6_000,
        }
    }

    /// Whether keys are lost without any other sign to the nodes.
    pub(super) fn is_silent(self) -> bool {
        matches!(self, Self::FlushAll | Self::FlushDb | Self::Evict | Self::DeleteKeys)
    }

    /// Whether data is lost. When the clock steps forward, keys expire early.
    pub(super) fn loses_data(self) -> bool {
        self.is_silent() || matches!(self, Self::Restart | Self::ClockForward)
    }
}

impl Testbed {
    pub(super) async fn begin_on_redis(&mut self, fault: RedisFault, lasts: Duration) {
        let milliseconds = lasts.as_millis().to_string();
        let seconds = lasts.as_secs_f64().to_string();
        let mode = if self.random.random_bool(0.5) { "SYNC" } else { "ASYNC" };
        match fault {
            RedisFault::Freeze => self.servers.one().pause(),
            RedisFault::Restart => self.servers.one().kill(),
            RedisFault::OutOfMemory => {
                self.run(&[
                    &["CONFIG", "SET", "maxmemory-policy", "noeviction"],
                    &["CONFIG", "SET", "maxmemory", "1"],
                ])
                .await;
            }
            RedisFault::ReadOnly => self.run(&[&["REPLICAOF", "127.0.0.1", UNUSED_PORT]]).await,
            RedisFault::Misconf => {
                self.run(&[
                    &["CONFIG", "SET", "save", "3600 1"],
                    &["CONFIG", "SET", "dir", UNWRITABLE],
                    &["BGSAVE"],
                ])
                .await;
            }
            RedisFault::Acl => {
                self.run(&[&["ACL", "SETUSER", "default", "-evalsha", "-eval"]]).await;
            }
            RedisFault::Password => {
                self.run(&[
                    &["CONFIG", "SET", "requirepass", "unknown to the nodes"],
                    &["CLIENT", "KILL", "TYPE", "normal"],
                    &["CLIENT", "KILL", "TYPE", "pubsub"],
                ])
                .await;
            }
            RedisFault::FlushAll => self.run(&[&["FLUSHALL", mode]]).await,
            RedisFault::FlushDb => self.run(&[&["FLUSHDB", mode]]).await,
            RedisFault::ScriptFlush => self.run(&[&["SCRIPT", "FLUSH"]]).await,
            RedisFault::KillClients => self.run(&[&["CLIENT", "KILL", "TYPE", "normal"]]).await,
            RedisFault::KillPubsub => self.run(&[&["CLIENT", "KILL", "TYPE", "pubsub"]]).await,
            RedisFault::ClientPause => {
                self.run(&[&["CLIENT", "PAUSE", &milliseconds, "ALL"]]).await;
            }
            RedisFault::ClientPauseWrite => {
                self.run(&[&["CLIENT", "PAUSE", &milliseconds, "WRITE"]]).await;
            }
            RedisFault::DebugSleep => self.run(&[&["DEBUG", "SLEEP", &seconds]]).await,
            RedisFault::Evict => self.evict().await,
            RedisFault::DeleteKeys => {
                self.deleted.clear();
                self.delete_keys().await;
            }
            RedisFault::ClockForward => self.set_clock(1),
            RedisFault::ClockBack => self.set_clock(-1),
        }
    }

    pub(super) async fn repeat_on_redis(&mut self, fault: RedisFault) {
        if fault == RedisFault::OutOfMemory {
            let limit = if self.random.random_bool(0.5) { "0" } else { "1" };
            self.run(&[&["CONFIG", "SET", "maxmemory", limit]]).await;
        }
        if fault == RedisFault::DeleteKeys {
            self.delete_keys().await;
        }
    }

    pub(super) async fn end_on_redis(&mut self, fault: RedisFault) {
        match fault {
            RedisFault::Freeze => self.servers.one().resume(),
            RedisFault::Restart => {
                // After a split there is one from before, of which webhooks promise less.
                self.servers.one().delete_snapshot();
                self.servers.one().start_again().await;
            }
            RedisFault::OutOfMemory | RedisFault::Evict => {
                self.run(&[
                    &["CONFIG", "SET", "maxmemory", "0"],
                    &["CONFIG", "SET", "maxmemory-policy", "noeviction"],
                ])
                .await;
            }
            RedisFault::ReadOnly => self.run(&[&["REPLICAOF", "NO", "ONE"]]).await,
            RedisFault::Misconf => {
                let directory = self.servers.one().directory();
                self.run(&[&["CONFIG", "SET", "dir", &directory], &["CONFIG", "SET", "save", ""]])
                    .await;
            }
            RedisFault::Acl => self.run(&[&["ACL", "SETUSER", "default", "+@all"]]).await,
            RedisFault::Password => self.run(&[&["CONFIG", "SET", "requirepass", ""]]).await,
            RedisFault::FlushAll
            | RedisFault::FlushDb
            | RedisFault::ScriptFlush
            | RedisFault::KillClients
            | RedisFault::KillPubsub
            | RedisFault::ClientPause
            | RedisFault::ClientPauseWrite
            | RedisFault::DebugSleep
            | RedisFault::DeleteKeys
            | RedisFault::ClockForward
            | RedisFault::ClockBack => {}
        }
    }

    async fn admin(&mut self) -> RedisClient {
        self.servers.one().admin().await
    }

    async fn run(&mut self, commands: &[&[&str]]) {
        let mut admin = self.admin().await;
        for words in commands {
            admin.command(words).await;
        }
    }

    /// Has Redis evict some random keys.
    async fn evict(&mut self) {
        let mut admin = self.admin().await;
        let info = admin.command(&["INFO", "memory"]).await;
        let used = info.text().lines().find_map(|line| line.strip_prefix("used_memory:"));
        let used: i64 =
            used.and_then(|text| text.trim().parse().ok()).expect("INFO contains the used memory");
        admin.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
        admin.command(&["CONFIG", "SET", "maxmemory", &(used - EVICTED).to_string()]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        admin.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        admin.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    }

    /// Deletes one in five of the keys that nodes restore, but each at most once per fault: a departure between two
    /// deletions of one topic is lost, and webhooks do not report it. Data of webhooks exists only in Redis and is not
    /// deleted.
    async fn delete_keys(&mut self) {
        let mut admin = self.admin().await;
        let mut keys = admin.command(&["KEYS", "campanile:*"]).await.texts();
        keys.retain(|key| !OF_WEBHOOKS.iter().any(|kind| key.starts_with(kind)));
        keys.sort_unstable();
        for key in keys {
            if self.random.random_bool(0.2) && self.deleted.insert(key.clone()) {
                admin.command(&["DEL", &key]).await;
            }
        }
    }

    fn set_clock(&mut self, sign: i64) {
        let step = self.random.random_range(STEP);
        self.clock += sign * step;
        self.world.note(format!("the clock of Redis steps by {} s", sign * step));
        let clock = self.clock;
        self.servers.one().set_clock(clock);
    }
}
