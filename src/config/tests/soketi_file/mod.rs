//! soketi's configuration file.

mod messages;
mod reload;

use super::{Setup, source};
use crate::config::{AppConfig, ClientEvents, Config, LogLevel, WebhookEvent};

/// Loads a file with the content `text`.
fn file(text: &str) -> Setup {
    Setup::default().file(text)
}

/// A file with one app and the members `text`.
fn with(text: &str) -> Setup {
    let app =
        r#""appManager.array.apps": [{"id": "1", "key": "k", "secret": "a-secret-of-soketi"}]"#;
    let comma = if text.is_empty() { "" } else { "," };
    file(&format!("{{{app}{comma}{text}}}"))
}

/// A file with one app that has the members `text`.
fn with_app(text: &str) -> Setup {
    file(&format!(
        r#"{{"appManager.array.apps": [{{"id": "1", "key": "k", "secret": "a-secret-of-soketi"{text}}}]}}"#
    ))
}

fn app(text: &str) -> AppConfig {
    with_app(text).loaded().config.apps.remove(0)
}

const TWO: &str = r#"{
    "debug": true,
    "port": 6002,
    "metrics": {"enabled": true, "port": 9000},
    "presence": {"maxMembersPerChannel": 50},
    "userAuthenticationTimeout": 5000,
    "appManager.array.apps": [
        {"id": "1", "key": "k1", "secret": "the-secret-of-app-1", "enableClientMessages": true},
        {
            "id": 2,
            "key": "k2",
            "secret": "the-secret-of-app-2",
            "enabled": true,
            "maxConnections": 9,
            "maxBackendEventsPerSecond": "7",
            "maxClientEventsPerSecond": 8,
            "enableUserAuthentication": true,
            "maxPresenceMembersPerChannel": 51,
            "maxPresenceMemberSizeInKb": 1.5,
            "maxChannelNameLength": 52,
            "maxEventChannelsAtOnce": 53,
            "maxEventNameLength": "54",
            "maxEventPayloadInKb": 55,
            "maxEventBatchSize": 56,
            "webhooks": [{
                "url": "https://a.test/hooks",
                "event_types": ["client_event", "cache_miss"],
                "filter": {"channel_name_starts_with": "private-", "channel_name_ends_with": "-log"},
                "headers": {"X-Token": "hunter2", "X-Number": 3}
            }]
        }
    ]
}"#;

#[test]
fn a_file_with_two_apps_is_read() {
    let loaded = file(TWO).loaded();
    let Config { server, log, metrics, apps, webhooks, .. } = &loaded.config;
    assert_eq!((server.port, log.level), (6_002, LogLevel::Debug));
    assert_eq!(metrics.listen, "0.0.0.0:9000");
    let [first, second] = apps.as_slice() else { panic!("{apps:?}") };
    assert_eq!((first.id.as_str(), first.key.as_str()), ("1", "k1"));
    assert_eq!(first.secret.expose(), "the-secret-of-app-1");
    assert_eq!(
        (first.client_events, second.client_events),
        (ClientEvents::Members, ClientEvents::None)
    );
    assert_eq!((first.max_presence_members, first.authorized_connections_timeout_s), (50, 0));
    assert_eq!((second.id.as_str(), second.key.as_str()), ("2", "k2"));
    assert_eq!(second.secret.expose(), "the-secret-of-app-2");
    assert_eq!((second.max_connections, second.requests_per_second), (9, 7));
    assert_eq!((second.client_events_per_second, second.user_authentication), (8, true));
    assert_eq!(second.authorized_connections_timeout_s, 5);
    assert_eq!((second.max_presence_members, second.max_presence_user_info_bytes), (51, 1_536));
    assert_eq!((second.max_channel_name_length, second.max_event_channels), (52, 53));
    assert_eq!((second.max_event_name_length, second.max_event_bytes), (54, 56_320));
    assert_eq!(second.max_batch_events, 56);
    let [webhook] = second.webhooks.as_slice() else { panic!("{second:?}") };
    assert_eq!(webhook.url, "https://a.test/hooks");
    assert_eq!(webhook.events, [WebhookEvent::ClientEvent, WebhookEvent::CacheMiss]);
    assert_eq!(
        (webhook.channel_prefix.as_str(), webhook.channel_suffix.as_str()),
        ("private-", "-log")
    );
    assert_eq!(webhook.headers["X-Token"].expose(), "hunter2");
    assert_eq!(webhook.headers["X-Number"].expose(), "3");
    assert_eq!(webhooks.batch_ms, 0);
    let option = "config.toml: appManager.array.apps[1].maxBackendEventsPerSecond";
    let expected = format!(
        "{option} sets apps[1].requests_per_second: it limits all requests to the HTTP API, reads included"
    );
    assert_eq!(loaded.warnings, [expected]);
    assert_eq!(source(&loaded, "[server]", "port"), "config.toml: port");
}

#[test]
fn every_app_of_the_file_has_soketis_defaults() {
    let loaded = file(TWO).env("CAMPANILE_APPS__2__ID", "3").env("CAMPANILE_APPS__2__KEY", "k3");
    let loaded = loaded.env("CAMPANILE_APPS__2__SECRET", "the-secret-of-app-3").loaded();
    let cache: Vec<_> = loaded.config.apps.iter().map(|app| app.cache_ttl_s).collect();
    assert_eq!(cache, [3_600, 3_600, 1_800], "the third is not soketi's");
    assert_eq!(loaded.config.server.shutdown_grace_s, 3);
    let start = "configured by SOKETI_* variables or soketi's file: ";
    assert!(loaded.infos.iter().any(|info| info.starts_with(start)), "{:?}", loaded.infos);
}

/// Nested objects and paths with dots, in any mixture, are the same options.
#[test]
fn an_option_is_written_with_objects_or_with_dots() {
    for text in [
        r#"{"appManager": {"array": {"apps": [{"id": "1", "key": "k", "secret": "a-secret-of-soketi"}]}}}"#,
        r#"{"appManager": {"array.apps": [{"id": "1", "key": "k", "secret": "a-secret-of-soketi"}]}}"#,
        r#"{"appManager.array": {"apps": [{"id": "1", "key": "k", "secret": "a-secret-of-soketi"}]}}"#,
        r#"{"appManager.array.apps.0": {"id": "1", "key": "k", "secret": "a-secret-of-soketi"}}"#,
        r#"{"appManager.array.apps.0.id": "1", "appManager.array.apps[0].key": "k",
            "appManager.array.apps.0.secret": "a-secret-of-soketi"}"#,
        r#"{"appManager.array.apps": [{"AppId": "1", "AppKey": "k", "Secret": null, "AppSecret": "a-secret-of-soketi"}]}"#,
    ] {
        let app = file(text).loaded().config.apps.remove(0);
        assert_eq!((app.id.as_str(), app.key.as_str()), ("1", "k"), "{text}");
        assert_eq!(app.secret.expose(), "a-secret-of-soketi");
        assert_eq!(app.cache_ttl_s, 3_600);
    }
}

#[test]
fn an_option_of_an_app_has_the_spellings_of_soketis_databases() {
    for name in ["maxConnections", "MaxConnections", "max_connections"] {
        assert_eq!(app(&format!(r#","{name}": 4"#)).max_connections, 4, "{name}");
    }
    let error = with_app(r#","maxConnections": 4, "max_connections": 4"#).error();
    let place = "config.toml: appManager.array.apps[0]";
    assert_eq!(
        error,
        format!("{place}.max_connections: is set twice; first at {place}.maxConnections")
    );
}

#[test]
fn values_may_be_strings_or_numbers() {
    for port in ["6002", "\"6002\"", "6002.0"] {
        assert_eq!(with(&format!("\"port\": {port}")).loaded().config.server.port, 6_002);
    }
    for truth in ["true", "\"true\"", "1", "\"1\""] {
        let debug = with(&format!("\"debug\": {truth}")).loaded();
        assert_eq!(debug.config.log.level, LogLevel::Debug, "{truth}");
    }
    assert_eq!(app(",\"maxConnections\": \"-1\"").max_connections, 0);
    assert_eq!(app(",\"maxConnections\": -1").max_connections, 0);
    assert!(!app(",\"enabled\": \"false\"").enabled);
    let hooks =
        r#", "webhooks": "[{\"url\": \"http://a.test\", \"event_types\": [\"cache_miss\"]}]""#;
    assert_eq!(app(hooks).webhooks[0].url, "http://a.test");
    let id = r#"{"appManager.array.apps": [{"id": 12345678901234567890, "key": 7, "secret": "a-secret-of-soketi"}]}"#;
    let app = file(id).loaded().config.apps.remove(0);
    assert_eq!((app.id.as_str(), app.key.as_str()), ("12345678901234567890", "7"));
    // null and empty texts set nothing, as in variables.
    let unset = with(r#""port": null, "pathPrefix": "", "adapter": null"#).loaded();
    assert_eq!((unset.config.server.port, unset.config.server.path.as_str()), (6_001, ""));
}

#[test]
fn variables_win_over_the_file() {
    let loaded = file(TWO)
        .env("SOKETI_PORT", "7000")
        .env("SOKETI_METRICS_SERVER_PORT", "7001")
        .env("SOKETI_DEFAULT_APP_KEY", "other")
        .env("SOKETI_DEBUG", "")
        .dotenv("SOKETI_DEFAULT_APP_MAX_CONNS=3\nSOKETI_PRESENCE_MAX_MEMBERS=60\n")
        .loaded();
    let Config { server, metrics, apps, log, .. } = &loaded.config;
    assert_eq!((server.port, metrics.listen.as_str()), (7_000, "0.0.0.0:7001"));
    assert_eq!((apps[0].key.as_str(), apps[1].key.as_str()), ("other", "k2"));
    assert_eq!((apps[0].max_connections, apps[1].max_connections), (3, 9));
    assert_eq!(log.level, LogLevel::Debug, "an empty variable sets nothing");
    // As in soketi, the limit of an app wins over the variable for all apps.
    assert_eq!((apps[0].max_presence_members, apps[1].max_presence_members), (60, 51));
    assert_eq!(source(&loaded, "[server]", "port"), "environment SOKETI_PORT");
    let own = file(TWO).env("CAMPANILE_APPS__1__MAX_PRESENCE_MEMBERS", "61").loaded();
    assert_eq!(own.config.apps[1].max_presence_members, 61);
    let mut flag = file(TWO);
    flag.sources.flags.port = Some(7_002);
    assert_eq!(flag.loaded().config.server.port, 7_002);
}

#[test]
fn a_limit_of_all_apps_is_one_of_each_app() {
    let text = TWO.replace("\"debug\"", "\"eventLimits\": {\"maxBatchSize\": 77}, \"debug\"");
    let batch: Vec<_> =
        file(&text).loaded().config.apps.iter().map(|app| app.max_batch_events).collect();
    assert_eq!(batch, [77, 56]);
    let error = file(&text.replace("77", "\"x\"")).error();
    assert_eq!(
        error,
        "config.toml: eventLimits.maxBatchSize: apps[0].max_batch_events: must be an integer"
    );
    // An error is reported once, and not for each app.
    for (option, expected) in [
        (
            "\"channelLimits.cacheTtl\": \"x\"",
            "channelLimits.cacheTtl: apps[0].cache_ttl_s: must be an integer",
        ),
        (
            "\"channelLimits.cacheTtl\": 0",
            "channelLimits.cacheTtl: apps[0].cache_ttl_s: is set to 0, and must be from 1 to 31536000",
        ),
        (
            "\"webhooks.batching.enabled\": 2",
            "webhooks.batching.enabled: must be true or false, or 1 or 0",
        ),
    ] {
        let error = file(&TWO.replace("\"debug\"", &format!("{option}, \"debug\""))).error();
        assert_eq!(error, format!("config.toml: {expected}"));
    }
}

#[test]
fn redis_is_configured_by_the_file() {
    let redis = r#"
        "adapter": {"driver": "redis", "redis": {"clusterMode": true, "redisSubOptions": {"tls": {}}, "prefix": "p"}},
        "database": {"redis": {"clusterNodes": [{"host": "a", "port": 7000}, {"host": "b"}], "password": "w", "keyPrefix": "x"}},
        "queue.driver": "redis", "cache.driver": "redis"
    "#;
    let loaded = with(redis).loaded();
    let target = loaded.config.redis.target().unwrap();
    assert_eq!(target.to_url(), "rediss+cluster://:w@a:7000,b:6379/0");
    assert_eq!(loaded.config.redis.prefix, "xp");
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(source(&loaded, "[redis]", "url"), "config.toml: database.redis.clusterNodes");
    let none = with(r#""adapter": {"driver": "redis", "redis": {"clusterMode": true}}"#).error();
    let expected = "config.toml: adapter.redis.clusterMode: needs a node in SOKETI_DB_REDIS_CLUSTER_NODES \
        (database.redis.clusterNodes)";
    assert_eq!(none, expected);
    let unused = with(r#""database": {"redis": {"host": "h"}}"#).loaded();
    let expected = "config.toml: database.redis.host has no effect: SOKETI_ADAPTER_DRIVER (adapter.driver) is not redis";
    assert_eq!(unused.warnings, [expected]);
}

#[test]
fn requests_may_be_as_large_as_in_soketi() {
    let loaded = with(r#""httpApi": {"requestLimitInMb": 100}"#).loaded();
    assert_eq!(loaded.config.server.max_request_bytes, 104_857_600);
    assert_eq!(loaded.config.apps[0].max_event_bytes, 102_400);
    assert_eq!(loaded.warnings, [""; 0]);
    // The largest event of any app makes room for itself.
    let large = TWO.replace("\"maxEventPayloadInKb\": 55", "\"maxEventPayloadInKb\": 10000");
    assert_eq!(file(&large).loaded().config.server.max_request_bytes, 20_480_000);
}

#[test]
fn a_file_without_apps_has_soketis_own_app_on_loopback() {
    let loaded = file(r#"{"host": "0.0.0.0", "debug": false}"#).loaded();
    assert!(loaded.is_development());
    assert_eq!(
        (loaded.config.server.host.as_str(), loaded.config.server.port),
        ("127.0.0.1", 6_001)
    );
    // soketi's id and key are the defaults of an app that is not in a list.
    let app = file(r#"{"appManager.array.apps.0.secret": "a-secret-of-soketi"}"#)
        .loaded()
        .config
        .apps
        .remove(0);
    assert_eq!((app.id.as_str(), app.key.as_str()), ("app-id", "app-key"));
    // The published secret in a file is that of the development app.
    let listed = r#"{"appManager.array.apps": [{"id": "app-id", "key": "app-key", "secret": "app-secret"}]}"#;
    let loaded = file(listed).loaded();
    assert_eq!(loaded.config.server.host, "127.0.0.1");
    let warning = "config.toml: appManager.array.apps[0].secret: apps[0].secret is the public secret of the development app";
    assert!(loaded.warnings[0].starts_with(warning), "{:?}", loaded.warnings);
}

/// soketi's defaults as JSON, without its apps.
const DEFAULTS: &str = r#"
    "adapter": {"driver": "local", "redis": {"requestsTimeout": 5000, "prefix": "", "redisPubOptions": {},
        "redisSubOptions": {}, "clusterMode": false}, "cluster": {"requestsTimeout": 5000},
        "nats": {"requestsTimeout": 5000, "prefix": "", "servers": ["127.0.0.1:4222"], "user": null, "pass": null,
        "token": null, "timeout": 10000, "nodesNumber": null}},
    "appManager.driver": "array", "appManager.cache": {"enabled": false, "ttl": -1},
    "appManager.dynamodb": {"table": "apps", "region": "us-east-1", "endpoint": null},
    "appManager.mysql": {"table": "apps", "version": "8.0", "useMysql2": false},
    "appManager.postgres": {"table": "apps", "version": "13.3"},
    "cache": {"driver": "memory", "redis": {"redisOptions": {}, "clusterMode": false}},
    "channelLimits": {"maxNameLength": 200, "cacheTtl": 3600},
    "cluster": {"hostname": "0.0.0.0", "helloInterval": 500, "checkInterval": 500, "nodeTimeout": 2000,
        "masterTimeout": 2000, "port": 11002, "prefix": "", "ignoreProcess": true, "broadcast": "255.255.255.255",
        "unicast": null, "multicast": null},
    "cors": {"credentials": true, "origin": ["*"], "methods": ["GET", "POST", "PUT", "DELETE", "OPTIONS"],
        "allowedHeaders": ["Origin", "Content-Type", "X-Auth-Token", "X-Requested-With", "Accept", "Authorization",
        "X-CSRF-TOKEN", "XSRF-TOKEN", "X-Socket-Id"]},
    "database": {"mysql": {"host": "127.0.0.1", "port": 3306, "user": "root", "password": "password",
        "database": "main"}, "postgres": {"host": "127.0.0.1", "port": 5432, "user": "postgres",
        "password": "password", "database": "main"}, "redis": {"host": "127.0.0.1", "port": 6379, "db": 0,
        "username": null, "password": null, "keyPrefix": "", "sentinels": null, "sentinelPassword": null,
        "name": "mymaster", "clusterNodes": []}},
    "databasePooling": {"enabled": false, "min": 0, "max": 7}, "debug": false,
    "eventLimits": {"maxChannelsAtOnce": 100, "maxNameLength": 200, "maxPayloadInKb": 100, "maxBatchSize": 10},
    "host": "0.0.0.0", "httpApi": {"requestLimitInMb": 100, "acceptTraffic": {"memoryThreshold": 85}},
    "instance": {"process_id": 77},
    "metrics": {"enabled": false, "driver": "prometheus", "host": "0.0.0.0", "prometheus": {"prefix": "soketi_"},
        "port": 9601},
    "mode": "full", "port": 6001, "pathPrefix": "", "presence": {"maxMembersPerChannel": 100, "maxMemberSizeInKb": 2},
    "queue": {"driver": "sync", "redis": {"concurrency": 1, "redisOptions": {}, "clusterMode": false},
        "sqs": {"region": "us-east-1", "endpoint": null, "clientOptions": {}, "consumerOptions": {}, "queueUrl": "",
        "processBatch": false, "batchSize": 1, "pollingWaitTimeMs": 0}},
    "rateLimiter": {"driver": "local", "redis": {"redisOptions": {}, "clusterMode": false}},
    "shutdownGracePeriod": 3000, "ssl": {"certPath": "", "keyPath": "", "passphrase": "", "caPath": ""},
    "userAuthenticationTimeout": 30000, "webhooks": {"batching": {"enabled": false, "duration": 50}}"#;

#[test]
fn soketis_defaults_are_known_and_need_no_notes() {
    let loaded = with(DEFAULTS).loaded();
    assert_eq!(loaded.warnings, [""; 0]);
    let mut expected = with("").loaded().config;
    expected.server.max_request_bytes = 104_857_600;
    assert_eq!(format!("{:?}", loaded.config), format!("{expected:?}"));
}
