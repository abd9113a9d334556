//! The fencing token that each write of a node carries. Redis rejects a write whose token is outdated.

use super::partition::Partition;
use std::sync::Arc;

/// Node, link number and generations that each write names. Redis rejects a write if any is outdated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct FencingToken {
    /// `process.incarnation`
    pub(super) node: String,
    /// The number of its link to Redis, higher than those of its earlier links.
    pub(super) link_number: u64,
    /// By partition index.
    pub(super) generations: Vec<Arc<str>>,
}

impl FencingToken {
    /// The generation of a partition; empty if it is not known yet.
    pub(super) fn generation(&self, partition: Partition) -> &str {
        self.generations.get(partition.index()).map_or("", |generation| generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_generation_for_each_partition() {
        let token = FencingToken {
            node: "a.1".into(),
            link_number: 1,
            generations: vec!["g1".into(), "g2".into()],
        };
        let mut partitions = Partition::all(3);
        let generations =
            partitions.by_ref().map(|partition| token.generation(partition).to_owned());
        assert_eq!(generations.collect::<Vec<_>>(), ["g1", "g2", ""]);
    }
}
