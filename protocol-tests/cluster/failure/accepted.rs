//! Redis dies between accepting an event and sending it to all nodes: nodes that lack the event must detect the loss.

use std::net::SocketAddr;

use crate::support::{Api, C, Ledger, Listener, Outcome, RECOVERY_MAX, assert_history_valid};
use kit::{LinkFault, Proxy, Redis, Server, becomes_ready, cluster_settings, node};

#[tokio::test]
async fn an_event_received_by_one_node_only_closes_the_subscribers_of_the_other() {
    let mut torn = PartitionedPair::start(Redis::start().await).await;
    let near = subscriber(&torn.whole).await;
    let third = node(&cluster_settings(), &torn.redis.url()).await;
    let far = torn.receives_one_event().await;
    torn.publish(third.address).await;
    near.receives("numbered", C, 2, RECOVERY_MAX).await;
    torn.redis.kill();
    // The publishing node does not rejoin: only the node with the subscriber can report the event.
    drop(third);
    torn.is_recovered(near, far).await;
}

#[tokio::test]
async fn an_event_that_reached_only_its_publisher_closes_the_subscribers_that_lack_it() {
    let mut torn = PartitionedPair::start(Redis::start().await).await;
    let elsewhere = Listener::of(&torn.whole).await;
    let far = torn.receives_one_event().await;
    torn.publish(torn.whole.address).await;
    torn.redis.kill();
    torn.is_recovered(elsewhere, far).await;
}

/// The data on disk is older than what Redis had accepted.
#[tokio::test]
async fn an_event_that_redis_has_lost_closes_only_the_subscribers_that_lack_it() {
    let mut torn = PartitionedPair::start(Redis::start().await).await;
    let near = subscriber(&torn.whole).await;
    let far = torn.receives_one_event().await;
    torn.redis.client().await.command(&["SAVE"]).await;
    torn.publish(torn.whole.address).await;
    near.receives("numbered", C, 2, RECOVERY_MAX).await;
    torn.redis.kill();
    torn.is_recovered(near, far).await;
}

async fn subscriber(node: &Server) -> Listener {
    let listener = Listener::of(node).await;
    listener.subscribe(C).await;
    listener
}

/// Two nodes, one of them behind a proxy.
struct PartitionedPair {
    redis: Redis,
    proxy: Proxy,
    whole: Server,
    distant: Server,
    ledger: Ledger,
}

impl PartitionedPair {
    async fn start(redis: Redis) -> Self {
        let proxy = Proxy::in_front_of(redis.address()).await;
        let settings = cluster_settings();
        let whole = node(&settings, &redis.url()).await;
        let distant = node(&settings, &proxy.url()).await;
        Self { redis, proxy, whole, distant, ledger: Ledger::default() }
    }

    async fn publish(&self, node: SocketAddr) {
        let outcome = self.ledger.publish(&mut Api::new(node), node, C).await;
        assert_eq!(outcome, Outcome::Accepted);
    }

    /// Subscribes on the distant node to one event that is received. Later events are not.
    async fn receives_one_event(&self) -> Listener {
        let far = subscriber(&self.distant).await;
        self.publish(self.whole.address).await;
        far.receives("numbered", C, 1, RECOVERY_MAX).await;
        self.proxy.set(LinkFault::DropToNode);
        far
    }

    /// Redis restarts. Of the two listeners, `far` is closed, and both agree with what was published.
    async fn is_recovered(&mut self, near: Listener, far: Listener) {
        self.redis.start_again().await;
        self.proxy.set(LinkFault::None);
        for node in [&self.whole, &self.distant] {
            becomes_ready(node, 2 * RECOVERY_MAX).await;
        }
        far.until("it is closed with 4200", RECOVERY_MAX, |_| far.closed() == Some(4200)).await;
        assert_eq!(far.count("numbered", C), 1, "{}", far.tail(9));
        self.publish(self.whole.address).await;
        near.ping_barrier().await;
        assert_eq!(near.closed(), None, "it received everything: {}", near.tail(9));
        assert_history_valid(&self.ledger, &[near, far]).await;
    }
}
