//! Reverb's variables.

use super::{Setup, source, with_app};
use crate::config::{ClientEvents, Config};

const PROJECT: &str = "BROADCAST_CONNECTION=reverb\n\
    REVERB_APP_ID=123456\nREVERB_APP_KEY=abc\nREVERB_APP_SECRET=a-secret-of-reverb\n\
    REVERB_HOST=\"localhost\"\nREVERB_PORT=8080\nREVERB_SCHEME=http\nREDIS_HOST=127.0.0.1\nREDIS_PASSWORD=null\n\
    VITE_REVERB_APP_KEY=\"${REVERB_APP_KEY}\"\nVITE_REVERB_HOST=\"${REVERB_HOST}\"";

#[test]
fn the_env_of_a_new_laravel_project_is_valid() {
    let loaded = Setup::default().dotenv(PROJECT).loaded();
    let Config { server, connection, apps, .. } = &loaded.config;
    assert_eq!((server, connection), (&Config::default().server, &Config::default().connection));
    let app = &apps[0];
    assert_eq!(
        [app.id.as_str(), &app.key, app.secret.expose()],
        ["123456", "abc", "a-secret-of-reverb"]
    );
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(source(&loaded, "[[apps]]", "key"), "environment REVERB_APP_KEY (.env)");
}

/// The configuration of a separate app with the variable `name`.
fn configured(name: &str, value: &str) -> Config {
    with_app().env(name, value).loaded().config
}

#[test]
fn each_variable_sets_its_key() {
    assert_eq!(configured("REVERB_SERVER_HOST", "10.0.0.1").server.host, "10.0.0.1");
    assert_eq!(configured("REVERB_SERVER_PORT", "9000").server.port, 9000);
    assert_eq!(configured("REVERB_SERVER_PATH", "ws").server.path, "/ws");
    assert_eq!(
        configured("REVERB_MAX_REQUEST_SIZE", "2000000").server.max_request_bytes,
        2_000_000
    );
    assert_eq!(configured("REVERB_APP_ACTIVITY_TIMEOUT", "30").connection.activity_timeout_s, 30);
    assert_eq!(
        configured("REVERB_APP_MAX_MESSAGE_SIZE", "10000").connection.max_message_bytes,
        10_000
    );
    assert_eq!(configured("REVERB_APP_MAX_CONNECTIONS", "5").apps[0].max_connections, 5);
    assert_eq!(configured("REVERB_APP_MAX_CONNECTIONS", "null").apps[0].max_connections, 0);
    let origins =
        configured("REVERB_ALLOWED_ORIGINS", "a.test, *.b.test").apps[0].allowed_origins.clone();
    assert_eq!(origins, ["a.test", "*.b.test"]);
}

#[test]
fn client_events_come_from_members_or_no_connection() {
    for (value, expected, warnings) in [
        ("members", ClientEvents::Members, 0),
        ("all", ClientEvents::Members, 1),
        ("none", ClientEvents::None, 0),
        ("anything", ClientEvents::None, 0),
    ] {
        let loaded = with_app().env("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", value).loaded();
        assert_eq!(loaded.config.apps[0].client_events, expected, "{value}");
        assert_eq!(loaded.warnings.len(), warnings, "{value}");
    }
}

#[test]
fn a_missing_credential_is_named() {
    let setup = Setup::default().dotenv("REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=");
    assert_eq!(
        setup.error(),
        "environment REVERB_APP_SECRET (.env): apps[0].secret: is required beside REVERB_APP_ID"
    );
    let setup = Setup::default().env("REVERB_APP_KEY", "k");
    assert_eq!(
        setup.error(),
        "environment REVERB_APP_ID: apps[0].id: is required beside REVERB_APP_KEY | \
         environment REVERB_APP_SECRET: apps[0].secret: is required beside REVERB_APP_KEY"
    );
}

#[test]
fn what_has_no_effect_is_noted_unless_it_is_reverbs_default() {
    for (name, default, other) in [
        ("REVERB_SERVER", "reverb", "octane"),
        ("REVERB_SCALING_CHANNEL", "reverb", "events"),
        ("REVERB_PULSE_INGEST_INTERVAL", "15", "30"),
        ("REVERB_TELESCOPE_INGEST_INTERVAL", "15", "30"),
        ("REVERB_APP_PING_INTERVAL", "60", "20"),
        ("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "60", "5"),
        ("REVERB_APP_RATE_LIMIT_DECAY_SECONDS", "60", "5"),
        ("REVERB_APP_RATE_LIMIT_TERMINATE", "(false)", "true"),
    ] {
        assert_eq!(with_app().env(name, default).loaded().warnings, [""; 0]);
        let warnings = with_app().env(name, other).loaded().warnings;
        assert_eq!(warnings.len(), 1, "{name}");
        assert!(
            warnings[0].starts_with(&format!("environment {name} has no effect: ")),
            "{warnings:?}"
        );
    }
}

#[test]
fn the_rate_limit_is_reverbs_once_it_is_switched_on() {
    let app = |setup: Setup| setup.loaded().config.apps.remove(0);
    let limit = |setup| {
        let app = app(setup);
        (app.max_messages, app.max_messages_window_s, app.max_messages_closes)
    };
    let on = || with_app().env("REVERB_APP_RATE_LIMITING_ENABLED", "(true)");
    assert_eq!(limit(with_app()), (0, 60, false));
    assert_eq!(limit(with_app().env("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "5")), (0, 60, false));
    assert_eq!(limit(on()), (60, 60, false));
    let all = on()
        .env("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "5")
        .env("REVERB_APP_RATE_LIMIT_DECAY_SECONDS", "7")
        .env("REVERB_APP_RATE_LIMIT_TERMINATE", "true");
    assert_eq!(limit(all), (5, 7, true));
    assert_eq!(on().loaded().warnings, [""; 0]);
    assert_eq!(
        on().env("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "x").error(),
        "environment REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS: must be an integer"
    );
}

#[test]
fn an_unknown_variable_is_noted() {
    let warnings = with_app().env("REVERB_SERVER_PROT", "1").loaded().warnings;
    let expected = "environment REVERB_SERVER_PROT has no effect: unknown variable; did you mean `REVERB_SERVER_PORT`?";
    assert_eq!(warnings, [expected]);
}

#[test]
fn reverbs_own_limits_are_accepted() {
    let loaded = Setup::default()
        .dotenv(PROJECT)
        .env("REVERB_MAX_REQUEST_SIZE", "10000")
        .env("REVERB_APP_MAX_MESSAGE_SIZE", "10000")
        .loaded();
    assert_eq!(loaded.config.server.max_request_bytes, 10_000);
    assert_eq!(loaded.config.apps[0].max_event_bytes, 10_000);
    assert_eq!(
        loaded.warnings,
        [
            "environment REVERB_MAX_REQUEST_SIZE also sets apps[0].max_event_bytes to 10000, so that the two limits are consistent"
        ]
    );
}

#[test]
fn a_large_reverb_message_size_raises_max_outbox_bytes() {
    let loaded = with_app().env("REVERB_APP_MAX_MESSAGE_SIZE", "2000000").loaded();
    assert_eq!(loaded.config.connection.max_outbox_bytes, 2_000_000);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn an_explicit_limit_is_not_adjusted() {
    let setup = with_app()
        .env("REVERB_MAX_REQUEST_SIZE", "10000")
        .env("CAMPANILE_APPS__0__MAX_EVENT_BYTES", "20000");
    assert_eq!(
        setup.error(),
        "environment REVERB_MAX_REQUEST_SIZE: server.max_request_bytes: must be at least \
         apps[0].max_event_bytes (20000)"
    );
}

#[test]
fn an_empty_origin_list_rejects_all_origins() {
    for empty in ["", " ", "\"\"", "(empty)", ","] {
        let loaded = with_app().env("REVERB_ALLOWED_ORIGINS", empty).loaded();
        assert_eq!(loaded.config.apps[0].allowed_origins, [""; 0], "{empty:?}");
    }
    let dotenv = with_app().dotenv("REVERB_ALLOWED_ORIGINS=\n").loaded();
    assert_eq!(dotenv.config.apps[0].allowed_origins, [""; 0]);
    assert_eq!(
        dotenv.warnings,
        [
            "environment REVERB_ALLOWED_ORIGINS (.env) is empty: no page may connect, from any origin"
        ]
    );
    let null = with_app().env("REVERB_ALLOWED_ORIGINS", "null").loaded();
    assert_eq!(null.config.apps[0].allowed_origins, ["*"], "`null` in Laravel means unset");
}

#[test]
fn the_line_suggested_for_no_origins_removes_the_warning() {
    let php =
        "<?php return ['apps' => ['apps' => [['key' => 'my-key', 'allowed_origins' => []]]]];";
    let setup = || with_app().further_file("config/reverb.php", php);
    let warnings = setup().loaded().warnings;
    assert!(
        warnings.iter().any(|warning| warning.ends_with("set REVERB_ALLOWED_ORIGINS=")),
        "{warnings:?}"
    );
    let warnings = setup().dotenv("REVERB_ALLOWED_ORIGINS=").loaded().warnings;
    assert!(!warnings.iter().any(|warning| warning.contains("SECURITY")), "{warnings:?}");
}
