//! Publishes with idempotency keys.

use super::*;
use crate::broker::{IDEMPOTENCY_WINDOW, IdempotencyKey};

fn event<'a>(key: &'a str, channels: &[&str], data: &'a str) -> AppEvent<'a> {
    AppEvent {
        name: "e".into(),
        data: EventData::new(data),
        channels: channels.iter().map(|text| name(text)).collect(),
        except: None,
        idempotency_key: Some(IdempotencyKey::parse(key).unwrap()),
    }
}

fn subscriptions(counts: &[Counts]) -> Vec<usize> {
    counts.iter().map(|counts| counts.subscriptions).collect()
}

#[test]
fn a_repetition_has_the_counts_of_the_first_and_reaches_only_other_channels() {
    let mut test = test(|_| {});
    test.subscribe(0, "a", None);
    test.subscribe(1, "b", None);
    let (counts, shards) = publish(&test.broker, &test.hub, &[event("k", &["a"], "1")], test.now);
    assert_eq!((subscriptions(&counts), shards.iter().count()), (vec![1], 1));
    test.subscribe(1, "a", None);
    let (counts, shards) =
        publish(&test.broker, &test.hub, &[event("k", &["a", "b"], "2")], test.now);
    assert_eq!(subscriptions(&counts), [1, 1]);
    assert_eq!(shards.iter().collect::<Vec<_>>(), [shard(1)], "only that of the other channel");
    assert_eq!((test.received(0).len(), test.received(1).len()), (1, 1));
    test.now += IDEMPOTENCY_WINDOW;
    let (counts, _) = publish(&test.broker, &test.hub, &[event("k", &["a"], "3")], test.now);
    assert_eq!((subscriptions(&counts), test.received(0).len()), (vec![2], 1));
}

#[test]
fn a_repetition_is_not_cached() {
    let mut test = test(|_| {});
    publish(&test.broker, &test.hub, &[event("k", &["cache-a"], "1")], test.now);
    publish(&test.broker, &test.hub, &[event("k", &["cache-a"], "2")], test.now);
    let cached = |test: &TestBroker| channel(&test.hub, &name("cache-a"), test.now).cached;
    assert_eq!(cached(&test).unwrap().0, r#""1""#);
    test.now += IDEMPOTENCY_WINDOW;
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(app_state(&test.hub).records.lock().len(), 0, "a tick drops old records");
}

#[test]
fn threads_that_publish_with_one_key_deliver_once_and_have_one_result() {
    let test = test(|_| {});
    test.subscribe(0, "a", None);
    for round in 0..200 {
        let key = format!("key {round}");
        let results: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let publish = || {
                subscriptions(
                    &publish(&test.broker, &test.hub, &[event(&key, &["a"], "1")], test.now).0,
                )
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(publish)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((results, test.received(0).len()), (vec![vec![1]; 4], 1));
    }
}
