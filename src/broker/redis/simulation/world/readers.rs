//! Clients that resume: each remembers its position in the log of one channel, loses its connection, and returns to the same
//! node or to another one.

use super::{
    CHANNELS, CLIENTS, USERS, World, channel_name,
    history::{ClientSession, History, PublishOutcome, PublishedEvent, Violation},
    receiving::read_event,
};
use crate::{
    broker::LogRequest,
    channel::{Gap, LogStart, Position},
};
use rand::RngExt as _;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// The number of clients that resume. They follow the others in the list of clients.
pub(super) const READERS: usize = 6;
/// How long before a gap its cause may lie: a generation that is not open yet has an epoch that is given up if a node does
/// not come back.
const CAUSE_WITHIN: Duration = Duration::from_secs(20);

/// What a client that resumes has received of one channel, on all its connections.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) channel: usize,
    user: Option<String>,
    pub(super) items: Vec<ReaderItem>,
    /// After which event a return begins; `None` before the first subscription was accepted.
    position: Option<Position>,
    /// When the subscription of the position was accepted.
    accepted_at: Option<Instant>,
    /// Where the client may have been when its connection was lost: the number of items, and the position after them.
    marks: Vec<(usize, Position)>,
    /// The connection, and when it is opened again otherwise.
    connection: Option<usize>,
    returns_at: Instant,
}

/// Something that such a client has received.
#[derive(Clone, Debug)]
pub(super) enum ReaderItem {
    /// A subscription was accepted.
    Accepted {
        at: Instant,
        /// When the subscription before was accepted.
        before: Option<Instant>,
        /// Why the client may have missed events.
        gap: Option<Gap>,
    },
    Event(u64),
}

impl Reader {
    fn new(channel: usize, user: Option<String>) -> Self {
        Self {
            channel,
            user,
            items: Vec::new(),
            position: None,
            accepted_at: None,
            marks: Vec::new(),
            connection: None,
            returns_at: Instant::now(),
        }
    }

    /// The subscription has begun in the log.
    pub(super) fn on_started(&mut self, start: &LogStart, now: Instant) {
        self.marks.clear();
        if let Some(position) = &self.position {
            // The client may be lost again before it has received what follows.
            self.marks.push((self.items.len(), position.clone()));
        }
        let before = self.accepted_at.replace(now);
        let gap = start.replay.as_ref().err().copied();
        self.items.push(ReaderItem::Accepted { at: now, before, gap });
        for replayed in start.replay.iter().flatten() {
            let event = replayed.frame.as_text().and_then(read_event);
            self.items.push(ReaderItem::Event(event.expect("an event is replayed")));
            let position = Position { sequence: replayed.sequence, ..start.end.clone() };
            self.marks.push((self.items.len(), position));
        }
        self.position = Some(start.end.clone());
        self.marks.push((self.items.len(), start.end.clone()));
    }

    /// An event was received; `logged` is its sequence in the log.
    pub(super) fn on_event(&mut self, event: u64, logged: u64) {
        self.items.push(ReaderItem::Event(event));
        if let Some(position) = &mut self.position {
            position.sequence = position.sequence.max(logged);
            self.marks.push((self.items.len(), position.clone()));
        }
    }

    /// The connection was lost, and with it what it has carried after one of the last marks, which `draw` chooses.
    fn on_lost(&mut self, draw: usize) {
        self.connection = None;
        let last = self.marks.len();
        let latest = self.marks.drain(..).nth(last.saturating_sub(1 + draw));
        let Some((items, position)) = latest else { return };
        let is_unreceived = self.items[items..].iter().find_map(|item| match item {
            ReaderItem::Accepted { before, .. } => Some(*before),
            ReaderItem::Event(_) => None,
        });
        if let Some(before) = is_unreceived {
            self.accepted_at = before;
        }
        self.items.truncate(items);
        self.position = Some(position);
    }

    pub(super) fn events(&self) -> impl Iterator<Item = u64> {
        self.items.iter().filter_map(|item| match item {
            ReaderItem::Event(event) => Some(*event),
            ReaderItem::Accepted { .. } => None,
        })
    }
}

impl World {
    /// Lets a reader connect, stay, lose its connection or leave for good.
    pub(super) fn step_reader(&mut self, client: usize) {
        let Some(number) = self.readers[client - CLIENTS] else {
            if self.is_calm || self.reader_random.random_range(0..25) == 0 {
                let channel = self.reader_random.random_range(0..CHANNELS.len());
                let user = self.reader_random.random_range(0..USERS);
                let user = CHANNELS[channel].starts_with("presence-").then(|| format!("u{user}"));
                self.readers[client - CLIENTS] = Some(self.history.readers.len());
                self.history.readers.push(Reader::new(channel, user));
            }
            return;
        };
        let reader = &self.history.readers[number];
        match reader.connection {
            Some(session)
                if !self.is_calm && self.reader_random.random_range(0..150) < self.plan.churn =>
            {
                self.lose_reader(session);
                if self.reader_random.random_range(0..8) == 0 {
                    self.readers[client - CLIENTS] = None;
                }
            }
            None if self.is_calm || reader.returns_at <= Instant::now() => {
                self.connect_reader(client, number);
            }
            Some(_) | None => {}
        }
    }

    fn connect_reader(&mut self, client: usize, number: usize) {
        let slot = self.reader_random.random_range(0..self.nodes.len());
        let Some(node) = &mut self.nodes[slot] else { return };
        let reader = &mut self.history.readers[number];
        let session = self.history.sessions.len();
        let log = reader.position.as_ref().map_or(LogRequest::Begin, LogRequest::After);
        let channel = channel_name(CHANNELS[reader.channel]);
        node.connect(session, &channel, reader.user.as_deref(), log);
        reader.connection = Some(session);
        self.clients[client] = Some(session);
        self.history.sessions.push(ClientSession {
            slot,
            channel: reader.channel,
            user: reader.user.clone(),
            received: Vec::new(),
            acknowledged: None,
            ended: None,
            reader: Some(number),
        });
    }

    /// Ends the connection of a reader from the client's side. Its subscription may stay for a while.
    fn lose_reader(&mut self, session: usize) {
        let grace = match self.reader_random.random_range(0..2) {
            0 => Duration::ZERO,
            _ => Duration::from_millis(self.reader_random.random_range(100..4_000)),
        };
        let ended = &mut self.history.sessions[session];
        ended.ended = Some(Instant::now());
        if let Some(node) = &mut self.nodes[ended.slot] {
            node.disconnect(session, grace);
        }
        self.on_session_ended(session);
    }

    /// Forgets the connection of a client, which has ended. A reader remembers its position.
    pub(super) fn on_session_ended(&mut self, session: usize) {
        for client in self.clients.iter_mut().filter(|client| **client == Some(session)) {
            *client = None;
        }
        let Some(number) = self.history.sessions[session].reader else { return };
        let away = self.reader_random.random_range(0..6_000);
        let draw = self.reader_random.random_range(0..4);
        let reader = &mut self.history.readers[number];
        reader.on_lost(draw);
        reader.returns_at = Instant::now() + Duration::from_millis(away);
    }
}

impl History {
    /// Records that positions of before may be a gap; `with_lost_node`: if a node is missing, and not otherwise.
    pub(super) fn allow_gaps(&mut self, with_lost_node: bool) {
        self.gap_causes.push((Instant::now(), with_lost_node));
    }

    /// Checks what the readers have received: all events in their order and once, except where they were notified of a gap, and
    /// gaps only after a fault that permits them.
    pub(super) fn check_readers(
        &self,
        events: &[PublishedEvent],
        end: Instant,
    ) -> Result<(), Violation> {
        for (number, reader) in self.readers.iter().enumerate() {
            let named = |text: String| format!("reader {number}: {text}");
            let mut received = BTreeSet::new();
            for event in reader.events() {
                let published = &events[usize::try_from(event).expect("it fits")];
                if !received.insert(event) && !self.may_be_repeated(published) {
                    return Err(named(format!("event {event} was received twice")));
                }
            }
            self.gaps_have_causes(reader).map_err(named)?;
            self.is_whole(reader, &received, events, end).map_err(named)?;
        }
        Ok(())
    }

    fn gaps_have_causes(&self, reader: &Reader) -> Result<(), Violation> {
        for item in &reader.items {
            let ReaderItem::Accepted { at, before: Some(before), gap: Some(gap) } = item else {
                continue;
            };
            let is_cause = |cause: &Instant| *before <= *cause + CAUSE_WITHIN && cause <= at;
            let causes = self.gap_causes.iter();
            let mut causes =
                causes.filter(|(_, with_lost_node)| !with_lost_node || self.has_lost_nodes);
            if !causes.any(|(cause, _)| is_cause(cause)) {
                return Err(format!("a gap without a cause: {gap:?} at {at:?}"));
            }
        }
        Ok(())
    }

    /// Checks that the reader has received each event that was accepted since it has subscribed first, unless it is in a gap.
    fn is_whole(
        &self,
        reader: &Reader,
        received: &BTreeSet<u64>,
        events: &[PublishedEvent],
        end: Instant,
    ) -> Result<(), Violation> {
        let begun = |id: u64| events[usize::try_from(id).expect("it fits")].begun;
        let Some(ReaderItem::Accepted { at: first, .. }) = reader.items.first() else {
            return Ok(());
        };
        let mut gaps = Vec::new();
        let (mut latest, mut last_accepted) = (*first, *first);
        for item in &reader.items {
            match item {
                ReaderItem::Event(id) => latest = begun(*id),
                ReaderItem::Accepted { at, gap, .. } => {
                    last_accepted = *at;
                    gaps.extend(gap.map(|_| (latest, *at)));
                }
            }
        }
        let session = reader.connection.map(|session| &self.sessions[session]);
        let is_open = session.is_some_and(|session| session.acknowledged.is_some());
        let until = if is_open { end } else { latest };
        for (id, event) in events.iter().enumerate() {
            let Some((replied, PublishOutcome::Accepted)) = event.replied else { continue };
            let is_due = event.channel == reader.channel && *first < event.begun && replied < until;
            let id = u64::try_from(id).expect("it fits");
            let in_gap =
                || gaps.iter().any(|(from, until)| *from <= replied && event.begun <= *until);
            if is_due
                && !received.contains(&id)
                && !in_gap()
                && (event.begun < last_accepted || self.was_received_or_loss_is_detected(id, event))
            {
                return Err(format!("event {id} is in a hole"));
            }
        }
        Ok(())
    }
}
