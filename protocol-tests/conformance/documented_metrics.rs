//! Compares the documented metrics with those that a server exports.

use std::collections::{BTreeMap, BTreeSet};

use kit::{Settings, eventually};

use crate::Start as _;

type Labels = BTreeSet<String>;

/// A metric: its type, its labels, and its help.
#[derive(Debug, PartialEq)]
struct Metric {
    kind: String,
    labels: Labels,
    help: String,
}

/// The documented metrics by name.
fn documented() -> BTreeMap<String, Metric> {
    let pages = [include_str!("../../docs/metrics.md"), include_str!("../../docs/webhooks.md")];
    let rows = pages.into_iter().flat_map(str::lines).filter_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells.get(1)?.trim_matches('`');
        let is_metric = name.starts_with("campanile_") || name.starts_with("process_");
        is_metric.then(|| (name.to_owned(), cells))
    });
    let mut metrics = BTreeMap::new();
    for (name, cells) in rows {
        let [_, _, kind, labels, _unit, help, _] = cells[..] else { panic!("{cells:?}") };
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let metric = Metric { kind: kind.to_owned(), labels, help: help.replace('`', "") };
        assert!(metrics.insert(name, metric).is_none(), "{cells:?} is listed twice");
    }
    metrics
}

/// The metrics of a page, each with the labels of its first sample, and whether it has samples.
fn exported(page: &str) -> BTreeMap<String, (Metric, bool)> {
    let series = page.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<&str> =
        series.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series)).collect();
    let comments = |key: &'static str| {
        page.lines().filter_map(move |line| line.strip_prefix(key)?.split_once(' '))
    };
    let labels_of = |name: &str, kind: &str| -> Option<Labels> {
        let suffix = if kind == "histogram" { "_bucket" } else { "" };
        let own = series.iter().find_map(|series| {
            let rest = series.strip_prefix(name)?.strip_prefix(suffix)?;
            (rest.is_empty() || rest.starts_with('{')).then_some(rest)
        })?;
        let pairs = own.trim_matches(['{', '}']).split(',').filter_map(|pair| pair.split_once('='));
        Some(pairs.map(|(label, _)| label.to_owned()).filter(|label| label != "le").collect())
    };
    let helps: BTreeMap<&str, &str> = comments("# HELP ").collect();
    comments("# TYPE ")
        .map(|(name, kind)| {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            let help = helps[name].to_owned();
            let labels = labels_of(name, kind);
            let has_samples = labels.is_some();
            let labels = labels.unwrap_or_default();
            (name.to_owned(), (Metric { kind: kind.to_owned(), labels, help }, has_samples))
        })
        .collect()
}

/// Asserts that the page has exactly these metrics; those of `without_samples` have no sample.
fn assert_exported(page: &str, expected: BTreeMap<String, Metric>, without_samples: &[&str]) {
    let exported = exported(page);
    assert_eq!(exported.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, mut expected) in expected {
        let (metric, has_samples) = &exported[&name];
        assert_eq!(*has_samples, !without_samples.contains(&name.as_str()), "samples of {name}");
        if !has_samples {
            expected.labels.clear();
        }
        assert_eq!(*metric, expected, "{name}");
    }
}

#[tokio::test]
async fn exactly_the_documented_metrics_are_exported_with_their_labels() {
    let webhook = r#"[{ url = "http://127.0.0.1:1/", events = ["channel_occupied"] }]"#;
    let settings = Settings::new().section("metrics", "token", r#""t""#).app("webhooks", webhook);
    let server = settings.start().await;
    // Creates one sample of each metric whose labels appear with the first sample.
    for _each_node in 0..2 {
        server.publish("cache-a", "e", "1").await;
    }
    let mut client = server.client().await;
    client.text("no JSON").await;
    client.error().await;
    drop(client);
    let ended = "campanile_connections_ended_total{";
    eventually("an end is counted", async || server.metrics_page().await.contains(ended)).await;
    // This file is part of two test targets; in `cluster`, servers use Redis.
    let of_cluster = env!("CARGO_CRATE_NAME") == "cluster";
    if of_cluster {
        let cached = "campanile_broker_cache_bytes{";
        eventually("Redis has told the size", async || {
            server.metrics_page().await.contains(cached)
        })
        .await;
    }
    let page = server.metrics_page().await;
    let mut expected = documented();
    if !of_cluster {
        expected.retain(|name, _| !name.starts_with("campanile_broker_"));
    }
    expected
        .remove("campanile_tls_certificate_expiry_timestamp_seconds")
        .expect("it is documented, and exported with a certificate");
    let without_samples: &[&str] = if of_cluster {
        &[
            "campanile_broker_unavailable",
            "campanile_broker_failed_publishes_total",
            "campanile_broker_cache_evicted_total",
        ]
    } else {
        &["campanile_webhook_leader"]
    };
    assert_exported(&page, expected, without_samples);
}
