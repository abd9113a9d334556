//! Nodes of a simulated Redis, one of which delivers.

mod memory;

use super::*;
use crate::{
    broker::redis::SimulatedRedis,
    hub::hub_event_tests::channel,
    webhook::{
        record::encode,
        stats::LOG_INTERVAL,
        store::{
            log::LOG_BYTES_MAX,
            redis::{LogRecord, StoreClient},
        },
        testbed::{BATCH_WAIT, Member, connector, settings},
    },
};
use tokio::time::sleep;

const A: &str = "http://127.0.0.1/a";
const B: &str = "http://127.0.0.1/b";
const C: &str = "http://127.0.0.1/c";
/// The maximum time from the observation of an event to its queue.
const QUEUED_WITHIN: Duration = Duration::from_millis(300);

async fn started(redis: &mut SimulatedRedis, urls: &[&str]) -> Member {
    let mut member = Member::join(redis, urls).await;
    member.start();
    sleep(QUEUED_WITHIN).await;
    member
}

fn occupied(name: &str) -> HubEvent {
    HubEvent::Occupied { channel: channel(name) }
}

fn vacated(name: &str) -> HubEvent {
    HubEvent::Vacated { channel: channel(name) }
}

/// The requests that wait for an endpoint: the names of their events and channels.
fn queued(redis: &SimulatedRedis, member: &Member, at: usize) -> Vec<String> {
    let name = names(member).remove(at);
    queue_of(redis, &name)
}

/// The names of the queues of the node's endpoints.
fn names(member: &Member) -> Vec<String> {
    let queues = member.store.queues(&member.app.settings(), &[]);
    queues.iter().map(|queue| queue.name.clone()).collect()
}

fn queue_of(redis: &SimulatedRedis, name: &str) -> Vec<String> {
    let Some(key) = redis.key_ending("queue", name) else { return Vec::new() };
    let requests: Vec<String> = redis.ask(&["LRANGE", &key, "0", "-1"]);
    let events = |request: &String| {
        let body: serde_json::Value =
            serde_json::from_str(request.splitn(4, ' ').last().unwrap()).unwrap();
        let events = body["events"].as_array().unwrap().clone();
        let text = |event: &serde_json::Value| {
            let part = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", part("name"), part("channel"))
        };
        events.iter().map(text).collect::<Vec<_>>().join(", ")
    };
    requests.iter().map(events).collect()
}

/// Whether each node delivers.
fn leads<const N: usize>(members: [&Member; N]) -> [bool; N] {
    members.map(|member| member.store.is_leader())
}

#[tokio::test(start_paused = true)]
async fn one_node_delivers_what_all_nodes_observe() {
    let mut redis = SimulatedRedis::new();
    let one = started(&mut redis, &[A, B]).await;
    let other = started(&mut redis, &[A, B]).await;
    assert_eq!(leads([&one, &other]), [true, false]);
    one.observe(&occupied("c"));
    sleep(QUEUED_WITHIN).await;
    other.observe(&occupied("d"));
    sleep(QUEUED_WITHIN).await;
    for at in 0..2 {
        let expected = ["channel_occupied c", "channel_occupied d"];
        assert_eq!(queued(&redis, &one, at), expected);
    }
    let stats = |member: &Member| {
        let endpoint = Arc::clone(&member.app.settings().endpoints[0]);
        (endpoint.stats.waiting.get(), 0 < endpoint.stats.failed.get())
    };
    assert_eq!((stats(&one), stats(&other)), ((2, true), (0, false)));
    assert_eq!((one.store.unlogged(), other.store.unlogged()), (0, 0));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(leads([&one, &other]), [true, false], "it is renewed");
    let length: usize = redis.key("log{").map_or(0, |key| redis.ask(&["LLEN", &key]));
    assert_eq!(length, 0);
}

#[tokio::test(start_paused = true)]
async fn a_departure_is_reported_after_three_seconds_by_the_leader_of_that_time() {
    let mut redis = SimulatedRedis::new();
    let one = started(&mut redis, &[A]).await;
    let other = started(&mut redis, &[A]).await;
    other.observe(&occupied("c"));
    other.observe(&vacated("c"));
    let began = time::Instant::now();
    sleep(QUEUED_WITHIN).await;
    assert_eq!(queued(&redis, &one, 0), ["channel_occupied c"]);
    while queued(&redis, &one, 0).len() < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    let took = began.elapsed().as_millis();
    assert!((2_900..3_200).contains(&took), "{took} ms");
    let expected = ["channel_occupied c", "channel_vacated c"];
    assert_eq!(queued(&redis, &one, 0), expected);

    other.observe(&occupied("d"));
    other.observe(&vacated("d"));
    sleep(QUEUED_WITHIN).await;
    drop(one);
    while !other.store.is_leader() {
        assert!(began.elapsed() < Duration::from_secs(20), "no node delivers");
        sleep(Duration::from_millis(10)).await;
    }
    sleep(QUEUED_WITHIN).await;
    let expected =
        ["channel_occupied c", "channel_vacated c", "channel_occupied d", "channel_vacated d"];
    assert_eq!(queued(&redis, &other, 0), expected, "once each");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_is_replaced_when_it_has_been_silent() {
    let mut redis = SimulatedRedis::new();
    let one = started(&mut redis, &[A]).await;
    let other = started(&mut redis, &[A]).await;
    sleep(Duration::from_secs(10)).await;
    let asked = redis.commands();
    drop(one);
    let began = time::Instant::now();
    while !other.store.is_leader() {
        assert!(began.elapsed() < Duration::from_secs(20), "no node delivers");
        sleep(Duration::from_millis(10)).await;
    }
    let took = began.elapsed().as_millis();
    assert!((3_500..5_600).contains(&took), "{took} ms");
    assert!(redis.commands() - asked < 200, "{}", redis.commands() - asked);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_delivers_all_events_and_releases_the_lease() {
    let mut redis = SimulatedRedis::new();
    let mut one = started(&mut redis, &[A]).await;
    let mut other = started(&mut redis, &[A]).await;
    one.observe(&occupied("c"));
    let began = time::Instant::now();
    one.stop().await;
    assert_eq!(one.store.unlogged(), 0);
    sleep(QUEUED_WITHIN).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(leads([&one, &other]), [false, true]);
    assert_eq!(queued(&redis, &other, 0), ["channel_occupied c"]);
    let endpoint = Arc::clone(&one.app.settings().endpoints[0]);
    assert_eq!(endpoint.stats.waiting.get(), 0);
    assert!(0 < endpoint.stats.failed.get(), "one attempt was left");
    // One that does not deliver leaves the other alone.
    let mut third = started(&mut redis, &[A]).await;
    third.stop().await;
    sleep(QUEUED_WITHIN).await;
    assert_eq!(leads([&other, &third]), [true, false]);
    other.stop().await;
    assert_eq!(redis.key("leader"), None);
}

#[tokio::test(start_paused = true)]
async fn new_settings_apply_to_events_after_them() {
    let mut redis = SimulatedRedis::new();
    let one = started(&mut redis, &[A]).await;
    one.observe(&occupied("c"));
    sleep(QUEUED_WITHIN).await;
    let of_a = names(&one).remove(0);
    one.app.change(settings(&[B, A]));
    sleep(QUEUED_WITHIN).await;
    one.observe(&occupied("d"));
    sleep(QUEUED_WITHIN).await;
    assert!(one.store.is_leader());
    assert_eq!(queued(&redis, &one, 0), ["channel_occupied d"]);
    assert_eq!(queued(&redis, &one, 1), ["channel_occupied c", "channel_occupied d"]);
    assert_eq!(names(&one)[1], of_a);
    // Without webhooks nothing is reported, and the lease is free.
    let other = started(&mut redis, &[A]).await;
    one.app.change(settings(&[]));
    sleep(QUEUED_WITHIN).await;
    assert_eq!(leads([&one, &other]), [false, true]);
    one.app.change(settings(&[A]));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(leads([&one, &other]), [false, true]);
    drop(other);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(leads([&one]), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_webhooks_ends() {
    let mut redis = SimulatedRedis::new();
    let mut one = started(&mut redis, &[]).await;
    assert_eq!(leads([&one]), [false]);
    time::timeout(QUEUED_WITHIN, one.stop()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_loses_and_repeats_nothing() {
    let mut redis = SimulatedRedis::new();
    let one = started(&mut redis, &[A]).await;
    for (number, pause_ms) in [1_000, 2_500, 4_000, 7_000].into_iter().enumerate() {
        one.observe(&occupied(&format!("{number}-before")));
        sleep(Duration::from_millis(20 * number as u64)).await;
        redis.pause(Duration::from_millis(pause_ms));
        one.observe(&occupied(&format!("{number}-during")));
        sleep(Duration::from_millis(pause_ms)).await;
    }
    sleep(Duration::from_secs(15)).await;
    redis.stop();
    one.observe(&occupied("while-stopped"));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(one.store.unlogged(), 1);
    redis.restart();
    sleep(Duration::from_secs(15)).await;
    let reported = queued(&redis, &one, 0).join(", ");
    let expected: Vec<String> = (0..4)
        .flat_map(|number| [format!("{number}-before"), format!("{number}-during")])
        .chain(["while-stopped".to_owned()])
        .map(|name| format!("channel_occupied {name}"))
        .collect();
    assert_eq!(reported.split(", ").collect::<Vec<_>>(), expected);
    assert!(one.store.is_leader());
    assert_eq!(one.app.lost.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_while_redis_is_away_does_not_wait_for_it() {
    let mut redis = SimulatedRedis::new();
    let mut one = started(&mut redis, &[A]).await;
    redis.stop();
    sleep(Duration::from_secs(1)).await;
    one.observe(&occupied("c"));
    time::timeout(Duration::from_secs(10), one.stop()).await.unwrap();
    assert_eq!(one.store.unlogged(), 1);
}

#[tokio::test(start_paused = true)]
async fn events_lost_to_a_full_log_are_counted() {
    let mut redis = SimulatedRedis::new();
    let one = started(&mut redis, &[A]).await;
    one.observe(&occupied("c"));
    sleep(QUEUED_WITHIN).await;
    let state = redis.key("logstate").unwrap();
    redis.ask::<redis::Value>(&["HSET", &state, "lost", "3"]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(one.app.lost.get(), 3);
    sleep(LOG_INTERVAL).await;
    assert_eq!(one.app.lost_to_log(now()), None, "it was logged");
}

#[tokio::test(start_paused = true)]
async fn more_events_than_one_poll_returns_are_reported_in_order() {
    let mut redis = SimulatedRedis::new();
    let one = Member::join(&mut redis, &[A]).await;
    let entries = |range: std::ops::Range<usize>| -> Vec<_> {
        let entry = |number| LogRecord {
            at_us: 1_000,
            most_bytes: LOG_BYTES_MAX,
            record: encode(&occupied(&format!("c{number}"))).into_bytes(),
        };
        range.map(entry).collect()
    };
    one.store().append(1, &entries(0..700)).await.unwrap();
    one.store().append(2, &entries(700..1_400)).await.unwrap();
    let mut dispatcher = Dispatcher::new(&one.app, &one.store, connector());
    assert!(matches!(dispatcher.step().await, Step::Again), "there is more");
    let Step::Wait(Some(until)) = dispatcher.step().await else { panic!("there is no more") };
    let wait = until - now();
    assert!((1_400..=1_500).contains(&wait.as_millis()), "{wait:?}");
    let reported = queued(&redis, &one, 0);
    assert_eq!(reported.len(), 14, "a hundred events share a request");
    let expected: Vec<String> =
        (0..1_400).map(|number| format!("channel_occupied c{number}")).collect();
    assert_eq!(reported.join(", "), expected.join(", "));
}

#[tokio::test(start_paused = true)]
async fn events_during_a_step_are_reported_by_the_next_one() {
    let mut redis = SimulatedRedis::new();
    let one = Member::join(&mut redis, &[A]).await;
    let mut dispatcher = Dispatcher::new(&one.app, &one.store, connector());
    let entry = |number: u64| LogRecord {
        at_us: 0,
        most_bytes: LOG_BYTES_MAX,
        record: encode(&occupied(&format!("c{number}"))).into_bytes(),
    };
    let (mut number, mut waits) = (0, Vec::new());
    for delay_us in (0..10_000).step_by(500) {
        one.store().append(number + 1, &[entry(number)]).await.unwrap();
        let late = async {
            sleep(Duration::from_micros(delay_us)).await;
            one.store().append(number + 2, &[entry(number + 1)]).await.unwrap();
        };
        let (step, ()) = tokio::join!(dispatcher.step(), late);
        number += 2;
        let Step::Wait(Some(until)) = step else { panic!("{step:?}") };
        waits.push(until.saturating_duration_since(now()));
        while !matches!(dispatcher.step().await, Step::Wait(Some(until)) if BATCH_WAIT < until - now())
        {
        }
    }
    assert!(waits.iter().any(|wait| *wait <= BATCH_WAIT), "{waits:?}");
    assert!(waits.iter().any(|wait| BATCH_WAIT * 10 < *wait), "{waits:?}");
    let expected: Vec<String> =
        (0..number).map(|number| format!("channel_occupied c{number}")).collect();
    assert_eq!(queued(&redis, &one, 0).join(", "), expected.join(", "));
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_commits_nothing() {
    let mut redis = SimulatedRedis::new();
    let one = Member::join(&mut redis, &[A]).await;
    let other = Member::join(&mut redis, &[A]).await;
    let mut first = Dispatcher::new(&one.app, &one.store, connector());
    let mut second = Dispatcher::new(&other.app, &other.store, connector());
    assert!(matches!(first.step().await, Step::Wait(_)));
    assert_eq!(leads([&one, &other]), [true, false]);
    let Step::StandBy(LeaseOfOther { name, remaining }) = second.step().await else {
        panic!("it does not hold the lease")
    };
    assert_eq!((name, remaining <= StoreClient::LEASE), (one.store.lease.name(), true));
    // It is replaced between its poll and its commit.
    let Ok(Poll::Records(mut records)) = one.store.poll(&first.settings, &first.queues).await
    else {
        panic!("it holds the lease")
    };
    redis.ask::<redis::Value>(&["DEL", &redis.key("leader").unwrap()]);
    assert!(matches!(second.step().await, Step::Wait(_)));
    records.events = vec![(5, occupied("c"))];
    assert!(matches!(first.take(records, now()).await, Step::Wait(_)));
    assert!(queued(&redis, &one, 0).is_empty());
    assert!(matches!(first.step().await, Step::StandBy(_)));
    assert_eq!(leads([&one, &other]), [false, true]);
    assert!(first.deliveries.is_none() && second.deliveries.is_some());
}
