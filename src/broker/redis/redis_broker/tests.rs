//! A broker with one hub, on a simulated Redis.

use super::*;
use crate::{
    app::App,
    broker::{
        IDEMPOTENCY_WINDOW, IdempotencyKey, LogRequest,
        redis::{SimulatedNode, SimulatedRedis},
    },
    channel::OFFLINE_GRACE,
    clock,
    config::AppConfig,
    hub::{
        Inboxes, UserClose,
        testing::{NoopObserver, connection, decoded, name, received, shard},
    },
    protocol::{EventData, SocketId},
};
use serde_json::json;

mod logs;

struct TestBroker {
    redis: SimulatedRedis,
    _node: SimulatedNode,
    broker: RedisBroker,
    hub: Arc<Hub>,
    inboxes: Arc<Inboxes>,
}

impl TestBroker {
    async fn new() -> Self {
        let mut redis = SimulatedRedis::new();
        let node = redis.join().await;
        Self::on(redis, node)
    }

    fn on(redis: SimulatedRedis, node: SimulatedNode) -> Self {
        let inboxes = Arc::new(Inboxes::new(1));
        let app = App::new(AppConfig::development());
        let hub = Hub::new(app, Arc::clone(&inboxes), Arc::new(NoopObserver), clock::now());
        let hub = Arc::new(hub);
        node.broker.set_apps(HashMap::from([(hub.app_id(), Arc::clone(&hub))]));
        let broker = node.broker.clone();
        Self { redis, _node: node, broker, hub, inboxes }
    }

    /// The total of all nodes in the hash of a topic, by its kind (see `KeyNames`) and its name.
    fn total(&self, kind: &str, topic: &str) -> usize {
        let key = self.redis.key_ending(&format!("{kind}{{"), &format!(":{topic}"));
        let total = key.and_then(|key| self.redis.ask::<Option<usize>>(&["HGET", &key, "t"]));
        total.unwrap_or(0)
    }

    /// Waits until the total is as expected.
    async fn until_total(&self, kind: &str, topic: &str, expected: usize) {
        let end = clock::now() + Duration::from_secs(1);
        while self.total(kind, topic) != expected {
            assert!(clock::now() < end, "not {expected} within a second");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many connections of the hub are signed in as the user: those that it would close.
    fn signed_in(&self, user_id: &str) -> usize {
        self.hub.close_user(user_id, UserClose::Terminate);
        received(&self.inboxes, 0).len()
    }
}

fn user(id: &str, watchlist: &[&str]) -> User {
    let watchlist = watchlist.iter().map(|id| Arc::from(*id)).collect();
    User { id: id.into(), info: None, watchlist, watchlist_truncated: false }
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_is_recorded_in_redis_and_in_the_hub_until_it_ends() {
    let test = TestBroker::new().await;
    let ann = user("ann", &[]);
    let signed_in = test.broker.sign_in(&test.hub, connection(0, 1), &ann, "{}");
    assert_eq!(decoded(&signed_in.success).0, "pusher:signin_success");
    assert!(signed_in.watchlist.is_none());
    assert_eq!(test.signed_in("ann"), 1);
    test.until_total("u", "ann", 1).await;
    test.broker.sign_out(&test.hub, connection(0, 1), &ann);
    assert_eq!(test.signed_in("ann"), 0);
    let ended = clock::now();
    tokio::time::sleep(OFFLINE_GRACE - Duration::from_millis(1)).await;
    assert_eq!(test.total("u", "ann"), 1, "the user may return");
    test.until_total("u", "ann", 0).await;
    assert!(ended + OFFLINE_GRACE <= clock::now());
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_watchlist_arrives_in_the_inbox() {
    let test = TestBroker::new().await;
    test.broker.sign_in(&test.hub, connection(0, 1), &user("ann", &[]), "{}");
    test.until_total("u", "ann", 1).await;
    let bob = user("bob", &["ann", "eve"]);
    assert!(test.broker.sign_in(&test.hub, connection(0, 2), &bob, "{}").watchlist.is_none());
    test.until_total("u", "bob", 1).await;
    let events = json!({ "events": [
        { "name": "online", "user_ids": ["ann"] },
        { "name": "offline", "user_ids": ["eve"] },
    ] });
    let expected = ("pusher_internal:watchlist_events".to_owned(), events);
    let end = clock::now() + Duration::from_secs(1);
    let mut messages = received(&test.inboxes, 0);
    while messages.is_empty() && clock::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
        messages = received(&test.inboxes, 0);
    }
    assert_eq!(messages, [expected]);
}

#[tokio::test(start_paused = true)]
async fn an_ended_subscription_is_removed_from_the_hub_and_from_redis() {
    let test = TestBroker::new().await;
    let room = name("room");
    let request = |slot| SubscribeRequest {
        connection: connection(0, slot),
        ticket: slot,
        channel: &room,
        member: &None,
        socket_id: SocketId::from_random(1),
        log: LogRequest::No,
    };
    test.broker.subscribe(&test.hub, request(1));
    test.broker.subscribe(&test.hub, request(2));
    test.until_total("c", "room", 2).await;
    assert_eq!(test.hub.subscription_count(), 2);
    test.broker.unsubscribe(&test.hub, shard(0), &room, None);
    assert_eq!(test.hub.subscription_count(), 1, "at once");
    test.until_total("c", "room", 1).await;
    test.broker.unsubscribe(&test.hub, shard(0), &room, None);
    assert!(test.hub.shards_of(&room).is_empty());
    test.until_total("c", "room", 0).await;
}

#[test]
fn clients_are_not_read_beyond_the_limit_of_waiting_requests() {
    let (requests, _queue) = RequestSender::new();
    for _ in 0..BACKLOG_MAX {
        assert!(!requests.is_backlogged());
        requests.send(CoordinatorRequest::Disconnect { app_id: "app".into() });
    }
    assert!(!requests.is_backlogged(), "at the limit");
    requests.send(CoordinatorRequest::Disconnect { app_id: "app".into() });
    assert!(requests.is_backlogged());
}

#[tokio::test(start_paused = true)]
async fn a_repeated_publish_has_the_counts_of_the_first_on_each_node_and_reaches_no_subscriber() {
    let mut test = TestBroker::new().await;
    let other = test.redis.join().await;
    let room = name("room");
    let subscribe = |slot| {
        let connection = connection(0, slot);
        let request = SubscribeRequest {
            connection,
            socket_id: SocketId::from_random(1),
            ticket: slot,
            channel: &room,
            member: &None,
            log: LogRequest::No,
        };
        test.broker.subscribe(&test.hub, request);
    };
    subscribe(1);
    test.until_total("c", "room", 1).await;
    let publish = async |broker: &RedisBroker, key: &'static str| {
        let event = AppEvent {
            name: "e".into(),
            data: EventData::new("1"),
            channels: vec![room.clone()],
            except: None,
            idempotency_key: Some(IdempotencyKey::parse(key).unwrap()),
        };
        let (counts, _) = broker.publish(&test.hub, &[event], clock::now()).await.unwrap();
        counts[0].subscriptions
    };
    assert_eq!(publish(&test.broker, "k").await, 1);
    subscribe(2);
    test.until_total("c", "room", 2).await;
    assert_eq!(publish(&other.broker, "k").await, 1);
    assert_eq!(publish(&test.broker, "k").await, 1);
    assert_eq!(test.broker.shared.metrics.sent(), 1, "a repetition is not published");
    assert_eq!(publish(&other.broker, "l").await, 2);
    tokio::time::sleep(IDEMPOTENCY_WINDOW).await;
    assert_eq!(publish(&test.broker, "k").await, 2);
}
