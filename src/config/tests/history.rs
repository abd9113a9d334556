//! The channels whose events are kept.

use super::Setup;
use crate::config::HistoryReplay;

const APP: &str = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"s\"\n[[apps.history]]\n";

fn file(history: &str) -> Setup {
    Setup::default().file(&format!("{APP}{history}"))
}

#[test]
fn each_history_has_a_prefix_of_its_own() {
    for (history, expected) in [
        ("", "config.toml:5: apps[0].history[0].prefix: is required"),
        ("prefix = \"\"", "config.toml:6: apps[0].history[0].prefix: must not be empty"),
        (
            "prefix = \"a\"\n[[apps.history]]\nprefix = \"a\"",
            "config.toml:8: apps[0].history[1].prefix: must be unique among the history of the app",
        ),
        (
            "prefix = \"a\"\nreplay = \"last\"",
            "config.toml:7: apps[0].history[0].replay: must be one of first, never",
        ),
        (
            "prefx = 1",
            "config.toml:6: apps[0].history[0].prefx: unknown key; did you mean `prefix`?",
        ),
    ] {
        assert_eq!(file(history).error(), expected, "{history}");
    }
}

#[test]
fn a_history_is_read_with_its_limits() {
    let text = "prefix = \"a\"\nseconds = 7\nevents = 8\nreplay = \"first\"\n[[apps.history]]\nprefix = \"ab\"";
    let loaded = file(text).loaded();
    let [a, ab] = loaded.config.apps[0].history.as_slice() else { panic!("two") };
    assert_eq!((a.seconds, a.events, a.replay), (7, 8, HistoryReplay::First));
    assert_eq!((ab.seconds, ab.events, ab.replay), (60, 100, HistoryReplay::Never));
}
