//! Compares the documented metrics with those that a server exports.

use std::collections::{BTreeMap, BTreeSet};

use kit::{Settings, eventually};

use crate::Start as _;

type Labels = BTreeSet<String>;

/// The documented metrics by name, each with its labels.
fn documented() -> BTreeMap<String, Labels> {
    let quoted = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let of_webhook = |meaning: &str| {
        let of_app = meaning.starts_with("by `app`");
        let labels = if of_app { &["app"][..] } else { &["app", "webhook"] };
        let reason = meaning.contains("by `reason`").then_some("reason");
        labels.iter().copied().chain(reason).map(str::to_owned).collect()
    };
    let tables = [include_str!("../../docs/metrics.md"), include_str!("../../docs/webhooks.md")];
    let rows = tables.into_iter().flat_map(str::lines);
    let rows = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let mut metrics = BTreeMap::new();
    for cells in rows.filter(|cells| 3 < cells.len()) {
        let is_metric =
            |name: &String| name.starts_with("campanile_") || name.starts_with("process_");
        for name in quoted(cells[1]).into_iter().filter(is_metric) {
            let of_webhook_table = name.starts_with("campanile_webhook_");
            let labels = if of_webhook_table {
                of_webhook(cells[2])
            } else {
                quoted(cells[2]).into_iter().collect()
            };
            assert!(metrics.insert(name, labels).is_none(), "{cells:?} is listed twice");
        }
    }
    metrics
}

/// The metrics of a page, each with the labels of its first sample, if it has samples.
fn exported(page: &str) -> BTreeMap<String, Option<Labels>> {
    let series = page.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<&str> =
        series.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series)).collect();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let labels_of = |name: &str, kind: &str| {
        let suffix = if kind == "histogram" { "_bucket" } else { "" };
        let own = series.iter().find_map(|series| {
            let rest = series.strip_prefix(name)?.strip_prefix(suffix)?;
            (rest.is_empty() || rest.starts_with('{')).then_some(rest)
        })?;
        let pairs = own.trim_matches(['{', '}']).split(',').filter_map(|pair| pair.split_once('='));
        Some(pairs.map(|(label, _)| label.to_owned()).filter(|label| label != "le").collect())
    };
    types
        .map(|(name, kind)| {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            (name.to_owned(), labels_of(name, kind))
        })
        .collect()
}

/// Asserts that the page has exactly these metrics, with their labels; those of `without_samples` have no sample.
fn assert_exported(page: &str, expected: &BTreeMap<String, Labels>, without_samples: &[&str]) {
    let exported = exported(page);
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(exported.keys().collect()), names(expected.keys().collect()));
    for (name, labels) in exported {
        let is_empty = without_samples.contains(&name.as_str());
        assert_eq!(labels.is_none(), is_empty, "whether {name} has no sample");
        if let Some(labels) = labels {
            assert_eq!(labels, expected[&name], "{name}");
        }
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
            "campanile_broker_rejected_total",
            "campanile_broker_cache_evicted_total",
        ]
    } else {
        &["campanile_webhook_leader"]
    };
    assert_exported(&page, &expected, without_samples);
}
