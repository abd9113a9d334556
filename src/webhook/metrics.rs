//! The exposition of webhooks' counters. Labels are the app's id and the webhook's name. Webhooks that
//! are no longer configured are not exposed.

use super::{Webhooks, endpoint::Endpoint, stats::Dropped};
use crate::metrics::table::{self, Metric};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
};
use std::{fmt, sync::Arc};

/// The metrics of all webhooks.
#[derive(Debug)]
pub struct WebhookMetrics(pub(super) Arc<Webhooks>);

type ReadNumber = fn(&Endpoint) -> u64;

const NUMBERS: [(Metric, ReadNumber); 6] = [
    (table::WEBHOOK_EVENTS_SENT, |endpoint| endpoint.stats.sent.get()),
    (table::WEBHOOK_REQUESTS_FAILED, |endpoint| endpoint.stats.failed.get()),
    (table::WEBHOOK_REQUESTS_RETRIED, |endpoint| endpoint.stats.retried.get()),
    (table::WEBHOOK_EVENTS_WAITING, |endpoint| {
        endpoint.queue.events() as u64 + endpoint.stats.waiting.get()
    }),
    (table::WEBHOOK_REQUESTS_SPLIT, |endpoint| endpoint.stats.split.get()),
    (table::WEBHOOK_DEAD_LETTERS, |endpoint| {
        endpoint.queue.dead_letter_events() as u64 + endpoint.stats.dead_letters.get()
    }),
];

impl WebhookMetrics {
    /// For each app, with Redis: whether this node is the webhook leader.
    fn encode_leader(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = table::WEBHOOK_LEADER.describe(encoder)?;
        for app in self.0.apps() {
            if let Some(is_leader) = app.store.is_leader() {
                let labels = [("app", app.id.clone())];
                family.encode_family(&labels)?.encode_gauge(&u64::from(is_leader))?;
            }
        }
        Ok(())
    }

    fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.0.apps().iter().flat_map(|app| app.settings().endpoints.clone()).collect()
    }
}

impl Webhooks {
    /// The events that wait for their delivery on this node, and the requests that failed so far.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let apps: Vec<_> = self.apps.iter().map(|app| Arc::clone(&app)).collect();
        let endpoints = apps.iter().flat_map(|app| app.settings().endpoints.clone());
        endpoints.fold((0, 0), |(queued, failed), endpoint| {
            let waiting = endpoint.queue.events() as u64 + endpoint.stats.waiting.get();
            (queued + waiting, failed + endpoint.stats.failed.get())
        })
    }
}

impl Collector for WebhookMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |endpoint: &Endpoint| {
            [("app", endpoint.app_id.clone()), ("webhook", endpoint.name().to_string())]
        };
        for (metric, read) in NUMBERS {
            let mut family = metric.describe(&mut encoder)?;
            for endpoint in self.endpoints() {
                let (labels, value) = (labels(&endpoint), read(&endpoint));
                let mut sample = family.encode_family(&labels)?;
                if metric.is_gauge() {
                    sample.encode_gauge(&value)?;
                } else {
                    sample.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
                }
            }
        }
        let mut family = table::WEBHOOK_EVENTS_DROPPED.describe(&mut encoder)?;
        for endpoint in self.endpoints() {
            for reason in Dropped::ALL {
                let [app, webhook] = labels(&endpoint);
                let labels = [app, webhook, ("reason", reason.as_str().to_owned())];
                let count = endpoint.stats.dropped(reason).get();
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
            }
        }
        let mut family = table::WEBHOOK_LATENCY.describe(&mut encoder)?;
        for endpoint in self.endpoints() {
            endpoint.stats.latency.encode(family.encode_family(&labels(&endpoint))?)?;
        }
        let mut family = table::WEBHOOK_EVENTS_LOST.describe(&mut encoder)?;
        for app in self.0.apps() {
            let labels = [("app", app.id.clone())];
            let count = app.lost.get();
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
        }
        self.encode_leader(&mut encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Each number has a distinct value, so that mixed-up numbers are detected.
    #[test]
    fn each_number_is_exposed_under_its_name() {
        let webhook = crate::config::WebhookConfig {
            url: "http://a.test/hunter2?token=hunter2".into(),
            events: vec![crate::config::WebhookEvent::CacheMiss],
            ..Default::default()
        };
        let app = crate::config::AppConfig {
            webhooks: vec![webhook],
            ..crate::config::AppConfig::development()
        };
        let config = crate::config::Config { apps: vec![app], ..Default::default() };
        let webhooks = Arc::new(Webhooks::new(&config).unwrap());
        let metrics = webhooks.metrics();
        let (app, endpoint) = (metrics.0.apps().remove(0), metrics.endpoints().remove(0));
        let stats = &endpoint.stats;
        let now = std::time::Instant::now();
        stats.sent.add(10);
        stats.sent.add(1);
        stats.failed.add(12);
        stats.retried.add(13);
        stats.split.add(15);
        stats.waiting.set(5);
        stats.waiting.set(6);
        stats.dead_letters.set(7);
        endpoint.push(crate::webhook::queue::memory::tests::request("1", 8, now));
        for (reason, count) in Dropped::ALL.into_iter().zip(21..) {
            stats.dropped(reason).add(count);
        }
        stats.latency.observe(Duration::from_secs(2));
        app.lost.add(31);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(metrics));
        let mut page = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut page, &registry).unwrap();
        assert!(!page.contains("hunter2"), "{page}");
        let found: Vec<&str> = page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("_bucket"))
            .map(|line| line.strip_prefix("campanile_webhook_").unwrap())
            .collect();
        let labels = r#"{app="app-id",webhook="a.test"}"#;
        let dropped = |reason: &str, count: usize| {
            let labels = format!(r#"{{app="app-id",webhook="a.test",reason="{reason}"}}"#);
            format!("events_dropped_total{labels} {count}")
        };
        let expected = [
            format!("events_sent_total{labels} 11"),
            format!("requests_failed_total{labels} 12"),
            format!("requests_retried_total{labels} 13"),
            format!("events_waiting{labels} 14"),
            format!("requests_split_total{labels} 15"),
            format!("dead_letters{labels} 7"),
            dropped("overflow", 21),
            dropped("expired", 22),
            dropped("rejected", 23),
            dropped("shutdown", 24),
            dropped("removed", 25),
            format!("latency_seconds_sum{labels} 2.0"),
            format!("latency_seconds_count{labels} 1"),
            r#"events_lost_total{app="app-id"} 31"#.to_owned(),
        ];
        assert_eq!(found, expected);
        assert!(page.contains("# TYPE campanile_webhook_events_waiting gauge"), "{page}");
        assert!(page.contains("# TYPE campanile_webhook_events_sent_total counter"), "{page}");
        // Events that are queued at the end are dropped.
        assert_eq!(webhooks.abandon(), 8);
        assert_eq!(stats.dropped(Dropped::Shutdown).get(), 24 + 8);
    }
}
