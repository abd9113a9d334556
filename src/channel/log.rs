//! The latest events of one channel, in order, for clients that return and for new subscribers.

use crate::protocol::{Frame, SocketId};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// A place in the log of a channel: after the event with this sequence.
///
/// Sequences ascend within an epoch. A log that was lost begins again in another epoch, in which the
/// positions of the previous one mean nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// The epoch of the log.
    pub epoch: Arc<str>,
    /// The sequence of the latest event before the position; 0 before the first event.
    pub sequence: u64,
}

/// What a log keeps at most. It drops the oldest events first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogLimits {
    /// Number of events.
    pub events: usize,
    /// Bytes of the events, with [`LOG_OVERHEAD_BYTES`] for each.
    pub bytes: usize,
    /// Age of the oldest event.
    pub age: Duration,
}

/// The bytes that an event of a log counts in addition to its frame.
pub const LOG_OVERHEAD_BYTES: usize = 64;

/// An event of a log.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// The event's sequence, from 1.
    pub sequence: u64,
    /// When it was published.
    pub published_at: Instant,
    /// The event as its subscribers received it.
    pub frame: Frame,
    /// The connection that did not receive it.
    pub except: Option<SocketId>,
}

impl LoggedEvent {
    fn replayed(&self) -> ReplayedEvent {
        ReplayedEvent { sequence: self.sequence, frame: self.frame.clone() }
    }
}

/// How much is replayed at most, for one channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplayLimits {
    /// Number of events.
    pub events: usize,
    /// Bytes of their frames.
    pub bytes: usize,
}

/// Why the events after a position are not replayed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Gap {
    /// The log of the position was lost: a restart, or another Redis.
    Epoch,
    /// The log does not reach back to the position.
    Trimmed,
    /// There are more events or bytes than are replayed.
    TooMuch,
    /// No log was kept when the client was lost, or none is kept now.
    NotLogged,
    /// What the connection had left was lost with its node: any channel may have been one of its own.
    SessionLost,
}

impl Gap {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::Epoch, Self::Trimmed, Self::TooMuch, Self::NotLogged, Self::SessionLost];

    /// The value of the label in the metrics and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "log_lost",
            Self::Trimmed => "log_trimmed",
            Self::TooMuch => "too_much",
            Self::NotLogged => "not_logged",
            Self::SessionLost => "session_lost",
        }
    }
}

/// An event of a replay.
#[derive(Clone, Debug)]
pub struct ReplayedEvent {
    /// The event's sequence in the log. Sequences that are missing between two events are of events that exclude the receiver, or
    /// that are not replayed.
    pub sequence: u64,
    /// The event as subscribers receive it.
    pub frame: Frame,
}

/// Where a subscription begins in the log of its channel.
#[derive(Clone, Debug)]
pub struct LogStart {
    /// The position after the latest event before the subscription.
    pub end: Position,
    /// The events that the subscriber has missed, or why they are not replayed.
    pub replay: Result<Vec<ReplayedEvent>, Gap>,
    /// Whether the subscription counts as a reader of the log until it releases it.
    pub is_reader: bool,
}

/// The latest events of one channel.
#[derive(Debug)]
pub struct ChannelLog {
    epoch: Arc<str>,
    /// The sequence of the latest event.
    sequence: u64,
    /// The log has all events with later sequences.
    complete_after: u64,
    events: VecDeque<LoggedEvent>,
    bytes: usize,
}

impl ChannelLog {
    /// An empty log, whose `epoch` no log of the channel had before.
    #[must_use]
    pub fn new(epoch: Arc<str>) -> Self {
        Self { epoch, sequence: 0, complete_after: 0, events: VecDeque::new(), bytes: 0 }
    }

    /// A part of a log that is kept elsewhere, which ends at `end`: `latest` are its entries from the latest one, with
    /// their sequences and events. Entries of what is not replayed have none. Entries before a missing sequence are left out.
    #[must_use]
    pub fn from_latest(
        end: Position,
        latest: impl IntoIterator<Item = (u64, Option<LoggedEvent>)>,
    ) -> Self {
        let mut log = Self { sequence: end.sequence, ..Self::new(end.epoch) };
        log.complete_after = end.sequence;
        for (sequence, event) in latest {
            if sequence == 0 || sequence != log.complete_after {
                break;
            }
            log.complete_after -= 1;
            if let Some(event) = event {
                log.bytes += event.frame.bytes().len() + LOG_OVERHEAD_BYTES;
                log.events.push_front(event);
            }
        }
        log
    }

    /// Adds an entry that was published later, as in [`Self::from_latest`]. If it does not follow the latest one, nothing before
    /// it is kept.
    pub fn add_latest(&mut self, sequence: u64, event: Option<LoggedEvent>) {
        if sequence <= self.sequence {
            return;
        }
        if self.sequence + 1 < sequence {
            self.complete_after = sequence - 1;
            (self.events, self.bytes) = (VecDeque::new(), 0);
        }
        self.sequence = sequence;
        if let Some(event) = event {
            self.bytes += event.frame.bytes().len() + LOG_OVERHEAD_BYTES;
            self.events.push_back(event);
        }
    }

    /// The position after the latest event.
    #[must_use]
    pub fn end(&self) -> Position {
        Position { epoch: Arc::clone(&self.epoch), sequence: self.sequence }
    }

    /// The bytes that the log counts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest event was published.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.events.front().map(|event| event.published_at)
    }

    /// The events, from the oldest to the latest.
    #[must_use]
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &LoggedEvent> {
        self.events.iter()
    }

    /// Adds an event, and returns its sequence.
    pub fn append(&mut self, frame: Frame, except: Option<SocketId>, now: Instant) -> u64 {
        self.sequence += 1;
        self.bytes += frame.bytes().len() + LOG_OVERHEAD_BYTES;
        let sequence = self.sequence;
        self.events.push_back(LoggedEvent { sequence, published_at: now, frame, except });
        sequence
    }

    /// Drops what exceeds the limits. Returns how many events the limits of events and bytes dropped.
    pub fn trim(&mut self, limits: LogLimits, now: Instant) -> usize {
        let mut dropped = 0;
        while let Some(oldest) = self.events.front() {
            let is_over = limits.events < self.events.len() || limits.bytes < self.bytes;
            if !is_over && now.saturating_duration_since(oldest.published_at) <= limits.age {
                break;
            }
            dropped += usize::from(is_over);
            self.drop_oldest();
        }
        dropped
    }

    /// Drops the oldest event. Returns the bytes that it counted; 0 if there is none.
    pub fn drop_oldest(&mut self) -> usize {
        let Some(oldest) = self.events.pop_front() else { return 0 };
        let bytes = oldest.frame.bytes().len() + LOG_OVERHEAD_BYTES;
        self.bytes -= bytes;
        self.complete_after = oldest.sequence;
        if self.events.len() * 4 < self.events.capacity() {
            self.events.shrink_to(self.events.len() * 2);
        }
        bytes
    }

    /// The latest events within the limits, and of those the latest that have `max_bytes` together.
    #[must_use]
    pub fn latest(&self, limits: LogLimits, max_bytes: usize, now: Instant) -> Vec<ReplayedEvent> {
        let mut bytes = 0;
        let kept = self.events.iter().rev().take(limits.events).take_while(|event| {
            bytes += event.frame.bytes().len();
            bytes <= max_bytes && now.saturating_duration_since(event.published_at) <= limits.age
        });
        let mut events: Vec<ReplayedEvent> = kept.map(LoggedEvent::replayed).collect();
        events.reverse();
        events
    }

    /// All events after `position` that `receiver` is to receive, or none.
    ///
    /// # Errors
    ///
    /// Why they can't be replayed.
    pub fn after(
        &self,
        position: &Position,
        receiver: SocketId,
        limits: ReplayLimits,
    ) -> Result<Vec<ReplayedEvent>, Gap> {
        if position.epoch != self.epoch || self.sequence < position.sequence {
            return Err(Gap::Epoch);
        }
        if position.sequence < self.complete_after {
            return Err(Gap::Trimmed);
        }
        let first = self.events.partition_point(|event| event.sequence <= position.sequence);
        let events = self.events.range(first..);
        let included = events.filter(|event| event.except != Some(receiver));
        let replay: Vec<ReplayedEvent> = included.map(LoggedEvent::replayed).collect();
        let bytes: usize = replay.iter().map(|event| event.frame.bytes().len()).sum();
        if limits.events < replay.len() || limits.bytes < bytes {
            return Err(Gap::TooMuch);
        }
        Ok(replay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::FrameKind;

    const NO_LIMIT: ReplayLimits = ReplayLimits { events: usize::MAX, bytes: usize::MAX };
    const KEEP_ALL: LogLimits =
        LogLimits { events: usize::MAX, bytes: usize::MAX, age: Duration::MAX };

    fn socket(bits: u64) -> SocketId {
        SocketId::from_random(1 << 32 | bits)
    }

    fn at(sequence: u64) -> Position {
        Position { epoch: "a".into(), sequence }
    }

    /// A log of events named by their sequence, the even ones not for socket 2.
    fn log(events: u64, now: Instant) -> ChannelLog {
        let mut log = ChannelLog::new("a".into());
        for number in 1..=events {
            let except = (number % 2 == 0).then(|| socket(2));
            let frame = Frame::text(FrameKind::Event, &number.to_string());
            assert_eq!(log.append(frame, except, now), number);
        }
        log
    }

    fn texts(replay: Result<Vec<ReplayedEvent>, Gap>) -> Result<String, Gap> {
        let text = |event: &ReplayedEvent| {
            let text = event.frame.as_text().unwrap_or_default();
            assert_eq!(text, event.sequence.to_string());
            text.to_owned()
        };
        replay.map(|events| events.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn events_after_a_position_are_replayed_without_those_that_exclude_the_receiver() {
        let log = log(5, Instant::now());
        let after = |sequence, who| texts(log.after(&at(sequence), socket(who), NO_LIMIT));
        assert_eq!(after(0, 1), Ok("1 2 3 4 5".into()));
        assert_eq!(after(3, 1), Ok("4 5".into()));
        assert_eq!(after(2, 2), Ok("3 5".into()));
        assert_eq!(after(5, 1), Ok(String::new()));
        assert_eq!(log.end(), at(5));
    }

    #[test]
    fn positions_of_another_log_are_a_gap() {
        let log = log(5, Instant::now());
        let other = Position { epoch: "b".into(), sequence: 2 };
        assert_eq!(texts(log.after(&other, socket(1), NO_LIMIT)), Err(Gap::Epoch));
        assert_eq!(texts(log.after(&at(6), socket(1), NO_LIMIT)), Err(Gap::Epoch));
    }

    #[test]
    fn a_replay_is_whole_or_a_gap() {
        let log = log(5, Instant::now());
        let after = |events, bytes, who| {
            texts(log.after(&at(1), socket(who), ReplayLimits { events, bytes }))
        };
        // Each frame has a header of two bytes and one letter.
        assert_eq!(after(4, 12, 1), Ok("2 3 4 5".into()));
        assert_eq!(after(3, 12, 1), Err(Gap::TooMuch));
        assert_eq!(after(4, 11, 1), Err(Gap::TooMuch));
        assert_eq!(after(2, 6, 2), Ok("3 5".into()), "only what is received counts");
    }

    #[test]
    fn a_part_of_a_log_ends_before_a_missing_sequence() {
        let event = |sequence: u64| LoggedEvent {
            sequence,
            published_at: Instant::now(),
            frame: Frame::text(FrameKind::Event, &sequence.to_string()),
            except: None,
        };
        let whole = |sequence| (sequence, Some(event(sequence)));
        let part = |latest| ChannelLog::from_latest(at(9), latest);
        let after =
            |log: &ChannelLog, sequence| texts(log.after(&at(sequence), socket(1), NO_LIMIT));
        let log = part(vec![whole(9), (8, None), whole(7), whole(5), whole(4)]);
        assert_eq!(after(&log, 6), Ok("7 9".into()), "8 is not replayed");
        assert_eq!(after(&log, 7), Ok("9".into()));
        assert_eq!(after(&log, 9), Ok(String::new()));
        assert_eq!(after(&log, 5), Err(Gap::Trimmed), "6 is missing");
        assert_eq!(after(&log, 10), Err(Gap::Epoch));
        assert_eq!((log.end(), log.bytes()), (at(9), 2 * (3 + LOG_OVERHEAD_BYTES)));
        for log in [part(Vec::new()), part(vec![whole(8)])] {
            assert_eq!((after(&log, 9), after(&log, 8)), (Ok(String::new()), Err(Gap::Trimmed)));
        }
        let all = ChannelLog::from_latest(at(1), vec![whole(1), whole(0)]);
        assert_eq!(after(&all, 0), Ok("1".into()));
    }

    #[test]
    fn the_latest_events_are_those_within_all_limits() {
        let start = Instant::now();
        let mut log = log(2, start);
        let later = start + Duration::from_secs(2);
        for number in 3..=5 {
            log.append(Frame::text(FrameKind::Event, &number.to_string()), None, later);
        }
        let latest = |limits, bytes| texts(Ok(log.latest(limits, bytes, later)));
        assert_eq!(latest(KEEP_ALL, usize::MAX), Ok("1 2 3 4 5".into()));
        assert_eq!(latest(LogLimits { events: 4, ..KEEP_ALL }, usize::MAX), Ok("2 3 4 5".into()));
        assert_eq!(latest(KEEP_ALL, 4 * 3), Ok("2 3 4 5".into()));
        assert_eq!(latest(KEEP_ALL, 4 * 3 - 1), Ok("3 4 5".into()));
        let aged = LogLimits { age: Duration::from_secs(1), ..KEEP_ALL };
        assert_eq!(latest(aged, usize::MAX), Ok("3 4 5".into()));
        assert_eq!(latest(KEEP_ALL, 2), Ok(String::new()));
    }

    #[test]
    fn a_trimmed_log_has_a_gap_before_its_oldest_event_only() {
        let start = Instant::now();
        let mut log = log(5, start);
        assert_eq!(log.trim(KEEP_ALL, start), 0);
        assert_eq!(log.trim(LogLimits { events: 4, ..KEEP_ALL }, start), 1);
        let after =
            |log: &ChannelLog, sequence| texts(log.after(&at(sequence), socket(1), NO_LIMIT));
        assert_eq!(after(&log, 0), Err(Gap::Trimmed));
        assert_eq!(after(&log, 1), Ok("2 3 4 5".into()));
        assert_eq!(log.bytes(), 4 * (3 + LOG_OVERHEAD_BYTES));
        assert_eq!(log.trim(LogLimits { bytes: 3 * 67, ..KEEP_ALL }, start), 1);
        assert_eq!(after(&log, 1), Err(Gap::Trimmed));
        let aged = LogLimits { age: Duration::from_secs(2), ..KEEP_ALL };
        assert_eq!(log.trim(aged, start + Duration::from_secs(2)), 0);
        assert_eq!(log.oldest(), Some(start));
        assert_eq!(log.trim(aged, start + Duration::from_millis(2_001)), 0, "age is no overrun");
        assert_eq!((log.oldest(), log.bytes(), log.drop_oldest()), (None, 0, 0));
        assert_eq!(after(&log, 4), Err(Gap::Trimmed));
        assert_eq!(after(&log, 5), Ok(String::new()));
    }
}
