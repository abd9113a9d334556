//! Faults of a Redis Cluster, and of a Redis that is monitored by Sentinels.

use std::time::{Duration, Instant};

use crate::support::{Period, RedisCluster};

use super::{Active, Testbed};
use crate::chaos::testbed::Servers;

/// How far the clock of one master is ahead, in seconds.
const AHEAD: i64 = 2;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::chaos) enum ClusterFault {
    /// All slots of a master are moved to another server, and back.
    Reshard,
    /// A replica takes over while its master runs.
    FailOver,
    /// A master is stopped with SIGSTOP; a replica takes over.
    FreezeMaster,
    /// `FLUSHALL` of one master.
    FlushMaster,
    /// The clock of one master is two seconds ahead.
    ClockAhead,
}

impl ClusterFault {
    pub(super) fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::FreezeMaster => 4_000..6_000,
            Self::FlushMaster | Self::FailOver => 0..1_000,
            Self::Reshard => 1_000..3_000,
            Self::ClockAhead => 2_000..6_000,
        }
    }

    pub(super) fn loses_data(self) -> bool {
        matches!(self, Self::FreezeMaster | Self::FlushMaster)
    }
}

impl Testbed {
    fn cluster(&self) -> &RedisCluster {
        match &self.servers {
            Servers::Cluster(cluster) => cluster,
            Servers::One(_) | Servers::Watched(_) => panic!("the fault needs a Redis Cluster"),
        }
    }

    pub(super) async fn any_master(&mut self) -> Vec<usize> {
        let masters = self.servers.masters().await;
        vec![self.any(&masters)]
    }

    pub(super) async fn begin_on_cluster(&mut self, fault: ClusterFault, active: &mut Active) {
        let from = active.at[0];
        match fault {
            ClusterFault::Reshard => {
                let masters = self.cluster().masters().await;
                let others: Vec<usize> = masters.into_iter().filter(|at| *at != from).collect();
                let to = self.any(&others);
                active.slots = self.cluster().slots_of(from).await;
                self.cluster().move_slots(from, to, &active.slots).await;
                active.at.push(to);
            }
            ClusterFault::FailOver => {
                if let Servers::Watched(watched) = &self.servers {
                    watched.fail_over().await;
                    return;
                }
                let replica = self.cluster().fail_over(from).await;
                self.world.note(format!("server {replica:?} takes over from {from}"));
            }
            ClusterFault::FreezeMaster => self.servers.all()[from].pause(),
            ClusterFault::FlushMaster => {
                self.cluster().0[from].admin().await.command(&["FLUSHALL"]).await;
            }
            ClusterFault::ClockAhead => self.cluster().0[from].set_clock(AHEAD),
        }
    }

    pub(super) async fn end_on_cluster(&mut self, fault: ClusterFault, active: &Active) {
        match fault {
            ClusterFault::Reshard => {
                let (from, to) = (active.at[1], active.at[0]);
                self.cluster().become_master(to, from).await;
                self.cluster().move_slots(from, to, &active.slots).await;
            }
            ClusterFault::FreezeMaster => self.servers.all()[active.at[0]].resume(),
            ClusterFault::ClockAhead => self.cluster().0[active.at[0]].set_clock(0),
            ClusterFault::FailOver | ClusterFault::FlushMaster => {}
        }
        if fault == ClusterFault::Reshard {
            // The nodes follow within five seconds.
            let end = Instant::now() + Duration::from_secs(5);
            self.world.slots_move(Period { begin: active.begin, end });
        }
        // For a moment there are two masters: one that was frozen accepts writes until it is demoted, and Sentinels
        // take seconds to demote it.
        if fault == ClusterFault::FreezeMaster || matches!(self.servers, Servers::Watched(_)) {
            let end = Instant::now() + Duration::from_secs(8);
            self.world.excuse(Period { begin: active.begin, end });
        }
    }
}
