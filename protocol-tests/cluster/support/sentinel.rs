//! Redis servers monitored by Sentinels.

use std::time::{Duration, Instant};

use super::FAILED_OVER;
use kit::Redis;

/// Two servers, the first of which is the initial master, and three Sentinels.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) servers: Vec<Redis>,
    pub(crate) sentinels: Vec<Redis>,
}

impl Watched {
    /// The name of the master in the Sentinels' configuration.
    pub(crate) const MASTER: &str = "mymaster";

    pub(crate) async fn start() -> Self {
        let master = Redis::start_adjustable(&[]).await;
        let port = master.port.to_string();
        let replica = Redis::start_adjustable(&["--replicaof", "127.0.0.1", &port]).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let master = Self::MASTER;
            let configuration = format!(
                "sentinel monitor {master} 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds {master} 1000\n\
                 sentinel failover-timeout {master} 5000\n"
            );
            sentinels.push(Redis::start_configured(&["--sentinel"], &configuration).await);
        }
        let watched = Self { servers: vec![master, replica], sentinels };
        watched.is_complete().await;
        watched
    }

    /// Waits until each Sentinel has found the replica and the other two Sentinels.
    async fn is_complete(&self) {
        let start = Instant::now();
        for sentinel in &self.sentinels {
            let mut client = sentinel.client().await;
            loop {
                let reply = client.command(&["SENTINEL", "MASTER", Self::MASTER]).await.texts();
                let value = |name: &str| {
                    let at = reply.iter().position(|word| word == name)?;
                    reply.get(at + 1).cloned()
                };
                if value("num-slaves").as_deref() == Some("1")
                    && value("num-other-sentinels").as_deref() == Some("2")
                {
                    break;
                }
                assert!(start.elapsed() < FAILED_OVER, "the Sentinels are not complete: {reply:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| sentinel.address().to_string()).collect();
        format!("redis+sentinel://{}/{}", hosts.join(","), Self::MASTER)
    }

    /// The server that the Sentinels report as the master.
    pub(crate) async fn master(&self) -> usize {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::MASTER];
        let reply = self.sentinels[0].client().await.command(&words).await.texts();
        let port = reply.get(1).map(String::as_str);
        let is_it = |server: &Redis| port == Some(&*server.port.to_string());
        self.servers.iter().position(is_it).expect("one of the two is the master")
    }

    /// Has the Sentinels promote the replica while the master runs. They reject during a failover, or without a
    /// replica.
    pub(crate) async fn fail_over(&self) {
        let mut client = self.sentinels[0].client().await;
        client
            .try_command(&["SENTINEL", "FAILOVER", Self::MASTER])
            .await
            .expect("the Sentinel answers");
    }
}
