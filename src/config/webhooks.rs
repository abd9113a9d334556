//! Checks the webhooks of an app as a whole, and reads soketi's variables for them.

use super::{
    WebhookConfig,
    error::{ConfigError, collect_errors},
    key::KeyPath,
    kind::ValueKind,
    raw_config::RawConfig,
    schema::unknown,
    value_source::ValueSource,
    variables::{Variables, is_true},
};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

/// How long events wait for others.
pub(super) const BATCH_MS: &str = "webhooks.batch_ms";
/// soketi's switch for the value of [`BATCH_MS`].
const BATCHING: &str = "SOKETI_WEBHOOKS_BATCHING";
const BATCHING_DURATION: &str = "SOKETI_WEBHOOKS_BATCHING_DURATION";
const WEBHOOKS: &str = "SOKETI_DEFAULT_APP_WEBHOOKS";

/// The fields of a webhook of soketi. `lambda` belongs to `lambda_function`.
const FIELDS: [&str; 6] = ["url", "headers", "event_types", "filter", "lambda_function", "lambda"];
const STARTS: &str = "channel_name_starts_with";
const ENDS: &str = "channel_name_ends_with";
const EXPECTED_OBJECT: &str = "must be an object";

/// Checks that each webhook has a URL and events.
pub(super) fn check_webhooks(
    raw: &RawConfig,
    list: &KeyPath,
    webhooks: &[WebhookConfig],
) -> Result<(), ConfigError> {
    collect_errors(webhooks.iter().enumerate().map(|(index, webhook)| {
        let section = list.index(index);
        let missing = |name: &str, message: &str| {
            let key = section.child(name);
            let written = raw.get(&key).map(|setting| &setting.source);
            let source = written.or_else(|| raw.source_within(&section));
            Err(ConfigError::key(source.unwrap_or(&ValueSource::Default), key, message))
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

/// Writes the webhooks of soketi's variables into `raw`. soketi sends events one by one unless
/// batching is on.
pub(super) fn read_soketi(
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let batch = KeyPath::new(BATCH_MS);
    let is_batching = is_true(BATCHING, variables)?;
    if is_batching {
        let set = variables.non_empty(BATCHING_DURATION);
        let source = variables.source(if set.is_some() { BATCHING_DURATION } else { BATCHING });
        let value = super::convert::integer(set.unwrap_or("50"));
        let value = value.map_err(|message| ConfigError::key(&source, &batch, message))?;
        raw.set(batch.clone(), value, source);
    }
    let Some(text) = variables.non_empty(WEBHOOKS) else { return Ok(()) };
    let source = variables.source(WEBHOOKS);
    let list = KeyPath::new(variables.with_app_index("apps[0].webhooks"));
    let webhooks: Vec<Json> = serde_json::from_str(text).map_err(|error| {
        // The position, not the text: it may contain a token. The position in a soketi file is another.
        let place = if matches!(source, ValueSource::FileOption { .. }) {
            String::new()
        } else {
            format!("; see line {} column {}", error.line(), error.column())
        };
        ConfigError::key(&source, &list, format!("must be a JSON list of webhooks{place}"))
    })?;
    if !is_batching && !webhooks.is_empty() {
        raw.set(batch, Value::Integer(0), source.clone());
    }
    collect_errors(webhooks.iter().enumerate().map(|(index, webhook)| {
        let source = source.child(&format!("[{index}]"));
        SoketiWebhook { key: list.index(index), source }.read(webhook, raw, warnings)
    }))
}

/// A webhook in soketi's format.
struct SoketiWebhook {
    key: KeyPath,
    source: ValueSource,
}

impl SoketiWebhook {
    fn read(
        &self,
        webhook: &Json,
        raw: &mut RawConfig,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let Self { key, source } = self;
        let members = webhook.as_object().ok_or_else(|| self.error("", EXPECTED_OBJECT))?;
        let no_filter = Map::new();
        let filter = match members.get("filter") {
            None | Some(Json::Null) => &no_filter,
            Some(filter) => {
                filter.as_object().ok_or_else(|| self.error("filter", EXPECTED_OBJECT))?
            }
        };
        self.warn_unknown(members, &FIELDS, warnings);
        self.warn_unknown(filter, &[STARTS, ENDS], warnings);
        let url = self.text(members, "url")?;
        if !self.text(members, "lambda_function")?.is_empty() {
            if url.is_empty() {
                let message = "must have a url: AWS Lambda is not supported";
                return Err(ConfigError::key(source, key, message));
            }
            warnings.push(format!("{source}: lambda_function has no effect beside url"));
        }
        for (name, of_soketi, value) in [
            ("url", "url", Value::String(url)),
            ("events", "event_types", self.strings(members, "event_types")?),
            ("channel_prefix", "filter", Value::String(self.text(filter, STARTS)?)),
            ("channel_suffix", "filter", Value::String(self.text(filter, ENDS)?)),
            ("headers", "headers", self.headers(members)?),
        ] {
            raw.set(key.child(name), value, source.child(of_soketi));
        }
        Ok(())
    }

    /// An error in the field `name`, or in the webhook if `name` is empty.
    fn error(&self, name: &str, message: &str) -> ConfigError {
        let Self { key, source } = self;
        if name.is_empty() {
            ConfigError::key(source, key, message)
        } else {
            ConfigError::key(&source.child(name), key.child(name), message)
        }
    }

    fn text(&self, members: &Map<String, Json>, name: &str) -> Result<String, ConfigError> {
        match members.get(name) {
            None | Some(Json::Null) => Ok(String::new()),
            Some(Json::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.error(name, "must be a string")),
        }
    }

    fn strings(&self, members: &Map<String, Json>, name: &str) -> Result<Value, ConfigError> {
        let items = match members.get(name) {
            None | Some(Json::Null) => Some(Vec::new()),
            Some(items) => items.as_array().and_then(|items| {
                items.iter().map(|item| Some(Value::String(item.as_str()?.to_owned()))).collect()
            }),
        };
        items.map(Value::Array).ok_or_else(|| self.error(name, ValueKind::List.message()))
    }

    fn headers(&self, members: &Map<String, Json>) -> Result<Value, ConfigError> {
        let headers = match members.get("headers") {
            None | Some(Json::Null) => Some(Table::new()),
            Some(headers) => headers.as_object().and_then(|headers| {
                headers.iter().map(|(name, value)| Some((name.clone(), header(value)?))).collect()
            }),
        };
        let message = "must be an object of strings";
        headers.map(Value::Table).ok_or_else(|| self.error("headers", message))
    }

    /// Warns about fields that soketi does not have, which it ignores too.
    fn warn_unknown(
        &self,
        members: &Map<String, Json>,
        known: &[&str],
        warnings: &mut Vec<String>,
    ) {
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let why = unknown("option of a webhook", name, known.iter().copied());
            warnings.push(format!("{}: {name} has no effect: {why}", self.source));
        }
    }
}

/// The value of a header, which may be a number in JSON.
fn header(value: &Json) -> Option<Value> {
    match value {
        Json::String(text) => Some(Value::String(text.clone())),
        Json::Number(number) => Some(Value::String(number.to_string())),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}
