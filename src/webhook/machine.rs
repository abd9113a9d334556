//! Decides which events are reported, and when. Time is an argument.

use super::debouncer::{Debouncer, PairSubject, SubjectsFull};
use crate::hub::HubEvent;
use crate::protocol::ChannelName;
use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

/// The state machine of one app's events.
///
/// - Paired events alternate, and short absences are not reported: see [`Debouncer`].
/// - A cache miss of a channel is reported once in [`Machine::MISS_INTERVAL`].
/// - Everything else is reported at once.
#[derive(Debug, Default)]
pub(super) struct Machine {
    debouncer: Debouncer,
    missed: HashSet<ChannelName>,
    /// When each entry of `missed` expires, in order.
    misses: VecDeque<(Instant, ChannelName)>,
    lost: u64,
}

impl Machine {
    /// Minimum interval between reported misses of a channel. Pusher sends one when several clients
    /// miss at once, without documenting the interval.
    pub(super) const MISS_INTERVAL: Duration = Duration::from_secs(10);
    /// Maximum number of channels with a recorded miss. Misses of further ones are always reported.
    pub(super) const MISSES_MAX: usize = 100_000;

    /// Handles the next event, and adds the events to report at `now` to `ready`.
    pub(super) fn apply(&mut self, hub_event: HubEvent, now: Instant, ready: &mut Vec<HubEvent>) {
        self.advance(now, ready);
        let is_news = match &hub_event {
            HubEvent::Occupied { channel } => self.arrives(PairSubject::Channel(channel.clone())),
            HubEvent::MemberAdded { channel, user_id } => {
                self.arrives(PairSubject::Member(channel.clone(), user_id.clone()))
            }
            HubEvent::UserOnline { user_id } => self.arrives(PairSubject::User(user_id.clone())),
            HubEvent::Vacated { channel } => {
                self.debouncer.departs(PairSubject::Channel(channel.clone()), now);
                false
            }
            HubEvent::MemberRemoved { channel, user_id } => {
                self.debouncer.departs(PairSubject::Member(channel.clone(), user_id.clone()), now);
                false
            }
            // The hub has delayed it already.
            HubEvent::UserOffline { user_id } => {
                self.debouncer.is_gone(&PairSubject::User(user_id.clone()))
            }
            HubEvent::CacheMiss { channel } => self.misses(channel, now),
            HubEvent::ClientEvent { .. } | HubEvent::SubscriptionCount { .. } => true,
        };
        if is_news {
            ready.push(hub_event);
        }
    }

    /// Adds the events that are due at `now` to `ready`.
    pub(super) fn advance(&mut self, now: Instant, ready: &mut Vec<HubEvent>) {
        while let Some(departure) = self.debouncer.due(Some(now)) {
            ready.push(departure);
        }
        while self.misses.front().is_some_and(|(until, _)| *until <= now) {
            self.misses.pop_front().map(|(_, channel)| self.missed.remove(&channel));
        }
        if self.misses.is_empty() && self.missed.capacity() > 0 {
            (self.missed, self.misses) = Default::default();
        }
    }

    /// Adds all held events to `ready`: at the end, no subject can return.
    pub(super) fn finish(&mut self, ready: &mut Vec<HubEvent>) {
        while let Some(departure) = self.debouncer.due(None) {
            ready.push(departure);
        }
    }

    /// When [`Machine::advance`] must be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let miss = self.misses.front().map(|(until, _)| *until);
        [self.debouncer.deadline(), miss].into_iter().flatten().min()
    }

    /// The number of subjects beyond the limit since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn arrives(&mut self, subject: PairSubject) -> bool {
        self.debouncer.arrives(subject).unwrap_or_else(|SubjectsFull| {
            self.lost += 1;
            false
        })
    }

    /// Whether the miss must be reported.
    fn misses(&mut self, channel: &ChannelName, now: Instant) -> bool {
        if self.missed.contains(channel) {
            return false;
        }
        if self.misses.len() < Self::MISSES_MAX {
            self.missed.insert(channel.clone());
            self.misses.push_back((now + Self::MISS_INTERVAL, channel.clone()));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::WebhookEvent as Kind,
        hub::hub_event_tests::{channel, one_of_each},
    };
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::{collections::HashMap, sync::Arc};

    fn random_hub_event(random: &mut StdRng) -> HubEvent {
        let channel = channel(&format!("presence-{}", random.random_range(0..4)));
        let user_id: Arc<str> = random.random_range(0..3).to_string().into();
        match random.random_range(0..7) {
            0 => HubEvent::Occupied { channel },
            1 => HubEvent::Vacated { channel },
            2 => HubEvent::MemberAdded { channel, user_id },
            3 => HubEvent::MemberRemoved { channel, user_id },
            4 => HubEvent::UserOnline { user_id },
            5 => HubEvent::UserOffline { user_id },
            _ => HubEvent::CacheMiss { channel },
        }
    }

    /// The state of an application that has received the reported events.
    #[derive(Default)]
    struct Consumer(HashMap<(bool, String, String), bool>);

    impl Consumer {
        /// Whether the event is an arrival or a departure; `None` for momentary events.
        fn came(hub_event: &HubEvent) -> Option<bool> {
            match hub_event.kind() {
                Kind::ChannelOccupied | Kind::MemberAdded | Kind::UserOnline => Some(true),
                Kind::ChannelVacated | Kind::MemberRemoved | Kind::UserOffline => Some(false),
                Kind::ClientEvent | Kind::CacheMiss | Kind::SubscriptionCount => None,
            }
        }

        fn key(hub_event: &HubEvent) -> (bool, String, String) {
            let channel = hub_event.channel().map(ToString::to_string);
            let user_id = hub_event.user_id().map(ToString::to_string);
            (channel.is_some(), channel.unwrap_or_default(), user_id.unwrap_or_default())
        }

        fn hears(&mut self, hub_event: &HubEvent, context: &str) {
            if let Some(came) = Self::came(hub_event) {
                let was_here = self.0.insert(Self::key(hub_event), came).unwrap_or(false);
                assert_ne!(was_here, came, "{context}: {hub_event:?} does not alternate");
            }
        }
    }

    /// For any sequence of events and times: reported events alternate, and in the end the
    /// application's state is correct.
    #[test]
    fn reported_events_alternate_for_any_sequence() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut now = Instant::now();
            let (mut machine, mut consumer) = (Machine::default(), Consumer::default());
            let (mut truth, mut ready) = (HashMap::new(), Vec::new());
            for step in 0..400 {
                now += Duration::from_millis(random.random_range(0..900));
                if random.random_bool(0.3) {
                    machine.advance(now, &mut ready);
                } else {
                    let hub_event = random_hub_event(&mut random);
                    if let Some(came) = Consumer::came(&hub_event) {
                        truth.insert(Consumer::key(&hub_event), came);
                    }
                    machine.apply(hub_event, now, &mut ready);
                }
                for hub_event in ready.drain(..) {
                    consumer.hears(&hub_event, &format!("seed {seed} step {step}"));
                }
            }
            machine.advance(now + Debouncer::DELAY, &mut ready);
            for hub_event in &ready {
                consumer.hears(hub_event, &format!("seed {seed} at the end"));
            }
            for (key, is_here) in truth {
                let believed = consumer.0.get(&key).copied().unwrap_or(false);
                assert_eq!(believed, is_here, "seed {seed}: {key:?}");
            }
        }
    }

    #[test]
    fn momentary_events_are_reported_at_once() {
        let now = Instant::now();
        for hub_event in one_of_each().into_iter().filter(|one| !one.is_transition()) {
            let mut ready = Vec::new();
            Machine::default().apply(hub_event.clone(), now, &mut ready);
            assert_eq!(ready, [hub_event]);
        }
    }

    #[test]
    fn a_cache_miss_is_reported_once_in_ten_seconds() {
        let start = Instant::now();
        let mut machine = Machine::default();
        let mut misses_at = |milliseconds| {
            let mut ready = Vec::new();
            let miss = HubEvent::CacheMiss { channel: channel("cache-x") };
            machine.apply(miss, start + Duration::from_millis(milliseconds), &mut ready);
            ready.len()
        };
        assert_eq!([0, 0, 9_999, 10_000, 10_001].map(&mut misses_at), [1, 0, 0, 1, 0]);
        machine.advance(start + Duration::from_secs(60), &mut Vec::new());
        assert_eq!((machine.missed.capacity(), machine.deadline()), (0, None), "memory returns");
    }

    #[test]
    fn the_deadline_is_that_of_the_next_departure_or_miss() {
        let start = Instant::now();
        let (mut machine, mut ready) = (Machine::default(), Vec::new());
        assert_eq!(machine.deadline(), None);
        machine.apply(HubEvent::CacheMiss { channel: channel("cache-x") }, start, &mut ready);
        assert_eq!(machine.deadline(), Some(start + Duration::from_secs(10)));
        let [occupied, vacated, ..] = one_of_each();
        machine.apply(occupied, start, &mut ready);
        machine.apply(vacated, start, &mut ready);
        assert_eq!(machine.deadline(), Some(start + Debouncer::DELAY));
        machine.advance(start + Debouncer::DELAY, &mut ready);
        assert_eq!((machine.deadline(), ready.len()), (Some(start + Duration::from_secs(10)), 3));
    }

    #[test]
    fn a_member_leaves_before_its_channel_is_vacated() {
        let now = Instant::now();
        let [_, _, added, removed, ..] = one_of_each();
        let channel = removed.channel().unwrap().clone();
        let occupied = HubEvent::Occupied { channel: channel.clone() };
        let vacated = HubEvent::Vacated { channel };
        let all = [occupied, added, removed, vacated];
        for is_end in [false, true] {
            let (mut machine, mut ready) = (Machine::default(), Vec::new());
            for hub_event in &all {
                machine.apply(hub_event.clone(), now, &mut ready);
            }
            assert_eq!(ready, all[..2]);
            if is_end {
                machine.finish(&mut ready);
            } else {
                machine.advance(now + Duration::from_secs(3), &mut ready);
            }
            assert_eq!(ready, all);
        }
    }

    #[test]
    fn user_online_is_sent_once_if_the_hub_missed_the_departure() {
        let now = Instant::now();
        let [.., online, offline] = one_of_each();
        let (mut machine, mut ready) = (Machine::default(), Vec::new());
        for hub_event in [&offline, &online, &online, &offline, &offline] {
            machine.apply(hub_event.clone(), now, &mut ready);
        }
        assert_eq!(ready, [online, offline]);
        assert_eq!(machine.deadline(), None, "the hub has waited");
    }

    #[test]
    fn events_beyond_the_limit_are_dropped_and_counted() {
        let now = Instant::now();
        let (mut machine, mut ready) = (Machine::default(), Vec::new());
        for number in 0..Debouncer::SUBJECTS_MAX {
            let user_id = number.to_string().into();
            machine.apply(HubEvent::UserOnline { user_id }, now, &mut ready);
        }
        assert_eq!((ready.len(), machine.take_lost()), (Debouncer::SUBJECTS_MAX, 0));
        let [occupied, vacated, ..] = one_of_each();
        machine.apply(occupied.clone(), now, &mut ready);
        machine.apply(occupied, now, &mut ready);
        machine.apply(vacated, now, &mut ready);
        assert_eq!(machine.take_lost(), 2);
        assert_eq!((machine.take_lost(), ready.len()), (0, Debouncer::SUBJECTS_MAX));
    }

    #[test]
    fn recorded_misses_are_limited() {
        let now = Instant::now();
        let (mut machine, mut ready) = (Machine::default(), Vec::new());
        for number in 0..=Machine::MISSES_MAX {
            let channel = channel(&format!("cache-{number}"));
            machine.apply(HubEvent::CacheMiss { channel }, now, &mut ready);
        }
        assert_eq!(ready.len(), Machine::MISSES_MAX + 1, "all are reported");
        assert_eq!(machine.misses.len(), Machine::MISSES_MAX);
    }

    #[test]
    fn at_the_end_all_held_events_are_released() {
        let now = Instant::now();
        let (mut machine, mut ready) = (Machine::default(), Vec::new());
        for hub_event in &one_of_each()[..4] {
            machine.apply(hub_event.clone(), now, &mut ready);
        }
        machine.finish(&mut ready);
        let [occupied, vacated, added, removed, ..] = one_of_each();
        assert_eq!(ready, [occupied, added, vacated, removed]);
    }
}
