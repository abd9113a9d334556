//! Laravel Reverb's variables.

use super::{
    convert::{accept_from, integer, limit, list, text},
    draft::Draft,
    origin::ConfigError,
    peer::{Peer, apply, ignored, sets, silent},
    redis,
    variables::Variables,
};

const NO_RATE_LIMIT: &str = "the rate of all messages is not limited; \
    see client_events_per_second and requests_per_second of the app";
const NO_INGEST: &str = "it is for Reverb's reports to Pulse and Telescope";

/// `REVERB_HOST`, `REVERB_PORT` and `REVERB_SCHEME` are what clients dial, so they bind nothing.
/// `REDIS_*` is there for Laravel's cache in most projects, and says nothing to us while
/// `REVERB_SCALING_ENABLED` is not true.
const PEERS: &[Peer] = &[
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
    ignored("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "60", NO_RATE_LIMIT),
    ignored("REVERB_APP_RATE_LIMIT_DECAY_SECONDS", "60", NO_RATE_LIMIT),
    ignored("REVERB_APP_RATE_LIMIT_TERMINATE", "false", NO_RATE_LIMIT),
];

/// Writes what Reverb's variables say into `draft`.
pub(super) fn read(
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    apply("REVERB_", PEERS, variables, draft, notes)?;
    let accept = "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM";
    if variables.set(accept) == Some("all") {
        let origin = variables.origin(accept);
        notes.push(format!(
            "{origin} sets apps[0].client_events to members: only subscribers of a channel may send client events to it"
        ));
    }
    redis::read_laravel(variables, draft, notes)
}
