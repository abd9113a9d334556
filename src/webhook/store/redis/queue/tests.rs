//! The queue of an endpoint in a simulated Redis.

use super::*;
use crate::{broker::redis::SimulatedRedis, webhook::testbed::Member};
use futures_util::FutureExt as _;
use tokio::time::{Instant as Time, sleep};

const URL: &str = "http://127.0.0.1/";
const NAME: &str = "q";

async fn queue(redis: &mut SimulatedRedis) -> (Member, RedisQueue) {
    let member = Member::join(redis, &[URL]).await;
    let endpoint = Arc::clone(&member.app.settings().endpoints[0]);
    let queue = RedisQueue::new(Arc::clone(&member.store), NAME.into(), endpoint, Signer::new("s"));
    member.store.lease.lasts_until(now() + Duration::from_secs(3_600));
    (member, queue)
}

fn waiting(queue: &RedisQueue) -> [u64; 2] {
    [queue.endpoint.stats.waiting.get(), queue.endpoint.stats.dead_letters.get()]
}

fn dropped(queue: &RedisQueue, reason: Dropped) -> u64 {
    queue.endpoint.stats.dropped(reason).get()
}

#[tokio::test(start_paused = true)]
async fn requests_are_read_in_order_while_the_lease_lasts() {
    let mut redis = SimulatedRedis::new();
    let (member, queue) = queue(&mut redis).await;
    member.fill(NAME, &[(2, "a"), (3, "b")]).await;
    member.store.lease.ends();
    assert!(queue.first_now().await.is_none());
    assert!(queue.dead_letter(0).await.is_none());
    member.store.lease.lasts_until(now() + Duration::from_secs(3_600));
    sleep(Duration::from_secs(10)).await;
    let (place, first) = queue.first_now().await.unwrap();
    assert_eq!((first.events, &*first.body), (2, &b"a"[..]));
    assert_eq!(first.signature, Signer::new("s").sign("a"));
    let age = now() - first.created_at;
    assert!((9_990..10_100).contains(&age.as_millis()), "{age:?}");
    assert_eq!(waiting(&queue), [5, 0]);
    // What is known is not asked for again.
    let asked = redis.commands();
    assert_eq!(queue.first().await.0, place);
    assert_eq!(queue.drop_older(first.created_at - Duration::from_millis(1)).await, 0);
    assert_eq!(redis.commands(), asked);
    queue.ack(place).await;
    assert_eq!(waiting(&queue), [3, 0]);
    let (place, second) = queue.first().await;
    assert_eq!(&*second.body, b"b");
    queue.ack(place).await;
    assert!(queue.first_now().await.is_none());
    assert_eq!((waiting(&queue), dropped(&queue, Dropped::Expired)), ([0, 0], 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_request_is_waited_for() {
    let mut redis = SimulatedRedis::new();
    let (member, queue) = queue(&mut redis).await;
    let first = queue.first();
    tokio::pin!(first);
    sleep(Duration::from_secs(1)).now_or_never();
    assert!(time::timeout(Duration::from_secs(1), &mut first).await.is_err());
    member.fill(NAME, &[(1, "a")]).await;
    queue.set_waiting(0, false);
    assert!(time::timeout(Duration::from_secs(1), &mut first).await.is_err());
    queue.set_waiting(1, false);
    let (_, request) = time::timeout(Duration::from_secs(1), first).await.unwrap();
    assert_eq!((&*request.body, waiting(&queue)), (&b"a"[..], [1, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_made_room_for_others_is_forgotten() {
    let mut redis = SimulatedRedis::new();
    let (member, queue) = queue(&mut redis).await;
    member.fill(NAME, &[(1, "a"), (1, "b")]).await;
    let (place, _) = queue.first().await;
    // Another has removed it.
    member.store().head(NAME, Some(place.0), LIFETIME).await.unwrap();
    queue.set_waiting(1, false);
    assert_eq!(queue.first().await.0, place);
    queue.set_waiting(1, true);
    assert_eq!(&*queue.first().await.1.body, b"b");
}

#[tokio::test(start_paused = true)]
async fn expired_requests_are_dropped_while_redis_is_unavailable() {
    let mut redis = SimulatedRedis::new();
    let (member, queue) = queue(&mut redis).await;
    member.fill(NAME, &[(2, "a")]).await;
    let (_, first) = queue.first().await;
    sleep(LIFETIME).await;
    member.fill(NAME, &[(3, "b")]).await;
    assert_eq!(queue.drop_older(first.created_at).await, 2);
    assert_eq!(&*queue.first().await.1.body, b"b");
    sleep(LIFETIME).await;
    redis.stop();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.drop_older(now() - LIFETIME).await, 0, "it is not known yet");
    assert!(queue.first_now().await.is_none(), "it is not sent");
    redis.restart();
    member.node.until_joined().await;
    assert!(queue.first_now().await.is_none());
    assert_eq!(dropped(&queue, Dropped::Expired), 3, "by Redis");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_done_is_removed_when_redis_is_back() {
    let mut redis = SimulatedRedis::new();
    let (member, queue) = queue(&mut redis).await;
    member.fill(NAME, &[(2, "a"), (3, "b")]).await;
    let (place, request) = queue.first().await;
    redis.stop();
    sleep(Duration::from_secs(1)).await;
    let halves = [request.clone(), request.clone()];
    assert!(!queue.split(place, halves).await);
    assert_eq!(queue.add_dead_letter(place).await, None);
    assert_eq!((queue.dead_letters(), queue.first().await.0), (0, place), "it stays as it is");
    assert_eq!(queue.drop_older_dead_letters(now()).await, 0);
    let done = queue.ack(place);
    tokio::pin!(done);
    assert!(time::timeout(Duration::from_secs(30), &mut done).await.is_err());
    redis.restart();
    done.await;
    assert_eq!(waiting(&queue), [3, 0]);
    // The second was too old when the first was removed.
    let (place, _) = queue.first().await;
    member.fill(NAME, &[(4, "c")]).await;
    sleep(LIFETIME).await;
    queue.ack(place).await;
    assert_eq!(dropped(&queue, Dropped::Expired), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_split_in_its_place() {
    let mut redis = SimulatedRedis::new();
    let (member, queue) = queue(&mut redis).await;
    let body = r#"{"time_ms":7,"events":[1,2,3]}"#;
    member.fill(NAME, &[(3, body), (1, "b")]).await;
    let (place, first) = queue.first().await;
    assert!(queue.split(place, first.halves(&Signer::new("s")).unwrap()).await);
    for (events, body) in
        [(1, r#"{"time_ms":7,"events":[1]}"#), (2, r#"{"time_ms":7,"events":[2,3]}"#), (1, "b")]
    {
        let (place, request) = queue.first().await;
        assert_eq!((request.events, &*request.body), (events, body.as_bytes()));
        queue.ack(place).await;
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_read_in_turn() {
    let mut redis = SimulatedRedis::new();
    let (member, queue) = queue(&mut redis).await;
    member.fill(NAME, &[(1, "a"), (2, "b"), (4, "c"), (8, "d")]).await;
    assert!(queue.dead_letter_added().now_or_never().is_none());
    for number in 1..=3 {
        let (place, _) = queue.first().await;
        assert_eq!(queue.add_dead_letter(place).await, Some(0));
        assert_eq!(queue.dead_letters(), number);
        assert!(queue.dead_letter_added().now_or_never().is_some());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(&*queue.first().await.1.body, b"d");
    let (place, second) = queue.dead_letter(4).await.unwrap();
    assert_eq!((&*second.body, second.events), (&b"b"[..], 2));
    assert_eq!((waiting(&queue), queue.dead_letters()), ([8, 7], 3));
    redis.stop();
    sleep(Duration::from_secs(1)).await;
    assert!(queue.dead_letter(0).await.is_none());
    let done = queue.ack_dead_letter(place);
    tokio::pin!(done);
    let began = Time::now();
    assert!(time::timeout(Duration::from_secs(5), &mut done).await.is_err());
    redis.restart();
    done.await;
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!((waiting(&queue), queue.dead_letters()), ([8, 5], 2));
    assert_eq!(queue.drop_older_dead_letters(now() - LIFETIME).await, 0);
    sleep(LIFETIME).await;
    assert_eq!(queue.drop_older_dead_letters(now() - LIFETIME).await, 5);
    assert_eq!((waiting(&queue), queue.dead_letters()), ([8, 0], 0));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_expire() {
    let mut redis = SimulatedRedis::new();
    let (member, queue) = queue(&mut redis).await;
    member.fill(NAME, &[(1, "a"), (2, "b")]).await;
    for _ in 0..2 {
        let (place, _) = queue.first().await;
        queue.add_dead_letter(place).await;
        sleep(Duration::from_secs(10)).await;
    }
    let (last, _) = queue.dead_letter(1).await.unwrap();
    sleep(LIFETIME - Duration::from_secs(25)).await;
    assert!(queue.dead_letter(0).await.is_some(), "the age is that of the request");
    sleep(Duration::from_secs(15)).await;
    queue.ack_dead_letter(last).await;
    assert_eq!(dropped(&queue, Dropped::Rejected), 3);
    assert!(queue.dead_letter(0).await.is_none());
}
