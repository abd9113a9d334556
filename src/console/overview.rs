//! The watch `overview`: totals of the nodes, and of the apps of this one.

use super::{
    context::Context,
    output::{Closed, Output},
    sessions::Scope,
};
use crate::{
    clock,
    metrics::LatencyBuckets,
    node::{Node, NodeReport},
};
use serde_json::{Value, json};
use std::{
    cmp::Reverse,
    time::{Duration, SystemTime},
};
use tokio::time;

/// The interval of the totals.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of apps that are shown: those with the most connections.
const APPS_MAX: usize = 200;

/// Sends the totals until the page is gone.
pub(super) async fn watch(context: &Context, output: &Output) -> Result<(), Closed> {
    let mut before = context.node().metrics().delivery_latency();
    let mut is_first = true;
    let mut ticks = time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let latency = context.node().metrics().delivery_latency();
        let data = totals(context, &latency.since(&before));
        before = latency;
        if std::mem::take(&mut is_first) {
            output.result(data).await?;
        } else {
            output.data(data).await?;
        }
    }
}

fn totals(context: &Context, latency: &LatencyBuckets) -> Value {
    let node = context.node();
    let mut apps: Vec<_> = match &context.scope {
        Scope::Server => node.hubs(),
        Scope::App(id) => node.hub(id).into_iter().collect(),
    };
    let apps_total = apps.len();
    apps.sort_by_cached_key(|hub| (Reverse(hub.connection_count()), hub.app_id()));
    apps.truncate(APPS_MAX);
    apps.sort_by_key(|hub| hub.app_id());
    let apps: Vec<_> = apps
        .iter()
        .map(|hub| json!({"id": &*hub.app_id(), "connections": hub.connection_count()}))
        .collect();
    let mut data = json!({"time": now_ms(), "apps": apps, "apps_total": apps_total});
    // The totals of a node are those of all its apps.
    if context.scope == Scope::Server {
        data["nodes"] = nodes(node).into();
        data["latency_ms"] = latency
            .percentile_ms(0.5)
            .zip(latency.percentile_ms(0.99))
            .map_or(Value::Null, |(p50, p99)| json!({"p50": p50, "p99": p99}));
        let (queued, failed) = node.webhooks().totals();
        data["webhooks"] = json!({"queued": queued, "failed": failed});
        data["redis"] = node.broker().redis().map_or(Value::Null, |redis| {
            let round_trip_ms = redis.round_trip().map(|time| time.as_secs_f64() * 1_000.0);
            json!({
                "connected": redis.unavailable_reason().is_none(),
                "round_trip_ms": round_trip_ms,
            })
        });
    }
    data
}

/// The nodes: this one first, then the others by name.
fn nodes(node: &Node) -> Vec<Value> {
    let mut others = node.reports_of_others(clock::now());
    others.sort_by(|one, other| one.node.cmp(&other.node));
    let with = |report: &NodeReport, is_this: bool| {
        let mut report = json!(report);
        report["is_this"] = is_this.into();
        report
    };
    let others = others.iter().map(|report| with(report, false));
    [with(&node.report(), true)].into_iter().chain(others).collect()
}

/// The time in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
