//! Comparisons of a node's state of a topic with that in Redis.

use super::*;

fn found(epoch: &str, version: u64, sequence: u64) -> RedisState {
    RedisState { epoch: epoch.into(), version, sequence, is_inconsistent: false }
}

fn wrong(found: RedisState) -> RedisState {
    RedisState { is_inconsistent: true, ..found }
}

fn compared(topic: &mut Topic, found: &RedisState) -> Difference {
    let local = topic.local_state(Instant::now()).expect("the topic is settled");
    topic.compare(&local, found)
}

/// Whether the next step reads everything again, on the same subscription.
fn is_read_again(topic: &mut Topic) -> bool {
    matches!(topic.next_step(Instant::now()), Some(TopicStep::Sync(sync)) if sync.is_full)
}

#[test]
fn only_a_settled_topic_is_compared() {
    let now = Instant::now();
    assert!(subject(TopicSubject::Connections).local_state(now).is_none(), "not subscribed yet");
    assert!(topic("room").local_state(now).is_none());
    let mut topic = begun("presence-a", &["1", "2"]);
    let local = topic.local_state(now).expect("it is settled");
    assert_eq!((local.own_total, local.users, local.members), (2, 2, 2));
    receive(&mut topic, change(6, Change::Added(member("3"))));
    let local = topic.local_state(now).expect("it is settled");
    assert_eq!((local.own_total, local.users, local.members), (2, 2, 3));
    topic.enqueue(subscriber(3, Some("3")));
    assert!(topic.local_state(now).is_none(), "a sync is due");
    request(&mut topic);
    assert!(topic.local_state(now).is_none(), "it is in flight");
    reply(&mut topic, synced(6, 5, 3, &[]), false);
    assert!(topic.local_state(now).is_some());
    topic.reset();
    assert!(topic.local_state(now).is_none());
}

#[test]
fn a_sign_in_that_is_about_to_end_is_not_compared() {
    let now = Instant::now();
    let mut topic = signed_in(1);
    topic.sign_out_at(now + UNSUBSCRIBE_DELAY);
    assert!(topic.local_state(now + UNSUBSCRIBE_DELAY / 2).is_some());
    assert!(topic.local_state(now + UNSUBSCRIBE_DELAY).is_none());
}

#[test]
fn equal_states_need_no_repair() {
    let mut topic = begun("room", &["a"]);
    assert_eq!(compared(&mut topic, &found("e1", 5, 5)), Difference::None);
    assert!(topic.next_step(Instant::now()).is_none());
}

#[test]
fn a_bus_that_lost_messages_is_subscribed_again() {
    for missed in [found("e1", 5, 6), found("e1", 6, 5)] {
        let mut topic = begun("room", &["a"]);
        let attempt = topic.attempt;
        assert_eq!(compared(&mut topic, &missed), Difference::Missed, "{missed:?}");
        assert_ne!(topic.attempt, attempt);
        assert!(matches!(topic.next_step(Instant::now()), Some(TopicStep::Subscribe)));
    }
}

#[test]
fn an_inconsistent_hash_is_read_again() {
    let lesser = [found("e2", 5, 5), found("e2", 9, 9), found("", 0, 0), found("e1", 5, 4)];
    for found in lesser.into_iter().chain([wrong(found("e1", 5, 5))]) {
        let mut topic = begun("room", &["a"]);
        assert_eq!(compared(&mut topic, &found), Difference::Repair, "{found:?}");
        assert!(is_read_again(&mut topic), "{found:?}");
    }
    // The versions of users have no sequence of events.
    let mut user = signed_in(1);
    assert_eq!(compared(&mut user, &found("e1", 1, 0)), Difference::None);
    let mut connections = counted_connection();
    assert_eq!(compared(&mut connections, &found("e9", 9, 9)), Difference::None);
    assert_eq!(compared(&mut connections, &wrong(found("e9", 9, 9))), Difference::Repair);
    assert!(is_read_again(&mut connections));
}

#[test]
fn the_hash_of_a_vacated_topic_may_expire() {
    let vacated = || {
        let mut topic = begun("room", &["a"]);
        topic.decrement(None);
        request(&mut topic);
        reply(&mut topic, synced(5, 5, 0, &[]), false);
        receive(&mut topic, change(6, Change::Total(0)));
        topic
    };
    assert_eq!(compared(&mut vacated(), &found("", 0, 0)), Difference::None);
    assert_eq!(compared(&mut vacated(), &wrong(found("", 0, 0))), Difference::Repair);
    assert_eq!(compared(&mut vacated(), &found("e1", 6, 6)), Difference::Missed);
}

#[test]
fn a_state_from_before_a_sync_is_ignored() {
    let mut topic = begun("room", &["a"]);
    let local = topic.local_state(Instant::now()).expect("it is settled");
    topic.enqueue(subscriber(2, None));
    request(&mut topic);
    reply(&mut topic, synced(5, 5, 2, &[]), false);
    assert_eq!(topic.compare(&local, &found("e1", 9, 9)), Difference::None);
    assert!(topic.next_step(Instant::now()).is_none());
}

#[test]
fn an_unknown_contribution_is_withdrawn() {
    let mut topic = topic("room");
    assert!(topic.withdraw_unknown());
    assert!(!topic.withdraw_unknown(), "once");
    assert!(!topic.is_removable() && !topic.is_withdrawn());
    assert!(matches!(topic.next_step(Instant::now()), Some(TopicStep::Subscribe)));
    topic.on_subscribed(ServerId::ONLY);
    let sync = request(&mut topic);
    assert!(sync.is_full && sync.had_contribution && sync.own_total_without_joins == 0);

    let mut connections = subject(TopicSubject::Connections);
    assert!(connections.withdraw_unknown());
    assert!(is_read_again(&mut connections));

    let mut vacated = begun("room", &["a"]);
    assert!(!vacated.withdraw_unknown(), "the contribution is known");
    vacated.decrement(None);
    request(&mut vacated);
    reply(&mut vacated, synced(5, 5, 0, &[]), false);
    assert!(!vacated.withdraw_unknown(), "it is subscribed: comparisons repair it");
    let mut detached = begun("room", &["a"]);
    detached.reset();
    assert!(!detached.withdraw_unknown(), "it is about to be synced");
}
