//! The side of a resumable connection that decides: what its client has certainly received, and what is left
//! of the connection before it.
//!
//! A client proves that it has handled everything before a `pusher:ping` by answering it. A WebSocket pong
//! proves nothing: the browser answers it for a page that is suspended, and before the page has read.

use super::{
    acknowledgements::{Acknowledgements, AfterWrite},
    counted::{CountedPositions, RESUBSCRIBE_TIMEOUT},
};
use crate::{
    channel::{Gap, LogStart, ParkedSession, Position},
    protocol::{ChannelName, ResumeToken},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// The state of a connection whose client has a token.
#[derive(Debug)]
pub struct Resumable {
    token: ResumeToken,
    is_known: bool,
    claim: Claim,
    acknowledgements: Acknowledgements,
    /// The subscriptions; `None` where no log is kept.
    starts: HashMap<ChannelName, Option<LogStarted>>,
    /// What the previous connection has left, and until when its channels may be asked for.
    parked: Option<(ParkedSession, Instant)>,
    /// What the page has told, if it counts its events itself.
    counted: Option<CountedPositions>,
    /// Where the client was in channels that it has asked for, and when it was lost: until the broker has decided, which may take
    /// longer than they may be asked for.
    asked: HashMap<ChannelName, (Option<Position>, Option<Instant>)>,
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
    /// The state of a new connection. If it `is_known` whether the client was connected before, it has the socket id of before.
    #[must_use]
    pub fn new(token: ResumeToken, is_known: bool, now: Instant) -> Self {
        Self {
            token,
            is_known,
            claim: Claim::Open,
            acknowledgements: Acknowledgements::new(now),
            starts: HashMap::new(),
            parked: None,
            counted: None,
            asked: HashMap::new(),
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

    /// The position in the log `of_epoch` of `channel` up to which the page has counted, if it counts and has told it.
    #[must_use]
    pub fn counted_up_to(
        &self,
        channel: &ChannelName,
        of_epoch: &str,
        now: Instant,
    ) -> Option<u64> {
        let counted = self.counted.as_ref()?.get(channel, now)?;
        (*counted.epoch == *of_epoch).then_some(counted.sequence)
    }

    /// The token of the client.
    #[must_use]
    pub fn token(&self) -> &ResumeToken {
        &self.token
    }

    /// Whether it was known at the handshake that the client was connected before, or was not.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_known
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
        if let Some((position, lost_at)) = self.asked.get(channel) {
            return Some((position.as_ref(), *lost_at));
        }
        let parked =
            self.parked.as_ref().filter(|(_, until)| now < *until).map(|(parked, _)| parked);
        let lost_at = parked.and_then(|parked| parked.lost_at);
        let counted = self.counted.as_ref().and_then(|counted| counted.get(channel, now));
        match counted {
            Some(position) => Some((Some(position), lost_at)),
            None => match parked?.positions.get(channel) {
                Some(position) => Some((position.as_ref(), lost_at)),
                // Of a connection that left nothing, any channel may be one of its own.
                None => lost_at.is_none().then_some((None, None)),
            },
        }
    }

    /// Records that the client has asked for a channel, and the broker decides about it later.
    pub fn ask(&mut self, channel: &ChannelName, now: Instant) {
        if let Some((position, lost_at)) = self.parked_position(channel, now) {
            let asked = (position.cloned(), lost_at);
            self.asked.insert(channel.clone(), asked);
        }
    }

    /// The process that has a subscription of the client's previous connection to `channel`, if that is another one.
    #[must_use]
    pub fn left_on(&self, channel: &ChannelName) -> Option<&Arc<str>> {
        let (parked, _) = self.parked.as_ref()?;
        parked.process.as_ref().filter(|_| parked.positions.contains_key(channel))
    }

    /// How many events of `channel` the page has counted behind the position that the previous connection has left.
    #[must_use]
    pub fn counted_ahead(&self, channel: &ChannelName, now: Instant) -> u64 {
        let counted = self.counted.as_ref().and_then(|counted| counted.get(channel, now));
        let parked = self.parked.as_ref().filter(|(_, until)| now < *until);
        let left = parked.and_then(|(parked, _)| parked.positions.get(channel)?.as_ref());
        match (counted, left) {
            (Some(counted), Some(left)) if counted.epoch == left.epoch => {
                counted.sequence.saturating_sub(left.sequence)
            }
            (Some(_) | None, _) => 0,
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
            (None, _) if away == Some(None) => Some(Gap::SessionLost),
            (Some(_), Some(LogStart { replay: Ok(_), .. })) => None,
            (_, Some(LogStart { replay: Err(gap), .. })) => Some(*gap),
            (None, Some(_)) | (_, None) => Some(Gap::NotLogged),
        };
        self.forget(channel);
        let started = log.map(|LogStart { end, replay, .. }| {
            // Without a position, these are the latest events of the channel.
            let first = replay.as_ref().ok().and_then(|replay| replay.first());
            let sequence = first.map_or(end.sequence, |event| event.sequence.saturating_sub(1));
            let first = Position { sequence, ..end.clone() };
            let before = if away.is_some() { position } else { Some(first) };
            LogStarted { counter, before, end: end.clone() }
        });
        self.starts.insert(channel.clone(), started);
        away.zip(gap)
    }

    /// Forgets a channel: its position is neither kept nor replayed from any more. Returns whether the
    /// subscription has read its log.
    pub fn forget(&mut self, channel: &ChannelName) -> bool {
        self.asked.remove(channel);
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
        let parked = self.parked.take().filter(|(_, until)| now < *until);
        let is_over = parked.is_none();
        if let Some((parked, _)) = parked {
            session = parked;
        }
        for (channel, (position, lost_at)) in self.asked.drain() {
            if is_over {
                session.lost_at = lost_at;
            }
            session.positions.insert(channel, position);
        }
        let acknowledged = self.acknowledgements.acknowledged;
        for (channel, start) in self.starts.drain() {
            let position = start.and_then(|LogStarted { counter, before, end }| {
                if acknowledged < counter {
                    return before;
                }
                let logged = sequence_at(&channel, acknowledged).unwrap_or(0);
                let sequence = logged.max(end.sequence);
                if let Some(before) = before.filter(|before| before.epoch == end.epoch) {
                    session.acknowledged += sequence.saturating_sub(before.sequence);
                }
                Some(Position { sequence, ..end })
            });
            session.positions.insert(channel, position);
        }
        session
    }

    /// Records that `frames` are about to be written, after all deliveries up to `counter` were queued.
    #[inline]
    pub fn on_write(&mut self, counter: u64, frames: usize, now: Instant) -> AfterWrite {
        // A page answers each attempt to connect, also one that it is about to give up.
        if !self.is_claimed() {
            return AfterWrite::Nothing;
        }
        self.acknowledgements.on_write(counter, frames, now)
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

    /// Whether the client should confirm what was written before the connection is closed.
    #[must_use]
    pub fn should_confirm(&self) -> bool {
        self.is_claimed() && self.acknowledgements.is_behind()
    }

    /// Records that nothing more is delivered after `counter`: the connection is closed once a ping has confirmed that.
    pub fn finish(&mut self, counter: u64, now: Instant) {
        self.acknowledgements.finish(counter, now);
    }

    /// When the connection is to be closed that delivers nothing more.
    pub(super) fn finished_at(&self) -> Option<Instant> {
        self.acknowledgements.finished_at()
    }

    /// When the oldest unanswered ping was queued.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        self.acknowledgements.pings.front().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests;
