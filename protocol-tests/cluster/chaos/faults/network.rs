//! Faults of the network between nodes and Redis.

use std::time::Duration;

use rand::RngExt;

use kit::{LinkFault, Proxy, becomes_ready};

use super::{Active, Testbed};

/// 1 Mbit/s.
const SLOW: u32 = 125_000;
/// The delay in each direction, in milliseconds: a round trip takes 20 to 400 ms.
const DELAY: std::ops::Range<u64> = 10..201;
/// The delay of the bytes of an old connection, in milliseconds.
const LATE: std::ops::Range<u64> = 1_000..6_000;
/// How long nodes may take to join on a slow network.
const JOINED_WITHIN: Duration = Duration::from_secs(15);
/// How long after the network's recovery the bytes of old connections arrive, in milliseconds.
const BEHIND: std::ops::Range<u64> = 200..2_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::chaos) enum NetworkFault {
    /// Bytes from nodes are held, and delivered at the end.
    StallToRedis,
    /// Bytes from Redis are held, and delivered at the end.
    StallToNode,
    /// Bytes from nodes are lost.
    DeafRedis,
    /// Bytes from Redis are lost.
    DeafNode,
    /// The nodes' connections are closed; bytes that they had sent reach Redis seconds later.
    LateBytes,
    /// No bytes are delivered for 3.6 seconds; then the bytes of the old connections arrive after
    /// those of new ones.
    Away,
    /// All connections are reset repeatedly.
    Reset,
    /// A round trip takes 20 to 400 ms.
    Latency,
    /// The bandwidth of each connection is 1 Mbit/s.
    Bandwidth,
}

impl NetworkFault {
    pub(super) fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::Away => 3_600..3_601,
            Self::LateBytes => 500..2_500,
            Self::StallToRedis
            | Self::StallToNode
            | Self::DeafRedis
            | Self::DeafNode
            | Self::Reset
            | Self::Latency
            | Self::Bandwidth => 500..8_000,
        }
    }
}

impl Testbed {
    fn proxies(&self, active: &Active) -> impl Iterator<Item = &Proxy> {
        active.at.iter().filter_map(|at| self.nodes[*at].proxy.as_ref())
    }

    pub(super) fn begin_on_network(&mut self, fault: NetworkFault, active: &Active) {
        let delay = self.draw(DELAY);
        for proxy in self.proxies(active) {
            match fault {
                NetworkFault::StallToRedis | NetworkFault::LateBytes => {
                    proxy.set(LinkFault::HoldToRedis);
                }
                NetworkFault::StallToNode => proxy.set(LinkFault::HoldToNode),
                NetworkFault::DeafRedis => proxy.set(LinkFault::DropToRedis),
                NetworkFault::DeafNode => proxy.set(LinkFault::DropToNode),
                NetworkFault::Away => proxy.set(LinkFault::HoldBoth),
                NetworkFault::Reset => proxy.set(LinkFault::Reset),
                NetworkFault::Latency => proxy.delay(delay),
                NetworkFault::Bandwidth => proxy.limit(Some(SLOW)),
            }
        }
    }

    pub(super) fn repeat_on_network(&mut self, fault: NetworkFault, active: &Active) {
        if fault == NetworkFault::Reset {
            let link =
                if self.random.random_bool(0.5) { LinkFault::None } else { LinkFault::Reset };
            self.proxies(active).for_each(|proxy| proxy.set(link));
        }
    }

    pub(super) fn end_on_network(&mut self, fault: NetworkFault, active: &Active) {
        let (late, behind) = (self.draw(LATE), self.draw(BEHIND));
        for proxy in self.proxies(active) {
            match fault {
                NetworkFault::LateBytes => proxy.cut(late),
                NetworkFault::Away => {
                    proxy.delay_old_bytes(behind);
                    proxy.set(LinkFault::None);
                }
                NetworkFault::Latency => proxy.delay(Duration::ZERO),
                NetworkFault::Bandwidth => proxy.limit(None),
                NetworkFault::StallToRedis
                | NetworkFault::StallToNode
                | NetworkFault::DeafRedis
                | NetworkFault::DeafNode
                | NetworkFault::Reset => proxy.set(LinkFault::None),
            }
        }
    }

    /// Resets the connections of all nodes on a network that stays slow. They must become ready
    /// again on it.
    pub(in crate::chaos) async fn rejoin_slowly(&mut self, is_delayed: bool) {
        let proxies = || self.nodes.iter().filter_map(|node| node.proxy.as_ref());
        for proxy in proxies() {
            if is_delayed {
                proxy.delay(Duration::from_millis(DELAY.end - 1));
            } else {
                proxy.limit(Some(SLOW));
            }
            proxy.cut(Duration::ZERO);
        }
        self.world.note("all nodes join on a slow network".to_owned());
        tokio::time::sleep(Duration::from_secs(1)).await;
        for server in self.nodes.iter().filter_map(|node| node.server.as_ref()) {
            becomes_ready(server, JOINED_WITHIN).await;
        }
        for proxy in proxies() {
            proxy.delay(Duration::ZERO);
            proxy.limit(None);
        }
    }
}
