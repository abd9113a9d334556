//! The rules for values, at their bounds and one beyond.

use super::with_app;
use crate::config::{declare::Rule, key::KeyPath, schema};

/// The error of setting `key`, without the source in it, or none.
fn message(key: &str, value: &str) -> Option<String> {
    let variable = KeyPath::new(key).variable_name();
    let mut setup = with_app();
    if key.starts_with("apps[0].history") {
        // A history needs its prefix.
        setup = setup.env("CAMPANILE_APPS__0__HISTORY__0__PREFIX", "a");
    }
    let error = setup.env(&variable, value).load().err()?;
    let prefix = format!("environment {variable}: {key}: ");
    Some(error.strip_prefix(&prefix).unwrap_or_else(|| panic!("{error}")).to_owned())
}

#[test]
fn every_range_accepts_its_bounds_and_nothing_beyond() {
    let mut ranges = 0;
    for setting in schema::settings() {
        let Rule::Range(least, largest) = setting.rule else { continue };
        ranges += 1;
        let key = setting.key.replace("[]", "[0]");
        let expected = Some(format!("must be from {least} to {largest}"));
        assert_eq!(message(&key, &(least - 1).to_string()), expected, "{key}");
        assert_eq!(message(&key, &(largest + 1).to_string()), expected, "{key}");
        for bound in [least, largest] {
            let rejected = message(&key, &bound.to_string());
            assert!(
                rejected.is_none_or(|message| message.starts_with("must be at ")),
                "{key} {bound}"
            );
        }
    }
    assert_eq!(ranges, 42);
}

#[test]
fn max_outbox_bytes_is_at_least_the_largest_message() {
    let expected = "must be at least connection.max_message_bytes (65536)";
    assert_eq!(message("connection.max_outbox_bytes", "65535").as_deref(), Some(expected));
    assert_eq!(message("connection.max_outbox_bytes", "102400"), None);
    let expected = "must be at least apps[0].max_event_bytes (102400)";
    assert_eq!(message("connection.max_outbox_bytes", "102399").as_deref(), Some(expected));
    assert_eq!(message("connection.max_message_bytes", "1048576"), None);
    let expected = "must be at most connection.max_outbox_bytes (1048576)";
    assert_eq!(message("connection.max_message_bytes", "1048577").as_deref(), Some(expected));
}

#[test]
fn a_request_holds_the_largest_event() {
    assert_eq!(message("server.max_request_bytes", "102400"), None);
    let expected = "must be at least apps[0].max_event_bytes (102400)";
    assert_eq!(message("server.max_request_bytes", "102399").as_deref(), Some(expected));
    assert_eq!(message("apps[0].max_event_bytes", "1048576"), None);
    let expected = "must be at most server.max_request_bytes (1048576)";
    assert_eq!(message("apps[0].max_event_bytes", "1048577").as_deref(), Some(expected));
}

#[test]
fn tls_only_needs_tls_or_a_proxy() {
    let expected = "rejects all clients unless server.tls is set, or server.trusted_proxies lists the \
                    proxy that serves TLS";
    assert_eq!(message("apps[0].tls_only", "true").as_deref(), Some(expected));
    let with_proxy = with_app()
        .env("CAMPANILE_APPS__0__TLS_ONLY", "true")
        .env("CAMPANILE_SERVER__TRUSTED_PROXIES", "10.0.0.1");
    assert!(with_proxy.load().is_ok());
    let with_tls = with_app()
        .env("CAMPANILE_APPS__0__TLS_ONLY", "true")
        .env("CAMPANILE_SERVER__TLS__CERT", "cert.pem")
        .env("CAMPANILE_SERVER__TLS__KEY", "key.pem");
    assert!(with_tls.load().is_ok());
}

#[test]
fn a_certificate_needs_its_key() {
    let expected = |missing: &str| Some(format!("needs {missing} beside it"));
    assert_eq!(message("server.tls.cert", "cert.pem"), expected("server.tls.key"));
    assert_eq!(message("server.tls.key", "key.pem"), expected("server.tls.cert"));
}

#[test]
fn apps_differ_in_id_and_key() {
    let second = |id: &str, key: &str| {
        with_app()
            .env("CAMPANILE_APPS__1__ID", id)
            .env("CAMPANILE_APPS__1__KEY", key)
            .env("CAMPANILE_APPS__1__SECRET", "s")
    };
    assert!(second("other-id", "other-key").load().is_ok());
    assert_eq!(
        second("my-id", "other-key").error(),
        "environment CAMPANILE_APPS__1__ID: apps[1].id: must differ from apps[0].id"
    );
    assert_eq!(
        second("other-id", "my-key").error(),
        "environment CAMPANILE_APPS__1__KEY: apps[1].key: must differ from apps[0].key"
    );
}

#[test]
fn malformed_strings_are_rejected_with_the_rule() {
    let name = "must not contain `/`, `:`, `?`, `#` or white space";
    let space = "must not contain white space";
    for (key, value, expected) in [
        (
            "console.password",
            "7 chars",
            "must have at least 8 characters, or be a line of `campanile hash-password`",
        ),
        (
            "apps[0].console_password",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ",
            "is not a complete line of `campanile hash-password`",
        ),
        ("apps[0].id", "", "must not be empty"),
        ("apps[0].key", "", "must not be empty"),
        ("apps[0].secret", "", "must not be empty"),
        ("apps[0].id", "a/b", name),
        ("apps[0].key", "a:b", name),
        ("apps[0].key", "a b", name),
        ("server.host", "", "must not be empty"),
        ("server.host", "a b", space),
        ("server.path", "/a?b", "must not contain `?`, `#` or white space"),
        ("server.path", "/a#b", "must not contain `?`, `#` or white space"),
        ("server.path", "/a b", "must not contain `?`, `#` or white space"),
        ("server.path", "/a//b", "must not contain `//`"),
        ("server.path", "/a\u{7}b", "must not contain control characters"),
        ("redis.prefix", "", "must not be empty"),
        ("redis.prefix", "{a}", "must not contain braces or white space"),
        ("metrics.token", "a b", space),
        ("metrics.listen", "9601", "must be an address and a port such as 127.0.0.1:9601"),
        (
            "server.trusted_proxies",
            "10.0.0.0/8,proxy",
            "`proxy` must be an address or a network such as 10.0.0.0/8",
        ),
        ("log.level", "loud", "must be one of error, warn, info, debug, trace"),
        ("log.format", "xml", "must be one of text, json"),
        ("apps[0].client_events", "all", "must be one of none, members"),
    ] {
        assert_eq!(message(key, value).as_deref(), Some(expected), "{key} {value:?}");
    }
}

#[test]
fn a_path_gets_its_proper_form() {
    for (written, expected) in
        [("", ""), ("/", ""), ("ws", "/ws"), ("/ws/", "/ws"), ("/a/b", "/a/b"), ("//", "")]
    {
        let loaded = with_app().env("CAMPANILE_SERVER__PATH", written).loaded();
        assert_eq!(loaded.config.server.path, expected, "{written}");
    }
}

#[test]
fn origins_are_patterns_of_hosts() {
    for pattern in [
        "*",
        "example.com",
        "*.example.com",
        "localhost:3000",
        "localhost:*",
        "https://example.com",
        "https://*.example.com:8443",
        "capacitor://localhost",
        "[::1]:3000",
        "bücher.example",
    ] {
        assert_eq!(message("apps[0].allowed_origins", pattern), None, "{pattern}");
    }
    for pattern in [
        "https://example.com/",
        "example.com/path",
        "example.com:0",
        "example.com:65536",
        "example.com:x",
        "://a",
        "a b",
        ":80",
        "user@example.com",
        "[::x]:80",
        "https://",
        "*://example.com",
    ] {
        let message = message("apps[0].allowed_origins", pattern).unwrap_or_default();
        assert!(
            message.starts_with(&format!("`{pattern}` must be a host such as ")),
            "{pattern}: {message}"
        );
    }
}
