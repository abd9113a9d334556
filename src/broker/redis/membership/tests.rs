//! The membership without Redis and without a runtime: each input at a given time.

use super::*;

const LEASES: Partition = Partition::LEASES;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const NODE: &str = "0000ab.1";
const GENERATION: &str = "g1";
/// Nothing is unusual, and every topic is synced.
const SITUATION: TickInputs = TickInputs {
    is_fenced: false,
    is_suspect: false,
    suspect_after: Duration::from_millis(500),
    in_flight: Duration::ZERO,
    all_synced: true,
};

fn membership(partitions: usize, now: Instant) -> Membership {
    let partitions = Partition::all(partitions).collect();
    Membership::new("0000ab".into(), Duration::from_secs(6), partitions, now)
}

fn reply(partition: Partition, now: Instant) -> HeartbeatReply {
    HeartbeatReply {
        partition,
        status: RegistrationStatus::Ok,
        generation: GENERATION.into(),
        is_open: true,
        was_open: true,
        redis_ms: 1,
        times: (now, now),
        dead: Vec::new(),
        alive: vec![NODE.into()],
        generation_age: Duration::ZERO,
    }
}

fn replies(partitions: usize, now: Instant) -> Vec<HeartbeatReply> {
    Partition::all(partitions).map(|partition| reply(partition, now)).collect()
}

/// A node that has joined over one partition.
fn joined(now: Instant) -> Membership {
    let mut membership = membership(1, now);
    membership.on_tick(now, &SITUATION);
    membership.on_connected(now);
    membership.on_heartbeat(HeartbeatPhase::Join, Ok(replies(1, now)), now);
    membership.on_tick(now, &SITUATION);
    membership.on_heartbeat(HeartbeatPhase::Synced, Ok(replies(1, now)), now);
    membership.on_node_heartbeat(NODE, now);
    assert!(membership.is_joined());
    membership
}

fn close(reason: &'static str) -> Vec<MembershipAction> {
    vec![MembershipAction::Close(reason.into())]
}

fn heartbeat(phase: HeartbeatPhase) -> MembershipAction {
    MembershipAction::Heartbeat(phase, Vec::new())
}

#[test]
fn a_node_connects_registers_syncs_arrives_and_joins() {
    let now = Instant::now();
    let mut membership = membership(1, now);
    assert_eq!(membership.on_tick(now, &SITUATION), [MembershipAction::Connect]);
    assert_eq!((membership.stage, membership.token.link_number), (Stage::Connecting, 1));
    let join = MembershipAction::Heartbeat(HeartbeatPhase::Join, vec![LEASES]);
    assert_eq!(membership.on_connected(now), join);
    let registered = membership.on_heartbeat(HeartbeatPhase::Join, Ok(replies(1, now)), now);
    let lost_data = BTreeSet::from([LEASES]);
    assert_eq!(
        registered,
        [MembershipAction::ApplyRegistration { lost_data }, MembershipAction::SyncAll]
    );
    assert_eq!(membership.stage, Stage::Syncing);
    assert_eq!(membership.on_tick(now, &SITUATION), [heartbeat(HeartbeatPhase::Synced)]);
    assert_eq!(membership.stage, Stage::ReportingSync);
    let synced = membership.on_heartbeat(HeartbeatPhase::Synced, Ok(replies(1, now)), now);
    assert_eq!(synced, [MembershipAction::Resubscribe { unaffected: BTreeSet::new() }]);
    assert_eq!(membership.stage, Stage::Waiting);
    let joined = membership.on_node_heartbeat(NODE, now);
    let others = 0;
    assert_eq!(
        joined,
        [
            MembershipAction::RefreshProvisional,
            MembershipAction::ReportJoined { others },
            MembershipAction::AllowRequests
        ]
    );
    assert!(membership.is_joined());
}

#[test]
fn a_node_reports_its_sequences_to_a_new_generation_first() {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.on_disconnected(now);
    membership.on_tick(now + SECOND, &SITUATION);
    membership.on_connected(now);
    let other = HeartbeatReply { generation: "g2".into(), ..reply(LEASES, now) };
    let actions = membership.on_heartbeat(HeartbeatPhase::Join, Ok(vec![other]), now);
    let changed = BTreeSet::from([LEASES]);
    assert_eq!(
        actions,
        [
            MembershipAction::ApplyRegistration { lost_data: changed.clone() },
            MembershipAction::Restore(changed)
        ]
    );
    assert!(!membership.may_sync(), "nothing is synced before");
    let failed = membership.on_restored(Err("a test".into()));
    assert_eq!(failed, MembershipAction::Close("a test".into()));
    assert_eq!(membership.on_restored(Ok(())), MembershipAction::SyncAll);
    assert!(membership.may_sync());
}

#[test]
fn a_node_that_was_declared_dead_joins_under_another_name() {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.on_disconnected(now);
    membership.on_tick(now + SECOND, &SITUATION);
    membership.on_connected(now);
    let link = membership.token.link_number;
    let dead = HeartbeatReply { status: RegistrationStatus::LeaseExpired, ..reply(LEASES, now) };
    let actions = membership.on_heartbeat(HeartbeatPhase::Join, Ok(vec![dead.clone()]), now);
    let join = MembershipAction::Heartbeat(HeartbeatPhase::Join, vec![LEASES]);
    assert_eq!(actions, [MembershipAction::ForgetAcknowledgements, join.clone()]);
    assert_eq!((membership.node(), membership.token.link_number), ("0000ab.2", link + 1));
    assert!(!membership.was_registered, "redis does not have the new name");
    assert_eq!(membership.nodes.former_names, [NODE.to_owned()].into(), "to be cleaned up");
    membership.on_heartbeat(HeartbeatPhase::Join, Ok(vec![dead]), now);
    assert_eq!((membership.node(), membership.nodes.former_names.len()), ("0000ab.3", 2));
}

#[test]
fn former_names_and_dead_nodes_are_cleaned_up_once_at_a_time() {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.nodes.former_names.insert("0000ab.0".into());
    let with_dead = || {
        let dead = vec!["0000dd.1".into(), NODE.into()];
        Ok(vec![HeartbeatReply { dead, ..reply(LEASES, now) }])
    };
    let actions = membership.on_heartbeat(HeartbeatPhase::Heartbeat, with_dead(), now);
    let [dead, former] =
        ["0000dd.1", "0000ab.0"].map(|node| MembershipAction::CleanUp(node.into()));
    assert_eq!(
        actions,
        [MembershipAction::AllowRequests, dead.clone(), former],
        "not after itself"
    );
    let again = membership.on_heartbeat(HeartbeatPhase::Heartbeat, with_dead(), now);
    assert_eq!(again, [MembershipAction::AllowRequests], "they are running");
    membership.nodes.on_cleaned("0000dd.1", false);
    let again = membership.on_heartbeat(HeartbeatPhase::Heartbeat, with_dead(), now);
    assert_eq!(again, [MembershipAction::AllowRequests, dead], "it has failed");
    membership.nodes.cleaning.clear();
    membership.stage = Stage::Waiting;
    assert!(membership.clean_up(["0000dd.1".to_owned()]).is_empty(), "it has not joined");
}

#[test]
fn the_link_is_closed_without_a_reply_in_time() {
    let requested_at = Instant::now();
    let mut membership = joined(requested_at);
    membership.requested_at = Some(requested_at);
    let suspect_after = SITUATION.suspect_after;
    assert!(membership.on_tick(requested_at + suspect_after, &SITUATION).is_empty(), "not yet");
    let suspected = membership.on_tick(requested_at + suspect_after + MS, &SITUATION);
    assert_eq!(suspected, [MembershipAction::Suspect]);
    let suspected = membership.on_tick(requested_at + LINK_TIMEOUT, &SITUATION);
    assert_eq!(suspected, [MembershipAction::Suspect], "not closed yet");
    let closed = membership.on_tick(requested_at + LINK_TIMEOUT + MS, &SITUATION);
    assert_eq!(closed, close("redis does not answer"));
}

#[test]
fn the_link_is_closed_when_no_pubsub_message_arrives() {
    let confirmed_at = Instant::now();
    let in_flight = Duration::from_secs(2);
    let inputs = TickInputs { in_flight, ..SITUATION };
    let timeout = LINK_TIMEOUT + HEARTBEAT_INTERVAL + in_flight;
    let at = |stage, now| {
        let mut membership = joined(confirmed_at);
        membership.stage = stage;
        membership.requested_at = None;
        membership.on_tick(now, &inputs)
    };
    let silent = close("no message on the pub/sub connection");
    assert_ne!(at(Stage::Joined, confirmed_at + timeout), silent, "not yet");
    // Before its first heartbeat it receives none of its messages.
    assert_ne!(at(Stage::Joining, confirmed_at + timeout + MS), silent);
    for stage in
        [Stage::Restoring, Stage::Syncing, Stage::ReportingSync, Stage::Waiting, Stage::Joined]
    {
        assert_eq!(at(stage, confirmed_at + timeout + MS), silent, "{stage:?}");
    }
}

#[test]
fn the_link_is_closed_when_redis_rejects_its_writes() {
    let now = Instant::now();
    let inputs = TickInputs { is_fenced: true, ..SITUATION };
    assert_eq!(joined(now).on_tick(now, &inputs), close(LEASE_ENDED));
    let mut connecting = membership(1, now);
    connecting.stage = Stage::Connecting;
    assert!(connecting.on_tick(now, &inputs).is_empty(), "there is no link");
}

#[test]
fn heartbeats_are_sent_each_second_one_at_a_time() {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.requested_at = None;
    let due = now + HEARTBEAT_INTERVAL;
    membership.next_heartbeat = due;
    assert!(membership.on_tick(due - MS, &SITUATION).is_empty());
    assert_eq!(membership.on_tick(due, &SITUATION), [heartbeat(HeartbeatPhase::Heartbeat)]);
    assert_eq!((membership.requested_at, membership.next_heartbeat), (Some(due), due + SECOND));
    assert!(membership.on_tick(due + MS, &SITUATION).is_empty(), "one is in flight");
    membership.requested_at = None;
    let suspect = TickInputs { is_suspect: true, ..SITUATION };
    let at_once = membership.on_tick(due + MS, &suspect);
    assert_eq!(at_once, [heartbeat(HeartbeatPhase::Heartbeat)], "redis is suspected");
    membership.requested_at = None;
    membership.heartbeat_soon(due + MS);
    let soon = membership.on_tick(due + MS, &SITUATION);
    assert_eq!(soon, [heartbeat(HeartbeatPhase::Heartbeat)], "another node is new");
}

#[test]
fn heartbeats_are_frequent_until_the_node_is_joined() {
    let now = Instant::now();
    let mut membership = membership(2, now);
    let mut closed = Partition::all(2);
    assert_eq!(membership.interval(), JOINING_HEARTBEAT_INTERVAL);
    membership.unopened.extend(closed.next());
    assert_eq!(membership.interval(), JOINING_HEARTBEAT_INTERVAL);
    membership.unopened.extend(closed.next());
    assert_eq!(membership.interval(), JOINING_HEARTBEAT_INTERVAL_MANY);
    membership.stage = Stage::Joined;
    assert_eq!(membership.interval(), HEARTBEAT_INTERVAL);
}

#[test]
fn heartbeats_are_sent_to_closed_partitions_and_for_the_registration_to_all() {
    let now = Instant::now();
    let mut membership = membership(5, now);
    let all: Vec<Partition> = Partition::all(5).collect();
    membership.unopened = [all[3], all[4]].into();
    for (phase, expected) in [
        (HeartbeatPhase::Join, &all[..]),
        (HeartbeatPhase::Leave, &all[..]),
        (HeartbeatPhase::Syncing, &all[3..]),
        (HeartbeatPhase::Synced, &all[3..]),
        (HeartbeatPhase::Heartbeat, &all[3..]),
    ] {
        let action = membership.heartbeat(phase, now);
        assert_eq!(action, MembershipAction::Heartbeat(phase, expected.to_vec()));
    }
}

#[test]
fn a_disconnected_node_reconnects_when_it_is_due_unless_it_stops() {
    let now = Instant::now();
    for (is_redis_cluster, longest) in
        [(false, Duration::from_millis(400)), (true, Duration::from_secs(2))]
    {
        let mut membership = membership(if is_redis_cluster { 2 } else { 1 }, now);
        let mut expected = Duration::from_millis(50);
        for _ in 0..9 {
            membership.on_disconnected(now);
            let Stage::Disconnected(due) = membership.stage else { panic!("disconnected") };
            let wait = due - now;
            assert!(expected <= wait && wait <= expected * 3 / 2, "{wait:?}");
            assert!(membership.on_tick(due - MS, &SITUATION).is_empty(), "not yet");
            assert_eq!(membership.on_tick(due, &SITUATION), [MembershipAction::Connect]);
            expected = (expected * 2).min(longest);
        }
        assert_eq!((expected, membership.token.link_number), (longest, 9));
        membership.on_disconnected(now);
        membership.stop();
        assert!(membership.on_tick(now + 9 * SECOND, &SITUATION).is_empty(), "it stops");
    }
}

#[test]
fn a_lost_link_leaves_no_state() {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.requested_at = Some(now);
    membership.unopened.insert(LEASES);
    membership.nodes.cleaning.insert("dead".into());
    membership.on_disconnected(now);
    assert_eq!((membership.requested_at, membership.pubsub.received_at), (None, None));
    assert!(!membership.pubsub.is_confirmed && membership.unopened.is_empty());
    assert!(membership.nodes.cleaning.is_empty());
    let first = membership.stage;
    assert!(
        matches!(first, Stage::Disconnected(due) if due <= now + Duration::from_millis(75)),
        "the delays begin again after a join: {first:?}"
    );
}

#[test]
fn topics_are_synced_from_the_registration_on() {
    let now = Instant::now();
    let mut membership = membership(1, now);
    for (stage, may) in [
        (Stage::Disconnected(now), false),
        (Stage::Connecting, false),
        (Stage::Joining, false),
        (Stage::Restoring, false),
        (Stage::Syncing, true),
        (Stage::ReportingSync, true),
        (Stage::Waiting, true),
        (Stage::Joined, true),
    ] {
        membership.stage = stage;
        assert_eq!(membership.may_sync(), may, "{stage:?}");
    }
}

#[test]
fn a_node_arrives_once_everything_is_synced() {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.stage = Stage::Syncing;
    (membership.requested_at, membership.next_heartbeat) = (None, now);
    let unsettled = TickInputs { all_synced: false, ..SITUATION };
    let busy = membership.on_tick(now, &unsettled);
    assert_eq!(busy, [heartbeat(HeartbeatPhase::Syncing)], "it reports its progress");
    assert_eq!(membership.stage, Stage::Syncing);
    assert_eq!(membership.on_tick(now, &SITUATION), [heartbeat(HeartbeatPhase::Synced)]);
    assert_eq!(membership.stage, Stage::ReportingSync);
}

#[test]
fn an_unexpected_reply_to_a_heartbeat_ends_the_link() {
    let now = Instant::now();
    let expired = HeartbeatReply { status: RegistrationStatus::LeaseExpired, ..reply(LEASES, now) };
    let other = HeartbeatReply { generation: "other".into(), ..reply(LEASES, now) };
    let layout = HeartbeatReply { status: RegistrationStatus::LayoutMismatch, ..other.clone() };
    for phase in [HeartbeatPhase::Syncing, HeartbeatPhase::Heartbeat] {
        let closed = |replies| match &joined(now).on_heartbeat(phase, replies, now)[..] {
            [MembershipAction::Close(reason)] => Some(reason.text.to_string()),
            _ => None,
        };
        assert_eq!(closed(Ok(replies(1, now))), None);
        assert_eq!(closed(Ok(vec![expired.clone()])).as_deref(), Some(LEASE_ENDED));
        assert_eq!(
            closed(Ok(vec![other.clone()])).as_deref(),
            Some("redis started a new generation")
        );
        assert!(
            closed(Ok(vec![layout.clone()])).is_some_and(|why| why.starts_with(OTHER_KEY_LAYOUT))
        );
        assert_eq!(closed(Err("a test".into())).as_deref(), Some("a test"));
    }
}

#[test]
fn a_heartbeat_opens_partitions_and_lists_the_live_nodes() {
    let now = Instant::now();
    let mut membership = membership(3, now);
    let all: Vec<Partition> = Partition::all(3).collect();
    membership.on_tick(now, &SITUATION);
    membership.on_connected(now);
    membership.on_heartbeat(HeartbeatPhase::Join, Ok(replies(3, now)), now);
    membership.unopened = [all[1], all[2]].into();
    membership.stage = Stage::Waiting;
    membership.pubsub.is_confirmed = true;
    let of = |partition, is_open| HeartbeatReply { is_open, ..reply(partition, now) };
    let first = HeartbeatReply { alive: vec![NODE.into(), "0000cd.1".into()], ..of(LEASES, true) };
    let replies = vec![first, of(all[1], true), of(all[2], false)];
    assert!(membership.on_heartbeat(HeartbeatPhase::Heartbeat, Ok(replies), now).is_empty());
    assert_eq!(membership.unopened, [all[2]].into());
    assert_eq!(membership.stage, Stage::Waiting, "one is closed");
    assert_eq!(membership.nodes.live, [NODE, "0000cd.1"]);
    let provisional = all.iter().map(|partition| membership.is_provisional(*partition));
    assert_eq!(provisional.collect::<Vec<_>>(), [false, false, true]);
    let replies = Ok(vec![of(LEASES, true), of(all[2], true)]);
    let actions = membership.on_heartbeat(HeartbeatPhase::Heartbeat, replies, now);
    assert!(actions.contains(&MembershipAction::ReportJoined { others: 1 }), "{actions:?}");
    assert_eq!(membership.stage, Stage::Joined);
}

#[test]
fn a_node_has_joined_once_it_receives_its_own_heartbeat() {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.stage = Stage::Waiting;
    membership.pubsub.is_confirmed = false;
    assert!(membership.on_node_heartbeat("0000cd.1", now + MS).is_empty());
    assert_eq!((membership.stage, membership.pubsub.confirmed_at), (Stage::Waiting, now));
    assert_eq!(membership.nodes.other_processes, ["0000cd"]);
    assert!(
        membership.on_node_heartbeat(NODE, now + MS).contains(&MembershipAction::AllowRequests)
    );
    assert_eq!((membership.stage, membership.pubsub.confirmed_at), (Stage::Joined, now + MS));
}

/// Whether the subscribers of a topic that may have missed events are closed.
fn is_closed(change: impl Fn(&mut HeartbeatReply), missed: Duration, is_changed: bool) -> bool {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.on_received(now);
    membership.on_disconnected(now);
    membership.lost_data = if is_changed { [LEASES].into() } else { BTreeSet::new() };
    membership.stage = Stage::ReportingSync;
    let mut reply = HeartbeatReply { was_open: false, ..reply(LEASES, now) };
    change(&mut reply);
    let actions = membership.on_heartbeat(HeartbeatPhase::Synced, Ok(vec![reply]), now + missed);
    let MembershipAction::Resubscribe { unaffected } = &actions[0] else { panic!("{actions:?}") };
    !unaffected.contains(&LEASES)
}

#[test]
fn subscribers_are_closed_if_they_may_have_missed_an_event() {
    let nothing = Duration::ZERO;
    assert!(!is_closed(|_| {}, nothing, true), "no node could publish");
    assert!(is_closed(|_| {}, nothing, false), "the generation is the same");
    assert!(is_closed(|reply| reply.was_open = true, nothing, true), "it was open");
    let longest = recent_sequences::MIN_RETENTION - CLOCK_ERROR_MARGIN;
    assert!(!is_closed(|_| {}, longest, true), "others have reported the sequence");
    assert!(is_closed(|_| {}, longest + MS, true), "it missed messages for longer");
    let age = Duration::from_secs(2);
    assert!(!is_closed(|reply| reply.generation_age = age, longest + age, true));
    assert!(is_closed(|reply| reply.generation_age = age, longest + age + MS, true));
}

#[test]
fn a_node_misses_messages_from_the_last_one_until_it_has_joined_again() {
    let now = Instant::now();
    let mut starting = membership(1, now);
    starting.on_disconnected(now);
    assert_eq!(starting.missed_for(now + SECOND), Duration::ZERO, "it had not joined yet");
    let mut membership = joined(now);
    membership.on_received(now);
    assert_eq!(membership.missed_for(now + SECOND), Duration::ZERO, "it receives messages");
    membership.on_disconnected(now + SECOND);
    assert_eq!(membership.missed_for(now + 2 * SECOND), 2 * SECOND, "since the last message");
    membership.on_disconnected(now + 2 * SECOND);
    assert_eq!(membership.missed_for(now + 2 * SECOND), 2 * SECOND, "a failed attempt");
    membership.stage = Stage::Waiting;
    membership.on_node_heartbeat(NODE, now + 3 * SECOND);
    assert_eq!(membership.missed_for(now + 4 * SECOND), Duration::ZERO);
}

#[test]
fn a_node_reports_whether_it_takes_connections() {
    let now = Instant::now();
    assert_eq!(membership(1, now).state(false), NodeState::Joining);
    let mut membership = joined(now);
    assert_eq!(membership.state(false), NodeState::Ready);
    assert_eq!(membership.state(true), NodeState::Draining);
    assert_eq!(membership.on_drain(now), Some(heartbeat(HeartbeatPhase::Heartbeat)), "at once");
    membership.stage = Stage::Waiting;
    assert_eq!(membership.on_drain(now), None);
}

#[test]
fn a_node_leaves_once_its_contributions_are_withdrawn() {
    let now = Instant::now();
    let mut membership = joined(now);
    assert!(!membership.is_withdrawing() && !membership.is_stopping());
    membership.stop();
    assert!(membership.is_withdrawing() && membership.is_stopping());
    assert_eq!(membership.on_withdrawal(false), None, "some are left");
    assert!(membership.is_withdrawing());
    assert_eq!(membership.on_withdrawal(true), Some(MembershipAction::Leave(vec![LEASES])));
    assert!(!membership.is_withdrawing() && !membership.has_left(), "redis has yet to answer");
    membership.on_disconnected(now);
    assert!(membership.has_left());
}

#[test]
fn a_stopping_node_without_a_link_is_cleaned_up_by_another() {
    let now = Instant::now();
    let mut membership = joined(now);
    membership.on_disconnected(now);
    membership.stop();
    assert!(!membership.has_left());
    assert_eq!(membership.on_withdrawal(false), None);
    assert!(membership.has_left());
}
