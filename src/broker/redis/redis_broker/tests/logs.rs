//! Connections that return to the same node or to another one, and what happens to the log meanwhile.

use super::*;
use crate::{
    broker::{
        AcceptedClientEvent, AppEvent,
        redis::{
            recent_sequences::{LOGGED_TOPICS_MAX, MIN_RETENTION},
            simulation::KeptData,
        },
    },
    channel::{Gap, LogStart, Position, ReplayedEvent},
    hub::Delivery,
    protocol::EventData,
};
use std::{borrow::Cow, collections::VecDeque};

/// A replay, as the data of its events.
type Replay = Result<Vec<String>, Gap>;

fn room() -> ChannelName {
    name("room")
}

/// The connection with the socket id that events exclude.
const EXCLUDED: u32 = 9;

fn socket(slot: u32) -> SocketId {
    SocketId::from_random(u64::from(slot) + 1)
}

fn data(data: &[&str]) -> Vec<String> {
    data.iter().map(|text| (*text).to_owned()).collect()
}

impl TestBroker {
    /// The next delivery of the inbox.
    async fn next(&self) -> Delivery {
        let end = clock::now() + Duration::from_secs(60);
        loop {
            let mut batch = VecDeque::new();
            self.inboxes.inbox(shard(0)).drain_into(&mut batch);
            match (batch.pop_front(), batch.is_empty()) {
                (Some(delivery), true) => return delivery,
                (Some(first), false) => panic!("more than one: {first:?} {batch:?}"),
                (None, _) => assert!(clock::now() < end, "nothing within a minute"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Subscribes, and returns the start in the log.
    async fn read(&self, slot: u32, log: LogRequest<'_>) -> Option<LogStart> {
        let request = SubscribeRequest {
            connection: connection(0, slot),
            socket_id: socket(slot),
            ticket: slot,
            channel: &room(),
            member: &None,
            log,
        };
        self.broker.subscribe(&self.hub, request);
        let Delivery::Subscription { result, .. } = self.next().await else { panic!() };
        result.unwrap().subscribed.log
    }

    async fn begin(&self, slot: u32) -> Position {
        let start = self.read(slot, LogRequest::Begin).await.unwrap();
        assert!(start.replay.unwrap().is_empty());
        start.end
    }

    /// What is replayed after a position, and where the log ends.
    async fn return_to(&self, slot: u32, position: &Position) -> (Replay, Position) {
        let start = self.read(slot, LogRequest::After(position)).await.unwrap();
        let text = |event: &ReplayedEvent| decoded(&event.frame).1.to_string();
        (start.replay.map(|events| events.iter().map(text).collect()), start.end)
    }

    /// What is replayed after a position to a connection that is lost again at once.
    async fn after(&self, position: &Position) -> Replay {
        let replay = self.return_to(1, position).await.0;
        self.park();
        replay
    }

    /// Publishes an event, again while Redis is away.
    async fn publish(&self, data: &str) {
        let event = AppEvent {
            name: Cow::Borrowed("e"),
            data: EventData::new(data),
            channels: vec![room()],
            except: Some(socket(EXCLUDED)),
            idempotency_key: None,
        };
        let end = clock::now() + Duration::from_secs(60);
        while self
            .broker
            .publish(&self.hub, std::slice::from_ref(&event), clock::now())
            .await
            .is_err()
        {
            assert!(clock::now() < end, "not published within a minute");
        }
    }

    /// The sequence in the log that the subscribers of this node receive an event with.
    async fn logged(&self) -> u64 {
        let Delivery::Channel { logged, .. } = self.next().await else { panic!("no event") };
        logged
    }

    fn whisper(&self, slot: u32) {
        let (channel, data) = (room(), EventData::new("1"));
        let event = AcceptedClientEvent {
            connection: connection(0, slot),
            sender: socket(slot),
            channel: &channel,
            name: "client-e",
            data: &data,
            user_id: None,
        };
        self.broker.publish_client_event(&self.hub, event, clock::now());
    }

    fn park(&self) {
        self.broker.release_log(&self.hub, &room());
        self.broker.unsubscribe(&self.hub, shard(0), &room(), None);
    }

    /// Waits until this node has left the channel.
    async fn until_left(&self) {
        self.until_total("c", "room", 0).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    /// Another node with the same Redis.
    async fn another(&mut self) -> Self {
        let node = self.redis.join().await;
        Self::on(self.redis.clone(), node)
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_returns_receives_what_was_published_meanwhile() {
    let mut test = TestBroker::new().await;
    assert!(test.read(1, LogRequest::No).await.is_none());
    test.publish("0").await;
    assert_eq!(test.logged().await, 0, "no connection may resume");
    let start = test.begin(2).await;
    assert_eq!(start.sequence, 1);
    test.publish("1").await;
    assert_eq!(test.logged().await, 2);
    test.park();
    test.park();
    test.publish("2").await;
    test.until_left().await;
    test.publish("3").await;
    assert_eq!(test.return_to(3, &start).await.0, Ok(data(&["1", "2", "3"])));
    let another = test.another().await;
    assert_eq!(another.return_to(1, &start).await.0, Ok(data(&["1", "2", "3"])), "on any node");
    let (replay, end) = another.return_to(EXCLUDED, &start).await;
    assert_eq!((replay, end.sequence), (Ok(data(&[])), 4));
    assert_eq!(end.epoch, start.epoch);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_logged_is_a_gap() {
    let mut test = TestBroker::new().await;
    let another = test.another().await;
    another.read(1, LogRequest::No).await;
    test.publish("1").await;
    assert_eq!(another.logged().await, 0);
    let start = test.begin(1).await;
    let before = Position { sequence: 0, ..start.clone() };
    assert_eq!(test.after(&before).await, Err(Gap::Trimmed));
    let ahead = Position { sequence: 2, ..start.clone() };
    assert_eq!(test.after(&ahead).await, Err(Gap::Epoch));
    test.park();
    test.until_total("c", "room", 1).await;
    tokio::time::sleep(test.broker.shared.logs.kept).await;
    assert_eq!(test.after(&start).await, Ok(data(&[])), "nothing was published");
    test.until_total("c", "room", 1).await;
    tokio::time::sleep(test.broker.shared.logs.kept + Duration::from_secs(2)).await;
    test.publish("2").await;
    assert_eq!(another.logged().await, 0);
    assert_eq!(test.after(&start).await, Err(Gap::Trimmed), "it was away for too long");
}

#[tokio::test(start_paused = true)]
async fn client_events_are_no_gap_and_not_replayed() {
    let test = TestBroker::new().await;
    let start = test.begin(1).await;
    test.publish("1").await;
    assert_eq!(test.logged().await, 1);
    test.whisper(1);
    assert_eq!(test.logged().await, 2);
    test.publish("2").await;
    assert_eq!(test.logged().await, 3);
    assert_eq!(test.return_to(2, &start).await.0, Ok(data(&["1", "2"])));
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_redis_with_all_data_is_no_gap() {
    let test = TestBroker::new().await;
    let start = test.begin(1).await;
    test.publish("1").await;
    assert_eq!(test.logged().await, 1);
    test.park();
    test.redis.stop();
    tokio::time::sleep(Duration::from_secs(5)).await;
    test.redis.restart();
    test.publish("2").await;
    assert_eq!(test.after(&start).await, Ok(data(&["1", "2"])));
}

/// What a connection receives that returns from the beginning, and one that had received three events, after Redis has
/// lost its last `lost` writes. The channel is empty then if `is_left`.
async fn after_a_loss(kept: KeptData, is_left: bool) -> [Replay; 2] {
    let test = TestBroker::new().await;
    let start = test.begin(1).await;
    for number in 1..=3 {
        test.publish(&number.to_string()).await;
        assert_eq!(test.logged().await, number);
    }
    if is_left {
        test.park();
        test.until_left().await;
        // What this node has published is forgotten before what it has received.
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    test.redis.restart_with(kept);
    for number in 4..=7 {
        test.publish(&number.to_string()).await;
    }
    if !is_left {
        let mut ignored = VecDeque::new();
        test.inboxes.inbox(shard(0)).drain_into(&mut ignored);
        test.park();
    }
    let three = Position { sequence: 3, ..start.clone() };
    [test.after(&start).await, test.after(&three).await]
}

#[tokio::test(start_paused = true)]
async fn what_a_redis_has_lost_is_a_gap() {
    let (all, latest) =
        (Ok(data(&["1", "2", "3", "4", "5", "6", "7"])), Ok(data(&["4", "5", "6", "7"])));
    for is_left in [false, true] {
        let lost = after_a_loss(KeptData::Nothing, is_left).await;
        assert_eq!(lost, [Err(Gap::Epoch), Err(Gap::Epoch)], "{is_left}");
        let mut found = [0; 4];
        for lost in 0..40 {
            let [from_start, from_three] = after_a_loss(KeptData::AllBut(lost), is_left).await;
            let is_whole = [from_start == all, from_three == latest];
            assert!(is_whole[0] || from_start.is_err(), "{is_left} {lost}: {from_start:?}");
            assert!(is_whole[1] || from_three.is_err(), "{is_left} {lost}: {from_three:?}");
            found[usize::from(is_whole[0]) + 2 * usize::from(is_whole[1])] += 1;
        }
        assert!(found[3] != 0, "no data was lost that was not written before: {found:?}");
        assert!(found[2] != 0, "what a connection has received is not replayed: {found:?}");
        assert!(found[0] != 0, "the channel was lost: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_without_subscribers_that_a_redis_has_lost_are_a_gap() {
    let test = TestBroker::new().await;
    let start = test.begin(1).await;
    test.park();
    test.until_left().await;
    for number in 1..=40 {
        test.publish(&number.to_string()).await;
    }
    // The sequence of an event that is not logged is forgotten by then.
    tokio::time::sleep(3 * MIN_RETENTION).await;
    let log = test.redis.key_ending("x{", ":room").expect("the channel has a log");
    // Heartbeats are among the writes that are lost.
    test.redis.restart_with(KeptData::AllBut(40));
    let kept: u64 = test.redis.ask(&["XLEN", &log]);
    assert!((1..40).contains(&kept), "{kept} events are left");
    test.publish("41").await;
    let (replay, end) = test.return_to(1, &start).await;
    assert_eq!((replay, end.sequence), (Err(Gap::Trimmed), 41), "no sequence is used again");
    assert_eq!(end.epoch, start.epoch, "it is known which events were lost");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_too_many_channels_does_not_know_what_a_redis_has_lost() {
    for (topics, expected) in
        [(LOGGED_TOPICS_MAX, Ok(data(&[]))), (LOGGED_TOPICS_MAX + 1, Err(Gap::Epoch))]
    {
        let test = TestBroker::new().await;
        let start = test.begin(1).await;
        for number in 0..topics {
            test.broker.shared.logged_sequences.record(&number.to_string(), 1, clock::now());
        }
        test.redis.restart();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(test.return_to(2, &start).await.0, expected, "{topics} topics");
    }
}
