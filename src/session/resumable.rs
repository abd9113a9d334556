//! The side of a resumable connection that decides: what its client has certainly received, and what is left
//! of the connection before it.
//!
//! A client proves that it has handled everything before a `pusher:ping` by answering it. A WebSocket pong
//! proves nothing: the browser answers it for a page that is suspended, and before the page has read.

use super::{
    acknowledgements::Acknowledgements,
    counted::{CountedPositions, RESUBSCRIBE_TIMEOUT},
};
use crate::{
    channel::{Gap, LogStart, ParkedSession, Position},
    protocol::{ChannelName, ResumeToken},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The state of a connection whose client has a token.
#[derive(Debug)]
pub struct Resumable {
    token: ResumeToken,
    claim: Claim,
    acknowledgements: Acknowledgements,
    /// The subscriptions; `None` where no log is kept.
    starts: HashMap<ChannelName, Option<LogStarted>>,
    /// What the previous connection has left, and until when its channels may be asked for.
    parked: Option<(ParkedSession, Instant)>,
    /// What the page has told, if it counts its events itself.
    counted: Option<CountedPositions>,
}

/// Whether the connection has taken the place of the one before. It does so at its first message, so that a
/// second attempt of the same page, which loses, changes nothing.
#[derive(Debug)]
enum Claim {
    Open,
    /// The shard of the previous connection was asked for its state. The first message waits for it, and
    /// nothing more is read.
    Waiting(Box<str>),
    Done,
}

/// Where a subscription has begun in the log of its channel.
#[derive(Clone, Debug)]
struct LogStarted {
    /// The delivery counter of the shard when the first messages of the subscription were queued. A ping that
    /// was written before says nothing about them.
    counter: u64,
    /// The position before what was replayed. If that was not possible, the one that the client had, so that the
    /// notice is repeated if it is lost; `None` if it is unknown.
    before: Option<Position>,
    /// The end of the log at that time.
    end: Position,
}

impl Resumable {
    /// The state of a new connection.
    #[must_use]
    pub fn new(token: ResumeToken, now: Instant) -> Self {
        Self {
            token,
            claim: Claim::Open,
            acknowledgements: Acknowledgements::new(now),
            starts: HashMap::new(),
            parked: None,
            counted: None,
        }
    }

    /// Records that the page counts the events of its channels, and how far it has handled each.
    pub fn tell(
        &mut self,
        positions: impl IntoIterator<Item = (ChannelName, Position)>,
        now: Instant,
    ) {
        let counted = self.counted.get_or_insert_with(|| CountedPositions::new(now));
        for (channel, position) in positions {
            counted.tell(channel, position);
        }
    }

    /// The epoch of the log of `channel`, and its end when the subscription began, if the page counts.
    #[must_use]
    pub fn counted_from(&self, channel: &ChannelName) -> Option<&Position> {
        let start = self.counted.as_ref().and_then(|_| self.starts.get(channel))?;
        start.as_ref().map(|start| &start.end)
    }

    /// The token of the client.
    #[must_use]
    pub fn token(&self) -> &ResumeToken {
        &self.token
    }

    /// Whether the connection has not yet taken the place of the previous one.
    #[must_use]
    pub fn is_unclaimed(&self) -> bool {
        matches!(self.claim, Claim::Open)
    }

    /// Whether the state of the previous connection is waited for.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.claim, Claim::Waiting(_))
    }

    /// Records that the shard of the previous connection was asked for its state, and keeps the message that is
    /// handled after that.
    pub fn wait(&mut self, message: &str) {
        self.claim = Claim::Waiting(message.into());
    }

    /// Takes what the previous connection has left, if there was one. Returns the message that has waited.
    pub fn resume(&mut self, parked: Option<ParkedSession>, now: Instant) -> Option<Box<str>> {
        self.parked = parked.map(|parked| (parked, now + RESUBSCRIBE_TIMEOUT));
        match std::mem::replace(&mut self.claim, Claim::Done) {
            Claim::Waiting(message) => Some(message),
            Claim::Open | Claim::Done => None,
        }
    }

    /// Whether the connection is the one of its client.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        matches!(self.claim, Claim::Done)
    }

    /// Where the client was in the log of `channel`, according to the page itself or to the previous connection, and
    /// when that was lost; `None` if it was not subscribed. An inner `None` means that it is unknown.
    #[must_use]
    pub fn parked_position(
        &self,
        channel: &ChannelName,
        now: Instant,
    ) -> Option<(Option<&Position>, Option<Instant>)> {
        let parked =
            self.parked.as_ref().filter(|(_, until)| now < *until).map(|(parked, _)| parked);
        let lost_at = parked.map(|parked| parked.lost_at);
        let counted = self.counted.as_ref().and_then(|counted| counted.get(channel, now));
        match counted {
            Some(position) => Some((Some(position), lost_at)),
            None => Some((parked?.positions.get(channel)?.as_ref(), lost_at)),
        }
    }

    /// Records that a subscription has begun: its first messages are queued at `counter`, and begin with the replay
    /// of `log`. If the client may have missed events, returns for how long at most, if that is known, and why they
    /// are not replayed.
    pub fn on_subscribed(
        &mut self,
        channel: &ChannelName,
        counter: u64,
        log: Option<&LogStart>,
        now: Instant,
    ) -> Option<(Option<Duration>, Gap)> {
        let parked = self.parked_position(channel, now);
        let away = parked.map(|(_, lost_at)| lost_at.map(|at| now.saturating_duration_since(at)));
        let position = parked.and_then(|(position, _)| position).cloned();
        let gap = match (&position, log) {
            (Some(_), Some(LogStart { replay: Ok(_), .. })) => None,
            (_, Some(LogStart { replay: Err(gap), .. })) => Some(*gap),
            (None, Some(_)) | (_, None) => Some(Gap::NotLogged),
        };
        self.forget(channel);
        let started = log.map(|LogStart { end, replay }| {
            let replayed = replay.as_ref().map_or(0, Vec::len) as u64;
            // Without a position, these are the latest events of the channel.
            let first = Position { sequence: end.sequence.saturating_sub(replayed), ..end.clone() };
            let before = if away.is_some() { position } else { Some(first) };
            LogStarted { counter, before, end: end.clone() }
        });
        self.starts.insert(channel.clone(), started);
        away.zip(gap)
    }

    /// Forgets a channel: its position is neither kept nor replayed from any more. Returns whether the
    /// subscription has read its log.
    pub fn forget(&mut self, channel: &ChannelName) -> bool {
        if let Some((parked, _)) = &mut self.parked {
            parked.positions.remove(channel);
        }
        if let Some(counted) = &mut self.counted {
            counted.forget(channel);
        }
        self.starts.remove(channel).flatten().is_some()
    }

    /// Whether the subscription to `channel` reads its log.
    #[must_use]
    pub fn reads_log(&self, channel: &ChannelName) -> bool {
        self.starts.get(channel).is_some_and(Option::is_some)
    }

    /// The positions of all channels, for the client's return. `sequence_at` finds the sequence of a channel's
    /// latest event up to a value of the delivery counter.
    #[must_use]
    pub fn park(
        &mut self,
        now: Instant,
        sequence_at: impl Fn(&ChannelName, u64) -> Option<u64>,
    ) -> ParkedSession {
        let mut session = ParkedSession::new(now);
        // Channels that the client has not yet asked for stay where they were.
        if let Some((parked, until)) = self.parked.take()
            && now < until
        {
            session = parked;
        }
        let acknowledged = self.acknowledgements.acknowledged;
        for (channel, start) in self.starts.drain() {
            let position = start.and_then(|LogStarted { counter, before, end }| {
                if acknowledged < counter {
                    return before;
                }
                let logged = sequence_at(&channel, acknowledged).unwrap_or(0);
                Some(Position { sequence: logged.max(end.sequence), ..end })
            });
            session.positions.insert(channel, position);
        }
        session
    }

    /// Records that `frames` are about to be written, after all deliveries up to `counter` were queued. Returns
    /// whether a ping is to be written with them.
    pub fn on_write(&mut self, counter: u64, frames: usize, now: Instant) -> bool {
        // A page answers each attempt to connect, also one that it is about to give up.
        self.is_claimed() && self.acknowledgements.on_write(counter, frames, now)
    }

    /// Records that a `pusher:ping` was queued behind all deliveries up to `counter`. If the outbox has only pings,
    /// their number is `frames_of_ping`: writing them is not confirmed by one more. Otherwise it is 0.
    pub fn on_ping(&mut self, counter: u64, frames_of_ping: usize, now: Instant) {
        self.acknowledgements.on_ping(counter, frames_of_ping, now);
    }

    /// Handles a `pusher:pong`.
    pub(super) fn on_pong(&mut self) {
        if let Some((counter, _)) = self.acknowledgements.pings.pop_front() {
            self.acknowledgements.acknowledged = counter;
        }
    }

    /// Handles a pong that has the number of its ping: the answers up to there may have been left out.
    pub(super) fn on_numbered_pong(&mut self, counter: u64) {
        while self.acknowledgements.pings.front().is_some_and(|(at, _)| *at <= counter) {
            self.on_pong();
        }
    }

    /// When a ping is due that follows no write; `None` if none is.
    #[must_use]
    pub fn ping_at(&self) -> Option<Instant> {
        self.acknowledgements.ping_at()
    }

    /// When the oldest unanswered ping was queued.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        self.acknowledgements.pings.front().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::acknowledgements::{PING_INTERVAL, QUIET_PING_INTERVAL},
        *,
    };
    use crate::protocol::{Frame, FrameKind};

    fn resumable(now: Instant) -> Resumable {
        let mut resumable = Resumable::new(ResumeToken::parse("0123456789abcdef").unwrap(), now);
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
        let frame = Frame::text(FrameKind::Event, "");
        let replay = Ok(vec![frame; usize::try_from(end - before).unwrap()]);
        let log = LogStart { end: at(end), replay };
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
        for (pong, acknowledged, left) in [(109, 0, 3), (120, 120, 1), (120, 120, 1), (999, 130, 0)]
        {
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
        let whole = LogStart { end: at(9), replay: Ok(Vec::new()) };
        let gap = LogStart { end: at(9), replay: Err(Gap::TooMuch) };
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
        assert!(!client.on_write(1, 3, start));
        assert_eq!(client.ping_at(), Some(start + QUIET_PING_INTERVAL));
        assert!(client.on_write(2, 3, start + PING_INTERVAL), "it is due with a write");
        assert_eq!(client.ping_at(), None, "nothing was written after it");
        assert!(!client.on_write(3, 3, start + PING_INTERVAL * 2), "it was not answered");
        assert_eq!(
            (client.ping_at(), client.unanswered_since()),
            (None, Some(start + PING_INTERVAL))
        );
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
        assert_eq!(client.ping_at(), Some(start + 330 * MS));
        client.on_write(3, 3, start + 999 * MS);
        assert_eq!(client.ping_at(), Some(start + 1_000 * MS), "at most a second after the last");
        client.on_ping(4, 1, start + 1_000 * MS);
        client.on_pong();
        assert!(!client.on_write(4, 1, start + 3_000 * MS), "the write of the ping itself");
        assert_eq!(client.ping_at(), None);
        client.on_ping(5, 2, start + 3_000 * MS);
        assert!(!client.on_write(5, 3, start + 3_001 * MS), "more than the ping");
        client.on_pong();
        assert_eq!(client.ping_at(), Some(start + 3_250 * MS));
    }

    #[test]
    fn a_connection_claims_once() {
        let now = Instant::now();
        let mut client = Resumable::new(ResumeToken::parse("0123456789abcdef").unwrap(), now);
        assert!(client.is_unclaimed() && !client.is_waiting());
        assert!(!client.on_write(1, 3, now + PING_INTERVAL), "the page may give this attempt up");
        assert_eq!(client.ping_at(), None);
        client.wait("first");
        assert!(!client.is_unclaimed() && client.is_waiting() && !client.is_claimed());
        assert_eq!(client.resume(None, now).as_deref(), Some("first"));
        assert!(!client.is_unclaimed() && !client.is_waiting() && client.is_claimed());
        assert_eq!(client.token().as_str(), "0123456789abcdef");
    }
}
