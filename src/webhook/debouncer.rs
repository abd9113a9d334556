//! Who came and went, so that what is told alternates: came, went, came, went, whatever is heard.

use crate::hub::HubEvent;
use crate::protocol::ChannelName;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// What comes and goes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Subject {
    Channel(ChannelName),
    Member(ChannelName, Arc<str>),
    User(Arc<str>),
}

/// A subject that was told to have come. One that is not here is away.
#[derive(Clone, Copy, Debug)]
enum Presence {
    Here,
    /// It has gone, which was not told yet: it may come back. The number orders the departures.
    Leaving(u64),
}

/// The subjects of one app that are here.
///
/// A subject that leaves and comes back within [`Debouncer::DELAY`] makes no noise. The memory of
/// a subject is given back when its departure is told.
#[derive(Debug, Default)]
pub(super) struct Debouncer {
    here: HashMap<Subject, Presence>,
    /// Departures in their order, with the time at which each is told. The delay is the same for
    /// all, so this is the order of the deadlines as well.
    leaving: BTreeMap<u64, (Instant, Subject)>,
    departures: u64,
}

/// There are too many subjects already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SubjectsFull;

impl Debouncer {
    /// How long a departure is kept back. Pusher promises at most 3 s, of which batching and the
    /// request itself need a little.
    pub(super) const DELAY: Duration = Duration::from_millis(2_900);
    /// The most subjects of an app that are remembered. A further one is not told at all, neither
    /// its coming nor its going.
    pub(super) const SUBJECTS_MAX: usize = 1_000_000;
    /// A table for fewer subjects than this is not worth shrinking.
    const SHRINK_FROM: usize = 4_096;

    /// `subject` has come. Says whether that is news.
    pub(super) fn comes(&mut self, subject: Subject) -> Result<bool, SubjectsFull> {
        let is_full = Self::SUBJECTS_MAX <= self.here.len();
        match self.here.get_mut(&subject) {
            Some(Presence::Here) => Ok(false),
            Some(presence) => {
                if let Presence::Leaving(departure) = *presence {
                    self.leaving.remove(&departure);
                }
                *presence = Presence::Here;
                Ok(false)
            }
            None if is_full => Err(SubjectsFull),
            None => {
                self.here.insert(subject, Presence::Here);
                Ok(true)
            }
        }
    }

    /// `subject` has gone. If it is still away at the deadline, [`Debouncer::due`] says so.
    pub(super) fn goes(&mut self, subject: Subject, now: Instant) {
        if let Some(presence @ Presence::Here) = self.here.get_mut(&subject) {
            *presence = Presence::Leaving(self.departures);
            self.leaving.insert(self.departures, (now + Self::DELAY, subject));
            self.departures += 1;
        }
    }

    /// Removes `subject`, whose departure the caller has already delayed; [`Debouncer::goes`] is never
    /// called for it. Returns whether it was present.
    pub(super) fn is_gone(&mut self, subject: &Subject) -> bool {
        let was_here = self.here.remove(subject).is_some();
        self.shrink();
        was_here
    }

    /// When the next departure is to be told.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.leaving.first_key_value().map(|(_, (deadline, _))| *deadline)
    }

    /// Takes the next departure that is to be told by `now`; without a time, the next in any case.
    pub(super) fn due(&mut self, now: Option<Instant>) -> Option<HubEvent> {
        let (_, (deadline, _)) = self.leaving.first_key_value()?;
        if now.is_some_and(|now| now < *deadline) {
            return None;
        }
        let (_, (_, subject)) = self.leaving.pop_first()?;
        self.here.remove(&subject);
        self.shrink();
        Some(match subject {
            Subject::Channel(channel) => HubEvent::Vacated { channel },
            Subject::Member(channel, user_id) => HubEvent::MemberRemoved { channel, user_id },
            Subject::User(user_id) => HubEvent::UserOffline { user_id },
        })
    }

    /// Gives memory back when most of it is unused.
    fn shrink(&mut self) {
        if Self::SHRINK_FROM < self.here.capacity() && self.here.len() < self.here.capacity() / 8 {
            self.here.shrink_to(self.here.len() * 2);
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.here.capacity().max(self.leaving.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::channel;

    fn subject(name: &str) -> Subject {
        Subject::Channel(channel(name))
    }

    #[test]
    fn a_departure_is_told_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut debouncer = Debouncer::default();
        assert_eq!(debouncer.comes(subject("t")), Ok(true));
        assert_eq!(debouncer.deadline(), None);
        debouncer.goes(subject("t"), start);
        let deadline = start + Debouncer::DELAY;
        assert_eq!(debouncer.deadline(), Some(deadline));
        assert_eq!(debouncer.due(Some(deadline - Duration::from_millis(1))), None);
        let vacated = HubEvent::Vacated { channel: channel("t") };
        assert_eq!(debouncer.due(Some(deadline)), Some(vacated));
        assert_eq!(debouncer.comes(subject("t")), Ok(true));
    }

    #[test]
    fn a_departure_is_kept_back_for_almost_three_seconds_since_the_first() {
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut debouncer = Debouncer::default();
        assert_eq!(debouncer.comes(subject("t")), Ok(true));
        debouncer.goes(subject("unknown"), start);
        debouncer.goes(subject("t"), start);
        debouncer.goes(subject("t"), after(1_000));
        assert_eq!(debouncer.due(Some(after(2_800))), None);
        assert!(debouncer.due(Some(after(3_000))).is_some());
        assert_eq!(debouncer.due(Some(after(60_000))), None, "once");
    }

    #[test]
    fn who_comes_back_in_time_makes_no_noise() {
        let start = Instant::now();
        let mut debouncer = Debouncer::default();
        assert_eq!(debouncer.comes(subject("t")), Ok(true));
        for _reload in 0..3 {
            debouncer.goes(subject("t"), start);
            assert_eq!(debouncer.comes(subject("t")), Ok(false));
        }
        assert_eq!(debouncer.due(Some(start + Debouncer::DELAY)), None);
        assert_eq!(debouncer.deadline(), None);
    }

    #[test]
    fn beyond_the_bound_neither_coming_nor_going_is_told() {
        let start = Instant::now();
        let mut debouncer = Debouncer::default();
        let user = |number: usize| Subject::User(number.to_string().into());
        for number in 0..Debouncer::SUBJECTS_MAX {
            assert_eq!(debouncer.comes(user(number)), Ok(true));
        }
        assert_eq!(debouncer.comes(subject("t")), Err(SubjectsFull));
        debouncer.goes(subject("t"), start);
        assert_eq!(debouncer.deadline(), None);
        assert_eq!(debouncer.comes(user(0)), Ok(false), "those who are here are still known");
        assert!(debouncer.is_gone(&user(0)));
        assert_eq!(debouncer.comes(subject("t")), Ok(true));
    }

    #[test]
    fn memory_returns() {
        let start = Instant::now();
        let mut debouncer = Debouncer::default();
        for number in 0..50_000 {
            debouncer.comes(subject(&format!("c{number}"))).unwrap();
            debouncer.goes(subject(&format!("c{number}")), start);
        }
        assert!(50_000 <= debouncer.capacity());
        while debouncer.due(Some(start + Debouncer::DELAY)).is_some() {}
        assert!(debouncer.capacity() <= Debouncer::SHRINK_FROM, "{}", debouncer.capacity());
    }
}
