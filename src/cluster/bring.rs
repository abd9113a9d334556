//! What a node brings to a Redis that has begun again: how far the channels had come.
//!
//! A Redis that was killed and started again may have lost the last writes, or all of them, and
//! messages that it had accepted may have come to some nodes and not to others. Before anything
//! is asserted, each node has the sequences that it knows of kept, the highest wins, and whoever
//! finds its own to be lower has its subscribers come again.

use super::{
    link::Connection,
    manager::{Manager, Outcome},
    scripts::Call,
    shared::Shared,
};
use futures_util::future::try_join_all;
use redis::RedisResult;
use std::{sync::Arc, time::Instant};

/// How many sequences are brought at once.
const PER_ROUND: usize = 512;

impl Manager {
    /// Has Redis know how far the channels had come that this node has, or has published to.
    pub(super) fn bring(&self) {
        let Some(connection) = self.connection.clone() else { return };
        let mut reached = self.shared.accepted.reached(Instant::now());
        for (name, topic) in &self.topics {
            let sequence = topic.reached();
            if 0 < sequence {
                let highest = reached.entry(Box::from(&**name)).or_default();
                *highest = sequence.max(*highest);
            }
        }
        let shared = Arc::clone(&self.shared);
        self.begin(async move {
            let reached: Vec<_> = reached.into_iter().collect();
            for round in reached.chunks(PER_ROUND) {
                let each = round
                    .iter()
                    .map(|(topic, sequence)| raise(&shared, connection.clone(), topic, *sequence));
                if let Err(error) = try_join_all(each).await {
                    tracing::debug!(%error, "a sequence was not brought");
                    return Outcome::Brought { is_done: false };
                }
            }
            Outcome::Brought { is_done: true }
        });
    }
}

async fn raise(
    shared: &Shared,
    mut connection: Connection,
    topic: &str,
    sequence: u64,
) -> RedisResult<()> {
    let call = Call::of(&shared.scripts.raise)
        .key(topic)
        .arg(format!("{:016x}", rand::random::<u64>()))
        .number(sequence);
    call.run(&mut connection).await.map(drop)
}
