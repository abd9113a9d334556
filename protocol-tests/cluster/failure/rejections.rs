//! Redis answers with errors: for lack of rights, a password, a writable master, memory or
//! snapshots.

use std::time::{Duration, Instant};

use crate::support::{Api, C, Listener, Outcome, RECOVERY_MAX, with_tolerance};
use kit::{Redis, RedisClient, Server, becomes_ready, cluster_settings, metrics, node, readiness};

/// The duration of the rejection.
const REJECTS: Duration = Duration::from_secs(5);
/// The maximum number of log lines of the node in that time.
const LINES_MAX: usize = 3;
/// `broker_wait_ms`, and a tolerance for the answer.
const REJECTED_IN: Duration = Duration::from_millis(2_200);

/// The commands that begin and end the rejection, and the reason that the node must report.
struct Rejection<'a> {
    begin: &'a [&'a [&'a str]],
    end: &'a [&'a [&'a str]],
    reason: &'a str,
    kind: &'a str,
}

#[tokio::test]
async fn a_missing_permission_for_scripts_is_reported() {
    let rejection = Rejection {
        begin: &[&["ACL", "SETUSER", "default", "-@scripting"]],
        end: &[&["ACL", "SETUSER", "default", "+@scripting"]],
        reason: "the Redis user lacks a permission: NOPERM",
        kind: "permissions",
    };
    rejection.is_reported(&Redis::start().await).await;
}

#[tokio::test]
async fn a_missing_permission_for_keys_is_reported() {
    let rejection = Rejection {
        begin: &[&["ACL", "SETUSER", "default", "resetkeys", "~others:*"]],
        end: &[&["ACL", "SETUSER", "default", "allkeys"]],
        reason: "the Redis user lacks a permission: NOPERM",
        kind: "permissions",
    };
    rejection.is_reported(&Redis::start().await).await;
}

#[tokio::test]
async fn a_changed_password_is_reported() {
    let rejection = Rejection {
        begin: &[
            &["CONFIG", "SET", "requirepass", "hunter2"],
            &["CLIENT", "KILL", "TYPE", "normal"],
            &["CLIENT", "KILL", "TYPE", "pubsub"],
        ],
        end: &[&["CONFIG", "SET", "requirepass", ""]],
        reason: "redis rejects the password",
        kind: "password",
    };
    rejection.is_reported(&Redis::start().await).await;
}

#[tokio::test]
async fn a_demotion_to_a_replica_is_reported() {
    let rejection = Rejection {
        begin: &[&["REPLICAOF", "127.0.0.1", "1"]],
        end: &[&["REPLICAOF", "NO", "ONE"]],
        reason: "a replica",
        kind: "read_only",
    };
    rejection.is_reported(&Redis::start().await).await;
}

#[tokio::test]
async fn an_out_of_memory_redis_is_reported() {
    let rejection = Rejection {
        begin: &[&["CONFIG", "SET", "maxmemory", "1"]],
        end: &[&["CONFIG", "SET", "maxmemory", "0"]],
        reason: "redis is out of memory",
        kind: "memory",
    };
    rejection.is_reported(&Redis::start().await).await;
}

#[tokio::test]
async fn a_failed_snapshot_is_reported() {
    let redis = Redis::start_with(&["--save", "3600", "1", "--appendonly", "no"]).await;
    // A snapshot can't replace a directory.
    redis.make_directory("dump.rdb");
    let mut client = redis.client().await;
    let rejection = Rejection {
        begin: &[&["SET", "something", "to-save"], &["BGSAVE"]],
        end: &[&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]],
        reason: "redis can't save",
        kind: "persistence",
    };
    rejection.is_reported(&redis).await;
    client.command(&["DEL", "something"]).await;
}

#[tokio::test]
async fn missing_replicas_are_reported() {
    let rejection = Rejection {
        begin: &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
        end: &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
        reason: "redis has too few replicas",
        kind: "replicas",
    };
    rejection.is_reported(&Redis::start().await).await;
}

impl Rejection<'_> {
    /// Checks that a node reports why it is not ready, in few log lines, and recovers afterwards.
    async fn is_reported(&self, redis: &Redis) {
        let node = node(&cluster_settings(), &redis.url()).await;
        let listener = Listener::of(&node).await;
        listener.subscribe(C).await;
        let before = warnings(&node).len();
        let mut client = redis.client().await;
        run(&mut client, self.begin).await;
        let start = Instant::now();
        self.reports_the_reason(&node, start).await;
        while start.elapsed() < REJECTS {
            let requested_at = Instant::now();
            let outcome = Api::new(node.address).publish(C, "rejected", "1").await;
            assert_eq!(outcome, Outcome::Rejected);
            assert!(
                requested_at.elapsed() <= with_tolerance(REJECTED_IN),
                "after {:?}",
                requested_at.elapsed()
            );
            self.reports_the_reason(&node, start).await;
        }
        let logged = &warnings(&node)[before..];
        assert!(logged.len() <= LINES_MAX, "{} lines: {logged:#?}", logged.len());
        assert!(logged.iter().any(|line| line.contains(self.reason)), "{logged:#?}");
        let away = metrics(node.address).await;
        assert!(
            away.has("campanile_broker_unavailable", self.kind),
            "the reason is missing in the metrics"
        );
        run(&mut client, self.end).await;
        becomes_ready(&node, with_tolerance(Duration::from_secs(3))).await;
        assert!(!metrics(node.address).await.has("campanile_broker_unavailable", self.kind));
        let mut api = Api::new(node.address);
        assert_eq!(api.publish(C, "accepted", "1").await, Outcome::Accepted);
        listener.receives("accepted", C, 1, RECOVERY_MAX).await;
        assert_eq!(listener.count("rejected", C), 0, "{}", listener.tail(10));
        let log = node.process.output();
        assert!(log.contains("rejoined the cluster"), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }

    /// Waits until `/ready` reports the reason.
    async fn reports_the_reason(&self, node: &Server, start: Instant) {
        loop {
            let (status, body) = readiness(node.address).await;
            let reasons = body["reasons"].to_string();
            if status == 503 && reasons.contains(self.reason) {
                return;
            }
            assert!(start.elapsed() < REJECTS, "{status} {body} instead of {}", self.reason);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn run(client: &mut RedisClient, commands: &[&[&str]]) {
    for command in commands {
        client.command(command).await;
    }
}

/// The warnings and errors in the node's log.
fn warnings(node: &Server) -> Vec<String> {
    let log = node.process.output();
    let lines = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    lines.map(str::to_owned).collect()
}
