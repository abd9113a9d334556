//! Reports the sequences that this node knows to a Redis that has lost data.
//!
//! A Redis that has restarted may have lost its last writes, or all of them, and some nodes may have
//! received events that others have not. Before it syncs, each node reports the highest sequences that it
//! has seen. Redis keeps the highest. A node with a lower sequence has missed events and closes its
//! subscribers' connections with 4200, so that the clients subscribe again.

use super::{
    channel_logs::log_key,
    cluster_state::ClusterState,
    fencing_token::FencingToken,
    link::RedisConnection,
    partition::Partition,
    random,
    reason::UnavailableReason,
    scripts::{ScriptCall, ScriptReply, Status},
    topics::Topics,
};
use futures_util::future::try_join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

/// The sequence of a topic, and the topic's partition and name.
pub(super) type KnownSequence = (Partition, Box<str>, u64);

/// The number of sequences that are reported at once.
const SEQUENCES_PER_BATCH: usize = 512;

/// The sequences of the topics that this node has or has left, or has published to, in these partitions.
pub(super) fn known_sequences(
    shared: &ClusterState,
    topics: &Topics,
    partitions: &BTreeSet<Partition>,
    now: Instant,
) -> Vec<KnownSequence> {
    let mut sequences: BTreeMap<Box<str>, u64> =
        shared.published_sequences.highest(now).into_iter().collect();
    for (topic, sequence) in shared.logged_sequences.highest(now) {
        let highest = sequences.entry(topic).or_default();
        *highest = sequence.max(*highest);
    }
    for (name, topic) in &topics.all {
        let sequence = topic.received_sequence();
        if 0 < sequence {
            let highest = sequences.entry(Box::from(&**name)).or_default();
            *highest = sequence.max(*highest);
        }
    }
    let names = &shared.names;
    let with_partition = sequences.into_iter().filter_map(|(topic, sequence)| {
        let partition = names.partition(&names.parse(&topic)?);
        partitions.contains(&partition).then_some((partition, topic, sequence))
    });
    with_partition.collect()
}

/// Reports sequences.
pub(super) async fn restore_sequences(
    shared: Arc<ClusterState>,
    token: Arc<FencingToken>,
    connection: RedisConnection,
    sequences: Vec<KnownSequence>,
) -> Result<(), UnavailableReason> {
    for round in sequences.chunks(SEQUENCES_PER_BATCH) {
        let each = round.iter().map(|(partition, topic, sequence)| {
            restore(&shared, &token, &connection, (*partition, topic, *sequence))
        });
        try_join_all(each).await?;
    }
    Ok(())
}

async fn restore(
    shared: &ClusterState,
    token: &FencingToken,
    connection: &RedisConnection,
    (partition, topic, sequence): (Partition, &str, u64),
) -> Result<(), UnavailableReason> {
    // It was a name when its partition was found.
    let log = shared.names.parse(topic).map(|name| log_key(&shared.names, &name));
    let call = ScriptCall::fenced(&shared.scripts.restore, partition, &shared.names, token)
        .key(topic)
        .key(log.unwrap_or_default())
        .arg(random::hex_id())
        .number(sequence);
    let value = call.run(connection).await.map_err(|error| UnavailableReason::from(&error))?;
    match ScriptReply::new(value).and_then(|mut reply| reply.status()) {
        Ok((Status::Done, _)) => Ok(()),
        Ok((Status::Late | Status::Fenced, _)) => Err("another generation has begun".into()),
        Err(_) => Err("unexpected reply about a sequence".into()),
    }
}
