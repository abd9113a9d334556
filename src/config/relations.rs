//! The relations between values: limits that depend on one another, names that must differ.

use super::{
    AppConfig, Config, RedisConfig, ServerConfig,
    draft::Draft,
    error::{ConfigError, Faults, all},
    key::Key,
    schema::{self, flatten},
    table::Rule,
    value_source::ValueSource,
    webhooks,
};
use std::collections::BTreeMap;
use toml::Value;

const REQUEST: &str = "server.max_request_bytes";
const MESSAGE: &str = "connection.max_message_bytes";
const OUTBOX: &str = "connection.max_outbox_bytes";

fn app_key(index: usize, name: &str) -> Key {
    Key::new("apps").item(index).child(name)
}

/// Checks the relations between the values of `config`, whose origins are in `draft`.
pub(super) fn check(config: &Config, draft: &Draft) -> Result<(), ConfigError> {
    let Config { server, apps, redis, .. } = config;
    let mut faults = Faults::default();
    let values = flatten(config);
    for setting in schema::settings() {
        let large = values.iter().find(|(key, _)| key.as_str() == setting.key);
        for pattern in setting.at_least {
            let smaller = values.iter().filter(|(key, _)| key.pattern() == *pattern);
            faults.take(all(smaller.map(|small| at_least(draft, large, small))));
        }
    }
    faults.take(tls_is_whole(draft, server));
    for (index, app) in apps.iter().enumerate() {
        faults.take(tls_is_detectable(draft, server, app_key(index, "tls_only"), app.tls_only));
        faults.take(webhooks::are_complete(draft, &app_key(index, "webhooks"), &app.webhooks));
    }
    faults.take(ca_is_used(draft, redis));
    faults.take(distinct(draft, apps, "id", |app| &app.id));
    faults.take(distinct(draft, apps, "key", |app| &app.key));
    faults.result()
}

/// A certificate needs its key, and a key its certificate.
fn tls_is_whole(draft: &Draft, server: &ServerConfig) -> Result<(), ConfigError> {
    let (cert, key) = ("server.tls.cert", "server.tls.key");
    let (set, missing) = match (server.tls.cert.is_empty(), server.tls.key.is_empty()) {
        (true, true) | (false, false) => return Ok(()),
        (false, true) => (cert, key),
        (true, false) => (key, cert),
    };
    let set = Key::new(set);
    Err(ConfigError::key(&draft.origin(&set), set, format!("needs {missing} beside it")))
}

/// `tls_only` needs a way to know whether a client uses TLS: TLS in this process, or a trusted
/// proxy.
fn tls_is_detectable(
    draft: &Draft,
    server: &ServerConfig,
    key: Key,
    tls_only: bool,
) -> Result<(), ConfigError> {
    if tls_only && server.trusted_proxies.is_empty() && server.tls.cert.is_empty() {
        let rule = "rejects all clients unless server.tls is set, or server.trusted_proxies lists the \
                    proxy that serves TLS";
        return Err(ConfigError::key(&draft.origin(&key), key, rule));
    }
    Ok(())
}

/// A certificate authority is only used with TLS.
fn ca_is_used(draft: &Draft, redis: &RedisConfig) -> Result<(), ConfigError> {
    if !redis.ca.is_empty() && !redis.url.target().is_some_and(|target| target.is_tls) {
        let key = Key::new("redis.ca");
        let rule = "is only for TLS: redis.url must begin with rediss://, rediss+sentinel:// or rediss+cluster://";
        return Err(ConfigError::key(&draft.origin(&key), key, rule));
    }
    Ok(())
}

/// `large` must not be less than `small`. The error is at the one that was set later.
fn at_least(
    draft: &Draft,
    large: Option<&(Key, Value)>,
    (small, least): &(Key, Value),
) -> Result<(), ConfigError> {
    let Some((large, value)) = large.filter(|(_, value)| value.as_integer() < least.as_integer())
    else {
        return Ok(());
    };
    let (large_origin, small_origin) = (draft.origin(large), draft.origin(small));
    Err(if small_origin.rank() > large_origin.rank() {
        let rule = format!("must be at most {large} ({value})");
        ConfigError::key(&small_origin, small, rule)
    } else {
        ConfigError::key(&large_origin, large, format!("must be at least {small} ({least})"))
    })
}

fn distinct(
    draft: &Draft,
    apps: &[AppConfig],
    name: &str,
    value: fn(&AppConfig) -> &str,
) -> Result<(), ConfigError> {
    let mut seen = BTreeMap::new();
    for (index, app) in apps.iter().enumerate() {
        if let Some(first) = seen.insert(value(app), index) {
            let key = app_key(index, name);
            let (first, origin) = (app_key(first, name), draft.origin(&key));
            let other = draft.origin(&first);
            // In the same file, the key is enough to find it.
            let place = match (origin.file(), other.file()) {
                (Some(file), Some(of_first)) if file != of_first => format!(", {other}"),
                _ => String::new(),
            };
            let rule = format!("must differ from {first}{place}");
            return Err(ConfigError::key(&origin, key, rule));
        }
    }
    Ok(())
}

/// Adjusts limits that conflict with those from another server's variables or file.
///
/// What was written for Reverb or soketi does not consider Campanile's relations, so the other limit
/// is adjusted, with a note, unless the environment or a flag sets it too.
pub(super) fn raise_related_limits(draft: &mut Draft, apps: usize, notes: &mut Vec<String>) {
    let Config { server, connection, .. } = Config::default();
    let event = AppConfig::default().max_event_bytes;
    if let Some((request, origin)) = from_compat(draft, &Key::new(REQUEST)) {
        let largest = largest_event(draft, request);
        // soketi has another limit for events.
        let is_of_events = !matches!(origin, ValueSource::FileOption { .. });
        for index in 0..apps.max(1) {
            let key = app_key(index, "max_event_bytes");
            if number(draft, &key, event) > request {
                raise_with_note(draft, key, request, &origin, notes);
            } else if is_of_events && draft.setting(&key).is_none() && event < largest {
                raise_with_note(draft, key, largest, &origin, notes);
            }
        }
    }
    let events = (0..apps.max(1)).map(|index| app_key(index, "max_event_bytes"));
    let events = events.filter_map(|key| from_compat(draft, &key));
    if let Some((event, origin)) = events.max_by_key(|(event, _)| *event) {
        // A body contains the event's data as a JSON string, with its name and channels.
        let room = event.saturating_mul(2);
        if number(draft, &Key::new(REQUEST), server.max_request_bytes) < event {
            raise_with_note(draft, Key::new(REQUEST), room, &origin, notes);
        }
        if number(draft, &Key::new(OUTBOX), connection.max_outbox_bytes) < event {
            raise_with_note(draft, Key::new(OUTBOX), room, &origin, notes);
        }
    }
    if let Some((message, origin)) = from_compat(draft, &Key::new(MESSAGE))
        && number(draft, &Key::new(OUTBOX), connection.max_outbox_bytes) < message
    {
        raise_with_note(draft, Key::new(OUTBOX), message, &origin, notes);
    }
}

/// The largest event allowed by a request of `request` bytes, the range of the setting, and an
/// outbox limit that was set.
fn largest_event(draft: &Draft, request: usize) -> usize {
    let outbox = draft.setting(&Key::new(OUTBOX)).is_some();
    let room = if outbox { number(draft, &Key::new(OUTBOX), 0) } else { usize::MAX };
    let most = match schema::setting("apps[].max_event_bytes").map(|setting| setting.rule) {
        Some(Rule::Range(_, largest)) => usize::try_from(largest).unwrap_or(usize::MAX),
        Some(_) | None => usize::MAX,
    };
    request.min(room).min(most)
}

/// The value of `key` and its origin, if another server's variable or file has set it.
fn from_compat(draft: &Draft, key: &Key) -> Option<(usize, ValueSource)> {
    let setting = draft.setting(key)?;
    let value = usize::try_from(setting.value.as_integer()?).ok()?;
    setting.origin.is_of_other_server().then(|| (value, setting.origin.clone()))
}

fn number(draft: &Draft, key: &Key, default: usize) -> usize {
    let written = draft.setting(key).and_then(|setting| setting.value.as_integer());
    written.map_or(default, |value| usize::try_from(value).unwrap_or(0))
}

fn raise_with_note(
    draft: &mut Draft,
    key: Key,
    value: usize,
    origin: &ValueSource,
    notes: &mut Vec<String>,
) {
    if draft.origin(&key).rank() < origin.rank()
        && let Ok(integer) = i64::try_from(value)
    {
        notes.push(format!("{origin} also sets {key} to {value}, which must fit it"));
        draft.set(key, Value::Integer(integer), origin.clone());
    }
}
