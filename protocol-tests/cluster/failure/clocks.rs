//! The clocks of several Redis servers differ, or the clock of one is stepped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{
    C, Group, Ledger, Listener, Outcome, R, RECOVERY_MAX, RedisCluster, View, assert_history_valid,
    assert_view_everywhere, member, publish_from,
};
use kit::{Redis, Settings, cluster_settings, metrics, node, readiness};

const NODE_TIMEOUT: Duration = Duration::from_secs(3);
/// The time after a node's death within which nothing of it may remain.
const CLEANED: Duration = Duration::from_secs(12);
/// The number of channels: enough for each master to have some.
const CHANNELS: usize = 24;

#[tokio::test]
async fn a_master_whose_clock_is_ahead_acknowledges_subscriptions_in_time() {
    let redis = RedisCluster::start_adjustable().await;
    redis.0[1].set_clock(2);
    let nodes = [node(&settings(), &redis.url()).await, node(&settings(), &redis.url()).await];
    are_acknowledged_in_time(&redis, &nodes, "ahead").await;
    // The clock of another master steps ahead of the others, and then behind them.
    redis.0[1].set_clock(0);
    redis.0[2].set_clock(2);
    are_acknowledged_in_time(&redis, &nodes, "stepped").await;
    redis.0[2].set_clock(-2);
    are_acknowledged_in_time(&redis, &nodes, "behind").await;
}

/// Checks that each subscription is acknowledged within a second, with a bounded number of
/// commands.
async fn are_acknowledged_in_time(redis: &RedisCluster, nodes: &[kit::Server], prefix: &str) {
    let before = commands(redis).await;
    let start = Instant::now();
    for node in nodes {
        let listener = Listener::of(node).await;
        for number in 0..CHANNELS {
            listener.send_subscribe(&format!("{prefix}-{number}"));
            listener.send_join(&format!("presence-{prefix}-{number}"), "1");
        }
        for number in 0..CHANNELS {
            for channel in [format!("{prefix}-{number}"), format!("presence-{prefix}-{number}")] {
                let what = "the subscription is acknowledged";
                let second = Duration::from_secs(1);
                listener.until(what, second, |_| listener.acknowledgements(&channel) == 1).await;
            }
        }
    }
    let seconds = start.elapsed().as_secs() + 1;
    let sent = commands(redis).await - before;
    // A few for each subscription and unsubscription, and the commands of idle nodes for many
    // partitions.
    let most = 12 * 2 * 2 * CHANNELS as u64 + 400 * seconds;
    assert!(sent < most, "{sent} commands in {:?}", start.elapsed());
}

/// How many commands all servers of a Redis Cluster have executed.
async fn commands(redis: &RedisCluster) -> u64 {
    let mut all = 0;
    for server in &redis.0[..3] {
        let info = server.admin().await.command(&["INFO", "commandstats"]).await;
        // Commands within scripts are not counted; those of replication and of the cluster bus are
        // few.
        let lines = info.text().lines().filter(|line| line.starts_with("cmdstat_evalsha:"));
        let calls = lines.filter_map(|line| line.split("calls=").nth(1)?.split(',').next());
        all += calls.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>();
    }
    all
}

#[tokio::test]
async fn no_publish_is_rejected_when_the_clock_of_redis_steps_forward() {
    let stepped = ClockStepTest::start().await;
    for (seconds, pause) in [(3, 3), (3_600, 4), (3_600 + 8, 3)] {
        stepped.steps(seconds, Duration::from_secs(pause)).await;
    }
    stepped.assert_consistent().await;
}

/// The clock steps ten minutes back. The dead node is cleaned up within the usual time.
#[tokio::test]
async fn a_dead_node_is_cleaned_up_after_when_the_clock_of_redis_steps_backward() {
    let mut stepped = ClockStepTest::start().await;
    stepped.steps(-600, Duration::from_secs(2)).await;
    stepped.node_dies().await;
    stepped.assert_consistent().await;
}

/// The clock steps after the node's death and before its lease expires.
#[tokio::test]
async fn a_node_that_died_before_the_clock_of_redis_stepped_is_cleaned_up_after() {
    let mut stepped = ClockStepTest::start().await;
    let mut dead = stepped.group.nodes.remove(2);
    dead.signal("KILL");
    assert_eq!(dead.process.exit_code().await, None, "the node was killed");
    let died = Instant::now();
    stepped.group.redis.set_clock(-600);
    stepped.is_cleaned(died).await;
    stepped.assert_consistent().await;
}

fn settings() -> Settings {
    cluster_settings().section("redis", "node_timeout_ms", NODE_TIMEOUT.as_millis())
}

/// Three nodes with members, and continuous publishes through the first two. The third node has
/// members of its own.
struct ClockStepTest {
    group: Group,
    watchers: Vec<Listener>,
    third: Listener,
    ledger: Arc<Ledger>,
    publishing: Vec<crate::support::Publishing>,
}

impl ClockStepTest {
    async fn start() -> Self {
        let group = Group::with(3, settings(), Redis::start_adjustable(&[]).await).await;
        let watchers = vec![member(&group.nodes[0], "1").await, member(&group.nodes[1], "2").await];
        let third = member(&group.nodes[2], "3").await;
        watchers[0].receives("pusher_internal:member_added", R, 2, RECOVERY_MAX).await;
        watchers[1].receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
        let ledger = Arc::new(Ledger::default());
        let publishing =
            group.nodes[..2].iter().map(|node| publish_from(&ledger, node.address, C)).collect();
        watchers[0].receives("numbered", C, 20, RECOVERY_MAX).await;
        Self { group, watchers, third, ledger, publishing }
    }

    /// Steps the clock and waits. Checks that no node is declared dead and none loses its link.
    async fn steps(&self, seconds: i64, pause: Duration) {
        self.group.redis.set_clock(seconds);
        let start = Instant::now();
        while start.elapsed() < pause {
            for address in self.group.addresses() {
                assert_eq!(readiness(address).await.0, 200, "after a step to {seconds} s");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for address in self.group.addresses() {
            let cleaned = metrics(address).await.sum("campanile_broker_cleanups_total");
            assert!(cleaned.abs() < 0.5, "a live node was declared dead");
        }
        for watcher in &self.watchers {
            watcher.ping_barrier().await;
            assert_eq!(watcher.count("pusher_internal:member_removed", R), 0);
        }
        assert_eq!(self.third.closed(), None);
    }

    async fn node_dies(&mut self) {
        self.group.kill(2).await;
        self.is_cleaned(Instant::now()).await;
    }

    async fn is_cleaned(&self, died: Instant) {
        for watcher in &self.watchers {
            let left = CLEANED.saturating_sub(died.elapsed());
            watcher.receives("pusher_internal:member_removed", R, 1, left).await;
        }
    }

    /// Checks that every publish was accepted and that all nodes and clients have the true state.
    async fn assert_consistent(self) {
        for publishing in self.publishing {
            publishing.stop().await;
        }
        let rejected: Vec<_> = self
            .ledger
            .all()
            .into_iter()
            .filter(|event| event.outcome != Outcome::Accepted)
            .collect();
        assert!(rejected.is_empty(), "{} rejected: {:?}", rejected.len(), rejected[0]);
        let is_three_here = self.group.nodes.len() == 3;
        let (count, users): (u64, &[&str]) =
            if is_three_here { (3, &["1", "2", "3"]) } else { (2, &["1", "2"]) };
        let truth = View::default().with_count(C, count).with_users(R, users);
        let truth = truth.with_connections(count);
        assert_view_everywhere(&self.group.addresses(), RECOVERY_MAX, &truth).await;
        let mut listeners = self.watchers;
        if is_three_here {
            listeners.push(self.third);
        }
        for listener in &listeners {
            assert_eq!(listener.closed(), None, "{}", listener.tail(5));
        }
        assert_history_valid(&self.ledger, &listeners).await;
    }
}
