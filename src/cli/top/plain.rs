//! A report as one line, for people and for programs.

use super::{
    rates::Report,
    view::{bytes, milliseconds, rate},
};
use crate::escape::Escaped;
use serde_json::{Value, json};
use std::{fmt::Write as _, time::SystemTime};

/// A line with the most important numbers.
pub(super) fn line(report: &Report) -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let mut line = format!(
        "{now} connections={:.0} channels={:.0} in={}/s out={}/s out_bytes={}/s publishes={}/s",
        report.connections,
        report.channels,
        rate(report.received),
        rate(report.sent),
        bytes(report.sent_bytes).replace(' ', ""),
        rate(report.publishes),
    );
    let mut add = |text: std::fmt::Arguments<'_>| {
        line.write_fmt(text).expect("a String takes all text");
    };
    if let Some((median, late)) = report.latency {
        let [median, late] = [median, late].map(|seconds| milliseconds(seconds).replace(' ', ""));
        add(format_args!(" p50={median} p99={late}"));
    }
    let busy: Vec<_> =
        report.shards.iter().map(|shard| format!("{:.0}%", 100.0 * shard.busy)).collect();
    add(format_args!(" shards={}", busy.join(",")));
    if let Some((nodes, is_joined)) = report.nodes {
        add(format_args!(" nodes={nodes:.0}{}", if is_joined { "" } else { ",not_joined" }));
    }
    let slow = &report.activity.slow_connections;
    let waiting: u64 = slow.iter().map(|connection| connection.waiting_bytes).sum();
    add(format_args!(" slow={} waiting_bytes={waiting}", slow.len()));
    if let Some(busiest) = report.activity.channels.first() {
        let events = busiest.events_per_second(report.activity.interval_ms);
        add(format_args!(" busiest={}:{}/s", Escaped(&busiest.name), rate(events)));
    }
    line
}

/// All numbers.
pub(super) fn json(report: &Report) -> Value {
    let interval_ms = report.activity.interval_ms;
    let channels = report.activity.channels.iter().map(|channel| {
        json!({
            "channel": channel.name,
            "subscriptions": channel.subscriptions,
            "events_per_s": channel.events_per_second(interval_ms),
            "messages_per_s": channel.messages_per_second(interval_ms),
        })
    });
    let slow = report.activity.slow_connections.iter().map(|connection| {
        json!({
            "socket_id": connection.socket_id,
            "address": connection.address,
            "waiting_bytes": connection.waiting_bytes,
        })
    });
    let shards = report
        .shards
        .iter()
        .map(|shard| json!({ "connections": whole(shard.connections), "busy": shard.busy }));
    json!({
        "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "version": report.version,
        "connections": whole(report.connections),
        "max_connections": whole(report.max_connections),
        "subscriptions": whole(report.subscriptions),
        "channels": whole(report.channels),
        "messages_received_per_s": report.received,
        "bytes_received_per_s": report.received_bytes,
        "messages_sent_per_s": report.sent,
        "bytes_sent_per_s": report.sent_bytes,
        "publishes_per_s": report.publishes,
        "failed_publishes_per_s": report.failed_publishes,
        "latency_p50_s": report.latency.map(|(median, _)| median),
        "latency_p99_s": report.latency.map(|(_, late)| late),
        "shards": shards.collect::<Vec<_>>(),
        "cpu_cores": report.cpu,
        "resident_memory_bytes": report.memory_bytes.map(whole),
        "nodes": report.nodes.map(|(nodes, _)| whole(nodes)),
        "is_joined": report.nodes.map(|(_, is_joined)| is_joined),
        "busiest_channels": channels.collect::<Vec<_>>(),
        "slow_connections": slow.collect::<Vec<_>>(),
    })
}

/// A gauge that counts things.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::rates::tests::report;

    #[test]
    fn a_line_has_the_most_important_numbers() {
        let line = line(&report());
        let (_, numbers) = line.split_once(' ').unwrap();
        assert_eq!(
            numbers,
            "connections=15 channels=7 in=3.0/s out=1200/s out_bytes=234.4KiB/s publishes=40.5/s \
             p50=0.5ms p99=1.0ms shards=50%,1% nodes=3 slow=1 waiting_bytes=1572864 \
             busiest=news:10.0/s"
        );
    }

    #[test]
    fn json_has_all_numbers() {
        let json = json(&report());
        assert_eq!(json["busiest_channels"][0]["messages_per_s"], 500.0);
        assert_eq!(json["slow_connections"][0]["waiting_bytes"], 1_572_864);
        assert_eq!((&json["nodes"], &json["is_joined"]), (&json!(3), &json!(true)));
        let without = self::json(&Report::default());
        assert_eq!((&without["nodes"], &without["latency_p50_s"]), (&Value::Null, &Value::Null));
    }
}
