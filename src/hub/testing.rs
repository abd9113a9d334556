//! Helpers of the tests of the hub and of the brokers.

use super::{
    ConnectionKey, ConnectionRef, Delivery, HubEvent, Inboxes, Observer, ShardIndex, WebhookEvent,
};
use crate::protocol::{ChannelName, Frame, Member};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Ignores all events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoopObserver;

impl Observer for NoopObserver {
    fn wants(&self, _app_id: &str, _kind: WebhookEvent) -> bool {
        false
    }

    fn observe(&self, _app_id: &str, _hub_event: HubEvent) {}

    fn observe_at(&self, _app_id: &str, _at_us: u64, _hub_event: HubEvent) {}
}

/// Is interested in all events, and ignores them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllEventsObserver;

impl Observer for AllEventsObserver {
    fn wants(&self, _app_id: &str, _kind: WebhookEvent) -> bool {
        true
    }

    fn observe(&self, _app_id: &str, _hub_event: HubEvent) {}

    fn observe_at(&self, _app_id: &str, _at_us: u64, _hub_event: HubEvent) {}
}

pub(crate) fn name(text: &str) -> ChannelName {
    ChannelName::parse(text, 200).unwrap()
}

pub(crate) fn member(user_id: &str) -> Member {
    Member { user_id: user_id.into(), user_info: "{}".into() }
}

pub(crate) fn shard(index: usize) -> ShardIndex {
    ShardIndex::new(index)
}

pub(crate) fn connection(index: usize, slot: u32) -> ConnectionRef {
    ConnectionRef { shard: shard(index), key: ConnectionKey { slot, generation: 0 } }
}

fn json_of(frame: &Frame) -> Value {
    let start = frame.bytes().iter().position(|byte| *byte == b'{').unwrap();
    serde_json::from_slice(&frame.bytes()[start..]).unwrap()
}

/// The event's name, and its parsed data.
pub(crate) fn decoded(frame: &Frame) -> (String, Value) {
    let outer = json_of(frame);
    let data = outer["data"].as_str().map(|text| serde_json::from_str(text).unwrap_or(json!(text)));
    (outer["event"].as_str().unwrap().to_owned(), data.unwrap_or(Value::Null))
}

/// Takes the queued deliveries of a shard.
pub(crate) fn deliveries(inboxes: &Inboxes, index: usize) -> VecDeque<Delivery> {
    let mut batch = VecDeque::new();
    inboxes.inbox(shard(index)).drain_into(&mut batch);
    batch
}

/// The messages to the subscribers on a shard since the last call.
pub(crate) fn received(inboxes: &Inboxes, index: usize) -> Vec<(String, Value)> {
    deliveries(inboxes, index)
        .iter()
        .map(|delivery| match delivery {
            Delivery::Channel { frame, .. } | Delivery::Connections { frame, .. } => decoded(frame),
            Delivery::Close { code, .. } | Delivery::CloseSubscribers { code, .. } => {
                (code.to_string(), Value::Null)
            }
            Delivery::CloseApp(_) => ("app closed".to_owned(), Value::Null),
            Delivery::ReportSlow(_) => ("slow connections".to_owned(), Value::Null),
            Delivery::ReportConnections(_) => ("connections".to_owned(), Value::Null),
            Delivery::WatchConnection(_) => ("watch".to_owned(), Value::Null),
            Delivery::Disconnect { socket_id, .. } => {
                (format!("disconnect {socket_id}"), Value::Null)
            }
            Delivery::Evict(key) => (format!("evict {}", key.slot), Value::Null),
            Delivery::Response { key, .. } => (format!("response {}", key.slot), Value::Null),
            Delivery::Replace(key) => (format!("replace {}", key.slot), Value::Null),
            Delivery::Resume { key, .. } => (format!("resume {}", key.slot), Value::Null),
            Delivery::Subscription { ticket, result, .. } => match result {
                Ok(accepted) => decoded(&accepted.subscribed.succeeded_frame),
                Err(_rejection) => (format!("rejected {ticket}"), Value::Null),
            },
        })
        .collect()
}
