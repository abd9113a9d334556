use super::*;
use crate::hub::hub_event_tests::{channel, one_of_each};
use crate::webhook::record::{encode, parse};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::sync::Arc;

fn occupied(name: &str) -> HubEvent {
    HubEvent::Occupied { channel: channel(name) }
}

fn vacated(name: &str) -> HubEvent {
    HubEvent::Vacated { channel: channel(name) }
}

fn count(count: usize) -> HubEvent {
    HubEvent::SubscriptionCount { channel: channel("t"), count }
}

/// The events that are reported for these records, and then at `end`.
fn ready(machine: &mut SharedMachine, log: &[(u64, HubEvent)], end: u64) -> Vec<HubEvent> {
    let mut ready = Vec::new();
    for (at_ms, hub_event) in log {
        machine.apply(*at_ms, hub_event.clone(), &mut ready);
    }
    machine.advance(end, &mut ready);
    ready
}

#[test]
fn a_return_within_the_delay_is_not_reported_even_if_the_log_is_read_late() {
    let log = [(0, occupied("t")), (1_000, vacated("t")), (3_899, occupied("t"))];
    let mut machine = SharedMachine::default();
    assert_eq!(ready(&mut machine, &log, 60_000), [occupied("t")]);
    let log = [(0, occupied("t")), (1_000, vacated("t")), (3_900, occupied("t"))];
    let mut machine = SharedMachine::default();
    let expected = [occupied("t"), vacated("t"), occupied("t")];
    assert_eq!(ready(&mut machine, &log, 60_000), expected);
    assert_eq!(machine.due_ms(), None);
}

/// Redis' clock steps backward while a departure is held: it must not be held for as long as the step is.
#[test]
fn a_departure_is_reported_in_time_although_the_clock_steps_backward() {
    const STEP: u64 = 400_000;
    let most = hold_max_ms();
    for (delay, is_reported) in [(most - 1, false), (most, true)] {
        let mut machine = SharedMachine::default();
        assert_eq!(ready(&mut machine, &[(STEP, vacated("t"))], STEP + 1_000), []);
        assert_eq!(ready(&mut machine, &[], 2_000), []);
        let mut resumed = SharedMachine::resume(machine.take_changes());
        for machine in [&mut machine, &mut resumed] {
            let reported = ready(machine, &[], 2_000 + delay);
            assert_eq!(!reported.is_empty(), is_reported, "{delay}: {reported:?}");
        }
    }
    // A return cancels it.
    let mut machine = SharedMachine::default();
    let log = [(STEP, vacated("t")), (2_000, occupied("t"))];
    assert_eq!(ready(&mut machine, &log, 60_000), []);
    // Clocks of masters may differ.
    let mut machine = SharedMachine::default();
    let log = [(10_000, vacated("t")), (9_000, vacated("u"))];
    assert_eq!(ready(&mut machine, &log, 9_000), []);
    assert_eq!(machine.held["c t"].due_ms, 10_000 + ms(Debouncer::DELAY));
}

#[test]
fn misses_and_counts_are_reported_although_the_clock_steps_backward() {
    const STEP: u64 = 400_000;
    let many = Hub::COUNT_UNTHROTTLED_MAX + 1;
    let miss = HubEvent::CacheMiss { channel: channel("cache-t") };
    for event in [miss, count(many)] {
        let mut machine = SharedMachine::default();
        let log = [(STEP, event.clone()), (2_000, event.clone())];
        assert_eq!(ready(&mut machine, &log, 2_000), [event.clone(), event.clone()]);
        assert_eq!(ready(&mut machine, &[(2_001, event.clone())], 2_001), [], "once an interval");
    }
}

/// Redis logs both in one step, with the same time.
#[test]
fn a_member_leaves_before_its_channel_is_vacated() {
    let [_, _, _, removed, ..] = one_of_each();
    let vacated = HubEvent::Vacated { channel: removed.channel().unwrap().clone() };
    let log = [(5, removed.clone()), (5, vacated.clone())];
    let mut machine = SharedMachine::default();
    assert_eq!(ready(&mut machine, &log, 2_904), []);
    let mut resumed = SharedMachine::resume(machine.take_changes());
    for machine in [&mut machine, &mut resumed] {
        assert_eq!(ready(machine, &[], 2_905), [removed.clone(), vacated.clone()]);
    }
}

#[test]
fn unreadable_held_events_are_removed() {
    let held = "7 {\"k\":\"channel_vacated\",\"c\":\"t\"}";
    assert_eq!(parse(held.as_bytes()), Some((7, vacated("t"))));
    let foreign = ["", "7", "x {}", "7 {}"].map(|text| (format!("c {text}"), text.to_owned()));
    let all = [&foreign[..], &[("c t".to_owned(), held.to_owned())]].concat();
    let mut machine = SharedMachine::resume(all);
    let mut removed = machine.take_changes();
    removed.sort();
    let mut expected = foreign.map(|(name, _)| (name, String::new()));
    expected.sort();
    assert_eq!(removed, expected);
    assert_eq!(machine.take_changes(), [], "once");
    // Events held by the other machine are reported by this one, and then no longer held.
    assert_eq!((machine.due_ms(), ready(&mut machine, &[], 7)), (Some(7), vec![vacated("t")]));
    assert_eq!(machine.take_changes(), [("c t".to_owned(), String::new())]);
}

#[test]
fn a_repeated_departure_keeps_its_time() {
    let log = [(0, vacated("t")), (1_000, vacated("t"))];
    assert_eq!(ready(&mut SharedMachine::default(), &log, 2_900), [vacated("t")]);
}

#[test]
fn members_users_and_channels_are_distinguished() {
    let (channel, other) = (channel("presence-a"), channel("presence-b"));
    let removed = |channel: &ChannelName, user_id: &str| HubEvent::MemberRemoved {
        channel: channel.clone(),
        user_id: user_id.into(),
    };
    let log = [
        (0, removed(&channel, "1")),
        (0, removed(&channel, "2")),
        (0, removed(&other, "1")),
        (0, HubEvent::Vacated { channel: channel.clone() }),
        (1, HubEvent::MemberAdded { channel: channel.clone(), user_id: "1".into() }),
        (1, HubEvent::UserOnline { user_id: "2".into() }),
    ];
    let online = HubEvent::UserOnline { user_id: "2".into() };
    let expected = [
        online,
        removed(&channel, "2"),
        removed(&other, "1"),
        HubEvent::Vacated { channel: channel.clone() },
    ];
    assert_eq!(ready(&mut SharedMachine::default(), &log, 2_900), expected);
}

#[test]
fn recorded_misses_and_counts_expire_and_are_limited() {
    let mut machine = SharedMachine::default();
    let mut ready = Vec::new();
    for number in 0..=Machine::MISSES_MAX {
        let channel = channel(&format!("cache-{number}"));
        let at_ms = if number + 1 < Machine::MISSES_MAX { 20_000 } else { 21_000 };
        machine.apply(at_ms, HubEvent::CacheMiss { channel }, &mut ready);
    }
    machine.apply(21_000, count(101), &mut ready);
    machine.apply(27_000, count(101), &mut ready);
    assert_eq!(ready.len(), Machine::MISSES_MAX + 3, "all are reported");
    assert_eq!((machine.missed.len(), machine.counted.len()), (Machine::MISSES_MAX, 1));
    // Checked every 10 s, before each is over.
    machine.advance(29_999, &mut ready);
    assert_eq!((machine.missed.len(), machine.counted.len()), (Machine::MISSES_MAX, 1));
    machine.advance(30_001, &mut ready);
    assert_eq!((machine.missed.len(), machine.counted.len()), (1, 1));
    machine.advance(60_000, &mut ready);
    assert_eq!((machine.missed.len(), machine.counted.len()), (0, 0));
}

#[test]
fn a_departure_is_reported_without_a_stored_arrival() {
    let mut machine = SharedMachine::default();
    assert_eq!(ready(&mut machine, &[(5, vacated("t"))], 2_904), []);
    assert_eq!(machine.due_ms(), Some(2_905));
    assert_eq!(ready(&mut machine, &[], 2_905), [vacated("t")]);
}

#[test]
fn momentary_events_and_arrivals_are_reported_at_once() {
    for hub_event in one_of_each() {
        let held = matches!(hub_event, HubEvent::Vacated { .. } | HubEvent::MemberRemoved { .. });
        let ready = ready(&mut SharedMachine::default(), &[(7, hub_event.clone())], 7);
        let expected = if held { vec![] } else { vec![hub_event] };
        assert_eq!(ready, expected);
    }
}

#[test]
fn large_counts_are_reported_every_five_seconds_and_the_last_one_at_the_end() {
    let mut machine = SharedMachine::default();
    let log: Vec<_> =
        (0..120).map(|number| (u64::try_from(number).unwrap(), count(number + 1))).collect();
    let first = ready(&mut machine, &log, 4_000);
    assert_eq!(first, (1..=101).map(count).collect::<Vec<_>>());
    assert_eq!(machine.due_ms(), Some(5_100));
    assert_eq!(ready(&mut machine, &[], 5_100), [count(120)]);
    assert_eq!(ready(&mut machine, &[(5_200, count(121))], 10_099), []);
    assert_eq!(ready(&mut machine, &[], 10_100), [count(121)]);
    // A channel that loses all subscribers has no held count.
    assert_eq!(ready(&mut machine, &[(10_200, count(120)), (10_300, count(0))], 60_000), []);
    assert_eq!(ready(&mut machine, &[(60_001, count(3))], 60_001), [count(3)]);
}

#[test]
fn a_cache_miss_is_reported_once_in_ten_seconds() {
    let miss = HubEvent::CacheMiss { channel: channel("cache-x") };
    let log = [0, 1, 9_999, 10_000, 10_001].map(|at_ms| (at_ms, miss.clone()));
    let mut machine = SharedMachine::default();
    assert_eq!(ready(&mut machine, &log, 10_001).len(), 2);
    machine.advance(60_000, &mut Vec::new());
    assert!(machine.missed.is_empty(), "memory returns");
}

/// The part of Redis that a reader of the log uses.
#[derive(Default)]
struct StoredLog {
    log: Vec<Vec<u8>>,
    held: HashMap<String, String>,
}

/// For any sequence of events and times, any split of the log into parts, and readers that die
/// between reading and committing: reported events alternate, are reported exactly once, and in
/// the end the application's state is correct.
#[test]
fn reported_events_alternate_whichever_reader_dies() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut now_ms = 1_000_000;
        let (mut kept, mut machine) = (StoredLog::default(), SharedMachine::default());
        let (mut truth, mut believed) = (HashMap::new(), HashMap::new());
        for step in 0..400 {
            now_ms += random.random_range(0..900);
            let member = format!("{}", random.random_range(0..3));
            let (came, hub_event) = next(&mut truth, &member, step % 2 == 0);
            let record =
                [format!("{now_ms} ").into_bytes(), encode(&hub_event).into_bytes()].concat();
            kept.log.push(record);
            truth.insert(name_of(&hub_event), came);
            if random.random_bool(0.3) {
                let some = random.random_range(0..=kept.log.len());
                let is_committed = random.random_bool(0.7);
                read(&mut kept, &mut machine, (some, now_ms), is_committed, &mut believed);
            }
        }
        let all = kept.log.len();
        read(&mut kept, &mut machine, (all, now_ms + ms(Debouncer::DELAY)), true, &mut believed);
        assert!(kept.held.is_empty() && kept.log.is_empty());
        for (name, is_here) in truth {
            let believed = believed.get(&name).copied().unwrap_or(false);
            assert_eq!(believed, is_here, "seed {seed}: {name}");
        }
    }
}

/// The next event of a channel or of its member: the opposite of the last one.
fn next(truth: &mut HashMap<String, bool>, id: &str, is_member: bool) -> (bool, HubEvent) {
    let channel = channel(&format!("presence-{id}"));
    let user_id: Arc<str> = "u 1".into();
    let hub_event = if is_member {
        HubEvent::MemberAdded { channel: channel.clone(), user_id: Arc::clone(&user_id) }
    } else {
        HubEvent::Occupied { channel: channel.clone() }
    };
    let comes = !truth.get(&name_of(&hub_event)).copied().unwrap_or(false);
    let gone = if is_member {
        HubEvent::MemberRemoved { channel, user_id }
    } else {
        HubEvent::Vacated { channel }
    };
    (comes, if comes { hub_event } else { gone })
}

/// Reads this many records; a reader that dies before its commit is replaced.
fn read(
    kept: &mut StoredLog,
    machine: &mut SharedMachine,
    (some, now_ms): (usize, u64),
    is_committed: bool,
    believed: &mut HashMap<String, bool>,
) {
    let mut ready = Vec::new();
    for record in &kept.log[..some] {
        let (at_ms, hub_event) = parse(record).unwrap();
        machine.apply(at_ms, hub_event, &mut ready);
    }
    if some == kept.log.len() {
        machine.advance(now_ms, &mut ready);
    }
    if is_committed {
        kept.log.drain(..some);
        for (name, held) in machine.take_changes() {
            if held.is_empty() {
                kept.held.remove(&name)
            } else {
                kept.held.insert(name, held)
            };
        }
        for hub_event in ready {
            let comes =
                matches!(hub_event, HubEvent::Occupied { .. } | HubEvent::MemberAdded { .. });
            let was = believed.insert(name_of(&hub_event), comes).unwrap_or(false);
            assert_ne!(was, comes, "{hub_event:?} does not alternate");
        }
    } else {
        let held = kept.held.iter().map(|(name, held)| (name.clone(), held.clone()));
        *machine = SharedMachine::resume(held.collect());
    }
}
