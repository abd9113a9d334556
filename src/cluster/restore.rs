//! Reports the sequences that this node knows to a Redis that has lost data.
//!
//! A Redis that has restarted may have lost its last writes, or all of them, and some nodes may have
//! received events that others have not. Before it syncs anything, each node reports the sequences
//! that it knows, however late it joins: the highest counts, and a node whose subscribers lack events
//! closes them, so that they subscribe again.

use super::{
    clock::now,
    coordinator::{Completion, Coordinator},
    lease::Lease,
    link::RedisConnection,
    partition::Partition,
    reason::Reason,
    scripts::{ScriptCall, ScriptReply, Status},
    shared::ClusterState,
    topic::Topic,
};
use crate::cluster::random;
use futures_util::future::try_join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The number of sequences that are reported at once.
const PER_ROUND: usize = 512;

impl Coordinator {
    /// Subscribes to and reads all topics of a partition again, after its server has changed or has
    /// ended a subscription.
    pub(super) fn on_moved(&mut self, partition: Partition) {
        self.comparison.scan_own_lists();
        let moved = self.topics.iter().filter(|(_, topic)| topic.partition == partition);
        for name in moved.map(|(name, _)| Arc::clone(name)).collect::<Vec<_>>() {
            self.with(&name, Topic::detach);
        }
        if let Some(connection) = self.connection.clone().filter(|_| partition == Partition::HOME) {
            let buses = [self.shared.names.all_nodes().into()];
            self.begin(async move {
                match connection.subscribe(partition, &buses).await {
                    Ok(_) => Completion::Subscribed,
                    Err(_) => Completion::Stuck,
                }
            });
        }
    }

    /// Reports the sequences of the topics that this node has, or has published to, in partitions
    /// that have lost data.
    pub(super) fn restore(&self, partitions: &BTreeSet<Partition>) {
        let Some(connection) = self.connection.clone() else { return };
        let mut reached: BTreeMap<Box<str>, u64> =
            self.shared.published_sequences.reached(now()).into_iter().collect();
        for (name, topic) in &self.topics {
            let sequence = topic.reached();
            if 0 < sequence {
                let highest = reached.entry(Box::from(&**name)).or_default();
                *highest = sequence.max(*highest);
            }
        }
        let names = &self.shared.names;
        let with_partition = reached.into_iter().filter_map(|(topic, sequence)| {
            let partition = names.partition(&names.parse(&topic)?);
            partitions.contains(&partition).then_some((partition, topic, sequence))
        });
        let reached: Vec<_> = with_partition.collect();
        let (shared, lease) = (Arc::clone(&self.shared), Arc::clone(&self.membership.lease));
        self.begin(async move {
            for round in reached.chunks(PER_ROUND) {
                let each = round.iter().map(|(partition, topic, sequence)| {
                    restore(&shared, &lease, &connection, (*partition, topic, *sequence))
                });
                if let Err(reason) = try_join_all(each).await {
                    return Completion::Restored { result: Err(reason) };
                }
            }
            Completion::Restored { result: Ok(()) }
        });
    }
}

async fn restore(
    shared: &ClusterState,
    lease: &Lease,
    connection: &RedisConnection,
    (partition, topic, sequence): (Partition, &str, u64),
) -> Result<(), Reason> {
    let call = ScriptCall::guarded(&shared.scripts.restore, partition, &shared.names, lease)
        .key(topic)
        .arg(random::digits())
        .number(sequence);
    let value = call.run(connection).await.map_err(|error| Reason::of(&error))?;
    match ScriptReply::new(value).and_then(|mut answer| answer.status()) {
        Ok((Status::Done, _)) => Ok(()),
        Ok((Status::Late | Status::Refused, _)) => Err("another generation has begun".into()),
        Err(_) => Err("unexpected reply about a sequence".into()),
    }
}
