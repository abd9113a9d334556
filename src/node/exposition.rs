//! The metrics page, in the text format of Prometheus.

use super::{Node, ResumeStats};
use crate::{
    broker::{Broker, CacheStats, LogStats},
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
    log: LogStats,
}

/// What has come of lost connections and of repeated publishes, read at each scrape.
#[derive(Debug)]
struct ReturnCollector {
    stats: ResumeStats,
    lingering: usize,
    repeated_publishes: u64,
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
        registry.register_collector(Box::new(ReturnCollector {
            stats: self.resume.stats(),
            lingering: self.grace.len(),
            repeated_publishes: self.broker.repeated_publishes(),
        }));
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

impl Collector for ReturnCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ResumeStats { parked, parked_ever, resumed, evicted, replayed, gaps, .. } = self.stats;
        for (metric, value) in [(table::LINGERING, self.lingering), (table::PARKED, parked)] {
            metric.describe(&mut encoder)?.encode_gauge(&(value as u64))?;
        }
        let outcomes = [("parked", parked_ever), ("resumed", resumed), ("evicted", evicted)];
        let gaps = gaps.map(|(gap, count)| (gap.as_str(), count));
        let avoided = [("acknowledgement", self.stats.acknowledged), ("page", self.stats.counted)];
        let families = [
            (table::SESSIONS, "outcome", &outcomes[..]),
            (table::DUPLICATES_AVOIDED, "by", &avoided[..]),
            (table::GAPS, "reason", &gaps[..]),
        ];
        for (metric, label, counts) in families {
            let mut family = metric.describe(&mut encoder)?;
            for (value, count) in counts {
                let labels = [(label, *value)];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, u64, u64>(count, None)?;
            }
        }
        for (metric, count) in
            [(table::REPLAYED, replayed), (table::REPEATED_PUBLISHES, self.repeated_publishes)]
        {
            metric.describe(&mut encoder)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
        }
        Ok(())
    }
}

impl AppCollector {
    fn new(hubs: Vec<Arc<Hub>>, broker: &Broker) -> Self {
        let stats = hubs.into_iter().map(|hub| AppStats {
            cache: broker.cache_stats(&hub),
            log: broker.log_stats(&hub),
            hub,
        });
        Self(stats.collect())
    }

    /// Writes a counter of events that were not kept for their time, by the reason.
    fn encode_dropped(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        metric: &table::Metric,
        by_reason: fn(&AppStats) -> [(&str, u64); 2],
    ) -> fmt::Result {
        let mut family = metric.describe(encoder)?;
        for app in &self.0 {
            for (reason, count) in by_reason(app) {
                let labels = [("app", app.hub.app_id().to_string()), ("reason", reason.to_owned())];
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
        let gauges: [(table::Metric, ReadGauge); 5] = [
            (table::CONNECTIONS, |app| app.hub.connection_count()),
            (table::SUBSCRIPTIONS, |app| app.hub.subscription_count()),
            (table::CHANNELS, |app| app.hub.channel_count()),
            (table::CACHE_BYTES, |app| app.cache.bytes),
            (table::LOG_BYTES, |app| app.log.bytes),
        ];
        for (metric, read) in gauges {
            let mut family = metric.describe(&mut encoder)?;
            for app in &self.0 {
                let labels = [("app", app.hub.app_id().to_string())];
                family.encode_family(&labels)?.encode_gauge(&(read(app) as u64))?;
            }
        }
        self.encode_dropped(&mut encoder, &table::CACHE_EVENTS_DROPPED, |app| {
            [("evicted", app.cache.evicted), ("too_large", app.cache.too_large)]
        })?;
        self.encode_dropped(&mut encoder, &table::LOG_EVENTS_DROPPED, |app| {
            [("channel_full", app.log.dropped_of_channel), ("node_full", app.log.dropped_of_node)]
        })
    }
}
