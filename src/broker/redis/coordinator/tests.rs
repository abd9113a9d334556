use super::{
    testbed::{APP, Testbed, channel_name},
    *,
};
use crate::broker::redis::membership::{HEARTBEAT_INTERVAL, LINK_TIMEOUT, MembershipAction, Stage};
use crate::hub::Delivery;

const LEASES: Partition = Partition::LEASES;
const MS: Duration = Duration::from_millis(1);

/// Makes Redis forget the node, as if another node had declared it dead.
fn declare_dead(testbed: &Testbed, node: &str) {
    let registry = testbed.registry(LEASES);
    testbed.ask(LEASES, &["HDEL", &registry, &format!("n:{node}"), &format!("e:{node}")]);
    testbed.ask(LEASES, &["HSET", &registry, &format!("d:{node}"), "1"]);
}

fn is_disconnected(testbed: &Testbed) -> bool {
    matches!(testbed.coordinator.membership.stage, Stage::Disconnected(_))
}

/// A message that can't be read shows whether messages of its server are read at all.
#[tokio::test(start_paused = true)]
async fn messages_count_only_from_the_server_of_the_subscription() {
    let mut testbed = Testbed::joined(true).await;
    testbed.subscribe(1, "a", None);
    testbed.until_synced().await;
    let (pubsub_channel, partition) = testbed.channel("a");
    let unexpected = |testbed: &Testbed| testbed.coordinator.shared.metrics.unexpected_data.get();
    testbed.coordinator.on_message(ServerId::test(1_000), pubsub_channel.as_bytes(), b"unreadable");
    assert_eq!(unexpected(&testbed), 0, "another server");
    testbed.ask(partition, &["SPUBLISH", &pubsub_channel, "unreadable"]);
    testbed.run_for(Duration::from_secs(1)).await;
    assert_eq!(unexpected(&testbed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_declared_dead_joins_again_under_another_name() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "presence-a", Some("u"));
    testbed.until_synced().await;
    let before = testbed.coordinator.membership.token.as_ref().clone();
    let (key, _) = testbed.channel("presence-a");
    let old = format!("n:{}", before.node);
    assert_eq!(testbed.field(LEASES, &key, &old), "1");
    declare_dead(&testbed, &before.node);
    let is_back = |coordinator: &Coordinator| {
        coordinator.membership.is_joined() && coordinator.membership.node() != before.node
    };
    testbed.until("joined under another name", is_back).await;
    let process = testbed.coordinator.membership.process.clone();
    let node = testbed.coordinator.membership.node().to_owned();
    assert_eq!((before.node, node.clone()), (format!("{process}.1"), format!("{process}.2")));
    assert!(before.link_number < testbed.coordinator.membership.token.link_number);
    assert_eq!(testbed.field(LEASES, &key, &format!("n:{node}")), "1", "it is synced again");
    // Its earlier name is cleaned up at once, before the round of the comparison.
    testbed.run_for(Duration::from_secs(3)).await;
    let dump = testbed.dump();
    assert!(!dump.contains(&format!("{process}.1")), "{dump}");
    assert!(testbed.coordinator.membership.nodes.former_names.is_empty());
    assert_eq!(testbed.field(LEASES, &key, "t"), "1", "counted once");
}

#[tokio::test(start_paused = true)]
async fn each_join_has_a_higher_link_number() {
    let mut testbed = Testbed::joined(false).await;
    for _ in 0..3 {
        let (node, link) = {
            let token = &testbed.coordinator.membership.token;
            (token.node.clone(), token.link_number)
        };
        testbed.coordinator.close_link("a test");
        assert!(is_disconnected(&testbed));
        testbed.until("joined again", |coordinator| coordinator.membership.is_joined()).await;
        let token = &testbed.coordinator.membership.token;
        assert_eq!((&token.node, token.link_number), (&node, link + 1));
        let field = format!("n:{node}");
        assert_eq!(
            testbed.field(LEASES, &testbed.registry(LEASES), &field),
            token.link_number.to_string()
        );
    }
    assert_eq!(testbed.coordinator.shared.metrics.disconnects.get(), 3);
    assert_eq!(testbed.coordinator.shared.metrics.joins.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_link_is_closed_without_a_reply_in_time() {
    let mut testbed = Testbed::joined(false).await;
    let requested_at = now();
    testbed.coordinator.membership.requested_at = Some(requested_at);
    let shared = Arc::clone(&testbed.coordinator.shared);
    let suspect_after = shared.suspect_after();
    testbed.coordinator.tick_membership(requested_at + suspect_after);
    assert!(shared.joined_now().is_some(), "not suspected yet");
    testbed.coordinator.tick_membership(requested_at + suspect_after + MS);
    assert!(
        shared.joined_now().is_none() && !is_disconnected(&testbed),
        "suspected, but not closed"
    );
    testbed.coordinator.tick_membership(requested_at + LINK_TIMEOUT);
    assert!(!is_disconnected(&testbed), "not closed yet");
    testbed.coordinator.tick_membership(requested_at + LINK_TIMEOUT + MS);
    assert!(is_disconnected(&testbed));
    assert_eq!(shared.unavailable_reason().as_deref(), Some("redis does not answer"));
    assert!(
        testbed.coordinator.link.connection.is_none()
            && testbed.coordinator.membership.requested_at.is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn the_link_is_closed_when_redis_rejects_its_writes() {
    let mut testbed = Testbed::joined(false).await;
    let token = testbed.coordinator.membership.token.as_ref().clone();
    let earlier = crate::broker::redis::fencing_token::FencingToken {
        link_number: token.link_number - 1,
        ..token.clone()
    };
    testbed.coordinator.shared.on_fenced(&earlier);
    testbed.coordinator.tick_membership(now());
    assert!(!is_disconnected(&testbed), "of an earlier link");
    testbed.coordinator.shared.on_fenced(&token);
    testbed.coordinator.tick_membership(now());
    assert!(is_disconnected(&testbed));
    // Without a link, the rejection has no effect any more.
    testbed.until("joined again", |coordinator| coordinator.membership.is_joined()).await;
    assert!(!testbed.coordinator.shared.is_fenced(token.link_number));
}

#[tokio::test(start_paused = true)]
async fn a_suspected_redis_gets_a_heartbeat_at_once() {
    let mut testbed = Testbed::joined(false).await;
    testbed.coordinator.membership.requested_at = None;
    testbed.coordinator.membership.next_heartbeat = now() + HEARTBEAT_INTERVAL;
    testbed.coordinator.tick_membership(now());
    assert_eq!(testbed.coordinator.membership.requested_at, None, "a heartbeat is not due");
    testbed.coordinator.shared.mark_suspect();
    testbed.coordinator.tick_membership(now());
    assert_eq!(testbed.coordinator.membership.requested_at, Some(now()));
    testbed.until("not suspected", |coordinator| coordinator.shared.joined_now().is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn sequences_are_restored_after_redis_has_lost_its_data() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.until_synced().await;
    let (key, _) = testbed.channel("a");
    let (published, _) = testbed.channel("b");
    testbed.coordinator.shared.published_sequences.record(&published, 7, now());
    let is_current = |coordinator: &Coordinator| {
        coordinator.topics.all.values().all(|topic| topic.received_sequence() == 0)
    };
    assert!(is_current(&testbed.coordinator));
    // An event that a publisher has numbered.
    testbed.coordinator.shared.published_sequences.record(&key, 3, now());
    let generation = testbed.coordinator.membership.token.generation(LEASES).to_owned();
    testbed.network.flush("redis0", 6379);
    let is_back = |coordinator: &Coordinator| {
        let token = &coordinator.membership.token;
        coordinator.membership.is_joined() && token.generation(LEASES) != generation
    };
    testbed.until("another generation", is_back).await;
    assert_eq!(testbed.field(LEASES, &key, "s"), "3");
    assert_eq!(testbed.field(LEASES, &published, "s"), "7");
    assert_eq!(testbed.coordinator.membership.node().split('.').nth(1), Some("1"), "the same name");
}

/// The other nodes may write from about the same time on.
#[tokio::test(start_paused = true)]
async fn the_records_of_others_are_waited_for_from_when_this_node_has_joined() {
    let mut testbed = Testbed::joined(false).await;
    let membership = &mut testbed.coordinator.membership;
    // One that does not come back: the next generation opens without it after some time.
    let alive = vec![membership.node().to_owned(), "gone.1".to_owned()];
    membership.nodes.set_alive(alive);
    testbed.network.flush("redis0", 6379);
    let is_noticed = |coordinator: &Coordinator| {
        coordinator.shared.session_requests.data_losses() == 1
            && !coordinator.membership.is_joined()
    };
    testbed.until("the loss is noticed", is_noticed).await;
    let noticed = now();
    testbed.until("joined", |coordinator| coordinator.shared.joined_now().is_some()).await;
    assert!(2_500 * MS <= now() - noticed, "{:?}", now() - noticed);
    let until = testbed.coordinator.shared.session_requests.incomplete_until();
    assert!(until.is_some_and(|until| 2_000 * MS <= until - now()), "{until:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_leaves_no_state() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.until_synced().await;
    let coordinator = &mut testbed.coordinator;
    coordinator.membership.nodes.cleaning.insert("dead".into());
    coordinator.topics.sync_all();
    assert!(!coordinator.topics.all_synced());
    coordinator.membership.unopened.insert(LEASES);
    let link = coordinator.link.link_number;
    coordinator.close_link("a test");
    assert!(coordinator.membership.nodes.cleaning.is_empty() && coordinator.topics.all_synced());
    assert!(
        coordinator.membership.unopened.is_empty() && !coordinator.membership.pubsub.is_confirmed
    );
    assert!(coordinator.link.connection.is_none() && coordinator.link.events.is_none());
    assert_eq!(coordinator.link.link_number, link + 1);
    assert_eq!(coordinator.shared.unavailable_reason().as_deref(), Some("a test"));
    coordinator.close_link("again");
    assert_eq!(coordinator.link.link_number, link + 1, "there is no link");
    assert_eq!(coordinator.shared.unavailable_reason().as_deref(), Some("a test"));
    let name =
        coordinator.topics.get_or_create(&APP.into(), TopicSubject::Channel(channel_name("a")));
    assert!(!coordinator.topics.all[&name].is_synced(), "it is synced again");
    testbed.until("joined", |coordinator| coordinator.membership.is_joined()).await;
    testbed.until_synced().await;
    assert!(testbed.coordinator.topics.all[&name].is_synced());
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_updates_the_clock_of_redis_and_allows_requests() {
    let mut testbed = Testbed::joined(false).await;
    let coordinator = &mut testbed.coordinator;
    let reply = HeartbeatReply {
        partition: LEASES,
        status: crate::broker::redis::membership::RegistrationStatus::Ok,
        generation: coordinator.membership.token.generation(LEASES).to_owned(),
        is_open: true,
        was_open: true,
        redis_ms: 77_000,
        times: (now(), now()),
        dead: Vec::new(),
        alive: vec![coordinator.membership.node().to_owned()],
        generation_age: Duration::ZERO,
    };
    coordinator.shared.mark_suspect();
    assert!(!coordinator.may_sync(), "nothing is sent to a suspected redis");
    let completion = Completion::Heartbeat(HeartbeatPhase::Heartbeat, Ok(vec![reply]));
    coordinator.on_completion(completion);
    assert_eq!(coordinator.shared.redis_clocks.at(LEASES, now()), 77_000);
    assert!(coordinator.shared.joined_now().is_some() && coordinator.may_sync());
}

#[tokio::test(start_paused = true)]
async fn subscribers_that_may_have_missed_events_are_closed_but_not_in_unaffected_partitions() {
    for (unaffected, expected) in [(vec![LEASES], 0), (Vec::new(), 1)] {
        let mut testbed = Testbed::joined(false).await;
        testbed.subscribe(1, "a", None);
        testbed.until_synced().await;
        testbed.deliveries();
        let (key, _) = testbed.channel("a");
        testbed.coordinator.topics.mark_unverified(&key.into());
        let unaffected = unaffected.into_iter().collect();
        testbed.coordinator.execute([MembershipAction::Resubscribe { unaffected }]);
        let is_close = |one: &Delivery| matches!(one, Delivery::CloseSubscribers { .. });
        assert_eq!(testbed.deliveries().iter().filter(|one| is_close(one)).count(), expected);
        let closed = testbed.coordinator.shared.metrics.forced_resubscribes.get();
        assert_eq!(closed, expected as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_a_dead_node_left_behind_is_forwarded_by_the_first_node() {
    let mut testbed = Testbed::joined(true).await;
    let names = &testbed.coordinator.shared.names;
    let own = names.app_partition(APP);
    let other = names.partitions().find(|partition| *partition != own).unwrap();
    let (left_behind, log) = (names.webhook_log_key(APP, other), names.webhook_log_key(APP, own));
    // No node is notified of it.
    testbed.ask(other, &["RPUSH", &left_behind, "1 record"]);
    let end = now() + Duration::from_secs(30);
    while testbed.ask(other, &["EXISTS", &left_behind]) == redis::Value::Int(1) {
        assert!(now() < end, "still there after a round");
        testbed.turn().await;
    }
    assert_eq!(testbed.ask(own, &["LLEN", &log]), redis::Value::Int(1));
}
