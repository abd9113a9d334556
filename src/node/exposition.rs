//! The metrics page, in the text format of Prometheus.

use super::Node;
use crate::{
    broker::{Broker, CacheStats},
    hub::Hub,
    metrics::{Metrics, table},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text},
    registry::Registry,
};
use std::{fmt, sync::Arc};

/// Gauges by app, read at each scrape.
#[derive(Debug)]
struct AppCollector(Vec<AppStats>);

#[derive(Debug)]
struct AppStats {
    hub: Arc<Hub>,
    cache: CacheStats,
}

/// The metrics of the node, which outlive the registry of one scrape.
#[derive(Debug)]
struct NodeMetrics(Arc<Metrics>);

impl Node {
    /// All metrics in the text format of Prometheus.
    ///
    /// # Panics
    ///
    /// Never: text can always be appended to text.
    #[must_use]
    pub fn metrics_page(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(AppCollector::new(self.hubs(), &self.broker)));
        registry.register_collector(Box::new(NodeMetrics(Arc::clone(&self.metrics))));
        self.broker.register_metrics(&mut registry);
        registry.register_collector(Box::new(self.webhooks.metrics()));
        let mut page = String::new();
        prometheus_text::encode(&mut page, &registry).expect("a String takes all text");
        page
    }
}

impl Collector for NodeMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Collector::encode(&*self.0, encoder)
    }
}

impl AppCollector {
    fn new(hubs: Vec<Arc<Hub>>, broker: &Broker) -> Self {
        let gauges = hubs.into_iter().map(|hub| AppStats { cache: broker.cache_stats(&hub), hub });
        Self(gauges.collect())
    }

    /// Writes the counters of cached events that were not kept until they expired.
    fn encode_cache(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = table::CACHE_EVENTS_DROPPED.describe(encoder)?;
        for AppStats { hub, cache } in &self.0 {
            let CacheStats { evicted, too_large, .. } = *cache;
            for (reason, count) in [("evicted", evicted), ("too_large", too_large)] {
                let labels = [("app", hub.app_id().to_string()), ("reason", reason.to_owned())];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}

impl Collector for AppCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        type ReadGauge = fn(&AppStats) -> usize;
        let gauges: [(table::Metric, ReadGauge); 4] = [
            (table::CONNECTIONS, |app| app.hub.connection_count()),
            (table::SUBSCRIPTIONS, |app| app.hub.subscription_count()),
            (table::CHANNELS, |app| app.hub.channel_count()),
            (table::CACHE_BYTES, |app| app.cache.bytes),
        ];
        for (metric, read) in gauges {
            let mut family = metric.describe(&mut encoder)?;
            for app in &self.0 {
                let labels = [("app", app.hub.app_id().to_string())];
                family.encode_family(&labels)?.encode_gauge(&(read(app) as u64))?;
            }
        }
        self.encode_cache(&mut encoder)
    }
}
