//! Topics from their first use to their end: counts, waiting subscribers, and repeated syncs.

use super::*;
use crate::broker::redis::topic::request::{JOINS_MAX, REPLY_BYTES, UNKNOWN_ROSTER_BYTES};

fn next(topic: &mut Topic) -> Option<TopicStep> {
    topic.next_step(Instant::now())
}

/// A topic whose only subscriber has left, which Redis has acknowledged.
fn vacated() -> Topic {
    let mut topic = begun("room", &["a"]);
    topic.decrement(None);
    request(&mut topic);
    reply(&mut topic, synced(5, 5, 0, &[]), false);
    topic
}

#[test]
fn an_end_before_its_reply_is_applied_later() {
    let mut topic = begun("room", &["a"]);
    topic.enqueue(subscriber(2, None));
    request(&mut topic);
    topic.decrement(None);
    topic.decrement(None);
    assert_eq!(reply(&mut topic, synced(5, 5, 2, &[]), false), ["accept 2"]);
    assert_eq!(request(&mut topic).own_total_without_joins, 0, "it has ended already");
    reply(&mut topic, synced(5, 5, 0, &[]), false);
    topic.increment();
    assert_eq!(request(&mut topic).own_total_without_joins, 1, "each early end cancels one start");

    let mut connections = subject(TopicSubject::Connections);
    for _ in 0..2 {
        connections.decrement(None);
    }
    for _ in 0..3 {
        connections.increment();
    }
    assert_eq!(request(&mut connections).own_total_without_joins, 1);
}

#[test]
fn a_topic_is_withdrawn_when_nothing_is_left_in_redis_or_due() {
    assert!(topic("room").is_withdrawn());
    let mut waiting = topic("room");
    waiting.enqueue(subscriber(1, None));
    assert!(!waiting.is_withdrawn(), "a client waits");
    next(&mut waiting);
    waiting.on_subscribed(ServerId::ONLY);
    request(&mut waiting);
    assert!(!waiting.is_withdrawn(), "a sync is in flight");
    let mut counted = topic("room");
    counted.increment();
    assert!(!counted.is_withdrawn(), "a subscription is counted");
    let mut ended = begun("room", &["a"]);
    ended.decrement(None);
    assert!(!ended.is_withdrawn(), "its end must be synced");
    assert!(vacated().is_withdrawn());
}

#[test]
fn an_unused_topic_is_removed_once_unsubscribed() {
    assert!(topic("room").is_removable());
    let mut needed = topic("room");
    needed.enqueue(subscriber(1, None));
    assert!(!needed.is_removable(), "a client waits");
    let mut watched = topic("room");
    watched.watch(connection(1));
    assert!(!watched.is_removable(), "a connection watches");
    assert_eq!(watched.watchers().collect::<Vec<_>>(), [connection(1)]);
    watched.unwatch(connection(1));
    assert!(watched.is_removable());
    watched.pending_watchers = 1;
    assert!(!watched.is_removable(), "a watcher is pending");
    assert!(matches!(next(&mut watched), Some(TopicStep::Subscribe)));

    let mut topic = vacated();
    let now = Instant::now();
    assert!(!topic.is_removable(), "it lingers");
    topic.next_step(now);
    assert_eq!(topic.wake_at(), Some(now + UNSUBSCRIBE_DELAY));
    assert!(topic.next_step(now + UNSUBSCRIBE_DELAY - Duration::from_millis(1)).is_none());
    assert!(matches!(topic.next_step(now + UNSUBSCRIBE_DELAY), Some(TopicStep::Unsubscribe)));
    assert!(!topic.is_removable(), "it is unsubscribing");
    topic.on_unsubscribed();
    assert!(topic.is_removable() && topic.received_sequence() == 0 && !topic.is_synced());
}

#[test]
fn a_topic_needed_again_restarts_its_linger_time() {
    let now = Instant::now();
    let at = |part| now + UNSUBSCRIBE_DELAY * part / 4;
    let mut topic = vacated();
    topic.next_step(at(0));
    topic.watch(connection(1));
    assert!(topic.next_step(at(1)).is_none());
    assert!(topic.wake_at().is_none(), "nothing is due");
    topic.unwatch(connection(1));
    assert!(topic.next_step(at(2)).is_none());
    assert!(topic.next_step(at(5)).is_none(), "it has been idle for less");
    topic.enqueue(subscriber(2, None));
    assert!(matches!(topic.next_step(at(5)), Some(TopicStep::Sync(_))));
    assert!(topic.wake_at().is_none());
    reply(&mut topic, synced(5, 5, 1, &[]), false);
    topic.decrement(None);
    assert!(matches!(topic.next_step(at(6)), Some(TopicStep::Sync(_))));
    reply(&mut topic, synced(5, 5, 0, &[]), false);
    assert!(topic.next_step(at(7)).is_none(), "idle from now on");
    assert!(matches!(topic.next_step(at(11)), Some(TopicStep::Unsubscribe)));
}

#[test]
fn a_topic_with_subscribers_stays() {
    let mut topic = begun("room", &["a"]);
    for part in 0..3 {
        assert!(topic.next_step(Instant::now() + UNSUBSCRIBE_DELAY * part).is_none());
    }
    assert!(topic.wake_at().is_none());
}

#[test]
fn connections_have_no_pubsub_channel() {
    let mut topic = counted_connection();
    topic.reset();
    let sync = request(&mut topic);
    assert!(
        sync.is_full && sync.had_contribution && sync.own_total_without_joins == 1,
        "after a lost link everything is synced again"
    );
    reply(&mut topic, synced(1, 0, 1, &[]), true);
    assert!(next(&mut topic).is_none());
    topic.decrement(None);
    assert_eq!(request(&mut topic).own_total_without_joins, 0);
    reply(&mut topic, synced(1, 0, 0, &[]), false);
    let now = Instant::now();
    assert!(topic.next_step(now).is_none() && !topic.is_removable());
    assert!(topic.next_step(now + UNSUBSCRIBE_DELAY).is_none(), "there is nothing to leave");
    assert!(topic.is_removable());
}

#[test]
fn redis_decides_each_admission() {
    let mut topic = subject(TopicSubject::Connections);
    for _ in 0..2 {
        topic.enqueue(Waiter::Connection(tokio::sync::oneshot::channel().0));
    }
    let sync = request(&mut topic);
    let joins: Vec<_> =
        sync.joins.iter().map(|join| (&*join.user_id, join.connections, join.is_new)).collect();
    assert_eq!((sync.own_total_without_joins, joins), (0, vec![("", 1, true); 2]));
    let verdicts = Synced { accepted: vec![false, true], ..synced(1, 0, 1, &[]) };
    assert_eq!(reply(&mut topic, verdicts, true), ["admit false", "admit true"]);
    assert!(next(&mut topic).is_none(), "one is counted, as Redis has replied");
}

#[test]
fn under_another_node_name_redis_has_no_contribution() {
    let mut topic = begun("room", &["a"]);
    topic.forget_acknowledged();
    let sync = request(&mut topic);
    assert!(sync.is_full && !sync.had_contribution && sync.own_total_without_joins == 1);
}

#[test]
fn a_sync_that_was_not_executed_is_repeated() {
    let mut topic = begun("room", &["a"]);
    topic.enqueue(subscriber(2, None));
    topic.enqueue(subscriber(3, None));
    request(&mut topic);
    topic.enqueue(subscriber(4, None));
    topic.on_sync_rejected();
    assert!(!topic.is_synced());
    let sync = request(&mut topic);
    assert!(sync.is_full && sync.had_contribution && sync.own_total_without_joins == 4);
    let received = reply(&mut topic, synced(5, 5, 4, &[]), true);
    assert_eq!(received, ["total 4", "accept 2", "accept 3", "accept 4"], "in their order");
    assert!(next(&mut topic).is_none() && topic.is_synced());
}

#[test]
fn the_number_of_joins_in_a_sync_is_limited() {
    let mut topic = begun("room", &["a"]);
    for slot in 2..JOINS_MAX + 3 {
        topic.enqueue(subscriber(u32::try_from(slot).unwrap(), None));
    }
    assert_eq!(request(&mut topic).own_total_without_joins, JOINS_MAX + 1);
    reply(&mut topic, synced(5, 5, JOINS_MAX + 1, &[]), false);
    assert_eq!(request(&mut topic).own_total_without_joins, JOINS_MAX + 2);
}

#[test]
fn sign_ins_end_each_at_its_time_or_all_at_once() {
    let now = Instant::now();
    let mut topic = signed_in(3);
    topic.sign_out_at(now + UNSUBSCRIBE_DELAY);
    topic.sign_out_at(now + 2 * UNSUBSCRIBE_DELAY);
    assert_eq!(topic.next_end(), Some(now + UNSUBSCRIBE_DELAY));
    assert_eq!(topic.wake_at(), Some(now + UNSUBSCRIBE_DELAY));
    assert!(topic.next_step(now + UNSUBSCRIBE_DELAY - Duration::from_millis(1)).is_none());
    assert!(
        matches!(topic.next_step(now + UNSUBSCRIBE_DELAY), Some(TopicStep::Sync(sync)) if sync.own_total_without_joins == 2)
    );
    reply(&mut topic, synced(1, 0, 2, &[]), false);
    topic.end_grace_periods();
    assert_eq!(topic.next_end(), None);
    assert_eq!(request(&mut topic).own_total_without_joins, 1, "the one that has not ended");
    reply(&mut topic, synced(1, 0, 1, &[]), false);
    assert!(topic.next_step(now + 3 * UNSUBSCRIBE_DELAY).is_none(), "nothing ends twice");
}

#[test]
fn whether_a_user_is_online_is_known_while_the_bus_is_received() {
    let mut topic = subject(TopicSubject::User("u".into()));
    assert_eq!(topic.is_online(), None);
    topic.increment();
    topic.next_step(Instant::now());
    topic.on_subscribed(ServerId::ONLY);
    request(&mut topic);
    reply(&mut topic, synced(1, 0, 1, &[]), true);
    assert_eq!(topic.is_online(), Some(true));
    assert_eq!(receive(&mut topic, change(2, Change::Total(2))), [""; 0]);
    assert_eq!(receive(&mut topic, change(3, Change::Total(0))), ["online false"]);
    assert_eq!(topic.is_online(), Some(false));
    assert_eq!(receive(&mut topic, change(4, Change::Total(1))), ["online true"]);
    topic.reset();
    assert_eq!(topic.is_online(), None);
    // Changes in the meantime are reported.
    relink(&mut topic);
    let empty = Synced { total: 0, ..synced(5, 0, 1, &[]) };
    assert_eq!(reply(&mut topic, empty, true), ["online false"]);
    relink(&mut topic);
    assert_eq!(reply(&mut topic, synced(6, 0, 1, &[]), true), ["online true"]);
    relink(&mut topic);
    let two = Synced { total: 2, ..synced(7, 9, 1, &[]) };
    assert_eq!(reply(&mut topic, two, true), [""; 0], "online as before; users miss no events");
}

#[test]
fn a_topic_is_settled_when_everything_was_synced_and_read() {
    let mut topic = begun("room", &["a"]);
    assert!(topic.is_synced());
    receive(&mut topic, change(9, Change::Total(1)));
    assert!(!topic.is_synced(), "versions are missing");
    request(&mut topic);
    assert!(!topic.is_synced(), "it is being read");
    reply(&mut topic, synced(9, 5, 1, &[]), true);
    assert!(topic.is_synced());
    topic.reset();
    assert!(!topic.is_synced());
}

#[test]
fn a_new_event_is_the_next_or_a_later_one_before_the_first_read() {
    let mut topic = begun("room", &["a"]);
    let expected = |topic: &Topic| [4, 5, 6, 7].map(|sequence| topic.expects(sequence));
    assert_eq!(expected(&topic), [false, false, true, false]);
    topic.reset();
    assert_eq!(expected(&topic), [false, false, true, true]);
}

#[test]
fn an_event_belongs_to_the_channel_in_its_frame() {
    let frame = {
        let channel = ChannelName::parse("presence-a", 100).unwrap();
        event::member_added(&channel, &member("1"))
    };
    let envelope =
        Envelope { id: EnvelopeId(1), is_retry: false, except: None, retention_ms: 0, frame };
    assert!(topic("presence-a").is_for(&envelope));
    assert!(!topic("presence-b").is_for(&envelope));
    assert!(!signed_in(1).is_for(&envelope));
}

#[test]
fn knowledge_of_other_contributions_is_synced() {
    let knows = |topic: &mut Topic| relink(topic).has_other_contributions;
    assert!(!knows(&mut begun("room", &["a"])));
    let mut topic = begun("room", &["a"]);
    receive(&mut topic, change(6, Change::Total(2)));
    assert!(knows(&mut topic));
    // Without totals, only members show it.
    topic.set_config(&AppConfig::development());
    reply(&mut topic, Synced { total: 3, ..synced(7, 5, 1, &[]) }, true);
    assert!(!knows(&mut topic));
    assert!(!knows(&mut begun("presence-a", &["1"])));
    let mut topic = begun("presence-a", &["1"]);
    receive(&mut topic, change(6, Change::Added(member("2"))));
    assert!(knows(&mut topic));
    let mut topic = signed_in(1);
    assert!(!knows(&mut topic));
    reply(&mut topic, Synced { total: 2, ..synced(2, 0, 1, &[]) }, true);
    assert!(knows(&mut topic));
}

#[test]
fn an_app_without_counts_sends_none() {
    let mut topic = begun("room", &["a"]);
    topic.set_config(&AppConfig::development());
    relink(&mut topic);
    let three = Synced { total: 3, ..synced(6, 5, 1, &[]) };
    assert_eq!(reply(&mut topic, three, true), [""; 0]);
    topic.enqueue(subscriber(2, None));
    request(&mut topic);
    let effects = topic.on_synced(synced(6, 5, 2, &[]), false, (100, false), Instant::now());
    assert!(matches!(&effects[..], [Effect::Accept { initial, .. }] if initial.total.is_none()));
}

#[test]
fn a_sync_counts_the_bytes_of_its_reply() {
    let mut room = topic("room");
    room.enqueue(subscriber(1, None));
    room.next_step(Instant::now());
    room.on_subscribed(ServerId::ONLY);
    assert_eq!(request(&mut room).reply_bytes, REPLY_BYTES);
    let mut roster = topic("presence-a");
    roster.enqueue(subscriber(1, Some("1")));
    roster.next_step(Instant::now());
    roster.on_subscribed(ServerId::ONLY);
    assert_eq!(request(&mut roster).reply_bytes, REPLY_BYTES + UNKNOWN_ROSTER_BYTES);
    let mut known = begun("presence-a", &["1", "22"]);
    let members = 2 * (32 + "{}".len()) + "122".len();
    assert_eq!(relink(&mut known).reply_bytes, REPLY_BYTES + members);
    reply(&mut known, synced(5, 5, 2, &["1", "22"]), true);
    known.enqueue(subscriber(3, Some("3")));
    assert_eq!(request(&mut known).reply_bytes, REPLY_BYTES, "without a snapshot");
}

#[test]
fn other_nodes_have_time_to_restore_their_contributions() {
    let now = Instant::now();
    let anew = |version, members: &[&str]| Synced {
        epoch: "e2".into(),
        total: 1,
        ..synced(version, 5, 1, members)
    };
    let mut topic = begun("presence-a", &["1"]);
    receive(&mut topic, change(6, Change::Added(member("2"))));
    relink(&mut topic);
    let received = topic.on_synced(anew(1, &["1"]), true, (100, false), now);
    assert_eq!(
        seen(&received),
        ["unverified"],
        "the hash was lost: other nodes restore their contributions"
    );
    assert_eq!(topic.wake_at(), Some(now + RESTORE_WINDOW));
    assert!(topic.next_step(now + RESTORE_WINDOW - Duration::from_millis(1)).is_none());
    assert!(
        matches!(topic.next_step(now + RESTORE_WINDOW), Some(TopicStep::Sync(sync)) if sync.is_full)
    );
    assert!(topic.wake_at().is_none());
    assert_eq!(reply(&mut topic, anew(1, &["1"]), true), ["-2"]);

    // A smaller total shows it, too.
    let mut topic = begun("room", &["a"]);
    receive(&mut topic, change(6, Change::Total(3)));
    relink(&mut topic);
    assert_eq!(seen(&topic.on_synced(anew(1, &[]), true, (100, false), now)), ["unverified"]);
    assert_eq!(topic.wake_at(), Some(now + RESTORE_WINDOW));
    let lacking = Message::Change { epoch: "e2".into(), version: 2, change: Change::Total(2) };
    assert_eq!(receive(&mut topic, lacking), [""; 0], "not all are back");
    topic.next_step(now + RESTORE_WINDOW);
    assert_eq!(reply(&mut topic, anew(2, &[]), true), ["total 1"]);

    // Nothing is missing, or all others are about to write anyway.
    for (is_provisional, members) in [(false, vec!["1"]), (false, vec!["1", "2"])] {
        let mut topic = begun("presence-a", &["1"]);
        relink(&mut topic);
        topic.on_synced(anew(1, &members), true, (100, is_provisional), now);
        assert!(topic.wake_at().is_none());
    }
    let mut topic = begun("presence-a", &["1"]);
    receive(&mut topic, change(6, Change::Added(member("2"))));
    relink(&mut topic);
    topic.on_synced(anew(1, &["1"]), true, (100, true), now);
    assert!(topic.wake_at().is_none());
    assert!(topic.end_provisional() && !topic.is_synced());
    assert!(!topic.end_provisional(), "once");
}

#[test]
fn an_unused_topic_has_no_steps() {
    assert!(next(&mut topic("room")).is_none());
    assert!(next(&mut subject(TopicSubject::Connections)).is_none());
}

#[test]
fn users_missing_from_a_full_sync_have_left() {
    let mut topic = begun("presence-a", &["1", "2"]);
    topic.decrement(Some(&"1".into()));
    let sync = relink(&mut topic);
    assert!(sync.is_full && sync.removed_users.is_empty(), "a full sync lists all members");
    assert_eq!(sync.joins.iter().map(|join| &*join.user_id).collect::<Vec<_>>(), ["2"]);
}
