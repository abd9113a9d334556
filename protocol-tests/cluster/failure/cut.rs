//! The network between one node and Redis is interrupted in several ways.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{
    C, CLEANUP_MAX, Ledger, Outcome, R, RECOVERY_MAX, View, assert_history_valid,
    assert_view_everywhere, member, publish_from, with_tolerance,
};
use kit::{LinkFault, Proxy, Redis, Server, becomes_ready, cluster_settings, node, readiness};

/// Less than `node_timeout_ms`: the node is not expired.
const SHORT: Duration = Duration::from_millis(4_500);
/// `broker_wait_ms`, plus 200 ms for the rejection.
const REJECTED: Duration = Duration::from_millis(2_200);

#[tokio::test]
async fn a_node_that_redis_does_not_receive_rejects_publishes_and_recovers() {
    Cut::start().await.heals_after(LinkFault::DropToRedis, SHORT).await;
}

#[tokio::test]
async fn a_node_that_does_not_receive_redis_rejects_publishes_and_recovers() {
    Cut::start().await.heals_after(LinkFault::DropToNode, SHORT).await;
}

#[tokio::test]
async fn a_node_disconnected_in_both_directions_rejects_publishes_and_recovers() {
    Cut::start().await.heals_after(LinkFault::DropBoth, SHORT).await;
}

#[tokio::test]
async fn a_node_whose_connections_are_reset_rejects_publishes_and_recovers() {
    Cut::start().await.heals_after(LinkFault::Reset, SHORT).await;
}

#[tokio::test]
async fn a_node_whose_connections_are_reset_once_recovers_at_once() {
    Cut::start().await.heals_after(LinkFault::Reset, Duration::ZERO).await;
}

/// A member's node is disconnected until the other expires it; its members return when it rejoins.
#[tokio::test]
async fn a_node_that_is_disconnected_for_too_long_is_expired_and_rejoins() {
    let cut = Cut::start().await;
    let watcher = member(&cut.whole, "watcher").await;
    let lost = member(&cut.distant, "lost").await;
    watcher.receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
    cut.proxy.set(LinkFault::DropBoth);
    watcher.receives("pusher_internal:member_removed", R, 1, CLEANUP_MAX).await;
    cut.proxy.set(LinkFault::None);
    becomes_ready(&cut.distant, RECOVERY_MAX).await;
    let _again =
        if lost.closed().is_some() { Some(member(&cut.distant, "lost").await) } else { None };
    watcher.receives("pusher_internal:member_added", R, 2, RECOVERY_MAX).await;
    let truth =
        View::default().with_count(C, 2).with_users(R, &["watcher", "lost"]).with_connections(2);
    let addresses = [cut.whole.address, cut.distant.address];
    assert_view_everywhere(&addresses, RECOVERY_MAX, &truth).await;
    assert_history_valid(&Ledger::default(), &[watcher, lost]).await;
}

/// Two nodes, one of them behind a proxy.
struct Cut {
    whole: Server,
    distant: Server,
    proxy: Proxy,
    _redis: Redis,
}

impl Cut {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let proxy = Proxy::in_front_of(redis.address()).await;
        let settings = cluster_settings();
        let whole = node(&settings, &redis.url()).await;
        let distant = node(&settings, &proxy.url()).await;
        Self { whole, distant, proxy, _redis: redis }
    }

    /// Publishes from both nodes continuously, interrupts the link for a while, and checks all guarantees.
    async fn heals_after(self, link: LinkFault, time: Duration) {
        let (near, far) = (member(&self.whole, "near").await, member(&self.distant, "far").await);
        near.receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
        let ledger = Arc::new(Ledger::default());
        let from_whole = publish_from(&ledger, self.whole.address, C);
        let from_cut = publish_from(&ledger, self.distant.address, C);
        far.receives("numbered", C, 20, RECOVERY_MAX).await;

        self.proxy.set(link);
        if time == Duration::ZERO {
            far.ping_barrier().await;
        } else {
            self.is_rejecting(&ledger, time).await;
        }
        self.proxy.set(LinkFault::None);
        let whole_again = Instant::now();
        becomes_ready(&self.distant, RECOVERY_MAX).await;
        let far_again = member(&self.distant, "far-again").await;
        let is_accepted = |node: &Server| {
            ledger.all().iter().any(|published| {
                published.node == node.address
                    && whole_again < published.begun
                    && published.outcome == Outcome::Accepted
            })
        };
        while !is_accepted(&self.distant) {
            assert!(whole_again.elapsed() < 2 * RECOVERY_MAX, "publishes are not accepted again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        far_again.receives("numbered", C, 10, RECOVERY_MAX).await;
        from_whole.stop().await;
        from_cut.stop().await;

        let from_the_whole = |published: &&crate::support::Published| {
            published.node == self.whole.address && published.outcome != Outcome::Accepted
        };
        let rejected = ledger.all();
        let rejected: Vec<_> = rejected.iter().filter(from_the_whole).collect();
        assert!(rejected.is_empty(), "the connected node is not affected: {rejected:?}");
        assert_eq!(ledger.count(Outcome::Broken), 0, "every request is answered");
        assert_eq!(near.closed(), None, "its node received every event");
        let is_there = far.closed().is_none();
        if !is_there {
            assert_eq!(far.closed(), Some(4200), "{}", far.tail(5));
        }
        // Without messages from Redis, the node must have missed the publishes of the other node.
        if matches!(link, LinkFault::DropToNode | LinkFault::DropBoth) {
            assert!(!is_there, "it must have missed events, and was not closed");
        }
        let mut truth = View::default().with_connections(if is_there { 3 } else { 2 });
        let users: &[&str] =
            if is_there { &["near", "far", "far-again"] } else { &["near", "far-again"] };
        truth = truth.with_users(R, users).with_count(C, if is_there { 3 } else { 2 });
        let addresses = [self.whole.address, self.distant.address];
        assert_view_everywhere(&addresses, RECOVERY_MAX, &truth).await;
        assert_history_valid(&ledger, &[near, far, far_again]).await;
    }

    /// The disconnected node is not ready for a while; publishes through it wait and are rejected in time.
    async fn is_rejecting(&self, ledger: &Ledger, time: Duration) {
        let cut = Instant::now();
        let mut was_unready = false;
        while cut.elapsed() < time {
            was_unready |= readiness(self.distant.address).await.0 == 503;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(was_unready, "a disconnected node is not ready");
        assert_eq!(readiness(self.whole.address).await.0, 200, "the other node is not affected");
        let rejected = ledger.all();
        let mut rejected = rejected.iter().filter(|published| {
            published.node == self.distant.address && published.outcome != Outcome::Accepted
        });
        let late = with_tolerance(REJECTED);
        assert!(
            rejected.clone().next().is_some(),
            "publishes through the disconnected node are rejected"
        );
        let slow = rejected.find(|published| late < published.answered - published.begun);
        assert!(slow.is_none(), "rejected late: {slow:?}");
    }
}
