//! Redis has lost an event, and the node that has received it rejoins after the others have begun a new generation.

use std::time::{Duration, Instant};

use crate::support::{Api, C, Ledger, Listener, Outcome, RECOVERY_MAX, assert_history_valid};
use kit::{LinkFault, Proxy, Redis, Server, becomes_ready, cluster_settings, node};

/// A little longer than Redis waits for the nodes of the previous generation.
const NOT_WAITED_FOR: Duration = Duration::from_millis(5_500);

#[tokio::test]
async fn a_late_node_reports_an_event_that_others_lack() {
    is_reported_after(0).await;
}

/// The lost event and one of the new generation have the same sequence.
#[tokio::test]
async fn a_late_node_reports_an_event_whose_sequence_was_reused() {
    is_reported_after(1).await;
}

#[tokio::test]
async fn a_late_node_reports_an_event_with_a_sequence_below_the_present_one() {
    is_reported_after(3).await;
}

/// An event reaches the client of one node only, and Redis loses it. The node rejoins after the others have published
/// this many events.
async fn is_reported_after(events: usize) {
    let mut redis = Redis::start().await;
    let (lacking_link, late_link) =
        (Proxy::in_front_of(redis.address()).await, Proxy::in_front_of(redis.address()).await);
    let settings = cluster_settings();
    let lacking_node = node(&settings, &lacking_link.url()).await;
    let late_node = node(&settings, &late_link.url()).await;
    let ledger = Ledger::default();
    let (lacks, has) = (subscriber(&lacking_node).await, subscriber(&late_node).await);
    publish(&ledger, &late_node).await;
    for listener in [&lacks, &has] {
        listener.receives("numbered", C, 1, RECOVERY_MAX).await;
    }
    // Each node must have detected the other, so that Redis waits for both.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    redis.client().await.command(&["SAVE"]).await;
    lacking_link.set(LinkFault::DropToNode);
    publish(&ledger, &late_node).await;
    has.receives("numbered", C, 2, RECOVERY_MAX).await;
    redis.kill();
    late_link.set(LinkFault::DropBoth);
    redis.start_again().await;
    lacking_link.set(LinkFault::None);
    let begun = Instant::now();
    becomes_ready(&lacking_node, 2 * RECOVERY_MAX).await;
    tokio::time::sleep(NOT_WAITED_FOR.saturating_sub(begun.elapsed())).await;
    assert_eq!(lacks.closed(), None, "the loss is not yet detected");
    for _ in 0..events {
        publish(&ledger, &lacking_node).await;
    }
    lacks.receives("numbered", C, 1 + events, RECOVERY_MAX).await;

    late_link.set(LinkFault::None);
    becomes_ready(&late_node, RECOVERY_MAX).await;
    lacks.until("it is closed with 4200", RECOVERY_MAX, |_| lacks.closed() == Some(4200)).await;
    if 0 < events {
        has.until("it is closed with 4200", RECOVERY_MAX, |_| has.closed() == Some(4200)).await;
    }
    let again = [subscriber(&lacking_node).await, subscriber(&late_node).await];
    publish(&ledger, &late_node).await;
    for listener in &again {
        listener.receives("numbered", C, 1, RECOVERY_MAX).await;
        listener.ping_barrier().await;
        assert_eq!(listener.closed(), None, "{}", listener.tail(5));
    }
    assert_history_valid(&ledger, &again).await;
}

async fn subscriber(node: &Server) -> Listener {
    let listener = Listener::of(node).await;
    listener.subscribe(C).await;
    listener
}

async fn publish(ledger: &Ledger, node: &Server) {
    let outcome = ledger.publish(&mut Api::new(node.address), node.address, C).await;
    assert_eq!(outcome, Outcome::Accepted);
}
