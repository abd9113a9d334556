//! Messages name the setting to correct in the form in which it was written.

use super::{Setup, with_app};

#[test]
fn an_error_names_the_variable_instead_of_the_derived_key() {
    for (name, value, message) in [
        ("REVERB_SCALING_ENABLED", "yes", "must be true or false, or 1 or 0"),
        ("REVERB_APP_RATE_LIMITING_ENABLED", "on", "must be true or false, or 1 or 0"),
        ("SOKETI_DEBUG", "yes", "must be true or false, or 1 or 0"),
        ("SOKETI_METRICS_ENABLED", "yes", "must be true or false, or 1 or 0"),
        ("SOKETI_WEBHOOKS_BATCHING", "yes", "must be true or false, or 1 or 0"),
        (
            "SOKETI_SHUTDOWN_GRACE_PERIOD",
            "3s",
            "server.shutdown_grace_s: must be a number of milliseconds",
        ),
        (
            "SOKETI_SHUTDOWN_GRACE_PERIOD",
            "9000000",
            "server.shutdown_grace_s: is set to 9000, and must be from 0 to 3600",
        ),
        (
            "SOKETI_EVENT_MAX_SIZE_IN_KB",
            "1MB",
            "apps[0].max_event_bytes: must be a number of kilobytes",
        ),
    ] {
        let error = with_app().env(name, value).error();
        assert_eq!(error, format!("environment {name}: {message}"));
    }
    let redis = with_app().env("REVERB_SCALING_ENABLED", "true").env("REDIS_PORT", "x").error();
    assert!(redis.starts_with("environment REDIS_PORT: must "), "{redis}");
}

#[test]
fn a_host_with_scheme_port_or_path_is_rejected_with_the_right_setting() {
    for (host, message) in [
        ("0.0.0.0:8080", "must be without a port, which is server.port (--port)"),
        ("localhost:8080", "must be without a port, which is server.port (--port)"),
        ("[::1]:8080", "must be without a port, which is server.port (--port)"),
        ("http://localhost", "not a URL"),
        ("https://a.test:8080/ws", "not a URL"),
        ("a.test/ws", "without a path"),
    ] {
        let mut setup = with_app();
        setup.sources.flags.host = Some(host.to_owned());
        let error = setup.error();
        assert!(
            error.starts_with("flag --host: server.host: ") && error.contains(message),
            "{error}"
        );
    }
    for host in ["::1", "[::1]", "a.test", "127.0.0.1"] {
        let mut setup = with_app();
        setup.sources.flags.host = Some(host.to_owned());
        assert!(setup.load().is_ok(), "{host}");
    }
}

#[test]
fn a_session_that_is_forgotten_before_its_client_can_return_is_warned_about() {
    let warned = |resume: &str, activity: &str| {
        let setup = with_app()
            .env("CAMPANILE_CONNECTION__RESUME_S", resume)
            .env("CAMPANILE_CONNECTION__ACTIVITY_TIMEOUT_S", activity);
        setup.loaded().warnings.into_iter().find(|warning| warning.contains("resume_s"))
    };
    for (resume, activity) in [("77", "30"), ("0", "30"), ("120", "73")] {
        assert_eq!(warned(resume, activity), None);
    }
    let warning = warned("76", "30").unwrap();
    assert!(warning.contains("above activity_timeout_s + 46, which is 76"), "{warning}");
    assert!(warned("120", "120").is_some());
}

#[test]
fn quotes_kept_by_docker_are_removed_and_noted() {
    for (name, value, quoted) in [
        ("CAMPANILE_SERVER__PORT", "7001", r#""7001""#),
        ("REVERB_SERVER_PORT", "7001", "'7001'"),
        ("SOKETI_PORT", "7001", r#" "7001" "#),
    ] {
        let loaded = with_app().env(name, quoted).loaded();
        assert_eq!(loaded.config.server.port.to_string(), value, "{name}");
        let warned = |warning: &&String| warning.contains(name) && warning.contains("quotes");
        assert_eq!(loaded.warnings.iter().filter(warned).count(), 1, "{:?}", loaded.warnings);
    }
    // Quotes within quotes in a .env file are part of the value, and so are those of a list.
    let dotenv = "SOKETI_DEFAULT_APP_ID=1\nSOKETI_DEFAULT_APP_KEY=k\nSOKETI_DEFAULT_APP_SECRET='\"sixteen letters\"'\n";
    let loaded = Setup::default().dotenv(dotenv).loaded();
    assert_eq!(loaded.config.apps[0].secret.expose(), "\"sixteen letters\"");
    let list = with_app().env("CAMPANILE_SERVER__TRUSTED_PROXIES", r#"["10.0.0.1", "10.0.0.2"]"#);
    assert_eq!(list.loaded().config.server.trusted_proxies.len(), 2);
}

#[test]
fn a_file_in_another_format_is_recognised() {
    for (text, what) in [
        ("<?php\n\nreturn [\n", "is PHP"),
        ("\n# compose\nservices:\n  campanile:\n    image: x\n", "is YAML"),
        ("---\na: 1\n", "is YAML"),
        ("port: 6001\n", "is YAML"),
        ("- id: x\n  key: y\n", "is YAML"),
        ("# apps\n-\n  id: x\n", "is YAML"),
        ("- x\n", "is YAML"),
        ("%YAML 1.2\n---\na: 1\n", "is YAML"),
        ("--- # one\na: 1\n", "is YAML"),
        ("\"port\": 6001\n", "is YAML"),
        ("REVERB_APP_ID=my-app\nREVERB_APP_KEY=k\n", "contains environment variables"),
        ("export SOKETI_PORT=a b\n", "contains environment variables"),
    ] {
        let error = Setup::default().file(text).error();
        assert!(error.starts_with(&format!("config.toml: {what}; expected TOML. ")), "{error}");
    }
    // A TOML file with a mistake is still reported as TOML.
    for text in [
        "[server]\nport = \n",
        "[[apps]\n",
        "server: 1 = 2\nx =",
        "a = {\n",
        "[\"a b\"]\nx =",
        "-1 =\n",
    ] {
        let error = Setup::default().file(text).error();
        assert!(!error.contains("JSON") && !error.contains("PHP"), "{error}");
    }
}

#[test]
fn variables_that_are_not_utf_8_are_named_if_they_are_ours() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};
    let bytes = || OsString::from_vec(b"\xff".to_vec());
    let mut setup = with_app();
    setup.sources.set_env([
        ("SECRET_OF_SOMEBODY_ELSE".into(), bytes()),
        (OsString::from_vec(b"\xfe\xff".to_vec()), "x".into()),
        ("REDIS_PASSWORD".into(), bytes()),
        ("PUSHER_APP_SECRET".into(), bytes()),
    ]);
    assert!(setup.load().is_ok());
    for name in ["CAMPANILE_SERVER__PATH", "REVERB_APP_KEY", "SOKETI_HOST"] {
        let mut setup = with_app();
        setup.sources.set_env([(name.into(), bytes())]);
        assert_eq!(setup.error(), format!("environment {name}: contains bytes that are not UTF-8"));
    }
}

#[test]
fn a_port_that_is_not_utf_8_matters_if_nothing_else_names_one() {
    let setup = || {
        let mut setup = with_app();
        setup.sources.not_utf8.insert("PORT".to_owned());
        setup
    };
    assert_eq!(setup().error(), "environment PORT: contains bytes that are not UTF-8");
    for named in [
        setup().env("SOKETI_PORT", "7000"),
        setup().dotenv("REVERB_SERVER_PORT=7000"),
        setup().file("[server]\nport = 7000\n"),
    ] {
        assert_eq!(named.loaded().config.server.port, 7000);
    }
    let mut flag = setup();
    flag.sources.flags.port = Some(7000);
    assert_eq!(flag.loaded().config.server.port, 7000);
}

#[test]
fn variables_of_redis_that_are_not_utf_8_matter_wherever_scaling_is_switched_on() {
    let setup = || {
        let mut setup = with_app();
        setup.sources.not_utf8.insert("REDIS_PASSWORD".to_owned());
        setup
    };
    let rejected = "environment REDIS_PASSWORD: contains bytes that are not UTF-8";
    assert_eq!(setup().env("REVERB_SCALING_ENABLED", "true").error(), rejected);
    assert_eq!(setup().dotenv("REVERB_SCALING_ENABLED=true").error(), rejected);
    assert!(setup().dotenv("REVERB_SCALING_ENABLED=false").load().is_ok());
    assert!(setup().dotenv("OTHER=1").load().is_ok());
}
