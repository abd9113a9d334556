//! Webhooks, in the file and in soketi's variables.

use super::{Setup, with_app};
use crate::config::{Config, WebhookEvent};

const APP: &str = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"s\"\n[[apps.webhooks]]\n";

fn file(webhook: &str) -> Setup {
    Setup::default().file(&format!("{APP}{webhook}"))
}

#[test]
fn a_webhook_needs_a_url_and_events() {
    for (webhook, expected) in [
        ("", "config.toml:5: apps[0].webhooks[0].url: is required"),
        (
            "url = \"http://a\"",
            "config.toml:5: apps[0].webhooks[0].events: must name at least one event",
        ),
        (
            "url = \"http://a\"\nevents = []",
            "config.toml:7: apps[0].webhooks[0].events: must name at least one event",
        ),
        (
            "url = \"a.test\"",
            "config.toml:6: apps[0].webhooks[0].url: must be http:// or https:// with a host",
        ),
        (
            "headers = { Host = \"hunter2\" }",
            "config.toml:6: apps[0].webhooks[0].headers: `Host` is set by the server",
        ),
        (
            "name = \"a b\"",
            "config.toml:6: apps[0].webhooks[0].name: must be at most 64 characters without white space",
        ),
        (
            "url = \"http://a\"\nevents = [\"cache_miss\"]\nname = \"a\"\n[[apps.webhooks]]\nurl = \"http://b\"\nevents = [\"cache_miss\"]\nname = \"a\"",
            "config.toml:12: apps[0].webhooks[1].name: must be unique among the webhooks of the app",
        ),
        ("urls = 1", "config.toml:6: apps[0].webhooks[0].urls: unknown key; did you mean `url`?"),
    ] {
        assert_eq!(file(webhook).error(), expected, "{webhook}");
    }
    let error = file("url = \"http://a\"\nevents = [\"channel_ocupied\"]").error();
    let expected = "config.toml:7: apps[0].webhooks[0].events: `channel_ocupied` must be one of channel_occupied, ";
    assert!(error.starts_with(expected), "{error}");
    let gap = with_app().env("CAMPANILE_APPS__0__WEBHOOKS__1__URL", "http://a").error();
    assert!(gap.ends_with("must follow apps[0].webhooks[0], which is missing"), "{gap}");
}

#[test]
fn the_headers_of_a_webhook_and_the_path_of_its_url_are_redacted() {
    let webhook = "url = \"http://a/hunter2?b=hunter2\"\nevents = [\"cache_miss\"]\nheaders = { Authorization = \"hunter2\" }";
    let loaded = file(webhook).loaded();
    let headers = &loaded.config.apps[0].webhooks[0].headers;
    assert_eq!(headers["Authorization"].expose(), "hunter2");
    let shown = format!("{:?}{}{loaded:?}", loaded.config, loaded.effective_toml());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("url = \"http://a/***\""), "{shown}");
    assert!(shown.contains("headers = { Authorization = \"***\" }"), "{shown}");
}

fn of_soketi(webhooks: &str) -> Setup {
    with_app().env("SOKETI_DEFAULT_APP_WEBHOOKS", webhooks)
}

const SOKETI: &str = r#"[{
    "url": "https://a.test/hooks",
    "event_types": ["client_event", "cache_miss"],
    "filter": {"channel_name_starts_with": "private-", "channel_name_ends_with": "-log"},
    "headers": {"X-Token": "hunter2"}
}]"#;

#[test]
fn the_webhooks_of_soketi_are_those_of_the_first_app() {
    let Config { apps, webhooks, .. } = of_soketi(SOKETI).loaded().config;
    let [webhook] = apps[0].webhooks.as_slice() else { panic!("{apps:?}") };
    assert_eq!(webhook.url, "https://a.test/hooks");
    assert_eq!(webhook.events, [WebhookEvent::ClientEvent, WebhookEvent::CacheMiss]);
    assert_eq!(
        (webhook.channel_prefix.as_str(), webhook.channel_suffix.as_str()),
        ("private-", "-log")
    );
    assert_eq!(webhook.headers["X-Token"].expose(), "hunter2");
    assert_eq!(webhooks.batch_ms, 0, "soketi does not batch events by default");
}

#[test]
fn soketis_batching_variables_set_batch_ms() {
    let batch_ms = |setup: Setup| setup.loaded().config.webhooks.batch_ms;
    let batching = || of_soketi(SOKETI).env("SOKETI_WEBHOOKS_BATCHING", "true");
    assert_eq!(batch_ms(batching()), 50);
    assert_eq!(batch_ms(batching().env("SOKETI_WEBHOOKS_BATCHING_DURATION", "20")), 20);
    assert_eq!(batch_ms(of_soketi("[]")), 50);
    let own = of_soketi(SOKETI).env("CAMPANILE_WEBHOOKS__BATCH_MS", "7");
    assert_eq!(batch_ms(own), 7);
}

#[test]
fn invalid_and_unsupported_soketi_webhooks_are_rejected() {
    for (webhooks, expected) in [
        (
            "[{\"lambda_function\":\"f\"}]",
            "apps[0].webhooks[0]: must have a url: AWS Lambda is not supported",
        ),
        (
            "[{\"event_types\":[\"cache_miss\"]}]",
            "apps[0].webhooks[0].url: must be http:// or https:// with a host",
        ),
        ("[{\"url\":\"http://a\"}]", "apps[0].webhooks[0].events: must name at least one event"),
        ("hunter2", "apps[0].webhooks: must be a JSON list of webhooks; see line 1 column 1"),
    ] {
        let expected = format!("environment SOKETI_DEFAULT_APP_WEBHOOKS: {expected}");
        assert_eq!(of_soketi(webhooks).error(), expected);
    }
}
