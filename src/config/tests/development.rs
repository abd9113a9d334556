//! The development app, and its restriction to loopback.

use super::{Setup, source, with_app};
use crate::config::Config;

const REJECTED: &str = "server.host: must be a loopback address, because the development app has a well-known secret; \
    configure an app of your own";

#[test]
fn nothing_configured_is_the_development_app_on_loopback() {
    let loaded = Setup::default().loaded();
    let mut expected = Config::default();
    expected.server.host = "127.0.0.1".to_owned();
    assert!(loaded.is_development());
    assert_eq!(loaded.config, expected);
    assert_eq!(
        source(&loaded, "[server]", "host"),
        "default, but loopback for the development app"
    );
}

#[test]
fn an_any_address_in_the_file_becomes_loopback() {
    let loaded = Setup::default().file("[server]\nhost = \"0.0.0.0\"").loaded();
    assert_eq!(loaded.config.server.host, "127.0.0.1");
    assert_eq!(
        source(&loaded, "[server]", "host"),
        "config.toml:2, but loopback for the development app"
    );
}

#[test]
fn a_chosen_address_is_rejected() {
    let file = Setup::default().file("[server]\nhost = \"192.168.1.7\"");
    assert_eq!(file.error(), format!("config.toml:2: {REJECTED}"));
    let env = Setup::default().env("CAMPANILE_SERVER__HOST", "0.0.0.0");
    assert_eq!(env.error(), format!("environment CAMPANILE_SERVER__HOST: {REJECTED}"));
    let mut flag = Setup::default();
    flag.sources.flags.host = Some("0.0.0.0".to_owned());
    assert_eq!(flag.error(), format!("flag --host: {REJECTED}"));
}

#[test]
fn a_chosen_loopback_stays() {
    for host in ["localhost", "127.0.0.2", "::1", "[::1]"] {
        let loaded = Setup::default().env("CAMPANILE_SERVER__HOST", host).loaded();
        assert_eq!(loaded.config.server.host, host.trim_matches(['[', ']']));
        assert_eq!(source(&loaded, "[server]", "host"), "environment CAMPANILE_SERVER__HOST");
    }
}

#[test]
fn an_app_of_its_own_replaces_the_development_app() {
    let loaded = with_app().loaded();
    assert!(!loaded.is_development());
    assert_eq!(loaded.config.apps.len(), 1);
    assert_eq!(loaded.config.apps[0].key, "my-key");
    assert_eq!(loaded.config.server.host, "0.0.0.0");
}

#[test]
fn limits_without_an_app_apply_to_the_development_app() {
    let loaded = Setup::default().env("SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "0").loaded();
    assert!(loaded.is_development());
    assert_eq!(loaded.config.server.host, "127.0.0.1");
}

#[test]
fn a_published_secret_is_rejected_except_on_loopback() {
    let setup = || with_app().env("CAMPANILE_APPS__0__SECRET", "app-secret");
    assert_eq!(
        setup().error(),
        "environment CAMPANILE_APPS__0__SECRET: apps[0].secret: is a published placeholder: \
         choose another, or listen on 127.0.0.1"
    );
    let loaded = setup().env("CAMPANILE_SERVER__HOST", "localhost").loaded();
    assert!(!loaded.is_development());
}

#[test]
fn a_published_secret_is_reported_with_its_consequence() {
    // The same values as in Laravel Sail's soketi container.
    let variables = [("ID", "app-id"), ("KEY", "app-key"), ("SECRET", "app-secret")];
    let setup = variables.iter().fold(Setup::default(), |setup, (name, value)| {
        setup.env(&format!("SOKETI_DEFAULT_APP_{name}"), value)
    });
    let loaded = setup.loaded();
    assert_eq!(loaded.config.server.host, "127.0.0.1");
    let text = "environment SOKETI_DEFAULT_APP_SECRET: apps[0].secret is the public secret of the development app: the server listens on 127.0.0.1 instead of 0.0.0.0. Set a secret of your own";
    assert_eq!(loaded.warnings, [text]);
    assert_eq!(Setup::default().loaded().warnings, [""; 0], "no app was configured");
}
