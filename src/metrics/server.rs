//! Metrics of the server's build, start and configuration.

use super::{counter, table};
use prometheus_client::encoding::DescriptorEncoder;
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

/// Current limits, and counts of reloads.
#[derive(Debug, Default)]
pub(super) struct ServerMetrics {
    max_connections: AtomicU64,
    max_http_connections: AtomicU64,
    reloads: AtomicU64,
    rejected_reloads: AtomicU64,
    /// Load time of the current configuration, in seconds since 1970.
    loaded_at: AtomicU64,
}

impl ServerMetrics {
    pub(super) fn set_limits(&self, connections: usize, http_connections: usize) {
        self.max_connections.store(connections as u64, Ordering::Relaxed);
        self.max_http_connections.store(http_connections as u64, Ordering::Relaxed);
    }

    /// Sets the load time of the configuration to now.
    pub(super) fn loaded(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.loaded_at.store(now.as_secs(), Ordering::Relaxed);
    }

    pub(super) fn reloaded(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.loaded();
    }

    pub(super) fn reload_rejected(&self) {
        self.rejected_reloads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        table::BUILD_INFO
            .describe(encoder)?
            .encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?
            .encode_gauge(&1_u64)?;
        let gauges = [
            (table::MAX_CONNECTIONS, &self.max_connections),
            (table::MAX_HTTP_CONNECTIONS, &self.max_http_connections),
            (table::CONFIG_LAST_LOAD, &self.loaded_at),
        ];
        for (metric, value) in gauges {
            metric.encode_gauge(encoder, read(value))?;
        }
        let mut family = table::CONFIG_RELOADS.describe(encoder)?;
        for (result, count) in [("success", &self.reloads), ("rejected", &self.rejected_reloads)] {
            counter(&mut family, &[("result", result)], read(count))?;
        }
        Ok(())
    }
}
