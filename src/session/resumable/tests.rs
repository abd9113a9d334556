//! Tests of the side of a resumable connection that decides.

use super::{
    super::acknowledgements::{PING_INTERVAL, QUIET_PING_INTERVAL},
    *,
};
use crate::{
    channel::ReplayedEvent,
    protocol::{Frame, FrameKind},
};

fn resumable(now: Instant) -> Resumable {
    let mut resumable = Resumable::new(ResumeToken::parse("0123456789abcdef").unwrap(), true, now);
    resumable.resume(None, now);
    resumable
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name, 200).unwrap()
}

fn at(sequence: u64) -> Position {
    Position { epoch: "a".into(), sequence }
}

/// Subscribes, with a replay of everything after `before` up to `end`.
fn subscribe(
    client: &mut Resumable,
    name: &str,
    counter: u64,
    (before, end): (u64, u64),
    now: Instant,
) {
    let event = |sequence| ReplayedEvent { sequence, frame: Frame::text(FrameKind::Event, "") };
    let replay = Ok((before + 1..=end).map(event).collect());
    let log = LogStart { end: at(end), replay, is_reader: true };
    assert_eq!(client.on_subscribed(&channel(name), counter, Some(&log), now), None);
}

/// The parked sequences by channel, where each delivery's counter is the sequence plus 100.
fn parked(resumable: &mut Resumable, now: Instant) -> Vec<(String, Option<u64>)> {
    let session = resumable.park(now, |_, counter| Some(counter.saturating_sub(100)));
    let mut positions: Vec<(String, Option<u64>)> = session
        .positions
        .into_iter()
        .map(|(name, position)| (name.to_string(), position.map(|at| at.sequence)))
        .collect();
    positions.sort();
    positions
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn an_answered_ping_acknowledges_what_was_queued_before_it() {
    let now = Instant::now();
    let mut client = resumable(now);
    subscribe(&mut client, "a", 105, (5, 5), now);
    client.on_ping(110, 0, now);
    client.on_ping(120, 0, now);
    client.on_pong();
    let mut other = resumable(now);
    subscribe(&mut other, "a", 105, (2, 5), now);
    other.on_ping(110, 0, now);
    other.on_pong();
    let session = other.park(now, |_, counter| Some(counter - 100));
    assert_eq!(session.acknowledged, 8, "the replay of three, and five");
    assert_eq!(parked(&mut client, now), [("a".into(), Some(10))]);
    let mut client = resumable(now);
    subscribe(&mut client, "a", 105, (5, 5), now);
    client.on_ping(110, 0, now);
    assert_eq!(parked(&mut client, now), [("a".into(), Some(5))], "it was not answered");
    client.on_pong();
    client.on_pong();
    assert_eq!(client.acknowledgements.acknowledged, 110, "there was only one ping");
}

#[test]
fn a_numbered_pong_answers_its_ping_and_those_before() {
    let now = Instant::now();
    let mut client = resumable(now);
    for counter in [110, 120, 130] {
        client.on_ping(counter, 0, now);
    }
    for (pong, acknowledged, left) in [(109, 0, 3), (120, 120, 1), (120, 120, 1), (999, 130, 0)] {
        client.on_numbered_pong(pong);
        let acknowledgements = &client.acknowledgements;
        assert_eq!(
            (acknowledgements.acknowledged, acknowledgements.pings.len()),
            (acknowledged, left)
        );
    }
}

#[test]
fn a_ping_from_before_a_replay_says_nothing_about_it() {
    let now = Instant::now();
    let mut client = resumable(now);
    client.on_ping(107, 0, now);
    subscribe(&mut client, "a", 108, (3, 7), now);
    client.on_pong();
    assert_eq!(parked(&mut client, now), [("a".into(), Some(3))]);
    let mut client = resumable(now);
    subscribe(&mut client, "a", 108, (3, 9), now);
    client.on_ping(108, 0, now);
    client.on_pong();
    assert_eq!(parked(&mut client, now), [("a".into(), Some(9))], "all that was replayed");
}

#[test]
fn channels_of_the_previous_connection_are_kept_until_they_are_asked_for() {
    let now = Instant::now();
    let mut session = ParkedSession::new(now.checked_sub(Duration::from_secs(5)).unwrap());
    for name in ["a", "b", "c"] {
        session.positions.insert(channel(name), Some(at(2)));
    }
    session.positions.insert(channel("unknown"), None);
    let mut client = resumable(now);
    client.resume(Some(session), now);
    let position = |client: &Resumable, name, after| {
        let found = client.parked_position(&channel(name), now + after)?;
        Some((found.0.map(|at| at.sequence), now - found.1.unwrap()))
    };
    let lost = Duration::from_secs(5);
    assert_eq!(position(&client, "a", Duration::ZERO), Some((Some(2), lost)));
    assert_eq!(position(&client, "unknown", Duration::ZERO), Some((None, lost)));
    assert_eq!(position(&client, "other", Duration::ZERO), None);
    assert_eq!(position(&client, "a", RESUBSCRIBE_TIMEOUT), None);
    subscribe(&mut client, "a", 101, (2, 6), now);
    client.forget(&channel("b"));
    assert_eq!(client.on_subscribed(&channel("d"), 101, None, now), None, "it is new");
    assert_eq!(position(&client, "a", Duration::ZERO), None, "it was used");
    let kept = [
        ("a".into(), Some(2)),
        ("c".into(), Some(2)),
        ("d".into(), None),
        ("unknown".into(), None),
    ];
    assert_eq!(parked(&mut client, now), kept);
    client.resume(Some(ParkedSession::new(now)), now);
    assert_eq!(parked(&mut client, now + RESUBSCRIBE_TIMEOUT), []);
}

#[test]
fn a_client_that_may_have_missed_events_is_told_so() {
    let now = Instant::now();
    let mut session = ParkedSession::new(now.checked_sub(Duration::from_secs(5)).unwrap());
    for (name, position) in
        [("a", Some(at(2))), ("b", Some(at(2))), ("c", None), ("d", Some(at(2)))]
    {
        session.positions.insert(channel(name), position);
    }
    let mut client = resumable(now);
    drop(client.resume(Some(session), now));
    let whole = LogStart { end: at(9), replay: Ok(Vec::new()), is_reader: true };
    let gap = LogStart { end: at(9), replay: Err(Gap::TooMuch), is_reader: true };
    let mut on_subscribed = |name, log| client.on_subscribed(&channel(name), 101, log, now);
    let away = Some(Duration::from_secs(5));
    assert_eq!(on_subscribed("a", Some(&gap)), Some((away, Gap::TooMuch)));
    assert_eq!(on_subscribed("a", Some(&gap)), None, "once");
    assert_eq!(on_subscribed("b", None), Some((away, Gap::NotLogged)));
    assert_eq!(on_subscribed("c", Some(&whole)), Some((away, Gap::NotLogged)));
    assert_eq!(on_subscribed("d", Some(&whole)), None);
    assert_eq!(on_subscribed("e", None), None, "it is new");
    // Without an acknowledgement the notice is repeated.
    let expected = [("a", Some(9)), ("b", None), ("c", None), ("d", Some(2)), ("e", None)];
    let expected = expected.map(|(name, position)| (name.to_owned(), position));
    assert_eq!(parked(&mut client, now), expected);
}

#[test]
fn a_write_is_followed_by_a_ping_once_a_second() {
    let start = Instant::now();
    let mut client = resumable(start);
    assert_eq!(client.on_write(1, 3, start), AfterWrite::Check);
    assert_eq!(client.on_write(1, 3, start), AfterWrite::Nothing);
    assert_eq!(client.ping_at(), Some(start + QUIET_PING_INTERVAL));
    let written = client.on_write(2, 3, start + PING_INTERVAL);
    assert_eq!(written, AfterWrite::Ping, "it is due with a write");
    assert_eq!(client.ping_at(), None, "nothing was written after it");
    let written = client.on_write(3, 3, start + PING_INTERVAL * 2);
    assert_eq!(written, AfterWrite::Nothing, "it was not answered");
    assert_eq!((client.ping_at(), client.unanswered_since()), (None, Some(start + PING_INTERVAL)));
    client.on_pong();
    assert_eq!(client.ping_at(), Some(start + PING_INTERVAL * 2), "the rest is confirmed too");
}

#[test]
fn the_last_events_of_a_burst_are_confirmed_soon() {
    let start = Instant::now();
    let mut client = resumable(start);
    client.on_ping(1, 0, start);
    client.on_pong();
    client.on_write(2, 3, start + 300 * MS);
    assert_eq!(client.ping_at(), Some(start + 320 * MS));
    client.on_write(3, 3, start + 310 * MS);
    assert_eq!(client.ping_at(), Some(start + 570 * MS), "it is busy, and looked at again later");
    client.on_write(3, 3, start + 550 * MS);
    assert_eq!(client.ping_at(), Some(start + 570 * MS));
    client.on_write(3, 3, start + 551 * MS);
    assert_eq!(client.ping_at(), Some(start + 820 * MS));
    client.on_write(3, 3, start + 999 * MS);
    assert_eq!(client.ping_at(), Some(start + 1_000 * MS), "at most a second after the last");
    client.on_ping(4, 1, start + 1_000 * MS);
    client.on_pong();
    let written = client.on_write(4, 1, start + 3_000 * MS);
    assert_eq!(written, AfterWrite::Nothing, "the write of the ping itself");
    assert_eq!(client.ping_at(), None);
    client.on_ping(5, 2, start + 3_000 * MS);
    let written = client.on_write(5, 3, start + 3_001 * MS);
    assert_eq!(written, AfterWrite::Nothing, "more than the ping, but that is not answered");
    client.on_pong();
    assert_eq!(client.ping_at(), Some(start + 3_250 * MS));
}

#[test]
fn a_connection_that_delivers_nothing_more_ends_once_that_is_confirmed() {
    let now = Instant::now();
    let mut client = resumable(now);
    assert!(!client.should_confirm(), "nothing was written");
    client.on_write(101, 3, now);
    assert!(client.should_confirm());
    subscribe(&mut client, "a", 101, (1, 1), now);
    client.finish(105, now);
    let later = now + 900 * MS;
    assert!(client.finished_at().is_some_and(|at| later < at), "the answer is waited for");
    client.on_ping(105, 0, now);
    // Those that were held back have later numbers.
    client.on_ping(109, 0, now);
    client.on_pong();
    assert!(client.finished_at().is_some_and(|at| at <= now));
    client.on_pong();
    assert_eq!(parked(&mut client, now), [("a".into(), Some(5))]);
    let mut client = resumable(now);
    client.on_write(101, 3, now);
    client.finish(105, now);
    assert!(client.finished_at().is_some_and(|at| at <= now + PING_INTERVAL), "but not for long");
}

#[test]
fn a_client_whose_session_was_lost_may_have_missed_events_of_any_channel() {
    let now = Instant::now();
    let mut client = resumable(now);
    drop(client.resume(Some(ParkedSession::unknown()), now));
    let whole = LogStart { end: at(9), replay: Ok(Vec::new()), is_reader: true };
    let known = [(channel("b"), at(9))];
    client.tell(known, now);
    assert_eq!(
        client.on_subscribed(&channel("a"), 101, Some(&whole), now),
        Some((None, Gap::SessionLost))
    );
    assert_eq!(client.on_subscribed(&channel("b"), 101, Some(&whole), now), None, "it has counted");
    assert_eq!(
        client.on_subscribed(&channel("a"), 101, Some(&whole), now + RESUBSCRIBE_TIMEOUT),
        None
    );
}

#[test]
fn a_subscription_that_is_decided_late_begins_where_the_client_was() {
    let now = Instant::now();
    let lost_at = now.checked_sub(Duration::from_secs(5)).unwrap();
    let mut session = ParkedSession::new(lost_at);
    session.positions.insert(channel("a"), Some(at(2)));
    session.positions.insert(channel("b"), Some(at(3)));
    let mut client = resumable(now);
    drop(client.resume(Some(session), now));
    client.ask(&channel("a"), now);
    let late = now + RESUBSCRIBE_TIMEOUT;
    assert_eq!(client.parked_position(&channel("a"), late), Some((Some(&at(2)), Some(lost_at))));
    assert_eq!(client.parked_position(&channel("b"), late), None, "it was not asked for");
    let gap = LogStart { end: at(9), replay: Err(Gap::TooMuch), is_reader: true };
    let notice = client.on_subscribed(&channel("a"), 101, Some(&gap), late);
    assert_eq!(notice, Some((Some(late - lost_at), Gap::TooMuch)));

    let mut client = resumable(now);
    drop(client.resume(Some(ParkedSession::unknown()), now));
    client.ask(&channel("a"), now);
    assert_eq!(
        client.on_subscribed(&channel("a"), 101, Some(&gap), late),
        Some((None, Gap::SessionLost))
    );
    let mut session = ParkedSession::new(lost_at);
    session.positions.insert(channel("a"), Some(at(2)));
    let mut client = resumable(now);
    drop(client.resume(Some(session.clone()), now));
    client.ask(&channel("a"), now);
    let parked = client.park(late, |_, _| None);
    assert_eq!(parked, session, "it was lost again before the decision");
}

#[test]
fn a_connection_claims_once() {
    let now = Instant::now();
    let mut client = Resumable::new(ResumeToken::parse("0123456789abcdef").unwrap(), true, now);
    assert!(client.is_unclaimed() && !client.is_waiting());
    let written = client.on_write(1, 3, now + PING_INTERVAL);
    assert_eq!(written, AfterWrite::Nothing, "the page may give this attempt up");
    assert_eq!(client.ping_at(), None);
    client.wait("first");
    assert!(!client.is_unclaimed() && client.is_waiting() && !client.is_claimed());
    assert_eq!(client.resume(None, now).as_deref(), Some("first"));
    assert!(!client.is_unclaimed() && !client.is_waiting() && client.is_claimed());
    assert_eq!(client.token().as_str(), "0123456789abcdef");
}
