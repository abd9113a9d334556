//! The Lua scripts of the log and the queues.

use crate::broker::redis::{RedisBroker, Script};
use std::sync::Arc;

/// The scripts of all apps.
#[derive(Debug)]
pub(super) struct StoreScripts {
    pub(super) append: Arc<Script>,
    pub(super) poll: Arc<Script>,
    pub(super) commit: Arc<Script>,
    pub(super) head: Arc<Script>,
    pub(super) release: Arc<Script>,
    pub(super) split: Arc<Script>,
    pub(super) add_dead_letter: Arc<Script>,
    pub(super) dead_letter: Arc<Script>,
}

impl StoreScripts {
    pub(super) fn new(broker: &RedisBroker) -> Self {
        Self {
            append: broker.add_script(include_str!("lua/append.lua")),
            poll: broker.add_script(include_str!("lua/poll.lua")),
            commit: broker.add_script(include_str!("lua/commit.lua")),
            head: broker.add_script(include_str!("lua/head.lua")),
            release: broker.add_script(include_str!("lua/release.lua")),
            split: broker.add_script(include_str!("lua/split.lua")),
            add_dead_letter: broker.add_script(include_str!("lua/add_dead_letter.lua")),
            dead_letter: broker.add_script(include_str!("lua/dead_letter.lua")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::SimulatedRedis;

    #[tokio::test(start_paused = true)]
    async fn every_script_checks_the_lease_first() {
        let node = SimulatedRedis::new().join().await;
        let scripts = StoreScripts::new(&node.broker);
        let StoreScripts {
            append,
            poll,
            commit,
            head,
            release,
            split,
            add_dead_letter,
            dead_letter,
        } = scripts;
        for script in [append, poll, commit, head, release, split, add_dead_letter, dead_letter] {
            script.assert_fenced();
        }
    }
}
