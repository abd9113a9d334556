use super::*;
use crate::{
    broker::redis::{
        channel_logs::LogDrops,
        coordinator::testbed::{APP, Testbed, channel_name},
    },
    protocol::{EventData, event},
};
use redis::Value;

fn event(channel: &str, retention: Duration) -> OutgoingEvent {
    let channel = channel_name(channel);
    let frame = event::app_event("e", &channel, &EventData::new("1"), now());
    OutgoingEvent { channel, frame, except: None, retention, publish_id: None, history: None }
}

#[test]
fn cache_channels_keep_events_within_the_limit() {
    let minute = Duration::from_mins(1);
    let plain = event("a", minute);
    assert_eq!(plain.retention_ms(usize::MAX), 0, "not a cache channel");
    let cached = event("cache-a", minute);
    let bytes = cached.cache_bytes();
    assert_eq!(bytes, cached.frame.bytes().len() + "cache-a".len() + 256, "and an overhead");
    assert_eq!(cached.retention_ms(bytes), 60_000, "it fits exactly");
    assert_eq!(cached.retention_ms(bytes - 1), -1, "it is too large");
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_a_publish_have_the_positions_of_their_events() {
    let testbed = Testbed::new(true);
    let events: Vec<_> =
        (0..6).map(|number| event(&format!("{}", number % 3), Duration::ZERO)).collect();
    let parts = testbed.coordinator.shared.batches(APP, &events);
    let mut positions: Vec<usize> = Vec::new();
    for part in &parts {
        for (event, position) in part.events.iter().zip(&part.positions) {
            assert_eq!(event.channel, events[*position].channel);
            let partition = testbed.channel(event.channel.as_str()).1;
            assert_eq!(part.partition, partition);
        }
        positions.extend(&part.positions);
    }
    positions.sort_unstable();
    assert_eq!((parts.len(), positions), (3, (0..6).collect()));
}

#[test]
fn a_receipt_is_parsed() {
    let text = |text: &str| Value::BulkString(text.into());
    let reply = |status: &str| {
        let numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1].map(Value::Int);
        Value::Array([text(status)].into_iter().chain(numbers).collect())
    };
    let Some((AttemptOutcome::Done(parsed), 1)) = parse_publish_reply(reply("ok"), 2, false) else {
        panic!("done")
    };
    let receipts: Vec<_> = parsed
        .receipts
        .iter()
        .map(|one| (one.counts.subscriptions, one.counts.users, one.sequence))
        .collect();
    assert_eq!(receipts, [(3, 4, 5), (6, 7, 8)]);
    assert_eq!((parsed.at_us, parsed.is_logged), (2, true));
    assert_eq!(parsed.dropped, LogDrops { of_channel: 9, of_partition: 10 });
    assert!(matches!(parse_publish_reply(reply("late"), 2, true), Some((AttemptOutcome::Late, 1))));
    assert!(matches!(
        parse_publish_reply(reply("fenced"), 2, false),
        Some((AttemptOutcome::Fenced, 1))
    ));
    assert!(parse_publish_reply(reply("ok"), 3, false).is_none(), "one receipt is missing");
}

#[test]
fn the_receipts_of_events_with_keys_say_which_were_repeated() {
    let reply = |last: &[i64]| {
        let numbers = [1, 2, 3, 4, 5, 6, 7, 8].iter().chain(last).map(|number| Value::Int(*number));
        Value::Array([Value::BulkString("ok".into())].into_iter().chain(numbers).collect())
    };
    let parsed = parse_publish_reply(reply(&[0, 1, 0, 0, 0]), 2, true);
    let Some((AttemptOutcome::Done(PublishReply { receipts, .. }), _)) = parsed else {
        panic!("done")
    };
    assert_eq!([receipts[0].is_repeated, receipts[1].is_repeated], [false, true]);
    assert!(parse_publish_reply(reply(&[0, 0, 0, 0]), 2, true).is_none(), "a number is missing");
    let events = ["cache-a", "cache-b"].map(|channel| event(channel, Duration::from_mins(1)));
    let ids = [EnvelopeId(1), EnvelopeId(2)];
    let batch = PublishedBatch::new(&[&events[0], &events[1]], &ids, usize::MAX, (receipts, 2));
    assert_eq!((batch.counts.len(), batch.repeated, batch.cached.len()), (2, 1, 1));
    assert_eq!(batch.cached[0].id, ids[0], "the index keeps the first event of the other channel");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_on_a_redis_cluster_is_over_before_the_next_begins() {
    let requested_at = now();
    let (long, short) =
        (requested_at + Duration::from_secs(2), requested_at + Duration::from_millis(100));
    for (is_redis_cluster, expected) in
        [(true, requested_at + Duration::from_millis(500)), (false, long)]
    {
        let testbed = Testbed::new(is_redis_cluster);
        let shared = &testbed.coordinator.shared;
        assert_eq!(shared.attempt_deadline(requested_at, long), expected);
        assert_eq!(shared.attempt_deadline(requested_at, short), short, "the publish is over");
        shared.set_round_trip(Duration::from_millis(300));
        let distant =
            if is_redis_cluster { requested_at + Duration::from_millis(900) } else { long };
        assert_eq!(shared.attempt_deadline(requested_at, long), distant, "three round trips");
    }
}

/// Heartbeats learn the clock as well. A publish does not wait for them.
#[tokio::test(start_paused = true)]
async fn a_late_publish_learns_the_clock_and_is_accepted() {
    let testbed = Testbed::joined(true).await;
    let (_, partition) = testbed.channel("a");
    testbed.network.step_clock(testbed.server_of(partition), 6379, 3_600_000);
    let shared = Arc::clone(&testbed.coordinator.shared);
    let published = shared.publish(&APP.into(), &[event("a", Duration::ZERO)], usize::MAX).await;
    assert_eq!(published, Ok(vec![Counts::default()]));
}
