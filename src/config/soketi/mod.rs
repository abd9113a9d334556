//! soketi's variables.

use super::{
    compat_variable::{
        CompatVariable::{self, Ignored, Nearly, OfRedis, Only, Sets, Silent},
        apply,
    },
    convert::{boolean, client_messages, integer, kilobytes, limit, milliseconds, text},
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    redis,
    variables::{Variables, is_true},
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

/// The effect of each of the 115 variables.
pub(super) const COMPAT_VARIABLES: &[CompatVariable] = &[
    Only("SOKETI_ADAPTER_DRIVER", &["local", "redis"], "an adapter other than `local` and `redis`"),
    Ignored("SOKETI_ADAPTER_CLUSTER_REQUESTS_TIMEOUT", "5000", ADAPTER),
    OfRedis("SOKETI_ADAPTER_REDIS_PREFIX", ""),
    OfRedis("SOKETI_ADAPTER_REDIS_CLUSTER_MODE", "false"),
    Ignored("SOKETI_ADAPTER_REDIS_REQUESTS_TIMEOUT", "5000", REQUESTS),
    OfRedis("SOKETI_ADAPTER_REDIS_SUB_OPTIONS", "{}"),
    OfRedis("SOKETI_ADAPTER_REDIS_PUB_OPTIONS", "{}"),
    Ignored("SOKETI_ADAPTER_NATS_PREFIX", "", ADAPTER),
    Ignored("SOKETI_ADAPTER_NATS_SERVERS", r#"["127.0.0.1:4222"]"#, ADAPTER),
    Ignored("SOKETI_ADAPTER_NATS_USER", "null", ADAPTER),
    Ignored("SOKETI_ADAPTER_NATS_PASSWORD", "null", ADAPTER),
    Ignored("SOKETI_ADAPTER_NATS_TOKEN", "null", ADAPTER),
    Ignored("SOKETI_ADAPTER_NATS_TIMEOUT", "10000", ADAPTER),
    Ignored("SOKETI_ADAPTER_NATS_REQUESTS_TIMEOUT", "5000", ADAPTER),
    Ignored("SOKETI_ADAPTER_NATS_NODES_NUMBER", "null", ADAPTER),
    Only("SOKETI_APP_MANAGER_DRIVER", &["array"], "an app manager other than `array`"),
    Ignored("SOKETI_APP_MANAGER_CACHE_ENABLED", "false", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_CACHE_TTL", "-1", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_DYNAMODB_TABLE", "apps", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_DYNAMODB_REGION", "us-east-1", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_DYNAMODB_ENDPOINT", "null", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_MYSQL_TABLE", "apps", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_MYSQL_VERSION", "8.0", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_POSTGRES_TABLE", "apps", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_POSTGRES_VERSION", "13.3", APP_MANAGER),
    Ignored("SOKETI_APP_MANAGER_MYSQL_USE_V2", "false", APP_MANAGER),
    Sets("SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH", "apps[0].max_channel_name_length", integer),
    Sets("SOKETI_CHANNEL_CACHE_TTL", "apps[0].cache_ttl_s", integer),
    Only("SOKETI_CACHE_DRIVER", &["memory", "redis"], "a cache other than `memory` and `redis`"),
    Ignored("SOKETI_CACHE_REDIS_CLUSTER_MODE", "false", CACHE),
    Ignored("SOKETI_CACHE_REDIS_OPTIONS", "{}", CACHE),
    Ignored("SOKETI_CLUSTER_CHECK_INTERVAL", "500", CLUSTER),
    Ignored("SOKETI_CLUSTER_HOST", "0.0.0.0", CLUSTER),
    Ignored("SOKETI_CLUSTER_IGNORE_PROCESS", "true", CLUSTER),
    Ignored("SOKETI_CLUSTER_BROADCAST_ADDRESS", "255.255.255.255", CLUSTER),
    Ignored("SOKETI_CLUSTER_KEEPALIVE_INTERVAL", "500", CLUSTER),
    Ignored("SOKETI_CLUSTER_MASTER_TIMEOUT", "2000", CLUSTER),
    Ignored("SOKETI_CLUSTER_MULTICAST_ADDRESS", "null", CLUSTER),
    Ignored("SOKETI_CLUSTER_NODE_TIMEOUT", "2000", CLUSTER),
    Ignored("SOKETI_CLUSTER_PORT", "11002", CLUSTER),
    Ignored("SOKETI_CLUSTER_PREFIX", "", CLUSTER),
    Ignored("SOKETI_CLUSTER_UNICAST_ADDRESSES", "null", CLUSTER),
    Silent("SOKETI_DEBUG"),
    Sets("SOKETI_DEFAULT_APP_ID", "apps[0].id", text),
    Sets("SOKETI_DEFAULT_APP_KEY", "apps[0].key", text),
    Sets("SOKETI_DEFAULT_APP_SECRET", "apps[0].secret", text),
    Sets("SOKETI_DEFAULT_APP_MAX_CONNS", "apps[0].max_connections", limit),
    Sets("SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "apps[0].client_events", client_messages),
    Sets("SOKETI_DEFAULT_APP_ENABLED", "apps[0].enabled", boolean),
    Nearly(
        "SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC",
        "apps[0].requests_per_second",
        limit,
        BACKEND_EVENTS,
    ),
    Sets("SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "apps[0].client_events_per_second", limit),
    Ignored("SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC", "-1", READS),
    Sets("SOKETI_DEFAULT_APP_USER_AUTHENTICATION", "apps[0].user_authentication", boolean),
    Ignored("SOKETI_DB_POOLING_ENABLED", "false", DATABASE),
    Ignored("SOKETI_DB_POOLING_MIN", "0", DATABASE),
    Ignored("SOKETI_DB_POOLING_MAX", "7", DATABASE),
    Ignored("SOKETI_DB_MYSQL_HOST", "127.0.0.1", DATABASE),
    Ignored("SOKETI_DB_MYSQL_PORT", "3306", DATABASE),
    Ignored("SOKETI_DB_MYSQL_USERNAME", "root", DATABASE),
    Ignored("SOKETI_DB_MYSQL_PASSWORD", "password", DATABASE),
    Ignored("SOKETI_DB_MYSQL_DATABASE", "main", DATABASE),
    Ignored("SOKETI_DB_POSTGRES_HOST", "127.0.0.1", DATABASE),
    Ignored("SOKETI_DB_POSTGRES_PORT", "5432", DATABASE),
    Ignored("SOKETI_DB_POSTGRES_USERNAME", "postgres", DATABASE),
    Ignored("SOKETI_DB_POSTGRES_PASSWORD", "password", DATABASE),
    Ignored("SOKETI_DB_POSTGRES_DATABASE", "main", DATABASE),
    OfRedis("SOKETI_DB_REDIS_HOST", "127.0.0.1"),
    OfRedis("SOKETI_DB_REDIS_PORT", "6379"),
    OfRedis("SOKETI_DB_REDIS_DB", "0"),
    OfRedis("SOKETI_DB_REDIS_USERNAME", "null"),
    OfRedis("SOKETI_DB_REDIS_PASSWORD", "null"),
    OfRedis("SOKETI_DB_REDIS_KEY_PREFIX", ""),
    OfRedis("SOKETI_DB_REDIS_SENTINELS", "null"),
    OfRedis("SOKETI_DB_REDIS_SENTINEL_PASSWORD", "null"),
    OfRedis("SOKETI_DB_REDIS_CLUSTER_NODES", "[]"),
    OfRedis("SOKETI_DB_REDIS_INSTANCE_NAME", "mymaster"),
    Sets("SOKETI_EVENT_MAX_BATCH_SIZE", "apps[0].max_batch_events", integer),
    Sets("SOKETI_EVENT_MAX_CHANNELS_AT_ONCE", "apps[0].max_event_channels", integer),
    Sets("SOKETI_EVENT_MAX_NAME_LENGTH", "apps[0].max_event_name_length", integer),
    Sets("SOKETI_EVENT_MAX_SIZE_IN_KB", "apps[0].max_event_bytes", kilobytes),
    Sets("SOKETI_HOST", "server.host", text),
    Ignored("SOKETI_HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD", "85", MEMORY),
    Silent("SOKETI_METRICS_ENABLED"),
    Ignored("SOKETI_METRICS_DRIVER", "prometheus", METRICS),
    Silent("SOKETI_METRICS_HOST"),
    Ignored("SOKETI_METRICS_PROMETHEUS_PREFIX", "soketi_", METRICS),
    Silent("SOKETI_METRICS_SERVER_PORT"),
    Ignored("SOKETI_MODE", "full", MODE),
    Sets("SOKETI_PORT", "server.port", integer),
    Sets("SOKETI_PATH_PREFIX", "server.path", text),
    Sets("SOKETI_PRESENCE_MAX_MEMBER_SIZE", "apps[0].max_presence_user_info_bytes", kilobytes),
    Sets("SOKETI_PRESENCE_MAX_MEMBERS", "apps[0].max_presence_members", integer),
    Only("SOKETI_QUEUE_DRIVER", &["sync", "redis"], "a queue other than `sync` and `redis`"),
    Ignored("SOKETI_QUEUE_REDIS_CONCURRENCY", "1", QUEUE),
    Ignored("SOKETI_QUEUE_REDIS_OPTIONS", "{}", QUEUE),
    Ignored("SOKETI_QUEUE_REDIS_CLUSTER_MODE", "false", QUEUE),
    Ignored("SOKETI_QUEUE_SQS_REGION", "us-east-1", QUEUE),
    Ignored("SOKETI_QUEUE_SQS_CLIENT_OPTIONS", "{}", QUEUE),
    Ignored("SOKETI_QUEUE_SQS_URL", "", QUEUE),
    Ignored("SOKETI_QUEUE_SQS_ENDPOINT", "null", QUEUE),
    Ignored("SOKETI_QUEUE_SQS_PROCESS_BATCH", "false", QUEUE),
    Ignored("SOKETI_QUEUE_SQS_BATCH_SIZE", "1", QUEUE),
    Ignored("SOKETI_QUEUE_SQS_POLLING_WAIT_TIME_MS", "0", QUEUE),
    Only(
        "SOKETI_RATE_LIMITER_DRIVER",
        &["local", "redis"],
        "a rate limiter other than `local` and `redis`",
    ),
    Ignored("SOKETI_RATE_LIMITER_DRIVER", "local", RATE_LIMITER),
    Ignored("SOKETI_RATE_LIMITER_REDIS_OPTIONS", "{}", RATE_LIMITER),
    Ignored("SOKETI_RATE_LIMITER_REDIS_CLUSTER_MODE", "false", RATE_LIMITER),
    Sets("SOKETI_SHUTDOWN_GRACE_PERIOD", "server.shutdown_grace_s", milliseconds),
    Sets("SOKETI_SSL_CERT", "server.tls.cert", text),
    Sets("SOKETI_SSL_KEY", "server.tls.key", text),
    Ignored("SOKETI_SSL_PASS", "", PASS),
    Ignored("SOKETI_SSL_CA", "", CLIENT_CA),
    Silent("SOKETI_USER_AUTHENTICATION_TIMEOUT"),
    Silent("SOKETI_DEFAULT_APP_WEBHOOKS"),
    Silent("SOKETI_WEBHOOKS_BATCHING"),
    Silent("SOKETI_WEBHOOKS_BATCHING_DURATION"),
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
        redis::read_soketi(COMPAT_VARIABLES, variables, draft, notes),
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
