//! Faults of nodes.

use std::time::{Duration, Instant};

use crate::support::Period;

use super::{Active, Testbed};

/// Milliseconds that a killed node stays dead.
const DEAD: std::ops::Range<u64> = 500..9_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::chaos) enum NodeFault {
    /// The node is killed with SIGKILL and started again later.
    Kill,
    /// The node is stopped with SIGSTOP, for less and for more than `node_timeout_ms`; for 30
    /// seconds in some long runs.
    Pause,
}

impl NodeFault {
    pub(super) fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::Kill => 0..100,
            Self::Pause => 3_000..9_000,
        }
    }
}

impl Testbed {
    pub(super) async fn begin_on_nodes(&mut self, fault: NodeFault, active: &Active) {
        let dead = self.draw(DEAD);
        for at in &active.at {
            let node = &mut self.nodes[*at];
            let Some(server) = &mut node.server else { continue };
            match fault {
                NodeFault::Pause => {
                    self.world.pause_begins(server.address);
                    server.signal("STOP");
                }
                NodeFault::Kill => {
                    self.world.place(*at, None);
                    server.signal("KILL");
                    server.process.exit_code().await;
                    node.server = None;
                    node.starts_at = Instant::now() + dead;
                }
            }
        }
    }

    pub(super) fn end_on_nodes(&mut self, fault: NodeFault, active: &Active) {
        for server in active.at.iter().filter_map(|at| self.nodes[*at].server.as_ref()) {
            match fault {
                NodeFault::Pause => {
                    server.signal("CONT");
                    let period = Period { begin: active.begin, end: Instant::now() };
                    self.world.pause_ends(server.address, period);
                }
                NodeFault::Kill => {}
            }
        }
    }

    /// Kills a node, which is started again later.
    pub(in crate::chaos) async fn kill(&mut self, at: usize) {
        self.inject_at(super::Fault::NodeProcess(NodeFault::Kill), vec![at], Duration::ZERO).await;
    }
}
