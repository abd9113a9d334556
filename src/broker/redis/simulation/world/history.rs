//! The observations of clients and publishers, and the checks of the guarantees.

use super::readers::Reader;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tokio::time::Instant;

/// A connection of a client that subscribes to one channel.
#[derive(Clone, Debug)]
pub(super) struct ClientSession {
    pub(super) slot: usize,
    pub(super) channel: usize,
    pub(super) user: Option<String>,
    pub(super) received: Vec<(Instant, ReceivedMessage)>,
    pub(super) acknowledged: Option<Instant>,
    pub(super) ended: Option<Instant>,
    /// The client, if it resumes.
    pub(super) reader: Option<usize>,
}

/// Something that a client received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ReceivedMessage {
    Acknowledged(BTreeSet<String>),
    Event(u64),
    Added(String),
    Removed(String),
    Count(usize),
    Closed,
}

/// A publish.
#[derive(Clone, Debug)]
pub(super) struct PublishedEvent {
    pub(super) channel: usize,
    /// The slots of the nodes that it was published through: several only with a key.
    pub(super) slots: Vec<usize>,
    pub(super) has_key: bool,
    /// The time of the first attempt.
    pub(super) begun: Instant,
    /// The time and the outcome of the reply; of several, the first one that says most.
    pub(super) replied: Option<(Instant, PublishOutcome)>,
}

/// The outcome of a publish.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum PublishOutcome {
    Rejected,
    Unknown,
    Accepted,
}

/// All observations of a run.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) sessions: Vec<ClientSession>,
    pub(super) readers: Vec<Reader>,
    pub(super) events: Arc<Mutex<Vec<PublishedEvent>>>,
    /// For each slot, the periods in which a fault affected its node or its network.
    pub(super) disturbed: BTreeMap<usize, Vec<(Instant, Instant)>>,
    /// Whether Redis has lost data.
    pub(super) has_lost_data: bool,
    /// Whether Redis may have dropped the records of keys without losing other data.
    pub(super) has_dropped_records: bool,
    /// When faults have occurred that permit gaps, and whether they do so only if a node is missing.
    pub(super) gap_causes: Vec<(Instant, bool)>,
    /// Whether a node has been away for longer than its lease, or has ended.
    pub(super) has_lost_nodes: bool,
}

/// The description of a violated guarantee.
pub(super) type Violation = String;

/// How long before an observation its cause may lie: a lease, and some time for the cleanup.
const CAUSE_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

impl PublishedEvent {
    /// Records the reply to an attempt.
    pub(super) fn reply(&mut self, outcome: PublishOutcome) {
        if self.replied.is_none_or(|(_, earlier)| earlier < outcome) {
            self.replied = Some((Instant::now(), outcome));
        }
    }
}

impl ClientSession {
    pub(super) fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// The members of the channel, as received by this client.
    pub(super) fn members(&self) -> Result<BTreeSet<String>, Violation> {
        let mut members = BTreeSet::new();
        for (_, received) in &self.received {
            match received {
                ReceivedMessage::Acknowledged(roster) => members.clone_from(roster),
                ReceivedMessage::Added(user) if !members.insert(user.clone()) => {
                    return Err(format!("{user} was added twice"));
                }
                ReceivedMessage::Removed(user) if !members.remove(user) => {
                    return Err(format!("{user} was removed but is not a member"));
                }
                ReceivedMessage::Added(_)
                | ReceivedMessage::Removed(_)
                | ReceivedMessage::Event(_)
                | ReceivedMessage::Count(_)
                | ReceivedMessage::Closed => {}
            }
        }
        Ok(members)
    }

    /// The last count that the client received.
    pub(super) fn count(&self) -> Option<usize> {
        self.received.iter().rev().find_map(|(_, received)| match received {
            ReceivedMessage::Count(count) => Some(*count),
            ReceivedMessage::Acknowledged(_)
            | ReceivedMessage::Event(_)
            | ReceivedMessage::Added(_)
            | ReceivedMessage::Removed(_)
            | ReceivedMessage::Closed => None,
        })
    }

    fn events(&self) -> impl Iterator<Item = u64> {
        self.received.iter().filter_map(|(_, received)| match received {
            ReceivedMessage::Event(id) => Some(*id),
            ReceivedMessage::Acknowledged(_)
            | ReceivedMessage::Count(_)
            | ReceivedMessage::Added(_)
            | ReceivedMessage::Removed(_)
            | ReceivedMessage::Closed => None,
        })
    }
}

impl History {
    /// Checks the guarantees that hold at any time.
    pub(super) fn check(&self, end: Instant) -> Result<(), Violation> {
        let events = self.events.lock().expect("one thread").clone();
        for (number, session) in self.sessions.iter().enumerate() {
            let named = |text: String| format!("session {number}: {text}");
            session.members().map_err(named)?;
            self.no_removal_of_a_staying_user(session).map_err(named)?;
            self.each_event_once(session, &events).map_err(named)?;
            self.no_gap(session, &events, end).map_err(named)?;
        }
        self.check_readers(&events, end)?;
        self.one_order(&events)
    }

    /// Whether the event may have been published several times: with a key whose record Redis has lost.
    pub(super) fn may_be_repeated(&self, event: &PublishedEvent) -> bool {
        (self.has_lost_data || self.has_dropped_records) && 1 < event.slots.len()
    }

    fn each_event_once(
        &self,
        session: &ClientSession,
        events: &[PublishedEvent],
    ) -> Result<(), Violation> {
        let mut received = BTreeSet::new();
        for id in session.events() {
            let event = &events[usize::try_from(id).expect("it fits")];
            if !received.insert(id) && !self.may_be_repeated(event) {
                return Err(format!("event {id} was received twice"));
            }
            if event.channel != session.channel {
                return Err(format!("event {id} is for another channel"));
            }
            if matches!(event.replied, Some((_, PublishOutcome::Rejected))) {
                return Err(format!("event {id} was rejected but received"));
            }
        }
        Ok(())
    }

    /// A client that subscribed before an accepted event was published, and that received a later event or stayed
    /// connected to the end, must have received the event.
    fn no_gap(
        &self,
        session: &ClientSession,
        events: &[PublishedEvent],
        end: Instant,
    ) -> Result<(), Violation> {
        let Some(acknowledged) = session.acknowledged else { return Ok(()) };
        let received: BTreeSet<u64> = session.events().collect();
        let last =
            received.iter().map(|id| events[usize::try_from(*id).expect("it fits")].begun).max();
        let until = if session.is_open() { Some(end) } else { last };
        let Some(until) = until else { return Ok(()) };
        for (id, event) in events.iter().enumerate() {
            let Some((replied, PublishOutcome::Accepted)) = event.replied else { continue };
            let is_due =
                event.channel == session.channel && acknowledged < event.begun && replied < until;
            let id = u64::try_from(id).expect("it fits");
            if is_due && !received.contains(&id) && self.was_received_or_loss_is_detected(id, event)
            {
                return Err(format!("event {id} of channel {} is missing", event.channel));
            }
        }
        Ok(())
    }

    /// The loss of an event that no node received, and whose publishing node has died since, is not detected.
    pub(super) fn was_received_or_loss_is_detected(&self, id: u64, event: &PublishedEvent) -> bool {
        let was_heard =
            self.sessions.iter().any(|session| session.events().any(|received| received == id));
        let is_disturbed = |slot: &usize| self.is_disturbed(*slot, event.begun);
        was_heard || !(self.has_lost_data && event.slots.iter().any(is_disturbed))
    }

    fn is_disturbed(&self, slot: usize, at: Instant) -> bool {
        self.disturbed
            .get(&slot)
            .into_iter()
            .flatten()
            .any(|(from, until)| *from <= at + CAUSE_WITHIN && at <= *until + CAUSE_WITHIN)
    }

    /// No client receives the removal of a user that stayed, on a node without a fault.
    fn no_removal_of_a_staying_user(&self, session: &ClientSession) -> Result<(), Violation> {
        let margin = std::time::Duration::from_secs(3);
        for (at, received) in &session.received {
            let ReceivedMessage::Removed(user) = received else { continue };
            let stays = self.sessions.iter().find(|other| {
                other.channel == session.channel
                    && other.user.as_ref() == Some(user)
                    && other.acknowledged.is_some_and(|since| since + margin < *at)
                    && other.ended.is_none_or(|ended| *at + margin < ended)
                    && !self.is_disturbed(other.slot, *at)
            });
            if stays.is_some() && !self.is_disturbed(session.slot, *at) {
                return Err(format!("{user} was removed at {at:?} but is still a member"));
            }
        }
        Ok(())
    }

    /// All clients received the events of a channel in one order.
    fn one_order(&self, events: &[PublishedEvent]) -> Result<(), Violation> {
        let mut later: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut earlier: BTreeMap<u64, usize> = BTreeMap::new();
        let is_single =
            |id: &u64| !self.may_be_repeated(&events[usize::try_from(*id).expect("it fits")]);
        let of_sessions = self.sessions.iter().map(|session| session.events().collect());
        let of_readers = self.readers.iter().map(|reader| reader.events().collect());
        for received in of_sessions.chain(of_readers) {
            let received: Vec<u64> = received;
            let ids: Vec<u64> = received.into_iter().filter(is_single).collect();
            for id in &ids {
                earlier.entry(*id).or_default();
            }
            for pair in ids.windows(2) {
                later.entry(pair[0]).or_default().push(pair[1]);
                *earlier.entry(pair[1]).or_default() += 1;
            }
        }
        let mut free: Vec<u64> =
            earlier.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
        let mut placed = 0;
        while let Some(id) = free.pop() {
            placed += 1;
            for next in later.get(&id).into_iter().flatten() {
                let count = earlier.get_mut(next).expect("it was counted");
                *count -= 1;
                if *count == 0 {
                    free.push(*next);
                }
            }
        }
        if placed == earlier.len() {
            Ok(())
        } else {
            Err("the events have no common order".to_owned())
        }
    }
}
