//! The rules for webhooks, and soketi's variables for them.

use super::{
    WebhookConfig,
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    value_source::ValueSource,
    variables::Variables,
};
use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use serde::Deserialize;
use std::{collections::BTreeMap, str::FromStr};
use toml::{Table, Value};

/// How long events wait for others.
pub(super) const BATCH_MS: &str = "webhooks.batch_ms";
/// soketi's switch for the value of [`BATCH_MS`].
pub(super) const BATCHING: &str = "SOKETI_WEBHOOKS_BATCHING";
const BATCHING_DURATION: &str = "SOKETI_WEBHOOKS_BATCHING_DURATION";
const WEBHOOKS: &str = "SOKETI_DEFAULT_APP_WEBHOOKS";

/// Headers that the protocol or HTTP itself sets.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-pusher-key",
    "x-pusher-signature",
];

const NAME_LEN_MAX: usize = 64;

/// Checks that a URL can be posted to.
pub(super) fn url(text: &str) -> Result<String, &'static str> {
    const RULE: &str = "must be http:// or https:// with a host";
    let url = Uri::from_str(text).map_err(|_| RULE)?;
    let has_scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let authority = url.authority().filter(|_| has_scheme).ok_or(RULE)?;
    if authority.as_str().contains('@') {
        return Err("must not hold a name and password: send them as a header");
    }
    if text.contains('#') {
        return Err("must not contain `#`");
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let port_fits = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.parse().is_ok_and(|port: u16| port > 0));
    if authority.host().is_empty() || !port_fits { Err(RULE) } else { Ok(text.to_owned()) }
}

/// Checks the name of a webhook.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    if NAME_LEN_MAX < text.chars().count() || text.contains(char::is_whitespace) {
        return Err("must be at most 64 characters without white space");
    }
    Ok(text.to_owned())
}

/// Checks additional headers. A rule never shows a value, which may be a token.
pub(super) fn headers(table: &Table) -> Result<(), String> {
    for (name, value) in table {
        let known = HeaderName::from_str(name)
            .map_err(|_| format!("`{name}` must be the name of a header"))?;
        if RESERVED.contains(&known.as_str()) {
            return Err(format!("`{name}` is set by the server"));
        }
        if value.as_str().is_none_or(|value| HeaderValue::from_str(value).is_err()) {
            return Err(format!("`{name}` must have the value of a header, on one line"));
        }
    }
    Ok(())
}

/// Checks that each webhook has a URL and events.
pub(super) fn are_complete(
    draft: &Draft,
    list: &Key,
    webhooks: &[WebhookConfig],
) -> Result<(), ConfigError> {
    all(webhooks.iter().enumerate().map(|(index, webhook)| {
        let section = list.item(index);
        let missing = |name: &str, rule: &str| {
            let key = section.child(name);
            let written = draft.setting(&key).map(|setting| &setting.origin);
            let origin = written.or_else(|| draft.origin_within(&section));
            Err(ConfigError::key(origin.unwrap_or(&ValueSource::Default), key, rule))
        };
        if webhook.url.is_empty() {
            return missing("url", "is required");
        }
        if webhook.events.is_empty() {
            return missing("events", "must name at least one event");
        }
        let mut before = webhooks[..index].iter();
        if !webhook.name.is_empty() && before.any(|other| other.name == webhook.name) {
            return missing("name", "must be unique among the webhooks of the app");
        }
        Ok(())
    }))
}

/// A webhook in soketi's format. Unknown members are ignored, as in soketi.
#[derive(Deserialize)]
struct SoketiWebhook {
    url: Option<String>,
    lambda_function: Option<String>,
    #[serde(default)]
    event_types: Vec<String>,
    #[serde(default)]
    filter: SoketiFilter,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SoketiFilter {
    channel_name_starts_with: Option<String>,
    channel_name_ends_with: Option<String>,
}

/// Writes the webhooks of soketi's variables into `draft`. soketi sends events one by one unless
/// `is_batching`.
pub(super) fn read_soketi(
    variables: &Variables,
    is_batching: bool,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    let batch = Key::new(BATCH_MS);
    if is_batching {
        let set = variables.set(BATCHING_DURATION);
        let origin = variables.origin(if set.is_some() { BATCHING_DURATION } else { BATCHING });
        let value = super::convert::integer(set.unwrap_or("50"));
        let value = value.map_err(|rule| ConfigError::key(&origin, &batch, rule))?;
        draft.set(batch.clone(), value, origin);
    }
    let Some(text) = variables.set(WEBHOOKS) else { return Ok(()) };
    let origin = variables.origin(WEBHOOKS);
    let list = Key::new("apps[0].webhooks");
    let webhooks: Vec<SoketiWebhook> = serde_json::from_str(text).map_err(|error| {
        // The position, not the text: it may contain a token.
        let place = format!("line {} column {}", error.line(), error.column());
        ConfigError::key(&origin, &list, format!("must be a JSON list of webhooks; see {place}"))
    })?;
    if !is_batching && !webhooks.is_empty() {
        draft.set(batch, Value::Integer(0), origin.clone());
    }
    for (index, webhook) in webhooks.into_iter().enumerate() {
        let section = list.item(index);
        if webhook.lambda_function.is_some() {
            let rule = "must have a url: AWS Lambda is not supported";
            return Err(ConfigError::key(&origin, section, rule));
        }
        let SoketiFilter { channel_name_starts_with, channel_name_ends_with } = webhook.filter;
        let texts = |items: Vec<String>| items.into_iter().map(Value::String).collect();
        let headers = webhook.headers.into_iter().map(|(name, value)| (name, Value::String(value)));
        for (name, value) in [
            ("url", Value::String(webhook.url.unwrap_or_default())),
            ("events", Value::Array(texts(webhook.event_types))),
            ("channel_prefix", Value::String(channel_name_starts_with.unwrap_or_default())),
            ("channel_suffix", Value::String(channel_name_ends_with.unwrap_or_default())),
            ("headers", Value::Table(headers.collect())),
        ] {
            draft.set(section.child(name), value, origin.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_posted_to_are_accepted() {
        for fine in [
            "http://a",
            "https://app.example.com:8443/hooks?token=1",
            "http://[::1]:3000/x",
            "HTTPS://A.test/",
        ] {
            assert_eq!(url(fine).as_deref(), Ok(fine));
        }
        for wrong in [
            "",
            "a",
            "/a",
            "a.test:80",
            "ftp://a",
            "http://",
            "http:///x",
            "http://a b",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "http://é",
        ] {
            assert_eq!(url(wrong), Err("must be http:// or https:// with a host"), "{wrong}");
        }
        assert!(url("http://user:hunter2@a").is_err_and(|rule| rule.contains("as a header")));
        assert_eq!(url("http://a/#x"), Err("must not contain `#`"));
    }

    #[test]
    fn headers_are_added_but_do_not_replace_those_of_the_protocol() {
        let check = |name: &str, value: &str| {
            headers(&Table::from_iter([(name.to_owned(), Value::String(value.to_owned()))]))
        };
        assert_eq!(check("Authorization", "Bearer x"), Ok(()));
        for ours in RESERVED {
            let ours = ours.to_ascii_uppercase();
            assert_eq!(check(&ours, "x"), Err(format!("`{ours}` is set by the server")));
        }
        assert_eq!(check("a b", "x"), Err("`a b` must be the name of a header".to_owned()));
        let split = check("X-A", "hunter2\r\nX-Pusher-Key: k").unwrap_err();
        assert!(!split.contains("hunter2"), "{split}");
    }
}
