//! The network is interrupted, and bytes that a node had sent before arrive at Redis after the node has a new link.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Ledger, Listener, Outcome, R, RECOVERY_MAX, View, assert_history_valid, assert_view_everywhere,
    publish_from,
};
use kit::{LinkFault, Proxy, Redis, Server, becomes_ready, cluster_settings, node};

const NODE_TIMEOUT: Duration = Duration::from_secs(3);
/// The time after a node's death within which nothing of it may remain.
const CLEANED: Duration = Duration::from_secs(12);
/// How much later than the new link the bytes of the old one arrive.
const LATE: Duration = Duration::from_millis(1_000);
const CHANNELS: usize = 20;
/// The channel that receives continuous publishes.
const NEWS: &str = "news";

/// The clients unsubscribe on the old link and subscribe again on the new one. Then the node dies.
#[tokio::test]
async fn late_bytes_of_an_old_link_leave_no_members_of_a_node_that_dies() {
    let mut pair = Pair::start().await;
    let watcher = members(&pair.near, "watcher").await;
    watcher.subscribe(NEWS).await;
    let far = members(&pair.far, "far").await;
    watcher.receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
    let ledger = Arc::new(Ledger::default());
    let publishing = publish_from(&ledger, pair.far.address, NEWS);
    watcher.receives("numbered", NEWS, 10, RECOVERY_MAX).await;

    pair.proxy.set(LinkFault::HoldBoth);
    for channel in channels() {
        far.leave(&channel);
    }
    far.leave(R);
    far.ping_barrier().await;
    pair.gives_up_its_link().await;
    for channel in channels() {
        far.send_subscribe(&channel);
    }
    far.send_join(R, "far");
    pair.proxy.delay_old_bytes(LATE);
    pair.proxy.set(LinkFault::None);
    becomes_ready(&pair.far, 2 * RECOVERY_MAX).await;
    for channel in channels() {
        far.until("it is subscribed again", 2 * RECOVERY_MAX, |_| {
            far.closed().is_some() || far.acknowledgements(&channel) == 2
        })
        .await;
    }
    tokio::time::sleep(2 * LATE).await;
    publishing.stop().await;
    assert_eq!(far.closed(), None, "{}", far.tail(9));
    assert_view_everywhere(
        &pair.addresses(),
        RECOVERY_MAX,
        &truth(&["watcher", "far"]).with_count(NEWS, 1),
    )
    .await;
    assert!(0 < ledger.count(Outcome::Rejected) + ledger.count(Outcome::Unknown));
    let listeners = [watcher, far];
    assert_history_valid(&ledger, &listeners).await;

    pair.kill_far_node(&truth(&["watcher"]).with_count(NEWS, 1)).await;
}

/// The clients subscribe and stay: writes of the old link are older than those of the new one.
#[tokio::test]
async fn late_bytes_of_an_old_link_change_nothing() {
    let mut pair = Pair::start().await;
    let watcher = members(&pair.near, "watcher").await;
    pair.proxy.set(LinkFault::HoldBoth);
    let (gone, back) = (Listener::of(&pair.far).await, Listener::of(&pair.far).await);
    gone.sign_in(&json!({ "id": "gone" }));
    for listener in [&gone, &back] {
        for channel in channels() {
            listener.send_subscribe(&channel);
        }
    }
    gone.send_join(R, "gone");
    back.send_join(R, "back");
    back.ping_barrier().await;
    gone.ping_barrier().await;
    pair.gives_up_its_link().await;
    drop(gone);
    pair.proxy.delay_old_bytes(LATE);
    pair.proxy.set(LinkFault::None);
    becomes_ready(&pair.far, 2 * RECOVERY_MAX).await;
    tokio::time::sleep(2 * LATE).await;
    let both = truth(&["watcher", "back"]);
    assert_view_everywhere(&pair.addresses(), RECOVERY_MAX, &both).await;
    watcher.ping_barrier().await;
    let watchers = [watcher];
    assert_history_valid(&Ledger::default(), &watchers).await;
    pair.kill_far_node(&truth(&["watcher"])).await;
}

/// A node stops while its bytes do not reach Redis; its leave message arrives after it has stopped.
#[tokio::test]
async fn the_late_bytes_of_a_node_that_has_ended_leave_nothing() {
    let mut pair = Pair::start().await;
    let watcher = members(&pair.near, "watcher").await;
    let far = members(&pair.far, "far").await;
    watcher.receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
    pair.proxy.set(LinkFault::HoldBoth);
    pair.far.signal("TERM");
    assert!(matches!(pair.far.process.exit_code().await, Some(0 | 1)));
    tokio::time::sleep(NODE_TIMEOUT / 2).await;
    pair.proxy.set(LinkFault::None);
    pair.proxy.has_delivered_old_bytes().await;
    assert_view_everywhere(&[pair.near.address], CLEANED, &truth(&["watcher"])).await;
    // Redis has executed what was delivered before these, and the near node has received the result.
    watcher.subscribe(NEWS).await;
    for _ in 0..2 {
        pair.near.publish(NEWS, "later", "").await;
    }
    watcher.receives("later", NEWS, 2, RECOVERY_MAX).await;
    assert_view_everywhere(
        &[pair.near.address],
        RECOVERY_MAX,
        &truth(&["watcher"]).with_count(NEWS, 1),
    )
    .await;
    watcher.ping_barrier().await;
    assert_eq!(watcher.count("pusher_internal:member_removed", R), 1, "{}", watcher.tail(20));
    drop(far);
}

/// Two nodes, one of them behind a proxy.
struct Pair {
    near: Server,
    far: Server,
    proxy: Proxy,
    _redis: Redis,
}

impl Pair {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let proxy = Proxy::in_front_of(redis.address()).await;
        let settings = cluster_settings()
            .section("redis", "node_timeout_ms", NODE_TIMEOUT.as_millis())
            .server("shutdown_grace_s", 1);
        let near = node(&settings, &redis.url()).await;
        let far = node(&settings, &proxy.url()).await;
        Self { near, far, proxy, _redis: redis }
    }

    fn addresses(&self) -> [std::net::SocketAddr; 2] {
        [self.near.address, self.far.address]
    }

    /// Kills the far node. Only `truth` may remain.
    async fn kill_far_node(&mut self, truth: &View) {
        self.far.signal("KILL");
        assert_eq!(self.far.process.exit_code().await, None, "the node was killed");
        assert_view_everywhere(&[self.near.address], CLEANED, truth).await;
    }

    /// Waits until the far node has given up its link.
    async fn gives_up_its_link(&self) {
        let start = Instant::now();
        while !self.far.process.output().contains("link to redis closed") {
            assert!(start.elapsed() < 2 * RECOVERY_MAX, "it does not give up its link");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn channels() -> impl Iterator<Item = String> {
    (0..CHANNELS).map(|number| format!("c{number}"))
}

/// A listener that is subscribed to all channels.
async fn members(node: &Server, user: &str) -> Listener {
    let listener = Listener::of(node).await;
    for channel in channels() {
        listener.subscribe(&channel).await;
    }
    listener.join(R, user).await;
    listener
}

/// The true state while each of these users has one listener.
fn truth(users: &[&str]) -> View {
    let count = users.len() as u64;
    let view = View::default().with_users(R, users).with_connections(count);
    channels().fold(view, |view, channel| view.with_count(&channel, count))
}
