//! soketi's variables.

use super::{
    compat_variable::{CompatVariable, apply, ignored, is_true, nearly, sets, silent},
    convert::{boolean, client_messages, integer, kilobytes, limit, milliseconds, text},
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    redis,
    variables::Variables,
    webhooks::{self, BATCHING},
};
use std::net::{IpAddr, SocketAddr};
use toml::Value;

const ADAPTER: &str = "it is for an adapter other than `local` and `redis`";
const APP_MANAGER: &str = "apps stand in the configuration";
const CACHE: &str = "what is in Redis is where redis.url says";
const CLUSTER: &str = "nodes do not look for one another on the network, see redis.url";
const DATABASE: &str = "no database is used";
const QUEUE: &str = "there is no queue of jobs";
const RATE_LIMITER: &str = "each node limits the rates of its own connections and requests";
const REQUESTS: &str = "no node asks the others";
const PASS: &str = "a key with a passphrase can't be read: have one without";
const CLIENT_CA: &str = "clients are asked for no certificate; put the chain into server.tls.cert";
const MEMORY: &str = "limits are counted in connections, see server.max_connections";
const METRICS: &str = "metrics are in Prometheus' format, under Campanile's names";
const MODE: &str = "a node always serves connections and the HTTP API";
const READS: &str = "one limit holds for the whole HTTP API, see apps[0].requests_per_second";
const BACKEND_EVENTS: &str = "it limits all requests to the HTTP API, those that read included";

/// The effect of each of the 115 variables, except for those rejected in `unsupported`. Those of
/// Redis have none here, because `redis` reads them.
pub(super) const COMPAT_VARIABLES: &[CompatVariable] = &[
    ignored("SOKETI_ADAPTER_CLUSTER_REQUESTS_TIMEOUT", "5000", ADAPTER),
    silent("SOKETI_ADAPTER_REDIS_PREFIX"),
    silent("SOKETI_ADAPTER_REDIS_CLUSTER_MODE"),
    ignored("SOKETI_ADAPTER_REDIS_REQUESTS_TIMEOUT", "5000", REQUESTS),
    silent("SOKETI_ADAPTER_REDIS_SUB_OPTIONS"),
    silent("SOKETI_ADAPTER_REDIS_PUB_OPTIONS"),
    ignored("SOKETI_ADAPTER_NATS_PREFIX", "", ADAPTER),
    ignored("SOKETI_ADAPTER_NATS_SERVERS", r#"["127.0.0.1:4222"]"#, ADAPTER),
    ignored("SOKETI_ADAPTER_NATS_USER", "null", ADAPTER),
    ignored("SOKETI_ADAPTER_NATS_PASSWORD", "null", ADAPTER),
    ignored("SOKETI_ADAPTER_NATS_TOKEN", "null", ADAPTER),
    ignored("SOKETI_ADAPTER_NATS_TIMEOUT", "10000", ADAPTER),
    ignored("SOKETI_ADAPTER_NATS_REQUESTS_TIMEOUT", "5000", ADAPTER),
    ignored("SOKETI_ADAPTER_NATS_NODES_NUMBER", "null", ADAPTER),
    ignored("SOKETI_APP_MANAGER_CACHE_ENABLED", "false", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_CACHE_TTL", "-1", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_DYNAMODB_TABLE", "apps", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_DYNAMODB_REGION", "us-east-1", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_DYNAMODB_ENDPOINT", "null", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_MYSQL_TABLE", "apps", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_MYSQL_VERSION", "8.0", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_POSTGRES_TABLE", "apps", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_POSTGRES_VERSION", "13.3", APP_MANAGER),
    ignored("SOKETI_APP_MANAGER_MYSQL_USE_V2", "false", APP_MANAGER),
    sets("SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH", "apps[0].max_channel_name_length", integer),
    sets("SOKETI_CHANNEL_CACHE_TTL", "apps[0].cache_ttl_s", integer),
    ignored("SOKETI_CACHE_REDIS_CLUSTER_MODE", "false", CACHE),
    ignored("SOKETI_CACHE_REDIS_OPTIONS", "{}", CACHE),
    ignored("SOKETI_CLUSTER_CHECK_INTERVAL", "500", CLUSTER),
    ignored("SOKETI_CLUSTER_HOST", "0.0.0.0", CLUSTER),
    ignored("SOKETI_CLUSTER_IGNORE_PROCESS", "true", CLUSTER),
    ignored("SOKETI_CLUSTER_BROADCAST_ADDRESS", "255.255.255.255", CLUSTER),
    ignored("SOKETI_CLUSTER_KEEPALIVE_INTERVAL", "500", CLUSTER),
    ignored("SOKETI_CLUSTER_MASTER_TIMEOUT", "2000", CLUSTER),
    ignored("SOKETI_CLUSTER_MULTICAST_ADDRESS", "null", CLUSTER),
    ignored("SOKETI_CLUSTER_NODE_TIMEOUT", "2000", CLUSTER),
    ignored("SOKETI_CLUSTER_PORT", "11002", CLUSTER),
    ignored("SOKETI_CLUSTER_PREFIX", "", CLUSTER),
    ignored("SOKETI_CLUSTER_UNICAST_ADDRESSES", "null", CLUSTER),
    silent("SOKETI_DEBUG"),
    sets("SOKETI_DEFAULT_APP_ID", "apps[0].id", text),
    sets("SOKETI_DEFAULT_APP_KEY", "apps[0].key", text),
    sets("SOKETI_DEFAULT_APP_SECRET", "apps[0].secret", text),
    sets("SOKETI_DEFAULT_APP_MAX_CONNS", "apps[0].max_connections", limit),
    sets("SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "apps[0].client_events", client_messages),
    sets("SOKETI_DEFAULT_APP_ENABLED", "apps[0].enabled", boolean),
    nearly(
        "SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC",
        "apps[0].requests_per_second",
        limit,
        BACKEND_EVENTS,
    ),
    sets("SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "apps[0].client_events_per_second", limit),
    ignored("SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC", "-1", READS),
    sets("SOKETI_DEFAULT_APP_USER_AUTHENTICATION", "apps[0].user_authentication", boolean),
    ignored("SOKETI_DB_POOLING_ENABLED", "false", DATABASE),
    ignored("SOKETI_DB_POOLING_MIN", "0", DATABASE),
    ignored("SOKETI_DB_POOLING_MAX", "7", DATABASE),
    ignored("SOKETI_DB_MYSQL_HOST", "127.0.0.1", DATABASE),
    ignored("SOKETI_DB_MYSQL_PORT", "3306", DATABASE),
    ignored("SOKETI_DB_MYSQL_USERNAME", "root", DATABASE),
    ignored("SOKETI_DB_MYSQL_PASSWORD", "password", DATABASE),
    ignored("SOKETI_DB_MYSQL_DATABASE", "main", DATABASE),
    ignored("SOKETI_DB_POSTGRES_HOST", "127.0.0.1", DATABASE),
    ignored("SOKETI_DB_POSTGRES_PORT", "5432", DATABASE),
    ignored("SOKETI_DB_POSTGRES_USERNAME", "postgres", DATABASE),
    ignored("SOKETI_DB_POSTGRES_PASSWORD", "password", DATABASE),
    ignored("SOKETI_DB_POSTGRES_DATABASE", "main", DATABASE),
    silent("SOKETI_DB_REDIS_HOST"),
    silent("SOKETI_DB_REDIS_PORT"),
    silent("SOKETI_DB_REDIS_DB"),
    silent("SOKETI_DB_REDIS_USERNAME"),
    silent("SOKETI_DB_REDIS_PASSWORD"),
    silent("SOKETI_DB_REDIS_KEY_PREFIX"),
    silent("SOKETI_DB_REDIS_SENTINELS"),
    silent("SOKETI_DB_REDIS_SENTINEL_PASSWORD"),
    silent("SOKETI_DB_REDIS_CLUSTER_NODES"),
    silent("SOKETI_DB_REDIS_INSTANCE_NAME"),
    sets("SOKETI_EVENT_MAX_BATCH_SIZE", "apps[0].max_batch_events", integer),
    sets("SOKETI_EVENT_MAX_CHANNELS_AT_ONCE", "apps[0].max_event_channels", integer),
    sets("SOKETI_EVENT_MAX_NAME_LENGTH", "apps[0].max_event_name_length", integer),
    sets("SOKETI_EVENT_MAX_SIZE_IN_KB", "apps[0].max_event_bytes", kilobytes),
    sets("SOKETI_HOST", "server.host", text),
    ignored("SOKETI_HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD", "85", MEMORY),
    silent("SOKETI_METRICS_ENABLED"),
    ignored("SOKETI_METRICS_DRIVER", "prometheus", METRICS),
    silent("SOKETI_METRICS_HOST"),
    ignored("SOKETI_METRICS_PROMETHEUS_PREFIX", "soketi_", METRICS),
    silent("SOKETI_METRICS_SERVER_PORT"),
    ignored("SOKETI_MODE", "full", MODE),
    sets("SOKETI_PORT", "server.port", integer),
    sets("SOKETI_PATH_PREFIX", "server.path", text),
    sets("SOKETI_PRESENCE_MAX_MEMBER_SIZE", "apps[0].max_presence_user_info_bytes", kilobytes),
    sets("SOKETI_PRESENCE_MAX_MEMBERS", "apps[0].max_presence_members", integer),
    ignored("SOKETI_QUEUE_REDIS_CONCURRENCY", "1", QUEUE),
    ignored("SOKETI_QUEUE_REDIS_OPTIONS", "{}", QUEUE),
    ignored("SOKETI_QUEUE_REDIS_CLUSTER_MODE", "false", QUEUE),
    ignored("SOKETI_QUEUE_SQS_REGION", "us-east-1", QUEUE),
    ignored("SOKETI_QUEUE_SQS_CLIENT_OPTIONS", "{}", QUEUE),
    ignored("SOKETI_QUEUE_SQS_URL", "", QUEUE),
    ignored("SOKETI_QUEUE_SQS_ENDPOINT", "null", QUEUE),
    ignored("SOKETI_QUEUE_SQS_PROCESS_BATCH", "false", QUEUE),
    ignored("SOKETI_QUEUE_SQS_BATCH_SIZE", "1", QUEUE),
    ignored("SOKETI_QUEUE_SQS_POLLING_WAIT_TIME_MS", "0", QUEUE),
    ignored("SOKETI_RATE_LIMITER_DRIVER", "local", RATE_LIMITER),
    ignored("SOKETI_RATE_LIMITER_REDIS_OPTIONS", "{}", RATE_LIMITER),
    ignored("SOKETI_RATE_LIMITER_REDIS_CLUSTER_MODE", "false", RATE_LIMITER),
    sets("SOKETI_SHUTDOWN_GRACE_PERIOD", "server.shutdown_grace_s", milliseconds),
    sets("SOKETI_SSL_CERT", "server.tls.cert", text),
    sets("SOKETI_SSL_KEY", "server.tls.key", text),
    ignored("SOKETI_SSL_PASS", "", PASS),
    ignored("SOKETI_SSL_CA", "", CLIENT_CA),
    silent("SOKETI_USER_AUTHENTICATION_TIMEOUT"),
    silent("SOKETI_DEFAULT_APP_WEBHOOKS"),
    silent("SOKETI_WEBHOOKS_BATCHING"),
    silent("SOKETI_WEBHOOKS_BATCHING_DURATION"),
];

/// Writes the values of soketi's variables into `draft`.
pub(super) fn read(
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    all([
        apply("SOKETI_", COMPAT_VARIABLES, variables, draft, notes),
        debug(variables, draft),
        metrics(variables, draft),
        authorized_connections(variables, draft),
        redis::read_soketi(variables, draft, notes),
        is_true(BATCHING, variables)
            .and_then(|is_batching| webhooks::read_soketi(variables, is_batching, draft)),
    ])
}

/// `SOKETI_DEBUG` sets the log level to `debug`.
fn debug(variables: &Variables, draft: &mut Draft) -> Result<(), ConfigError> {
    let key = Key::new("log.level");
    if is_true("SOKETI_DEBUG", variables)? {
        draft.set(key, Value::String("debug".to_owned()), variables.origin("SOKETI_DEBUG"));
    }
    Ok(())
}

/// `SOKETI_METRICS_ENABLED` starts a separate listener on soketi's port.
fn metrics(variables: &Variables, draft: &mut Draft) -> Result<(), ConfigError> {
    let key = Key::new("metrics.listen");
    if is_true("SOKETI_METRICS_ENABLED", variables)? {
        let host = variables.set("SOKETI_METRICS_HOST").unwrap_or("0.0.0.0");
        let port = variables.set("SOKETI_METRICS_SERVER_PORT").unwrap_or("9601");
        let address = match (host.parse::<IpAddr>(), port.parse()) {
            (Ok(host), Ok(port)) => SocketAddr::new(host, port).to_string(),
            (Ok(_) | Err(_), _) => format!("{host}:{port}"),
        };
        draft.set(key, Value::String(address), variables.origin("SOKETI_METRICS_ENABLED"));
    }
    Ok(())
}

/// With user authentication, soketi also closes connections that are not authorized within 30 s.
fn authorized_connections(variables: &Variables, draft: &mut Draft) -> Result<(), ConfigError> {
    let (user, timeout) =
        ("SOKETI_DEFAULT_APP_USER_AUTHENTICATION", "SOKETI_USER_AUTHENTICATION_TIMEOUT");
    let key = Key::new("apps[0].authorized_connections_timeout_s");
    if is_true(user, variables)? {
        let (name, value) =
            variables.set(timeout).map_or((user, "30000"), |value| (timeout, value));
        let origin = variables.origin(name);
        let value = milliseconds(value).map_err(|rule| ConfigError::key(&origin, &key, rule))?;
        draft.set(key, value, origin);
    }
    Ok(())
}
