//! Graceful shutdown, which keeps clients disconnected for as short a time as possible.
//!
//! The close code depends on what serves a client that reconnects at once: another node of the
//! cluster, a process that already listens on the same port, a process that takes over the
//! listening socket with its queue, or nothing.

use super::{
    accept::{AcceptorHandle, AcceptorReport},
    listeners::set_reuse_port,
    probe::{PortOwner, probe_stream},
};
use crate::{
    clock,
    node::Node,
    shard::stagger_duration,
    shutdown::{DrainMode, Shutdown},
    webhook::Webhooks,
};
use std::{
    net::TcpListener,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinHandle, time};

/// The shutdown of a server, in order: its connections, its webhooks, the cluster, its sockets.
#[derive(Debug)]
pub(super) struct ShutdownSequence {
    pub(super) node: Arc<Node>,
    pub(super) acceptor: AcceptorHandle,
    pub(super) metrics: Option<MetricsTask>,
    pub(super) shutdown: Shutdown,
    pub(super) webhook_shutdown: Shutdown,
    pub(super) webhooks: Arc<Webhooks>,
    pub(super) grace: Duration,
    /// Prefix of every route.
    pub(super) path: String,
    pub(super) is_inherited: bool,
}

/// The task that serves the metrics on a separate socket.
#[derive(Debug)]
pub(super) struct MetricsTask {
    pub(super) listener: TcpListener,
    pub(super) task: JoinHandle<()>,
}

/// How long other nodes may take to acknowledge the announcement of a drain. They do so at their next tick:
/// enough for round trips to Redis of up to 150 ms.
const DRAIN_ACK_TIMEOUT: Duration = Duration::from_millis(500);
/// Interval of the checks for an acknowledgement.
const DRAIN_ACK_INTERVAL: Duration = Duration::from_millis(10);
/// How long to wait for another node's report that it drains too, before this node relies on it.
const CLUSTER_SETTLE_DELAY: Duration = Duration::from_millis(150);
/// Maximum time to find out whether another process listens on the port.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(500);
/// Interval of the checks whether others still serve.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// How long webhooks and the cluster may take after the last connection has ended, if clients are not
/// served until the process has ended. A working endpoint or Redis answers within milliseconds;
/// clients do not wait for the rest of the grace period for one that hangs.
const UNSERVED_TIMEOUT: Duration = Duration::from_secs(2);
/// The part of the grace period in which connections and webhooks are waited for. What follows has
/// minimum times of its own, which fit into the rest if the grace period is at least nine seconds.
const WAIT_PART: f64 = 0.95;
/// The minimum time to leave the cluster, however long the connections took.
const LEAVE_TIMEOUT_MIN: Duration = Duration::from_millis(250);
/// How long members of presence channels have to subscribe on another node: client libraries reconnect at once, and
/// authorize their channels with the application.
const RETURN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long clients that connected during the drain have to receive their close code or response.
const LATE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long the acceptor may take to close the socket.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

impl ShutdownSequence {
    /// Drains. Returns the number of connections and tasks that did not finish in the grace period.
    pub(super) async fn run(mut self) -> usize {
        let connections = self.node.local_connections();
        self.shutdown.start();
        let began = self.shutdown.started_at().unwrap_or_else(clock::now);
        self.node.broker().announce_drain();
        self.acceptor.drain();
        if let Some(metrics) = &self.metrics {
            set_reuse_port(&metrics.listener);
        }
        let mode = self.choose_mode(began).await;
        self.log_mode(mode, connections, remaining(began + self.grace));
        self.shutdown.set_mode(mode);
        let end = began + self.grace.mul_f64(WAIT_PART);
        let unfinished = self.end_connections(end).await;
        let ended = clock::now();
        self.end_grace(ended, end).await;
        self.flush_webhooks(ended, end).await;
        self.node.wait_until_parked(remaining(end).max(LEAVE_TIMEOUT_MIN)).await;
        let timeout = remaining(self.flush_deadline(ended, end)).max(LEAVE_TIMEOUT_MIN);
        self.node.broker().leave(timeout).await;
        self.acceptor.close();
        let timeout = CLOSE_TIMEOUT.min(remaining(began + self.grace).max(LATE_TIMEOUT));
        self.acceptor.wait_until_closed(timeout).await;
        self.shutdown.wait_for_late(LATE_TIMEOUT).await;
        let events = self.webhooks.abandon();
        if events > 0 {
            tracing::warn!(events, "webhook events dropped at shutdown");
        }
        let took_ms = milliseconds(clock::now().saturating_duration_since(began));
        let dropped = self.shutdown.dropped();
        tracing::info!(connections, took_ms, dropped, "drained");
        unfinished
    }

    /// Ends what lingers of lost connections. If another node takes connections, members who are about to return
    /// there have some time to do so, and have then never left.
    async fn end_grace(&self, ended: Instant, end: Instant) {
        if !self.node.grace().is_empty() && self.node.broker().has_ready_node() {
            time::sleep_until(end.min(ended + RETURN_TIMEOUT).into()).await;
        }
        self.node.end_grace(clock::now());
    }

    /// Chooses how connections are closed.
    async fn choose_mode(&mut self, began: Instant) -> DrainMode {
        if self.is_inherited {
            // Clients that reconnect at once must not reach this process.
            self.acceptor.wait_until_closed(CLOSE_TIMEOUT).await;
            return DrainMode::InheritedSocket;
        }
        let search = self.find_replacement();
        let is_replaced = time::timeout(SEARCH_TIMEOUT, search).await.unwrap_or(false);
        if is_replaced {
            self.hand_over();
            self.acceptor.wait_until_closed(CLOSE_TIMEOUT).await;
            return DrainMode::Staggered;
        }
        if self.wait_for_ready_node(began + DRAIN_ACK_TIMEOUT.min(self.grace)).await {
            time::sleep(CLUSTER_SETTLE_DELAY).await;
            if self.node.broker().has_ready_node() {
                return DrainMode::Staggered;
            }
        }
        if self.is_handed_over() {
            self.acceptor.wait_until_closed(CLOSE_TIMEOUT).await;
            return DrainMode::Staggered;
        }
        DrainMode::NoSuccessor
    }

    /// Whether another node takes connections. A node that has just joined may not have received a
    /// heartbeat of the others yet, but they answer the announcement of its drain, until `end`.
    async fn wait_for_ready_node(&mut self, end: Instant) -> bool {
        while !self.node.broker().has_ready_node() {
            let is_awaited =
                self.node.broker().has_other_nodes() && 0 < self.node.local_connections();
            if !is_awaited || self.is_handed_over() || end <= clock::now() {
                return false;
            }
            self.watch_port(DRAIN_ACK_INTERVAL).await;
        }
        true
    }

    /// Waits until it is known whether another process listens on the port and serves.
    async fn find_replacement(&mut self) -> bool {
        while let Some(report) = self.acceptor.reports.recv().await {
            match report {
                AcceptorReport::NoOtherListener => return false,
                AcceptorReport::AcceptedElsewhere(probe) => {
                    if serves_ready(probe, &self.path).await {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Waits until the connections have ended, until `end` at most, and returns how many are left.
    /// Webhooks that report their end are flushed afterwards, and have at least a fifth of the
    /// remaining time.
    async fn end_connections(&mut self, end: Instant) -> usize {
        let shutdown = self.shutdown.clone();
        let unfinished = self.while_watching(shutdown.drain(remaining(end).mul_f64(0.8))).await;
        if unfinished == 0 {
            return 0;
        }
        self.webhook_shutdown.start();
        self.while_watching(shutdown.drain(remaining(end))).await
    }

    /// Waits until the webhooks are delivered. A slow endpoint does not make the shutdown
    /// unsuccessful.
    async fn flush_webhooks(&mut self, connections_ended: Instant, end: Instant) {
        let webhooks = self.webhook_shutdown.clone();
        loop {
            let timeout = remaining(self.flush_deadline(connections_ended, end));
            let unfinished = self.while_watching(webhooks.drain(timeout)).await;
            // Another process may have taken over the port meanwhile.
            if unfinished == 0 || self.flush_deadline(connections_ended, end) <= clock::now() {
                return;
            }
        }
    }

    /// The deadline for webhooks and the cluster.
    fn flush_deadline(&self, connections_ended: Instant, end: Instant) -> Instant {
        let is_served = self.is_handed_over() || self.shutdown.mode() == Some(DrainMode::Staggered);
        if is_served { end } else { end.min(connections_ended + UNSERVED_TIMEOUT) }
    }

    /// Waits for `work`, and updates the mode meanwhile.
    async fn while_watching<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.update_mode() => {}
            }
        }
    }

    /// Waits briefly and updates the mode: another process may have taken over the port, or the
    /// other node may drain as well.
    async fn update_mode(&mut self) {
        self.watch_port(WATCH_INTERVAL).await;
        let is_staggered = self.shutdown.mode() == Some(DrainMode::Staggered);
        if is_staggered && !self.is_handed_over() && !self.node.broker().has_ready_node() {
            tracing::info!("no other node is ready: closing all connections with 4100");
            self.shutdown.set_mode(DrainMode::NoSuccessor);
        }
    }

    /// Waits for `interval`, or until another process may have taken over the port.
    async fn watch_port(&mut self, interval: Duration) {
        tokio::select! {
            Some(report) = self.acceptor.reports.recv() => {
                if let AcceptorReport::AcceptedElsewhere(probe) = report
                    && !self.is_handed_over()
                    && serves_ready(probe, &self.path).await
                {
                    self.hand_over();
                }
            }
            () = time::sleep(interval) => {}
        }
    }

    /// Leaves the ports to the process that already listens on them.
    fn hand_over(&mut self) {
        tracing::info!("another process took over the port");
        self.acceptor.hand_over();
        self.metrics = None;
    }

    fn is_handed_over(&self) -> bool {
        self.acceptor.is_handed_over()
    }

    /// Logs how the connections will be closed.
    fn log_mode(&self, mode: DrainMode, connections: usize, left: Duration) {
        let shards = self.node.inboxes().shards().count().max(1);
        let (code, over) = match mode {
            DrainMode::Staggered => (4200, stagger_duration(connections.div_ceil(shards), left)),
            DrainMode::InheritedSocket => (4200, Duration::ZERO),
            DrainMode::NoSuccessor => (4100, Duration::ZERO),
        };
        let (over_ms, grace_ms) = (milliseconds(over), milliseconds(self.grace));
        tracing::info!(
            connections,
            code,
            over_ms,
            grace_ms,
            "draining; a second signal ends the server at once"
        );
    }
}

impl Drop for MetricsTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether another process serves `probe`, a connection to the server's own address.
async fn serves_ready(probe: std::net::TcpStream, path: &str) -> bool {
    let probe = probe.set_nonblocking(true).and_then(|()| TcpStream::from_std(probe));
    let Ok(probe) = probe else { return false };
    matches!(probe_stream(probe, path).await, PortOwner::Serving)
}

/// Time left until `deadline`.
fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(clock::now())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
