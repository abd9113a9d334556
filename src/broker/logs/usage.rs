//! The size of the logs of a node, which its apps share.

use super::settings::LogSettings;
use crate::{alarm::Alarm, config::ConnectionConfig};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Maximum size of all logs of a node, in bytes.
const NODE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the logs of all apps of the node share: their settings, and the size that they have together.
#[derive(Debug)]
pub(in crate::broker) struct NodeLogs {
    pub(super) settings: LogSettings,
    max_bytes: usize,
    bytes: AtomicUsize,
    /// The number of apps with logs.
    apps: AtomicUsize,
    /// Set when [`Logs::expire`](super::Logs::expire) has something to do.
    pub(super) alarm: Arc<Alarm>,
}

/// The bytes of an app's logs, as a part of those of the node.
#[derive(Debug)]
pub(super) struct Usage {
    node: Arc<NodeLogs>,
    pub(super) bytes: usize,
}

impl NodeLogs {
    pub(in crate::broker) fn new(connection: &ConnectionConfig, alarm: &Arc<Alarm>) -> Arc<Self> {
        Self::with_max_bytes(connection, alarm, NODE_BYTES_MAX)
    }

    pub(in crate::broker) fn with_max_bytes(
        connection: &ConnectionConfig,
        alarm: &Arc<Alarm>,
        max_bytes: usize,
    ) -> Arc<Self> {
        let settings = LogSettings::new(connection);
        let (bytes, apps) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { settings, max_bytes, bytes, apps, alarm: Arc::clone(alarm) })
    }

    /// Whether the logs of all apps exceed the limit.
    pub(super) fn is_over(&self) -> bool {
        self.max_bytes < self.bytes.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(in crate::broker) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Usage {
    pub(super) fn new(node: &Arc<NodeLogs>) -> Self {
        node.apps.fetch_add(1, Ordering::Relaxed);
        Self { node: Arc::clone(node), bytes: 0 }
    }

    pub(super) fn change(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes + after - before;
        // Wraps when it becomes less, and the sum is right.
        self.node.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Whether this app has to drop something: the node is over its limit, and the app over its share.
    pub(super) fn is_over(&self) -> bool {
        let node = &self.node;
        let share = node.max_bytes / node.apps.load(Ordering::Relaxed).max(1);
        node.is_over() && share < self.bytes
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.node.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.node.apps.fetch_sub(1, Ordering::Relaxed);
    }
}
