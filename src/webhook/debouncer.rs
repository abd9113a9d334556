//! Debounces pairs of events, such as occupied and vacated, so that the reported events alternate.

use crate::hub::HubEvent;
use crate::protocol::ChannelName;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// The subject of a pair of events.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum PairSubject {
    Channel(ChannelName),
    Member(ChannelName, Arc<str>),
    User(Arc<str>),
}

/// The state of a subject that was reported as present. Absent subjects have no entry.
#[derive(Clone, Copy, Debug)]
enum Presence {
    Here,
    /// It has left, which is not reported yet, since it may return. The number orders the
    /// departures.
    Leaving(u64),
}

/// The present subjects of one app.
///
/// A subject that leaves and returns within [`Debouncer::DELAY`] is not reported. Its entry is
/// removed when its departure is reported.
#[derive(Debug, Default)]
pub(super) struct Debouncer {
    here: HashMap<PairSubject, Presence>,
    /// Departures in order, each with the time at which it is reported. The delay is the same for
    /// all, so this is also the order of the deadlines.
    leaving: BTreeMap<u64, (Instant, PairSubject)>,
    departures: u64,
}

/// The maximum number of subjects is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SubjectsFull;

impl Debouncer {
    /// The delay of a departure. Pusher promises at most 3 s, which includes batching and the
    /// request.
    pub(super) const DELAY: Duration = Duration::from_millis(2_900);
    /// Maximum number of subjects of an app. Neither arrival nor departure of a further one is
    /// reported.
    pub(super) const SUBJECTS_MAX: usize = 1_000_000;
    /// Minimum capacity of a table that is worth shrinking.
    const SHRINK_FROM: usize = 4_096;

    /// Records an arrival. Returns whether it must be reported.
    pub(super) fn arrives(&mut self, subject: PairSubject) -> Result<bool, SubjectsFull> {
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

    /// Records a departure. If the subject does not return, [`Debouncer::due`] reports it at the
    /// deadline.
    pub(super) fn departs(&mut self, subject: PairSubject, now: Instant) {
        if let Some(presence @ Presence::Here) = self.here.get_mut(&subject) {
            *presence = Presence::Leaving(self.departures);
            self.leaving.insert(self.departures, (now + Self::DELAY, subject));
            self.departures += 1;
        }
    }

    /// Removes `subject`, whose departure the caller has already delayed; [`Debouncer::departs`] is
    /// never called for it. Returns whether it was present.
    pub(super) fn is_gone(&mut self, subject: &PairSubject) -> bool {
        let was_here = self.here.remove(subject).is_some();
        self.shrink();
        was_here
    }

    /// The deadline of the next departure.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.leaving.first_key_value().map(|(_, (deadline, _))| *deadline)
    }

    /// Takes the next departure that is due at `now`; without a time, the next in any case.
    pub(super) fn due(&mut self, now: Option<Instant>) -> Option<HubEvent> {
        let (_, (deadline, _)) = self.leaving.first_key_value()?;
        if now.is_some_and(|now| now < *deadline) {
            return None;
        }
        let (_, (_, subject)) = self.leaving.pop_first()?;
        self.here.remove(&subject);
        self.shrink();
        Some(match subject {
            PairSubject::Channel(channel) => HubEvent::Vacated { channel },
            PairSubject::Member(channel, user_id) => HubEvent::MemberRemoved { channel, user_id },
            PairSubject::User(user_id) => HubEvent::UserOffline { user_id },
        })
    }

    /// Shrinks the table when most of it is unused.
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

    fn subject(name: &str) -> PairSubject {
        PairSubject::Channel(channel(name))
    }

    #[test]
    fn a_departure_is_reported_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut debouncer = Debouncer::default();
        assert_eq!(debouncer.arrives(subject("t")), Ok(true));
        assert_eq!(debouncer.deadline(), None);
        debouncer.departs(subject("t"), start);
        let deadline = start + Debouncer::DELAY;
        assert_eq!(debouncer.deadline(), Some(deadline));
        assert_eq!(debouncer.due(Some(deadline - Duration::from_millis(1))), None);
        let vacated = HubEvent::Vacated { channel: channel("t") };
        assert_eq!(debouncer.due(Some(deadline)), Some(vacated));
        assert_eq!(debouncer.arrives(subject("t")), Ok(true));
    }

    #[test]
    fn a_departure_is_delayed_for_almost_three_seconds_since_the_first() {
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut debouncer = Debouncer::default();
        assert_eq!(debouncer.arrives(subject("t")), Ok(true));
        debouncer.departs(subject("unknown"), start);
        debouncer.departs(subject("t"), start);
        debouncer.departs(subject("t"), after(1_000));
        assert_eq!(debouncer.due(Some(after(2_800))), None);
        assert!(debouncer.due(Some(after(3_000))).is_some());
        assert_eq!(debouncer.due(Some(after(60_000))), None, "once");
    }

    #[test]
    fn a_return_within_the_delay_is_not_reported() {
        let start = Instant::now();
        let mut debouncer = Debouncer::default();
        assert_eq!(debouncer.arrives(subject("t")), Ok(true));
        for _reload in 0..3 {
            debouncer.departs(subject("t"), start);
            assert_eq!(debouncer.arrives(subject("t")), Ok(false));
        }
        assert_eq!(debouncer.due(Some(start + Debouncer::DELAY)), None);
        assert_eq!(debouncer.deadline(), None);
    }

    #[test]
    fn beyond_the_limit_neither_arrivals_nor_departures_are_reported() {
        let start = Instant::now();
        let mut debouncer = Debouncer::default();
        let user = |number: usize| PairSubject::User(number.to_string().into());
        for number in 0..Debouncer::SUBJECTS_MAX {
            assert_eq!(debouncer.arrives(user(number)), Ok(true));
        }
        assert_eq!(debouncer.arrives(subject("t")), Err(SubjectsFull));
        debouncer.departs(subject("t"), start);
        assert_eq!(debouncer.deadline(), None);
        assert_eq!(debouncer.arrives(user(0)), Ok(false), "those who are here are still known");
        assert!(debouncer.is_gone(&user(0)));
        assert_eq!(debouncer.arrives(subject("t")), Ok(true));
    }

    #[test]
    fn memory_is_released() {
        let start = Instant::now();
        let mut debouncer = Debouncer::default();
        for number in 0..50_000 {
            debouncer.arrives(subject(&format!("c{number}"))).unwrap();
            debouncer.departs(subject(&format!("c{number}")), start);
        }
        assert!(50_000 <= debouncer.capacity());
        while debouncer.due(Some(start + Debouncer::DELAY)).is_some() {}
        assert!(debouncer.capacity() <= Debouncer::SHRINK_FROM, "{}", debouncer.capacity());
    }
}
