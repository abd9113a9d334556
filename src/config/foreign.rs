//! Variables of other servers and of platforms: those that are read, and notes about the others.

use super::{
    Config,
    app::DEVELOPMENT,
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    variables::Variables,
};
use std::path::Path;
use toml::Value;

const PUSHER: [(&str, &str); 3] =
    [("id", "PUSHER_APP_ID"), ("key", "PUSHER_APP_KEY"), ("secret", "PUSHER_APP_SECRET")];

/// Replacements for laravel-websockets' variables.
const LARAVEL_WEBSOCKETS: [(&str, &str); 8] = [
    ("LARAVEL_WEBSOCKETS_PORT", "CAMPANILE_SERVER__PORT"),
    ("LARAVEL_WEBSOCKETS_HOST", "CAMPANILE_SERVER__HOST"),
    ("LARAVEL_WEBSOCKETS_SSL_LOCAL_CERT", "CAMPANILE_SERVER__TLS__CERT"),
    ("LARAVEL_WEBSOCKETS_SSL_LOCAL_PK", "CAMPANILE_SERVER__TLS__KEY"),
    ("LARAVEL_WEBSOCKETS_SSL_CA", "CAMPANILE_SERVER__TLS__CERT with the whole chain in it"),
    ("LARAVEL_WEBSOCKETS_SSL_PASSPHRASE", "CAMPANILE_SERVER__TLS__KEY, a key without a passphrase"),
    ("WEBSOCKETS_REPLICATION_MODE", "CAMPANILE_REDIS__URL"),
    ("WEBSOCKETS_REDIS_REPLICATION_CONNECTION", "CAMPANILE_REDIS__URL"),
];

/// Replacements for poxa's variables.
const POXA: [(&str, &str); 12] = [
    ("POXA_APP_ID", "CAMPANILE_APPS__0__ID"),
    ("POXA_APP_KEY", "CAMPANILE_APPS__0__KEY"),
    ("POXA_SECRET", "CAMPANILE_APPS__0__SECRET"),
    ("POXA_APP_SECRET", "CAMPANILE_APPS__0__SECRET"),
    ("POXA_SSL", "CAMPANILE_SERVER__TLS__CERT and CAMPANILE_SERVER__TLS__KEY"),
    ("SSL_PORT", "CAMPANILE_SERVER__PORT"),
    ("SSL_CERTFILE", "CAMPANILE_SERVER__TLS__CERT"),
    ("SSL_CACERTFILE", "CAMPANILE_SERVER__TLS__CERT with the whole chain in it"),
    ("SSL_KEYFILE", "CAMPANILE_SERVER__TLS__KEY"),
    ("WEB_HOOK", "[[apps.webhooks]] in config.toml"),
    ("PAYLOAD_LIMIT", "CAMPANILE_APPS__0__MAX_EVENT_BYTES"),
    ("ACTIVITY_TIMEOUT", "CAMPANILE_CONNECTION__ACTIVITY_TIMEOUT_S"),
];

/// Takes the first app's id, key and secret from the variables of hosted Pusher.
///
/// # Errors
///
/// One of them is missing.
pub(super) fn read_pusher(variables: &Variables, draft: &mut Draft) -> Result<(), ConfigError> {
    all(PUSHER.map(|(name, variable)| {
        let (key, origin) = (Key::new("apps").item(0).child(name), variables.origin(variable));
        let Some(value) = variables.set(variable) else {
            return Err(ConfigError::key(&origin, key, "is required by --from-pusher-env"));
        };
        draft.set(key, Value::String(value.to_owned()), origin);
        Ok(())
    }))
}

/// Notes variables of other servers that are not read. Many `.env` files contain unused Pusher
/// variables, so these are noted only while no app is configured.
pub(super) fn note(variables: &Variables, draft: &Draft, notes: &mut Vec<String>) {
    let first = Key::new("apps").item(0);
    let is_named = DEVELOPMENT.iter().any(|(name, _)| draft.setting(&first.child(name)).is_some());
    let pusher: Vec<_> = PUSHER.iter().filter(|(_, name)| variables.set(name).is_some()).collect();
    if let (false, Some((_, name))) = (is_named, pusher.first()) {
        let also = if pusher.len() > 1 { " and its like are" } else { " is" };
        notes.push(format!(
            "{}{also} not read, and the development app is in force: start with --from-pusher-env to take id, key \
             and secret from PUSHER_APP_ID, PUSHER_APP_KEY and PUSHER_APP_SECRET, or write them as REVERB_APP_ID, \
             REVERB_APP_KEY and REVERB_APP_SECRET",
            variables.origin(name)
        ));
    }
    note_each("laravel-websockets", &LARAVEL_WEBSOCKETS, variables, notes);
    if variables.names("POXA_").next().is_some() {
        note_each("poxa", &POXA, variables, notes);
    }
}

fn note_each(server: &str, known: &[(&str, &str)], variables: &Variables, notes: &mut Vec<String>) {
    let is_set = |name: &str| variables.set(name).is_some_and(|value| value != "local");
    for (name, instead) in known.iter().filter(|(name, _)| is_set(name)) {
        let origin = variables.origin(name);
        notes.push(format!("{origin} has no effect, it is {server}'s: write {instead}"));
    }
}

/// Notes that the application uses another port than the one that the server listens on. 80 and 443
/// are a proxy's.
pub(super) fn note_pusher_port(variables: &Variables, port: u16, notes: &mut Vec<String>) {
    let dialled = variables.set("PUSHER_PORT").and_then(|port| port.parse::<u16>().ok());
    let Some(dialled) = dialled.filter(|dialled| ![80, 443, port].contains(dialled)) else {
        return;
    };
    if variables.set("PUSHER_HOST").is_some() {
        notes.push(format!(
            "{} is {dialled}, where the application looks for the server, which listens on {port}: unless something \
             on the way changes the port, write CAMPANILE_SERVER__PORT={dialled}",
            variables.origin("PUSHER_PORT")
        ));
    }
}

/// Notes that Reverb's clients will use TLS while this server has no certificate. Reverb uses the
/// certificate of `REVERB_HOST` from Herd or Valet, if there is one.
pub(super) fn note_reverb_scheme(variables: &Variables, config: &Config, notes: &mut Vec<String>) {
    let port = variables.set("REVERB_PORT").and_then(|port| port.parse::<u16>().ok());
    let is_tls = variables.set("REVERB_SCHEME") == Some("https");
    let server = &config.server;
    if is_tls && port == Some(server.port) && server.tls.cert.is_empty() {
        notes.push(format!(
            "{} is https and REVERB_PORT is {}, where this server listens without TLS: write \
             CAMPANILE_SERVER__TLS__CERT and CAMPANILE_SERVER__TLS__KEY, for which Reverb takes those of Herd or \
             Valet, or have a proxy on another port",
            variables.origin("REVERB_SCHEME"),
            server.port
        ));
    }
}

/// Notes a configuration of laravel-websockets in `dir`, unless Reverb is configured too.
pub(super) fn note_websockets_php(dir: &Path, notes: &mut Vec<String>) {
    let is_there = |name: &str| dir.join("config").join(name).is_file();
    if is_there("websockets.php") && !is_there("reverb.php") {
        notes.push(
            "config/websockets.php is PHP and is not read: write each of its apps as [[apps]] in config.toml, with its \
             allowed_origins, its capacity as max_connections, and client_events = \"none\" unless \
             enable_client_messages is true"
                .to_owned(),
        );
    }
}

/// Sets the port from `PORT`, by which platforms such as Heroku and Cloud Run assign it, if it is
/// set nowhere else. Only the real environment counts: in a `.env` it belongs to another program.
pub(super) fn read_port(variables: &Variables, draft: &mut Draft, notes: &mut Vec<String>) {
    let key = Key::new("server.port");
    let Some(value) = variables.real("PORT").filter(|_| draft.setting(&key).is_none()) else {
        return;
    };
    match value.parse::<u16>() {
        Ok(port) if port > 0 => {
            draft.set(key, Value::Integer(port.into()), variables.origin("PORT"));
        }
        Ok(_) | Err(_) => notes
            .push(format!("{} has no effect: it is no number of a port", variables.origin("PORT"))),
    }
}
