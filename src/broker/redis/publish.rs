//! Publishing through Redis: an event is accepted for the subscribers on all nodes, or delivered to
//! none.

mod grouped;
mod reply;

use super::{
    cache_updates::CachedPublish,
    clock::now,
    cluster_state::ClusterState,
    envelope::{Envelope, EnvelopeId},
    fencing_token::FencingToken,
    partition::Partition,
    random,
    reason::{UnavailableReason, was_rejected},
    scripts::ScriptCall,
};
use crate::{
    broker::{
        PublishId, cached_channel_bytes,
        error::{PublishError, Unavailable},
    },
    channel::{Counts, LogLimits},
    protocol::{ChannelName, Frame, FrameKind, SocketId},
};
use redis::RedisError;
use reply::{PublishReceipt, PublishReply, parse_publish_reply};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// An event for one channel, encoded.
#[derive(Clone, Debug)]
pub(super) struct OutgoingEvent {
    /// The channel that receives the event.
    pub(super) channel: ChannelName,
    /// The event as clients receive it.
    pub(super) frame: Frame,
    /// The connection that does not receive it.
    pub(super) except: Option<SocketId>,
    /// How long a cache channel keeps it as its cached event; zero for not at all.
    pub(super) retention: Duration,
    /// The id of the publish, if it has an idempotency key.
    pub(super) publish_id: Option<PublishId>,
    /// What the channel's history keeps, if it has one.
    pub(super) history: Option<LogLimits>,
}

/// The pause before a publish is retried after a rejection.
const REJECTED_PAUSE: Duration = Duration::from_millis(50);

/// How much longer than `broker_wait_ms` the ids of events are kept, to recognise a repetition.
const RETRY_ID_MARGIN: Duration = Duration::from_secs(5);

/// The result of one attempt.
enum AttemptOutcome {
    Done(PublishReply),
    /// The deadline had passed by Redis' clock, whose estimate was updated.
    Late,
    /// Redis rejected it temporarily.
    Rejected,
    /// The fencing token is outdated: the node is about to join again.
    Fenced,
    /// There was no reply: it may have been published, and until this time it still may be.
    NoReply {
        may_run_until: Instant,
    },
}

impl OutgoingEvent {
    /// For how long the channel keeps the event, in ms: 0 if it keeps what it has, and -1 if the event
    /// is too large to be kept and what the channel has is outdated.
    fn retention_ms(&self, max_cache_bytes: usize) -> i64 {
        if !self.is_cached() {
            0
        } else if max_cache_bytes < self.cache_bytes() {
            -1
        } else {
            i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX)
        }
    }

    fn is_cached(&self) -> bool {
        self.channel.is_cache() && self.frame.kind() == FrameKind::Event
    }

    fn cache_bytes(&self) -> usize {
        self.frame.bytes().len() + cached_channel_bytes(&self.channel)
    }
}

/// Events of one partition, which are published in one step.
pub(super) struct PartitionPublish<'a> {
    pub(super) partition: Partition,
    pub(super) events: Vec<&'a OutgoingEvent>,
    /// The positions of the events among all.
    pub(super) positions: Vec<usize>,
}

impl PartitionPublish<'_> {
    /// Whether some event has an idempotency key.
    fn is_keyed(&self) -> bool {
        self.events.iter().any(|event| event.publish_id.is_some())
    }

    /// Whether the channel of some event has a history.
    fn has_history(&self) -> bool {
        self.events.iter().any(|event| event.history.is_some())
    }
}

/// The result for accepted events.
struct PublishedBatch {
    counts: Vec<Counts>,
    /// How many of the events were repeated, and not published.
    repeated: usize,
    /// The events for the index of cached events.
    cached: Vec<CachedPublish>,
}

impl PublishedBatch {
    fn new(
        events: &[&OutgoingEvent],
        ids: &[EnvelopeId],
        max_cache_bytes: usize,
        (receipts, at_us): (Vec<PublishReceipt>, u64),
    ) -> Self {
        let all = events.iter().zip(ids).zip(&receipts);
        // The index has the earlier event.
        let cached = all.filter(|((event, _), receipt)| event.is_cached() && !receipt.is_repeated);
        let cached = cached.map(|((event, id), _)| {
            let retention_ms = u64::try_from(event.retention_ms(max_cache_bytes)).unwrap_or(0);
            let bytes = if retention_ms == 0 { 0 } else { event.cache_bytes() };
            CachedPublish { channel: event.channel.clone(), id: *id, at_us, bytes, retention_ms }
        });
        let cached = cached.collect();
        let repeated = receipts.iter().filter(|receipt| receipt.is_repeated).count();
        let counts = receipts.into_iter().map(|receipt| receipt.counts).collect();
        Self { counts, repeated, cached }
    }
}

impl ClusterState {
    /// Publishes events, in one step for each partition, and returns the counts of their channels.
    ///
    /// # Errors
    ///
    /// [`PublishError`]: the node was not joined for as long as a publish waits, or Redis did not
    /// answer.
    pub(super) async fn publish(
        self: &Arc<Self>,
        app_id: &Arc<str>,
        events: &[OutgoingEvent],
        max_cache_bytes: usize,
    ) -> Result<Vec<Counts>, PublishError> {
        let deadline = now() + self.broker_wait;
        let result = if events.iter().any(OutgoingEvent::is_cached) {
            self.publish_cached(app_id, events, max_cache_bytes, deadline).await
        } else {
            self.publish_all(app_id, events, max_cache_bytes, deadline).await
        };
        match &result {
            Ok((counts, repeated)) => {
                self.metrics.count_sent(counts.len() - repeated);
                self.metrics.repeated.inc_by(*repeated as u64);
            }
            Err(error) => self.metrics.count_failed_publish(*error),
        }
        result.map(|(counts, _)| counts)
    }

    /// Publishes in a task, so that cached events are counted even if the publisher disconnects.
    async fn publish_cached(
        self: &Arc<Self>,
        app_id: &Arc<str>,
        events: &[OutgoingEvent],
        max_cache_bytes: usize,
        deadline: Instant,
    ) -> Result<(Vec<Counts>, usize), PublishError> {
        let permit = time::timeout_at(deadline.into(), self.cache_updates.permit()).await;
        let Ok(permit) = permit else { return Err(PublishError::NotDelivered) };
        let (shared, app_id, events) = (Arc::clone(self), Arc::clone(app_id), events.to_vec());
        let task = tokio::spawn(async move {
            let _permit = permit;
            shared.publish_all(&app_id, &events, max_cache_bytes, deadline).await
        });
        task.await.unwrap_or(Err(PublishError::OutcomeUnknown))
    }

    /// Publishes the events of all partitions. Returns the counts of their channels, and how many events were repeated.
    async fn publish_all(
        self: &Arc<Self>,
        app_id: &Arc<str>,
        events: &[OutgoingEvent],
        max_cache_bytes: usize,
        deadline: Instant,
    ) -> Result<(Vec<Counts>, usize), PublishError> {
        let batches = self.batches(app_id, events);
        let each = batches
            .iter()
            .map(|batch| self.publish_batch(app_id, batch, max_cache_bytes, deadline));
        let results = futures_util::future::join_all(each).await;
        let is_certain =
            !results.iter().any(|result| matches!(result, Err(PublishError::OutcomeUnknown)));
        let mut counts = vec![Counts::default(); events.len()];
        let (mut accepted, mut repeated, mut cached) = (0, 0, Vec::new());
        for (batch, published) in batches.iter().zip(results) {
            let Ok(published) = published else { continue };
            accepted += 1;
            repeated += published.repeated;
            for (position, of_event) in batch.positions.iter().zip(published.counts) {
                counts[*position] = of_event;
            }
            cached.extend(published.cached);
        }
        if !cached.is_empty() {
            self.cache_updates.add(app_id, max_cache_bytes, cached);
        }
        if accepted == batches.len() {
            return Ok((counts, repeated));
        }
        // If some were accepted, the result for the whole publish is unknown.
        Err(if accepted == 0 && is_certain {
            PublishError::NotDelivered
        } else {
            PublishError::OutcomeUnknown
        })
    }

    /// The events of each partition.
    fn batches<'a>(&self, app_id: &str, events: &'a [OutgoingEvent]) -> Vec<PartitionPublish<'a>> {
        let mut batches: Vec<PartitionPublish<'a>> = Vec::new();
        for (position, event) in events.iter().enumerate() {
            let partition = self.names.channel_partition(app_id, &event.channel);
            match batches.iter_mut().find(|batch| batch.partition == partition) {
                Some(batch) => {
                    batch.events.push(event);
                    batch.positions.push(position);
                }
                None => {
                    batches.push(PartitionPublish {
                        partition,
                        events: vec![event],
                        positions: vec![position],
                    });
                }
            }
        }
        batches
    }

    async fn publish_batch(
        self: &Arc<Self>,
        app_id: &str,
        batch: &PartitionPublish<'_>,
        max_cache_bytes: usize,
        deadline: Instant,
    ) -> Result<PublishedBatch, PublishError> {
        let ids: Vec<EnvelopeId> = batch.events.iter().map(|_| self.envelope_id()).collect();
        let mut may_be_published = false;
        loop {
            let options = (deadline, may_be_published, max_cache_bytes);
            let attempt = self.attempt(app_id, batch, &ids, options).await;
            match attempt {
                Some(AttemptOutcome::Done(reply)) => {
                    self.count_log_drops(app_id, reply.dropped);
                    let receipts = (reply.receipts, reply.at_us);
                    return Ok(PublishedBatch::new(&batch.events, &ids, max_cache_bytes, receipts));
                }
                Some(AttemptOutcome::Rejected | AttemptOutcome::Late) => {
                    let left = deadline.saturating_duration_since(now());
                    time::sleep(REJECTED_PAUSE.min(left)).await;
                }
                Some(AttemptOutcome::NoReply { may_run_until: until }) => {
                    may_be_published = true;
                    // The link is about to fail.
                    self.mark_suspect();
                    time::sleep_until(until.into()).await;
                }
                Some(AttemptOutcome::Fenced) | None => {}
            }
            if attempt.is_none() || deadline <= now() {
                return Err(if may_be_published {
                    PublishError::OutcomeUnknown
                } else {
                    PublishError::NotDelivered
                });
            }
        }
    }

    /// One attempt; `None` if the node was not joined in time.
    async fn attempt(
        self: &Arc<Self>,
        app_id: &str,
        batch: &PartitionPublish<'_>,
        ids: &[EnvelopeId],
        (deadline, is_retry, max_cache_bytes): (Instant, bool, usize),
    ) -> Option<AttemptOutcome> {
        let link = self.wait_joined(deadline).await?;
        let token = Arc::clone(&link.token);
        let partition = batch.partition;
        let requested_at = now();
        let attempt_deadline = self.attempt_deadline(requested_at, deadline);
        let options = (attempt_deadline, is_retry, max_cache_bytes);
        let (call, topics) = self.publish_call(app_id, batch, ids, options, &token);
        let reply = self.await_reply(deadline, self.run_publish(call, link)).await;
        Some(match reply {
            Some(Ok(value)) => {
                let Some((attempt, redis_ms)) =
                    parse_publish_reply(value, ids.len(), batch.is_keyed())
                else {
                    return Some(AttemptOutcome::Rejected);
                };
                match &attempt {
                    AttemptOutcome::Done(reply) => self.record_sequences(&topics, reply),
                    AttemptOutcome::Late => {
                        self.redis_clocks.record(partition, redis_ms, (requested_at, now()));
                    }
                    AttemptOutcome::Fenced => self.on_fenced(&token),
                    AttemptOutcome::Rejected | AttemptOutcome::NoReply { .. } => {}
                }
                attempt
            }
            Some(Err(error)) if was_rejected(&error) => {
                self.log_rejection(&error, deadline);
                AttemptOutcome::Rejected
            }
            Some(Err(_)) | None => AttemptOutcome::NoReply {
                may_run_until: if self.is_redis_cluster { attempt_deadline } else { now() },
            },
        })
    }

    /// The call of the script, and the topics of the events.
    pub(super) fn publish_call(
        &self,
        app_id: &str,
        batch: &PartitionPublish<'_>,
        ids: &[EnvelopeId],
        (attempt_deadline, is_retry, max_cache_bytes): (Instant, bool, usize),
        token: &FencingToken,
    ) -> (ScriptCall, Vec<String>) {
        let partition = batch.partition;
        let mut topics = Vec::with_capacity(batch.events.len());
        let (is_keyed, has_history) = (batch.is_keyed(), batch.has_history());
        let mut call = ScriptCall::fenced(&self.scripts.publish, partition, &self.names, token)
            .key(self.names.log_order_key(partition))
            .key(self.names.log_ends_key(partition))
            .key(self.names.log_sizes_key(partition))
            .number(self.redis_clocks.at(partition, attempt_deadline))
            .number(call_flags(is_retry, is_keyed, has_history))
            .number((self.broker_wait + RETRY_ID_MARGIN).as_millis())
            .number(self.logs.log_limits().events)
            .number(self.logs.age.as_millis());
        for (event, id) in batch.events.iter().zip(ids) {
            let topic = self.names.channel_topic_key(app_id, &event.channel);
            let retention_ms = event.retention_ms(max_cache_bytes);
            let envelope = Envelope {
                id: *id,
                is_retry,
                except: event.except,
                retention_ms: u64::try_from(retention_ms).unwrap_or(0),
                frame: event.frame.clone(),
            };
            call = call
                .key(&topic)
                .key(self.names.cached_event_key(app_id, &event.channel))
                .key(self.names.recent_event_ids_key(app_id, &event.channel))
                .key(self.names.channel_log_key(app_id, &event.channel))
                .arg(id.0.to_be_bytes())
                .arg(envelope.encode())
                .number(retention_ms);
            if has_history {
                call = with_history(call, event.history);
            }
            if is_keyed {
                let record = event
                    .publish_id
                    .map(|id| self.names.publish_record_key(app_id, &event.channel, id));
                call = call.key(record.as_ref().unwrap_or(&topic));
            }
            topics.push(topic);
        }
        (call, topics)
    }

    /// Records the sequences of accepted events: after a loss of data, Redis may not have them any more.
    fn record_sequences(&self, topics: &[String], reply: &PublishReply) {
        let now = now();
        for (topic, receipt) in topics.iter().zip(&reply.receipts) {
            self.published_sequences.record(topic, receipt.sequence, now);
            if reply.is_logged {
                self.logged_sequences.record(topic, receipt.sequence, now);
            }
        }
    }

    /// Until when Redis may execute an attempt. On a Redis Cluster that is before the next one
    /// begins: a master that was paused and replaced executes what lies in its buffers when it
    /// resumes, and the new master passes that on to subscribers, which may have later events.
    fn attempt_deadline(&self, requested_at: Instant, deadline: Instant) -> Instant {
        if self.is_redis_cluster {
            deadline.min(requested_at + self.suspect_after())
        } else {
            deadline
        }
    }

    /// Logs a publish that is rejected until its timeout, although this node is joined.
    fn log_rejection(&self, error: &RedisError, deadline: Instant) {
        let (now, reason) = (now(), UnavailableReason::from(error));
        let is_lasting = deadline.saturating_duration_since(now) < self.broker_wait / 2;
        tracing::debug!(reason = &*reason.text, "redis rejected a publish");
        if let Some(count) = self.log_throttles.publishes.record(u64::from(is_lasting), now) {
            tracing::warn!(reason = &*reason.text, count, "redis rejects publishes");
        }
    }

    /// Publishes a client event at once, or not at all: clients do not wait for it.
    pub(super) async fn publish_client_event(
        self: &Arc<Self>,
        app_id: &str,
        event: OutgoingEvent,
    ) -> Result<(), Unavailable> {
        let deadline = now() + self.broker_wait;
        self.joined_now().ok_or(Unavailable)?;
        let id = self.envelope_id();
        let partition = self.names.channel_partition(app_id, &event.channel);
        let batch = PartitionPublish { partition, events: vec![&event], positions: vec![0] };
        match self.attempt(app_id, &batch, &[id], (deadline, false, 0)).await {
            Some(AttemptOutcome::Done(reply)) => {
                self.count_log_drops(app_id, reply.dropped);
                self.metrics.count_sent(1);
                Ok(())
            }
            Some(
                AttemptOutcome::Late
                | AttemptOutcome::Rejected
                | AttemptOutcome::Fenced
                | AttemptOutcome::NoReply { .. },
            )
            | None => Err(Unavailable),
        }
    }
}

/// The flags of the script's call (see `lua/publish.lua`).
fn call_flags(is_retry: bool, is_keyed: bool, has_history: bool) -> u8 {
    u8::from(is_retry) + 2 * u8::from(is_keyed) + 4 * u8::from(has_history)
}

/// Adds what the history of an event's channel keeps.
fn with_history(call: ScriptCall, history: Option<LogLimits>) -> ScriptCall {
    match history {
        Some(LogLimits { events, age, .. }) => {
            call.number(age.as_millis()).number(events).arg(random::hex_id())
        }
        None => call.arg("0").arg("0").arg(""),
    }
}

#[cfg(test)]
mod tests;
