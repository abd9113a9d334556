//! Errors found while reading: each is exactly one line.

use super::{Setup, with_app};
use crate::config::{Sources, load};
use std::path::PathBuf;

#[test]
fn a_mistake_in_the_file_is_named_with_its_line() {
    for (text, expected) in [
        ("[server]\n\nprot = 1", "config.toml:3: server.prot: unknown key; did you mean `port`?"),
        ("servers.port = 1", "config.toml:1: servers: unknown key; did you mean `server`?"),
        ("[server]\nbells = 4", "config.toml:2: server.bells: unknown key"),
        (
            "[[apps]]\nid = \"a\"\nkeey = \"b\"",
            "config.toml:3: apps[0].keey: unknown key; did you mean `key`?",
        ),
        ("[server]\nport = \"8080\"", "config.toml:2: server.port: must be an integer"),
        ("[server]\nport = 80.80", "config.toml:2: server.port: must be an integer"),
        ("[server]\nport = 99999999999999999999", "config.toml:2: server.port: must be an integer"),
        ("[server]\nhost = 1", "config.toml:2: server.host: must be a string"),
        (
            "[connection]\nstrict_protocol = 1",
            "config.toml:2: connection.strict_protocol: must be true or false",
        ),
        (
            "[server]\ntrusted_proxies = [1]",
            "config.toml:2: server.trusted_proxies: must be a list of strings",
        ),
        ("server = 1", "config.toml:1: server: must be a table"),
        ("apps = 1", "config.toml:1: apps: must be a list of tables"),
        ("apps = [1]", "config.toml:1: apps[0]: must be a table"),
        ("apps = []", "config.toml:1: apps: must have at least one app"),
        ("[server]\nport = 1\nport = 2", "config.toml:3: duplicate key `port`"),
        ("[server]\nport = [1,\n", "config.toml:2: unclosed array, expected `]`"),
        ("[[apps.webhooks]]\nheaders = { a = 1 }", "config.toml:1: apps: must be a list of tables"),
        (
            "[[apps]]\n[[apps.webhooks]]\nheaders = { a = 1 }",
            "config.toml:3: apps[0].webhooks[0].headers: must be a table of strings",
        ),
    ] {
        assert_eq!(Setup::default().file(text).error(), expected, "{text}");
    }
}

#[test]
fn a_mistake_in_our_own_variables_is_named() {
    for (name, value, expected) in [
        ("CAMPANILE_SERVER__PORT", "http", "server.port: must be an integer"),
        ("CAMPANILE_SERVER__PORT", "", "server.port: must be an integer"),
        ("CAMPANILE_APPS__0__ENABLED", "yes", "apps[0].enabled: must be true or false, or 1 or 0"),
        ("CAMPANILE_SERVER__PROT", "1", "unknown variable; did you mean `CAMPANILE_SERVER__PORT`?"),
        (
            "CAMPANILE_APPS__3__KEEY",
            "1",
            "unknown variable; did you mean `CAMPANILE_APPS__3__KEY`?",
        ),
        ("CAMPANILE_THE__BELLS_OF_VENICE", "1", "unknown variable"),
    ] {
        let expected = format!("environment {name}: {expected}");
        assert_eq!(Setup::default().env(name, value).error(), expected);
    }
    let dotenv = Setup::default().dotenv("CAMPANILE_SERVER__PORT=x");
    let expected = "environment CAMPANILE_SERVER__PORT (.env): server.port: must be an integer";
    assert_eq!(dotenv.error(), expected);
}

#[test]
fn a_named_file_must_exist() {
    let missing = Some(PathBuf::from("/no/such/file"));
    let message = "/no/such/file: cannot be read: No such file or directory (os error 2)";
    let sources = Sources { file: missing.clone(), ..Sources::default() };
    assert_eq!(load(&sources).unwrap_err().to_string(), message);
    let sources = Sources { env_file: missing, ..Sources::default() };
    assert_eq!(load(&sources).unwrap_err().to_string(), message);
}

#[test]
fn unsupported_settings_are_rejected_in_the_environment() {
    for (name, value, what) in [
        ("SOKETI_ADAPTER_DRIVER", "nats", "an adapter other than `local` and `redis`"),
        ("SOKETI_ADAPTER_DRIVER", "cluster", "an adapter other than `local` and `redis`"),
        (
            "SOKETI_APP_MANAGER_DRIVER",
            "dynamodb",
            "an app manager other than `array`, `mysql` and `postgres`",
        ),
        ("SOKETI_CACHE_DRIVER", "disk", "a cache other than `memory` and `redis`"),
        ("SOKETI_QUEUE_DRIVER", "sqs", "a queue other than `sync` and `redis`"),
        ("SOKETI_RATE_LIMITER_DRIVER", "cluster", "a rate limiter other than `local` and `redis`"),
    ] {
        let expected =
            format!("environment {name}: {what} is not supported by this version of Campanile");
        assert_eq!(Setup::default().env(name, value).error(), expected);
    }
}

#[test]
fn unsupported_settings_are_accepted_if_they_are_off() {
    let off = [
        ("REVERB_SCALING_ENABLED", "(false)"),
        ("REVERB_APP_RATE_LIMITING_ENABLED", "null"),
        ("SOKETI_ADAPTER_DRIVER", "local"),
        ("SOKETI_SSL_CERT", ""),
        ("SOKETI_DEFAULT_APP_WEBHOOKS", "[]"),
        ("REDIS_HOST", "redis"),
        ("REDIS_PASSWORD", "hunter2"),
        ("REDIS_PORT", "x"),
        ("REDIS_DB", "x"),
        ("REDIS_URL", "x"),
        ("REDIS_TIMEOUT", "5"),
        ("REDIS_PREFIX", "{x}"),
    ];
    let setup = off.iter().fold(with_app(), |setup, (name, value)| setup.env(name, value));
    assert_eq!(setup.loaded().warnings, [""; 0]);
}

#[test]
fn an_app_needs_id_key_and_secret() {
    let file = Setup::default().file("[server]\nport = 1\n[[apps]]\nid = \"1\"\nkey = \"k\"");
    assert_eq!(file.error(), "config.toml:3: apps[0].secret: is required");
    let second = with_app().env("CAMPANILE_APPS__1__TLS_ONLY", "true");
    let missing = |name: &str, key: &str| {
        format!(
            "environment CAMPANILE_APPS__1__{name}: apps[1].{key}: is required beside CAMPANILE_APPS__1__TLS_ONLY"
        )
    };
    let all = [("ID", "id"), ("KEY", "key"), ("SECRET", "secret")];
    assert_eq!(second.error(), all.map(|(name, key)| missing(name, key)).join(" | "));
}
