//! The rules for webhooks, and soketi's variables for them.

use super::{
    WebhookConfig,
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    value_source::ValueSource,
    variables::Variables,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Value;

/// How long events wait for others.
pub(super) const BATCH_MS: &str = "webhooks.batch_ms";
/// soketi's switch for the value of [`BATCH_MS`].
pub(super) const BATCHING: &str = "SOKETI_WEBHOOKS_BATCHING";
const BATCHING_DURATION: &str = "SOKETI_WEBHOOKS_BATCHING_DURATION";
const WEBHOOKS: &str = "SOKETI_DEFAULT_APP_WEBHOOKS";

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
