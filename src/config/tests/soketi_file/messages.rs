//! Errors and warnings about the file.

use super::{file, with, with_app};

#[test]
fn unsupported_soketi_keys_are_rejected_by_name() {
    for (text, option, what) in [
        (
            r#""adapter": {"driver": "nats"}"#,
            "adapter.driver",
            "an adapter other than `local` and `redis`",
        ),
        (
            r#""adapter.driver": "cluster""#,
            "adapter.driver",
            "an adapter other than `local` and `redis`",
        ),
        (
            r#""appManager": {"driver": "dynamodb"}"#,
            "appManager.driver",
            "an app manager other than `array`, `mysql` and `postgres`",
        ),
        (r#""queue": {"driver": "sqs"}"#, "queue.driver", "a queue other than `sync` and `redis`"),
        (r#""cache": {"driver": 1}"#, "cache.driver", "a cache other than `memory` and `redis`"),
        (
            r#""rateLimiter": {"driver": "cluster"}"#,
            "rateLimiter.driver",
            "a rate limiter other than `local` and `redis`",
        ),
    ] {
        let expected =
            format!("config.toml: {option}: {what} is not supported by this version of Campanile");
        assert_eq!(with(text).error(), expected);
    }
    let error = with(r#""queue": {"driver": "redis"}"#).error();
    let message = "needs Redis: set redis.url, or SOKETI_ADAPTER_DRIVER (adapter.driver) to redis";
    assert_eq!(error, format!("config.toml: queue.driver: {message}"));
    let lambda =
        with_app(r#","webhooks": [{"lambda_function": "f", "event_types": ["cache_miss"]}]"#);
    let place = "config.toml: appManager.array.apps[0].webhooks[0]";
    let message = "apps[0].webhooks[0]: must have a url: AWS Lambda is not supported";
    assert_eq!(lambda.error(), format!("{place}: {message}"));
}

#[test]
fn what_has_no_effect_is_noted() {
    for (text, expected) in [
        (
            r#""mode": "worker""#,
            "mode has no effect: a node always serves connections and the HTTP API",
        ),
        (
            r#""cors": {"origin": ["a.test"]}"#,
            "cors.origin has no effect: pages may read responses if ",
        ),
        (
            r#""queue": {"sqs": {"consumerOptions": {"a": [1]}}}"#,
            "queue.sqs.consumerOptions has no effect: ",
        ),
        (r#""debugg": true"#, "debugg has no effect: unknown option; did you mean `debug`?"),
        (
            r#""appManager": {"apps": [{"id": 1}]}"#,
            "appManager.apps has no effect: unknown option; did you mean `appManager.array.apps`?",
        ),
        (
            r#""app_manager": {"array": {}}"#,
            "app_manager has no effect: unknown option; did you mean `appManager`?",
        ),
        (
            r#""database": {"redis": {"hots": "h"}}"#,
            "database.redis.hots has no effect: unknown option; did you mean `database.redis.host`?",
        ),
        (
            r#""server": {"port": 1}"#,
            "server has no effect: settings of Campanile are read from TOML, not from JSON",
        ),
        (r#""colour\nof": 1"#, "colour\nof has no effect: unknown option"),
        (
            r#""appManager.array.apps.*.enabled": true"#,
            "appManager.array.apps.*.enabled has no effect: unknown option; did you mean \
             `appManager.array.apps.0.enabled`?",
        ),
    ] {
        let warnings = with(text).loaded().warnings;
        let expected = format!("config.toml: {expected}");
        assert!(
            matches!(warnings.as_slice(), [warning] if warning.starts_with(&expected)),
            "{warnings:?}"
        );
    }
}

#[test]
fn what_has_no_effect_on_an_app_is_noted() {
    let place = "config.toml: appManager.array.apps[0]";
    for (text, expected) in [
        (
            r#","maxConnection": 1"#,
            format!(
                "{place}.maxConnection has no effect: unknown option of an app; did you mean `maxConnections`?"
            ),
        ),
        (
            r#","maxReadRequestsPerSecond": 1"#,
            format!(
                "{place}.maxReadRequestsPerSecond has no effect: a single limit applies to the HTTP API: apps[0].requests_per_second"
            ),
        ),
        (
            r#","webhooks": [{"url": "http://a.test", "event_types": ["cache_miss"], "header": {}, "filter": {"x": 1}}]"#,
            format!(
                "{place}.webhooks[0]: header has no effect: unknown option of a webhook; did you mean `headers`?"
            ),
        ),
        (
            r#","webhooks": [{"url": "http://a.test", "event_types": ["cache_miss"], "lambda_function": "f"}]"#,
            format!("{place}.webhooks[0]: lambda_function has no effect beside url"),
        ),
    ] {
        assert_eq!(with_app(text).loaded().warnings[0], expected);
    }
    // What soketi derives needs no warning.
    assert_eq!(with_app(r#","hasClientEventWebhooks": true"#).loaded().warnings, [""; 0]);
}

#[test]
fn a_value_of_the_wrong_kind_is_rejected_with_its_place() {
    for (text, expected) in [
        (r#""port": "x""#, "port: server.port: must be an integer"),
        (r#""port": 70000"#, "port: server.port: is set to 70000, and must be from 0 to 65535"),
        (r#""port": [6001]"#, "port: must not be a list"),
        (r#""port": {"a": 1}"#, "port: must not be an object"),
        (r#""host": true"#, "host: must be a string"),
        (r#""debug": "yes""#, "debug: must be true or false, or 1 or 0"),
        (r#""metrics": true"#, "metrics: must be an object"),
        (r#""metrics": {"enabled": {}}"#, "metrics.enabled: must not be an object"),
        (
            r#""presence.maxMemberSizeInKb": "2k""#,
            "presence.maxMemberSizeInKb: apps[0].max_presence_user_info_bytes: must be a number of kilobytes",
        ),
        (
            r#""appManager.array.apps.0.id": "2""#,
            "appManager.array.apps.0.id: is set twice; first at config.toml: appManager.array.apps[0].id",
        ),
    ] {
        assert_eq!(with(text).error(), format!("config.toml: {expected}"), "{text}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_in_an_app_is_rejected_with_its_place() {
    let place = "appManager.array.apps[0]";
    for (text, expected) in [
        (
            r#","maxConnections": 1.5"#,
            format!("{place}.maxConnections: apps[0].max_connections: must be an integer"),
        ),
        (
            r#","enabled": "no""#,
            format!("{place}.enabled: apps[0].enabled: must be true or false, or 1 or 0"),
        ),
        (r#","maxConnections": [1]"#, format!("{place}.maxConnections: must not be a list")),
        (
            r#","webhooks": {"url": "hunter2"}"#,
            format!("{place}.webhooks: apps[0].webhooks: must be a JSON list of webhooks"),
        ),
        (
            r#","webhooks": ["hunter2"]"#,
            format!("{place}.webhooks[0]: apps[0].webhooks[0]: must be an object"),
        ),
        (
            r#","webhooks": [{"url": 1}]"#,
            format!("{place}.webhooks[0].url: apps[0].webhooks[0].url: must be a string"),
        ),
        (
            r#","webhooks": [{"url": "http://a.test", "event_types": "cache_miss"}]"#,
            format!(
                "{place}.webhooks[0].event_types: apps[0].webhooks[0].event_types: must be a list of strings"
            ),
        ),
        (
            r#","webhooks": [{"url": "http://a.test", "event_types": []}]"#,
            format!(
                "{place}.webhooks[0].event_types: apps[0].webhooks[0].events: must name at least one event"
            ),
        ),
        (
            r#","webhooks": [{"url": "http://a.test", "filter": [1]}]"#,
            format!("{place}.webhooks[0].filter: apps[0].webhooks[0].filter: must be an object"),
        ),
        (
            r#","webhooks": [{"url": "http://a.test", "headers": {"a": ["hunter2"]}}]"#,
            format!(
                "{place}.webhooks[0].headers: apps[0].webhooks[0].headers: must be an object of strings"
            ),
        ),
    ] {
        assert_eq!(with_app(text).error(), format!("config.toml: {expected}"), "{text}");
    }
}

#[test]
fn an_app_that_is_not_whole_is_rejected_with_its_place() {
    let place = "config.toml: appManager.array.apps";
    for (apps, expected) in [
        ("[]", format!("{place}: must have at least one app")),
        ("{}", format!("{place}: must be a list of apps")),
        ("[1]", format!("{place}[0]: must be an object")),
        ("[null]", format!("{place}[0]: must be an object")),
        (
            r#"[{"id": "1", "key": "k", "secret": ""}]"#,
            format!("{place}[0]: apps[0].secret: is required"),
        ),
        (
            r#"[{"id": "1", "key": "k", "secret": "a-secret-of-soketi"}, {"id": "2", "secret": "a-secret-of-soketi"}]"#,
            format!("{place}[1]: apps[1].key: is required"),
        ),
        (
            r#"[{"id": "1", "key": "k", "secret": "a-secret-of-soketi"}, {"id": "1", "key": "l", "secret": "a-secret-of-soketi"}]"#,
            format!("{place}[1].id: apps[1].id: must differ from apps[0].id"),
        ),
        (
            r#"[{"id": true, "key": 1.5, "secret": "a-secret-of-soketi"}]"#,
            format!("{place}[0].id: must be a string | {place}[0].key: must be a string"),
        ),
    ] {
        let error = file(&format!("{{\"appManager.array.apps\": {apps}}}")).error();
        assert_eq!(error, expected, "{apps}");
    }
    let gap = with(r#""appManager.array.apps.4000000000.key": "k""#).error();
    let expected =
        format!("{place}.4000000000.key: apps[4000000000]: must follow apps[1], which is missing");
    assert_eq!(gap, expected);
}

#[test]
fn json_that_is_broken_is_rejected_with_its_line() {
    for (text, expected) in [
        ("{\n\"port\": 6001,\n}", "config.toml:3: is not JSON: trailing comma"),
        ("// soketi\n{}", "config.toml:1: must have no comments, which are not JSON"),
        ("{\"port\": 1, \"port\": 2}", "config.toml:1: duplicate name `port`"),
        ("[{\"port\": 1}]", "config.toml: must be a JSON object with the options of soketi"),
    ] {
        assert_eq!(file(text).error(), expected);
    }
}
