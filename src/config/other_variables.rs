//! Variables of hosted Pusher, of platforms and of other servers: those that are read, and warnings
//! about the others.

use super::{
    Config,
    app::DEVELOPMENT,
    error::{ConfigError, collect_errors},
    key::KeyPath,
    raw_config::RawConfig,
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
pub(super) fn read_pusher(variables: &Variables, raw: &mut RawConfig) -> Result<(), ConfigError> {
    collect_errors(PUSHER.map(|(name, variable)| {
        let (key, source) = (KeyPath::new("apps").index(0).child(name), variables.source(variable));
        let Some(value) = variables.non_empty(variable) else {
            return Err(ConfigError::key(&source, key, "is required by --from-pusher-env"));
        };
        raw.set(key, Value::String(value.to_owned()), source);
        Ok(())
    }))
}

/// Warns about variables of other servers that are not read. Many `.env` files contain unused Pusher
/// variables, so these cause a warning only while no app is configured.
pub(super) fn warn_unread(variables: &Variables, raw: &RawConfig, warnings: &mut Vec<String>) {
    let first = KeyPath::new("apps").index(0);
    let is_named = DEVELOPMENT.iter().any(|(name, _)| raw.get(&first.child(name)).is_some());
    let pusher: Vec<_> =
        PUSHER.iter().filter(|(_, name)| variables.non_empty(name).is_some()).collect();
    if let (false, Some((_, name))) = (is_named, pusher.first()) {
        warnings.push(format!(
            "{} is not read; the development app is used. Start with --from-pusher-env, or set REVERB_APP_ID, \
             REVERB_APP_KEY and REVERB_APP_SECRET",
            variables.source(name)
        ));
    }
    warn_each("laravel-websockets", &LARAVEL_WEBSOCKETS, variables, warnings);
    if variables.names("POXA_").next().is_some() {
        warn_each("poxa", &POXA, variables, warnings);
    }
}

fn warn_each(
    server: &str,
    known: &[(&str, &str)],
    variables: &Variables,
    warnings: &mut Vec<String>,
) {
    let is_set = |name: &str| variables.non_empty(name).is_some_and(|value| value != "local");
    for (name, instead) in known.iter().filter(|(name, _)| is_set(name)) {
        let source = variables.source(name);
        warnings.push(format!("{source} has no effect, because it is {server}'s: set {instead}"));
    }
}

/// Warns that the application uses another port than the one that the server listens on. 80 and 443
/// are a proxy's.
pub(super) fn warn_pusher_port(variables: &Variables, port: u16, warnings: &mut Vec<String>) {
    let dialled = variables.non_empty("PUSHER_PORT").and_then(|port| port.parse::<u16>().ok());
    let Some(dialled) = dialled.filter(|dialled| ![80, 443, port].contains(dialled)) else {
        return;
    };
    if variables.non_empty("PUSHER_HOST").is_some() {
        warnings.push(format!(
            "{} is {dialled}: the application connects to that port, but the server listens on {port}. Set \
             CAMPANILE_SERVER__PORT={dialled} unless a proxy maps it",
            variables.source("PUSHER_PORT")
        ));
    }
}

/// Warns that Reverb's clients will use TLS while this server has no certificate. Reverb uses the
/// certificate of `REVERB_HOST` from Herd or Valet, if there is one.
pub(super) fn warn_reverb_scheme(
    variables: &Variables,
    config: &Config,
    warnings: &mut Vec<String>,
) {
    let port = variables.non_empty("REVERB_PORT").and_then(|port| port.parse::<u16>().ok());
    let is_tls = variables.non_empty("REVERB_SCHEME") == Some("https");
    let server = &config.server;
    if is_tls && port == Some(server.port) && server.tls.cert.is_empty() {
        warnings.push(format!(
            "{} is https and REVERB_PORT is {}, where this server listens without TLS: Reverb uses the \
             certificates of Herd or Valet; set CAMPANILE_SERVER__TLS__CERT and CAMPANILE_SERVER__TLS__KEY, or put a \
             proxy on another port",
            variables.source("REVERB_SCHEME"),
            server.port
        ));
    }
}

/// Warns about a configuration of laravel-websockets in `dir`, unless Reverb is configured too.
pub(super) fn warn_websockets_php(dir: &Path, warnings: &mut Vec<String>) {
    let is_there = |name: &str| dir.join("config").join(name).is_file();
    if is_there("websockets.php") && !is_there("reverb.php") {
        warnings.push(
            "config/websockets.php is PHP and is not read: set each of its apps as [[apps]] in config.toml, with its \
             allowed_origins, its capacity as max_connections, and client_events = \"none\" unless \
             enable_client_messages is true"
                .to_owned(),
        );
    }
}

/// Sets the port from `PORT`, by which platforms such as Heroku and Cloud Run assign it, if it is
/// set nowhere else. Only the real environment counts: in a `.env` it belongs to another program.
pub(super) fn read_port(variables: &Variables, raw: &mut RawConfig, warnings: &mut Vec<String>) {
    let key = KeyPath::new("server.port");
    let Some(value) = variables.process_value("PORT").filter(|_| raw.get(&key).is_none()) else {
        return;
    };
    match value.parse::<u16>() {
        Ok(port) if port > 0 => {
            raw.set(key, Value::Integer(port.into()), variables.source("PORT"));
        }
        Ok(_) | Err(_) => warnings
            .push(format!("{} has no effect: it is not a port number", variables.source("PORT"))),
    }
}
