//! Which layer takes precedence, and the sources that `campanile check` reports.

use super::{Directory, Setup, source, with_app};
use crate::config::{LogLevel, Secret, Sources, WebhookConfig, load};
use std::fs;
use toml::Table;

#[test]
fn later_layers_win() {
    let file = "[server]\nport = 1";
    let dotenv = "REVERB_SERVER_PORT=3\nCAMPANILE_SERVER__PORT=4";
    let mut setup = Setup::default().file(file);
    assert_port(setup, 1, "config.toml:2");
    setup = Setup::default().file(file).env("SOKETI_PORT", "2");
    assert_port(setup, 2, "environment SOKETI_PORT");
    setup = Setup::default().file(file).env("SOKETI_PORT", "2").dotenv("REVERB_SERVER_PORT=3");
    assert_port(setup, 3, "environment REVERB_SERVER_PORT (.env)");
    setup = Setup::default().file(file).env("REVERB_SERVER_PORT", "5").dotenv(dotenv);
    assert_port(setup, 4, "environment CAMPANILE_SERVER__PORT (.env)");
    setup = Setup::default().env("CAMPANILE_SERVER__PORT", "6").dotenv(dotenv);
    assert_port(setup, 6, "environment CAMPANILE_SERVER__PORT");
    setup = Setup::default().env("CAMPANILE_SERVER__PORT", "6");
    setup.sources.flags.port = Some(7);
    assert_port(setup, 7, "flag --port");
    assert_port(Setup::default(), 8080, "default");
}

fn assert_port(setup: Setup, port: u16, from: &str) {
    let loaded = setup.loaded();
    assert_eq!(
        (loaded.config.server.port, source(&loaded, "[server]", "port")),
        (port, from.to_owned())
    );
}

#[test]
fn flags_set_their_keys() {
    let mut setup = with_app();
    setup.sources.flags.host = Some("example.com".to_owned());
    setup.sources.flags.path = Some("/ws/".to_owned());
    setup.sources.flags.hostname = Some("app.test".to_owned());
    setup.sources.flags.debug = true;
    let loaded = setup.loaded();
    assert_eq!(loaded.config.server.host, "example.com");
    assert_eq!(loaded.config.server.path, "/ws");
    assert_eq!(loaded.config.log.level, LogLevel::Debug);
    assert_eq!(source(&loaded, "[log]", "level"), "flag --debug");
    assert_eq!(loaded.warnings, ["flag --hostname has no effect: set server.tls"]);
}

#[test]
fn the_effective_configuration_is_toml() {
    let loaded = with_app()
        .env("CAMPANILE_APPS__1__ID", "quote\"and\\slash")
        .env("CAMPANILE_APPS__1__KEY", "other")
        .env("CAMPANILE_APPS__1__SECRET", "#hash")
        .env("CAMPANILE_METRICS__TOKEN", "letmein")
        .env("CAMPANILE_SERVER__TRUSTED_PROXIES", "10.0.0.1, fd00::/8")
        .loaded();
    let table: Table = loaded.effective_toml().parse().unwrap();
    assert_eq!(table["apps"][1]["id"].as_str(), Some("quote\"and\\slash"));
    assert_eq!(table["apps"][0]["secret"].as_str(), Some("***"));
    assert_eq!(table["redis"]["url"].as_str(), Some(""));
    assert_eq!(table["server"]["trusted_proxies"][0].as_str(), Some("10.0.0.1/32"));
    assert_eq!(table["server"]["tls"]["cert"].as_str(), Some(""));
    assert!(
        loaded.effective_toml().starts_with("[server]\nhost = \"0.0.0.0\"  # default\nport = 8080")
    );
}

#[test]
fn every_line_of_the_effective_configuration_has_its_origin() {
    let toml = Setup::default().loaded().effective_toml();
    let values: Vec<_> = toml.lines().filter(|line| line.contains(" = ")).collect();
    assert_eq!(values.len(), 80);
    assert!(values.iter().all(|line| line.contains("  # default")), "{toml}");
}

#[test]
fn no_secret_is_shown() {
    let setup = with_app()
        .env("CAMPANILE_APPS__0__SECRET", "hunter2")
        .env("CAMPANILE_METRICS__TOKEN", "hunter2");
    let sources = format!("{:?}", setup.sources);
    assert!(sources.contains("CAMPANILE_METRICS__TOKEN"), "{sources}");
    assert!(!sources.contains("hunter2"), "{sources}");
    let mut loaded = setup.loaded();
    let origins = format!("{loaded:?}");
    assert!(origins.contains(r#"variable: "CAMPANILE_METRICS__TOKEN""#), "{origins}");
    loaded.config.redis.url = "redis://hunter2:hunter2@a".parse().unwrap();
    loaded.config.console.password = Secret::new("hunter2");
    let headers = [("Authorization".to_owned(), Secret::new("hunter2"))].into();
    loaded.config.apps[0].webhooks = vec![WebhookConfig { headers, ..WebhookConfig::default() }];
    let toml = loaded.effective_toml();
    assert!(toml.parse::<Table>().is_ok(), "{toml}");
    assert!(toml.contains("[[apps.webhooks]]"), "{toml}");
    for shown in [toml, format!("{:?}", loaded.config), format!("{loaded:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn named_files_are_read_from_where_they_are() {
    let dir = Directory::new();
    let (file, env_file) = (dir.0.join("other.toml"), dir.0.join("other.env"));
    fs::write(&file, "[server]\nport = 1").unwrap();
    fs::write(&env_file, "REVERB_SERVER_PATH=/x").unwrap();
    let sources = Sources {
        file: Some(file.clone()),
        env_file: Some(env_file.clone()),
        ..Sources::default()
    };
    let loaded = load(&sources).unwrap();
    assert_eq!(source(&loaded, "[server]", "port"), format!("{}:2", file.display()));
    let expected = format!("environment REVERB_SERVER_PATH ({})", env_file.display());
    assert_eq!(source(&loaded, "[server]", "path"), expected);
    assert_eq!(loaded.files.paths().collect::<Vec<_>>(), [file, env_file]);
}

#[test]
fn apps_of_the_file_take_values_from_the_environment() {
    let file =
        "[[apps]]\nid = \"1\"\nkey = \"a\"\n[[apps]]\nid = \"2\"\nkey = \"b\"\nsecret = \"s2\"";
    let loaded = Setup::default().file(file).env("CAMPANILE_APPS__0__SECRET", "s1").loaded();
    let secrets: Vec<_> = loaded.config.apps.iter().map(|app| app.secret.expose()).collect();
    assert_eq!(secrets, ["s1", "s2"]);
    assert_eq!(source(&loaded, "[[apps]]", "id"), "config.toml:2");
    assert_eq!(source(&loaded, "[[apps]]", "secret"), "environment CAMPANILE_APPS__0__SECRET");
}
