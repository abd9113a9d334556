use super::*;
use crate::cluster::{
    coordinator::testbed::{APP, Testbed, channel_name},
    lease::Lease,
};
use crate::hub::Delivery;

const HOME: Partition = Partition::HOME;
const MS: Duration = Duration::from_millis(1);

/// Makes Redis forget the node, as if another node had declared it dead.
fn declare_dead(testbed: &Testbed, node: &str) {
    let registry = testbed.registry(HOME);
    testbed.ask(HOME, &["HDEL", &registry, &format!("n:{node}"), &format!("e:{node}")]);
    testbed.ask(HOME, &["HSET", &registry, &format!("d:{node}"), "1"]);
}

fn is_away(testbed: &Testbed) -> bool {
    matches!(testbed.coordinator.membership.stage, Stage::Disconnected(_))
}

fn reply(testbed: &Testbed) -> HeartbeatReply {
    HeartbeatReply {
        partition: HOME,
        status: Registered::Yes,
        generation: testbed.coordinator.membership.lease.generation(HOME).to_owned(),
        is_open: true,
        was_open: true,
        redis_ms: 1,
        times: (now(), now()),
        dead: Vec::new(),
        alive: vec![testbed.coordinator.membership.node().to_owned()],
        age: Duration::ZERO,
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_declared_dead_joins_again_under_another_name() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "presence-a", Some("u"));
    testbed.settle().await;
    let before = testbed.coordinator.membership.lease.as_ref().clone();
    let (key, _) = testbed.channel("presence-a");
    let old = format!("n:{}", before.node);
    assert_eq!(testbed.field(HOME, &key, &old), "1");
    declare_dead(&testbed, &before.node);
    let is_back = |coordinator: &Coordinator| {
        coordinator.membership.is_joined() && coordinator.membership.node() != before.node
    };
    testbed.until("joined under another name", is_back).await;
    let process = testbed.coordinator.membership.process.clone();
    let node = testbed.coordinator.membership.node().to_owned();
    assert_eq!((before.node, node.clone()), (format!("{process}.1"), format!("{process}.2")));
    assert!(before.link < testbed.coordinator.membership.lease.link);
    assert_eq!(testbed.field(HOME, &key, &format!("n:{node}")), "1", "it is synced again");
    // Its earlier name is cleaned up at once, before the round of the comparison.
    testbed.run_for(Duration::from_secs(3)).await;
    let dump = testbed.dump();
    assert!(!dump.contains(&format!("{process}.1")), "{dump}");
    assert!(testbed.coordinator.membership.former.is_empty());
    assert_eq!(testbed.field(HOME, &key, "t"), "1", "counted once");
}

#[tokio::test(start_paused = true)]
async fn each_join_has_a_higher_link_number() {
    let mut testbed = Testbed::joined(false).await;
    for _ in 0..3 {
        let (node, link) = {
            let lease = &testbed.coordinator.membership.lease;
            (lease.node.clone(), lease.link)
        };
        testbed.coordinator.lose_link("a test");
        assert!(is_away(&testbed));
        testbed.until("joined again", |coordinator| coordinator.membership.is_joined()).await;
        let lease = &testbed.coordinator.membership.lease;
        assert_eq!((&lease.node, lease.link), (&node, link + 1));
        let field = format!("n:{node}");
        assert_eq!(testbed.field(HOME, &testbed.registry(HOME), &field), lease.link.to_string());
    }
    assert_eq!(testbed.coordinator.shared.metrics.disconnects.get(), 3);
    assert_eq!(testbed.coordinator.shared.metrics.joins.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_link_is_closed_without_an_answer_in_time() {
    let mut testbed = Testbed::joined(false).await;
    let asked = now();
    testbed.coordinator.membership.asked = Some(asked);
    let shared = Arc::clone(&testbed.coordinator.shared);
    let suspect_after = shared.suspect_after();
    testbed.coordinator.keep_link(asked + suspect_after);
    assert!(shared.joined_now().is_some(), "not suspected yet");
    testbed.coordinator.keep_link(asked + suspect_after + MS);
    assert!(shared.joined_now().is_none() && !is_away(&testbed), "suspected, but not given up");
    testbed.coordinator.keep_link(asked + LINK_TIMEOUT);
    assert!(!is_away(&testbed), "not given up yet");
    testbed.coordinator.keep_link(asked + LINK_TIMEOUT + MS);
    assert!(is_away(&testbed));
    assert_eq!(shared.unavailable_reason().as_deref(), Some("redis does not answer"));
    assert!(
        testbed.coordinator.connection.is_none() && testbed.coordinator.membership.asked.is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn the_link_is_closed_when_the_bus_is_silent() {
    let mut testbed = Testbed::joined(false).await;
    let echoed = now();
    testbed.coordinator.membership.asked = None;
    testbed.coordinator.membership.echoed = echoed;
    let patience = LINK_TIMEOUT + HEARTBEAT_INTERVAL + testbed.coordinator.in_flight.time();
    testbed.coordinator.keep_link(echoed + patience);
    assert!(!is_away(&testbed), "not yet");
    testbed.coordinator.membership.asked = None;
    // Before its first heartbeat it receives none of its messages.
    testbed.coordinator.membership.stage = Stage::Joining;
    testbed.coordinator.keep_link(echoed + patience + MS);
    assert_eq!(testbed.coordinator.membership.stage, Stage::Joining);
    for stage in [Stage::Restoring, Stage::Syncing, Stage::Arriving, Stage::Waiting] {
        let mut testbed = Testbed::joined(false).await;
        testbed.coordinator.membership.stage = stage;
        testbed.coordinator.membership.asked = None;
        testbed.coordinator.membership.echoed = echoed;
        testbed.coordinator.keep_link(echoed + patience + MS);
        assert!(is_away(&testbed), "{stage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_link_is_closed_when_redis_refuses_its_writes() {
    let mut testbed = Testbed::joined(false).await;
    let lease = testbed.coordinator.membership.lease.as_ref().clone();
    let earlier = Lease { link: lease.link - 1, ..lease.clone() };
    testbed.coordinator.shared.refused(&earlier);
    testbed.coordinator.keep_link(now());
    assert!(!is_away(&testbed), "of an earlier link");
    testbed.coordinator.shared.refused(&lease);
    testbed.coordinator.keep_link(now());
    assert!(is_away(&testbed));
    // Without a link, the refusal has no effect any more.
    testbed.until("joined again", |coordinator| coordinator.membership.is_joined()).await;
    assert!(!testbed.coordinator.shared.is_refused(lease.link));
}

#[tokio::test(start_paused = true)]
async fn a_suspected_redis_is_asked_at_once() {
    let mut testbed = Testbed::joined(false).await;
    testbed.coordinator.membership.asked = None;
    testbed.coordinator.membership.next_heartbeat = now() + HEARTBEAT_INTERVAL;
    testbed.coordinator.keep_link(now());
    assert_eq!(testbed.coordinator.membership.asked, None, "a heartbeat is not due");
    testbed.coordinator.shared.suspect();
    testbed.coordinator.keep_link(now());
    assert_eq!(testbed.coordinator.membership.asked, Some(now()));
    testbed.until("not suspected", |coordinator| coordinator.shared.joined_now().is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_sent_each_second_one_at_a_time() {
    let mut testbed = Testbed::joined(false).await;
    testbed.until("an answer", |coordinator| coordinator.membership.asked.is_none()).await;
    let due = testbed.coordinator.membership.next_heartbeat;
    testbed.coordinator.keep_link(due - MS);
    assert_eq!(testbed.coordinator.membership.asked, None);
    testbed.coordinator.keep_link(due);
    assert_eq!(testbed.coordinator.membership.asked, Some(due));
    assert_eq!(testbed.coordinator.membership.next_heartbeat, due + HEARTBEAT_INTERVAL);
    testbed.coordinator.keep_link(due + MS);
    assert_eq!(testbed.coordinator.membership.asked, Some(due), "one is under way");
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_node_reconnects_unless_it_stops() {
    let mut testbed = Testbed::new(false);
    let due = now() + Duration::from_secs(1);
    testbed.coordinator.membership.stage = Stage::Disconnected(due);
    testbed.coordinator.keep_link(due - MS);
    assert_eq!(testbed.coordinator.membership.stage, Stage::Disconnected(due));
    testbed.coordinator.stopping = Some((tokio::sync::oneshot::channel().0, false));
    testbed.coordinator.keep_link(due);
    assert_eq!(testbed.coordinator.membership.stage, Stage::Disconnected(due));
    testbed.coordinator.stopping = None;
    testbed.coordinator.keep_link(due);
    assert_eq!(testbed.coordinator.membership.stage, Stage::Connecting);
    assert_eq!(testbed.coordinator.membership.lease.link, 1);
}

#[tokio::test(start_paused = true)]
async fn topics_are_synced_from_the_registration_on() {
    let mut testbed = Testbed::joined(false).await;
    for (stage, may) in [
        (Stage::Disconnected(now()), false),
        (Stage::Connecting, false),
        (Stage::Joining, false),
        (Stage::Restoring, false),
        (Stage::Syncing, true),
        (Stage::Arriving, true),
        (Stage::Waiting, true),
        (Stage::Joined, true),
    ] {
        testbed.coordinator.membership.stage = stage;
        assert_eq!(testbed.coordinator.may_sync(), may, "{stage:?}");
    }
    testbed.coordinator.shared.suspect();
    assert!(!testbed.coordinator.may_sync(), "nothing is sent to a suspected redis");
}

#[tokio::test(start_paused = true)]
async fn a_node_arrives_once_everything_is_synced() {
    let mut testbed = Testbed::joined(false).await;
    testbed.until("an answer", |coordinator| coordinator.membership.asked.is_none()).await;
    testbed.coordinator.membership.stage = Stage::Syncing;
    testbed.coordinator.unsettled.insert("one".into());
    let due = testbed.coordinator.membership.next_heartbeat;
    testbed.coordinator.keep_link(due);
    assert_eq!(testbed.coordinator.membership.stage, Stage::Syncing);
    assert!(testbed.coordinator.membership.asked.is_some(), "it reports its progress");
    testbed.coordinator.settled(&"one".into());
    testbed.coordinator.keep_link(due);
    assert_eq!(testbed.coordinator.membership.stage, Stage::Arriving);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_sent_to_closed_partitions_and_when_leaving_to_all() {
    let mut testbed = Testbed::joined(true).await;
    let all = testbed.coordinator.shared.names.partitions().len();
    testbed.until("an answer", |coordinator| coordinator.membership.asked.is_none()).await;
    testbed.coordinator.membership.closed = Partition::all(all).skip(3).take(2).collect();
    let node = format!("n:{}", testbed.coordinator.membership.node());
    // The home partition refuses another registration with this link number, and is asked first.
    for (phase, expected) in
        [(HeartbeatPhase::Join, 1), (HeartbeatPhase::Heartbeat, 3), (HeartbeatPhase::Leave, 1)]
    {
        testbed.coordinator.send_heartbeat(phase, now());
        let replies = loop {
            if let Completion::Heartbeat(of, replies) = testbed.completion().await
                && of == phase
            {
                break replies.unwrap();
            }
        };
        assert_eq!(replies.len(), expected, "{phase:?}");
        let left = Partition::all(all)
            .filter(|one| testbed.field(*one, &testbed.registry(*one), &node).is_empty());
        assert_eq!(left.count(), if phase == HeartbeatPhase::Leave { all } else { 0 }, "{phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unexpected_answer_to_a_heartbeat_ends_the_link() {
    type Change = fn(&mut HeartbeatReply);
    let answers: [(Change, Option<&str>); 4] = [
        (|_| {}, None),
        (|reply| reply.status = Registered::LeaseExpired, Some("this node's lease has ended")),
        (|reply| reply.generation = "other".into(), Some("redis has begun again")),
        (|reply| reply.status = Registered::OtherLayout, Some(OTHER_LAYOUT)),
    ];
    for (change, reason) in answers {
        for phase in [HeartbeatPhase::Busy, HeartbeatPhase::Heartbeat] {
            let mut testbed = Testbed::joined(false).await;
            let mut reply = reply(&testbed);
            change(&mut reply);
            testbed.coordinator.on_heartbeat(phase, Ok(vec![reply]));
            let because = testbed.coordinator.shared.unavailable_reason();
            let is_right = match (&because, reason) {
                (Some(because), Some(reason)) => because.starts_with(reason),
                (because, reason) => because.is_none() && reason.is_none(),
            };
            assert!(is_right, "{because:?} instead of {reason:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_opens_partitions_and_lists_the_live_nodes() {
    let mut testbed = Testbed::joined(true).await;
    let [one, other] = [3, 4].map(|number| Partition::all(5).nth(number).unwrap());
    testbed.coordinator.membership.closed = [one, other].into();
    testbed.coordinator.membership.stage = Stage::Waiting;
    testbed.coordinator.membership.is_heard = true;
    let home =
        HeartbeatReply { alive: vec!["0000ab.1".into()], redis_ms: 77_000, ..reply(&testbed) };
    let generation =
        |partition| testbed.coordinator.membership.lease.generation(partition).to_owned();
    let generations = [one, other].map(generation);
    let of = |partition, generation: &String, is_open, testbed: &Testbed| HeartbeatReply {
        partition,
        generation: generation.clone(),
        is_open,
        ..reply(testbed)
    };
    let replies = vec![
        home,
        of(one, &generations[0], true, &testbed),
        of(other, &generations[1], false, &testbed),
    ];
    testbed.coordinator.on_heartbeat(HeartbeatPhase::Heartbeat, Ok(replies));
    assert_eq!(testbed.coordinator.membership.closed, [other].into());
    assert_eq!(testbed.coordinator.membership.stage, Stage::Waiting, "one is closed");
    assert_eq!(testbed.coordinator.membership.alive, ["0000ab.1"]);
    assert_eq!(testbed.coordinator.shared.clock.at(HOME, now()), 77_000);
    let replies = vec![reply(&testbed), of(other, &generations[1], true, &testbed)];
    testbed.coordinator.on_heartbeat(HeartbeatPhase::Heartbeat, Ok(replies));
    assert_eq!(testbed.coordinator.membership.stage, Stage::Joined);
    assert!(testbed.coordinator.shared.joined_now().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_has_joined_once_it_receives_its_own_heartbeat() {
    let mut testbed = Testbed::joined(false).await;
    testbed.coordinator.membership.stage = Stage::Waiting;
    testbed.coordinator.membership.is_heard = false;
    testbed.coordinator.on_echo("0000ab.1");
    assert_eq!(testbed.coordinator.membership.stage, Stage::Waiting);
    let before = testbed.coordinator.membership.echoed;
    tokio::time::advance(MS).await;
    let node = testbed.coordinator.membership.node().to_owned();
    testbed.coordinator.on_echo(&node);
    assert_eq!(testbed.coordinator.membership.stage, Stage::Joined);
    assert_eq!(testbed.coordinator.membership.echoed, now());
    assert!(before < now());
}

/// A node with a subscriber, which may have missed events of a partition that is `changed` or not.
async fn is_interrupted(
    change: impl Fn(&mut HeartbeatReply),
    deaf: Duration,
    is_changed: bool,
) -> bool {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.settle().await;
    testbed.deliveries();
    let (key, _) = testbed.channel("a");
    testbed.coordinator.membership.heard = Some(now());
    testbed.coordinator.membership.become_deaf();
    tokio::time::advance(deaf).await;
    testbed.coordinator.unverified = vec![key.into()];
    testbed.coordinator.changed = if is_changed { [HOME].into() } else { BTreeSet::new() };
    testbed.coordinator.membership.stage = Stage::Arriving;
    let mut reply = HeartbeatReply { was_open: false, ..reply(&testbed) };
    change(&mut reply);
    testbed.coordinator.on_arrived(&[reply]);
    assert_eq!(testbed.coordinator.membership.stage, Stage::Waiting);
    let closes = testbed.deliveries();
    let is_closed = closes.iter().any(|one| matches!(one, Delivery::CloseChannel { .. }));
    assert_eq!(testbed.coordinator.shared.metrics.forced_resubscribes.get(), u64::from(is_closed));
    is_closed
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_closed_if_they_may_have_missed_an_event() {
    let nothing = Duration::ZERO;
    assert!(!is_interrupted(|_| {}, nothing, true).await, "no node could publish");
    assert!(is_interrupted(|_| {}, nothing, false).await, "the generation is the same");
    assert!(is_interrupted(|reply| reply.was_open = true, nothing, true).await, "it was open");
    let longest = published_sequences::WINDOW - MARGIN;
    assert!(!is_interrupted(|_| {}, longest, true).await, "others have reported the sequence");
    assert!(is_interrupted(|_| {}, longest + MS, true).await, "it was deaf for longer");
    let age = Duration::from_secs(2);
    assert!(!is_interrupted(|reply| reply.age = age, longest + age, true).await);
    assert!(is_interrupted(|reply| reply.age = age, longest + age + MS, true).await);
}

#[tokio::test(start_paused = true)]
async fn sequences_are_restored_after_redis_has_lost_its_data() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.settle().await;
    let (key, _) = testbed.channel("a");
    let (published, _) = testbed.channel("b");
    testbed.coordinator.shared.published_sequences.note(&published, 7, now());
    let is_current =
        |coordinator: &Coordinator| coordinator.topics.values().all(|topic| topic.reached() == 0);
    assert!(is_current(&testbed.coordinator));
    // An event that a publisher has numbered.
    testbed.coordinator.shared.published_sequences.note(&key, 3, now());
    let generation = testbed.coordinator.membership.lease.generation(HOME).to_owned();
    testbed.network.flush("redis0", 6379);
    let is_back = |coordinator: &Coordinator| {
        let lease = &coordinator.membership.lease;
        coordinator.membership.is_joined() && lease.generation(HOME) != generation
    };
    testbed.until("another generation", is_back).await;
    assert_eq!(testbed.field(HOME, &key, "s"), "3");
    assert_eq!(testbed.field(HOME, &published, "s"), "7");
    assert_eq!(testbed.coordinator.membership.node().split('.').nth(1), Some("1"), "the same name");
}

#[tokio::test(start_paused = true)]
async fn a_redis_with_nodes_of_the_earlier_layout_is_not_joined() {
    let leases = "test:leases{nodes}";
    let mut testbed = Testbed::joined(false).await;
    let connection = testbed.coordinator.connection.clone().unwrap();
    let redis_ms = testbed.coordinator.shared.clock.at(HOME, now());
    let shared = Arc::clone(&testbed.coordinator.shared);
    testbed.ask(HOME, &["ZADD", leases, &(redis_ms - 1_000).to_string(), "gone"]);
    assert!(!has_unversioned_nodes(&shared, &connection).await.unwrap());
    testbed.ask(HOME, &["ZADD", leases, &(redis_ms + 60_000).to_string(), "alive"]);
    assert!(has_unversioned_nodes(&shared, &connection).await.unwrap());
    testbed.coordinator.lose_link("a test");
    testbed.run_for(Duration::from_secs(2)).await;
    assert_eq!(shared.unavailable_reason().as_deref(), Some(OTHER_LAYOUT));
    testbed.ask(HOME, &["DEL", leases]);
    testbed.ask(HOME, &["SET", leases, "of another type"]);
    testbed.until("joined", |coordinator| coordinator.membership.is_joined()).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_leaves_no_state() {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.settle().await;
    let coordinator = &mut testbed.coordinator;
    coordinator.cleaning.insert("dead".into());
    coordinator.unsettled.insert("topic".into());
    coordinator.membership.closed.insert(HOME);
    let link = coordinator.link_number;
    coordinator.lose_link("a test");
    assert!(coordinator.cleaning.is_empty() && coordinator.unsettled.is_empty());
    assert!(coordinator.membership.closed.is_empty() && !coordinator.membership.is_heard);
    assert!(coordinator.connection.is_none() && coordinator.pushes.is_none());
    assert_eq!(coordinator.link_number, link + 1);
    assert_eq!(coordinator.shared.unavailable_reason().as_deref(), Some("a test"));
    coordinator.lose_link("again");
    assert_eq!(coordinator.link_number, link + 1, "there is no link");
    assert_eq!(coordinator.shared.unavailable_reason().as_deref(), Some("a test"));
    let name =
        coordinator.topic(&APP.into(), crate::cluster::names::Subject::Channel(channel_name("a")));
    assert!(!coordinator.topics[&name].has_settled(), "it is synced again");
    testbed.until("joined", |coordinator| coordinator.membership.is_joined()).await;
    testbed.settle().await;
    assert!(testbed.coordinator.topics[&name].has_settled());
}
