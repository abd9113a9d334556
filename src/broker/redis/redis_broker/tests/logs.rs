//! The logs of channels with subscribers on a node.

use super::*;
use crate::{
    broker::{AppEvent, LogRequest},
    channel::{Gap, LogStart, Position},
    hub::Delivery,
    protocol::EventData,
};
use std::borrow::Cow;

impl TestBroker {
    fn request(&self, slot: u32, log: LogRequest<'_>) {
        let request = SubscribeRequest {
            connection: connection(0, slot),
            socket_id: SocketId::from_random(u64::from(slot) + 1),
            ticket: slot,
            channel: &name("room"),
            member: &None,
            log,
        };
        self.broker.subscribe(&self.hub, request);
    }

    /// The next delivery.
    async fn next(&self) -> Delivery {
        let end = clock::now() + Duration::from_secs(1);
        loop {
            let mut batch = std::collections::VecDeque::new();
            self.inboxes.inbox(shard(0)).drain_into(&mut batch);
            match (batch.pop_front(), batch.is_empty()) {
                (Some(delivery), true) => return delivery,
                (Some(_), false) => panic!("more than one: {batch:?}"),
                (None, _) => assert!(clock::now() < end, "nothing within a second"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Subscribes, and returns the start in the log.
    async fn read(&self, slot: u32, log: LogRequest<'_>) -> Option<LogStart> {
        self.request(slot, log);
        let Delivery::Subscription { result, .. } = self.next().await else { panic!() };
        result.unwrap().subscribed.log
    }

    async fn begin(&self, slot: u32) -> Position {
        self.read(slot, LogRequest::Begin).await.unwrap().end
    }

    /// What is replayed after a position.
    async fn after(&self, slot: u32, position: &Position) -> Result<Vec<String>, Gap> {
        let frames = self.read(slot, LogRequest::After(position)).await.unwrap().replay?;
        Ok(frames.iter().map(|frame| decoded(frame).1.to_string()).collect())
    }

    /// Publishes, and returns the sequence in the log with which this node's subscribers receive it.
    async fn publish(&self, data: &str) -> u64 {
        let event = AppEvent {
            name: Cow::Borrowed("e"),
            data: EventData::new(data),
            channels: vec![name("room")],
            except: Some(SocketId::from_random(3)),
            idempotency_key: None,
        };
        self.broker.publish(&self.hub, &[event], clock::now()).await.unwrap();
        let Delivery::Channel { logged, .. } = self.next().await else { panic!() };
        logged
    }

    fn park(&self) {
        self.broker.release_log(&self.hub, &name("room"), clock::now());
        self.broker.unsubscribe(&self.hub, shard(0), &name("room"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_returns_to_its_node_receives_what_was_published_meanwhile() {
    let test = TestBroker::new().await;
    assert!(test.read(1, LogRequest::No).await.is_none());
    assert_eq!(test.publish("\"0\"").await, 0, "no connection may resume");
    let position = test.begin(2).await;
    assert_eq!(test.publish("\"1\"").await, 1);
    test.park();
    assert_eq!(test.publish("\"2\"").await, 2);
    assert_eq!(test.after(3, &position).await, Ok(vec!["1".into(), "2".into()]));
    // Connection 2 has the socket id that the events exclude.
    assert_eq!(test.after(2, &position).await, Ok(vec![]));
    test.broker.expire_logs(&test.hub, clock::now() + Duration::from_secs(1));
    assert!(0 < RedisBroker::log_stats(&test.hub).bytes);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_had_no_subscribers_on_the_node_is_a_gap() {
    let test = TestBroker::new().await;
    let position = test.begin(1).await;
    assert_eq!(test.publish("\"1\"").await, 1);
    test.park();
    assert_eq!(RedisBroker::log_stats(&test.hub).bytes, 0, "its log is dropped");
    assert_eq!(test.after(1, &position).await, Err(Gap::Epoch));
}
