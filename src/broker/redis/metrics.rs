//! The metrics of the cluster.

use crate::{
    broker::error::PublishError,
    metrics::{Histogram, table},
    throttle::LogThrottle,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use std::{
    fmt,
    time::{Duration, Instant},
};

/// Counters and gauges of this node's use of Redis.
#[derive(Debug)]
pub(super) struct BrokerMetrics {
    latency: Histogram<{ LATENCY_BOUNDS_US.len() }>,
    pub(super) joins: Counter,
    pub(super) disconnects: Counter,
    pending_requests: Gauge,
    failed_publishes: Family<OutcomeLabel, Counter>,
    events: Family<DirectionLabel, Counter>,
    duplicates: Counter,
    pub(super) forced_resubscribes: Counter,
    pub(super) unexpected_data: Counter,
    pub(super) cleanups: Counter,
    pub(super) repaired: Counter,
    pub(super) late: Counter,
    /// Events that were not published, since their idempotency key was known. Exported with those of a single node.
    pub(super) repeated: Counter,
    joined: Gauge,
    nodes: Gauge,
    topics: Gauge,
    cache_evicted: Family<AppLabel, Counter>,
    cache_bytes: Family<AppLabel, Gauge>,
    unexpected_data_log: LogThrottle,
    /// The reason why this node is not joined, while it is not.
    unavailable_reason: Family<ReasonLabel, Gauge>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AppLabel {
    app: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DirectionLabel {
    direction: &'static str,
}

/// Bounds of buckets, from a fast network to an outage.
const LATENCY_BOUNDS_US: [u64; 11] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000];

impl Default for BrokerMetrics {
    fn default() -> Self {
        Self {
            latency: Histogram::new(&LATENCY_BOUNDS_US),
            joins: Counter::default(),
            disconnects: Counter::default(),
            pending_requests: Gauge::default(),
            failed_publishes: Family::default(),
            events: Family::default(),
            duplicates: Counter::default(),
            forced_resubscribes: Counter::default(),
            unexpected_data: Counter::default(),
            cleanups: Counter::default(),
            repaired: Counter::default(),
            late: Counter::default(),
            repeated: Counter::default(),
            joined: Gauge::default(),
            nodes: Gauge::default(),
            topics: Gauge::default(),
            cache_evicted: Family::default(),
            cache_bytes: Family::default(),
            unexpected_data_log: LogThrottle::default(),
            unavailable_reason: Family::default(),
        }
    }
}

/// Decrements the gauge of waiting requests when it is dropped.
#[derive(Debug)]
pub(super) struct WaitGuard<'a>(&'a Gauge);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl BrokerMetrics {
    pub(super) fn observe_latency(&self, duration: Duration) {
        self.latency.observe(duration);
    }

    pub(super) fn on_joined(&self) {
        self.joins.inc();
        self.joined.set(1);
        self.unavailable_reason.clear();
    }

    pub(super) fn on_disconnected(&self) {
        self.disconnects.inc();
        self.joined.set(0);
    }

    /// Records that this node is not joined, with the kind of the reason.
    pub(super) fn set_unavailable(&self, reason: &'static str) {
        self.unavailable_reason.clear();
        self.unavailable_reason.get_or_create(&ReasonLabel { reason }).set(1);
    }

    pub(super) fn start_waiting(&self) -> WaitGuard<'_> {
        self.pending_requests.inc();
        WaitGuard(&self.pending_requests)
    }

    pub(super) fn count_failed_publish(&self, why: PublishError) {
        let outcome = match why {
            PublishError::NotDelivered => "not_delivered",
            PublishError::OutcomeUnknown => "unknown",
        };
        self.failed_publishes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn count_sent(&self, events: usize) {
        let label = DirectionLabel { direction: "published" };
        self.events.get_or_create(&label).inc_by(events as u64);
    }

    /// The number of events published to Redis.
    #[cfg(test)]
    pub(super) fn sent(&self) -> u64 {
        self.events.get_or_create(&DirectionLabel { direction: "published" }).get()
    }

    pub(super) fn count_received(&self, is_duplicate: bool) {
        self.events.get_or_create(&DirectionLabel { direction: "received" }).inc();
        if is_duplicate {
            self.duplicates.inc();
        }
    }

    /// Records the bytes that Redis holds for the cache channels of an app.
    pub(super) fn set_cache_bytes(&self, app_id: &str, bytes: u64) {
        let label = AppLabel { app: app_id.to_owned() };
        self.cache_bytes.get_or_create(&label).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn count_cache_evicted(&self, app_id: &str, events: u64) {
        let label = AppLabel { app: app_id.to_owned() };
        self.cache_evicted.get_or_create(&label).inc_by(events);
    }

    pub(super) fn count_forced_resubscribe(&self) {
        self.forced_resubscribes.inc();
    }

    pub(super) fn count_cleanup(&self) {
        self.cleanups.inc();
    }

    /// Counts a topic whose data in Redis differed from that of the nodes.
    pub(super) fn count_repair(&self) {
        self.repaired.inc();
    }

    /// Counts a sync that reached Redis after its deadline, by the clock of Redis.
    pub(super) fn count_late_sync(&self) {
        self.late.inc();
    }

    /// Sets the number of other nodes.
    pub(super) fn set_others(&self, others: usize) {
        self.nodes.set(i64::try_from(others + 1).unwrap_or(i64::MAX));
    }

    pub(super) fn set_topics(&self, topics: usize) {
        self.topics.set(i64::try_from(topics).unwrap_or(i64::MAX));
    }

    /// Counts and logs unexpected data under the prefix in Redis.
    pub(super) fn count_unexpected_data(&self, what: &str) {
        self.unexpected_data.inc();
        if let Some(count) = self.unexpected_data_log.record(1, Instant::now()) {
            tracing::warn!(what, count, "unexpected data under the prefix in redis is ignored");
        }
    }
}

impl BrokerMetrics {
    fn encode_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, counter) in [
            (table::BROKER_JOINS, &self.joins),
            (table::BROKER_DISCONNECTS, &self.disconnects),
            (table::BROKER_DUPLICATES, &self.duplicates),
            (table::BROKER_FORCED_RESUBSCRIBES, &self.forced_resubscribes),
            (table::BROKER_UNEXPECTED_DATA, &self.unexpected_data),
            (table::BROKER_CLEANUPS, &self.cleanups),
            (table::BROKER_REPAIRS, &self.repaired),
            (table::BROKER_LATE_SYNCS, &self.late),
        ] {
            counter.encode(metric.describe(encoder)?)?;
        }
        Ok(())
    }
}

impl Collector for BrokerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_counters(&mut encoder)?;
        for (metric, gauge) in [
            (table::BROKER_JOINED, &self.joined),
            (table::BROKER_NODES, &self.nodes),
            (table::BROKER_PENDING_REQUESTS, &self.pending_requests),
            (table::BROKER_TOPICS, &self.topics),
        ] {
            gauge.encode(metric.describe(&mut encoder)?)?;
        }
        self.unavailable_reason.encode(table::BROKER_UNAVAILABLE.describe(&mut encoder)?)?;
        self.failed_publishes.encode(table::BROKER_FAILED_PUBLISHES.describe(&mut encoder)?)?;
        self.cache_evicted.encode(table::BROKER_CACHE_EVICTED.describe(&mut encoder)?)?;
        self.cache_bytes.encode(table::BROKER_CACHE_BYTES.describe(&mut encoder)?)?;
        self.events.encode(table::BROKER_EVENTS.describe(&mut encoder)?)?;
        self.latency.encode(table::BROKER_LATENCY.describe(&mut encoder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::prometheus_text, registry::Registry};

    /// Conformance compares docs/metrics.md with a running server, where nothing goes wrong: these metrics have no samples
    /// there.
    #[test]
    fn metrics_of_failures_have_the_documented_labels() {
        let metrics = BrokerMetrics::default();
        metrics.count_failed_publish(PublishError::NotDelivered);
        metrics.set_unavailable("link");
        metrics.count_cache_evicted("1", 2);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics));
        let mut page = String::new();
        prometheus_text::encode(&mut page, &registry).unwrap();
        let documented = include_str!("../../../docs/metrics.md");
        for (name, label, value) in [
            ("campanile_broker_failed_publishes_total", "outcome", "not_delivered"),
            ("campanile_broker_unavailable", "reason", "link"),
            ("campanile_broker_cache_evicted_total", "app", "1"),
        ] {
            assert!(
                documented.lines().any(|row| {
                    row.starts_with(&format!("| `{name}` | "))
                        && row.contains(&format!(" | `{label}` | "))
                }),
                "{name} in the docs"
            );
            assert!(page.contains(&format!("{name}{{{label}=\"{value}\"}}")), "{name}: {page}");
        }
    }

    #[test]
    fn replies_are_counted_by_latency() {
        let metrics = BrokerMetrics::default();
        for us in [250, 251, 5_000_000, 5_000_001] {
            metrics.observe_latency(Duration::from_micros(us));
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics));
        let mut page = String::new();
        prometheus_text::encode(&mut page, &registry).unwrap();
        let lines = page.lines().filter_map(|line| line.strip_prefix("campanile_broker_latency_"));
        let buckets = [
            ("0.00025", 1),
            ("0.0005", 2),
            ("0.001", 2),
            ("0.0025", 2),
            ("0.005", 2),
            ("0.01", 2),
            ("0.025", 2),
            ("0.1", 2),
            ("0.5", 2),
            ("1", 2),
            ("5", 3),
            ("+Inf", 4),
        ];
        let buckets =
            buckets.map(|(bound, count)| format!("seconds_bucket{{le=\"{bound}\"}} {count}"));
        let totals = ["seconds_sum 10.000502", "seconds_count 4"].map(ToOwned::to_owned);
        assert_eq!(lines.collect::<Vec<_>>(), [&buckets[..], &totals].concat());
    }
}
