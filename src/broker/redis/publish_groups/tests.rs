use super::*;
use crate::{
    broker::{
        IdempotencyKey, PublishError,
        redis::{
            clock::now,
            coordinator::testbed::{APP, Testbed, channel_name},
            publish::{OutgoingEvent, PartitionPublish},
            reason::was_rejected,
            simulation::network::{Late, WireFilter},
        },
    },
    channel::Counts,
    hub::Delivery,
    protocol::{EventData, event},
};
use futures_util::future::join_all;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn event(channel: &str, data: &str, key: Option<&str>) -> OutgoingEvent {
    let channel = channel_name(channel);
    let frame = event::app_event("e", &channel, &EventData::new(data), now());
    let publish_id =
        key.map(|key| IdempotencyKey::parse(key).expect("a good key").publish_id(&channel, "e"));
    OutgoingEvent {
        channel,
        frame,
        except: None,
        retention: Duration::ZERO,
        publish_id,
        history: None,
    }
}

/// Publishes events at once, each by a publish of its own.
async fn publish(
    testbed: &Testbed,
    events: impl IntoIterator<Item = OutgoingEvent>,
) -> Vec<Result<Vec<Counts>, PublishError>> {
    let each = events.into_iter().map(|event| {
        let shared = Arc::clone(&testbed.coordinator.shared);
        async move { shared.publish(&APP.into(), &[event], usize::MAX).await }
    });
    join_all(each).await
}

/// A node that has joined, with a subscriber of each channel.
async fn with_subscribers(is_redis_cluster: bool, channels: &[&str]) -> Testbed {
    let mut testbed = Testbed::joined(is_redis_cluster).await;
    for (slot, channel) in (0..).zip(channels) {
        testbed.subscribe(slot, channel, None);
    }
    testbed.until_synced().await;
    testbed.deliveries();
    testbed
}

/// The data of the events that the node delivers within a second, in order.
async fn delivered(testbed: &mut Testbed) -> Vec<String> {
    testbed.run_for(SECOND).await;
    let data = testbed.deliveries().into_iter().filter_map(|delivery| {
        let Delivery::Channel { frame, .. } = delivery else { return None };
        let text = String::from_utf8_lossy(frame.bytes()).into_owned();
        let (_, data) = text.split_once(r#""data":""#)?;
        let (data, _) = data.split_once('"')?;
        text.contains(r#""event":"e""#).then(|| data.to_owned())
    });
    data.collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn publishes_of_one_turn_are_one_command_and_stay_in_order() {
    let mut testbed = with_subscribers(false, &["a", "b"]).await;
    let before = testbed.network.commands("redis0", 6379);
    let events = numbers(20);
    let events = events.iter().map(|data| event("a", data, None));
    let results = publish(&testbed, events.chain([event("b", "20", None)])).await;
    assert_eq!(testbed.network.commands("redis0", 6379) - before, 1);
    assert!(
        results.iter().all(|result| matches!(result, Ok(counts) if counts[0].subscriptions == 1))
    );
    assert_eq!(delivered(&mut testbed).await, numbers(21));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_publish_rejects_no_other() {
    let mut testbed = with_subscribers(false, &["a"]).await;
    let (key, partition) = testbed.channel("b");
    testbed.ask(partition, &["HSET", &key, "s", "many"]);
    let channels = ["a", "b", "a"];
    let events = (0..).zip(channels).map(|(data, on)| event(on, &i32::to_string(&data), None));
    let began = now();
    let results = publish(&testbed, events).await;
    assert_eq!(results[1], Err(PublishError::NotDelivered), "it is retried until its deadline");
    assert!(results[0].is_ok() && results[2].is_ok());
    assert!(2 * SECOND <= now() - began);
    assert_eq!(delivered(&mut testbed).await, ["0", "2"]);
}

#[tokio::test(start_paused = true)]
async fn each_publish_of_a_group_has_its_own_deadline() {
    let mut testbed = with_subscribers(false, &["a"]).await;
    let shared = Arc::clone(&testbed.coordinator.shared);
    let link = shared.joined_now().unwrap();
    let partition = testbed.channel("a").1;
    let before = testbed.network.commands("redis0", 6379);
    let run = |number: u64, deadline| {
        let (event, app_id) = (event("a", &number.to_string(), None), Arc::<str>::from(APP));
        let (shared, link) = (Arc::clone(&shared), link.clone());
        async move {
            let batch = PartitionPublish { partition, events: vec![&event], positions: vec![0] };
            let ids = [shared.envelope_id()];
            let options = (deadline, false, 0);
            let (call, _) = shared.publish_call(&app_id, &batch, &ids, options, &link.token);
            let reply = shared.run_publish(call, link).await.unwrap();
            ScriptReply::new(reply).unwrap().status().unwrap().0
        }
    };
    let (past, soon) = (now() - SECOND, now() + SECOND);
    let statuses = join_all([run(0, soon), run(1, past), run(2, soon)]).await;
    assert_eq!(statuses, [Status::Done, Status::Late, Status::Done]);
    assert_eq!(testbed.network.commands("redis0", 6379) - before, 1);
    assert_eq!(delivered(&mut testbed).await, ["0", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_link_is_lost_is_published_once_over_the_next() {
    for late in [Late::Lost, Late::After(SECOND / 10)] {
        let mut testbed = with_subscribers(false, &["a"]).await;
        let sequence = |testbed: &Testbed| {
            let (key, partition) = testbed.channel("a");
            testbed.field(partition, &key, "s").parse::<u64>().unwrap()
        };
        let (before, events) = (sequence(&testbed), numbers(5));
        let shared = Arc::clone(&testbed.coordinator.shared);
        let publishing = tokio::spawn(join_all(events.into_iter().map(|data| {
            let (shared, event) = (Arc::clone(&shared), event("a", &data, None));
            async move { shared.publish(&APP.into(), &[event], usize::MAX).await }
        })));
        // The group is sent, and has not arrived.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert!(0 < testbed.network.cut(&WireFilter::all(), late));
        let mut data = delivered(&mut testbed).await;
        data.extend(delivered(&mut testbed).await);
        assert!(publishing.await.unwrap().iter().all(Result::is_ok), "{late:?}");
        assert_eq!(sequence(&testbed) - before, 5, "{late:?}: once");
        // What has arrived late was published while the node had no link, and its subscribers have missed it.
        data.sort();
        let expected = if matches!(late, Late::Lost) { numbers(5) } else { Vec::new() };
        assert_eq!(data, expected, "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_published_by_a_server_that_has_lost_its_scripts() {
    let mut testbed = with_subscribers(false, &["a"]).await;
    testbed.ask(testbed.channel("a").1, &["SCRIPT", "FLUSH"]);
    let events = numbers(3);
    let results = publish(&testbed, events.iter().map(|data| event("a", data, None))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(delivered(&mut testbed).await, numbers(3));
}

#[tokio::test(start_paused = true)]
async fn a_key_twice_in_a_group_is_published_once() {
    let mut testbed = with_subscribers(false, &["a"]).await;
    let events = [("0", Some("k")), ("1", Some("k")), ("2", None), ("3", Some("l"))];
    let results = publish(&testbed, events.map(|(data, key)| event("a", data, key))).await;
    assert!(
        results.iter().all(|result| matches!(result, Ok(counts) if counts[0].subscriptions == 1))
    );
    assert_eq!(delivered(&mut testbed).await, ["0", "2", "3"]);
    assert_eq!(testbed.coordinator.shared.metrics.repeated.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn groups_of_a_redis_cluster_are_those_of_partitions() {
    let channels = ["a", "b", "c"];
    let mut testbed = with_subscribers(true, &channels).await;
    let commands = |testbed: &Testbed| -> u64 {
        ["redis0", "redis1", "redis2"].iter().map(|host| testbed.network.commands(host, 6379)).sum()
    };
    let events = numbers(60);
    let events =
        (0..).zip(&events).map(|(at, data): (usize, _)| event(channels[at % 3], data, None));
    let before = commands(&testbed);
    let results = publish(&testbed, events).await;
    assert!(results.iter().all(Result::is_ok));
    // The servers may have been asked for their maps meanwhile.
    let sent = commands(&testbed) - before;
    assert!((3..20).contains(&sent), "{sent} commands for three partitions");
    let mut data = delivered(&mut testbed).await;
    data.sort_by_key(|number| number.parse::<u32>().unwrap());
    assert_eq!(data, numbers(60));
}

#[tokio::test(start_paused = true)]
async fn a_large_publish_is_sent_alone_and_a_cancelled_one_is_not() {
    let mut testbed = with_subscribers(false, &["a"]).await;
    let before = testbed.network.commands("redis0", 6379);
    let large = "x".repeat(BYTES_MAX);
    let shared = Arc::clone(&testbed.coordinator.shared);
    let cancelled = event("a", "cancelled", None);
    let app_id = Arc::from(APP);
    let events = [cancelled];
    let mut cancelled = Box::pin(shared.publish(&app_id, &events, usize::MAX));
    assert!(futures_util::FutureExt::now_or_never(cancelled.as_mut()).is_none());
    drop(cancelled);
    let events = [("0"), (&*large), ("1")].map(|data| event("a", data, None));
    let results = publish(&testbed, events).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(testbed.network.commands("redis0", 6379) - before, 3);
    assert_eq!(delivered(&mut testbed).await, ["0", &*large, "1"]);
}

#[test]
fn a_group_without_a_reply_for_each_publish_has_none_for_any() {
    let text = |text: &str| Value::BulkString(text.into());
    let one = Value::Array(vec![text("ok"), Value::Int(1)]);
    let head = [text("ok"), Value::Int(1)];
    let replies = |values: &[Value]| split_reply(Value::Array(values.to_vec()), 2);
    let [first, second] = head.clone();
    let whole = [first.clone(), second.clone(), one.clone(), one.clone()];
    assert!(replies(&whole).iter().all(|reply| *reply.as_ref().unwrap() == one));
    let nothing = |replies: Vec<RedisResult<Value>>| {
        assert_eq!(replies.len(), 2);
        assert!(replies.iter().all(|reply| matches!(reply, Ok(Value::Nil))));
    };
    nothing(replies(&whole[..3]));
    nothing(replies(&[]));
    nothing(split_reply(Value::Okay, 2));
    let fenced = [text("fenced"), Value::Int(1)];
    assert!(
        replies(&fenced).iter().all(|one| *one.as_ref().unwrap() == Value::Array(fenced.to_vec()))
    );
}

#[test]
fn the_error_of_one_publish_has_the_code_of_redis() {
    let error = |text: &str| {
        let texts = ["failed", text].map(|text| Value::BulkString(text.into()));
        reply_of_one(Value::Array(texts.to_vec())).unwrap_err()
    };
    let (oom, other) = (error("OOM command not allowed"), error("user_script:7: ERR no number"));
    assert_eq!((oom.code(), oom.detail()), (Some("OOM"), Some("command not allowed")));
    assert_eq!((other.code(), other.detail()), (Some("ERR"), Some("user_script:7: ERR no number")));
    assert!([oom, other].iter().all(was_rejected));
}
