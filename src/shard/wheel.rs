//! One timer wheel for all connections of a shard.

use crate::hub::ConnectionKey;
use std::time::{Duration, Instant};

/// Connections by the time of their next check, in steps of [`Wheel::STEP`].
///
/// Deadlines move with every message, entries do not: a connection is checked when its slot is due,
/// and moved to a later slot if its deadline has moved. That costs some bytes per connection and
/// one check per timeout.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<ConnectionKey>>,
    /// A bit for each slot that is not empty: an idle turn asks for the next one.
    occupied: [u64; WORDS],
    start: Instant,
    /// The step of the next slot.
    next: u64,
}

const SLOTS: usize = 1_024;
const WORD_BITS: usize = 64;
const WORDS: usize = SLOTS / WORD_BITS;

impl Wheel {
    /// The precision of deadlines; a check may be this late, and is never early.
    pub(super) const STEP: Duration = Duration::from_millis(50);

    pub(super) fn new(start: Instant) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], occupied: [0; WORDS], start, next: 0 }
    }

    /// Schedules a check of `key` at `deadline`, or earlier if that is beyond the wheel's reach,
    /// unless a check is scheduled before that. Returns the step of the check. `scheduled_step` is
    /// the step of the check that is scheduled already, or `u64::MAX`.
    pub(super) fn add_if_earlier(
        &mut self,
        key: ConnectionKey,
        deadline: Instant,
        scheduled_step: u64,
    ) -> u64 {
        let step = self.step_after(deadline).clamp(self.next, self.next + SLOTS as u64 - 1);
        if scheduled_step <= step {
            return scheduled_step;
        }
        let slot = slot_of(step);
        self.slots[slot].push(key);
        self.occupied[slot / WORD_BITS] |= 1 << (slot % WORD_BITS);
        step
    }

    /// The step that ends at `time`.
    fn step_after(&self, time: Instant) -> u64 {
        let nanos = time.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos.div_ceil(Self::STEP.as_nanos())).unwrap_or(u64::MAX)
    }

    /// The next keys to check at `now`, with the step they were scheduled for; `None` when none are
    /// left.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(u64, Vec<ConnectionKey>)> {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        let current_step = u64::try_from(nanos / Self::STEP.as_nanos()).unwrap_or(u64::MAX);
        let Some(step) = self.next_step().filter(|step| *step <= current_step) else {
            self.next = self.next.max(current_step.saturating_add(1));
            return None;
        };
        self.next = step + 1;
        let slot = slot_of(step);
        self.occupied[slot / WORD_BITS] &= !(1 << (slot % WORD_BITS));
        Some((step, std::mem::take(&mut self.slots[slot])))
    }

    /// The time of the next check, if one is scheduled.
    pub(super) fn next_due(&self) -> Option<Instant> {
        u32::try_from(self.next_step()?).ok().map(|step| self.start + Self::STEP * step)
    }

    /// The step of the first slot from the next one on that is not empty.
    fn next_step(&self) -> Option<u64> {
        let first = slot_of(self.next);
        let (word, bit) = (first / WORD_BITS, first % WORD_BITS);
        // The first word is looked at twice: for the slots from the next one on, and at the end for those before it.
        (0..=WORDS).find_map(|at| {
            let index = (word + at) % WORDS;
            let seen = if at == 0 { u64::MAX << bit } else { u64::MAX };
            let found = self.occupied[index] & seen;
            let slot = index * WORD_BITS + found.trailing_zeros() as usize;
            (found != 0).then(|| self.next + ((slot + SLOTS - first) % SLOTS) as u64)
        })
    }
}

fn slot_of(step: u64) -> usize {
    usize::try_from(step % SLOTS as u64).expect("below the number of slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> ConnectionKey {
        ConnectionKey { slot, generation: 0 }
    }

    fn slots(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut slots = Vec::new();
        while let Some((_, keys)) = wheel.take_due(now) {
            slots.extend(keys.into_iter().map(|key| key.slot));
        }
        slots
    }

    #[test]
    fn a_check_is_due_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let deadline = start + Duration::from_millis(1_234);
        wheel.add_if_earlier(key(1), deadline, u64::MAX);
        let due = wheel.next_due().unwrap();
        assert!(deadline <= due && due < deadline + Wheel::STEP);
        assert!(slots(&mut wheel, due - Duration::from_nanos(1)).is_empty());
        assert_eq!(slots(&mut wheel, due), [1]);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn a_deadline_beyond_the_wheel_is_checked_on_the_way() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.add_if_earlier(key(1), start + Duration::from_secs(120), u64::MAX);
        let due = wheel.next_due().unwrap();
        assert!(due < start + Duration::from_secs(60));
        assert_eq!(slots(&mut wheel, due), [1]);
    }

    /// Checks each key like a shard, and returns when its deadline was met, in checks.
    fn checks_until(wheel: &mut Wheel, deadlines: &[Instant]) -> Vec<(Instant, usize)> {
        let mut scheduled: Vec<u64> = deadlines
            .iter()
            .enumerate()
            .map(|(at, deadline)| {
                wheel.add_if_earlier(key(u32::try_from(at).unwrap()), *deadline, u64::MAX)
            })
            .collect();
        let mut met = vec![None; deadlines.len()];
        let mut checks = vec![0; deadlines.len()];
        while let Some(now) = wheel.next_due() {
            assert!(wheel.take_due(now - Duration::from_nanos(1)).is_none(), "it is the next");
            while let Some((step, keys)) = wheel.take_due(now) {
                for key in keys {
                    let at = key.slot as usize;
                    assert_eq!(
                        scheduled[at], step,
                        "the check is known by the step it was scheduled for"
                    );
                    checks[at] += 1;
                    if deadlines[at] <= now {
                        assert_eq!(met[at].replace((now, checks[at])), None);
                    } else {
                        scheduled[at] = wheel.add_if_earlier(key, deadlines[at], u64::MAX);
                    }
                }
            }
        }
        met.into_iter().map(|met| met.expect("each deadline is met")).collect()
    }

    #[test]
    fn a_deadline_at_any_distance_is_met_with_few_checks() {
        const LAP_MS: u64 = 51_200;
        let start = Instant::now();
        for offset in [0, 1, 49, 50, 51, 12_345, LAP_MS - 50, LAP_MS, LAP_MS + 1, 1_000_000] {
            let mut wheel = Wheel::new(start);
            let now = start + Duration::from_millis(offset);
            assert!(wheel.take_due(now).is_none());
            let distances = [0, 1, 49, 50, 51, 99, 100, 51_099, 51_100, 51_149, 51_150, 51_151];
            let far = [51_199, 51_200, 51_201, 102_399, 102_400, 120_000, 3_600_000];
            let distances = [&distances[..], &far].concat();
            let deadlines: Vec<Instant> =
                distances.iter().map(|ms| now + Duration::from_millis(*ms)).collect();
            let met = checks_until(&mut wheel, &deadlines);
            for ((met, checks), distance) in met.into_iter().zip(distances) {
                let late = met - (now + Duration::from_millis(distance));
                // A slot that has passed is not used again: the next one is.
                let late_max = if distance == 0 { 2 * Wheel::STEP } else { Wheel::STEP };
                assert!(late < late_max, "{distance} ms from {offset} ms: {late:?} late");
                let laps = usize::try_from(distance / (LAP_MS - 50)).unwrap();
                assert!(checks <= laps + 1, "{distance} ms: {checks} checks");
            }
        }
    }

    #[test]
    fn overdue_checks_are_due_at_once() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let later = start + Duration::from_secs(500);
        assert!(slots(&mut wheel, later).is_empty());
        wheel.add_if_earlier(key(1), start, u64::MAX);
        assert_eq!(slots(&mut wheel, later + Wheel::STEP), [1]);
    }

    #[test]
    fn only_an_earlier_check_is_rescheduled() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let scheduled = wheel.add_if_earlier(key(1), at(5), u64::MAX);
        assert_eq!(wheel.add_if_earlier(key(1), at(9), scheduled), scheduled);
        assert!(wheel.add_if_earlier(key(1), at(2), scheduled) < scheduled);
        assert_eq!(slots(&mut wheel, at(10)), [1, 1]);
    }

    #[test]
    fn every_key_is_checked_once_in_order_of_time() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for slot in (0..500).rev() {
            let deadline = start + Duration::from_millis(u64::from(slot) * 100);
            wheel.add_if_earlier(key(slot), deadline, u64::MAX);
        }
        let now = start + Duration::from_secs(60);
        assert_eq!(slots(&mut wheel, now), (0..500).collect::<Vec<_>>());
    }

    /// Against a list of all scheduled steps, over many turns of the wheel.
    #[test]
    fn the_next_check_is_the_earliest_of_all() {
        use rand::{RngExt, SeedableRng, rngs::StdRng};
        let mut random = StdRng::seed_from_u64(16);
        let start = Instant::now();
        let (mut wheel, mut now, mut scheduled) = (Wheel::new(start), start, Vec::new());
        for _ in 0..20_000 {
            if random.random_bool(0.5) {
                let ahead = Duration::from_millis(random.random_range(0..60_000));
                scheduled.push(wheel.add_if_earlier(key(0), now + ahead, u64::MAX));
            }
            let due = scheduled
                .iter()
                .min()
                .map(|step| start + Wheel::STEP * u32::try_from(*step).unwrap());
            assert_eq!(wheel.next_due(), due);
            now += Duration::from_millis(random.random_range(0..200));
            while let Some((step, keys)) = wheel.take_due(now) {
                let before = scheduled.len();
                assert_eq!(scheduled.iter().min(), Some(&step));
                scheduled.retain(|other| *other != step);
                assert_eq!(keys.len(), before - scheduled.len());
            }
        }
        assert!(start + 20 * Wheel::STEP * 1_024 < now, "twenty turns");
    }
}
