//! Metrics of the server's build, start and configuration.

use super::{counter, gauge};
use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};
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
        let (name, help) = ("campanile_build_info", "1, labelled with the version");
        encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?
            .encode_gauge(&1_u64)?;
        let gauges = [
            (
                "campanile_max_connections",
                "WebSocket connections that the node accepts",
                &self.max_connections,
            ),
            (
                "campanile_max_http_connections",
                "HTTP connections that the node accepts",
                &self.max_http_connections,
            ),
            (
                "campanile_config_last_load_timestamp_seconds",
                "When the configuration in force was loaded, since the Unix epoch",
                &self.loaded_at,
            ),
        ];
        for (name, help, value) in gauges {
            gauge(encoder, name, help, read(value))?;
        }
        let (name, help) = ("campanile_config_reloads", "Reloads of the configuration by result");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (result, count) in [("success", &self.reloads), ("rejected", &self.rejected_reloads)] {
            counter(&mut family, &[("result", result)], read(count))?;
        }
        Ok(())
    }
}
