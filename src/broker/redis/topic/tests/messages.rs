//! Pub/sub messages and snapshots: cached events, first messages, duplicates and early messages.

use super::*;
use crate::{
    broker::redis::{
        channel_logs::LogRead,
        topic::{request::REPLY_BYTES, view::BUFFERED_MAX},
    },
    channel::{ChannelLog, Gap, LoggedEvent, Position, ReplayLimits, ReplayedEvent},
    config::{AppConfig, HistoryConfig, HistoryReplay},
    hub::InitialMessages,
    protocol::SocketId,
};

const MEMORY: Duration = Duration::from_secs(10);

/// An event that a cache channel keeps for `retention`.
fn kept(sequence: u64, kind: FrameKind, retention: Duration) -> Message {
    let frame = Frame::published(kind, &format!("event {sequence}"), Instant::now());
    let retention_ms = u64::try_from(retention.as_millis()).unwrap();
    let id = EnvelopeId(sequence);
    let envelope = Envelope { id, is_retry: false, except: None, retention_ms, frame };
    Message::Event { sequence, envelope }
}

fn hear_at(topic: &mut Topic, message: Message, now: Instant) {
    topic.on_message(message, false, now, &mut Vec::new());
}

/// What a new subscriber receives.
fn initial(topic: &mut Topic, user_id: Option<&str>, now: Instant) -> InitialMessages {
    topic.enqueue(subscriber(9, user_id));
    request(topic);
    let replica = topic.view.as_ref().unwrap();
    let (version, sequence) = (replica.version, replica.sequence);
    let own_total = topic.local_count + 1;
    let effects =
        topic.on_synced(synced(version, sequence, own_total, &[]), false, (100, false), now);
    match effects.into_iter().next_back() {
        Some(Effect::Accept { initial, .. }) => initial,
        other => panic!("{other:?} instead of a subscription"),
    }
}

/// The cached event that a new subscriber receives; `None` for `pusher:cache_miss`.
fn cached(topic: &mut Topic, now: Instant) -> Option<String> {
    let initial = initial(topic, None, now);
    let text = initial
        .cached
        .expect("a cache channel has an event or a miss")
        .as_text()
        .unwrap()
        .to_owned();
    assert_eq!(initial.is_cache_miss, text.contains("pusher:cache_miss"), "{text}");
    (!initial.is_cache_miss).then_some(text)
}

#[test]
fn the_last_event_is_kept_for_its_time() {
    let now = Instant::now();
    let mut topic = begun("cache-x", &["a"]);
    assert_eq!(cached(&mut topic, now), None);
    hear_at(&mut topic, kept(6, FrameKind::Event, MEMORY), now);
    assert_eq!(cached(&mut topic, now).unwrap(), "event 6");
    assert_eq!(cached(&mut topic, now + MEMORY - Duration::from_millis(1)).unwrap(), "event 6");
    assert_eq!(cached(&mut topic, now + MEMORY), None);
    topic.expire(now + MEMORY - Duration::from_millis(1));
    assert!(topic.view.as_ref().unwrap().cached_event.is_some());
    topic.expire(now + MEMORY);
    assert!(topic.view.as_ref().unwrap().cached_event.is_none(), "its memory is free");
}

#[test]
fn only_published_events_are_kept_and_one_that_is_too_large_replaces_the_last() {
    let now = Instant::now();
    let mut topic = begun("cache-x", &["a"]);
    hear_at(&mut topic, kept(6, FrameKind::Event, MEMORY), now);
    hear_at(&mut topic, kept(7, FrameKind::ClientEvent, MEMORY), now);
    assert_eq!(cached(&mut topic, now).unwrap(), "event 6");
    hear_at(&mut topic, kept(8, FrameKind::Event, Duration::ZERO), now);
    assert_eq!(cached(&mut topic, now), None);
    assert!(topic.view.as_ref().unwrap().cached_event.is_none(), "it takes no memory");
    hear_at(&mut topic, kept(9, FrameKind::Event, Duration::from_millis(1)), now);
    assert_eq!(cached(&mut topic, now).unwrap(), "event 9");

    let mut room = begun("room", &["a"]);
    hear_at(&mut room, kept(6, FrameKind::Event, MEMORY), now);
    let initial = initial(&mut room, None, now);
    assert!(initial.cached.is_none() && !initial.is_cache_miss);
    assert!(room.view.as_ref().unwrap().cached_event.is_none());
}

#[test]
fn an_eviction_removes_only_its_own_event() {
    let now = Instant::now();
    let mut topic = begun("cache-x", &["a"]);
    hear_at(&mut topic, kept(6, FrameKind::Event, MEMORY), now);
    hear_at(&mut topic, Message::Evicted(EnvelopeId(5)), now);
    assert_eq!(cached(&mut topic, now).unwrap(), "event 6");
    hear_at(&mut topic, Message::Evicted(EnvelopeId(6)), now);
    assert_eq!(cached(&mut topic, now), None);
}

#[test]
fn a_snapshot_contains_the_last_event_with_its_remaining_time() {
    let now = Instant::now();
    let mut topic = begun("cache-x", &["a"]);
    relink(&mut topic);
    let frame = Frame::published(FrameKind::Event, "event 5", now);
    let last = Some((EnvelopeId(5), frame, MEMORY));
    topic.on_synced(Synced { cached_event: last, ..synced(5, 5, 1, &[]) }, true, (100, false), now);
    assert_eq!(cached(&mut topic, now + MEMORY / 2).unwrap(), "event 5");
    assert_eq!(cached(&mut topic, now + MEMORY), None);
    let sync = relink(&mut topic);
    assert!(REPLY_BYTES < sync.reply_bytes, "a snapshot is read again");
}

#[test]
fn an_acknowledgement_has_the_current_members() {
    let now = Instant::now();
    let mut topic = begun("presence-a", &["1"]);
    let ids = |topic: &mut Topic| {
        let initial = initial(topic, Some("1"), now);
        let text = initial.succeeded_frame.as_text().unwrap().to_owned();
        ["1", "2"].map(|id| text.contains(&format!(r#"\"{id}\""#)))
    };
    assert_eq!(ids(&mut topic), [true, false]);
    receive(&mut topic, change(6, Change::Added(member("2"))));
    assert_eq!(ids(&mut topic), [true, true]);
    receive(&mut topic, change(7, Change::Removed("2".into())));
    assert_eq!(ids(&mut topic), [true, false]);
    let mut room = begun("room", &["a"]);
    let initial = initial(&mut room, None, now);
    assert!(!initial.succeeded_frame.as_text().unwrap().contains("presence"));
}

#[test]
fn the_announcement_of_a_new_user_is_sent_to_all_members() {
    let now = Instant::now();
    let mut topic = begun("presence-a", &["1", "2", "3"]);
    assert_eq!(initial(&mut topic, Some("2"), now).broadcast_bytes, 0, "a member already");
    let channel = topic.channel().unwrap().clone();
    let one = event::member_added(&channel, &member("4")).bytes().len();
    assert_eq!(initial(&mut topic, Some("4"), now).broadcast_bytes, 3 * one);
}

#[test]
fn a_repeated_event_is_counted_and_not_delivered_again() {
    let mut topic = begun("room", &["a"]);
    let mut effects = Vec::new();
    topic.on_message(event(6), true, Instant::now(), &mut effects);
    assert!(effects.is_empty());
    assert_eq!(receive(&mut topic, event(7)), ["event 7"], "there is no gap");
}

#[test]
fn outdated_messages_change_nothing() {
    let mut topic = begun("presence-a", &["1"]);
    for version in [4, 5] {
        assert_eq!(receive(&mut topic, change(version, Change::Removed("1".into()))), [""; 0]);
    }
    assert!(topic.is_synced());
    let mut room = begun("room", &["a"]);
    assert_eq!(receive(&mut room, change(5, Change::Total(7))), [""; 0]);
    assert_eq!(receive(&mut room, change(6, Change::Total(7))), ["total 7"]);
    // A sequence that was received before: the hash is new. It is no gap.
    assert_eq!(receive(&mut room, event(5)), ["event 5"]);
    assert!(!room.is_synced());
}

#[test]
fn after_a_gap_the_sequence_continues_from_the_new_event() {
    let mut topic = begun("room", &["a"]);
    assert_eq!(receive(&mut topic, event(8)), ["force_resubscribe", "event 8"]);
    assert_eq!(receive(&mut topic, event(9)), ["event 9"]);
    assert!(topic.is_synced());
}

#[test]
fn a_reply_contains_the_changes_of_the_sync() {
    let mut topic = begun("presence-a", &["1"]);
    topic.enqueue(subscriber(2, Some("2")));
    request(&mut topic);
    let changes = vec![change(6, Change::Added(member("2")))];
    let received = reply(&mut topic, Synced { changes, ..synced(6, 5, 2, &[]) }, false);
    assert_eq!(received, ["+2", "accept 2"]);
    assert!(topic.is_synced());
}

#[test]
fn a_reply_of_another_state_is_read_again() {
    let is_settled = |epoch: &str, version| {
        let mut topic = begun("room", &["a"]);
        topic.enqueue(subscriber(2, None));
        request(&mut topic);
        reply(&mut topic, Synced { epoch: epoch.into(), ..synced(version, 5, 2, &[]) }, false);
        topic.is_synced()
    };
    assert!(is_settled("e1", 5));
    assert!(is_settled("e1", 4), "the message was faster");
    assert!(!is_settled("e1", 6), "a change was missed");
    assert!(!is_settled("e2", 5));
}

#[test]
fn early_changes_after_the_snapshot_are_applied() {
    let mut topic = begun("presence-a", &["1"]);
    relink(&mut topic);
    for (version, id) in [(6, "6"), (7, "7"), (8, "8")] {
        assert_eq!(receive(&mut topic, change(version, Change::Added(member(id)))), [""; 0]);
    }
    let received = reply(&mut topic, synced(7, 5, 1, &["1", "6", "7"]), true);
    assert_eq!(received, ["+6", "+7", "+8"]);
    assert!(topic.is_synced());
}

#[test]
fn messages_count_from_the_subscription_on() {
    let mut topic = begun("room", &["a"]);
    topic.reset();
    assert_eq!(receive(&mut topic, event(6)), [""; 0], "of the old link");
    topic.next_step(Instant::now());
    assert_eq!(receive(&mut topic, event(7)), [""; 0], "as soon as it is requested");
    topic.on_subscribed(ServerId::ONLY);
    request(&mut topic);
    assert_eq!(reply(&mut topic, synced(5, 6, 1, &[]), true), ["force_resubscribe", "event 7"]);

    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    receive(&mut topic, event(6));
    relink(&mut topic);
    assert_eq!(reply(&mut topic, synced(5, 5, 1, &[]), true), [""; 0], "of the link before");
}

#[test]
fn an_event_of_another_hash_does_not_prove_completeness() {
    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    receive(&mut topic, event(6));
    let elsewhere = Synced { epoch: "e2".into(), ..synced(1, 6, 1, &[]) };
    assert_eq!(reply(&mut topic, elsewhere, true), ["force_resubscribe"]);

    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    receive(&mut topic, event(5));
    assert_eq!(reply(&mut topic, synced(5, 5, 1, &[]), true), ["event 5"], "of a missing hash");
}

#[test]
fn a_channel_without_subscribers_forces_no_resubscribe() {
    let mut topic = begun("room", &["a"]);
    topic.decrement(None);
    relink(&mut topic);
    assert_eq!(reply(&mut topic, synced(5, 9, 0, &[]), true), [""; 0], "and no total");
}

#[test]
fn totals_are_kept_while_others_have_yet_to_write() {
    let mut topic = begun("room", &["a"]);
    receive(&mut topic, change(6, Change::Total(3)));
    relink(&mut topic);
    let alone = Synced { epoch: "e2".into(), ..synced(1, 5, 1, &[]) };
    let received = topic.on_synced(alone, true, (100, true), Instant::now());
    assert_eq!(seen(&received), ["unverified"]);
    let total = Message::Change { epoch: "e2".into(), version: 2, change: Change::Total(2) };
    assert_eq!(receive(&mut topic, total), [""; 0]);
    assert_eq!(topic.view.as_ref().unwrap().total, 3);
}

#[test]
fn early_messages_are_limited() {
    for (count, is_read_again) in [(BUFFERED_MAX, false), (BUFFERED_MAX + 1, true)] {
        let mut topic = begun("room", &["a"]);
        relink(&mut topic);
        for sequence in (6..).take(count) {
            receive(&mut topic, event(sequence));
        }
        let delivered = reply(&mut topic, synced(5, 5, 1, &[]), true).len();
        assert_eq!(delivered, if is_read_again { 0 } else { count });
        assert_eq!(topic.next_step(Instant::now()).is_some(), is_read_again);
    }
}

/// What a connection receives that was at sequence 4 and returns to a topic at sequence 5: `early` is handled before the reply to
/// its sync, which has the log up to sequence 6.
fn replay_with_early_messages(early: &[u64]) -> (Result<String, Gap>, u64) {
    let receiver = SocketId::from_random(1);
    let at = Position { epoch: "log".into(), sequence: 4 };
    let mut topic = begun("room", &["a"]);
    let log = PendingLogRequest::After(at.clone(), receiver);
    topic.enqueue(Waiter::Subscriber { connection: connection(9), ticket: 9, member: None, log });
    let sync = request(&mut topic);
    assert_eq!((sync.log, sync.history), (LogUse::From(5), None));
    let read = log_with_early_messages(&mut topic, early);
    let log = read.log();
    let limits = ReplayLimits { events: 9, bytes: usize::MAX };
    let replay = log.after(&at, receiver, limits);
    (replay.map(|events| texts(&events)), log.end().sequence)
}

fn texts(events: &[ReplayedEvent]) -> String {
    let text =
        |event: &ReplayedEvent| event.frame.as_text().unwrap_or_default().replace("event ", "");
    events.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// The log that an accepted subscriber receives: `early` is handled before the reply to its sync, which has the log up to sequence 6.
fn log_with_early_messages(topic: &mut Topic, early: &[u64]) -> LogRead {
    let now = Instant::now();
    let at = |sequence| Position { epoch: "log".into(), sequence };
    for sequence in early {
        receive(topic, event(*sequence));
    }
    let entry = |sequence| {
        let Message::Event { envelope: Envelope { frame, except, .. }, .. } = event(sequence)
        else {
            unreachable!("it is an event")
        };
        (sequence, Some(LoggedEvent { sequence, published_at: now, frame, except }))
    };
    let log = LogRead::of(ChannelLog::from_latest(at(6), [entry(6), entry(5)]));
    let synced = Synced { log: Some(log), ..synced(5, 6, 2, &[]) };
    let effects = topic.on_synced(synced, false, (100, false), now);
    let accepted = effects.iter().find(|effect| matches!(effect, Effect::Accept { .. }));
    let Some(Effect::Accept { log: (_, Some(read)), .. }) = accepted else {
        panic!("the subscriber is not accepted, or does not read the log: {effects:?}")
    };
    read.clone()
}

#[test]
fn a_first_subscription_receives_the_history_with_what_is_handled_before_the_reply() {
    let mut topic = begun("room", &["a"]);
    let history = HistoryConfig {
        prefix: "room".to_owned(),
        events: 7,
        replay: HistoryReplay::First,
        ..HistoryConfig::default()
    };
    topic.set_config(&AppConfig { history: vec![history], ..AppConfig::development() });
    let log = PendingLogRequest::No;
    topic.enqueue(Waiter::Subscriber { connection: connection(9), ticket: 9, member: None, log });
    let sync = request(&mut topic);
    assert_eq!((sync.log, sync.history), (LogUse::NoReaders, Some(7)));
    assert!(REPLY_BYTES < sync.reply_bytes, "the log is read");
    let read = log_with_early_messages(&mut topic, &[6, 7]);
    let all = read.log().latest(topic.history().unwrap().limits, usize::MAX, Instant::now());
    assert_eq!(texts(&all), "5 6 7");
    assert_eq!(topic.left_sequence(), Some(7), "it is no reader, but the channel has a log");
    topic.set_config(&AppConfig::development());
    assert_eq!(topic.left_sequence(), None);
}

#[test]
fn a_replay_has_what_is_handled_before_the_reply_that_it_follows() {
    assert_eq!(replay_with_early_messages(&[]), (Ok("5 6".into()), 6));
    assert_eq!(replay_with_early_messages(&[6]), (Ok("5 6".into()), 6));
    assert_eq!(replay_with_early_messages(&[6, 7, 8]), (Ok("5 6 7 8".into()), 8));
    assert_eq!(replay_with_early_messages(&[6, 8]), (Err(Gap::Trimmed), 8));
}
