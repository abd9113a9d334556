//! Removes the contributions of nodes whose lease has expired.

use super::{
    clock::now,
    cluster_state::ClusterState,
    fencing_token::FencingToken,
    link::RedisConnection,
    names::TopicName,
    partition::Partition,
    reason::UnavailableReason,
    scripts::{ScriptCall, ScriptReply, Status},
    sync::{SyncOutcome, parse_sync_reply, sync_call},
    topic::SyncRequest,
    webhook_interest::WebhookInterest,
};
use crate::{config::AppConfig, hub::Hub};
use redis::{RedisResult, cmd};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// The cleanup of one node.
#[derive(Debug)]
pub(super) struct CleanUp {
    pub(super) shared: Arc<ClusterState>,
    pub(super) hubs: HashMap<Arc<str>, Arc<Hub>>,
    /// The token of this node.
    pub(super) token: Arc<FencingToken>,
    /// The name of the dead node.
    pub(super) node: String,
}

/// The result of a cleanup.
#[derive(Debug)]
pub(super) struct Cleaned {
    /// The name of the dead node.
    pub(super) node: String,
    /// Whether nothing is left to clean up.
    pub(super) is_done: bool,
}

/// The duration of a claim, which is renewed with each round.
const CLAIM_DURATION: Duration = Duration::from_secs(5);
/// The number of topics that are cleaned in one round.
const TOPICS_PER_BATCH: usize = 256;
/// The number of partitions that are cleaned at once.
const CONCURRENT_PARTITIONS_MAX: usize = 32;

impl CleanUp {
    pub(super) async fn run(self, connection: RedisConnection) -> Cleaned {
        let is_done = match self.clean(&connection).await {
            Ok(Some(topics)) => {
                self.shared.metrics.count_cleanup();
                tracing::warn!(node = self.node, topics, "cleaned up after a dead node");
                true
            }
            // Another node does it, or the node is alive.
            Ok(None) => true,
            Err(error) => {
                if let Some(count) = self.shared.log_throttles.cleanups.record(1, now()) {
                    let reason = &*UnavailableReason::from(&error).text;
                    tracing::warn!(
                        reason,
                        node = self.node,
                        count,
                        "cleanup of a dead node failed, retrying"
                    );
                }
                false
            }
        };
        Cleaned { node: self.node, is_done }
    }

    /// Removes everything that the node contributed. `None` if another node does it, or the node is
    /// alive.
    async fn clean(&self, connection: &RedisConnection) -> RedisResult<Option<usize>> {
        if !self.expire(Partition::LEASES, "claim", &[], connection).await? {
            return Ok(None);
        }
        let partitions: Vec<Partition> = self.shared.names.partitions().collect();
        let mut cleaned = 0;
        for chunk in partitions.chunks(CONCURRENT_PARTITIONS_MAX) {
            if !self.expire(Partition::LEASES, "claim", &[], connection).await? {
                return Ok(None);
            }
            let each = chunk.iter().map(|partition| self.clean_partition(*partition, connection));
            let topics: Vec<usize> = futures_util::future::try_join_all(each).await?;
            cleaned += topics.iter().sum::<usize>();
        }
        self.expire(Partition::LEASES, "done", &[], connection).await?;
        Ok(Some(cleaned))
    }

    async fn clean_partition(
        &self,
        partition: Partition,
        connection: &RedisConnection,
    ) -> RedisResult<usize> {
        let node_topics = self.shared.names.node_topics_key(&self.node, partition);
        if partition != Partition::LEASES {
            self.expire(partition, "fence", &[], connection).await?;
        }
        let mut cleaned = 0;
        loop {
            let mut command = cmd("SRANDMEMBER");
            command.arg(&node_topics).arg(TOPICS_PER_BATCH);
            let topics: Vec<String> = connection.query(partition, &command).await?;
            if topics.is_empty() {
                return Ok(cleaned);
            }
            if partition == Partition::LEASES {
                self.expire(partition, "claim", &[], connection).await?;
            }
            let names = &self.shared.names;
            let (known, unknown): (Vec<_>, Vec<_>) =
                topics.into_iter().partition(|topic| names.parse(topic).is_some());
            if !unknown.is_empty() {
                self.shared.metrics.count_unexpected_data("the name of a topic");
                self.expire(partition, "drop", &unknown, connection).await?;
            }
            let each = known.iter().filter_map(|topic| names.parse(topic));
            let each = each.map(|name| async move {
                clean_topic((&self.shared, &self.token), &self.hubs, &name, &self.node, connection)
                    .await
            });
            for result in futures_util::future::join_all(each).await {
                result?;
            }
            cleaned += known.len();
        }
    }

    /// Runs one step of `lua/expire.lua`; false if it was not done.
    async fn expire(
        &self,
        partition: Partition,
        phase: &str,
        topics: &[String],
        connection: &RedisConnection,
    ) -> RedisResult<bool> {
        let names = &self.shared.names;
        let call = ScriptCall::fenced(&self.shared.scripts.expire, partition, names, &self.token)
            .key(names.node_topics_key(&self.node, partition))
            .arg(&*self.node)
            .arg(phase)
            .number(CLAIM_DURATION.as_millis());
        let call = topics.iter().fold(call, ScriptCall::arg);
        let mut reply = ScriptReply::new(call.run(connection).await?).map_err(|_| not_done())?;
        match reply.status() {
            Ok((Status::Done, _)) => Ok(reply.number() == Ok(1)),
            Ok((Status::Late | Status::Fenced, _)) | Err(_) => Err(not_done()),
        }
    }
}

/// Removes the contribution of `node`, which must not be registered, from a topic.
pub(super) async fn clean_topic(
    (shared, token): (&ClusterState, &FencingToken),
    hubs: &HashMap<Arc<str>, Arc<Hub>>,
    name: &TopicName,
    node: &str,
    connection: &RedisConnection,
) -> RedisResult<()> {
    // An app that only the other node had has no webhooks here.
    let default_config = AppConfig::default();
    let hub = hubs.get(&name.app_id);
    let app = hub.map(|hub| hub.app());
    let config = app.as_ref().map_or(&default_config, |app| &app.config);
    let interest =
        hub.map(|hub| WebhookInterest::for_subject(hub, &name.subject)).unwrap_or_default();
    let nothing = SyncRequest { is_full: true, ..SyncRequest::default() };
    let requested_at = now();
    let call = sync_call((shared, token), name, (config, interest), node, &nothing, requested_at);
    let partition = call.partition();
    match parse_sync_reply(call.run(connection).await?, now()) {
        Ok((SyncOutcome::Done(synced), _)) => {
            // The dead node may not have forwarded its log.
            let is_forwarded = partition != shared.names.app_partition(&name.app_id);
            if !interest.is_empty() && (is_forwarded || synced.webhook_log_became_nonempty) {
                shared.enqueue_forwarding(&name.app_id, partition);
            }
            Ok(())
        }
        Ok((SyncOutcome::Late, redis_ms)) => {
            shared.redis_clocks.record(partition, redis_ms, (requested_at, now()));
            Err(not_done())
        }
        Ok((SyncOutcome::Fenced, _)) | Err(_) => Err(not_done()),
    }
}

fn not_done() -> redis::RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests;
