//! The checks of single values, and the formats of texts. Some texts are normalized.

use super::redis_url::parse::parse;
use argon2::password_hash::phc::PasswordHash;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Long enough for the names of a project and a stage, short enough for every key in Redis.
const REDIS_PREFIX_BYTES_MAX: usize = 100;

pub(super) fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("must not be empty") } else { Ok(text.to_owned()) }
}

/// Minimum length of a password of the console, in characters.
const CONSOLE_PASSWORD_MIN: usize = 8;
/// Maximum length of a password of the console, in bytes: a log-in has a limit of 4,096.
const CONSOLE_PASSWORD_BYTES_MAX: usize = 1_024;

/// A password of the console, or its hash in the PHC format.
pub(super) fn console_password(text: &str) -> Result<String, &'static str> {
    if text.starts_with("$argon2") {
        // A hash with impossible parameters would never be that of a password.
        let is_complete = PasswordHash::new(text)
            .is_ok_and(|hash| hash.hash.is_some() && argon2::Params::try_from(&hash).is_ok());
        return if is_complete {
            Ok(text.to_owned())
        } else {
            Err("is not a complete line of `campanile hash-password`")
        };
    }
    if CONSOLE_PASSWORD_BYTES_MAX < text.len() {
        return Err("must have at most 1024 bytes");
    }
    if !text.is_empty() && text.chars().count() < CONSOLE_PASSWORD_MIN {
        return Err("must have at least 8 characters, or be a line of `campanile hash-password`");
    }
    Ok(text.to_owned())
}

fn has_white_space(text: &str) -> bool {
    text.contains(char::is_whitespace)
}

pub(super) fn host(text: &str) -> Result<String, &'static str> {
    if text.contains("://") {
        return Err(
            "must be an address or a name such as 0.0.0.0, not a URL; the port is server.port",
        );
    }
    let has_port = |(name, port): (&str, &str)| !name.contains(':') && port.parse::<u16>().is_ok();
    if text.parse::<SocketAddr>().is_ok() || text.rsplit_once(':').is_some_and(has_port) {
        return Err("must be without a port, which is server.port (--port)");
    }
    if text.contains('/') {
        return Err("must be an address or a name such as 0.0.0.0, without a path");
    }
    if has_white_space(text) {
        return Err("must not contain white space");
    }
    not_empty(text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text))
}

/// A path with one leading slash and no trailing one, or empty.
pub(super) fn path(text: &str) -> Result<String, &'static str> {
    if has_white_space(text) || text.contains(['?', '#']) {
        return Err("must not contain `?`, `#` or white space");
    }
    let text = text.trim_end_matches('/');
    let path = text.strip_prefix('/').unwrap_or(text);
    match path {
        "" => Ok(String::new()),
        path if path.split('/').any(str::is_empty) => Err("must not contain `//`"),
        path => Ok(format!("/{path}")),
    }
}

pub(super) fn network(text: &str) -> Result<String, &'static str> {
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or("must be an address or a network such as 10.0.0.0/8")?;
    Ok(network.trunc().to_string())
}

pub(super) fn path_segment(text: &str) -> Result<String, &'static str> {
    if has_white_space(text) || text.contains(['/', ':', '?', '#']) {
        return Err("must not contain `/`, `:`, `?`, `#` or white space");
    }
    not_empty(text)
}

/// `example.com`, `*.example.com`, `https://example.com:8443`, `[::1]`, `*`.
pub(super) fn origin_pattern(text: &str) -> Result<String, &'static str> {
    const RULE: &str = "must be a host such as example.com or *.example.com, with scheme or port if those matter, or *";
    let (scheme, rest) = text.split_once("://").unwrap_or(("x", text));
    let bracket_end = rest.rfind(']').unwrap_or(0);
    let (host, port) = match rest.rfind(':') {
        Some(colon) if colon > bracket_end => (&rest[..colon], &rest[colon + 1..]),
        Some(_) | None => (rest, "1"),
    };
    let scheme_fits = !scheme.is_empty()
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let port_fits = port == "*" || port.parse::<u16>().is_ok_and(|port| port > 0);
    if scheme_fits && port_fits && is_valid_host(host) { Ok(text.to_owned()) } else { Err(RULE) }
}

fn is_valid_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '*'))
        }
    }
}

pub(super) fn redis_url(text: &str) -> Result<String, &'static str> {
    parse(text).map(|_target| text.to_owned())
}

/// Braces would move keys of one channel to other slots of a Redis Cluster, since every key has the
/// prefix.
pub(super) fn redis_prefix(text: &str) -> Result<String, &'static str> {
    if REDIS_PREFIX_BYTES_MAX < text.len() {
        return Err("must be at most 100 bytes long");
    }
    if has_white_space(text) || text.contains(['{', '}']) {
        return Err("must not contain braces or white space");
    }
    not_empty(text)
}

/// The parameters of the URL of a database that have a meaning, by scheme. A mistyped one must not
/// turn TLS off.
const URL_PARAMETERS: [(&[&str], &[&str]); 3] = [
    (&["postgres", "postgresql"], &["sslmode", "sslrootcert", "sslcert", "sslkey", "host"]),
    (&["mysql", "mariadb"], &["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket"]),
    (&["sqlite"], &[]),
];

/// The URL of a database. Its driver checks the rest.
pub(super) fn database_url(text: &str) -> Result<String, &'static str> {
    const RULE: &str = "must begin with postgres://, mysql:// or sqlite://";
    if text.is_empty() {
        return Ok(String::new());
    }
    let (scheme, rest) = text.split_once("://").ok_or(RULE)?;
    let known = URL_PARAMETERS.iter().find(|(schemes, _)| schemes.contains(&scheme));
    let (_, parameters) = known.ok_or(RULE)?;
    if has_white_space(text) {
        return Err("must not contain white space: percent-encode it");
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    if names.filter(|name| !name.is_empty()).any(|name| !parameters.contains(&name)) {
        return Err(match scheme {
            "sqlite" => "must have no parameters",
            "mysql" | "mariadb" => {
                "must have no other parameters than ssl-mode, ssl-ca, ssl-cert, ssl-key and socket"
            }
            _ => {
                "must have no other parameters than sslmode, sslrootcert, sslcert, sslkey and host"
            }
        });
    }
    if scheme == "sqlite" {
        return if place.is_empty() { Err("must name a file") } else { Ok(text.to_owned()) };
    }
    match place.rsplit_once('/') {
        Some((_, database)) if !database.is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err("must end with the name of the database"),
    }
}

/// The name of a table, with that of its schema or not. It is part of the text of queries.
pub(super) fn table_name(text: &str) -> Result<String, &'static str> {
    let is_name = |part: &str| {
        (1..=64).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    if text.split('.').count() <= 2 && text.split('.').all(is_name) {
        Ok(text.to_owned())
    } else {
        Err("must be the name of a table, or of a schema and a table with a dot between")
    }
}

pub(super) fn no_white_space(text: &str) -> Result<String, &'static str> {
    if has_white_space(text) { Err("must not contain white space") } else { Ok(text.to_owned()) }
}

pub(super) fn address(text: &str) -> Result<String, &'static str> {
    match (text, text.parse::<SocketAddr>()) {
        ("", _) => Ok(String::new()),
        (_, Ok(address)) => Ok(address.to_string()),
        (_, Err(_)) => Err("must be an address and a port such as 127.0.0.1:9601"),
    }
}
