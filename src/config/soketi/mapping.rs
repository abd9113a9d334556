//! soketi's options and variables, and the effect of each.

use crate::config::{
    compat_variable::CompatVariable::{
        self, AllowedValues, HandledElsewhere, Ignored, OfDatabase, Redis, Sets, SetsWithWarning,
    },
    convert::{
        boolean, from_client_messages, integer, kilobytes, limit, megabytes, milliseconds, text,
    },
};

const ADAPTER: &str = "it is for an adapter other than `local` and `redis`";
const APP_MANAGER: &str = "apps are not in DynamoDB";
const CACHE: &str = "everything in Redis is on the server of redis.url";
const CLUSTER: &str = "nodes do not look for one another on the network, see redis.url";
const QUEUE: &str = "there is no queue of jobs";
const RATE_LIMITER: &str = "each node limits the rates of its own connections and requests";
const REQUESTS: &str = "nodes do not query each other";
const PASS: &str = "keys with a passphrase are not supported: remove the passphrase";
const CLIENT_CA: &str = "client certificates are not requested; put the chain into server.tls.cert";
const MEMORY: &str = "limits are counted in connections, see server.max_connections";
const METRICS: &str = "metrics are in Prometheus' format, under Campanile's names";
const MODE: &str = "a node always serves connections and the HTTP API";
const READS: &str = "a single limit applies to the HTTP API: apps[0].requests_per_second";
const CORS: &str = "pages may read responses if their origin is in apps[0].allowed_origins";
const HEADERS: &str = r#"["Origin","Content-Type","X-Auth-Token","X-Requested-With","Accept","Authorization","X-CSRF-TOKEN","XSRF-TOKEN","X-Socket-Id"]"#;
const BACKEND_EVENTS: &str = "it limits all requests to the HTTP API, reads included";

/// The effect of each of the options, by its path in a configuration file and its variable. Options
/// without a variable have their path in its place.
pub(super) const OPTIONS: &[(&str, CompatVariable)] = &[
    (
        "adapter.driver",
        AllowedValues(
            "SOKETI_ADAPTER_DRIVER",
            &["local", "redis"],
            "an adapter other than `local` and `redis`",
        ),
    ),
    (
        "adapter.cluster.requestsTimeout",
        Ignored("SOKETI_ADAPTER_CLUSTER_REQUESTS_TIMEOUT", "5000", ADAPTER),
    ),
    ("adapter.redis.prefix", Redis("SOKETI_ADAPTER_REDIS_PREFIX", "")),
    ("adapter.redis.clusterMode", Redis("SOKETI_ADAPTER_REDIS_CLUSTER_MODE", "false")),
    (
        "adapter.redis.requestsTimeout",
        Ignored("SOKETI_ADAPTER_REDIS_REQUESTS_TIMEOUT", "5000", REQUESTS),
    ),
    ("adapter.redis.redisSubOptions", Redis("SOKETI_ADAPTER_REDIS_SUB_OPTIONS", "{}")),
    ("adapter.redis.redisPubOptions", Redis("SOKETI_ADAPTER_REDIS_PUB_OPTIONS", "{}")),
    ("adapter.nats.prefix", Ignored("SOKETI_ADAPTER_NATS_PREFIX", "", ADAPTER)),
    (
        "adapter.nats.servers",
        Ignored("SOKETI_ADAPTER_NATS_SERVERS", r#"["127.0.0.1:4222"]"#, ADAPTER),
    ),
    ("adapter.nats.user", Ignored("SOKETI_ADAPTER_NATS_USER", "null", ADAPTER)),
    ("adapter.nats.pass", Ignored("SOKETI_ADAPTER_NATS_PASSWORD", "null", ADAPTER)),
    ("adapter.nats.token", Ignored("SOKETI_ADAPTER_NATS_TOKEN", "null", ADAPTER)),
    ("adapter.nats.timeout", Ignored("SOKETI_ADAPTER_NATS_TIMEOUT", "10000", ADAPTER)),
    (
        "adapter.nats.requestsTimeout",
        Ignored("SOKETI_ADAPTER_NATS_REQUESTS_TIMEOUT", "5000", ADAPTER),
    ),
    ("adapter.nats.nodesNumber", Ignored("SOKETI_ADAPTER_NATS_NODES_NUMBER", "null", ADAPTER)),
    (
        "appManager.driver",
        AllowedValues(
            "SOKETI_APP_MANAGER_DRIVER",
            &["array", "mysql", "postgres"],
            "an app manager other than `array`, `mysql` and `postgres`",
        ),
    ),
    ("appManager.cache.enabled", OfDatabase("SOKETI_APP_MANAGER_CACHE_ENABLED", "false")),
    ("appManager.cache.ttl", OfDatabase("SOKETI_APP_MANAGER_CACHE_TTL", "-1")),
    (
        "appManager.dynamodb.table",
        Ignored("SOKETI_APP_MANAGER_DYNAMODB_TABLE", "apps", APP_MANAGER),
    ),
    (
        "appManager.dynamodb.region",
        Ignored("SOKETI_APP_MANAGER_DYNAMODB_REGION", "us-east-1", APP_MANAGER),
    ),
    (
        "appManager.dynamodb.endpoint",
        Ignored("SOKETI_APP_MANAGER_DYNAMODB_ENDPOINT", "null", APP_MANAGER),
    ),
    ("appManager.mysql.table", OfDatabase("SOKETI_APP_MANAGER_MYSQL_TABLE", "apps")),
    ("appManager.mysql.version", HandledElsewhere("SOKETI_APP_MANAGER_MYSQL_VERSION")),
    ("appManager.postgres.table", OfDatabase("SOKETI_APP_MANAGER_POSTGRES_TABLE", "apps")),
    ("appManager.postgres.version", HandledElsewhere("SOKETI_APP_MANAGER_POSTGRES_VERSION")),
    ("appManager.mysql.useMysql2", HandledElsewhere("SOKETI_APP_MANAGER_MYSQL_USE_V2")),
    (
        "channelLimits.maxNameLength",
        Sets("SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH", "apps[0].max_channel_name_length", integer),
    ),
    ("channelLimits.cacheTtl", Sets("SOKETI_CHANNEL_CACHE_TTL", "apps[0].cache_ttl_s", integer)),
    (
        "cache.driver",
        AllowedValues(
            "SOKETI_CACHE_DRIVER",
            &["memory", "redis"],
            "a cache other than `memory` and `redis`",
        ),
    ),
    ("cache.redis.clusterMode", Ignored("SOKETI_CACHE_REDIS_CLUSTER_MODE", "false", CACHE)),
    ("cache.redis.redisOptions", Ignored("SOKETI_CACHE_REDIS_OPTIONS", "{}", CACHE)),
    ("cluster.checkInterval", Ignored("SOKETI_CLUSTER_CHECK_INTERVAL", "500", CLUSTER)),
    ("cluster.hostname", Ignored("SOKETI_CLUSTER_HOST", "0.0.0.0", CLUSTER)),
    ("cluster.ignoreProcess", Ignored("SOKETI_CLUSTER_IGNORE_PROCESS", "true", CLUSTER)),
    ("cluster.broadcast", Ignored("SOKETI_CLUSTER_BROADCAST_ADDRESS", "255.255.255.255", CLUSTER)),
    ("cluster.helloInterval", Ignored("SOKETI_CLUSTER_KEEPALIVE_INTERVAL", "500", CLUSTER)),
    ("cluster.masterTimeout", Ignored("SOKETI_CLUSTER_MASTER_TIMEOUT", "2000", CLUSTER)),
    ("cluster.multicast", Ignored("SOKETI_CLUSTER_MULTICAST_ADDRESS", "null", CLUSTER)),
    ("cluster.nodeTimeout", Ignored("SOKETI_CLUSTER_NODE_TIMEOUT", "2000", CLUSTER)),
    ("cluster.port", Ignored("SOKETI_CLUSTER_PORT", "11002", CLUSTER)),
    ("cluster.prefix", Ignored("SOKETI_CLUSTER_PREFIX", "", CLUSTER)),
    ("cluster.unicast", Ignored("SOKETI_CLUSTER_UNICAST_ADDRESSES", "null", CLUSTER)),
    ("debug", HandledElsewhere("SOKETI_DEBUG")),
    ("appManager.array.apps.0.id", Sets("SOKETI_DEFAULT_APP_ID", "apps[0].id", text)),
    ("appManager.array.apps.0.key", Sets("SOKETI_DEFAULT_APP_KEY", "apps[0].key", text)),
    ("appManager.array.apps.0.secret", Sets("SOKETI_DEFAULT_APP_SECRET", "apps[0].secret", text)),
    (
        "appManager.array.apps.0.maxConnections",
        Sets("SOKETI_DEFAULT_APP_MAX_CONNS", "apps[0].max_connections", limit),
    ),
    (
        "appManager.array.apps.0.enableClientMessages",
        Sets(
            "SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES",
            "apps[0].client_events",
            from_client_messages,
        ),
    ),
    (
        "appManager.array.apps.0.enabled",
        Sets("SOKETI_DEFAULT_APP_ENABLED", "apps[0].enabled", boolean),
    ),
    (
        "appManager.array.apps.0.maxBackendEventsPerSecond",
        SetsWithWarning(
            "SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC",
            "apps[0].requests_per_second",
            limit,
            BACKEND_EVENTS,
        ),
    ),
    (
        "appManager.array.apps.0.maxClientEventsPerSecond",
        Sets(
            "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC",
            "apps[0].client_events_per_second",
            limit,
        ),
    ),
    (
        "appManager.array.apps.0.maxReadRequestsPerSecond",
        Ignored("SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC", "-1", READS),
    ),
    (
        "appManager.array.apps.0.enableUserAuthentication",
        Sets("SOKETI_DEFAULT_APP_USER_AUTHENTICATION", "apps[0].user_authentication", boolean),
    ),
    ("databasePooling.enabled", OfDatabase("SOKETI_DB_POOLING_ENABLED", "false")),
    ("databasePooling.min", OfDatabase("SOKETI_DB_POOLING_MIN", "0")),
    ("databasePooling.max", OfDatabase("SOKETI_DB_POOLING_MAX", "7")),
    ("database.mysql.host", OfDatabase("SOKETI_DB_MYSQL_HOST", "127.0.0.1")),
    ("database.mysql.port", OfDatabase("SOKETI_DB_MYSQL_PORT", "3306")),
    ("database.mysql.user", OfDatabase("SOKETI_DB_MYSQL_USERNAME", "root")),
    ("database.mysql.password", OfDatabase("SOKETI_DB_MYSQL_PASSWORD", "password")),
    ("database.mysql.database", OfDatabase("SOKETI_DB_MYSQL_DATABASE", "main")),
    ("database.postgres.host", OfDatabase("SOKETI_DB_POSTGRES_HOST", "127.0.0.1")),
    ("database.postgres.port", OfDatabase("SOKETI_DB_POSTGRES_PORT", "5432")),
    ("database.postgres.user", OfDatabase("SOKETI_DB_POSTGRES_USERNAME", "postgres")),
    ("database.postgres.password", OfDatabase("SOKETI_DB_POSTGRES_PASSWORD", "password")),
    ("database.postgres.database", OfDatabase("SOKETI_DB_POSTGRES_DATABASE", "main")),
    ("database.redis.host", Redis("SOKETI_DB_REDIS_HOST", "127.0.0.1")),
    ("database.redis.port", Redis("SOKETI_DB_REDIS_PORT", "6379")),
    ("database.redis.db", Redis("SOKETI_DB_REDIS_DB", "0")),
    ("database.redis.username", Redis("SOKETI_DB_REDIS_USERNAME", "null")),
    ("database.redis.password", Redis("SOKETI_DB_REDIS_PASSWORD", "null")),
    ("database.redis.keyPrefix", Redis("SOKETI_DB_REDIS_KEY_PREFIX", "")),
    ("database.redis.sentinels", Redis("SOKETI_DB_REDIS_SENTINELS", "null")),
    ("database.redis.sentinelPassword", Redis("SOKETI_DB_REDIS_SENTINEL_PASSWORD", "null")),
    ("database.redis.clusterNodes", Redis("SOKETI_DB_REDIS_CLUSTER_NODES", "[]")),
    ("database.redis.name", Redis("SOKETI_DB_REDIS_INSTANCE_NAME", "mymaster")),
    (
        "eventLimits.maxBatchSize",
        Sets("SOKETI_EVENT_MAX_BATCH_SIZE", "apps[0].max_batch_events", integer),
    ),
    (
        "eventLimits.maxChannelsAtOnce",
        Sets("SOKETI_EVENT_MAX_CHANNELS_AT_ONCE", "apps[0].max_event_channels", integer),
    ),
    (
        "eventLimits.maxNameLength",
        Sets("SOKETI_EVENT_MAX_NAME_LENGTH", "apps[0].max_event_name_length", integer),
    ),
    (
        "eventLimits.maxPayloadInKb",
        Sets("SOKETI_EVENT_MAX_SIZE_IN_KB", "apps[0].max_event_bytes", kilobytes),
    ),
    ("host", Sets("SOKETI_HOST", "server.host", text)),
    (
        "httpApi.acceptTraffic.memoryThreshold",
        Ignored("SOKETI_HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD", "85", MEMORY),
    ),
    ("metrics.enabled", HandledElsewhere("SOKETI_METRICS_ENABLED")),
    ("metrics.driver", Ignored("SOKETI_METRICS_DRIVER", "prometheus", METRICS)),
    ("metrics.host", HandledElsewhere("SOKETI_METRICS_HOST")),
    ("metrics.prometheus.prefix", Ignored("SOKETI_METRICS_PROMETHEUS_PREFIX", "soketi_", METRICS)),
    ("metrics.port", HandledElsewhere("SOKETI_METRICS_SERVER_PORT")),
    ("mode", Ignored("SOKETI_MODE", "full", MODE)),
    ("port", Sets("SOKETI_PORT", "server.port", integer)),
    ("pathPrefix", Sets("SOKETI_PATH_PREFIX", "server.path", text)),
    (
        "presence.maxMemberSizeInKb",
        Sets("SOKETI_PRESENCE_MAX_MEMBER_SIZE", "apps[0].max_presence_user_info_bytes", kilobytes),
    ),
    (
        "presence.maxMembersPerChannel",
        Sets("SOKETI_PRESENCE_MAX_MEMBERS", "apps[0].max_presence_members", integer),
    ),
    (
        "queue.driver",
        AllowedValues(
            "SOKETI_QUEUE_DRIVER",
            &["sync", "redis"],
            "a queue other than `sync` and `redis`",
        ),
    ),
    ("queue.redis.concurrency", Ignored("SOKETI_QUEUE_REDIS_CONCURRENCY", "1", QUEUE)),
    ("queue.redis.redisOptions", Ignored("SOKETI_QUEUE_REDIS_OPTIONS", "{}", QUEUE)),
    ("queue.redis.clusterMode", Ignored("SOKETI_QUEUE_REDIS_CLUSTER_MODE", "false", QUEUE)),
    ("queue.sqs.region", Ignored("SOKETI_QUEUE_SQS_REGION", "us-east-1", QUEUE)),
    ("queue.sqs.clientOptions", Ignored("SOKETI_QUEUE_SQS_CLIENT_OPTIONS", "{}", QUEUE)),
    ("queue.sqs.queueUrl", Ignored("SOKETI_QUEUE_SQS_URL", "", QUEUE)),
    ("queue.sqs.endpoint", Ignored("SOKETI_QUEUE_SQS_ENDPOINT", "null", QUEUE)),
    ("queue.sqs.processBatch", Ignored("SOKETI_QUEUE_SQS_PROCESS_BATCH", "false", QUEUE)),
    ("queue.sqs.batchSize", Ignored("SOKETI_QUEUE_SQS_BATCH_SIZE", "1", QUEUE)),
    ("queue.sqs.pollingWaitTimeMs", Ignored("SOKETI_QUEUE_SQS_POLLING_WAIT_TIME_MS", "0", QUEUE)),
    (
        "rateLimiter.driver",
        AllowedValues(
            "SOKETI_RATE_LIMITER_DRIVER",
            &["local", "redis"],
            "a rate limiter other than `local` and `redis`",
        ),
    ),
    ("rateLimiter.driver", Ignored("SOKETI_RATE_LIMITER_DRIVER", "local", RATE_LIMITER)),
    (
        "rateLimiter.redis.redisOptions",
        Ignored("SOKETI_RATE_LIMITER_REDIS_OPTIONS", "{}", RATE_LIMITER),
    ),
    (
        "rateLimiter.redis.clusterMode",
        Ignored("SOKETI_RATE_LIMITER_REDIS_CLUSTER_MODE", "false", RATE_LIMITER),
    ),
    (
        "shutdownGracePeriod",
        Sets("SOKETI_SHUTDOWN_GRACE_PERIOD", "server.shutdown_grace_s", milliseconds),
    ),
    ("ssl.certPath", Sets("SOKETI_SSL_CERT", "server.tls.cert", text)),
    ("ssl.keyPath", Sets("SOKETI_SSL_KEY", "server.tls.key", text)),
    ("ssl.passphrase", Ignored("SOKETI_SSL_PASS", "", PASS)),
    ("ssl.caPath", Ignored("SOKETI_SSL_CA", "", CLIENT_CA)),
    ("userAuthenticationTimeout", HandledElsewhere("SOKETI_USER_AUTHENTICATION_TIMEOUT")),
    ("appManager.array.apps.0.webhooks", HandledElsewhere("SOKETI_DEFAULT_APP_WEBHOOKS")),
    ("webhooks.batching.enabled", HandledElsewhere("SOKETI_WEBHOOKS_BATCHING")),
    ("webhooks.batching.duration", HandledElsewhere("SOKETI_WEBHOOKS_BATCHING_DURATION")),
    ("cors.credentials", Ignored("cors.credentials", "true", CORS)),
    ("cors.origin", Ignored("cors.origin", r#"["*"]"#, CORS)),
    ("cors.methods", Ignored("cors.methods", r#"["GET","POST","PUT","DELETE","OPTIONS"]"#, CORS)),
    ("cors.allowedHeaders", Ignored("cors.allowedHeaders", HEADERS, CORS)),
    (
        "httpApi.requestLimitInMb",
        Sets("httpApi.requestLimitInMb", "server.max_request_bytes", megabytes),
    ),
    ("instance.process_id", HandledElsewhere("instance.process_id")),
    ("queue.sqs.consumerOptions", Ignored("queue.sqs.consumerOptions", "{}", QUEUE)),
];

/// The spellings of the options of an app, and the variable with the same effect. The last seven are
/// limits of all apps, which an app may have as its own.
pub(super) const APP_OPTIONS: &[([&str; 3], &str)] = &[
    (["id", "AppId", "id"], "SOKETI_DEFAULT_APP_ID"),
    (["key", "AppKey", "key"], "SOKETI_DEFAULT_APP_KEY"),
    (["secret", "AppSecret", "secret"], "SOKETI_DEFAULT_APP_SECRET"),
    (["maxConnections", "MaxConnections", "max_connections"], "SOKETI_DEFAULT_APP_MAX_CONNS"),
    (
        ["enableClientMessages", "EnableClientMessages", "enable_client_messages"],
        "SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES",
    ),
    (["enabled", "Enabled", "enabled"], "SOKETI_DEFAULT_APP_ENABLED"),
    (
        ["maxBackendEventsPerSecond", "MaxBackendEventsPerSecond", "max_backend_events_per_sec"],
        "SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC",
    ),
    (
        ["maxClientEventsPerSecond", "MaxClientEventsPerSecond", "max_client_events_per_sec"],
        "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC",
    ),
    (
        ["maxReadRequestsPerSecond", "MaxReadRequestsPerSecond", "max_read_req_per_sec"],
        "SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC",
    ),
    (
        ["enableUserAuthentication", "EnableUserAuthentication", "enable_user_authentication"],
        "SOKETI_DEFAULT_APP_USER_AUTHENTICATION",
    ),
    (["webhooks", "Webhooks", "webhooks"], "SOKETI_DEFAULT_APP_WEBHOOKS"),
    (
        [
            "maxPresenceMembersPerChannel",
            "MaxPresenceMembersPerChannel",
            "max_presence_members_per_channel",
        ],
        "SOKETI_PRESENCE_MAX_MEMBERS",
    ),
    (
        [
            "maxPresenceMemberSizeInKb",
            "MaxPresenceMemberSizeInKb",
            "max_presence_member_size_in_kb",
        ],
        "SOKETI_PRESENCE_MAX_MEMBER_SIZE",
    ),
    (
        ["maxChannelNameLength", "MaxChannelNameLength", "max_channel_name_length"],
        "SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH",
    ),
    (
        ["maxEventChannelsAtOnce", "MaxEventChannelsAtOnce", "max_event_channels_at_once"],
        "SOKETI_EVENT_MAX_CHANNELS_AT_ONCE",
    ),
    (
        ["maxEventNameLength", "MaxEventNameLength", "max_event_name_length"],
        "SOKETI_EVENT_MAX_NAME_LENGTH",
    ),
    (
        ["maxEventPayloadInKb", "MaxEventPayloadInKb", "max_event_payload_in_kb"],
        "SOKETI_EVENT_MAX_SIZE_IN_KB",
    ),
    (
        ["maxEventBatchSize", "MaxEventBatchSize", "max_event_batch_size"],
        "SOKETI_EVENT_MAX_BATCH_SIZE",
    ),
];

/// Fields that soketi computes from an app's webhooks; ignored when they appear in a copied app.
pub(super) const COMPUTED_FIELDS: [&str; 6] = [
    "hasClientEventWebhooks",
    "hasChannelOccupiedWebhooks",
    "hasChannelVacatedWebhooks",
    "hasMemberAddedWebhooks",
    "hasMemberRemovedWebhooks",
    "hasCacheMissedWebhooks",
];

/// The variables whose value is JSON.
pub(super) const JSON_VALUED: [&str; 5] = [
    "SOKETI_ADAPTER_REDIS_SUB_OPTIONS",
    "SOKETI_ADAPTER_REDIS_PUB_OPTIONS",
    "SOKETI_DB_REDIS_SENTINELS",
    "SOKETI_DB_REDIS_CLUSTER_NODES",
    "SOKETI_DEFAULT_APP_WEBHOOKS",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_option_has_one_path_and_a_path_one_variable() {
        let pairs: BTreeSet<_> =
            OPTIONS.iter().map(|(path, known)| (*path, known.name())).collect();
        let paths: BTreeSet<_> = pairs.iter().map(|(path, _)| path).collect();
        let names: BTreeSet<_> = pairs.iter().map(|(_, name)| name).collect();
        assert_eq!((paths.len(), names.len()), (pairs.len(), pairs.len()));
        for (path, name) in &pairs {
            assert!(name.starts_with("SOKETI_") || name == path, "{name}");
        }
        assert!(JSON_VALUED.iter().all(|name| names.contains(name)));
    }

    #[test]
    fn the_options_of_an_app_are_those_of_the_default_app_and_limits() {
        let path_of = |name: &str| OPTIONS.iter().find(|(_, known)| known.name() == name);
        for ([camel, pascal, snake], name) in APP_OPTIONS {
            let (path, variable) = path_of(name).unwrap();
            let of_app = path.strip_prefix("appManager.array.apps.0.");
            assert!(of_app.is_none_or(|of_app| of_app == *camel), "{path} is not {camel}");
            assert_eq!(of_app.is_some(), name.starts_with("SOKETI_DEFAULT_APP_"), "{name}");
            assert!(variable.is_of_app(), "{name}");
            assert!(pascal.starts_with(char::is_uppercase) && !snake.contains(char::is_uppercase));
        }
        let of_default = OPTIONS.iter().filter(|(path, _)| path.contains(".apps.0."));
        let is_listed = |name: &str| APP_OPTIONS.iter().any(|(_, listed)| *listed == name);
        assert!(of_default.clone().all(|(_, variable)| is_listed(variable.name())));
        assert_eq!(of_default.count(), 11);
    }
}
