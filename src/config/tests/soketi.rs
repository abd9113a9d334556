//! soketi's variables.

use super::{Setup, source, with_app};
use crate::config::{
    ClientEvents, Config, LogLevel, compat_variable::CompatVariable, soketi::compat_variables,
};
use std::collections::BTreeSet;

fn configured(name: &str, value: &str) -> Config {
    with_app().env(name, value).loaded().config
}

#[test]
fn all_115_variables_are_known() {
    let table = compat_variables().map(CompatVariable::name);
    let known: BTreeSet<_> = table.filter(|name| name.starts_with("SOKETI_")).collect();
    let listed: BTreeSet<_> = NAMES.split_whitespace().collect();
    assert_eq!(listed.len(), 115);
    assert_eq!(known, listed);
}

#[test]
fn the_default_app_is_app_0() {
    let loaded = Setup::default()
        .env("SOKETI_DEFAULT_APP_ID", "1")
        .env("SOKETI_DEFAULT_APP_KEY", "k")
        .env("SOKETI_DEFAULT_APP_SECRET", "a-secret-of-soketi")
        .env("SOKETI_PORT", "6001")
        .loaded();
    assert_eq!(loaded.config.apps.len(), 1);
    assert_eq!(loaded.config.apps[0].id, "1");
    assert_eq!(loaded.config.server.port, 6001);
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn a_missing_credential_is_named() {
    let setup = Setup::default().env("SOKETI_DEFAULT_APP_KEY", "k");
    assert_eq!(
        setup.error(),
        "environment SOKETI_DEFAULT_APP_ID: apps[0].id: is required beside SOKETI_DEFAULT_APP_KEY | \
         environment SOKETI_DEFAULT_APP_SECRET: apps[0].secret: is required beside SOKETI_DEFAULT_APP_KEY"
    );
}

#[test]
fn the_certificate_is_the_servers() {
    let setup =
        with_app().env("SOKETI_SSL_CERT", "cert.pem").env("SOKETI_SSL_KEY", "key.pem").loaded();
    let tls = setup.config.server.tls;
    assert_eq!((tls.cert.as_str(), tls.key.as_str()), ("cert.pem", "key.pem"));
    assert_eq!(setup.warnings, [""; 0]);
    let warnings = with_app().env("SOKETI_SSL_PASS", "secret").loaded().warnings;
    assert!(warnings[0].starts_with("environment SOKETI_SSL_PASS has no effect"), "{warnings:?}");
}

#[test]
fn limits_are_converted() {
    assert_eq!(configured("SOKETI_SHUTDOWN_GRACE_PERIOD", "3001").server.shutdown_grace_s, 4);
    assert_eq!(configured("SOKETI_PATH_PREFIX", "/soketi/").server.path, "/soketi");
    let app = |name: &str, value: &str| configured(name, value).apps.remove(0);
    assert_eq!(app("SOKETI_DEFAULT_APP_MAX_CONNS", "-1").max_connections, 0);
    assert_eq!(app("SOKETI_DEFAULT_APP_MAX_CONNS", "9").max_connections, 9);
    let unlimited = app("SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "-1");
    assert_eq!(unlimited.client_events_per_second, 0);
    assert!(!app("SOKETI_DEFAULT_APP_ENABLED", "false").enabled);
    assert_eq!(app("SOKETI_EVENT_MAX_SIZE_IN_KB", "50").max_event_bytes, 51_200);
    assert_eq!(app("SOKETI_EVENT_MAX_BATCH_SIZE", "20").max_batch_events, 20);
    assert_eq!(app("SOKETI_EVENT_MAX_CHANNELS_AT_ONCE", "7").max_event_channels, 7);
    assert_eq!(app("SOKETI_PRESENCE_MAX_MEMBER_SIZE", "2").max_presence_user_info_bytes, 2_048);
    assert_eq!(app("SOKETI_PRESENCE_MAX_MEMBERS", "500").max_presence_members, 500);
    assert_eq!(app("SOKETI_CHANNEL_CACHE_TTL", "3600").cache_ttl_s, 3_600);
    assert_eq!(app("SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH", "164").max_channel_name_length, 164);
    for (value, expected) in [("true", ClientEvents::Members), ("false", ClientEvents::None)] {
        assert_eq!(app("SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", value).client_events, expected);
    }
}

#[test]
fn a_large_soketi_event_size_raises_max_request_bytes_and_max_outbox_bytes() {
    let loaded = with_app().env("SOKETI_EVENT_MAX_SIZE_IN_KB", "2048").loaded();
    assert_eq!(loaded.config.server.max_request_bytes, 4_194_304);
    assert_eq!(loaded.config.connection.max_outbox_bytes, 4_194_304);
    assert_eq!(loaded.warnings.len(), 2);
}

#[test]
fn a_limit_that_means_something_else_is_noted() {
    let loaded = with_app().env("SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC", "50").loaded();
    assert_eq!(loaded.config.apps[0].requests_per_second, 50);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn debug_is_a_level() {
    assert_eq!(configured("SOKETI_DEBUG", "1").log.level, LogLevel::Debug);
    assert_eq!(configured("SOKETI_DEBUG", "0").log.level, LogLevel::Info);
}

#[test]
fn metrics_are_served_where_soketi_serves_them() {
    assert_eq!(configured("SOKETI_METRICS_HOST", "10.0.0.1").metrics.listen, "");
    assert_eq!(configured("SOKETI_METRICS_ENABLED", "true").metrics.listen, "0.0.0.0:9601");
    let loaded = with_app()
        .env("SOKETI_METRICS_ENABLED", "1")
        .env("SOKETI_METRICS_HOST", "::1")
        .env("SOKETI_METRICS_SERVER_PORT", "9000")
        .loaded();
    assert_eq!(loaded.config.metrics.listen, "[::1]:9000");
    assert_eq!(source(&loaded, "[metrics]", "listen"), "environment SOKETI_METRICS_ENABLED");
}

#[test]
fn connections_must_be_authorized_when_users_sign_in() {
    let timeout = |setup: Setup| setup.loaded().config.apps[0].authorized_connections_timeout_s;
    assert_eq!(timeout(with_app().env("SOKETI_USER_AUTHENTICATION_TIMEOUT", "5000")), 0);
    let users = || with_app().env("SOKETI_DEFAULT_APP_USER_AUTHENTICATION", "true");
    assert_eq!(timeout(users()), 30);
    assert_eq!(timeout(users().env("SOKETI_USER_AUTHENTICATION_TIMEOUT", "5000")), 5);
}

#[test]
fn what_has_no_effect_is_noted_unless_it_is_soketis_default() {
    for (name, default, other) in [
        ("SOKETI_MODE", "full", "worker"),
        ("SOKETI_DB_REDIS_HOST", "127.0.0.1", "redis"),
        ("SOKETI_CLUSTER_PORT", "11002", "11003"),
        ("SOKETI_ADAPTER_NATS_SERVERS", r#"["127.0.0.1:4222"]"#, "[]"),
    ] {
        assert_eq!(with_app().env(name, default).loaded().warnings, [""; 0]);
        let warnings = with_app().env(name, other).loaded().warnings;
        assert!(
            warnings[0].starts_with(&format!("environment {name} has no effect: ")),
            "{warnings:?}"
        );
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_rejected() {
    for (name, value, expected) in [
        ("SOKETI_PORT", "x", "server.port: must be an integer"),
        ("SOKETI_DEBUG", "x", "must be true or false, or 1 or 0"),
        (
            "SOKETI_EVENT_MAX_SIZE_IN_KB",
            "x",
            "apps[0].max_event_bytes: must be a number of kilobytes",
        ),
        (
            "SOKETI_SHUTDOWN_GRACE_PERIOD",
            "x",
            "server.shutdown_grace_s: must be a number of milliseconds",
        ),
    ] {
        assert_eq!(with_app().env(name, value).error(), format!("environment {name}: {expected}"));
    }
}

/// The list of soketi 1.x.
const NAMES: &str = "
    SOKETI_ADAPTER_DRIVER SOKETI_ADAPTER_CLUSTER_REQUESTS_TIMEOUT SOKETI_ADAPTER_REDIS_PREFIX
    SOKETI_ADAPTER_REDIS_CLUSTER_MODE SOKETI_ADAPTER_REDIS_REQUESTS_TIMEOUT SOKETI_ADAPTER_REDIS_SUB_OPTIONS
    SOKETI_ADAPTER_REDIS_PUB_OPTIONS SOKETI_ADAPTER_NATS_PREFIX SOKETI_ADAPTER_NATS_SERVERS
    SOKETI_ADAPTER_NATS_USER SOKETI_ADAPTER_NATS_PASSWORD SOKETI_ADAPTER_NATS_TOKEN SOKETI_ADAPTER_NATS_TIMEOUT
    SOKETI_ADAPTER_NATS_REQUESTS_TIMEOUT SOKETI_ADAPTER_NATS_NODES_NUMBER SOKETI_APP_MANAGER_DRIVER
    SOKETI_APP_MANAGER_CACHE_ENABLED SOKETI_APP_MANAGER_CACHE_TTL SOKETI_APP_MANAGER_DYNAMODB_TABLE
    SOKETI_APP_MANAGER_DYNAMODB_REGION SOKETI_APP_MANAGER_DYNAMODB_ENDPOINT SOKETI_APP_MANAGER_MYSQL_TABLE
    SOKETI_APP_MANAGER_MYSQL_VERSION SOKETI_APP_MANAGER_POSTGRES_TABLE SOKETI_APP_MANAGER_POSTGRES_VERSION
    SOKETI_APP_MANAGER_MYSQL_USE_V2 SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH SOKETI_CHANNEL_CACHE_TTL
    SOKETI_CACHE_DRIVER SOKETI_CACHE_REDIS_CLUSTER_MODE SOKETI_CACHE_REDIS_OPTIONS SOKETI_CLUSTER_CHECK_INTERVAL
    SOKETI_CLUSTER_HOST SOKETI_CLUSTER_IGNORE_PROCESS SOKETI_CLUSTER_BROADCAST_ADDRESS
    SOKETI_CLUSTER_KEEPALIVE_INTERVAL SOKETI_CLUSTER_MASTER_TIMEOUT SOKETI_CLUSTER_MULTICAST_ADDRESS
    SOKETI_CLUSTER_NODE_TIMEOUT SOKETI_CLUSTER_PORT SOKETI_CLUSTER_PREFIX SOKETI_CLUSTER_UNICAST_ADDRESSES
    SOKETI_DEBUG SOKETI_DEFAULT_APP_ID SOKETI_DEFAULT_APP_KEY SOKETI_DEFAULT_APP_SECRET
    SOKETI_DEFAULT_APP_MAX_CONNS SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES SOKETI_DEFAULT_APP_ENABLED
    SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC
    SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC SOKETI_DEFAULT_APP_USER_AUTHENTICATION SOKETI_DEFAULT_APP_WEBHOOKS
    SOKETI_DB_POOLING_ENABLED SOKETI_DB_POOLING_MIN SOKETI_DB_POOLING_MAX SOKETI_DB_MYSQL_HOST
    SOKETI_DB_MYSQL_PORT SOKETI_DB_MYSQL_USERNAME SOKETI_DB_MYSQL_PASSWORD SOKETI_DB_MYSQL_DATABASE
    SOKETI_DB_POSTGRES_HOST SOKETI_DB_POSTGRES_PORT SOKETI_DB_POSTGRES_USERNAME SOKETI_DB_POSTGRES_PASSWORD
    SOKETI_DB_POSTGRES_DATABASE SOKETI_DB_REDIS_HOST SOKETI_DB_REDIS_PORT SOKETI_DB_REDIS_DB
    SOKETI_DB_REDIS_USERNAME SOKETI_DB_REDIS_PASSWORD SOKETI_DB_REDIS_KEY_PREFIX SOKETI_DB_REDIS_SENTINELS
    SOKETI_DB_REDIS_SENTINEL_PASSWORD SOKETI_DB_REDIS_CLUSTER_NODES SOKETI_DB_REDIS_INSTANCE_NAME
    SOKETI_EVENT_MAX_BATCH_SIZE SOKETI_EVENT_MAX_CHANNELS_AT_ONCE SOKETI_EVENT_MAX_NAME_LENGTH
    SOKETI_EVENT_MAX_SIZE_IN_KB SOKETI_HOST SOKETI_HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD SOKETI_METRICS_ENABLED
    SOKETI_METRICS_DRIVER SOKETI_METRICS_HOST SOKETI_METRICS_PROMETHEUS_PREFIX SOKETI_METRICS_SERVER_PORT
    SOKETI_MODE SOKETI_PORT SOKETI_PATH_PREFIX SOKETI_PRESENCE_MAX_MEMBER_SIZE SOKETI_PRESENCE_MAX_MEMBERS
    SOKETI_QUEUE_DRIVER SOKETI_QUEUE_REDIS_CONCURRENCY SOKETI_QUEUE_REDIS_OPTIONS
    SOKETI_QUEUE_REDIS_CLUSTER_MODE SOKETI_QUEUE_SQS_REGION SOKETI_QUEUE_SQS_CLIENT_OPTIONS SOKETI_QUEUE_SQS_URL
    SOKETI_QUEUE_SQS_ENDPOINT SOKETI_QUEUE_SQS_PROCESS_BATCH SOKETI_QUEUE_SQS_BATCH_SIZE
    SOKETI_QUEUE_SQS_POLLING_WAIT_TIME_MS SOKETI_RATE_LIMITER_DRIVER SOKETI_RATE_LIMITER_REDIS_OPTIONS
    SOKETI_RATE_LIMITER_REDIS_CLUSTER_MODE SOKETI_SHUTDOWN_GRACE_PERIOD SOKETI_SSL_CERT SOKETI_SSL_KEY
    SOKETI_SSL_PASS SOKETI_SSL_CA SOKETI_USER_AUTHENTICATION_TIMEOUT SOKETI_WEBHOOKS_BATCHING
    SOKETI_WEBHOOKS_BATCHING_DURATION
";
