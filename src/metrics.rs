//! The metrics of the server, and their exposition to Prometheus.
//!
//! Each shard counts into numbers of its own, so that counting costs no cache line shared with
//! another core; a scrape adds them up.

mod app_database;
pub(crate) mod process;
mod server;
pub mod table;
mod totals;

pub use app_database::{AppDatabaseMetrics, LookupResult, QueryResult};
pub use totals::{LatencyBuckets, NodeTotals};

use crate::protocol::FrameKind;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::{counter::Counter, family::Family},
};
use server::ServerMetrics;
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use table::Metric;

/// All metrics of the server.
#[derive(Debug)]
pub struct Metrics {
    shards: Vec<ShardMetrics>,
    publishes: Family<StatusLabel, Counter>,
    ended: Family<EndedLabels, Counter>,
    certificate_expiry: AtomicU64,
    rejected: Family<RejectedLabels, Counter>,
    server: ServerMetrics,
    app_database: AppDatabaseMetrics,
}

/// The counters of one shard. Only its own thread writes them.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    received: [Traffic; ReceivedKind::ALL.len()],
    sent: [Traffic; FrameKind::ALL.len()],
    latency: DeliveryHistogram,
    connections: AtomicU64,
    busy_us: AtomicU64,
}

#[derive(Debug, Default)]
struct Traffic {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// The kind of a message from a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReceivedKind {
    /// `pusher:ping`.
    Ping,
    /// `pusher:subscribe`, accepted by the session.
    Subscribe,
    /// `pusher:unsubscribe`.
    Unsubscribe,
    /// `pusher:signin`, accepted.
    SignIn,
    /// A client event, accepted.
    ClientEvent,
    /// A message without an action, such as a pong.
    Other,
    /// A message that was answered with an error.
    Rejected,
}

impl ReceivedKind {
    const ALL: [Self; 7] = [
        Self::Ping,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::SignIn,
        Self::ClientEvent,
        Self::Other,
        Self::Rejected,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::SignIn => "signin",
            Self::ClientEvent => "client_event",
            Self::Other => "other",
            Self::Rejected => "rejected",
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StatusLabel {
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct EndedLabels {
    reason: &'static str,
    code: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RejectedLabels {
    kind: &'static str,
    reason: &'static str,
}

/// A histogram of durations, with this many bounds of buckets.
#[derive(Debug)]
pub struct Histogram<const BOUNDS: usize> {
    bounds_us: &'static [u64; BOUNDS],
    buckets: [AtomicU64; BOUNDS],
    /// The durations above the last bound.
    above: AtomicU64,
    sum_us: AtomicU64,
}

/// A histogram for a push service: from a tenth of a millisecond to ten seconds.
pub type DeliveryHistogram = Histogram<{ DELIVERY_BOUNDS_US.len() }>;

const DELIVERY_BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000, 10_000_000];

impl Default for DeliveryHistogram {
    fn default() -> Self {
        Self::new(&DELIVERY_BOUNDS_US)
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Traffic {
    fn add(&self, messages: usize, bytes: usize) {
        add(&self.messages, messages as u64);
        add(&self.bytes, bytes as u64);
    }
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    /// An empty histogram with these upper bounds of its buckets, in ascending order.
    #[must_use]
    pub fn new(bounds_us: &'static [u64; BOUNDS]) -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds_us, buckets, above: AtomicU64::new(0), sum_us: AtomicU64::new(0) }
    }

    /// Adds a duration.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let at = self.bounds_us.partition_point(|bound| *bound < us);
        add(self.buckets.get(at).unwrap_or(&self.above), 1);
        add(&self.sum_us, us);
    }

    /// Writes the histogram; the labels are written already.
    ///
    /// # Errors
    ///
    /// `encoder` fails.
    pub fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        Self::encode_sum(self.bounds_us, &[self], encoder)
    }

    /// Writes the sum of several histograms, all with these bounds.
    fn encode_sum(
        bounds_us: &[u64; BOUNDS],
        histograms: &[&Self],
        mut encoder: MetricEncoder<'_>,
    ) -> fmt::Result {
        let sum = |read_one: &dyn Fn(&Self) -> u64| -> u64 {
            histograms.iter().map(|histogram| read_one(histogram)).sum()
        };
        let bounds = bounds_us.iter().map(|us| Duration::from_micros(*us).as_secs_f64());
        let buckets: Vec<(f64, u64)> = bounds
            .enumerate()
            .map(|(at, bound)| (bound, sum(&|histogram| read(&histogram.buckets[at]))))
            .chain([(f64::INFINITY, sum(&|histogram| read(&histogram.above)))])
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let seconds =
            Duration::from_micros(sum(&|histogram| read(&histogram.sum_us))).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }
}

impl ShardMetrics {
    /// Counts a message from a client.
    pub fn received(&self, kind: ReceivedKind, bytes: usize) {
        self.received[kind as usize].add(1, bytes);
    }

    /// Counts a frame that was queued in this many outboxes.
    pub fn sent(&self, kind: FrameKind, outboxes: usize, frame_bytes: usize) {
        self.sent[kind.index()].add(outboxes, outboxes * frame_bytes);
    }

    /// Adds the time from an event's acceptance to the write to one subscriber.
    pub fn delivered_after(&self, latency: Duration) {
        self.latency.observe(latency);
    }

    /// Sets the number of connections of the shard.
    pub fn set_connections(&self, connections: usize) {
        self.connections.store(connections as u64, Ordering::Relaxed);
    }

    /// Adds time during which the shard was busy.
    pub fn was_busy(&self, duration: Duration) {
        add(&self.busy_us, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Metrics {
    /// Counters for this many shards, all zero.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| ShardMetrics::default()).collect(),
            publishes: Family::default(),
            ended: Family::default(),
            certificate_expiry: AtomicU64::new(0),
            rejected: Family::default(),
            server: ServerMetrics::default(),
            app_database: AppDatabaseMetrics::default(),
        }
    }

    /// Sets when the current certificate expires, in seconds since 1970, if there is one.
    pub fn set_certificate_expiry(&self, expiry: Option<u64>) {
        self.certificate_expiry.store(expiry.unwrap_or_default(), Ordering::Relaxed);
    }

    /// The counters of a shard.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[must_use]
    pub fn shard(&self, index: usize) -> &ShardMetrics {
        &self.shards[index]
    }

    /// Counts a request to publish by the status of its response.
    pub fn publish_responded(&self, status: u16) {
        self.publishes.get_or_create(&StatusLabel { status }).inc();
    }

    /// Counts the end of a connection; `code` is that of the close frame, 0 if there was none.
    pub fn connection_ended(&self, reason: &'static str, code: u16) {
        self.ended.get_or_create(&EndedLabels { reason, code }).inc();
    }

    /// Counts a rejected message, by its kind and the reason. Both are from a closed set.
    pub fn message_rejected(&self, kind: &'static str, reason: &'static str) {
        self.rejected.get_or_create(&RejectedLabels { kind, reason }).inc();
    }

    /// Sets the current limits.
    pub fn set_limits(&self, connections: usize, http_connections: usize) {
        self.server.set_limits(connections, http_connections);
    }

    /// Records that the first configuration was loaded.
    pub fn loaded(&self) {
        self.server.loaded();
    }

    /// Counts a reload that changed the configuration.
    pub fn reloaded(&self) {
        self.server.reloaded();
    }

    /// Counts a rejected reload.
    pub fn reload_rejected(&self) {
        self.server.reload_rejected();
    }

    /// The counters of the database of apps.
    #[must_use]
    pub fn app_database(&self) -> &AppDatabaseMetrics {
        &self.app_database
    }

    fn encode_traffic<const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (messages, bytes): (Metric, Metric),
        kinds: [&str; N],
        of: impl Fn(&ShardMetrics) -> &[Traffic; N],
    ) -> fmt::Result {
        let sum = |at: usize, read_one: fn(&Traffic) -> u64| -> u64 {
            self.shards.iter().map(|shard| read_one(&of(shard)[at])).sum()
        };
        let mut family = messages.describe(encoder)?;
        for (at, kind) in kinds.into_iter().enumerate() {
            counter(&mut family, &[("kind", kind)], sum(at, |traffic| read(&traffic.messages)))?;
        }
        let mut family = bytes.describe(encoder)?;
        for (at, kind) in kinds.into_iter().enumerate() {
            counter(&mut family, &[("kind", kind)], sum(at, |traffic| read(&traffic.bytes)))?;
        }
        Ok(())
    }

    fn encode_latency(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let histograms: Vec<_> = self.shards.iter().map(|shard| &shard.latency).collect();
        let family = table::DELIVERY_LATENCY.describe(encoder)?;
        Histogram::encode_sum(&DELIVERY_BOUNDS_US, &histograms, family)
    }

    fn encode_shards(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = table::SHARD_BUSY.describe(encoder)?;
        for (index, shard) in self.shards.iter().enumerate() {
            let busy = Duration::from_micros(read(&shard.busy_us)).as_secs_f64();
            family
                .encode_family(&[("shard", index)])?
                .encode_counter::<NoLabelSet, f64, u64>(&busy, None)?;
        }
        let mut family = table::SHARD_CONNECTIONS.describe(encoder)?;
        for (index, shard) in self.shards.iter().enumerate() {
            let connections = read(&shard.connections);
            family.encode_family(&[("shard", index)])?.encode_gauge(&connections)?;
        }
        Ok(())
    }
}

fn counter(
    family: &mut MetricEncoder<'_>,
    labels: &[(&'static str, &str); 1],
    value: u64,
) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeMetric;

        let kinds = ReceivedKind::ALL.map(ReceivedKind::as_str);
        let received = (table::MESSAGES_RECEIVED, table::BYTES_RECEIVED);
        self.encode_traffic(&mut encoder, received, kinds, |shard| &shard.received)?;
        let kinds = FrameKind::ALL.map(FrameKind::as_str);
        let sent = (table::MESSAGES_SENT, table::BYTES_SENT);
        self.encode_traffic(&mut encoder, sent, kinds, |shard| &shard.sent)?;
        self.encode_latency(&mut encoder)?;
        self.encode_shards(&mut encoder)?;
        let expiry = self.certificate_expiry.load(Ordering::Relaxed);
        if expiry != 0 {
            table::CERTIFICATE_EXPIRY.encode_gauge(&mut encoder, expiry)?;
        }
        self.publishes.encode(table::PUBLISHES.describe(&mut encoder)?)?;
        self.rejected.encode(table::MESSAGES_REJECTED.describe(&mut encoder)?)?;
        self.server.encode(&mut encoder)?;
        self.app_database.encode(&mut encoder)?;
        process::encode(&mut encoder)?;
        self.ended.encode(table::CONNECTIONS_ENDED.describe(&mut encoder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::prometheus_text, registry::Registry};

    #[test]
    fn all_metrics_are_exposed() {
        let metrics = Metrics::new(2);
        metrics.shard(0).received(ReceivedKind::Subscribe, 80);
        metrics.shard(1).received(ReceivedKind::Subscribe, 20);
        metrics.shard(1).sent(FrameKind::Event, 1_000, 150);
        metrics.shard(0).delivered_after(Duration::from_micros(100));
        metrics.shard(0).delivered_after(Duration::from_micros(101));
        metrics.shard(0).was_busy(Duration::from_millis(1_500));
        metrics.publish_responded(200);
        metrics.connection_ended("slow_consumer", 4100);
        metrics.message_rejected("subscribe", "auth_signature");
        metrics.set_limits(10_000, 4_096);
        metrics.reloaded();
        metrics.reload_rejected();
        let version = env!("CARGO_PKG_VERSION");
        let build = format!("campanile_build_info{{version=\"{version}\"}} 1");

        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics));
        let mut page = String::new();
        prometheus_text::encode(&mut page, &registry).unwrap();
        assert!(!page.contains("e+308"), "one bucket without a bound");
        for line in [
            build.as_str(),
            "campanile_messages_rejected_total{kind=\"subscribe\",reason=\"auth_signature\"} 1",
            "campanile_max_connections 10000",
            "campanile_max_http_connections 4096",
            "campanile_config_reloads_total{result=\"success\"} 1",
            "campanile_config_reloads_total{result=\"rejected\"} 1",
            "campanile_messages_received_total{kind=\"subscribe\"} 2",
            "campanile_bytes_received_total{kind=\"subscribe\"} 100",
            "campanile_messages_sent_total{kind=\"event\"} 1000",
            "campanile_bytes_sent_total{kind=\"event\"} 150000",
            "campanile_delivery_latency_seconds_bucket{le=\"0.0001\"} 1",
            "campanile_delivery_latency_seconds_bucket{le=\"0.00025\"} 2",
            "campanile_delivery_latency_seconds_bucket{le=\"+Inf\"} 2",
            "campanile_delivery_latency_seconds_count 2",
            "campanile_shard_busy_seconds_total{shard=\"0\"} 1.5",
            "campanile_publishes_total{status=\"200\"} 1",
            "campanile_connections_ended_total{reason=\"slow_consumer\",code=\"4100\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\nis missing in\n{page}");
        }
    }

    #[test]
    fn kinds_are_indexed_by_their_order() {
        let _: [(); 7] = std::array::from_fn(|at| assert_eq!(ReceivedKind::ALL[at] as usize, at));
        let _: [(); 4] = std::array::from_fn(|at| assert_eq!(FrameKind::ALL[at].index(), at));
    }
}
