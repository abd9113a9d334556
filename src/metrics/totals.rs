//! Totals of a node for the console, read from the same counters as the metrics.

use super::{DELIVERY_BOUNDS_US, Metrics, ShardMetrics, StatusLabel, Traffic, process, read};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Totals of a node since its start, for rates, and its current numbers.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodeTotals {
    /// The version of the server.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Open WebSocket connections.
    pub connections: usize,
    /// Subscriptions of all apps.
    pub subscriptions: usize,
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients.
    pub messages_out: u64,
    /// Requests to publish that were accepted.
    pub publishes: u64,
    /// Bytes of the messages to clients.
    pub bytes_out: u64,
    /// Resident memory; 0 if unknown.
    pub rss_bytes: u64,
    /// CPU time; 0 if unknown.
    pub cpu_seconds: f64,
}

/// The delivery latencies of a node by bucket, the last without an upper bound.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyBuckets([u64; DELIVERY_BOUNDS_US.len() + 1]);

impl Metrics {
    /// The totals of the node; those that the metrics do not have are left at their defaults.
    #[must_use]
    pub fn totals(&self) -> NodeTotals {
        type OfShard = fn(&ShardMetrics) -> &[Traffic];
        let (received, sent): (OfShard, OfShard) = (|shard| &shard.received, |shard| &shard.sent);
        let sum = |of: OfShard, read_one: fn(&Traffic) -> u64| -> u64 {
            self.shards.iter().flat_map(of).map(read_one).sum()
        };
        let (rss_bytes, cpu_seconds) = process::usage();
        NodeTotals {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            messages_in: sum(received, |traffic| read(&traffic.messages)),
            messages_out: sum(sent, |traffic| read(&traffic.messages)),
            bytes_out: sum(sent, |traffic| read(&traffic.bytes)),
            publishes: self.publishes.get_or_create(&StatusLabel { status: 200 }).get(),
            rss_bytes: rss_bytes.unwrap_or_default(),
            cpu_seconds: cpu_seconds.unwrap_or_default(),
            ..NodeTotals::default()
        }
    }

    /// The delivery latencies so far.
    #[must_use]
    pub fn delivery_latency(&self) -> LatencyBuckets {
        let mut buckets = [0; DELIVERY_BOUNDS_US.len() + 1];
        for shard in &self.shards {
            let counts = shard.latency.buckets.iter().chain([&shard.latency.above]);
            for (bucket, count) in buckets.iter_mut().zip(counts) {
                *bucket += read(count);
            }
        }
        LatencyBuckets(buckets)
    }
}

impl LatencyBuckets {
    /// The latencies since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut buckets = self.0;
        for (bucket, before) in buckets.iter_mut().zip(before.0) {
            *bucket = bucket.saturating_sub(before);
        }
        Self(buckets)
    }

    /// The latency that this share of the deliveries does not exceed, in milliseconds, interpolated in
    /// its bucket. `None` without deliveries. The last bucket counts as its lower bound.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn percentile_ms(&self, share: f64) -> Option<f64> {
        let count: u64 = self.0.iter().sum();
        let rank = (count as f64 * share).max(1.0);
        let (mut below, mut lower) = (0, 0);
        for (at, in_bucket) in self.0.iter().enumerate() {
            let upper = *DELIVERY_BOUNDS_US.get(at).unwrap_or(&lower);
            if rank <= (below + in_bucket) as f64 {
                let part = (rank - below as f64) / *in_bucket as f64;
                let us = Duration::from_micros(lower).as_secs_f64() * 1e6
                    + (upper - lower) as f64 * part;
                return Some(us / 1_000.0);
            }
            below += in_bucket;
            lower = upper;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::ReceivedKind, protocol::FrameKind};

    #[test]
    fn totals_are_sums_over_shards() {
        let metrics = Metrics::new(2);
        metrics.shard(0).received(ReceivedKind::Ping, 5);
        metrics.shard(1).received(ReceivedKind::Rejected, 5);
        metrics.shard(0).sent(FrameKind::Event, 3, 10);
        metrics.shard(1).sent(FrameKind::Control, 1, 2);
        metrics.publish_responded(200);
        metrics.publish_responded(400);
        let totals = metrics.totals();
        assert_eq!((totals.messages_in, totals.messages_out, totals.bytes_out), (2, 4, 32));
        assert_eq!(totals.publishes, 1);
        assert!(0 < totals.rss_bytes);
    }

    #[test]
    fn percentiles_are_interpolated_in_their_bucket() {
        let metrics = Metrics::new(2);
        let before = metrics.delivery_latency();
        assert_eq!(before.percentile_ms(0.5), None);
        for _ in 0..99 {
            metrics.shard(0).delivered_after(Duration::from_micros(200));
        }
        metrics.shard(1).delivered_after(Duration::from_secs(20));
        let latency = metrics.delivery_latency().since(&before);
        let p50 = latency.percentile_ms(0.5).unwrap();
        assert!((0.1..0.25).contains(&p50), "{p50}");
        assert_eq!(latency.percentile_ms(0.99), Some(0.25));
        assert_eq!(latency.percentile_ms(1.0), Some(10_000.0));
        let now = metrics.delivery_latency();
        assert_eq!(now.since(&now).percentile_ms(0.5), None);
    }
}
