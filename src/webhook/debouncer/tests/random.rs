//! Random sequences of events, times and readers.

use super::*;
use crate::webhook::record;

/// The state that an application derives from the reported events: whether each key is
/// present.
#[derive(Default)]
struct Consumer(HashMap<DebounceKey, bool>);

/// Whether the event is an arrival or a departure; `None` for unpaired events.
fn came(hub_event: &HubEvent) -> Option<bool> {
    match hub_event.kind() {
        WebhookEvent::ChannelOccupied | WebhookEvent::MemberAdded | WebhookEvent::UserOnline => {
            Some(true)
        }
        WebhookEvent::ChannelVacated | WebhookEvent::MemberRemoved | WebhookEvent::UserOffline => {
            Some(false)
        }
        WebhookEvent::ClientEvent | WebhookEvent::CacheMiss | WebhookEvent::SubscriptionCount => {
            None
        }
    }
}

impl Consumer {
    fn receive(&mut self, hub_event: &HubEvent, context: &str) {
        if let (Some(came), Some(key)) = (came(hub_event), DebounceKey::of(hub_event)) {
            let was_present = self.0.insert(key, came).unwrap_or(false);
            assert_ne!(was_present, came, "{context}: {hub_event:?} does not alternate");
        }
    }

    fn assert_state(&self, expected: HashMap<DebounceKey, bool>, context: &str) {
        for (key, is_here) in expected {
            let known = self.0.get(&key).copied().unwrap_or(false);
            assert_eq!(known, is_here, "{context}: {key}");
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
        let (mut debouncer, mut consumer) = (Debouncer::for_memory_log(), Consumer::default());
        let (mut expected, mut ready) = (HashMap::new(), Vec::new());
        for step in 0..400 {
            now_ms += random.random_range(0..900);
            if random.random_bool(0.3) {
                debouncer.advance(now_ms, &mut ready);
            } else {
                let hub_event = random_hub_event(&mut random);
                if let (Some(came), Some(key)) = (came(&hub_event), DebounceKey::of(&hub_event)) {
                    expected.insert(key, came);
                }
                debouncer.apply(now_ms, hub_event, &mut ready);
            }
            for hub_event in ready.drain(..) {
                consumer.receive(&hub_event, &format!("seed {seed} step {step}"));
            }
        }
        debouncer.advance(now_ms + ms(Debouncer::DELAY), &mut ready);
        for hub_event in &ready {
            consumer.receive(hub_event, &format!("seed {seed} at the end"));
        }
        consumer.assert_state(expected, &format!("seed {seed}"));
    }
}

/// The part of Redis that a reader of the log uses.
#[derive(Default)]
struct StoredLog {
    log: Vec<Vec<u8>>,
    delayed: HashMap<String, String>,
}

/// For any sequence of events and times, any split of the log into parts, and readers that die
/// between reading and committing: reported events alternate, are reported exactly once, and in
/// the end the application's state is correct.
#[test]
fn reported_events_alternate_whichever_reader_dies() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut now_ms = 1_000_000;
        let (mut kept, mut debouncer) = (StoredLog::default(), of_redis());
        let (mut expected, mut consumer) = (HashMap::new(), Consumer::default());
        for step in 0..400 {
            now_ms += random.random_range(0..900);
            let member = format!("{}", random.random_range(0..3));
            let hub_event = next(&mut expected, &member, step % 2 == 0);
            let record = format!("{now_ms} {}", record::encode(&hub_event));
            kept.log.push(record.into_bytes());
            if random.random_bool(0.3) {
                let some = random.random_range(0..=kept.log.len());
                let is_committed = random.random_bool(0.7);
                read(&mut kept, &mut debouncer, (some, now_ms), is_committed, &mut consumer);
            }
        }
        let all = kept.log.len();
        read(&mut kept, &mut debouncer, (all, now_ms + ms(Debouncer::DELAY)), true, &mut consumer);
        assert!(kept.delayed.is_empty() && kept.log.is_empty());
        consumer.assert_state(expected, &format!("seed {seed}"));
    }
}

/// The next event of a channel or of its member: the opposite of the last one.
fn next(expected: &mut HashMap<DebounceKey, bool>, id: &str, is_member: bool) -> HubEvent {
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
    let is_here = expected.entry(DebounceKey::of(&arrival).unwrap()).or_default();
    *is_here = !*is_here;
    if *is_here { arrival } else { departure }
}

/// Reads this many records; a reader that dies before its commit is replaced.
fn read(
    kept: &mut StoredLog,
    debouncer: &mut Debouncer,
    (some, now_ms): (usize, u64),
    is_committed: bool,
    consumer: &mut Consumer,
) {
    let mut ready = Vec::new();
    for record in &kept.log[..some] {
        let (at_ms, hub_event) = record::parse(record).unwrap();
        debouncer.apply(at_ms, hub_event, &mut ready);
    }
    if some == kept.log.len() {
        debouncer.advance(now_ms, &mut ready);
    }
    if is_committed {
        kept.log.drain(..some);
        for (name, delayed) in debouncer.take_changes() {
            if delayed.is_empty() {
                kept.delayed.remove(&name)
            } else {
                kept.delayed.insert(name, delayed)
            };
        }
        for hub_event in ready {
            consumer.receive(&hub_event, "a reader");
        }
    } else {
        let delayed = kept.delayed.iter().map(|(name, delayed)| (name.clone(), delayed.clone()));
        *debouncer = Debouncer::for_redis_log(delayed.collect());
    }
}
