//! The store of nodes that share a simulated Redis.

use super::*;
use crate::{
    broker::redis::{SimulatedNode, SimulatedRedis},
    webhook::store::{
        log::{LOG_BYTES_MAX, NewRequest, ReadRecords},
        redis::values::LogView,
    },
};
use futures_util::FutureExt as _;
use redis::Value;
use tokio::time::{Instant, advance, sleep};

const APP: &str = "app";
const QUEUES: [&str; 2] = ["q1", "q2"];
/// Longer than a message to all nodes takes.
const DELIVERED: Duration = Duration::from_millis(50);

fn queues() -> Vec<String> {
    QUEUES.map(str::to_owned).to_vec()
}

fn entry(record: &str) -> LogRecord {
    LogRecord { at_us: 0, most_bytes: LOG_BYTES_MAX, record: record.into() }
}

async fn two_nodes() -> (SimulatedRedis, [SimulatedNode; 2], [StoreClient; 2]) {
    let mut redis = SimulatedRedis::new();
    let nodes = [redis.join().await, redis.join().await];
    let stores = nodes.each_ref().map(|node| StoreClients::new(&node.broker).store(APP));
    // Notifications from before are not those of the test.
    sleep(DELIVERED).await;
    (redis, nodes, stores)
}

async fn ours(store: &StoreClient, lease: &str) -> LogView {
    match store.poll(lease, &queues()).await {
        Ok(PollReply::Ours(view)) => view,
        other => panic!("the lease is not held: {other:?}"),
    }
}

/// Records without their times.
fn texts(view: &LogView) -> Vec<String> {
    let text = |record: &Vec<u8>| String::from_utf8(record.clone()).unwrap();
    let behind_time = |text: String| text.split_once(' ').unwrap().1.to_owned();
    view.records.iter().map(text).map(behind_time).collect()
}

/// A commit of requests only.
fn requests(requests: &[(usize, usize, &str)]) -> Commit {
    let requests = requests.iter().map(|(endpoint, events, body)| NewRequest {
        endpoint: *endpoint,
        events: *events,
        body: (*body).into(),
    });
    Commit { requests: requests.collect(), ..Commit::default() }
}

async fn commit(store: &StoreClient, lease: &str, commit: &Commit) -> CommitResult {
    store.commit(lease, &queues(), 10_000, commit).await.unwrap()
}

fn unexpected_data(node: &SimulatedNode) -> u64 {
    node.unexpected_data()
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_is_seen_and_the_first_of_it_notifies_all_nodes() {
    let (_redis, _nodes, [one, other]) = two_nodes().await;
    let is_notified = async |store: &StoreClient| {
        sleep(DELIVERED).await;
        store.logged().now_or_never().is_some()
    };
    assert!(!is_notified(&other).await);
    let at_7 = LogRecord { at_us: 7, ..entry("b") };
    one.append(1, &[entry("a"), at_7]).await.unwrap();
    assert!(is_notified(&other).await && is_notified(&one).await);
    one.append(1, &[entry("again")]).await.unwrap();
    one.append(2, &[entry("c")]).await.unwrap();
    assert!(!is_notified(&other).await, "the log was not empty");
    let view = ours(&one, &one.new_lease()).await;
    assert!(view.is_new && view.is_all);
    assert_eq!((texts(&view).concat().as_str(), view.lost), ("abc", 0));
    assert_eq!(view.records[1], b"7 b");
    assert!(view.records[0].starts_with(&view.now_ms.to_string().as_bytes()[..8]), "as of now");
    let little = LogRecord { most_bytes: 10, ..entry("d") };
    one.append(3, &[little]).await.unwrap();
    let view = ours(&one, &one.new_lease()).await;
    assert_eq!((texts(&view).concat().as_str(), view.lost), ("abc", 1), "no room");
}

#[tokio::test(start_paused = true)]
async fn a_part_may_be_repeated_for_ten_minutes() {
    let (redis, _nodes, [one, _]) = two_nodes().await;
    one.append(1, &[entry("a")]).await.unwrap();
    let left: u64 = redis.ask(&["PTTL", &redis.key("appended").unwrap()]);
    assert!((599_000..=600_000).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_lasts_five_seconds_unless_it_is_renewed_or_released() {
    let (_redis, _nodes, [one, other]) = two_nodes().await;
    let held = async |lease: &str| match other.poll(lease, &queues()).await.unwrap() {
        PollReply::Held { by, remaining } => Some((by, remaining)),
        PollReply::Ours(_) => None,
    };
    let (mine, theirs) = (one.new_lease(), other.new_lease());
    assert!(ours(&one, &mine).await.is_new);
    assert!(!ours(&one, &mine).await.is_new);
    let (by, remaining) = held(&theirs).await.unwrap();
    assert_eq!(by, mine);
    assert!(Duration::from_millis(4_900) < remaining && remaining <= StoreClient::LEASE);
    let renewed = one.new_lease();
    assert!(ours(&one, &renewed).await.is_new, "a process may replace its own");
    sleep(Duration::from_millis(4_900)).await;
    assert!(held(&theirs).await.is_some());
    sleep(Duration::from_millis(200)).await;
    assert!(held(&theirs).await.is_none(), "it is over");

    one.release(&renewed).await;
    sleep(DELIVERED).await;
    assert!(one.released().now_or_never().is_none(), "it does not hold the lease any more");
    other.release(&theirs).await;
    sleep(DELIVERED).await;
    for store in [&one, &other] {
        assert!(store.released().now_or_never().is_some());
        assert!(store.logged().now_or_never().is_none());
    }
    assert!(ours(&one, &mine).await.is_new);
}

#[tokio::test(start_paused = true)]
async fn a_commit_takes_records_and_adds_requests_in_one_step() {
    let (redis, _nodes, [one, _]) = two_nodes().await;
    let lease = one.new_lease();
    one.append(1, &[entry("a"), entry("b"), entry("c")]).await.unwrap();
    let view = ours(&one, &lease).await;
    let bytes =
        view.records[..2].iter().map(|record| record.len() + StoreClient::OVERHEAD_BYTES).sum();
    let all = Commit {
        read: ReadRecords { count: 2, bytes },
        delayed: vec![("x".into(), "1".into()), ("y".into(), "2".into())],
        ..requests(&[(1, 3, "r1"), (1, 4, "r2"), (0, 5, "r3")])
    };
    let queued = commit(&one, &lease, &all).await;
    assert_eq!((queued.dropped, queued.waiting, queued.left), (vec![0, 0], vec![5, 7], 1));
    let state = redis.key("logstate").unwrap();
    let rest: usize = redis.ask(&["HGET", &state, "b"]);
    assert_eq!(rest, view.records[2].len() + StoreClient::OVERHEAD_BYTES);
    let rejected = one.commit("other", &queues(), 10_000, &all).await.unwrap_err();
    assert_eq!(rejected, NotCommitted::NotOurs);
    let view = ours(&one, &lease).await;
    assert_eq!(texts(&view), ["c"]);
    assert_eq!((view.waiting, view.delayed), (vec![5, 7], vec![]));
    let rest = Commit {
        read: ReadRecords { count: 1, bytes: rest },
        delayed: vec![("x".into(), String::new())],
        ..Commit::default()
    };
    assert_eq!(commit(&one, &lease, &rest).await.left, 0);
    let view = ours(&one, &one.new_lease()).await;
    assert_eq!(view.delayed, [("y".to_owned(), "2".to_owned())], "known to a new lease");
    let key = redis.key("queue").unwrap();
    let left: u64 = redis.ask(&["PTTL", &key]);
    assert!((899_000..=900_000).contains(&left), "a queue is kept for 15 minutes: {left}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_its_oldest_requests() {
    let (_redis, _nodes, [one, _]) = two_nodes().await;
    let lease = one.new_lease();
    ours(&one, &lease).await;
    let body = "x".repeat(4_000);
    let some = requests(&[(0, 1, &body), (0, 2, &body), (0, 4, &body)]);
    let queued = commit(&one, &lease, &some).await;
    assert_eq!((queued.dropped, queued.waiting), (vec![1, 0], vec![6, 0]));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_request_is_removed_when_it_is_done_or_too_old() {
    const LIFETIME: Duration = Duration::from_secs(300);
    let (redis, _nodes, [one, _]) = two_nodes().await;
    let lease = one.new_lease();
    ours(&one, &lease).await;
    let empty = one.head("q1", None, LIFETIME).await.unwrap();
    assert!(empty.head.is_none() && (empty.waiting, empty.expired) == (0, 0));
    commit(&one, &lease, &requests(&[(0, 2, "a b"), (0, 3, "c")])).await;
    sleep(Duration::from_secs(100)).await;
    let queue = one.head("q1", None, LIFETIME).await.unwrap();
    let first = queue.head.unwrap();
    assert_eq!((queue.waiting, first.events, first.body), (5, 2, b"a b".to_vec()));
    assert!((100_000..100_100).contains(&first.age.as_millis()), "{:?}", first.age);
    let queue = one.head("q1", Some(first.id + 1), LIFETIME).await.unwrap();
    assert_eq!(queue.head.unwrap().id, first.id, "not the oldest");
    let queue = one.head("q1", Some(first.id), LIFETIME).await.unwrap();
    assert_eq!((queue.waiting, queue.expired, queue.head.unwrap().events), (3, 0, 3));
    sleep(Duration::from_secs(199)).await;
    assert!(one.head("q1", None, LIFETIME).await.unwrap().head.is_some());
    sleep(Duration::from_secs(1)).await;
    let queue = one.head("q1", None, LIFETIME).await.unwrap();
    assert_eq!((queue.waiting, queue.expired, queue.head.is_none()), (0, 3, true));
    assert_eq!(redis.key("queue"), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_split_in_its_place_or_moved_to_the_dead_letters() {
    const LIFETIME: Duration = Duration::from_secs(300);
    let (redis, _nodes, [one, _]) = two_nodes().await;
    let lease = one.new_lease();
    ours(&one, &lease).await;
    commit(&one, &lease, &requests(&[(0, 2, "ab"), (0, 1, "c")])).await;
    let head = async || one.head("q1", None, LIFETIME).await.unwrap().head.unwrap();
    let first = head().await;
    one.split("q1", first.id + 1, &[(1, b"x"), (1, b"y")]).await.unwrap();
    assert_eq!(head().await.id, first.id, "only the oldest is split");
    one.split("q1", first.id, &[(1, b"a"), (1, b"b")]).await.unwrap();
    for body in ["a", "b", "c"] {
        let first = head().await;
        assert_eq!((first.events, first.body.as_slice()), (1, body.as_bytes()));
        assert_eq!(
            one.add_dead_letter("q1", first.id + 9, 10_000, 2).await,
            Ok(0),
            "not the oldest"
        );
        let dropped = one.add_dead_letter("q1", first.id, 10_000, 2).await.unwrap();
        assert_eq!(dropped, usize::from(body == "c"), "two have room");
        one.head("q1", None, LIFETIME).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        if body == "c" {
            break;
        }
    }
    assert!(one.head("q1", None, LIFETIME).await.unwrap().head.is_none());
    let left: u64 = redis.ask(&["PTTL", &redis.key("aside").unwrap()]);
    assert!((890_000..=900_000).contains(&left), "{left}");
    let dead_letter = async |done, turn| one.dead_letter("q1", done, LIFETIME, turn).await.unwrap();
    let mut ids = Vec::new();
    for (turn, body) in [(0, "b"), (1, "c"), (2, "b")] {
        let queue = dead_letter(None, turn).await;
        let found = queue.head.unwrap();
        assert_eq!((queue.count, queue.waiting, found.body.as_slice()), (2, 2, body.as_bytes()));
        ids.push(found.id);
    }
    let queue = dead_letter(Some(ids[1]), 0).await;
    assert_eq!((queue.count, queue.waiting, queue.head.unwrap().id), (1, 1, ids[0]));
    sleep(LIFETIME).await;
    let queue = dead_letter(None, 0).await;
    assert_eq!((queue.count, queue.expired, queue.head.is_none()), (0, 1, true));
    assert_eq!(one.add_dead_letter("q1", 1, 10_000, 2).await, Ok(0), "there is none");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_beyond_the_limit_is_dropped() {
    let (_redis, _nodes, [one, _]) = two_nodes().await;
    let lease = one.new_lease();
    ours(&one, &lease).await;
    commit(&one, &lease, &requests(&[(0, 3, &"x".repeat(1_000))])).await;
    let first = one.head("q1", None, Duration::from_secs(300)).await.unwrap().head.unwrap();
    assert_eq!(one.add_dead_letter("q1", first.id, 1_000, 2).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_redis_that_does_not_reply_is_given_up_after_two_seconds() {
    let (redis, nodes, [one, _]) = two_nodes().await;
    let lease = one.new_lease();
    ours(&one, &lease).await;
    redis.pause(Duration::from_millis(2_500));
    let began = Instant::now();
    let commit = one.commit(&lease, &queues(), 10_000, &requests(&[(0, 1, "a")])).await;
    assert_eq!(commit.unwrap_err(), NotCommitted::Unknown);
    let took = began.elapsed().as_millis();
    assert!((2_000..2_010).contains(&took), "{took}");
    redis.stop();
    sleep(DELIVERED).await;
    let began = Instant::now();
    assert!(one.poll(&lease, &queues()).await.is_err());
    assert_eq!(one.append(1, &[entry("a")]).await, Err(Unavailable));
    one.release(&lease).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "a node that is away does not ask");
    redis.restart();
    advance(Duration::from_secs(5)).await;
    nodes[0].until_joined().await;
    assert_eq!(one.append(1, &[entry("a")]).await, Ok(()));
    assert_eq!(unexpected_data(&nodes[0]), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_lease_is_rejected_joins_again() {
    let (redis, nodes, [one, _]) = two_nodes().await;
    let registry = redis.key("nodes").unwrap();
    redis.ask::<Value>(&["HSET", &registry, "g", "another"]);
    assert_eq!(one.append(1, &[entry("a")]).await, Err(Unavailable));
    assert!(
        nodes[0].broker.unavailable_reason().is_some() || one.app.call(&one.scripts.poll).is_err()
    );
    nodes[0].until_joined().await;
    assert_eq!(one.append(1, &[entry("a")]).await, Ok(()));
    assert_eq!(texts(&ours(&one, "t").await), ["a"], "nothing was done before");
}

#[tokio::test(start_paused = true)]
async fn unexpected_data_is_reported_and_answered_with_unavailable() {
    let (redis, nodes, [one, _]) = two_nodes().await;
    let lease = one.new_lease();
    ours(&one, &lease).await;
    commit(&one, &lease, &requests(&[(0, 1, "a")])).await;
    let queue = redis.key("queue").unwrap();
    let huge = format!("{} 9999999999999 1 x", "9".repeat(30));
    redis.ask::<Value>(&["LPUSH", &queue, &huge]);
    assert!(one.head("q1", None, Duration::from_secs(300)).await.is_err());
    assert_eq!(unexpected_data(&nodes[0]), 1);
    // The script fails.
    redis.ask::<Value>(&["DEL", &queue]);
    redis.ask::<Value>(&["HSET", &queue, "a", "b"]);
    assert!(one.split("q1", 1, &[(1, b"a")]).await.is_err());
    assert_eq!(unexpected_data(&nodes[0]), 2);
}
