//! Connecting to Redis, and the calls of heartbeats.

use super::{
    clock::now,
    cluster_state::ClusterState,
    link::{LinkEvents, RedisConnection, RedisEndpoint},
    membership::{
        HeartbeatPhase, HeartbeatReply, KEY_LAYOUT, Membership, OTHER_KEY_LAYOUT,
        RegistrationStatus,
    },
    partition::Partition,
    random,
    reason::{UnavailableReason, was_rejected},
    scripts::{ScriptCall, ScriptReply, Unexpected},
};
use redis::{RedisError, RedisResult, Value, cmd};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Maximum time for connecting, with all its steps.
const CONNECTING_MAX: Duration = Duration::from_secs(15);
/// How long a new generation waits for progress of the expected processes.
const SYNC_PROGRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum wait of a new generation.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a new generation waits for a node that knows earlier processes. A node that lost its
/// link is back by then.
const FIRST_NODE_WINDOW: Duration = Duration::from_millis(1_500);
/// The error for an invalid reply.
const UNEXPECTED: (redis::ErrorKind, &str) =
    (redis::ErrorKind::UnexpectedReturnType, "unexpected reply to a heartbeat");

/// A connection to Redis, with the scripts loaded and the control channel subscribed.
pub(super) type Connected = Box<(RedisConnection, LinkEvents)>;

/// Connects within a bounded time.
pub(super) async fn connect(
    endpoint: Arc<RedisEndpoint>,
    shared: Arc<ClusterState>,
) -> Result<Connected, UnavailableReason> {
    let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let connecting = timeout(CONNECTING_MAX, connect_and_prepare(&endpoint, &shared)).await;
    connecting.unwrap_or_else(|_| Err(UnavailableReason::from(&late())))
}

async fn connect_and_prepare(
    endpoint: &RedisEndpoint,
    shared: &Arc<ClusterState>,
) -> Result<Connected, UnavailableReason> {
    let because = |error: RedisError| UnavailableReason::from(&error);
    let (connection, events) = endpoint.connect().await.map_err(because)?;
    shared.scripts.load(&connection).await.map_err(because)?;
    if has_unversioned_nodes(shared, &connection).await.map_err(because)? {
        return Err(UnavailableReason::other_layout(OTHER_KEY_LAYOUT));
    }
    let pubsub_channels = shared.control_channels();
    connection.subscribe(Partition::LEASES, &pubsub_channels).await.map_err(because)?;
    shared.warn_of_eviction(&connection).await;
    Ok(Box::new((connection, events)))
}

/// Whether nodes are alive that use the first key layout, which had no version. Neither side would
/// detect the other.
async fn has_unversioned_nodes(
    shared: &ClusterState,
    connection: &RedisConnection,
) -> RedisResult<bool> {
    // On a Redis Cluster their keys are in one slot, which no partition of this node may reach.
    if shared.is_redis_cluster {
        return Ok(false);
    }
    let time: (u64, u64) = connection.query(Partition::LEASES, &cmd("TIME")).await?;
    let mut count = cmd("ZCOUNT");
    count.arg(shared.names.unversioned_leases()).arg(time.0 * 1_000).arg("+inf");
    let counted: RedisResult<usize> = connection.query(Partition::LEASES, &count).await;
    match counted {
        Ok(nodes) => Ok(0 < nodes),
        // A key of another type is not a lease.
        Err(error) if was_rejected(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// One round of heartbeats. The lease partition is called first. If it rejects the heartbeat, the others
/// are not called. When the node leaves, it is called last.
pub(super) fn round(
    shared: &ClusterState,
    membership: &Membership,
    phase: HeartbeatPhase,
    partitions: Vec<Partition>,
    connection: RedisConnection,
) -> impl Future<Output = Result<Vec<HeartbeatReply>, UnavailableReason>> + use<> {
    let call = |partition| (partition, call(shared, membership, phase, partition));
    let others = partitions.into_iter().filter(|partition| *partition != Partition::LEASES);
    let others: Vec<_> = others.map(call).collect();
    let leases = call(Partition::LEASES);
    async move {
        let send = |call| send(&connection, call);
        let mut replies = Vec::new();
        if phase == HeartbeatPhase::Leave {
            futures_util::future::try_join_all(others.into_iter().map(send)).await?;
            replies.push(send(leases).await?);
            return Ok(replies);
        }
        replies.push(send(leases).await?);
        if replies[0].status == RegistrationStatus::Ok {
            let others = futures_util::future::try_join_all(others.into_iter().map(send));
            replies.extend(others.await?);
        }
        Ok(replies)
    }
}

async fn send(
    connection: &RedisConnection,
    (partition, call): (Partition, ScriptCall),
) -> Result<HeartbeatReply, UnavailableReason> {
    let requested_at = now();
    let value = call.run(connection).await.map_err(|error| UnavailableReason::from(&error))?;
    let reply = parse_heartbeat_reply(partition, value, (requested_at, now()));
    reply.map_err(|Unexpected| UnavailableReason::from(&RedisError::from(UNEXPECTED)))
}

fn call(
    shared: &ClusterState,
    membership: &Membership,
    phase: HeartbeatPhase,
    partition: Partition,
) -> ScriptCall {
    let (names, token) = (&shared.names, &membership.token);
    let has_leases = partition == Partition::LEASES;
    let registered =
        if membership.was_registered { token.generation(partition) } else { Default::default() };
    let call = ScriptCall::new(&shared.scripts.heartbeat, partition)
        .key(names.registry_key(partition))
        .arg(word(phase, shared.logged_sequences.is_incomplete(now())))
        .arg(&*token.node)
        .arg(&*membership.process)
        .number(token.link_number)
        .number(if has_leases { membership.node_timeout.as_millis() } else { 0 })
        .arg(random::hex_id())
        .arg(if has_leases { names.control_channel() } else { String::new() })
        .number(SYNC_PROGRESS_TIMEOUT.as_millis())
        .number(FIRST_NODE_WINDOW.as_millis())
        .number(OPEN_TIMEOUT.as_millis())
        .arg(registered)
        .arg(membership.state(shared.is_draining()).code())
        .arg(KEY_LAYOUT)
        .arg(if shared.is_redis_cluster { "0" } else { "1" });
    membership.nodes.other_processes.iter().fold(call, |call, process| call.arg(&**process))
}

/// The phase's name in `lua/heartbeat.lua`. `is_incomplete`: the node has forgotten sequences.
fn word(phase: HeartbeatPhase, is_incomplete: bool) -> &'static str {
    match phase {
        HeartbeatPhase::Join => "join",
        HeartbeatPhase::Syncing => "syncing",
        HeartbeatPhase::Synced if is_incomplete => "incomplete",
        HeartbeatPhase::Synced => "synced",
        HeartbeatPhase::Heartbeat => "heartbeat",
        HeartbeatPhase::Leave => "leave",
    }
}

fn parse_heartbeat_reply(
    partition: Partition,
    value: Value,
    times: (Instant, Instant),
) -> Result<HeartbeatReply, Unexpected> {
    let mut values = ScriptReply::new(value)?;
    let mut reply = HeartbeatReply {
        partition,
        status: match values.text()?.as_str() {
            "ok" => RegistrationStatus::Ok,
            "lease_expired" => RegistrationStatus::LeaseExpired,
            "layout" => RegistrationStatus::LayoutMismatch,
            _ => return Err(Unexpected),
        },
        generation: values.text()?,
        is_open: values.number()? == 1,
        was_open: values.number()? == 1,
        redis_ms: values.number()?,
        times,
        dead: values.texts()?,
        alive: values.texts()?,
        generation_age: Duration::ZERO,
    };
    let generation_started_ms = values.number()?;
    reply.generation_age =
        Duration::from_millis(reply.redis_ms.saturating_sub(generation_started_ms));
    Ok(reply)
}

#[cfg(test)]
mod tests;
