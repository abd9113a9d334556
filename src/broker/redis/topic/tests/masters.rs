//! Two masters in office at once: one was replaced and does not know it yet.

use super::*;

/// An event with another id than that of [`event`].
fn event_of_another_master(sequence: u64) -> Message {
    let Message::Event { envelope, .. } = event(sequence) else { unreachable!("it is an event") };
    let envelope = Envelope { id: EnvelopeId(1_000 + sequence), ..envelope };
    Message::Event { sequence, envelope }
}

/// A snapshot at a sequence, which is that of the event with this id.
fn at(sequence: u64, latest: Option<u64>) -> Synced {
    Synced { last_event_id: latest.map(EnvelopeId), ..synced(5, sequence, 1, &[]) }
}

#[test]
fn subscribers_are_closed_if_their_latest_event_is_not_the_one_that_redis_has() {
    for (received, latest, expected) in [
        (event(6), Some(6), None),
        (event_of_another_master(6), Some(1_006), None),
        (event_of_another_master(6), Some(6), Some("force_resubscribe")),
        (event(6), Some(1_006), Some("force_resubscribe")),
        (event(6), None, None),
    ] {
        let mut topic = begun("room", &["a"]);
        receive(&mut topic, received);
        relink(&mut topic);
        assert_eq!(reply(&mut topic, at(6, latest), true), Vec::from_iter(expected), "{latest:?}");
    }
}

#[test]
fn the_latest_event_may_arrive_while_the_topic_is_read() {
    for (latest, expected) in [(7, vec!["event 6", "event 7"]), (1_007, vec!["force_resubscribe"])]
    {
        let mut topic = begun("room", &["a"]);
        relink(&mut topic);
        receive(&mut topic, event(6));
        receive(&mut topic, event(7));
        assert_eq!(reply(&mut topic, at(7, Some(latest)), true), expected, "{latest}");
    }
}

#[test]
fn an_earlier_snapshot_knows_the_latest_event_as_well() {
    for (latest, expected) in [(6, None), (7, Some("force_resubscribe"))] {
        let mut topic = begun("room", &["a"]);
        relink(&mut topic);
        assert_eq!(
            reply(&mut topic, at(6, Some(6)), true),
            ["force_resubscribe"],
            "one was missed"
        );
        relink(&mut topic);
        assert_eq!(reply(&mut topic, at(6, Some(latest)), true), Vec::from_iter(expected));
    }
}

#[test]
fn a_sequence_that_another_node_has_reported_is_no_event() {
    let mut topic = begun("room", &["a"]);
    receive(&mut topic, event(6));
    receive(&mut topic, change(6, Change::Sequence(7)));
    relink(&mut topic);
    assert!(reply(&mut topic, at(7, Some(1_007)), true).is_empty());
}

#[test]
fn the_latest_event_is_still_known_after_redis_has_lost_it() {
    let mut topic = begun("room", &["a"]);
    receive(&mut topic, event(6));
    relink(&mut topic);
    assert_eq!(reply(&mut topic, at(5, None), true), ["force_resubscribe"]);
    relink(&mut topic);
    assert_eq!(reply(&mut topic, at(6, Some(1_006)), true), ["force_resubscribe"]);
}

#[test]
fn another_hash_has_other_numbers() {
    let mut topic = begun("room", &["a"]);
    receive(&mut topic, event(6));
    relink(&mut topic);
    let anew = Synced { epoch: "e2".into(), ..at(6, Some(1_006)) };
    assert_eq!(reply(&mut topic, anew, true), ["unverified"]);
}

#[test]
fn only_the_server_of_the_subscription_is_heard_once_it_has_begun() {
    let (old, new) = (ServerId::test(1), ServerId::test(2));
    let mut topic = topic("room");
    topic.enqueue(subscriber(1, None));
    assert!(matches!(topic.next_step(Instant::now()), Some(TopicStep::Subscribe)));
    assert!(
        topic.accepts_from(old) && topic.accepts_from(new),
        "messages may arrive before the confirmation"
    );
    topic.on_subscribed(old);
    assert!(topic.accepts_from(old) && !topic.accepts_from(new));
    topic.reset();
    assert!(topic.accepts_from(old), "what is in transit when the partition moves counts");
    topic.next_step(Instant::now());
    topic.on_subscribed(new);
    assert!(!topic.accepts_from(old) && topic.accepts_from(new));
}
