//! Laravel Reverb's variables.

use super::{
    compat_variable::{CompatVariable, apply, ignored, sets, silent},
    convert::{Convert, accept_from, boolean, integer, limit, list, text},
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    redis,
    variables::Variables,
};
use toml::Value;

const NO_INGEST: &str = "it is for Reverb's reports to Pulse and Telescope";

/// `REVERB_HOST`, `REVERB_PORT` and `REVERB_SCHEME` are for clients, and do not affect the
/// listener. `REDIS_*` is for Laravel's cache in most projects, and ignored unless
/// `REVERB_SCALING_ENABLED` is true.
const COMPAT_VARIABLES: &[CompatVariable] = &[
    ignored("REVERB_SERVER", "reverb", "there is one kind of server"),
    sets("REVERB_SERVER_HOST", "server.host", text),
    sets("REVERB_SERVER_PORT", "server.port", integer),
    sets("REVERB_SERVER_PATH", "server.path", text),
    silent("REVERB_HOST"),
    silent("REVERB_PORT"),
    silent("REVERB_SCHEME"),
    sets("REVERB_MAX_REQUEST_SIZE", "server.max_request_bytes", integer),
    silent("REVERB_SCALING_ENABLED"),
    silent("REVERB_SCALING_CHANNEL"),
    ignored("REVERB_PULSE_INGEST_INTERVAL", "15", NO_INGEST),
    ignored("REVERB_TELESCOPE_INGEST_INTERVAL", "15", NO_INGEST),
    sets("REVERB_APP_ID", "apps[0].id", text),
    sets("REVERB_APP_KEY", "apps[0].key", text),
    sets("REVERB_APP_SECRET", "apps[0].secret", text),
    sets("REVERB_ALLOWED_ORIGINS", "apps[0].allowed_origins", list),
    ignored(
        "REVERB_APP_PING_INTERVAL",
        "60",
        "the server pings after connection.activity_timeout_s of silence",
    ),
    sets("REVERB_APP_ACTIVITY_TIMEOUT", "connection.activity_timeout_s", integer),
    sets("REVERB_APP_MAX_CONNECTIONS", "apps[0].max_connections", limit),
    sets("REVERB_APP_MAX_MESSAGE_SIZE", "connection.max_message_bytes", integer),
    sets("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "apps[0].client_events", accept_from),
    silent("REVERB_APP_RATE_LIMITING_ENABLED"),
    silent("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS"),
    silent("REVERB_APP_RATE_LIMIT_DECAY_SECONDS"),
    silent("REVERB_APP_RATE_LIMIT_TERMINATE"),
];

/// Writes the values of Reverb's variables into `draft`.
pub(super) fn read(
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    no_origins(variables, draft, notes);
    let applied = all([
        apply("REVERB_", COMPAT_VARIABLES, variables, draft, notes),
        rate_limiting(variables, draft, notes),
        redis::read_laravel(variables, draft, notes),
    ]);
    let accept = "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM";
    if variables.set(accept) == Some("all") {
        let origin = variables.origin(accept);
        notes.push(format!(
            "{origin} sets apps[0].client_events to members: only subscribers of a channel may send client events to it"
        ));
    }
    applied
}

/// An empty list of origins allows none, as in Reverb: it must not become the default, which allows
/// every origin.
fn no_origins(variables: &Variables, draft: &mut Draft, notes: &mut Vec<String>) {
    let name = "REVERB_ALLOWED_ORIGINS";
    if variables.value(name).is_some_and(|value| value.trim().is_empty()) {
        let (key, origin) = (Key::new("apps[0].allowed_origins"), variables.origin(name));
        notes.push(format!("{origin} is empty: no page may connect, from any origin"));
        draft.set(key, Value::Array(Vec::new()), origin);
    }
}

/// The parts of the rate limit: the variable, the key that it sets, and Reverb's default.
const RATE_LIMIT: [(&str, &str, Convert, &str); 3] = [
    ("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "apps[0].max_messages", integer, "60"),
    ("REVERB_APP_RATE_LIMIT_DECAY_SECONDS", "apps[0].max_messages_window_s", integer, "60"),
    ("REVERB_APP_RATE_LIMIT_TERMINATE", "apps[0].max_messages_closes", boolean, "false"),
];

/// `REVERB_APP_RATE_LIMITING_ENABLED` enables the limit that the other variables describe.
fn rate_limiting(
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let switch = "REVERB_APP_RATE_LIMITING_ENABLED";
    let refused = |name: &str, rule| ConfigError::at(variables.origin(name), rule);
    let is_on = variables.set(switch).map_or(Ok(Value::Boolean(false)), boolean);
    let is_on = is_on.map_err(|rule| refused(switch, rule))?;
    for (name, key, convert, default) in RATE_LIMIT {
        let set = variables.set(name);
        if is_on == Value::Boolean(true) {
            let key = Key::new(key);
            let by = if set.is_some() { name } else { switch };
            let value = convert(set.unwrap_or(default)).map_err(|rule| refused(by, rule))?;
            draft.set(key, value, variables.origin(by));
        } else if set.is_some_and(|value| value != default) {
            let origin = variables.origin(name);
            notes.push(format!("{origin} has no effect: {switch} is not true"));
        }
    }
    Ok(())
}
