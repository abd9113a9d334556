//! What happened between two samples of a server.

use super::exposition::Page;
use serde::Deserialize;
use std::time::Duration;

/// The counters of a server at one time.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    pub(super) page: Page,
}

/// The answer of `GET /apps/{id}/activity`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Activity {
    pub(super) interval_ms: u64,
    pub(super) channels: Vec<Channel>,
    pub(super) slow_connections: Vec<SlowConnection>,
}

/// A channel, and what it delivered in the interval.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Channel {
    #[serde(rename = "channel")]
    pub(super) name: String,
    pub(super) events: u64,
    pub(super) subscriptions: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SlowConnection {
    pub(super) socket_id: String,
    pub(super) address: String,
    pub(super) waiting_bytes: u64,
}

/// A server in an interval; rates are per second.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) version: String,
    pub(super) connections: f64,
    pub(super) max_connections: f64,
    pub(super) subscriptions: f64,
    pub(super) channels: f64,
    pub(super) received: f64,
    pub(super) received_bytes: f64,
    pub(super) sent: f64,
    pub(super) sent_bytes: f64,
    pub(super) publishes: f64,
    pub(super) failed_publishes: f64,
    /// Median and 99th percentile of the delivery latency in seconds, if anything was delivered.
    pub(super) latency: Option<(f64, f64)>,
    /// Shards by index.
    pub(super) shards: Vec<Shard>,
    /// CPU of the process in cores, if the server measures it.
    pub(super) cpu: Option<f64>,
    pub(super) memory_bytes: Option<f64>,
    /// With Redis, the number of nodes, and whether this one is joined.
    pub(super) nodes: Option<(f64, bool)>,
    pub(super) activity: Activity,
}

#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) connections: f64,
    /// The busy part of the interval, 0 to 1.
    pub(super) busy: f64,
}

impl Channel {
    pub(super) fn events_per_second(&self, interval_ms: u64) -> f64 {
        per_second(self.events, interval_ms)
    }

    pub(super) fn messages_per_second(&self, interval_ms: u64) -> f64 {
        per_second(self.events.saturating_mul(self.subscriptions), interval_ms)
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with one decimal")]
fn per_second(count: u64, interval_ms: u64) -> f64 {
    1_000.0 * count as f64 / interval_ms.max(1) as f64
}

impl Report {
    /// Compares two samples that were taken `elapsed` apart.
    pub(super) fn between(
        before: &Scrape,
        after: &Scrape,
        elapsed: Duration,
        activity: Activity,
    ) -> Self {
        let (old, new) = (&before.page, &after.page);
        let rate = |name: &str| increase(old.sum(name), new.sum(name)) / elapsed.as_secs_f64();
        let joined = new.value("campanile_broker_joined");
        let nodes = new.value("campanile_broker_nodes");
        let cpu = "process_cpu_seconds_total";
        Self {
            version: new.label("campanile_build_info", "version").unwrap_or_default().to_owned(),
            connections: new.sum("campanile_connections"),
            max_connections: new.sum("campanile_max_connections"),
            subscriptions: new.sum("campanile_subscriptions"),
            channels: new.sum("campanile_channels"),
            received: rate("campanile_messages_received_total"),
            received_bytes: rate("campanile_bytes_received_total"),
            sent: rate("campanile_messages_sent_total"),
            sent_bytes: rate("campanile_bytes_sent_total"),
            publishes: rate("campanile_publishes_total"),
            failed_publishes: failed(new, old) / elapsed.as_secs_f64(),
            latency: latency(old, new),
            shards: shards(old, new, elapsed),
            cpu: new.value(cpu).map(|_measured| rate(cpu)),
            memory_bytes: new.value("process_resident_memory_bytes"),
            nodes: joined.zip(nodes).map(|(joined, nodes)| (nodes, 0.0 < joined)),
            activity,
        }
    }
}

/// The increase of a counter. A restarted server counts from 0.
fn increase(before: f64, after: f64) -> f64 {
    if after < before { after } else { after - before }
}

/// The increase of publishes that were answered by an error.
fn failed(new: &Page, old: &Page) -> f64 {
    let name = "campanile_publishes_total";
    let (old, new) = (old.by_label(name, "status"), new.by_label(name, "status"));
    let failed = new.iter().filter(|(status, _)| !status.starts_with('2'));
    failed.fold(0.0, |sum, (status, count)| {
        sum + increase(old.get(status).copied().unwrap_or_default(), *count)
    })
}

fn shards(old: &Page, new: &Page, elapsed: Duration) -> Vec<Shard> {
    let busy = "campanile_shard_busy_seconds_total";
    let (old, busy) = (old.by_label(busy, "shard"), new.by_label(busy, "shard"));
    let mut shards: Vec<(usize, Shard)> = new
        .by_label("campanile_shard_connections", "shard")
        .into_iter()
        .filter_map(|(index, connections)| {
            let of = |map: &std::collections::BTreeMap<String, f64>| {
                map.get(&index).copied().unwrap_or_default()
            };
            let busy = increase(of(&old), of(&busy)) / elapsed.as_secs_f64();
            Some((index.parse().ok()?, Shard { connections, busy: busy.min(1.0) }))
        })
        .collect();
    shards.sort_by_key(|(index, _)| *index);
    shards.into_iter().map(|(_, shard)| shard).collect()
}

fn latency(old: &Page, new: &Page) -> Option<(f64, f64)> {
    let name = "campanile_delivery_latency_seconds";
    let (old, new) = (old.buckets(name), new.buckets(name));
    let before = |bound: f64| {
        old.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()).map_or(0.0, |b| b.1)
    };
    let buckets: Vec<(f64, f64)> =
        new.iter().map(|(bound, count)| (*bound, increase(before(*bound), *count))).collect();
    Some((quantile(0.5, &buckets)?, quantile(0.99, &buckets)?))
}

/// A quantile of cumulative buckets, interpolated as Prometheus does; `None` without samples.
fn quantile(quantile: f64, buckets: &[(f64, f64)]) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|count| 0.0 < *count)?;
    let rank = quantile * total;
    let at = buckets.iter().position(|(_, count)| rank <= *count)?;
    let (lower, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let (upper, count) = buckets[at];
    // Beyond the last bound, nothing better is known than that bound.
    Some(if upper.is_finite() {
        lower + (upper - lower) * (rank - below) / (count - below)
    } else {
        lower
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A page of a server with two shards after `seconds` of steady traffic.
    pub(in crate::cli::top) fn page(seconds: u32) -> String {
        let seconds = f64::from(seconds);
        format!(
            "campanile_build_info{{version=\"0.1.0\"}} 1\n\
             campanile_connections{{app=\"1\"}} 12\ncampanile_connections{{app=\"2\"}} 3\n\
             campanile_max_connections 1000\n\
             campanile_subscriptions{{app=\"1\"}} 20\ncampanile_channels{{app=\"1\"}} 7\n\
             campanile_messages_received_total{{kind=\"ping\"}} {received}\n\
             campanile_bytes_received_total{{kind=\"ping\"}} {bytes}\n\
             campanile_messages_sent_total{{kind=\"event\"}} {sent}\n\
             campanile_bytes_sent_total{{kind=\"event\"}} {sent_bytes}\n\
             campanile_publishes_total{{status=\"200\"}} {publishes}\n\
             campanile_publishes_total{{status=\"401\"}} {failed}\n\
             campanile_delivery_latency_seconds_bucket{{le=\"0.001\"}} {sent}\n\
             campanile_delivery_latency_seconds_bucket{{le=\"+Inf\"}} {sent}\n\
             campanile_shard_busy_seconds_total{{shard=\"10\"}} {idle}\n\
             campanile_shard_busy_seconds_total{{shard=\"2\"}} {busy}\n\
             campanile_shard_connections{{shard=\"10\"}} 5\n\
             campanile_shard_connections{{shard=\"2\"}} 10\n\
             process_cpu_seconds_total {busy}\nprocess_resident_memory_bytes 52428800\n\
             campanile_broker_joined 1\ncampanile_broker_nodes 3\n",
            received = 3.0 * seconds,
            bytes = 60.0 * seconds,
            sent = 1_200.0 * seconds,
            sent_bytes = 240_000.0 * seconds,
            publishes = 40.0 * seconds,
            failed = 0.5 * seconds,
            busy = 0.5 * seconds,
            idle = 0.01 * seconds,
        )
    }

    pub(in crate::cli::top) fn report() -> Report {
        let sample = |seconds| Scrape { page: Page::parse(&page(seconds)) };
        let activity = serde_json::from_str(
            r#"{"interval_ms":2000,"channels":[
                {"channel":"news","events":20,"subscriptions":50},
                {"channel":"presence-lobby","events":100,"subscriptions":3}],
               "slow_connections":[
                {"socket_id":"1.22","address":"192.0.2.7","waiting_bytes":1572864}]}"#,
        );
        Report::between(&sample(10), &sample(12), Duration::from_secs(2), activity.unwrap())
    }

    #[test]
    fn rates_are_differences_over_the_time_between_two_samples() {
        let report = report();
        assert_eq!((report.connections, report.max_connections), (15.0, 1_000.0));
        assert_eq!((report.subscriptions, report.channels), (20.0, 7.0));
        assert_eq!((report.received, report.received_bytes), (3.0, 60.0));
        assert_eq!((report.sent, report.sent_bytes), (1_200.0, 240_000.0));
        assert_eq!((report.publishes, report.failed_publishes), (40.5, 0.5));
        assert_eq!(report.latency, Some((0.0005, 0.00099)));
        let shards: Vec<_> = report.shards.iter().map(|shard| shard.connections).collect();
        assert_eq!(shards, [10.0, 5.0], "in the order of their numbers");
        assert!((report.shards[0].busy - 0.5).abs() < 1e-9);
        assert_eq!(report.cpu, Some(0.5));
        assert_eq!(report.nodes, Some((3.0, true)));
        let channel = &report.activity.channels[0];
        assert_eq!(
            (channel.events_per_second(2_000), channel.messages_per_second(2_000)),
            (10.0, 500.0)
        );
    }

    #[test]
    fn a_restarted_server_counts_from_zero() {
        let sample = |seconds| Scrape { page: Page::parse(&page(seconds)) };
        let report =
            Report::between(&sample(100), &sample(2), Duration::from_secs(2), Activity::default());
        assert_eq!((report.sent, report.received), (1_200.0, 3.0));
        let nothing =
            Report::between(&sample(5), &sample(5), Duration::from_secs(2), Activity::default());
        assert_eq!((nothing.sent, nothing.latency), (0.0, None));
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let buckets = [(1.0, 0.0), (2.0, 8.0), (4.0, 10.0), (f64::INFINITY, 10.0)];
        assert_eq!(quantile(0.5, &buckets), Some(1.625));
        assert_eq!(quantile(0.9, &buckets), Some(3.0));
        assert_eq!(quantile(1.0, &buckets), Some(4.0));
        let late = [(1.0, 0.0), (f64::INFINITY, 3.0)];
        assert_eq!(quantile(0.5, &late), Some(1.0), "at least the last bound");
        assert_eq!(quantile(0.5, &[]), None);
    }
}
