use super::*;
use crate::broker::redis::{
    clock::now,
    coordinator::testbed::{APP, channel_name},
    partition::Partition,
};

const LEASES: Partition = Partition::LEASES;

fn name(subject: TopicSubject) -> TopicName {
    TopicName { app_id: APP.into(), subject }
}

fn channel(channel: &str) -> TopicName {
    name(TopicSubject::Channel(channel_name(channel)))
}

#[test]
fn channels_and_users_are_listed_in_their_indexes() {
    let shared = ClusterState::new("test", false, Duration::from_secs(1));
    let user = name(TopicSubject::User("u".into()));
    let channels = shared.names.channel_index_key(APP, LEASES);
    assert_eq!(index_of(&shared, &channel("a")), Some(channels.clone()));
    assert_eq!(index_of(&shared, &channel("presence-a")), Some(channels));
    assert_eq!(index_of(&shared, &user), Some(shared.names.user_index_key(APP, LEASES)));
    assert_eq!(index_of(&shared, &channel("#server-to-user-u")), None);
    assert_eq!(index_of(&shared, &name(TopicSubject::Connections)), None);
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
        let (flags, last, field, max_members, max_total) = subject_params(&shared, subject, config);
        (flags, last.ends_with(":none"), field.to_owned(), max_members, max_total)
    };
    let uncounted = AppConfig { subscription_count: false, ..config.clone() };
    for (subject, config, flags, has_none, field, limits) in [
        (channel("a"), &config, "t", false, "a", (7, 0)),
        (channel("a"), &uncounted, "", false, "a", (7, 0)),
        (channel("presence-a"), &config, "", false, "presence-a", (7, 0)),
        (channel("#server-to-user-u"), &config, "", false, "#server-to-user-u", (7, 0)),
        (name(TopicSubject::User("u".into())), &config, "o", true, "u", (0, 0)),
        (name(TopicSubject::Connections), &config, "", true, "", (0, 9)),
    ] {
        let expected = (flags.to_owned(), has_none, field.to_owned(), limits.0, limits.1);
        assert_eq!(of(&subject, config), expected, "{subject:?}");
    }
}

pub(in crate::broker::redis) fn reply(status: &str, redis_ms: i64) -> Value {
    let text = |text: &str| Value::BulkString(text.into());
    let list = |texts: &[&str]| Value::Array(texts.iter().map(|one| text(one)).collect());
    let numbers = [2, 3, 4, 5, 6].map(Value::Int);
    let mut values = vec![text(status), Value::Int(redis_ms), text("epoch")];
    values.extend(numbers);
    values.extend([text("10"), list(&["u", "{}"]), text(""), Value::Int(0), Value::Int(1)]);
    values.extend([Value::Array(Vec::new()), Value::BulkString(7_u64.to_be_bytes().into())]);
    values.extend([text(""), Value::Array(Vec::new())]);
    Value::Array(values)
}

#[test]
fn a_reply_is_parsed() {
    let Ok((SyncOutcome::Done(synced), 77)) = parse_sync_reply(reply("ok", 77), now()) else {
        panic!("done")
    };
    assert_eq!((&*synced.epoch, synced.version, synced.sequence), ("epoch", 2, 3));
    assert_eq!((synced.total, synced.own_total), (4, 6));
    assert_eq!(synced.accepted, [true, false]);
    assert_eq!(synced.members, [("u".into(), "{}".into())]);
    assert_eq!(synced.last_event_id, Some(EnvelopeId(7)));
    assert!(
        synced.webhook_log_became_nonempty
            && synced.cached_event.is_none()
            && synced.changes.is_empty()
            && synced.log.is_none()
    );
    assert!(matches!(parse_sync_reply(reply("late", 78), now()), Ok((SyncOutcome::Late, 78))));
    assert!(matches!(parse_sync_reply(reply("fenced", 79), now()), Ok((SyncOutcome::Fenced, 79))));
    assert!(parse_sync_reply(reply("more", 1), now()).is_err());
}
