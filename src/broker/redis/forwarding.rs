//! Forwards the records for webhooks, which topics log, to the app's log.
//!
//! `sync.lua` logs a change in the step that makes it, in the partition of its topic. If that is
//! not the partition of the app (on a Redis Cluster), the records are *forwarded*: a batch of the
//! log is read, appended to the app's log, and then removed. Records are numbered; the app's log
//! stores the last number from each partition, in the step that appends. Each record is therefore
//! appended once and in its partition's order, even if several nodes forward at once, die or retry.
//!
//! The node whose sync added a record forwards it immediately. Every 30 seconds the leader checks for
//! records that were not forwarded.

use super::{
    clock::now,
    cluster_state::ClusterState,
    envelope::{ControlMessage, split_number},
    fencing_token::FencingToken,
    link::RedisConnection,
    partition::Partition,
    scripts::{ScriptCall, ScriptReply, Status, Unexpected},
    tick_context::TickContext,
    unforwarded::PartitionLog,
    webhook_interest::WebhookInterest,
};
use redis::{RedisError, RedisResult, cmd};
use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// The number of logs that one node forwards at once.
const CONCURRENT_LOGS_MAX: usize = 32;
/// The number of records that are forwarded at once.
const RECORDS_MAX: usize = 1_000;
/// Timeout of forwarding one log.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after forwarding has failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The interval between checks for logs that were not forwarded.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The number of checks in a round of 30 seconds, with some time to spare.
const POLLS_PER_ROUND: usize = 28;

/// The logs that this node is forwarding.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    in_flight: BTreeSet<PartitionLog>,
    paused_until: Option<Instant>,
    /// Partitions that are still to be checked in this round.
    queue: VecDeque<Partition>,
    next_poll: Option<Instant>,
}

/// The result of forwarding a log.
#[derive(Debug)]
pub(super) struct Forwarded {
    log: PartitionLog,
    is_done: bool,
}

impl Forwarding {
    /// The logs to forward now, as tasks.
    pub(super) fn start(
        &mut self,
        now: Instant,
        shared: &Arc<ClusterState>,
        token: &Arc<FencingToken>,
        connection: &RedisConnection,
    ) -> Vec<impl Future<Output = Forwarded> + Send + use<>> {
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        let mut tasks = Vec::new();
        while !is_paused && self.in_flight.len() < CONCURRENT_LOGS_MAX {
            let Some(log) = shared.unforwarded.take(&self.in_flight) else { break };
            self.in_flight.insert(log.clone());
            let PartitionLog { app_id, partition } = log.clone();
            let forward = ForwardTask {
                shared: Arc::clone(shared),
                token: Arc::clone(token),
                connection: connection.clone(),
                app_id,
                partition,
            };
            tasks.push(async move {
                let is_done = matches!(timeout(FORWARD_TIMEOUT, forward.run()).await, Ok(Ok(())));
                Forwarded { log, is_done }
            });
        }
        tasks
    }

    /// Records the result. A log that was not forwarded is retried after a pause.
    pub(super) fn on_forwarded(
        &mut self,
        Forwarded { log, is_done }: Forwarded,
        shared: &ClusterState,
        now: Instant,
    ) {
        self.in_flight.remove(&log);
        if !is_done {
            self.paused_until = Some(now + RETRY_PAUSE);
            shared.unforwarded.add(log);
        }
    }

    /// Resets the state when the link is lost: forwarding restarts over the next.
    pub(super) fn reset(&mut self, shared: &ClusterState) {
        for log in std::mem::take(self).in_flight {
            shared.unforwarded.add(log);
        }
    }

    /// If due, and if this node is the leader, checks for logs that were not forwarded.
    pub(super) fn poll(&mut self, now: Instant, context: TickContext<'_>) {
        let TickContext { shared, membership, topics, connection } = context;
        let is_due = self.next_poll.is_none_or(|at| at <= now);
        if !shared.is_redis_cluster || !is_due || !membership.is_joined() {
            return;
        }
        self.next_poll = Some(now + POLL_INTERVAL);
        if !membership.nodes.is_leader(membership.node()) {
            return;
        }
        let with_webhooks = topics.hubs.iter().filter(|(_, hub)| WebhookInterest::any_of(hub));
        let apps: Vec<Arc<str>> = with_webhooks.map(|(app_id, _)| Arc::clone(app_id)).collect();
        if self.queue.is_empty() {
            self.queue = shared.names.partitions().collect();
        }
        let count = shared.names.partitions().len().div_ceil(POLLS_PER_ROUND);
        for partition in self.queue.drain(..count.min(self.queue.len())) {
            let is_of_other_partition =
                |app_id: &&Arc<str>| shared.names.app_partition(app_id) != partition;
            let apps: Vec<Arc<str>> = apps.iter().filter(is_of_other_partition).cloned().collect();
            if !apps.is_empty() {
                let poll_partition =
                    poll_partition(Arc::clone(shared), connection.clone(), partition, apps);
                tokio::spawn(timeout(FORWARD_TIMEOUT, poll_partition));
            }
        }
    }
}

/// Checks which logs of these apps have records in a partition.
async fn poll_partition(
    shared: Arc<ClusterState>,
    connection: RedisConnection,
    partition: Partition,
    apps: Vec<Arc<str>>,
) {
    let mut command = cmd("EXISTS");
    for app_id in &apps {
        command.arg(shared.names.webhook_log_key(app_id, partition));
    }
    match connection.query::<usize>(partition, &command).await {
        Ok(0) => {}
        Ok(_) => apps.iter().for_each(|app_id| shared.enqueue_forwarding(app_id, partition)),
        Err(error) => tracing::debug!(%error, %partition, "polling webhook logs failed"),
    }
}

/// Forwards one log to the app's log.
struct ForwardTask {
    shared: Arc<ClusterState>,
    token: Arc<FencingToken>,
    connection: RedisConnection,
    app_id: Arc<str>,
    partition: Partition,
}

/// Records of the log of a partition, to append to the app's log.
struct RecordBatch {
    /// The time of its server's clock.
    now_us: u64,
    /// The number of records that were dropped so far, because the log was full.
    dropped: u64,
    records: Vec<Vec<u8>>,
}

impl ForwardTask {
    async fn run(&self) -> RedisResult<()> {
        if self.partition == self.shared.names.app_partition(&self.app_id) {
            return self.notify_logged().await;
        }
        let mut last_forwarded = 0;
        loop {
            let batch = self.next(last_forwarded).await?;
            let records: Vec<_> =
                batch.records.iter().filter_map(|record| split_number(record).ok()).collect();
            let Some((last, _)) = records.last() else { return Ok(()) };
            last_forwarded = *last;
            if self.append(&batch, &records).await? {
                self.notify_logged().await?;
            }
        }
    }

    /// Removes the forwarded records, and reads the next batch.
    async fn next(&self, last_forwarded: u64) -> RedisResult<RecordBatch> {
        let (names, partition) = (&self.shared.names, self.partition);
        let call =
            ScriptCall::fenced(&self.shared.scripts.next_records, partition, names, &self.token)
                .key(names.webhook_log_key(&self.app_id, partition))
                .key(names.webhook_log_state_key(&self.app_id, partition))
                .number(last_forwarded)
                .number(RECORDS_MAX);
        let mut reply = self.run_call(call).await?;
        let mut read = || -> Result<RecordBatch, Unexpected> {
            Ok(RecordBatch {
                now_us: reply.text()?.parse().map_err(|_| Unexpected)?,
                dropped: reply.number()?,
                records: reply.all_bytes()?,
            })
        };
        read().map_err(|Unexpected| self.unexpected())
    }

    /// Appends the records that the app's log does not have. Returns whether it was empty.
    async fn append(&self, batch: &RecordBatch, records: &[(u64, &[u8])]) -> RedisResult<bool> {
        let names = &self.shared.names;
        let app_partition = names.app_partition(&self.app_id);
        let mut call = ScriptCall::fenced(
            &self.shared.scripts.append_records,
            app_partition,
            names,
            &self.token,
        )
        .key(names.webhook_log_key(&self.app_id, app_partition))
        .key(names.webhook_log_state_key(&self.app_id, app_partition))
        .number(self.partition)
        .number(batch.dropped);
        for (number, text) in records {
            call = call.number(number).number(batch.now_us.saturating_sub(*number)).arg(text);
        }
        let mut reply = self.run_call(call).await?;
        Ok(reply.number().map_err(|Unexpected| self.unexpected())? == 1)
    }

    /// Notifies the nodes that the app's log is not empty any more.
    async fn notify_logged(&self) -> RedisResult<()> {
        let control_message =
            ControlMessage::WebhookLogNonEmpty { app_id: self.app_id.to_string() }.encode();
        let deadline = now() + FORWARD_TIMEOUT;
        self.run_call(self.shared.control_message_call(&control_message, &self.token, deadline))
            .await
            .map(drop)
    }

    async fn run_call(&self, call: ScriptCall) -> RedisResult<ScriptReply> {
        let (partition, requested_at) = (call.partition(), now());
        let value = call.run(&self.connection).await?;
        let mut reply = ScriptReply::new(value).map_err(|Unexpected| self.unexpected())?;
        match reply.status().map_err(|Unexpected| self.unexpected())? {
            (Status::Done, _) => return Ok(reply),
            (Status::Late, redis_ms) => {
                self.shared.redis_clocks.record(partition, redis_ms, (requested_at, now()));
            }
            (Status::Fenced, _) => self.shared.on_fenced(&self.token),
        }
        Err(failed())
    }

    fn unexpected(&self) -> RedisError {
        self.shared.metrics.count_unexpected_data("webhook data");
        failed()
    }
}

fn failed() -> RedisError {
    io::Error::from(io::ErrorKind::InvalidData).into()
}
