//! The watch `overview`: totals of the nodes, and of their apps.

use super::{
    context::{Context, Extent},
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
    collections::BTreeMap,
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
    // The totals of a node are those of all its apps, and nodes report them to each other.
    if context.scope == Scope::Server && context.extent != Extent::ForPeer {
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

/// Adds the connections that apps have on other nodes to the data of this one.
pub(super) fn add_apps<'a>(data: &mut Value, others: impl Iterator<Item = &'a Value>) {
    let mut connections: BTreeMap<String, u64> = BTreeMap::new();
    let mut total = data["apps_total"].as_u64();
    let mut add = |of_node: &Value| {
        for app in of_node["apps"].as_array().into_iter().flatten() {
            if let (Some(id), Some(count)) = (app["id"].as_str(), app["connections"].as_u64()) {
                *connections.entry(id.to_owned()).or_default() += count;
            }
        }
        // Each node knows all apps, or in a database those that it has looked up.
        total = total.max(of_node["apps_total"].as_u64());
    };
    add(data);
    others.for_each(add);
    let mut apps: Vec<_> = connections.into_iter().collect();
    apps.sort_by_key(|(_, count)| Reverse(*count));
    apps.truncate(APPS_MAX);
    apps.sort();
    let apps = apps.iter().map(|(id, count)| json!({"id": id, "connections": count}));
    data["apps"] = apps.collect();
    data["apps_total"] = total.into();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_the_connections_of_all_nodes() {
        let app = |id: &str, connections: u64| json!({"id": id, "connections": connections});
        let mut data = json!({"time": 1, "apps": [app("b", 2), app("c", 1)], "apps_total": 2});
        let others = [
            json!({"apps": [app("a", 4), app("b", 3)], "apps_total": 3}),
            json!({"apps": [], "apps_total": 0}),
        ];
        add_apps(&mut data, others.iter());
        let apps = json!([app("a", 4), app("b", 5), app("c", 1)]);
        assert_eq!(data, json!({"time": 1, "apps": apps, "apps_total": 3}));
        let many: Vec<_> = (0..=APPS_MAX as u64).map(|at| app(&at.to_string(), at)).collect();
        add_apps(&mut data, [json!({"apps": many, "apps_total": many.len()})].iter());
        assert_eq!(data["apps"].as_array().unwrap().len(), APPS_MAX);
        assert_eq!(data["apps_total"], APPS_MAX + 1);
    }
}
