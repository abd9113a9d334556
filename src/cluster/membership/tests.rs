//! Names, delays and replies of a joining node.

use super::*;

const TIMEOUT: Duration = Duration::from_secs(6);

fn membership() -> Membership {
    Membership::new("0000ab".into(), TIMEOUT)
}

#[test]
fn a_node_that_was_declared_dead_takes_another_name() {
    let mut membership = membership();
    membership.was_registered = true;
    assert_eq!(membership.node(), "0000ab.1");
    membership.rename();
    assert_eq!(membership.node(), "0000ab.2");
    assert!(!membership.was_registered, "redis does not have the new name");
    assert_eq!(membership.former.iter().collect::<Vec<_>>(), ["0000ab.1"], "to be cleaned up");
    membership.rename();
    assert_eq!((membership.node(), membership.former.len()), ("0000ab.3", 2));
}

#[test]
fn each_link_has_a_higher_number() {
    let mut membership = membership();
    let before = Arc::clone(&membership.lease);
    membership.next_link();
    membership.next_link();
    assert_eq!((before.link, membership.lease.link), (0, 2));
}

#[test]
fn the_delay_between_connection_attempts_grows() {
    for (is_cluster, longest) in
        [(false, Duration::from_millis(400)), (true, Duration::from_secs(2))]
    {
        let mut membership = membership();
        let mut expected = Duration::from_millis(50);
        for _ in 0..9 {
            let start = now();
            let wait = membership.back_off(is_cluster) - start;
            let late = now() - start;
            assert!(expected <= wait && wait <= expected * 3 / 2 + late, "{wait:?}");
            expected = (expected * 2).min(longest);
        }
        assert_eq!(expected, longest);
    }
}

#[test]
fn heartbeats_are_frequent_until_the_node_is_joined() {
    let mut membership = membership();
    let mut closed = Partition::all(2);
    assert_eq!(membership.interval(), EAGER_INTERVAL);
    membership.closed.extend(closed.next());
    assert_eq!(membership.interval(), EAGER_INTERVAL);
    membership.closed.extend(closed.next());
    assert_eq!(membership.interval(), EAGER_INTERVAL_MANY);
    membership.stage = Stage::Joined;
    assert_eq!(membership.interval(), HEARTBEAT_INTERVAL);
}

#[test]
fn other_processes_are_known_by_their_messages_until_redis_lists_them() {
    let mut membership = membership();
    for node in ["0000ab.7", "0000cd.1", "0000cd.2"] {
        membership.hear_of(node);
    }
    assert_eq!(membership.known, ["0000cd"], "not itself, and each once");
    for number in 0..2 * KNOWN_MAX {
        membership.hear_of(&format!("{:06x}.1", 0x10_0000 + number));
    }
    assert_eq!(membership.known.len(), KNOWN_MAX);
    membership.set_alive(vec!["0000ab.1".into(), "0000ef.3".into()]);
    assert_eq!(membership.known, ["0000ef"]);
    assert_eq!(membership.alive, ["0000ab.1", "0000ef.3"]);
    let leased = [0xab, 0xef, 0xcd].map(|process| membership.has_lease(process));
    assert_eq!(leased, [true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_node_misses_messages_from_the_last_one_until_it_has_joined_again() {
    let mut membership = membership();
    let second = Duration::from_secs(1);
    membership.become_deaf();
    tokio::time::advance(second).await;
    assert_eq!(membership.deaf_for(), Duration::ZERO, "it had not joined yet");
    membership.stage = Stage::Joined;
    membership.hears_again();
    tokio::time::advance(second).await;
    assert_eq!(membership.deaf_for(), Duration::ZERO, "it receives the bus");
    membership.become_deaf();
    membership.stage = Stage::Connecting;
    membership.heard = None;
    tokio::time::advance(second).await;
    assert_eq!(membership.deaf_for(), 2 * second, "since the last message");
    membership.become_deaf();
    assert_eq!(membership.deaf_for(), 2 * second, "a failed attempt changes nothing");
    membership.hears_again();
    assert_eq!(membership.deaf_for(), Duration::ZERO);
}

#[test]
fn a_partition_that_is_closed_is_provisional() {
    let mut membership = membership();
    membership.closed.insert(Partition::HOME);
    let provisional = Partition::all(2).map(|partition| membership.is_provisional(partition));
    assert_eq!(provisional.collect::<Vec<_>>(), [true, false]);
}

fn reply(status: &str, born_ms: i64) -> Result<HeartbeatReply, Unexpected> {
    let text = |text: &str| Value::BulkString(text.into());
    let names = |names: &[&str]| Value::Array(names.iter().map(|name| text(name)).collect());
    let number = Value::Int;
    let values = [text(status), text("g1"), number(0), number(1), number(5_000)];
    let lists = [names(&["d.1"]), names(&["a.1", "b.1"]), number(born_ms)];
    let value = Value::Array(values.into_iter().chain(lists).collect());
    HeartbeatReply::read(Partition::HOME, value, (now(), now()))
}

#[test]
fn a_reply_is_parsed() {
    let read = reply("ok", 1_500).unwrap();
    assert_eq!(read.status, Registered::Yes);
    assert_eq!((&*read.generation, read.redis_ms), ("g1", 5_000));
    assert_eq!((read.is_open, read.was_open), (false, true));
    assert_eq!((read.dead, read.alive), (vec!["d.1".into()], vec!["a.1".into(), "b.1".into()]));
    assert_eq!(read.age, Duration::from_millis(3_500));
    assert_eq!(reply("ok", 6_000).unwrap().age, Duration::ZERO, "its clock was stepped");
    assert_eq!(reply("lease_expired", 0).unwrap().status, Registered::LeaseExpired);
    assert_eq!(reply("layout", 0).unwrap().status, Registered::OtherLayout);
    assert!(reply("other", 0).is_err());
}

#[test]
fn each_phase_has_its_name() {
    let phases = [
        HeartbeatPhase::Join,
        HeartbeatPhase::Busy,
        HeartbeatPhase::Arrive,
        HeartbeatPhase::Heartbeat,
        HeartbeatPhase::Leave,
    ];
    let words = ["join", "busy", "arrive", "beat", "leave"];
    assert_eq!(phases.map(HeartbeatPhase::word), words);
}
