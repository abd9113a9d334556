//! Guessable secrets, and the messages about them.

use super::{Setup, with_app};
use crate::config::{
    Config, HistoryConfig, Secret, WebhookConfig,
    schema::{flatten, setting},
};

fn with_secret(secret: &str) -> Setup {
    Setup::default()
        .file(&format!("[[apps]]\nid = \"1\"\nkey = \"a-key\"\nsecret = \"{secret}\"\n"))
}

#[test]
fn guessable_secrets_are_rejected_off_loopback_only() {
    for (secret, message) in [
        ("   ", "is white space only"),
        ("a-key", "is the app's key or id, which is public"),
        ("Your-App-Secret", "is a published placeholder"),
        ("app-secret", "is a published placeholder"),
    ] {
        let expected = format!(
            "config.toml:4: apps[0].secret: {message}: choose another, or listen on 127.0.0.1"
        );
        assert_eq!(with_secret(secret).error(), expected);
        let local = with_secret(secret).env("CAMPANILE_SERVER__HOST", "127.0.0.1");
        let warnings = local.loaded().warnings;
        let is_warned = warnings.iter().any(|warning| warning.contains("can use it"));
        // The development app has its own rules.
        assert_eq!(is_warned, secret != "app-secret", "{secret} {warnings:?}");
    }
    let second = with_app()
        .env("CAMPANILE_APPS__1__ID", "2")
        .env("CAMPANILE_APPS__1__KEY", "k2")
        .env("CAMPANILE_APPS__1__SECRET", "changeme");
    assert!(second.error().starts_with("environment CAMPANILE_APPS__1__SECRET: apps[1].secret: "));
}

#[test]
fn a_short_secret_is_warned_about_and_works() {
    let loaded = with_secret("8f3a92bd01c4e7f").loaded();
    let warning = "config.toml:4: apps[0].secret is shorter than 16 characters and can be found by brute force";
    assert_eq!(loaded.warnings, [warning]);
    assert_eq!(loaded.config.apps[0].secret.expose(), "8f3a92bd01c4e7f");
    assert_eq!(with_secret("8f3a92bd01c4e7f6").loaded().warnings, [""; 0]);
    let local = with_secret("s").env("CAMPANILE_SERVER__HOST", "localhost").loaded();
    assert_eq!(local.warnings, [""; 0]);
}

#[test]
fn white_space_at_the_ends_of_a_secret_is_noted_without_the_secret() {
    for (secret, ends) in [
        (" 8f3a92bd01c4e7f6", "begins"),
        ("8f3a92bd01c4e7f6 ", "ends"),
        (" 8f3a92bd01c4e7f6\u{a0}", "begins and ends"),
    ] {
        let loaded = with_secret(secret).loaded();
        let warning = format!(
            "config.toml:4: apps[0].secret {ends} with white space, which is part of the secret"
        );
        assert_eq!(loaded.warnings, [warning]);
        assert_eq!(loaded.config.apps[0].secret.expose(), secret);
    }
}

#[test]
fn a_value_is_masked_if_its_setting_is_declared_secret() {
    let mut config = Config::default();
    config.redis.url = "redis://:hunter2@a".parse().unwrap();
    config.apps_from.url = Secret::new("hunter2");
    config.metrics.token = Secret::new("hunter2");
    config.console.password = Secret::new("hunter2");
    config.apps[0].secret = Secret::new("hunter2");
    config.apps[0].console_password = Secret::new("hunter2");
    config.apps[0].webhooks = vec![WebhookConfig {
        url: "http://a/hunter2".to_owned(),
        headers: [("A".to_owned(), Secret::new("hunter2"))].into(),
        ..WebhookConfig::default()
    }];
    config.apps[0].history = vec![HistoryConfig::default()];
    for (key, value) in flatten(&config) {
        let is_secret = setting(&key.schema_path()).unwrap().is_secret;
        let shown = value.to_string();
        assert_eq!(shown.contains("***"), is_secret, "{key} = {shown}");
        assert!(!shown.contains("hunter2"), "{key} = {shown}");
    }
}
