use super::*;
use crate::{
    broker::redis::{
        coordinator::{
            Coordinator,
            testbed::{APP, Testbed},
        },
        nodes::ORPHAN_DEAD_AFTER,
    },
    hub::Delivery,
};

const LEASES: Partition = Partition::LEASES;
/// A round of comparisons.
const ROUND: Duration = Duration::from_secs(31);

#[tokio::test(start_paused = true)]
async fn topics_that_differ_in_redis_are_repaired_within_a_round() {
    let mut testbed = Testbed::joined(false).await;
    // Two for each step of a round: with half as many at a time, a round would not be enough.
    let channels: Vec<String> = (0..56).map(|number| format!("presence-{number}")).collect();
    for (slot, channel) in (1..).zip(&channels) {
        testbed.subscribe(slot, channel, Some("u"));
    }
    testbed.until_synced().await;
    let own = format!("n:{}", testbed.coordinator.membership.node());
    for channel in &channels {
        let (key, _) = testbed.channel(channel);
        assert_eq!(testbed.field(LEASES, &key, &own), "1");
        testbed.ask(LEASES, &["HSET", &key, &own, "5"]);
    }
    testbed.run_for(ROUND).await;
    for channel in &channels {
        let (key, _) = testbed.channel(channel);
        assert_eq!(testbed.field(LEASES, &key, &own), "1", "{channel}");
        assert_eq!(testbed.field(LEASES, &key, "t"), "1", "{channel}");
    }
    assert_eq!(testbed.coordinator.shared.metrics.repaired.get(), 56);
    testbed.run_for(ROUND).await;
    assert_eq!(testbed.coordinator.shared.metrics.repaired.get(), 56, "nothing differs any more");
}

#[tokio::test(start_paused = true)]
async fn a_topic_of_a_round_that_has_begun_is_compared_in_it() {
    for later in ["a", "zz"] {
        let mut testbed = Testbed::joined(false).await;
        for slot in 1..=56 {
            testbed.subscribe(slot, &format!("b{slot}"), None);
        }
        testbed.until_synced().await;
        // The first step is done.
        testbed.run_for(2 * COMPARE_INTERVAL).await;
        testbed.subscribe(57, later, None);
        testbed.until_synced().await;
        let own = testbed.coordinator.membership.node().to_owned();
        let list = testbed.coordinator.shared.names.node_topics_key(&own, LEASES);
        let (key, _) = testbed.channel(later);
        testbed.ask(LEASES, &["SREM", &list, &key]);
        testbed.run_for(ROUND).await;
        let is_listed = testbed.ask(LEASES, &["SISMEMBER", &list, &key]);
        assert_eq!(is_listed, Value::Int(1), "{later}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_being_synced_is_compared_in_the_next_step() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.until_synced().await;
    let mut comparison = Comparison::default();
    let mut compared = async |testbed: &mut Testbed| {
        let Coordinator { shared, membership, topics, link, .. } = &testbed.coordinator;
        let connection = link.connection.as_ref().unwrap();
        let context = TickContext { shared, membership, topics, connection };
        let mut names = Vec::new();
        for compare in comparison.due_comparisons(context, now()) {
            names.extend(compare.await.topics.into_iter().map(|(name, _)| name));
        }
        names
    };
    testbed.subscribe(2, "a", None);
    assert!(compared(&mut testbed).await.is_empty(), "it waits for its sync");
    testbed.subscribe(3, "b", None);
    testbed.until_synced().await;
    let names: Vec<Arc<str>> = ["a", "b"].map(|channel| testbed.channel(channel).0.into()).to_vec();
    assert_eq!(compared(&mut testbed).await, names, "the one that was skipped, and the next");
    assert_eq!(compared(&mut testbed).await, names[..1], "the next round");
}

#[tokio::test(start_paused = true)]
async fn subscribers_that_have_missed_an_event_are_closed_within_a_round() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.subscribe(2, "b", None);
    testbed.until_synced().await;
    testbed.deliveries();
    let (key, _) = testbed.channel("a");
    testbed.ask(LEASES, &["HINCRBY", &key, "s", "1"]);
    testbed.run_for(ROUND).await;
    let is_close = |one: &Delivery| matches!(one, Delivery::CloseSubscribers { .. });
    assert_eq!(testbed.deliveries().iter().filter(|one| is_close(one)).count(), 1);
    assert_eq!(testbed.coordinator.shared.metrics.forced_resubscribes.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn contributions_that_no_node_holds_are_removed() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.until_synced().await;
    let names = &testbed.coordinator.shared.names;
    let (channels, users) =
        (names.channel_index_key(APP, LEASES), names.user_index_key(APP, LEASES));
    let own = testbed.coordinator.membership.node().to_owned();
    // A name of this node from before a loss of data, and entries without a topic.
    let (key, _) = testbed.channel("own");
    testbed.ask(LEASES, &["HSET", &key, "e", "x", "v", "1", "t", "1", &format!("n:{own}"), "1"]);
    testbed.ask(LEASES, &["SADD", &names.node_topics_key(&own, LEASES), &key]);
    testbed.ask(LEASES, &["HSET", &channels, "own", "1 0", "gone", "3 0"]);
    testbed.ask(LEASES, &["HSET", &users, "absent", "1 0"]);
    testbed.coordinator.comparison.scan_own_lists();
    testbed.run_for(2 * ROUND).await;
    let dump = testbed.dump();
    assert_eq!(testbed.field(LEASES, &key, &format!("n:{own}")), "", "{dump}");
    assert_eq!(testbed.field(LEASES, &channels, "own"), "", "{dump}");
    assert_eq!(testbed.field(LEASES, &channels, "gone"), "", "{dump}");
    assert_eq!(testbed.field(LEASES, &users, "absent"), "", "{dump}");
    assert_eq!(testbed.field(LEASES, &channels, "a"), "1 0", "what is held stays");
    assert_eq!(testbed.coordinator.shared.metrics.repaired.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_only_a_partition_lists_is_cleaned_up_after_a_while() {
    let mut testbed = Testbed::joined(true).await;
    testbed.subscribe(1, "a", None);
    testbed.until_synced().await;
    let (_, partition) = testbed.channel("a");
    assert_ne!(partition, LEASES);
    let registry = testbed.registry(partition);
    testbed.ask(partition, &["HSET", &registry, "n:0000dd.1", "1"]);
    testbed.run_for(ORPHAN_DEAD_AFTER - Duration::from_secs(1)).await;
    assert_eq!(testbed.coordinator.shared.metrics.cleanups.get(), 0, "not yet");
    testbed.run_for(Duration::from_secs(10)).await;
    assert_eq!(testbed.field(partition, &registry, "n:0000dd.1"), "", "{}", testbed.dump());
}

#[test]
fn a_reply_is_parsed() {
    let text = |text: &str| Value::BulkString(text.into());
    let reply = |status: &str| {
        Value::Array(vec![
            text(status),
            Value::Int(1),
            text("epoch"),
            Value::Int(2),
            Value::Int(3),
            Value::Int(1),
            text(""),
            Value::Int(0),
            Value::Int(0),
            Value::Int(0),
            Value::Array(vec![text("ab.1")]),
        ])
    };
    let (found, registered) = parse_compare_reply(reply("ok")).unwrap().unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|one| (&*one.epoch, one.version, one.sequence, one.is_inconsistent))
        .collect();
    assert_eq!(found, [("epoch", 2, 3, true), ("", 0, 0, false)]);
    assert_eq!(registered, ["ab.1"]);
    assert!(parse_compare_reply(reply("fenced")).unwrap().is_none());
    assert!(parse_compare_reply(Value::Array(vec![text("ok"), Value::Int(1)])).is_err());
}
