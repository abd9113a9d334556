use super::*;
use crate::cluster::coordinator::testbed::{APP, Testbed, channel_name};

const HOME: Partition = Partition::HOME;

fn name(subject: Subject) -> TopicName {
    TopicName { app_id: APP.into(), subject }
}

fn channel(channel: &str) -> TopicName {
    name(Subject::Channel(channel_name(channel)))
}

#[test]
fn channels_and_users_are_listed_in_their_indexes() {
    let shared = ClusterState::new("test", false, Duration::from_secs(1));
    let user = name(Subject::User("u".into()));
    let channels = shared.names.channel_index(APP, HOME);
    assert_eq!(index_of(&shared, &channel("a")), Some(channels.clone()));
    assert_eq!(index_of(&shared, &channel("presence-a")), Some(channels));
    assert_eq!(index_of(&shared, &user), Some(shared.names.user_index(APP, HOME)));
    assert_eq!(index_of(&shared, &channel("#server-to-user-u")), None);
    assert_eq!(index_of(&shared, &name(Subject::Connections)), None);
}

#[test]
fn each_subject_has_its_flags_and_limits() {
    let shared = ClusterState::new("test", false, Duration::from_secs(1));
    let config = AppConfig {
        subscription_count: true,
        max_presence_members: 7,
        max_connections: 9,
        ..AppConfig::development()
    };
    let of = |subject: &TopicName, config: &AppConfig| {
        let (flags, last, field, most, largest) = about(&shared, subject, config);
        (flags, last.ends_with(":none"), field.to_owned(), most, largest)
    };
    let uncounted = AppConfig { subscription_count: false, ..config.clone() };
    for (subject, config, flags, has_none, field, limits) in [
        (channel("a"), &config, "t", false, "a", (7, 0)),
        (channel("a"), &uncounted, "", false, "a", (7, 0)),
        (channel("presence-a"), &config, "", false, "presence-a", (7, 0)),
        (channel("#server-to-user-u"), &config, "", false, "#server-to-user-u", (7, 0)),
        (name(Subject::User("u".into())), &config, "o", true, "u", (0, 0)),
        (name(Subject::Connections), &config, "", true, "", (0, 9)),
    ] {
        let expected = (flags.to_owned(), has_none, field.to_owned(), limits.0, limits.1);
        assert_eq!(of(&subject, config), expected, "{subject:?}");
    }
}

fn answer(status: &str, redis_ms: i64) -> Value {
    let text = |text: &str| Value::BulkString(text.into());
    let list = |texts: &[&str]| Value::Array(texts.iter().map(|one| text(one)).collect());
    let numbers = [2, 3, 4, 5, 6].map(Value::Int);
    let mut values = vec![text(status), Value::Int(redis_ms), text("epoch")];
    values.extend(numbers);
    values.extend([text("10"), list(&["u", "{}"]), text(""), Value::Int(0), Value::Int(1)]);
    values.extend([Value::Array(Vec::new()), Value::BulkString(7_u64.to_be_bytes().into())]);
    Value::Array(values)
}

#[test]
fn an_answer_is_parsed() {
    let Ok((SyncOutcome::Done(synced), 77)) = read(answer("ok", 77), now()) else { panic!("done") };
    assert_eq!((&*synced.epoch, synced.version, synced.sequence), ("epoch", 2, 3));
    assert_eq!((synced.total, synced.mine), (4, 6));
    assert_eq!(synced.accepted, [true, false]);
    assert_eq!(synced.members, [("u".into(), "{}".into())]);
    assert_eq!(synced.latest, Some(EnvelopeId(7)));
    assert!(synced.is_logged && synced.last.is_none() && synced.changes.is_empty());
    assert!(matches!(read(answer("late", 78), now()), Ok((SyncOutcome::Late, 78))));
    assert!(matches!(read(answer("other", 79), now()), Ok((SyncOutcome::Refused, 79))));
    assert!(read(answer("more", 1), now()).is_err());
}

/// A node with a sync in flight, whose answer the test makes.
async fn asserting() -> (Testbed, Arc<str>) {
    let mut testbed = Testbed::joined(false).await;
    testbed.subscribe(1, "a", None);
    testbed.settle().await;
    let topic: Arc<str> = testbed.channel("a").0.into();
    (testbed, topic)
}

fn answered(testbed: &Testbed, topic: &Arc<str>, answer: RedisResult<Value>) -> SyncAnswer {
    SyncAnswer {
        topic: Arc::clone(topic),
        attempt: testbed.coordinator.topics[topic].attempt,
        partition: HOME,
        is_full: false,
        was_provisional: false,
        bytes: 0,
        asked: now(),
        answer,
    }
}

fn is_away(testbed: &Testbed) -> bool {
    testbed.coordinator.connection.is_none()
}

#[tokio::test(start_paused = true)]
async fn answers_update_the_clock_of_redis() {
    for (status, late) in [("ok", 0), ("late", 1)] {
        let (mut testbed, topic) = asserting().await;
        testbed.coordinator.in_flight.add(0);
        let answer = answered(&testbed, &topic, Ok(answer(status, 5_000_000)));
        testbed.coordinator.on_synced(answer);
        assert_eq!(testbed.coordinator.shared.clock.at(HOME, now()), 5_000_000, "{status}");
        assert_eq!(testbed.coordinator.shared.metrics.late.get(), late);
        assert_eq!(testbed.coordinator.in_flight.commands, 0);
        assert!(!is_away(&testbed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_sync_is_repeated() {
    let (mut testbed, topic) = asserting().await;
    testbed.coordinator.in_flight.add(0);
    let answer = answered(&testbed, &topic, Ok(answer("late", 1)));
    testbed.coordinator.on_synced(answer);
    assert!(!testbed.coordinator.topics[&topic].has_settled());
    testbed.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_sync_closes_the_link() {
    let refusal = redis::make_extension_error("OOM".to_owned(), None);
    let lost = std::io::Error::from(std::io::ErrorKind::TimedOut).into();
    for (result, ends) in [
        (Ok(answer("ok", 1)), false),
        (Ok(answer("other", 1)), true),
        (Ok(Value::Int(1)), true),
        (Err(refusal), true),
        (Err(lost), false),
    ] {
        let (mut testbed, topic) = asserting().await;
        testbed.coordinator.in_flight.add(0);
        let what = format!("{result:?}");
        let answer = answered(&testbed, &topic, result);
        testbed.coordinator.on_synced(answer);
        assert_eq!(is_away(&testbed), ends, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_an_earlier_attempt_is_discarded() {
    let (mut testbed, topic) = asserting().await;
    testbed.coordinator.in_flight.add(0);
    let mut earlier = answered(&testbed, &topic, Ok(answer("other", 1)));
    earlier.attempt = earlier.attempt.wrapping_sub(1);
    testbed.coordinator.on_synced(earlier);
    assert!(!is_away(&testbed));
    assert_eq!(testbed.coordinator.in_flight.commands, 0, "but it is not in flight any more");
}
