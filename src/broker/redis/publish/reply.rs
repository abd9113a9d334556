//! What Redis replies to a publish.

use super::AttemptOutcome;
use crate::{
    broker::redis::{
        channel_logs::LogDrops,
        scripts::{ScriptReply, Status},
    },
    channel::Counts,
};
use redis::Value;

/// Redis' receipt for an accepted event.
pub(super) struct PublishReceipt {
    pub(super) counts: Counts,
    /// The event's sequence; 0 if the topic has none.
    pub(super) sequence: u64,
    /// Whether the event repeats that of an earlier publish with the same key, whose counts these are. It was not
    /// published.
    pub(super) is_repeated: bool,
}

/// What Redis replies to accepted events.
pub(super) struct PublishReply {
    pub(super) receipts: Vec<PublishReceipt>,
    /// When they were accepted, in µs since 1970, by Redis' clock.
    pub(super) at_us: u64,
    /// Whether some of them were logged.
    pub(super) is_logged: bool,
    pub(super) dropped: LogDrops,
}

/// The result of an attempt, and the server's clock in ms.
pub(super) fn parse_publish_reply(
    value: Value,
    events: usize,
    is_keyed: bool,
) -> Option<(AttemptOutcome, u64)> {
    let mut reply = ScriptReply::new(value).ok()?;
    let (status, redis_ms) = reply.status().ok()?;
    match status {
        Status::Late => return Some((AttemptOutcome::Late, redis_ms)),
        Status::Fenced => return Some((AttemptOutcome::Fenced, redis_ms)),
        Status::Done => {}
    }
    let at_us = reply.number().ok()?;
    let mut receipts = Vec::with_capacity(events);
    for _ in 0..events {
        let counts = Counts { subscriptions: reply.count().ok()?, users: reply.count().ok()? };
        let sequence = reply.number().ok()?;
        receipts.push(PublishReceipt { counts, sequence, is_repeated: false });
    }
    if is_keyed {
        for receipt in &mut receipts {
            receipt.is_repeated = reply.number().ok()? == 1;
        }
    }
    let dropped = LogDrops { of_channel: reply.number().ok()?, of_partition: reply.number().ok()? };
    let is_logged = reply.number().ok()? == 1;
    Some((AttemptOutcome::Done(PublishReply { receipts, at_us, is_logged, dropped }), redis_ms))
}
