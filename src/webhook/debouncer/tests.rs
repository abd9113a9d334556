use super::*;
use crate::{
    channel::{CountAction, CountThrottle},
    config::WebhookEvent,
    hub::hub_event_tests::{channel, one_of_each},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Arc, time::Instant};

mod random;

fn occupied(name: &str) -> HubEvent {
    HubEvent::Occupied { channel: channel(name) }
}

fn vacated(name: &str) -> HubEvent {
    HubEvent::Vacated { channel: channel(name) }
}

fn count(count: usize) -> HubEvent {
    HubEvent::SubscriptionCount { channel: channel("t"), count }
}

fn of_redis() -> Debouncer {
    Debouncer::for_redis_log(Vec::new())
}

/// A debouncer for each kind of log.
fn both() -> [Debouncer; 2] {
    [Debouncer::for_memory_log(), of_redis()]
}

/// The events that are reported for these records, and then at `end`.
fn ready(debouncer: &mut Debouncer, log: &[(u64, HubEvent)], end: u64) -> Vec<HubEvent> {
    let mut ready = Vec::new();
    for (at_ms, hub_event) in log {
        debouncer.apply(*at_ms, hub_event.clone(), &mut ready);
    }
    debouncer.advance(end, &mut ready);
    ready
}

#[test]
fn a_departure_is_reported_at_its_deadline_and_not_before() {
    for mut debouncer in both() {
        let log = [(0, occupied("t")), (5, vacated("t"))];
        assert_eq!(ready(&mut debouncer, &log, 2_904), [occupied("t")]);
        assert_eq!(debouncer.deadline_ms(), Some(2_905));
        assert_eq!(ready(&mut debouncer, &[], 2_905), [vacated("t")]);
        assert_eq!(ready(&mut debouncer, &[], 60_000), [], "once");
        assert_eq!(ready(&mut debouncer, &[(60_000, occupied("t"))], 60_000), [occupied("t")]);
        assert_eq!(debouncer.deadline_ms(), None);
    }
}

#[test]
fn a_return_within_the_delay_is_not_reported_even_if_the_log_is_read_late() {
    for (return_ms, is_reported) in [(3_899, false), (3_900, true)] {
        for mut debouncer in both() {
            let log = [(0, occupied("t")), (1_000, vacated("t")), (return_ms, occupied("t"))];
            let expected = [occupied("t"), vacated("t"), occupied("t")];
            let reported = if is_reported { &expected[..] } else { &expected[..1] };
            assert_eq!(ready(&mut debouncer, &log, 60_000), reported);
            assert_eq!(debouncer.deadline_ms(), None);
        }
    }
}

#[test]
fn a_repeated_departure_keeps_its_time() {
    for mut debouncer in both() {
        let log = [(0, occupied("t")), (0, vacated("t")), (1_000, vacated("t"))];
        assert_eq!(ready(&mut debouncer, &log, 2_900), [occupied("t"), vacated("t")]);
    }
}

/// Redis' clock steps backward while a departure is delayed: it must not be delayed for as long as the step is.
#[test]
fn a_departure_is_reported_in_time_although_the_clock_steps_backward() {
    const STEP: u64 = 400_000;
    let most = delay_max_ms();
    for (delay, is_reported) in [(most - 1, false), (most, true)] {
        let mut debouncer = of_redis();
        assert_eq!(ready(&mut debouncer, &[(STEP, vacated("t"))], STEP + 1_000), []);
        assert_eq!(ready(&mut debouncer, &[], 2_000), []);
        let mut resumed = Debouncer::for_redis_log(debouncer.take_changes());
        for debouncer in [&mut debouncer, &mut resumed] {
            let reported = ready(debouncer, &[], 2_000 + delay);
            assert_eq!(!reported.is_empty(), is_reported, "{delay}: {reported:?}");
        }
    }
    // A return cancels it.
    let log = [(STEP, vacated("t")), (2_000, occupied("t"))];
    assert_eq!(ready(&mut of_redis(), &log, 60_000), []);
    // Clocks of masters may differ.
    let mut debouncer = of_redis();
    let log = [(10_000, vacated("t")), (9_000, vacated("u"))];
    assert_eq!(ready(&mut debouncer, &log, 9_000), []);
    assert_eq!(
        debouncer.delayed[&DebounceKey::Channel(channel("t"))].due_ms,
        10_000 + ms(Debouncer::DELAY)
    );
}

/// All of them get the same deadline.
#[test]
fn departures_keep_their_order_although_the_clock_steps_backward() {
    let [_, _, _, removed, ..] = one_of_each();
    let of_room = HubEvent::Vacated { channel: removed.channel().unwrap().clone() };
    let all = [vacated("z"), removed, of_room, vacated("a")];
    let log: Vec<_> = (400_000..).zip(all.clone()).collect();
    let mut debouncer = of_redis();
    assert_eq!(ready(&mut debouncer, &log, 400_010), []);
    assert_eq!(ready(&mut debouncer, &[], 2_000), []);
    let reported = ready(&mut debouncer, &[], 2_000 + delay_max_ms());
    assert_eq!(reported, all);
}

#[test]
fn misses_and_counts_are_reported_although_the_clock_steps_backward() {
    const STEP: u64 = 400_000;
    let many = COUNT_UNTHROTTLED_MAX + 1;
    let miss = HubEvent::CacheMiss { channel: channel("cache-t") };
    for event in [miss, count(many)] {
        let mut debouncer = of_redis();
        let log = [(STEP, event.clone()), (2_000, event.clone())];
        assert_eq!(ready(&mut debouncer, &log, 2_000), [event.clone(), event.clone()]);
        assert_eq!(ready(&mut debouncer, &[(2_001, event.clone())], 2_001), [], "once an interval");
    }
}

/// Both have the same time.
#[test]
fn a_member_leaves_before_its_channel_is_vacated() {
    let [_, _, added, removed, ..] = one_of_each();
    let channel = removed.channel().unwrap().clone();
    let occupied = HubEvent::Occupied { channel: channel.clone() };
    let vacated = HubEvent::Vacated { channel };
    let all = [occupied, added, removed, vacated];
    let log = all.clone().map(|hub_event| (5, hub_event));
    for mut debouncer in both() {
        assert_eq!(ready(&mut debouncer, &log, 2_904), all[..2]);
        let mut resumed = Debouncer::for_redis_log(debouncer.take_changes());
        if let LogKind::Redis(_) = debouncer.log {
            assert_eq!(ready(&mut resumed, &[], 2_905), all[2..]);
        }
        assert_eq!(ready(&mut debouncer, &[], 2_905), all[2..]);
    }
    let mut debouncer = Debouncer::for_memory_log();
    let mut reported = ready(&mut debouncer, &log, 5);
    debouncer.finish(&mut reported);
    assert_eq!(reported, all);
}

#[test]
fn unreadable_delayed_events_are_removed() {
    let delayed = "7 {\"k\":\"channel_vacated\",\"c\":\"t\"}";
    let miss = "7 {\"k\":\"cache_miss\",\"c\":\"cache-t\"}";
    let foreign = ["", "7", "x {}", "7 {}", delayed, miss];
    let foreign = foreign.map(|text| (format!("c {text}"), text.to_owned()));
    let all = [&foreign[..], &[("c t".to_owned(), delayed.to_owned())]].concat();
    let mut debouncer = Debouncer::for_redis_log(all);
    let mut expected = foreign.map(|(name, _)| (name, String::new()));
    expected.sort();
    assert_eq!(debouncer.take_changes(), expected);
    assert_eq!(debouncer.take_changes(), [], "once");
    // Events delayed by the other debouncer are reported by this one, and then no longer delayed.
    assert_eq!(
        (debouncer.deadline_ms(), ready(&mut debouncer, &[], 7)),
        (Some(7), vec![vacated("t")])
    );
    assert_eq!(debouncer.take_changes(), [("c t".to_owned(), String::new())]);
}

#[test]
fn members_users_and_channels_are_distinguished() {
    let (room, other) = (channel("presence-a"), channel("presence-b"));
    let added = |channel: &ChannelName, user_id: &str| HubEvent::MemberAdded {
        channel: channel.clone(),
        user_id: user_id.into(),
    };
    let removed = |channel: &ChannelName, user_id: &str| HubEvent::MemberRemoved {
        channel: channel.clone(),
        user_id: user_id.into(),
    };
    let vacated = HubEvent::Vacated { channel: room.clone() };
    let arrivals = [
        HubEvent::Occupied { channel: room.clone() },
        added(&room, "1"),
        added(&room, "2"),
        added(&other, "1"),
        HubEvent::UserOnline { user_id: "2".into() },
    ];
    let gone = [removed(&room, "1"), removed(&room, "2"), removed(&other, "1"), vacated.clone()];
    for mut debouncer in both() {
        let log = arrivals.clone().map(|hub_event| (0, hub_event));
        assert_eq!(ready(&mut debouncer, &log, 0), arrivals);
        let log = gone.clone().map(|hub_event| (0, hub_event));
        assert_eq!(ready(&mut debouncer, &log, 1), []);
        assert_eq!(ready(&mut debouncer, &[(1, added(&room, "1"))], 2), []);
        let expected = [removed(&room, "2"), removed(&other, "1"), vacated.clone()];
        assert_eq!(ready(&mut debouncer, &[], 2_900), expected);
    }
}

#[test]
fn recorded_misses_and_counts_expire_and_are_limited() {
    let mut debouncer = of_redis();
    let mut ready = Vec::new();
    for number in 0..=Debouncer::CHANNELS_MAX {
        let channel = channel(&format!("cache-{number}"));
        let at_ms = if number + 1 < Debouncer::CHANNELS_MAX { 20_000 } else { 21_000 };
        debouncer.apply(at_ms, HubEvent::CacheMiss { channel }, &mut ready);
    }
    debouncer.apply(21_000, count(101), &mut ready);
    debouncer.apply(27_000, count(101), &mut ready);
    assert_eq!(ready.len(), Debouncer::CHANNELS_MAX + 3, "all are reported");
    assert_eq!(
        (debouncer.last_misses.len(), debouncer.last_counts.len()),
        (Debouncer::CHANNELS_MAX, 1)
    );
    // Checked every 10 s, before each is over.
    debouncer.advance(29_999, &mut ready);
    assert_eq!(
        (debouncer.last_misses.len(), debouncer.last_counts.len()),
        (Debouncer::CHANNELS_MAX, 1)
    );
    assert_eq!(debouncer.deadline_ms(), Some(30_001));
    debouncer.advance(30_001, &mut ready);
    assert_eq!((debouncer.last_misses.len(), debouncer.last_counts.len()), (1, 1));
    debouncer.advance(60_000, &mut ready);
    assert_eq!(
        (debouncer.last_misses.capacity(), debouncer.last_counts.capacity()),
        (0, 0),
        "memory returns"
    );
    assert_eq!(debouncer.deadline_ms(), None);
}

/// A log in memory may lack the arrival, and the application has not received it either.
#[test]
fn only_a_departure_from_redis_is_reported_without_an_arrival() {
    let log = [(5, vacated("t"))];
    assert_eq!(ready(&mut Debouncer::for_memory_log(), &log, 2_905), []);
    assert_eq!(ready(&mut of_redis(), &log, 2_905), [vacated("t")]);
}

#[test]
fn unpaired_events_and_arrivals_are_reported_at_once() {
    for hub_event in one_of_each() {
        for mut debouncer in both() {
            let is_delayed = [WebhookEvent::ChannelVacated, WebhookEvent::MemberRemoved]
                .contains(&hub_event.kind());
            let is_unknown = hub_event.kind() == WebhookEvent::UserOffline
                && matches!(debouncer.log, LogKind::Memory(_));
            let expected = if is_delayed || is_unknown { vec![] } else { vec![hub_event.clone()] };
            assert_eq!(ready(&mut debouncer, &[(7, hub_event.clone())], 7), expected);
        }
    }
}

#[test]
fn large_counts_are_reported_every_five_seconds_and_the_last_one_at_the_end() {
    let mut debouncer = of_redis();
    let log: Vec<_> =
        (0..120).map(|number| (u64::try_from(number).unwrap(), count(number + 1))).collect();
    let first = ready(&mut debouncer, &log, 4_000);
    assert_eq!(first, (1..=100).map(count).collect::<Vec<_>>());
    assert_eq!(debouncer.deadline_ms(), Some(5_099));
    assert_eq!(ready(&mut debouncer, &[], 5_099), [count(120)]);
    assert_eq!(ready(&mut debouncer, &[(5_200, count(121))], 10_098), []);
    assert_eq!(ready(&mut debouncer, &[], 10_099), [count(121)]);
    // A channel that loses all subscribers has no delayed count, and begins anew.
    assert_eq!(ready(&mut debouncer, &[(10_200, count(120)), (10_300, count(0))], 10_400), []);
    assert_eq!(ready(&mut debouncer, &[(10_500, count(101))], 60_000), [count(101)]);
    // On a single node, the broker has limited them.
    assert_eq!(ready(&mut Debouncer::for_memory_log(), &log, 4_000).len(), 120);
}

#[test]
fn a_count_that_falls_while_one_is_delayed_is_reported_at_the_end_of_the_delay() {
    let mut debouncer = of_redis();
    let log = [(0, count(102)), (1_000, count(101)), (2_000, count(99)), (3_000, count(98))];
    assert_eq!(ready(&mut debouncer, &log, 4_999), [count(102)]);
    assert_eq!(ready(&mut debouncer, &[], 5_000), [count(98)]);
    assert_eq!(ready(&mut debouncer, &[(5_001, count(97))], 5_001), [count(97)], "none is delayed");
    // One that is the same as before is not reported again.
    let log = [(20_000, count(102)), (21_000, count(101)), (22_000, count(102))];
    assert_eq!(ready(&mut debouncer, &log, 60_000), [count(102)]);
}

/// For any sequence of counts: the same ones are reported as on a single node, at the same times.
#[test]
fn counts_are_limited_as_on_a_single_node() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut debouncer, mut throttle) = (of_redis(), CountThrottle::default());
        let (began, mut due, mut total) = (Instant::now(), None, 98);
        let (mut on_one, mut on_several) = (Vec::new(), Vec::new());
        for now_ms in 0..30_000_u64 {
            let now = began + Duration::from_millis(now_ms);
            let has_changed = random.random_bool(0.002);
            let is_due = due.is_some_and(|due| due <= now) && throttle.take_due(now);
            let before = total;
            if has_changed {
                total = if random.random_bool(0.5) { total + 1 } else { total - 1 };
            }
            for (_, count) in [(is_due, before), (has_changed, total)].iter().filter(|step| step.0)
            {
                match throttle.action(*count, now) {
                    CountAction::Send(count) => on_one.push((now_ms, count)),
                    CountAction::CheckAt(until) => due = Some(until),
                    CountAction::Skip => {}
                }
            }
            let mut ready = Vec::new();
            if has_changed {
                debouncer.apply(now_ms, count(total), &mut ready);
            }
            debouncer.advance(now_ms, &mut ready);
            on_several.extend(ready.iter().map(|event| {
                let HubEvent::SubscriptionCount { count, .. } = event else { panic!("{event:?}") };
                (now_ms, *count)
            }));
        }
        assert_eq!(on_several, on_one, "seed {seed}");
        assert!(3 < on_one.len(), "{on_one:?}");
    }
}

#[test]
fn a_cache_miss_is_reported_once_in_ten_seconds() {
    let miss = HubEvent::CacheMiss { channel: channel("cache-x") };
    for mut debouncer in both() {
        let mut misses_at = |at_ms| ready(&mut debouncer, &[(at_ms, miss.clone())], at_ms).len();
        assert_eq!([0, 0, 9_999, 10_000, 10_001].map(&mut misses_at), [1, 0, 0, 1, 0]);
        debouncer.advance(60_000, &mut Vec::new());
        assert_eq!(
            (debouncer.last_misses.capacity(), debouncer.deadline_ms()),
            (0, None),
            "memory returns"
        );
    }
}

#[test]
fn user_online_is_sent_once_if_the_broker_missed_the_departure() {
    let [.., online, offline] = one_of_each();
    let log = [&offline, &online, &online, &offline, &offline].map(|event| (0, event.clone()));
    let mut debouncer = Debouncer::for_memory_log();
    assert_eq!(ready(&mut debouncer, &log, 0), [online, offline]);
    assert_eq!(debouncer.deadline_ms(), None, "the broker has waited");
}

#[test]
fn subjects_beyond_the_limit_are_not_reported_but_counted() {
    let (mut debouncer, mut ready) = (Debouncer::for_memory_log(), Vec::new());
    let online = |number: usize| HubEvent::UserOnline { user_id: number.to_string().into() };
    for number in 0..PresentKeys::KEYS_MAX {
        debouncer.apply(0, online(number), &mut ready);
    }
    assert_eq!((ready.len(), debouncer.take_lost()), (PresentKeys::KEYS_MAX, 0));
    ready.clear();
    debouncer.apply(0, occupied("t"), &mut ready);
    debouncer.apply(0, occupied("t"), &mut ready);
    debouncer.apply(0, vacated("t"), &mut ready);
    debouncer.apply(0, online(0), &mut ready);
    assert_eq!((debouncer.take_lost(), debouncer.take_lost(), ready.len()), (2, 0, 0));
    assert_eq!(debouncer.deadline_ms(), None, "a departure that was no arrival");
    let offline = HubEvent::UserOffline { user_id: "0".into() };
    debouncer.apply(0, offline.clone(), &mut ready);
    debouncer.apply(0, occupied("t"), &mut ready);
    assert_eq!(ready, [offline, occupied("t")], "there is room again");
}

#[test]
fn at_the_end_all_delayed_events_are_released() {
    let log: Vec<_> = one_of_each()[..4].iter().map(|event| (0, event.clone())).collect();
    let mut debouncer = Debouncer::for_memory_log();
    let mut ready = ready(&mut debouncer, &log, 0);
    debouncer.finish(&mut ready);
    let [occupied, vacated, added, removed, ..] = one_of_each();
    assert_eq!(ready, [occupied, added, vacated, removed]);
}

#[test]
fn a_channel_in_a_full_table_of_misses_is_reported_once_in_ten_seconds() {
    let mut debouncer = Debouncer::for_memory_log();
    for number in 0..Debouncer::CHANNELS_MAX {
        assert!(debouncer.on_miss(&channel(&number.to_string()), 0));
    }
    let (first, new) = (channel("0"), channel("new"));
    let again = ms(Debouncer::MISS_INTERVAL);
    let reported = [again, again + 1].map(|at_ms| debouncer.on_miss(&first, at_ms));
    assert_eq!(reported, [true, false]);
    let reported = [again, again + 1].map(|at_ms| debouncer.on_miss(&new, at_ms));
    assert_eq!(reported, [true, true], "there is no room for another");
}

#[test]
fn memory_is_released() {
    let mut debouncer = Debouncer::for_memory_log();
    let names = (0..50_000).map(|number| format!("c{number}"));
    let log: Vec<_> = names.flat_map(|name| [(0, occupied(&name)), (0, vacated(&name))]).collect();
    assert_eq!(ready(&mut debouncer, &log, 0).len(), 50_000);
    let capacity = |debouncer: &Debouncer| match &debouncer.log {
        LogKind::Memory(present) => present.capacity(),
        LogKind::Redis(_) => 0,
    };
    assert!(50_000 <= capacity(&debouncer));
    assert_eq!(ready(&mut debouncer, &[], 2_900).len(), 50_000);
    assert!(capacity(&debouncer) <= PresentKeys::SHRINK_FROM, "{}", capacity(&debouncer));
    assert!(debouncer.delayed.is_empty() && debouncer.due.is_empty());
}
