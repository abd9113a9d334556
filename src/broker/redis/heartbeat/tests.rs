use super::*;
use crate::broker::redis::{coordinator::testbed::Testbed, membership::MembershipAction};

const LEASES: Partition = Partition::LEASES;

#[tokio::test(start_paused = true)]
async fn a_round_begins_with_the_lease_partition_and_ends_with_it_when_leaving() {
    let mut testbed = Testbed::joined(true).await;
    let all = testbed.coordinator.shared.names.partitions().len();
    testbed.coordinator.membership.unopened = Partition::all(all).skip(3).take(2).collect();
    let node = format!("n:{}", testbed.coordinator.membership.node());
    // The lease partition rejects another registration with this link number, and comes first.
    for (phase, expected) in
        [(HeartbeatPhase::Join, 1), (HeartbeatPhase::Heartbeat, 3), (HeartbeatPhase::Leave, 1)]
    {
        let coordinator = &mut testbed.coordinator;
        let MembershipAction::Heartbeat(_, partitions) =
            coordinator.membership.heartbeat(phase, now())
        else {
            panic!("a heartbeat")
        };
        let connection = coordinator.link.connection.clone().unwrap();
        let (shared, membership) = (&coordinator.shared, &coordinator.membership);
        let replies = round(shared, membership, phase, partitions, connection).await.unwrap();
        assert_eq!(replies.len(), expected, "{phase:?}");
        let left = Partition::all(all)
            .filter(|one| testbed.field(*one, &testbed.registry(*one), &node).is_empty());
        assert_eq!(left.count(), if phase == HeartbeatPhase::Leave { all } else { 0 }, "{phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redis_with_nodes_of_the_earlier_layout_is_not_joined() {
    let leases = "test:leases{nodes}";
    let mut testbed = Testbed::joined(false).await;
    let connection = testbed.coordinator.link.connection.clone().unwrap();
    let redis_ms = testbed.coordinator.shared.redis_clocks.at(LEASES, now());
    let shared = Arc::clone(&testbed.coordinator.shared);
    testbed.ask(LEASES, &["ZADD", leases, &(redis_ms - 1_000).to_string(), "gone"]);
    assert!(!has_unversioned_nodes(&shared, &connection).await.unwrap());
    testbed.ask(LEASES, &["ZADD", leases, &(redis_ms + 60_000).to_string(), "alive"]);
    assert!(has_unversioned_nodes(&shared, &connection).await.unwrap());
    testbed.coordinator.close_link("a test");
    testbed.run_for(Duration::from_secs(2)).await;
    assert_eq!(shared.unavailable_reason().as_deref(), Some(OTHER_KEY_LAYOUT));
    testbed.ask(LEASES, &["DEL", leases]);
    testbed.ask(LEASES, &["SET", leases, "of another type"]);
    testbed.until("joined", |coordinator| coordinator.membership.is_joined()).await;
}

fn reply(status: &str, born_ms: i64) -> Result<HeartbeatReply, Unexpected> {
    let text = |text: &str| Value::BulkString(text.into());
    let names = |names: &[&str]| Value::Array(names.iter().map(|name| text(name)).collect());
    let number = Value::Int;
    let values = [text(status), text("g1"), number(0), number(1), number(5_000)];
    let lists = [names(&["d.1"]), names(&["a.1", "b.1"]), number(born_ms)];
    let value = Value::Array(values.into_iter().chain(lists).collect());
    parse_heartbeat_reply(Partition::LEASES, value, (now(), now()))
}

#[test]
fn a_reply_is_parsed() {
    let read = reply("ok", 1_500).unwrap();
    assert_eq!(read.status, RegistrationStatus::Ok);
    assert_eq!((&*read.generation, read.redis_ms), ("g1", 5_000));
    assert_eq!((read.is_open, read.was_open), (false, true));
    assert_eq!((read.dead, read.alive), (vec!["d.1".into()], vec!["a.1".into(), "b.1".into()]));
    assert_eq!(read.generation_age, Duration::from_millis(3_500));
    assert_eq!(reply("ok", 6_000).unwrap().generation_age, Duration::ZERO, "its clock was stepped");
    assert_eq!(reply("lease_expired", 0).unwrap().status, RegistrationStatus::LeaseExpired);
    assert_eq!(reply("layout", 0).unwrap().status, RegistrationStatus::LayoutMismatch);
    assert!(reply("other", 0).is_err());
}

#[test]
fn each_phase_has_its_name() {
    let phases = [
        HeartbeatPhase::Join,
        HeartbeatPhase::Syncing,
        HeartbeatPhase::Synced,
        HeartbeatPhase::Heartbeat,
        HeartbeatPhase::Leave,
    ];
    let words = ["join", "syncing", "synced", "heartbeat", "leave"];
    assert_eq!(phases.map(|phase| word(phase, false)), words);
    let words = ["join", "syncing", "incomplete", "heartbeat", "leave"];
    assert_eq!(phases.map(|phase| word(phase, true)), words);
}
