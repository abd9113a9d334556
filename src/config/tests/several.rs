//! Several errors at once: all are reported, except those that are caused by another.

use super::{Setup, with_app};

fn errors(setup: Setup) -> Vec<String> {
    setup.error().split(" | ").map(str::to_owned).collect()
}

#[test]
fn faults_of_all_layers_are_reported_in_order() {
    let setup = Setup::default()
        .file("[server]\nprot = 1\nport = 70000\n[connection]\npong_timeout_s = \"x\"\n")
        .dotenv("SOKETI_PORT=x\nREVERB_SERVER_PORT=y\nREVERB_SCALING_ENABLED=maybe")
        .env("CAMPANILE_LOG__LEVEL", "loud")
        .env("CAMPANILE_SERVER__PRT", "1");
    let reported = errors(setup);
    for place in [
        "config.toml:2: server.prot: unknown key",
        "config.toml:3: server.port: must be from 0 to 65535",
        "config.toml:5: connection.pong_timeout_s: must be an integer",
        "environment SOKETI_PORT (.env)",
        "environment REVERB_SCALING_ENABLED (.env)",
        "environment CAMPANILE_LOG__LEVEL: log.level: must be one of",
        "environment CAMPANILE_SERVER__PRT: unknown variable",
    ] {
        assert!(reported.iter().any(|issue| issue.starts_with(place)), "{place} in {reported:?}");
    }
    let lines: Vec<_> = reported.iter().filter(|issue| issue.starts_with("config.toml:")).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn consequential_faults_are_not_reported() {
    // The app has a secret under a misspelled name, and in a file that can't be read, which may
    // contain Redis settings too.
    let file = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecrte = \"x\"";
    assert_eq!(
        errors(Setup::default().file(file)),
        ["config.toml:4: apps[0].secrte: unknown key; did you mean `secret`?"]
    );
    let broken = Setup::default()
        .file("[[apps]\n")
        .env("CAMPANILE_APPS__1__SECRET", "s")
        .env("SOKETI_QUEUE_DRIVER", "redis");
    let reported = errors(broken);
    assert!(
        matches!(reported.as_slice(), [one] if one.starts_with("config.toml:1: ")),
        "{reported:?}"
    );
}

#[test]
fn all_violated_relations_are_reported() {
    let file = "[server]\ntls.cert = \"x\"\n[[apps]]\nid=\"1\"\nkey=\"k\"\nsecret=\"s\"\n\
                [[apps]]\nid=\"1\"\nkey=\"k\"\nsecret=\"s\"\nmax_event_bytes = 10_000_000\n";
    let reported = errors(Setup::default().file(file));
    for place in ["config.toml:2: server.tls.cert", "config.toml:11: apps[1].max_event_bytes"] {
        assert!(reported.iter().any(|issue| issue.starts_with(place)), "{place} in {reported:?}");
    }
    for message in ["apps[1].id: must differ from apps[0].id", "apps[1].key: must differ"] {
        assert!(reported.iter().any(|issue| issue.contains(message)), "{message} in {reported:?}");
    }
    assert!(with_app().load().is_ok());
}
