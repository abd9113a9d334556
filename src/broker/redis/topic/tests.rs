//! Topics with replies and messages as the scripts return them.

mod comparison;
mod lifecycle;
mod masters;
mod messages;
mod totals;

use super::*;
use crate::broker::redis::partition::Partition;
use crate::{
    broker::{
        logs::PendingLogRequest,
        redis::envelope::{Change, Envelope, EnvelopeId},
    },
    hub::{ConnectionKey, ConnectionRef, ShardIndex},
    protocol::{Frame, FrameKind, Member},
};

fn connection(slot: u32) -> ConnectionRef {
    ConnectionRef { shard: ShardIndex::new(0), key: ConnectionKey { slot, generation: 1 } }
}

fn topic(channel: &str) -> Topic {
    let channel = ChannelName::parse(channel, 100).unwrap();
    let name = TopicName { app_id: "1".into(), subject: TopicSubject::Channel(channel) };
    let mut config = AppConfig::development();
    config.subscription_count = true;
    Topic::new(name, Partition::LEASES, &config)
}

fn member(user_id: &str) -> Member {
    Member { user_id: user_id.into(), user_info: "{}".into() }
}

fn subscriber(slot: u32, user_id: Option<&str>) -> Waiter {
    let (member, log) = (user_id.map(member), PendingLogRequest::No);
    Waiter::Subscriber { connection: connection(slot), ticket: slot, member, log }
}

fn synced(version: u64, sequence: u64, own_total: usize, members: &[&str]) -> Synced {
    Synced {
        epoch: "e1".into(),
        version,
        sequence,
        total: own_total,
        own_total,
        accepted: vec![true; 9],
        members: members.iter().map(|id| (Arc::from(*id), Arc::from("{}"))).collect(),
        last_event_id: None,
        webhook_log_became_nonempty: false,
        changes: Vec::new(),
        cached_event: None,
        log: None,
    }
}

fn event(sequence: u64) -> Message {
    let frame = Frame::published(FrameKind::Event, &format!("event {sequence}"), Instant::now());
    let envelope = Envelope {
        id: EnvelopeId(sequence),
        is_retry: false,
        except: None,
        retention_ms: 0,
        frame,
    };
    Message::Event { sequence, envelope }
}

fn change(version: u64, change: Change) -> Message {
    Message::Change { epoch: "e1".into(), version, change }
}

/// A short form of what a subscriber would receive of the effects.
fn seen(effects: &[Effect]) -> Vec<String> {
    let text = |frame: &Frame| {
        let text = frame.as_text().unwrap();
        let find = |what: &str| text.contains(what);
        match text {
            _ if find("member_added") => format!("+{}", user_of(text)),
            _ if find("member_removed") => format!("-{}", user_of(text)),
            _ if find("subscription_count") => format!("total {}", total_of(text)),
            _ => text.to_owned(),
        }
    };
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Accept { ticket, .. } => format!("accept {ticket}"),
            Effect::Reject { ticket, .. } => format!("reject {ticket}"),
            Effect::Admit(_, is_admitted) => format!("admit {is_admitted}"),
            Effect::Deliver(frame) | Effect::DeliverEvent { frame, .. } => text(frame),
            Effect::SendTotalAt(_) => "total later".into(),
            Effect::ForceResubscribe => "force_resubscribe".into(),
            Effect::Unverified => "unverified".into(),
            Effect::Online(is_online) => format!("online {is_online}"),
        })
        .collect()
}

fn user_of(text: &str) -> String {
    let after = text.split(r#"user_id\":\""#).nth(1).unwrap_or_default();
    after.split(r#"\""#).next().unwrap_or_default().to_owned()
}

fn total_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn receive(topic: &mut Topic, message: Message) -> Vec<String> {
    let mut effects = Vec::new();
    topic.on_message(message, false, Instant::now(), &mut effects);
    seen(&effects)
}

fn reply(topic: &mut Topic, synced: Synced, is_full: bool) -> Vec<String> {
    seen(&topic.on_synced(synced, is_full, (100, false), Instant::now()))
}

/// Takes the next step, which is a sync.
fn request(topic: &mut Topic) -> SyncRequest {
    match topic.next_step(Instant::now()) {
        Some(TopicStep::Sync(request)) => request,
        other => panic!("{other:?} instead of a sync"),
    }
}

/// A topic with one subscriber per user, at version and sequence 5.
fn begun(channel: &str, users: &[&str]) -> Topic {
    let mut topic = topic(channel);
    let is_presence = topic.channel().is_some_and(ChannelName::is_presence);
    for (slot, user) in (1..).zip(users) {
        topic.enqueue(subscriber(slot, is_presence.then_some(user)));
    }
    assert!(matches!(topic.next_step(Instant::now()), Some(TopicStep::Subscribe)));
    topic.on_subscribed(ServerId::ONLY);
    assert!(request(&mut topic).is_full);
    reply(&mut topic, synced(5, 5, users.len(), if is_presence { users } else { &[] }), true);
    topic
}

/// A topic of a subject other than a channel.
fn subject(subject: TopicSubject) -> Topic {
    let name = TopicName { app_id: "1".into(), subject };
    Topic::new(name, Partition::LEASES, &AppConfig::development())
}

/// A user with this many sign-ins on this node.
fn signed_in(count: usize) -> Topic {
    let mut topic = subject(TopicSubject::User("u".into()));
    for _ in 0..count {
        topic.increment();
    }
    topic.next_step(Instant::now());
    topic.on_subscribed(ServerId::ONLY);
    request(&mut topic);
    reply(&mut topic, synced(1, 0, count, &[]), true);
    topic
}

/// The connections of an app, one of them on this node.
fn counted_connection() -> Topic {
    let mut topic = subject(TopicSubject::Connections);
    topic.increment();
    request(&mut topic);
    reply(&mut topic, synced(1, 0, 1, &[]), false);
    topic
}

/// Loses the link, and continues up to the sync on the next one.
fn relink(topic: &mut Topic) -> SyncRequest {
    topic.reset();
    assert!(matches!(topic.next_step(Instant::now()), Some(TopicStep::Subscribe)));
    topic.on_subscribed(ServerId::ONLY);
    request(topic)
}

#[test]
fn the_first_subscriber_waits_for_the_bus_and_the_snapshot() {
    let mut topic = topic("room");
    topic.enqueue(subscriber(1, None));
    assert!(matches!(topic.next_step(Instant::now()), Some(TopicStep::Subscribe)));
    assert!(topic.next_step(Instant::now()).is_none(), "one step at a time");
    topic.on_subscribed(ServerId::ONLY);
    let first = request(&mut topic);
    assert!(first.is_full && first.own_total_without_joins == 1);
    // Messages before the reply are not lost: they are later than the snapshot, or part of it.
    assert!(receive(&mut topic, event(5)).is_empty());
    assert!(receive(&mut topic, event(6)).is_empty());
    assert_eq!(reply(&mut topic, synced(5, 5, 1, &[]), true), ["accept 1", "event 6"]);
    assert_eq!(receive(&mut topic, event(7)), ["event 7"]);
    topic.enqueue(subscriber(2, None));
    let second = request(&mut topic);
    assert!(
        !second.is_full && second.own_total_without_joins == 2,
        "a known channel needs no snapshot"
    );
    assert_eq!(reply(&mut topic, synced(5, 7, 2, &[]), false), ["accept 2"]);
}

#[test]
fn members_join_and_leave_by_versions() {
    let mut topic = begun("presence-a", &["1"]);
    assert_eq!(receive(&mut topic, change(6, Change::Added(member("2")))), ["+2"]);
    assert!(receive(&mut topic, change(6, Change::Added(member("2")))).is_empty(), "a duplicate");
    assert_eq!(receive(&mut topic, change(7, Change::Removed("2".into()))), ["-2"]);
    assert!(topic.next_step(Instant::now()).is_none());
    receive(&mut topic, change(9, Change::Added(member("3"))));
    assert!(request(&mut topic).is_full, "a version is missing: it is read again");
    assert_eq!(reply(&mut topic, synced(9, 5, 1, &["1", "3", "4"]), true), ["+4"]);
}

#[test]
fn a_user_that_returns_before_its_departure_was_synced_has_not_left() {
    let mut topic = begun("presence-a", &["1"]);
    topic.decrement(Some(&"1".into()));
    topic.enqueue(subscriber(2, Some("1")));
    let sync = request(&mut topic);
    assert!(sync.removed_users.is_empty());
    assert_eq!((sync.own_total_without_joins, sync.joins.len()), (0, 1));
}

#[test]
fn a_departure_during_a_sync_is_part_of_the_next() {
    let mut topic = begun("presence-a", &["1", "2"]);
    topic.enqueue(subscriber(3, Some("3")));
    request(&mut topic);
    topic.decrement(Some(&"1".into()));
    assert!(topic.next_step(Instant::now()).is_none());
    reply(&mut topic, synced(5, 5, 3, &[]), false);
    let next = request(&mut topic);
    assert_eq!((next.own_total_without_joins, &*next.removed_users[0]), (2, "1"));
}

#[test]
fn a_user_with_another_pending_connection_stays() {
    let mut topic = begun("presence-a", &["1"]);
    topic.enqueue(subscriber(2, Some("1")));
    request(&mut topic);
    topic.decrement(Some(&"1".into()));
    assert_eq!(reply(&mut topic, synced(5, 5, 2, &[]), false), ["accept 2"]);
    let next = request(&mut topic);
    assert_eq!(next.own_total_without_joins, 1);
    assert!(next.removed_users.is_empty(), "the user has another connection");
}

#[test]
fn a_full_channel_rejects_only_new_users() {
    let mut topic = begun("presence-a", &["1"]);
    topic.enqueue(subscriber(2, Some("2")));
    topic.enqueue(subscriber(3, Some("1")));
    request(&mut topic);
    let verdicts = Synced { accepted: vec![false, true], ..synced(5, 5, 2, &[]) };
    assert_eq!(reply(&mut topic, verdicts, false), ["reject 2", "accept 3"]);
    assert!(topic.next_step(Instant::now()).is_none(), "nothing is left to sync");
}

#[test]
fn after_a_lost_link_everything_is_synced_and_the_differences_sent() {
    let mut topic = begun("presence-a", &["1"]);
    receive(&mut topic, change(6, Change::Added(member("gone"))));
    let sync = relink(&mut topic);
    assert!(sync.is_full);
    assert_eq!(
        (sync.own_total_without_joins, sync.joins.len(), sync.joins[0].connections),
        (1, 1, 0)
    );
    let now = Synced { accepted: vec![true], ..synced(9, 5, 1, &["1", "new"]) };
    assert_eq!(reply(&mut topic, now, true), ["-gone", "+new"]);
}

#[test]
fn members_of_nodes_that_have_not_synced_yet_have_not_left() {
    let mut topic = begun("presence-a", &["1"]);
    receive(&mut topic, change(6, Change::Added(member("elsewhere"))));
    relink(&mut topic);
    let empty = Synced { epoch: "e2".into(), accepted: vec![true], ..synced(1, 0, 1, &["1"]) };
    let received = seen(&topic.on_synced(empty, true, (100, true), Instant::now()));
    assert_eq!(received, ["unverified"], "Redis is empty, and other nodes have yet to sync");
    let added = Message::Change {
        epoch: "e2".into(),
        version: 2,
        change: Change::Added(member("elsewhere")),
    };
    assert!(receive(&mut topic, added).is_empty(), "no member_removed was sent before");
    assert!(topic.end_provisional());
    assert!(request(&mut topic).is_full, "it is read again when all nodes have arrived");
    let now = Synced { epoch: "e2".into(), ..synced(2, 5, 2, &["1", "elsewhere"]) };
    assert!(reply(&mut topic, now, true).is_empty());
}

#[test]
fn events_missed_during_a_lost_link_force_a_resubscribe() {
    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    assert_eq!(reply(&mut topic, synced(5, 7, 1, &[]), true), ["force_resubscribe"]);

    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    assert!(reply(&mut topic, synced(5, 5, 1, &[]), true).is_empty(), "nothing was missed");

    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    let elsewhere = Synced { epoch: "e2".into(), ..synced(0, 0, 1, &[]) };
    assert_eq!(reply(&mut topic, elsewhere, true), ["unverified"]);
    assert_eq!(topic.received_sequence(), 5, "the sequence outlives the hash");

    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    let further = Synced { epoch: "e2".into(), ..synced(0, 6, 1, &[]) };
    assert_eq!(
        reply(&mut topic, further, true),
        ["force_resubscribe"],
        "another node had a higher sequence"
    );

    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    assert_eq!(
        reply(&mut topic, synced(5, 3, 1, &[]), true),
        ["force_resubscribe"],
        "a replica with fewer events"
    );
}

#[test]
fn events_between_subscribing_and_the_snapshot_are_not_missed() {
    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    for sequence in [6, 7, 8] {
        assert!(receive(&mut topic, event(sequence)).is_empty());
    }
    let seen = reply(&mut topic, synced(5, 7, 1, &[]), true);
    assert_eq!(seen, ["event 6", "event 7", "event 8"]);
}

#[test]
fn a_gap_in_the_sequence_forces_a_resubscribe_at_once() {
    let mut topic = begun("room", &["a"]);
    assert_eq!(receive(&mut topic, event(7)), ["force_resubscribe", "event 7"]);
    // The hash is missing, so nothing is counted, and everything is synced again.
    assert_eq!(receive(&mut topic, event(0)), ["event 0"]);
    assert!(request(&mut topic).is_full);
}

#[test]
fn a_lower_sequence_than_another_nodes_forces_a_resubscribe() {
    let mut topic = begun("room", &["a"]);
    assert!(receive(&mut topic, change(6, Change::Sequence(5))).is_empty());
    assert_eq!(receive(&mut topic, change(7, Change::Sequence(7))), ["force_resubscribe"]);
    assert_eq!(receive(&mut topic, event(8)), ["event 8"]);
}

#[test]
fn a_hash_created_after_the_reply_is_read_even_if_its_message_arrived_before() {
    let mut topic = topic("room");
    topic.enqueue(subscriber(1, None));
    topic.next_step(Instant::now());
    topic.on_subscribed(ServerId::ONLY);
    request(&mut topic);
    let elsewhere = Message::Change { epoch: "e2".into(), version: 1, change: Change::Total(2) };
    assert!(receive(&mut topic, elsewhere).is_empty());
    assert_eq!(reply(&mut topic, synced(0, 0, 1, &[]), true), ["accept 1"]);
    assert!(request(&mut topic).is_full);
}

#[test]
fn uncounted_events_are_not_lost_while_the_topic_is_read_again() {
    let mut topic = begun("room", &["a"]);
    assert_eq!(receive(&mut topic, event(0)), ["event 0"]);
    request(&mut topic);
    assert!(receive(&mut topic, event(0)).is_empty());
    let anew = Synced { epoch: "e2".into(), ..synced(0, 0, 1, &[]) };
    assert_eq!(reply(&mut topic, anew, true), ["unverified", "event 0"]);
}

#[test]
fn an_event_counted_by_a_new_hash_is_not_lost_while_it_is_read() {
    let mut topic = begun("room", &["a"]);
    assert_eq!(receive(&mut topic, event(1)), ["event 1"]);
    request(&mut topic);
    for sequence in [2, 3, 4] {
        assert!(receive(&mut topic, event(sequence)).is_empty());
    }
    let anew = Synced { epoch: "e2".into(), ..synced(1, 3, 1, &[]) };
    assert_eq!(reply(&mut topic, anew, true), ["unverified", "event 2", "event 3", "event 4"]);
    request(&mut topic);
    assert!(receive(&mut topic, event(4)).is_empty());
    // This node makes it continue from the sequence of the other hash.
    let counts_on = Synced { epoch: "e2".into(), ..synced(1, 5, 1, &[]) };
    assert_eq!(reply(&mut topic, counts_on, true), ["event 4"]);
}

#[test]
fn waiters_are_answered_by_the_next_link() {
    let mut topic = begun("room", &["a"]);
    topic.enqueue(subscriber(2, None));
    request(&mut topic);
    topic.enqueue(subscriber(3, None));
    assert_eq!(relink(&mut topic).own_total_without_joins, 3);
    let received = reply(&mut topic, synced(5, 5, 3, &[]), true);
    assert_eq!(received, ["total 3", "accept 2", "accept 3"]);
}

#[test]
fn after_a_data_loss_everything_is_synced_as_new() {
    let mut topic = begun("room", &["a"]);
    topic.mark_data_lost();
    let sync = relink(&mut topic);
    assert!(
        !sync.had_contribution && !sync.has_other_contributions,
        "nothing was deleted: {sync:?}"
    );
    reply(&mut topic, synced(1, 0, 1, &["a"]), true);
    assert!(relink(&mut topic).had_contribution, "acknowledged since then");
}

#[test]
fn an_unused_topic_is_unsubscribed_after_a_delay() {
    let mut topic = begun("room", &["a"]);
    topic.decrement(None);
    let sync = request(&mut topic);
    assert_eq!(sync.own_total_without_joins, 0);
    reply(&mut topic, synced(5, 5, 0, &[]), false);
    let now = Instant::now();
    assert!(topic.next_step(now).is_none());
    assert!(topic.wake_at().is_some_and(|at| at <= now + UNSUBSCRIBE_DELAY));
    assert!(matches!(topic.next_step(now + UNSUBSCRIBE_DELAY), Some(TopicStep::Unsubscribe)));
    topic.enqueue(subscriber(9, None));
    assert!(topic.next_step(now).is_none(), "it unsubscribes first");
    topic.on_unsubscribed();
    assert!(matches!(topic.next_step(now), Some(TopicStep::Subscribe)));
}

#[test]
fn an_ended_sign_in_counts_until_its_time() {
    let name = TopicName { app_id: "1".into(), subject: TopicSubject::User("u".into()) };
    let mut topic = Topic::new(name, Partition::LEASES, &AppConfig::development());
    let now = Instant::now();
    topic.increment();
    topic.next_step(now);
    topic.on_subscribed(ServerId::ONLY);
    assert_eq!(request(&mut topic).own_total_without_joins, 1);
    assert!(reply(&mut topic, synced(1, 0, 1, &[]), true).is_empty());
    topic.sign_out_at(now + UNSUBSCRIBE_DELAY);
    assert!(topic.next_step(now).is_none());
    assert!(
        matches!(topic.next_step(now + UNSUBSCRIBE_DELAY), Some(TopicStep::Sync(sync)) if sync.own_total_without_joins == 0)
    );
    assert_eq!(receive(&mut topic, change(2, Change::Total(0))), ["online false"]);
}
