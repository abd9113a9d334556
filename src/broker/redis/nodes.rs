//! The other nodes as this one knows them: which are alive, and which are to be cleaned up after.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// The nodes that this one knows.
#[derive(Debug)]
pub(super) struct Nodes {
    /// This node's process.
    process: String,
    /// The other processes that this node knows.
    pub(super) other_processes: Vec<String>,
    /// The nodes that have a lease, this one among them.
    pub(super) live: Vec<String>,
    /// The process ids of `live`. Events of other processes are not trusted: any client of Redis can publish.
    live_process_ids: Vec<u32>,
    /// Earlier names of this node that are still to be cleaned up.
    pub(super) former_names: BTreeSet<String>,
    /// Nodes that a partition lists and the lease partition does not, with the times of the first and of
    /// the latest comparison that found them.
    pub(super) orphans: BTreeMap<String, (Instant, Instant)>,
    /// The nodes that this one is cleaning up after.
    pub(super) cleaning: BTreeSet<String>,
}

/// Time after which a node that only a partition lists is considered dead: more than joining takes.
pub(super) const ORPHAN_DEAD_AFTER: Duration = Duration::from_secs(15);
/// When a node is removed that no comparison lists again: longer than a round.
pub(super) const ORPHAN_EXPIRY: Duration = Duration::from_secs(40);
/// Maximum number of processes that are known by their own messages only. Redis confirms once a
/// second which of them are nodes.
const UNCONFIRMED_PROCESSES_MAX: usize = 1_024;

/// The process in the name of a node or of a lease.
pub(super) fn process_of(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

impl Nodes {
    pub(super) fn new(process: String) -> Self {
        Self {
            process,
            other_processes: Vec::new(),
            live: Vec::new(),
            live_process_ids: Vec::new(),
            former_names: BTreeSet::new(),
            orphans: BTreeMap::new(),
            cleaning: BTreeSet::new(),
        }
    }

    /// Records a process by its node.
    pub(super) fn add_process(&mut self, node: &str) {
        let process = process_of(node);
        let is_new =
            process != self.process && !self.other_processes.iter().any(|known| known == process);
        if is_new && self.other_processes.len() < UNCONFIRMED_PROCESSES_MAX {
            self.other_processes.push(process.to_owned());
        }
    }

    /// Whether Redis lists the process as a node.
    pub(super) fn has_lease(&self, process: u32) -> bool {
        self.live_process_ids.contains(&process)
    }

    /// Records which nodes have a lease.
    pub(super) fn set_alive(&mut self, alive: Vec<String>) {
        let number = |node: &String| u32::from_str_radix(process_of(node), 16).ok();
        self.live_process_ids = alive.iter().filter_map(number).collect();
        self.other_processes = alive.iter().map(|node| process_of(node).to_owned()).collect();
        self.other_processes.retain(|known| *known != self.process);
        self.live = alive;
    }

    /// Records the nodes that a partition lists, and returns those that only partitions have listed
    /// for a while: they are dead.
    pub(super) fn on_listed(
        &mut self,
        registered: Vec<String>,
        own: &str,
        now: Instant,
    ) -> Vec<String> {
        for node in registered {
            let is_known = self.live.contains(&node) || node == own;
            if !is_known {
                self.orphans.entry(node).or_insert((now, now)).1 = now;
            }
        }
        let alive = &self.live;
        // A node that is not found again in a round has left.
        let is_found = |found: Instant| now.saturating_duration_since(found) < ORPHAN_EXPIRY;
        self.orphans.retain(|node, (_, found)| !alive.contains(node) && is_found(*found));
        let is_dead = |(first, latest): &(Instant, Instant)| {
            ORPHAN_DEAD_AFTER <= latest.saturating_duration_since(*first)
        };
        let dead = self.orphans.iter().filter(|(_, found)| is_dead(found));
        dead.map(|(node, _)| node.clone()).collect()
    }

    /// Records the end of a cleanup. One that has failed is repeated.
    pub(super) fn on_cleaned(&mut self, node: &str, is_done: bool) {
        self.cleaning.remove(node);
        if is_done {
            self.former_names.remove(node);
            self.orphans.remove(node);
        }
    }

    /// Whether the node does the work that one node does for all: the live node with the lowest name.
    pub(super) fn is_leader(&self, node: &str) -> bool {
        self.live.iter().min().is_some_and(|first| first == node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processes_are_known_by_their_messages_until_redis_lists_them() {
        let mut nodes = Nodes::new("0000ab".into());
        for node in ["0000ab.7", "0000cd.1", "0000cd.2"] {
            nodes.add_process(node);
        }
        assert_eq!(nodes.other_processes, ["0000cd"], "not itself, and each once");
        for number in 0..2 * UNCONFIRMED_PROCESSES_MAX {
            nodes.add_process(&format!("{:06x}.1", 0x10_0000 + number));
        }
        assert_eq!(nodes.other_processes.len(), UNCONFIRMED_PROCESSES_MAX);
        nodes.set_alive(vec!["0000ab.1".into(), "0000ef.3".into()]);
        assert_eq!(nodes.other_processes, ["0000ef"]);
        assert_eq!(nodes.live, ["0000ab.1", "0000ef.3"]);
        let leased = [0xab, 0xef, 0xcd].map(|process| nodes.has_lease(process));
        assert_eq!(leased, [true, true, false]);
    }

    #[test]
    fn one_of_the_live_nodes_is_the_first() {
        let mut nodes = Nodes::new("0000ab".into());
        assert!(!nodes.is_leader("0000ab.1"), "none is known to be alive");
        nodes.set_alive(vec!["0000cd.1".into(), "0000ab.1".into()]);
        assert!(nodes.is_leader("0000ab.1") && !nodes.is_leader("0000cd.1"));
    }

    #[test]
    fn a_node_that_only_a_partition_lists_is_dead_after_a_while() {
        let mut nodes = Nodes::new("0000ab".into());
        let (own, node, ms) = ("0000ab.1", "0000dd.1", Duration::from_millis(1));
        let listed = || vec![node.to_owned(), own.to_owned()];
        let start = Instant::now();
        assert!(nodes.on_listed(listed(), own, start).is_empty());
        assert_eq!(nodes.orphans.len(), 1, "not this node");
        let dead = start + ORPHAN_DEAD_AFTER;
        assert!(nodes.on_listed(listed(), own, dead - ms).is_empty(), "not yet");
        assert_eq!(nodes.on_listed(listed(), own, dead), [node]);
        let later = dead + ORPHAN_EXPIRY;
        assert!(nodes.on_listed(Vec::new(), own, later).is_empty(), "it has left");
        assert!(nodes.orphans.is_empty());
        assert!(nodes.on_listed(listed(), own, later).is_empty(), "from the beginning");
        nodes.set_alive(vec![node.to_owned()]);
        assert!(nodes.on_listed(listed(), own, later).is_empty());
        assert!(nodes.orphans.is_empty(), "it is alive");
    }

    #[test]
    fn a_failed_cleanup_is_repeated() {
        let mut nodes = Nodes::new("0000ab".into());
        let (node, now) = ("0000dd.1", Instant::now());
        for is_done in [false, true] {
            nodes.cleaning.insert(node.to_owned());
            nodes.former_names.insert(node.to_owned());
            nodes.orphans.insert(node.to_owned(), (now, now));
            nodes.on_cleaned(node, is_done);
            assert!(nodes.cleaning.is_empty());
            assert_eq!(nodes.former_names.contains(node), !is_done);
            assert_eq!(nodes.orphans.contains_key(node), !is_done);
        }
    }
}
