//! A split brain: a failover while the old master runs.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::support::Period;
use kit::Redis;

use super::{Active, Testbed};

impl Testbed {
    /// Promotes a replica and connects all nodes but one to it.
    pub(super) async fn begin_split(&mut self, active: &mut Active) {
        let port = self.servers.one().port.to_string();
        let replica = Redis::start_adjustable(&[]).await;
        let mut admin = replica.admin().await;
        // By a command: an argument would apply again when a later fault restarts the server.
        admin.command(&["REPLICAOF", "127.0.0.1", &port]).await;
        let start = Instant::now();
        while !admin
            .command(&["INFO", "replication"])
            .await
            .text()
            .contains("master_link_status:up")
        {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "the replica does not connect to its master"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        active.begin = Instant::now();
        admin.command(&["REPLICAOF", "NO", "ONE"]).await;
        let stays = self.random.random_range(0..self.nodes.len());
        self.world.note(format!("node {stays} stays connected to the old master"));
        for (at, node) in self.nodes.iter().enumerate() {
            if let (Some(proxy), true) = (&node.proxy, at != stays) {
                proxy.redirect(replica.address());
            }
        }
        active.at = vec![stays];
        active.replica = Some(replica);
    }

    /// Connects the last node to the new master, too.
    pub(super) fn end_split(&mut self, active: &mut Active) {
        let replica = active.replica.take().expect("it was started");
        for proxy in active.at.iter().filter_map(|at| self.nodes[*at].proxy.as_ref()) {
            proxy.redirect(replica.address());
        }
        *self.servers.one() = replica;
        let clock = self.clock;
        self.servers.one().set_clock(clock);
        // Events that the old master had accepted are compensated once its node has joined the new
        // master.
        let end = Instant::now() + Duration::from_secs(5);
        self.world.excuse(Period { begin: active.begin, end });
    }
}
