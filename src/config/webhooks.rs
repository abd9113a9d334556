//! The rules for webhooks, and soketi's variables for them.

use super::{
    WebhookConfig,
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    kind::ValueKind,
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

/// The members of a webhook of soketi. `lambda` belongs to `lambda_function`.
const MEMBERS: [&str; 6] = ["url", "headers", "event_types", "filter", "lambda_function", "lambda"];
const STARTS: &str = "channel_name_starts_with";
const ENDS: &str = "channel_name_ends_with";
const OBJECT: &str = "must be an object";

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

/// Writes the webhooks of soketi's variables into `draft`. soketi sends events one by one unless
/// batching is on.
pub(super) fn read_soketi(
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let batch = Key::new(BATCH_MS);
    let is_batching = is_true(BATCHING, variables)?;
    if is_batching {
        let set = variables.set(BATCHING_DURATION);
        let origin = variables.origin(if set.is_some() { BATCHING_DURATION } else { BATCHING });
        let value = super::convert::integer(set.unwrap_or("50"));
        let value = value.map_err(|rule| ConfigError::key(&origin, &batch, rule))?;
        draft.set(batch.clone(), value, origin);
    }
    let Some(text) = variables.set(WEBHOOKS) else { return Ok(()) };
    let origin = variables.origin(WEBHOOKS);
    let list = Key::new(variables.of_its_app("apps[0].webhooks"));
    let webhooks: Vec<Json> = serde_json::from_str(text).map_err(|error| {
        // The position, not the text: it may contain a token. It is not one in a file.
        let place = if matches!(origin, ValueSource::FileOption { .. }) {
            String::new()
        } else {
            format!("; see line {} column {}", error.line(), error.column())
        };
        ConfigError::key(&origin, &list, format!("must be a JSON list of webhooks{place}"))
    })?;
    if !is_batching && !webhooks.is_empty() {
        draft.set(batch, Value::Integer(0), origin.clone());
    }
    all(webhooks.iter().enumerate().map(|(index, webhook)| {
        let origin = origin.part(&format!("[{index}]"));
        SoketiWebhook { key: list.item(index), origin }.read(webhook, draft, notes)
    }))
}

/// A webhook in soketi's format.
struct SoketiWebhook {
    key: Key,
    origin: ValueSource,
}

impl SoketiWebhook {
    fn read(
        &self,
        webhook: &Json,
        draft: &mut Draft,
        notes: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let Self { key, origin } = self;
        let members = webhook.as_object().ok_or_else(|| self.error("", OBJECT))?;
        let no_filter = Map::new();
        let filter = match members.get("filter") {
            None | Some(Json::Null) => &no_filter,
            Some(filter) => filter.as_object().ok_or_else(|| self.error("filter", OBJECT))?,
        };
        self.note_unknown(members, &MEMBERS, notes);
        self.note_unknown(filter, &[STARTS, ENDS], notes);
        let url = self.text(members, "url")?;
        if !self.text(members, "lambda_function")?.is_empty() {
            if url.is_empty() {
                let rule = "must have a url: AWS Lambda is not supported";
                return Err(ConfigError::key(origin, key, rule));
            }
            notes.push(format!("{origin}: lambda_function has no effect beside url"));
        }
        for (name, of_soketi, value) in [
            ("url", "url", Value::String(url)),
            ("events", "event_types", self.texts(members, "event_types")?),
            ("channel_prefix", "filter", Value::String(self.text(filter, STARTS)?)),
            ("channel_suffix", "filter", Value::String(self.text(filter, ENDS)?)),
            ("headers", "headers", self.headers(members)?),
        ] {
            draft.set(key.child(name), value, origin.part(of_soketi));
        }
        Ok(())
    }

    /// The error that the member `name`, or the webhook if it is empty, breaks `rule`.
    fn error(&self, name: &str, rule: &str) -> ConfigError {
        let Self { key, origin } = self;
        if name.is_empty() {
            ConfigError::key(origin, key, rule)
        } else {
            ConfigError::key(&origin.part(name), key.child(name), rule)
        }
    }

    fn text(&self, members: &Map<String, Json>, name: &str) -> Result<String, ConfigError> {
        match members.get(name) {
            None | Some(Json::Null) => Ok(String::new()),
            Some(Json::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.error(name, "must be a string")),
        }
    }

    fn texts(&self, members: &Map<String, Json>, name: &str) -> Result<Value, ConfigError> {
        let items = match members.get(name) {
            None | Some(Json::Null) => Some(Vec::new()),
            Some(items) => items.as_array().and_then(|items| {
                items.iter().map(|item| Some(Value::String(item.as_str()?.to_owned()))).collect()
            }),
        };
        items.map(Value::Array).ok_or_else(|| self.error(name, ValueKind::List.rule()))
    }

    fn headers(&self, members: &Map<String, Json>) -> Result<Value, ConfigError> {
        let headers = match members.get("headers") {
            None | Some(Json::Null) => Some(Table::new()),
            Some(headers) => headers.as_object().and_then(|headers| {
                headers.iter().map(|(name, value)| Some((name.clone(), header(value)?))).collect()
            }),
        };
        let rule = "must be an object of strings";
        headers.map(Value::Table).ok_or_else(|| self.error("headers", rule))
    }

    /// Notes the members that soketi does not have, which it ignores too.
    fn note_unknown(&self, members: &Map<String, Json>, known: &[&str], notes: &mut Vec<String>) {
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let why = unknown("option of a webhook", name, known.iter().copied());
            notes.push(format!("{}: {name} has no effect: {why}", self.origin));
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
