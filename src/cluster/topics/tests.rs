use super::*;
use crate::cluster::{
    coordinator::{Completion, testbed::Testbed},
    sync::tests::answer,
};

const HOME: Partition = Partition::HOME;

fn answer_with(testbed: &mut Testbed, answer: SyncAnswer) {
    testbed.coordinator.on_completion(Completion::Topic(TopicAnswer::Synced(answer)));
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
        attempt: testbed.coordinator.topics.all[topic].attempt,
        partition: HOME,
        is_full: false,
        was_provisional: false,
        bytes: 0,
        asked: now(),
        answer,
    }
}

fn is_away(testbed: &Testbed) -> bool {
    testbed.coordinator.link.connection.is_none()
}

#[tokio::test(start_paused = true)]
async fn answers_update_the_clock_of_redis() {
    for (status, late) in [("ok", 0), ("late", 1)] {
        let (mut testbed, topic) = asserting().await;
        testbed.coordinator.topics.in_flight.add(0);
        let answer = answered(&testbed, &topic, Ok(answer(status, 5_000_000)));
        answer_with(&mut testbed, answer);
        assert_eq!(testbed.coordinator.shared.clock.at(HOME, now()), 5_000_000, "{status}");
        assert_eq!(testbed.coordinator.shared.metrics.late.get(), late);
        assert_eq!(testbed.coordinator.topics.in_flight.commands, 0);
        assert!(!is_away(&testbed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_sync_is_repeated() {
    let (mut testbed, topic) = asserting().await;
    testbed.coordinator.topics.in_flight.add(0);
    let answer = answered(&testbed, &topic, Ok(answer("late", 1)));
    answer_with(&mut testbed, answer);
    assert!(!testbed.coordinator.topics.all[&topic].has_settled());
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
        testbed.coordinator.topics.in_flight.add(0);
        let what = format!("{result:?}");
        let answer = answered(&testbed, &topic, result);
        answer_with(&mut testbed, answer);
        assert_eq!(is_away(&testbed), ends, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_an_earlier_attempt_is_discarded() {
    let (mut testbed, topic) = asserting().await;
    testbed.coordinator.topics.in_flight.add(0);
    let mut earlier = answered(&testbed, &topic, Ok(answer("other", 1)));
    earlier.attempt = earlier.attempt.wrapping_sub(1);
    answer_with(&mut testbed, earlier);
    assert!(!is_away(&testbed));
    assert_eq!(
        testbed.coordinator.topics.in_flight.commands, 0,
        "but it is not in flight any more"
    );
}
