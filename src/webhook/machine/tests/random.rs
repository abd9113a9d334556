//! Random sequences of events, times and readers.

use super::*;
use crate::webhook::record;

/// What an application believes that has received the reported events: whether each subject is
/// present.
#[derive(Default)]
struct Consumer(HashMap<Subject, bool>);

/// Whether the event is an arrival or a departure; `None` for momentary events.
fn came(hub_event: &HubEvent) -> Option<bool> {
    match hub_event.kind() {
        Kind::ChannelOccupied | Kind::MemberAdded | Kind::UserOnline => Some(true),
        Kind::ChannelVacated | Kind::MemberRemoved | Kind::UserOffline => Some(false),
        Kind::ClientEvent | Kind::CacheMiss | Kind::SubscriptionCount => None,
    }
}

impl Consumer {
    fn hears(&mut self, hub_event: &HubEvent, context: &str) {
        if let (Some(came), Some(subject)) = (came(hub_event), Subject::of(hub_event)) {
            let was_here = self.0.insert(subject, came).unwrap_or(false);
            assert_ne!(was_here, came, "{context}: {hub_event:?} does not alternate");
        }
    }

    fn assert_believes(&self, truth: HashMap<Subject, bool>, context: &str) {
        for (subject, is_here) in truth {
            let believed = self.0.get(&subject).copied().unwrap_or(false);
            assert_eq!(believed, is_here, "{context}: {subject}");
        }
    }
}

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

/// For any sequence of events and times, even with gaps: reported events alternate, and in the end
/// the application's state is correct.
#[test]
fn reported_events_alternate_for_any_sequence() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut now_ms = 0;
        let (mut machine, mut consumer) = (Machine::of_memory(), Consumer::default());
        let (mut truth, mut ready) = (HashMap::new(), Vec::new());
        for step in 0..400 {
            now_ms += random.random_range(0..900);
            if random.random_bool(0.3) {
                machine.advance(now_ms, &mut ready);
            } else {
                let hub_event = random_hub_event(&mut random);
                if let (Some(came), Some(subject)) = (came(&hub_event), Subject::of(&hub_event)) {
                    truth.insert(subject, came);
                }
                machine.apply(now_ms, hub_event, &mut ready);
            }
            for hub_event in ready.drain(..) {
                consumer.hears(&hub_event, &format!("seed {seed} step {step}"));
            }
        }
        machine.advance(now_ms + ms(Machine::DELAY), &mut ready);
        for hub_event in &ready {
            consumer.hears(hub_event, &format!("seed {seed} at the end"));
        }
        consumer.assert_believes(truth, &format!("seed {seed}"));
    }
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
        let (mut kept, mut machine) = (StoredLog::default(), of_redis());
        let (mut truth, mut consumer) = (HashMap::new(), Consumer::default());
        for step in 0..400 {
            now_ms += random.random_range(0..900);
            let member = format!("{}", random.random_range(0..3));
            let hub_event = next(&mut truth, &member, step % 2 == 0);
            let record = format!("{now_ms} {}", record::encode(&hub_event));
            kept.log.push(record.into_bytes());
            if random.random_bool(0.3) {
                let some = random.random_range(0..=kept.log.len());
                let is_committed = random.random_bool(0.7);
                read(&mut kept, &mut machine, (some, now_ms), is_committed, &mut consumer);
            }
        }
        let all = kept.log.len();
        read(&mut kept, &mut machine, (all, now_ms + ms(Machine::DELAY)), true, &mut consumer);
        assert!(kept.held.is_empty() && kept.log.is_empty());
        consumer.assert_believes(truth, &format!("seed {seed}"));
    }
}

/// The next event of a channel or of its member: the opposite of the last one.
fn next(truth: &mut HashMap<Subject, bool>, id: &str, is_member: bool) -> HubEvent {
    let channel = channel(&format!("presence-{id}"));
    let user_id: Arc<str> = "u 1".into();
    let [arrival, departure] = if is_member {
        [
            HubEvent::MemberAdded { channel: channel.clone(), user_id: Arc::clone(&user_id) },
            HubEvent::MemberRemoved { channel, user_id },
        ]
    } else {
        [HubEvent::Occupied { channel: channel.clone() }, HubEvent::Vacated { channel }]
    };
    let is_here = truth.entry(Subject::of(&arrival).unwrap()).or_default();
    *is_here = !*is_here;
    if *is_here { arrival } else { departure }
}

/// Reads this many records; a reader that dies before its commit is replaced.
fn read(
    kept: &mut StoredLog,
    machine: &mut Machine,
    (some, now_ms): (usize, u64),
    is_committed: bool,
    consumer: &mut Consumer,
) {
    let mut ready = Vec::new();
    for record in &kept.log[..some] {
        let (at_ms, hub_event) = record::parse(record).unwrap();
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
            consumer.hears(&hub_event, "a reader");
        }
    } else {
        let held = kept.held.iter().map(|(name, held)| (name.clone(), held.clone()));
        *machine = Machine::of_redis(held.collect());
    }
}
