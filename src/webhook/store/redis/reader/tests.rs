//! The log of an app in a simulated Redis, as its nodes read it.

use super::*;
use crate::{
    broker::redis::SimulatedRedis,
    hub::{
        HubEvent,
        hub_event_tests::{channel, one_of_each},
    },
    webhook::{
        queue::Queue as _,
        record::encode,
        store::log::NewRequest,
        testbed::{Member, settings},
    },
};
use tokio::time::{advance, sleep};

const A: &str = "http://127.0.0.1/a";
const B: &str = "http://127.0.0.1/b";

fn occupied(name: &str) -> HubEvent {
    HubEvent::Occupied { channel: channel(name) }
}

/// Appends records of these events.
async fn append(member: &Member, number: u64, hub_events: &[HubEvent]) {
    let record = |hub_event| super::super::values::LogRecord {
        at_us: 5_000_000,
        most_bytes: 1_000_000,
        record: encode(hub_event).into_bytes(),
    };
    let records: Vec<_> = hub_events.iter().map(record).collect();
    member.store().append(number, &records).await.unwrap();
}

/// A node that reads, and its settings and queues.
async fn reader(
    redis: &mut SimulatedRedis,
    urls: &[&str],
) -> (Member, Arc<AppWebhookSettings>, Vec<Arc<RedisQueue>>) {
    let member = Member::join(redis, urls).await;
    let settings = member.app.settings();
    let queues = member.store.queues(&settings, &[]);
    (member, settings, queues)
}

async fn poll(member: &Member, queues: &[Arc<RedisQueue>]) -> Poll {
    member.store.poll(&member.app.settings(), queues).await.unwrap()
}

async fn read(member: &Member, queues: &[Arc<RedisQueue>]) -> Records {
    match poll(member, queues).await {
        Poll::Records(records) => records,
        other @ (Poll::Settings(_) | Poll::StandBy(_) | Poll::NoEndpoints) => panic!("{other:?}"),
    }
}

#[test]
fn a_queue_is_named_after_its_url() {
    let settings_of = |urls: &[&str]| queue_names(&settings(urls));
    let [a, b, again] = <[String; 3]>::try_from(settings_of(&[A, B, A])).unwrap();
    assert_eq!(settings_of(&[B, A]), [b.clone(), a.clone()]);
    assert_eq!((a.len(), a.ends_with(".0"), b.ends_with(".0")), (18, true, true));
    assert_eq!(again, format!("{}.1", a.trim_end_matches(".0")));
    assert!(!a.contains("127"));
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_kept_while_its_endpoint_and_its_name_stay() {
    let mut redis = SimulatedRedis::new();
    let (member, before, queues) = reader(&mut redis, &[A, B]).await;
    let is_kept = |queues: &[Arc<RedisQueue>], at: usize, known: &Arc<RedisQueue>| {
        Arc::ptr_eq(&queues[at], known)
    };
    member.app.change(settings(&[B, A]));
    let swapped = member.store.queues(&member.app.settings(), &queues);
    assert!(is_kept(&swapped, 0, &queues[1]) && is_kept(&swapped, 1, &queues[0]));
    // Other endpoints with the same URLs.
    let others = member.store.queues(&settings(&[A, B]), &queues);
    assert!(!is_kept(&others, 0, &queues[0]) && others[0].name == queues[0].name);
    // Another endpoint in the place of the first.
    let renamed = member.store.queues(&before, &swapped[..1]);
    assert!(!is_kept(&renamed, 0, &queues[0]) && is_kept(&renamed, 1, &queues[1]));
}

#[tokio::test(start_paused = true)]
async fn a_commit_removes_what_was_read_from_the_size_of_the_log() {
    let mut redis = SimulatedRedis::new();
    let (member, settings, queues) = reader(&mut redis, &[A]).await;
    append(&member, 1, &[occupied("c")]).await;
    let records = read(&member, &queues).await;
    assert_eq!(records.events, [(5_000, occupied("c"))]);
    assert!(records.is_all && records.debouncer.is_some());
    assert_eq!(records.time_ms, u128::from(records.now_ms));
    // It remains in the log.
    append(&member, 2, &[occupied("d")]).await;
    let commit = Commit { read: records.read, ..Commit::default() };
    assert_eq!(member.store.commit(&settings, &queues, commit).await, Ok(1));
    let state = redis.key("logstate").unwrap();
    let bytes: usize = redis.ask(&["HGET", &state, "b"]);
    let record = "5000000 ".len() + encode(&occupied("d")).len();
    assert_eq!(bytes, record + StoreClient::OVERHEAD_BYTES);
    assert!(read(&member, &queues).await.debouncer.is_none(), "the lease is not new");
}

/// The lease may have started when the poll was sent.
#[tokio::test(start_paused = true)]
async fn a_lease_is_certain_until_half_a_second_before_its_end() {
    let mut redis = SimulatedRedis::new();
    let (member, _, queues) = reader(&mut redis, &[A]).await;
    let began = now();
    let records = read(&member, &queues).await;
    assert_eq!(records.renew_at, Some(began + Duration::from_millis(1_500)));
    let rest = Duration::from_millis(4_500) - (now() - began);
    advance(rest - Duration::from_millis(1)).await;
    assert!(member.store.lease.is_ours());
    advance(Duration::from_millis(1)).await;
    assert!(!member.store.lease.is_ours());
}

#[tokio::test(start_paused = true)]
async fn what_a_commit_drops_and_queues_is_counted() {
    let mut redis = SimulatedRedis::new();
    let (member, settings, queues) = reader(&mut redis, &[A, B]).await;
    read(&member, &queues).await;
    let request = |endpoint, events, len| NewRequest { endpoint, events, body: "x".repeat(len) };
    let commit = |requests| Commit { requests, ..Commit::default() };
    let half = QUEUE_BYTES_MAX / 2;
    let first = commit(vec![request(0, 1, half), request(1, 2, 10)]);
    assert_eq!(member.store.commit(&settings, &queues, first).await, Ok(0));
    let counts = || {
        [0, 1].map(|at| {
            let stats = &settings.endpoints[at].stats;
            (stats.waiting.get(), stats.dropped(Dropped::Overflow).get())
        })
    };
    assert_eq!(counts(), [(1, 0), (2, 0)]);
    let head = queues[0].first_now().await.unwrap().0;
    let kept = queues[1].first_now().await.unwrap().0;
    let second = commit(vec![request(0, 4, half)]);
    assert_eq!(member.store.commit(&settings, &queues, second).await, Ok(0));
    assert_eq!(counts(), [(4, 1), (2, 0)]);
    // The oldest has made room: what is known of the queue is asked for again.
    assert_ne!(queues[0].first_now().await.unwrap().0, head);
    redis.stop();
    assert_eq!(queues[1].first_now().await.unwrap().0, kept);
}

#[tokio::test(start_paused = true)]
async fn records_that_are_read_during_a_change_of_settings_are_read_again_with_the_new_ones() {
    let mut redis = SimulatedRedis::new();
    let (member, before, queues) = reader(&mut redis, &[A]).await;
    append(&member, 1, &[occupied("c")]).await;
    let change = async { member.app.change(settings(&[B])) };
    let (polled, ()) = tokio::join!(member.store.poll(&before, &queues), change);
    let Ok(Poll::Records(records)) = polled else { panic!("it holds the lease") };
    assert!(records.events.is_empty() && !records.is_all && records.debouncer.is_some());
    assert_eq!((records.read.count, records.read.bytes), (0, 0));
    let Ok(Poll::Settings(after)) = member.store.poll(&before, &queues).await else {
        panic!("the settings have changed")
    };
    assert!(Arc::ptr_eq(&after, &member.app.settings()));
    let queues = member.store.queues(&after, &queues);
    assert_eq!(read(&member, &queues).await.events, [(5_000, occupied("c"))]);
    // Without endpoints, the log is left to other nodes.
    member.app.change(settings(&[]));
    let none = member.app.settings();
    assert!(matches!(member.store.poll(&none, &[]).await, Ok(Poll::NoEndpoints)));
}

#[tokio::test(start_paused = true)]
async fn after_a_commit_without_reply_the_state_is_read_under_another_name() {
    let mut redis = SimulatedRedis::new();
    let (member, settings, queues) = reader(&mut redis, &[A]).await;
    read(&member, &queues).await;
    let name = member.store.lease.name();
    redis.stop();
    sleep(Duration::from_secs(1)).await;
    let [_, _, _, removed, ..] = one_of_each();
    let delayed = vec![("x".to_owned(), format!("1 {}", encode(&removed)))];
    let commit = Commit { delayed, ..Commit::default() };
    let committed = member.store.commit(&settings, &queues, commit).await;
    assert_eq!((committed, member.store.lease.name() != name), (Err(NotCommitted::Unknown), true));
    redis.restart();
    member.node.until_joined().await;
    assert!(read(&member, &queues).await.debouncer.is_some());
}

/// Nodes that stand by ask when the holder is silent, and after two minutes even if it is not.
#[tokio::test(start_paused = true)]
async fn a_node_that_stands_by_asks_again_after_two_minutes() {
    let mut redis = SimulatedRedis::new();
    let (one, _, of_one) = reader(&mut redis, &[A]).await;
    let (other, _, of_other) = reader(&mut redis, &[A]).await;
    read(&one, &of_one).await;
    let Poll::StandBy(lease) = poll(&other, &of_other).await else { panic!("one holds it") };
    assert_eq!(lease.name, one.store.lease.name());
    let began = now();
    other.store.lease_is_free(&lease).await;
    let waited = now() - began;
    let bound = Duration::from_secs(120);
    assert!(bound <= waited && waited < bound + Duration::from_secs(1), "{waited:?}");
    // A released lease is free at once.
    read(&one, &of_one).await;
    let Poll::StandBy(lease) = poll(&other, &of_other).await else { panic!("one holds it") };
    let began = now();
    let ((), ()) = tokio::join!(other.store.lease_is_free(&lease), one.store.release(&of_one));
    assert!(now() - began < Duration::from_millis(200));
    assert!(matches!(poll(&other, &of_other).await, Poll::Records(_)));
}
