//! The relations between values: limits that depend on one another, names that must differ.

use super::{
    AppConfig, Config, ConnectionConfig, HistoryConfig, RedisConfig, ServerConfig,
    declare::Rule,
    error::{ConfigError, ErrorCollector, collect_errors},
    key::KeyPath,
    raw_config::RawConfig,
    schema::{self, flatten},
    value_source::ValueSource,
    webhooks,
};
use std::collections::BTreeMap;
use toml::Value;

const REQUEST: &str = "server.max_request_bytes";
const MESSAGE: &str = "connection.max_message_bytes";
const OUTBOX: &str = "connection.max_outbox_bytes";

fn app_key(index: usize, name: &str) -> KeyPath {
    KeyPath::new("apps").index(index).child(name)
}

/// Checks the relations between the values of `config`, whose sources are in `raw`.
pub(super) fn check(config: &Config, raw: &RawConfig) -> Result<(), ConfigError> {
    let Config { server, apps, redis, .. } = config;
    let mut errors = ErrorCollector::default();
    let values = flatten(config);
    for setting in schema::settings() {
        let upper = values.iter().find(|(key, _)| key.as_str() == setting.key);
        for pattern in setting.at_least {
            let lowers = values.iter().filter(|(key, _)| key.schema_path() == *pattern);
            errors.collect(collect_errors(lowers.map(|lower| at_least(raw, upper, lower))));
        }
    }
    errors.collect(check_tls_pair(raw, server));
    for (index, app) in apps.iter().enumerate() {
        errors.collect(check_tls_only(raw, server, app_key(index, "tls_only"), app.tls_only));
        errors.collect(webhooks::check_webhooks(raw, &app_key(index, "webhooks"), &app.webhooks));
        errors.collect(check_history(raw, &app_key(index, "history"), &app.history));
    }
    errors.collect(check_redis_ca(raw, redis));
    errors.collect(check_unique(raw, apps, "id", |app| &app.id));
    errors.collect(check_unique(raw, apps, "key", |app| &app.key));
    errors.take_result()
}

/// How much longer than `activity_timeout_s` a client may take to notice that its line is lost, and to
/// return: 30 s for the answer to its ping, 15 s until it tries again, and a second.
const NOTICED_WITHIN_S: u64 = 46;

/// Warns if sessions are forgotten before their clients can return.
pub(super) fn warn_short_resume(config: &Config, raw: &RawConfig, warnings: &mut Vec<String>) {
    let ConnectionConfig { resume_s, activity_timeout_s, .. } = config.connection;
    let needed = activity_timeout_s + NOTICED_WITHIN_S;
    if 0 < resume_s && resume_s <= needed {
        let key = KeyPath::new("connection.resume_s");
        let source = raw.source(&key);
        warnings.push(format!(
            "{source}: {key} = {resume_s} is too short for clients that notice a lost line late: set it \
             above activity_timeout_s + {NOTICED_WITHIN_S}, which is {needed}"
        ));
    }
}

/// A certificate needs its key, and a key its certificate.
fn check_tls_pair(raw: &RawConfig, server: &ServerConfig) -> Result<(), ConfigError> {
    let (cert, key) = ("server.tls.cert", "server.tls.key");
    let (set, missing) = match (server.tls.cert.is_empty(), server.tls.key.is_empty()) {
        (true, true) | (false, false) => return Ok(()),
        (false, true) => (cert, key),
        (true, false) => (key, cert),
    };
    let set = KeyPath::new(set);
    Err(ConfigError::key(&raw.source(&set), set, format!("needs {missing} beside it")))
}

/// Each history has a prefix of its own.
fn check_history(
    raw: &RawConfig,
    list: &KeyPath,
    history: &[HistoryConfig],
) -> Result<(), ConfigError> {
    collect_errors(history.iter().enumerate().map(|(index, one)| {
        let section = list.index(index);
        let key = section.child("prefix");
        let written = raw.get(&key).map(|setting| &setting.source);
        let source = written.or_else(|| raw.source_within(&section));
        let error = |message| {
            Err(ConfigError::key(source.unwrap_or(&ValueSource::Default), key.clone(), message))
        };
        if one.prefix.is_empty() {
            error("is required")
        } else if history[..index].iter().any(|other| other.prefix == one.prefix) {
            error("must be unique among the history of the app")
        } else {
            Ok(())
        }
    }))
}

/// `tls_only` needs a way to know whether a client uses TLS: TLS in this process, or a trusted
/// proxy.
fn check_tls_only(
    raw: &RawConfig,
    server: &ServerConfig,
    key: KeyPath,
    tls_only: bool,
) -> Result<(), ConfigError> {
    if tls_only && server.trusted_proxies.is_empty() && server.tls.cert.is_empty() {
        let message = "rejects all clients unless server.tls is set, or server.trusted_proxies lists the \
                    proxy that serves TLS";
        return Err(ConfigError::key(&raw.source(&key), key, message));
    }
    Ok(())
}

/// A certificate authority is only used with TLS.
fn check_redis_ca(raw: &RawConfig, redis: &RedisConfig) -> Result<(), ConfigError> {
    if !redis.ca.is_empty() && !redis.url.target().is_some_and(|target| target.is_tls) {
        let key = KeyPath::new("redis.ca");
        let message = "is only for TLS: redis.url must begin with rediss://, rediss+sentinel:// or rediss+cluster://";
        return Err(ConfigError::key(&raw.source(&key), key, message));
    }
    Ok(())
}

/// `upper` must not be less than `lower`. The error is at the one that was set later.
fn at_least(
    raw: &RawConfig,
    upper: Option<&(KeyPath, Value)>,
    (lower, least): &(KeyPath, Value),
) -> Result<(), ConfigError> {
    let Some((large, value)) = upper.filter(|(_, value)| value.as_integer() < least.as_integer())
    else {
        return Ok(());
    };
    let (upper_origin, lower_origin) = (raw.source(large), raw.source(lower));
    Err(if lower_origin.precedence() > upper_origin.precedence() {
        let message = format!("must be at most {large} ({value})");
        ConfigError::key(&lower_origin, lower, message)
    } else {
        ConfigError::key(&upper_origin, large, format!("must be at least {lower} ({least})"))
    })
}

fn check_unique(
    raw: &RawConfig,
    apps: &[AppConfig],
    name: &str,
    value: fn(&AppConfig) -> &str,
) -> Result<(), ConfigError> {
    let mut seen = BTreeMap::new();
    for (index, app) in apps.iter().enumerate() {
        if let Some(first) = seen.insert(value(app), index) {
            let key = app_key(index, name);
            let (first, source) = (app_key(first, name), raw.source(&key));
            let other = raw.source(&first);
            // In the same file, the key is enough to find it.
            let place = match (source.file(), other.file()) {
                (Some(file), Some(of_first)) if file != of_first => format!(", {other}"),
                _ => String::new(),
            };
            let message = format!("must differ from {first}{place}");
            return Err(ConfigError::key(&source, key, message));
        }
    }
    Ok(())
}

/// Adjusts limits that conflict with those from another server's variables or file.
///
/// Limits written for Reverb or soketi may contradict each other here, so the related limit is
/// adjusted, with a warning, unless the environment or a flag sets it too.
pub(super) fn adjust_related_limits(raw: &mut RawConfig, apps: usize, warnings: &mut Vec<String>) {
    let Config { server, connection, .. } = Config::default();
    let event = AppConfig::default().max_event_bytes;
    if let Some((request, source)) = from_compat(raw, &KeyPath::new(REQUEST)) {
        let largest = largest_event(raw, request);
        // soketi has another limit for events.
        let is_of_events = !matches!(source, ValueSource::FileOption { .. });
        for index in 0..apps.max(1) {
            let key = app_key(index, "max_event_bytes");
            if number(raw, &key, event) > request {
                adjust_with_warning(raw, key, request, &source, warnings);
            } else if is_of_events && raw.get(&key).is_none() && event < largest {
                adjust_with_warning(raw, key, largest, &source, warnings);
            }
        }
    }
    let events = (0..apps.max(1)).map(|index| app_key(index, "max_event_bytes"));
    let events = events.filter_map(|key| from_compat(raw, &key));
    if let Some((event, source)) = events.max_by_key(|(event, _)| *event) {
        // A body contains the event's data as a JSON string, with its name and channels.
        let room = event.saturating_mul(2);
        if number(raw, &KeyPath::new(REQUEST), server.max_request_bytes) < event {
            adjust_with_warning(raw, KeyPath::new(REQUEST), room, &source, warnings);
        }
        if number(raw, &KeyPath::new(OUTBOX), connection.max_outbox_bytes) < event {
            adjust_with_warning(raw, KeyPath::new(OUTBOX), room, &source, warnings);
        }
    }
    if let Some((message, source)) = from_compat(raw, &KeyPath::new(MESSAGE))
        && number(raw, &KeyPath::new(OUTBOX), connection.max_outbox_bytes) < message
    {
        adjust_with_warning(raw, KeyPath::new(OUTBOX), message, &source, warnings);
    }
}

/// The largest event allowed by a request of `request` bytes, the range of the setting, and an
/// outbox limit that was set.
fn largest_event(raw: &RawConfig, request: usize) -> usize {
    let outbox = raw.get(&KeyPath::new(OUTBOX)).is_some();
    let room = if outbox { number(raw, &KeyPath::new(OUTBOX), 0) } else { usize::MAX };
    let max = match schema::setting("apps[].max_event_bytes").map(|setting| setting.rule) {
        Some(Rule::Range(_, largest)) => usize::try_from(largest).unwrap_or(usize::MAX),
        Some(_) | None => usize::MAX,
    };
    request.min(room).min(max)
}

/// The value of `key` and its source, if another server's variable or file has set it.
fn from_compat(raw: &RawConfig, key: &KeyPath) -> Option<(usize, ValueSource)> {
    let setting = raw.get(key)?;
    let value = usize::try_from(setting.value.as_integer()?).ok()?;
    setting.source.is_compat().then(|| (value, setting.source.clone()))
}

fn number(raw: &RawConfig, key: &KeyPath, default: usize) -> usize {
    let written = raw.get(key).and_then(|setting| setting.value.as_integer());
    written.map_or(default, |value| usize::try_from(value).unwrap_or(0))
}

fn adjust_with_warning(
    raw: &mut RawConfig,
    key: KeyPath,
    value: usize,
    source: &ValueSource,
    warnings: &mut Vec<String>,
) {
    if raw.source(&key).precedence() < source.precedence()
        && let Ok(integer) = i64::try_from(value)
    {
        warnings.push(format!(
            "{source} also sets {key} to {value}, so that the two limits are consistent"
        ));
        raw.set(key, Value::Integer(integer), source.clone());
    }
}
