//! Laravel Reverb's variables.

use super::{
    compat_variable::{
        CompatVariable::{self, HandledElsewhere, Ignored, Redis, Sets, SetsIfEnabled},
        apply, apply_if_enabled,
    },
    convert::{boolean, from_accept_from, integer, limit, list, text},
    error::{ConfigError, collect_errors},
    key::KeyPath,
    raw_config::RawConfig,
    redis,
    variables::Variables,
};
use toml::Value;

/// Enables the limit that the `SetsIfEnabled` variables describe.
const RATE_LIMITING: &str = "REVERB_APP_RATE_LIMITING_ENABLED";

const NO_INGEST: &str = "it is for Reverb's reports to Pulse and Telescope";

/// `REVERB_HOST`, `REVERB_PORT` and `REVERB_SCHEME` are for clients, and do not affect the
/// listener. `REDIS_*` is for Laravel's cache in most projects, and ignored unless
/// `REVERB_SCALING_ENABLED` is true.
pub(super) const COMPAT_VARIABLES: &[CompatVariable] = &[
    Ignored("REVERB_SERVER", "reverb", "there is one kind of server"),
    Sets("REVERB_SERVER_HOST", "server.host", text),
    Sets("REVERB_SERVER_PORT", "server.port", integer),
    Sets("REVERB_SERVER_PATH", "server.path", text),
    HandledElsewhere("REVERB_HOST"),
    HandledElsewhere("REVERB_PORT"),
    HandledElsewhere("REVERB_SCHEME"),
    Sets("REVERB_MAX_REQUEST_SIZE", "server.max_request_bytes", integer),
    HandledElsewhere("REVERB_SCALING_ENABLED"),
    Redis("REVERB_SCALING_CHANNEL", "reverb"),
    Ignored("REVERB_PULSE_INGEST_INTERVAL", "15", NO_INGEST),
    Ignored("REVERB_TELESCOPE_INGEST_INTERVAL", "15", NO_INGEST),
    Sets("REVERB_APP_ID", "apps[0].id", text),
    Sets("REVERB_APP_KEY", "apps[0].key", text),
    Sets("REVERB_APP_SECRET", "apps[0].secret", text),
    Sets("REVERB_ALLOWED_ORIGINS", "apps[0].allowed_origins", list),
    Ignored(
        "REVERB_APP_PING_INTERVAL",
        "60",
        "the server pings after connection.activity_timeout_s of silence",
    ),
    Sets("REVERB_APP_ACTIVITY_TIMEOUT", "connection.activity_timeout_s", integer),
    Sets("REVERB_APP_MAX_CONNECTIONS", "apps[0].max_connections", limit),
    Sets("REVERB_APP_MAX_MESSAGE_SIZE", "connection.max_message_bytes", integer),
    Sets("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "apps[0].client_events", from_accept_from),
    HandledElsewhere(RATE_LIMITING),
    SetsIfEnabled("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "apps[0].max_messages", integer, "60"),
    SetsIfEnabled(
        "REVERB_APP_RATE_LIMIT_DECAY_SECONDS",
        "apps[0].max_messages_window_s",
        integer,
        "60",
    ),
    SetsIfEnabled(
        "REVERB_APP_RATE_LIMIT_TERMINATE",
        "apps[0].max_messages_closes",
        boolean,
        "false",
    ),
];

/// Writes the values of Reverb's variables into `raw`.
pub(super) fn read(
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    no_origins(variables, raw, warnings);
    let applied = collect_errors([
        apply("REVERB_", COMPAT_VARIABLES, variables, raw, warnings),
        apply_if_enabled(RATE_LIMITING, COMPAT_VARIABLES, variables, raw, warnings),
        redis::read_laravel(COMPAT_VARIABLES, variables, raw, warnings),
    ]);
    let accept = "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM";
    if variables.non_empty(accept) == Some("all") {
        let source = variables.source(accept);
        warnings.push(format!(
            "{source} sets apps[0].client_events to members: only subscribers of a channel may send client events to it"
        ));
    }
    applied
}

/// An empty list of origins allows none, as in Reverb: it must not become the default, which allows
/// every origin.
fn no_origins(variables: &Variables, raw: &mut RawConfig, warnings: &mut Vec<String>) {
    let name = "REVERB_ALLOWED_ORIGINS";
    if variables.get(name).is_some_and(|value| value.trim().is_empty()) {
        let (key, source) = (KeyPath::new("apps[0].allowed_origins"), variables.source(name));
        warnings.push(format!("{source} is empty: no page may connect, from any origin"));
        raw.set(key, Value::Array(Vec::new()), source);
    }
}
