//! The table of metrics: each is declared once, with its name, type, labels and help.
//!
//! The Prometheus text and the tables in `docs/metrics.md` and `docs/webhooks.md` are made from it.

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::MetricType,
};
use std::fmt;

/// A metric, as it is exposed and documented.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name, of counters without `_total`.
    name: &'static str,
    kind: MetricType,
    #[cfg(test)]
    labels: &'static [&'static str],
    /// One sentence without a period, in Markdown with no marks but backquotes.
    help: &'static str,
}

impl Metric {
    /// Writes the metric's name, type and help, and returns the encoder of its samples.
    ///
    /// # Errors
    ///
    /// `encoder` fails.
    pub fn describe<'a>(
        &self,
        encoder: &'a mut DescriptorEncoder<'_>,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        let help = self.help.replace('`', "");
        encoder.encode_descriptor(self.name, &help, None, self.kind)
    }

    /// Whether the metric is a gauge.
    #[must_use]
    pub fn is_gauge(&self) -> bool {
        self.kind.as_str() == MetricType::Gauge.as_str()
    }

    /// Writes a gauge without labels.
    pub(super) fn encode_gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        value: u64,
    ) -> fmt::Result {
        self.describe(encoder)?.encode_gauge(&value)
    }
}

macro_rules! metrics {
    ($(#[$doc:meta])* $list:ident: $($constant:ident = $type:ident $name:literal $labels:tt $help:literal)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help, ".")]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: MetricType::$type,
                #[cfg(test)]
                labels: &$labels,
                help: $help,
            };
        )*
        $(#[$doc])*
        #[cfg(test)]
        const $list: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    /// The metrics that each node has.
    OF_NODE:
    BUILD_INFO = Gauge "campanile_build_info" ["version"]
        "Always 1; the label is the version of the server"
    CONNECTIONS = Gauge "campanile_connections" ["app"]
        "WebSocket connections"
    SUBSCRIPTIONS = Gauge "campanile_subscriptions" ["app"]
        "Subscriptions to channels, server-to-user channels included"
    CHANNELS = Gauge "campanile_channels" ["app"]
        "Channels with subscribers, without server-to-user channels"
    CACHE_BYTES = Gauge "campanile_cache_bytes" ["app"]
        "Size of the cached events in memory, on a single node"
    CACHE_EVENTS_DROPPED = Counter "campanile_cache_events_dropped" ["app", "reason"]
        "Cached events dropped because of `max_cache_bytes`, on a single node: `evicted`, `too_large`"
    LINGERING = Gauge "campanile_lingering_subscriptions" []
        "Subscriptions of lost connections, which end with `presence_grace_s` unless their clients return"
    PARKED = Gauge "campanile_parked_sessions" []
        "Lost connections of clients with a token that have not returned"
    SESSIONS = Counter "campanile_sessions" ["outcome"]
        "Lost connections of clients with a token: `parked`, then `resumed`, or `evicted` because there were too many"
    REPLAYED = Counter "campanile_replayed_events" []
        "Events that clients received after their return, since they had missed them or had not acknowledged them"
    DUPLICATES_AVOIDED = Counter "campanile_duplicates_avoided" ["by"]
        "Events that returning clients did not receive again: `acknowledgement` for those that they had acknowledged on the lost connection, `page` for later ones that pages had counted themselves"
    GAPS = Counter "campanile_gaps" ["reason"]
        "Channels in which a returning client may have missed events: `log_lost`, `log_trimmed`, `too_much`, `not_logged`, `session_lost`"
    LOG_BYTES = Gauge "campanile_log_bytes" ["app"]
        "Size of the logs of channels in the memory of the node; 0 with Redis, which has them"
    LOG_EVENTS_DROPPED = Counter "campanile_log_events_dropped" ["app", "reason"]
        "Events dropped from the logs of channels before their time: `channel_full`, `node_full`"
    CERTIFICATE_EXPIRY = Gauge "campanile_tls_certificate_expiry_timestamp_seconds" []
        "Expiry time of the certificate of `server.tls`, since the Unix epoch"
    MAX_CONNECTIONS = Gauge "campanile_max_connections" []
        "Current limit of WebSocket connections"
    MAX_HTTP_CONNECTIONS = Gauge "campanile_max_http_connections" []
        "Current limit of HTTP connections"
    CONNECTIONS_ENDED = Counter "campanile_connections_ended" ["reason", "code"]
        "Closed and rejected WebSocket connections by reason and code of the close frame, 0 without one"
    MESSAGES_RECEIVED = Counter "campanile_messages_received" ["kind"]
        "Messages from clients"
    BYTES_RECEIVED = Counter "campanile_bytes_received" ["kind"]
        "Size of the messages from clients, without framing"
    MESSAGES_SENT = Counter "campanile_messages_sent" ["kind"]
        "Messages queued for clients"
    BYTES_SENT = Counter "campanile_bytes_sent" ["kind"]
        "Size of the messages to clients, with framing"
    MESSAGES_REJECTED = Counter "campanile_messages_rejected" ["kind", "reason"]
        "Messages from clients that were answered by an error"
    PUBLISHES = Counter "campanile_publishes" ["status"]
        "Publish requests by status of the response, those to unknown apps included"
    REPEATED_PUBLISHES = Counter "campanile_repeated_publishes" []
        "Events that were not published on a channel because they had been, with the same idempotency key"
    DELIVERY_LATENCY = Histogram "campanile_delivery_latency_seconds" []
        "Time from the acceptance of the oldest queued event of a connection to the flush of its outbox; one sample for each flush that begins with an event"
    SHARD_BUSY = Counter "campanile_shard_busy_seconds" ["shard"]
        "Busy time of a shard; its rate is the shard's load"
    SHARD_CONNECTIONS = Gauge "campanile_shard_connections" ["shard"]
        "WebSocket connections of a shard, closing ones included"
    CONFIG_RELOADS = Counter "campanile_config_reloads" ["result"]
        "Reloads of the configuration: `success`, `rejected`"
    CONFIG_LAST_LOAD = Gauge "campanile_config_last_load_timestamp_seconds" []
        "Load time of the current configuration, since the Unix epoch"
    APP_DATABASE_APPS = Gauge "campanile_app_database_apps" []
        "Apps of the database that this node knows"
    APP_DATABASE_QUERIES = Counter "campanile_app_database_queries" ["result"]
        "Queries to the database of apps: `answered`, `failed`, `timeout`"
    APP_DATABASE_LOOKUPS = Counter "campanile_app_database_lookups" ["result"]
        "Lookups of apps that this node did not know: `found`, `unknown`, `unavailable`"
    APP_DATABASE_REJECTED_ROWS = Counter "campanile_app_database_rejected_rows" []
        "Rows of the table of apps that were not taken over, because a value is invalid or not unique"
    APP_DATABASE_LAST_ANSWER = Gauge "campanile_app_database_last_answer_timestamp_seconds" []
        "Time of the last answer of the database of apps, since the Unix epoch; 0 without one"
    PROCESS_CPU = Counter "process_cpu_seconds" []
        "User and system CPU time (Linux)"
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" []
        "Resident memory size (Linux)"
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "Open file descriptors (Linux)"
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "Limit of open file descriptors (Linux)"
    PROCESS_START_TIME = Gauge "process_start_time_seconds" []
        "Start time of the process, since the Unix epoch (Linux)"
}

metrics! {
    /// The metrics of a node that shares a Redis with others.
    OF_BROKER:
    BROKER_JOINED = Gauge "campanile_broker_joined" []
        "1 while this node takes part in the cluster, 0 while it does not"
    BROKER_UNAVAILABLE = Gauge "campanile_broker_unavailable" ["reason"]
        "1 while this node does not take part in the cluster, by the kind of the reason"
    BROKER_NODES = Gauge "campanile_broker_nodes" []
        "Nodes of the cluster as this node knows them, itself included"
    BROKER_JOINS = Counter "campanile_broker_joins" []
        "Times that this node joined the cluster"
    BROKER_DISCONNECTS = Counter "campanile_broker_disconnects" []
        "Times that this node lost the link to Redis"
    BROKER_TOPICS = Gauge "campanile_broker_topics" []
        "Channels, users and connection counts that this node keeps in sync with Redis"
    BROKER_PENDING_REQUESTS = Gauge "campanile_broker_pending_requests" []
        "Requests that wait for this node to join the cluster"
    BROKER_LATENCY = Histogram "campanile_broker_latency_seconds" []
        "Time to a reply of Redis"
    BROKER_EVENTS = Counter "campanile_broker_events" ["direction"]
        "Events published to Redis (`published`) and received from it (`received`), those of this node included"
    BROKER_FAILED_PUBLISHES = Counter "campanile_broker_failed_publishes" ["outcome"]
        "Publishes that failed: no client receives them (`not_delivered`), or the outcome is unknown (`unknown`)"
    BROKER_DUPLICATES = Counter "campanile_broker_duplicates" []
        "Events received more than once and delivered once"
    BROKER_FORCED_RESUBSCRIBES = Counter "campanile_broker_forced_resubscribes" []
        "Channels whose subscribers' connections were closed because events may have been missed"
    BROKER_CLEANUPS = Counter "campanile_broker_cleanups" []
        "Dead nodes whose data this node removed"
    BROKER_REPAIRS = Counter "campanile_broker_repairs" []
        "Topics that were repaired because their data in Redis differed from that of the nodes"
    BROKER_LATE_SYNCS = Counter "campanile_broker_late_syncs" []
        "Writes of topics that Redis rejected because its clock was ahead of the node's estimate; they are retried"
    BROKER_UNEXPECTED_DATA = Counter "campanile_broker_unexpected_data" []
        "Messages and keys under `redis.prefix` that no node wrote"
    BROKER_CACHE_BYTES = Gauge "campanile_broker_cache_bytes" ["app"]
        "Size of the cached events in Redis, as of this node's last publish to a cache channel"
    BROKER_CACHE_EVICTED = Counter "campanile_broker_cache_evicted" ["app"]
        "Cached events that this node evicted from Redis"
}

metrics! {
    /// The metrics of webhooks.
    OF_WEBHOOKS:
    WEBHOOK_EVENTS_SENT = Counter "campanile_webhook_events_sent" ["app", "webhook"]
        "Events that were delivered"
    WEBHOOK_REQUESTS_FAILED = Counter "campanile_webhook_requests_failed" ["app", "webhook"]
        "Requests that were not answered by 2xx"
    WEBHOOK_REQUESTS_RETRIED = Counter "campanile_webhook_requests_retried" ["app", "webhook"]
        "Requests that repeat one that failed"
    WEBHOOK_EVENTS_DROPPED = Counter "campanile_webhook_events_dropped" ["app", "webhook", "reason"]
        "Events that were dropped: `overflow`, `expired`, `rejected`, `shutdown`, `removed`"
    WEBHOOK_EVENTS_WAITING = Gauge "campanile_webhook_events_waiting" ["app", "webhook"]
        "Events that wait; with Redis, on the webhook leader"
    WEBHOOK_REQUESTS_SPLIT = Counter "campanile_webhook_requests_split" ["app", "webhook"]
        "Requests that were split because the endpoint rejected one of their events"
    WEBHOOK_DEAD_LETTERS = Gauge "campanile_webhook_dead_letters" ["app", "webhook"]
        "Events that the endpoint rejects and that are retried separately; with Redis, on the webhook leader"
    WEBHOOK_LATENCY = Histogram "campanile_webhook_latency_seconds" ["app", "webhook"]
        "Time from the creation of a request to its success, retries included"
    WEBHOOK_EVENTS_LOST = Counter "campanile_webhook_events_lost" ["app"]
        "Events that reached no webhook: the log or the table of present keys was full, or a shutdown came first"
    WEBHOOK_LEADER = Gauge "campanile_webhook_leader" ["app"]
        "With Redis, 1 on the webhook leader of the app, 0 on the others"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, fmt::Write as _, fs, path::Path};

    const COMMAND: &str = "WRITE_METRICS=1 cargo test --lib metrics::table";

    /// The page `name` with a new table after the line `<!-- metrics: SECTION -->`, up to the next empty line.
    fn with_tables(page: &str, sections: &[(&str, &[Metric])]) -> String {
        let mut page = page.to_owned();
        for (section, metrics) in sections {
            let mark = format!("<!-- metrics: {section} -->\n");
            let at = page.find(&mark).unwrap_or_else(|| panic!("{mark}is missing")) + mark.len();
            let end = at + page[at..].find("\n\n").expect("an empty line after the table") + 1;
            page.replace_range(at..end, &table(metrics));
        }
        page
    }

    fn table(metrics: &[Metric]) -> String {
        let mut table =
            "| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n".to_owned();
        for metric in metrics {
            let Metric { name, kind, labels, help } = *metric;
            let total = if kind.as_str() == "counter" { "_total" } else { "" };
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>();
            let cells = [kind.as_str(), &labels.join(", "), unit(name), help];
            let cells =
                cells.map(|cell| format!("{cell}{}", if cell.is_empty() { "" } else { " " }));
            writeln!(table, "| `{name}{total}` | {}|", cells.join("| ")).unwrap();
        }
        table
    }

    /// The unit, which is a part of the name; numbers of things have none.
    fn unit(name: &str) -> &'static str {
        let has = |unit| name.split('_').any(|word| word == unit);
        if has("seconds") {
            "seconds"
        } else if has("bytes") {
            "bytes"
        } else {
            ""
        }
    }

    /// Compares the tables of the page with the declarations, or writes them.
    fn compare(name: &str, sections: &[(&str, &[Metric])]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let page = fs::read_to_string(&path).unwrap();
        let made = with_tables(&page, sections);
        if env::var_os("WRITE_METRICS").is_some() {
            fs::write(path, made).unwrap();
            return;
        }
        for (at, (is, should)) in page.lines().zip(made.lines()).enumerate() {
            assert_eq!(is, should, "{name}:{}: run {COMMAND}", at + 1);
        }
        assert!(page == made, "{name} ends too early or too late: run {COMMAND}");
    }

    #[test]
    fn the_tables_in_the_documents_are_made_from_the_declarations() {
        compare("docs/metrics.md", &[("node", OF_NODE), ("cluster", OF_BROKER)]);
        compare("docs/webhooks.md", &[("webhooks", OF_WEBHOOKS)]);
    }

    #[test]
    fn names_are_unique_and_follow_the_conventions_of_prometheus() {
        let mut names: Vec<&str> =
            [OF_NODE, OF_BROKER, OF_WEBHOOKS].concat().iter().map(|metric| metric.name).collect();
        for name in &names {
            let known = ["campanile_", "process_"].iter().any(|prefix| name.starts_with(prefix));
            let unit = unit(name);
            assert!(known && !name.ends_with("_total"), "{name}");
            assert!(unit != "seconds" || name.ends_with(unit), "{name}: the unit is last");
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
