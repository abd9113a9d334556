use super::*;
use crate::broker::redis::{
    coordinator::{
        Completion,
        testbed::{APP, Testbed, channel_name},
    },
    membership::HEARTBEAT_INTERVAL,
    names::TopicSubject,
};

const LEASES: Partition = Partition::LEASES;
const DEAD: &str = "0000dd.1";
/// Maximum time from the end of a lease to the end of its cleanup: the next heartbeat reports it.
const CLEANED_WITHIN: Duration = Duration::from_secs(3);

/// Registers a node with an expired lease, and with two subscriptions to each of the channels.
fn leave_behind(testbed: &Testbed, channels: &[&str]) {
    let names = &testbed.coordinator.shared.names;
    for partition in names.partitions() {
        let registry = testbed.registry(partition);
        testbed.ask(partition, &["HSET", &registry, &format!("n:{DEAD}"), "1"]);
    }
    testbed.ask(LEASES, &["HSET", &testbed.registry(LEASES), &format!("e:{DEAD}"), "1 6000"]);
    for channel in channels {
        let (key, partition) = testbed.channel(channel);
        let index = names.channel_index_key(APP, partition);
        let node = format!("n:{DEAD}");
        testbed.ask(partition, &["HSET", &key, "e", "epoch", "v", "1", "t", "2", &node, "2"]);
        testbed.ask(partition, &["HSET", &index, channel, "2 0"]);
        testbed.ask(partition, &["SADD", &names.node_topics_key(DEAD, partition), &key]);
    }
}

fn clean_up_after(testbed: &mut Testbed, node: String) {
    let actions = testbed.coordinator.membership.clean_up([node]);
    testbed.coordinator.execute(actions);
}

#[tokio::test(start_paused = true)]
async fn everything_of_a_node_with_an_expired_lease_is_removed() {
    for is_redis_cluster in [false, true] {
        let mut testbed = Testbed::joined(is_redis_cluster).await;
        testbed.subscribe(1, "b", None);
        testbed.until_synced().await;
        leave_behind(&testbed, &["a", "b", "c"]);
        // A name that no node gives to a topic.
        let topics = testbed.coordinator.shared.names.node_topics_key(DEAD, LEASES);
        testbed.ask(LEASES, &["SADD", &topics, "other"]);
        testbed.run_for(CLEANED_WITHIN).await;
        let dump = testbed.dump();
        assert!(!dump.contains(DEAD), "{dump}");
        for (channel, total) in [("a", ""), ("b", "1"), ("c", "")] {
            let (key, partition) = testbed.channel(channel);
            let found = testbed.field(partition, &key, "t");
            assert!(found == total || (total.is_empty() && found == "0"), "{channel}: {found}");
            let index = testbed.coordinator.shared.names.channel_index_key(APP, partition);
            let listed = testbed.field(partition, &index, channel);
            assert_eq!(listed, if channel == "b" { "1 0" } else { "" }, "{channel}");
        }
        assert_eq!(testbed.coordinator.shared.metrics.cleanups.get(), 1);
        assert!(testbed.coordinator.membership.nodes.cleaning.is_empty());
        let of_app = testbed.coordinator.shared.names.app_partition(APP);
        let log = testbed.coordinator.shared.names.webhook_log_key(APP, of_app);
        let log = format!("{:?}", testbed.ask(of_app, &["LRANGE", &log, "0", "-1"]));
        let log = log.replace('\\', "");
        for channel in ["a", "c"] {
            let end = format!("\"channel_vacated\",\"c\":\"{channel}\"");
            assert!(log.contains(&end), "its end is logged: {log}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_node_cleans_up_while_its_claim_holds() {
    let mut testbed = Testbed::joined(false).await;
    leave_behind(&testbed, &["a"]);
    let redis_ms = testbed.coordinator.shared.redis_clocks.at(LEASES, now());
    let claim = format!("0000ee.1 {}", redis_ms + 4_000);
    testbed.ask(LEASES, &["HSET", &testbed.registry(LEASES), &format!("c:{DEAD}"), &claim]);
    testbed.run_for(CLEANED_WITHIN).await;
    assert!(testbed.dump().contains(&format!("n:{DEAD}")), "another node does it");
    assert_eq!(testbed.coordinator.shared.metrics.cleanups.get(), 0);
    testbed.run_for(CLEANED_WITHIN).await;
    assert!(!testbed.dump().contains(DEAD), "the other node has died, too");
    assert_eq!(testbed.coordinator.shared.metrics.cleanups.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_alive_is_not_cleaned_up() {
    let mut testbed = Testbed::joined(false).await;
    leave_behind(&testbed, &["a"]);
    let ends = testbed.coordinator.shared.redis_clocks.at(LEASES, now()) + 5_000;
    let token = format!("{ends} 6000");
    testbed.ask(LEASES, &["HSET", &testbed.registry(LEASES), &format!("e:{DEAD}"), &token]);
    clean_up_after(&mut testbed, DEAD.to_owned());
    testbed.run_for(CLEANED_WITHIN).await;
    let (key, _) = testbed.channel("a");
    assert_eq!(testbed.field(LEASES, &key, &format!("n:{DEAD}")), "2");
    assert_eq!(testbed.coordinator.shared.metrics.cleanups.get(), 0);
    testbed.run_for(CLEANED_WITHIN + HEARTBEAT_INTERVAL).await;
    assert!(!testbed.dump().contains(DEAD));
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_runs_once_at_a_time() {
    let mut testbed = Testbed::joined(false).await;
    let own = testbed.coordinator.membership.node().to_owned();
    clean_up_after(&mut testbed, own);
    assert!(testbed.coordinator.membership.nodes.cleaning.is_empty(), "not after itself");
    clean_up_after(&mut testbed, DEAD.to_owned());
    assert!(testbed.coordinator.membership.nodes.cleaning.contains(DEAD));
    clean_up_after(&mut testbed, DEAD.to_owned());
    let mut ended = 0;
    let end = now() + CLEANED_WITHIN;
    while let Ok((_, completion)) =
        tokio::time::timeout_at(end.into(), testbed.completions.recv()).await.map(Option::unwrap)
    {
        ended += usize::from(matches!(completion, Completion::Cleaned(_)));
    }
    assert_eq!(ended, 1, "once at a time");
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_without_a_lease_fails() {
    let testbed = Testbed::joined(false).await;
    let token =
        FencingToken { link_number: 99, ..testbed.coordinator.membership.token.as_ref().clone() };
    let connection = testbed.coordinator.link.connection.clone().unwrap();
    let shared = Arc::clone(&testbed.coordinator.shared);
    let hubs = testbed.coordinator.topics.hubs.clone();
    let name = TopicName { app_id: APP.into(), subject: TopicSubject::Channel(channel_name("a")) };
    let cleaned = clean_topic((&shared, &token), &hubs, &name, DEAD, &connection).await;
    assert!(cleaned.is_err_and(|error| error.is_timeout()));
    let cleaning = CleanUp { shared, hubs, token: Arc::new(token), node: DEAD.to_owned() };
    let cleaned = cleaning.run(connection).await;
    assert!(!cleaned.is_done && cleaned.node == DEAD);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_stepped_does_not_stop_a_cleanup() {
    let testbed = Testbed::joined(true).await;
    let (_, partition) = testbed.channel("a");
    let shared = Arc::clone(&testbed.coordinator.shared);
    let connection = testbed.coordinator.link.connection.clone().unwrap();
    let token = Arc::clone(&testbed.coordinator.membership.token);
    testbed.network.step_clock(testbed.server_of(partition), 6379, 3_600_000);
    let name = TopicName { app_id: APP.into(), subject: TopicSubject::Channel(channel_name("a")) };
    let hubs = testbed.coordinator.topics.hubs.clone();
    let clean = || clean_topic((&shared, &token), &hubs, &name, DEAD, &connection);
    assert!(clean().await.is_err(), "its deadline has passed by that clock");
    assert!(clean().await.is_ok(), "the clock is known now");
}
