//! The rules for single values: ranges, choices, and formats. Some texts are normalized.

use super::{
    draft::Draft,
    error::{ConfigError, all},
    key::PREFIX,
    redis, webhooks,
};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use toml::Value;

/// The minimum and maximum of every integer, by pattern.
pub(super) const RANGES: [(&str, i64, i64); 34] = [
    ("server.port", 0, 65_535),
    ("server.shards", 0, 64),
    ("server.max_connections", 0, 10_000_000),
    ("server.max_http_connections", 0, 1_000_000),
    ("server.max_head_bytes", 1_024, 1_048_576),
    ("server.max_request_bytes", 1_024, 1_073_741_824),
    ("server.request_timeout_s", 1, 3_600),
    ("server.shutdown_grace_s", 0, 3_600),
    ("connection.activity_timeout_s", 1, 3_600),
    ("connection.pong_timeout_s", 1, 3_600),
    ("connection.max_message_bytes", 1_024, 16_777_216),
    ("connection.max_outbox_bytes", 1_024, 1_073_741_824),
    ("connection.max_channels", 1, 1_000_000),
    ("connection.max_connections_per_ip", 0, 10_000_000),
    ("connection.new_connections_per_second_per_ip", 0, 1_000_000),
    ("connection.max_messages_per_second", 0, 1_000_000),
    ("apps[].max_connections", 0, 10_000_000),
    ("apps[].client_events_per_second", 0, 1_000_000),
    ("apps[].max_messages", 0, 1_000_000),
    ("apps[].max_messages_window_s", 1, 86_400),
    ("apps[].authorized_connections_timeout_s", 0, 86_400),
    ("apps[].max_event_bytes", 1, 67_108_864),
    ("apps[].max_event_channels", 1, 10_000),
    ("apps[].max_event_name_length", 1, 1_000),
    ("apps[].max_batch_events", 1, 10_000),
    ("apps[].max_channel_name_length", 1, 1_000),
    ("apps[].max_presence_members", 1, 1_000_000),
    ("apps[].max_presence_user_info_bytes", 1, 1_048_576),
    ("apps[].cache_ttl_s", 1, 31_536_000),
    ("apps[].max_cache_bytes", 1_024, 1_099_511_627_776),
    ("apps[].requests_per_second", 0, 1_000_000),
    ("redis.broker_wait_ms", 100, 60_000),
    ("redis.node_timeout_ms", 3_000, 300_000),
    ("webhooks.batch_ms", 0, 1_000),
];

/// Long enough for the names of a project and a stage, short enough for every key in Redis.
const REDIS_PREFIX_BYTES_MAX: usize = 100;

/// The allowed words of a key.
pub(super) const CHOICES: [(&str, &[&str]); 4] = [
    ("apps[].client_events", &["none", "members"]),
    ("apps[].webhooks[].events", &webhooks::EVENTS),
    ("log.level", &["error", "warn", "info", "debug", "trace"]),
    ("log.format", &["text", "json"]),
];

/// Normalizes a text, or returns the violated rule.
type TextForm = fn(&str) -> Result<String, &'static str>;

/// Keys with a text format; for a list it applies to each element.
const FORMS: [(&str, TextForm); 13] = [
    ("server.host", host),
    ("server.path", path),
    ("server.trusted_proxies", network),
    ("apps[].id", name_in_a_path),
    ("apps[].key", name_in_a_path),
    ("apps[].secret", not_empty),
    ("apps[].allowed_origins", origin_pattern),
    ("redis.url", redis_url),
    ("apps[].webhooks[].name", webhooks::name),
    ("apps[].webhooks[].url", webhooks::url),
    ("redis.prefix", redis_prefix),
    ("metrics.token", one_word),
    ("metrics.listen", address),
];

/// Checks every value of `draft` by itself, and normalizes it.
pub(super) fn check(draft: &mut Draft) -> Result<(), ConfigError> {
    all(draft.settings_mut().map(|(key, setting)| {
        check_one(&key.pattern(), &mut setting.value).map_err(|rule| {
            // The value may have been written in another unit.
            let rule = match (&setting.value, setting.origin.variable()) {
                (Value::Integer(number), Some(name)) if !name.starts_with(PREFIX) => {
                    format!("is set to {number}, and {rule}")
                }
                _ => rule,
            };
            ConfigError::key(&setting.origin, key, rule)
        })
    }))
}

/// The rule that `value` violates, if any.
fn check_one(pattern: &str, value: &mut Value) -> Result<(), String> {
    match value {
        Value::Integer(number) => in_range(pattern, *number),
        Value::String(text) => proper_text(pattern, text),
        Value::Array(items) => {
            for item in items {
                if let Value::String(text) = item {
                    proper_text(pattern, text).map_err(|rule| format!("`{text}` {rule}"))?;
                }
            }
            Ok(())
        }
        Value::Table(table) => webhooks::headers(table),
        Value::Boolean(_) | Value::Float(_) | Value::Datetime(_) => Ok(()),
    }
}

/// The minimum and maximum of the integers of `pattern`, which is one of [`RANGES`].
pub(super) fn range(pattern: &str) -> Option<(i64, i64)> {
    let range = RANGES.iter().find(|(ranged, _, _)| *ranged == pattern);
    range.map(|(_, least, largest)| (*least, *largest))
}

fn in_range(pattern: &str, number: i64) -> Result<(), String> {
    match range(pattern) {
        Some((least, largest)) if !(least..=largest).contains(&number) => {
            Err(format!("must be from {least} to {largest}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn proper_text(pattern: &str, text: &mut String) -> Result<(), String> {
    if text.contains(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    if let Some((_, words)) = CHOICES.iter().find(|(choice, _)| *choice == pattern)
        && !words.contains(&text.as_str())
    {
        return Err(format!("must be one of {}", words.join(", ")));
    }
    if let Some((_, form)) = FORMS.iter().find(|(formed, _)| *formed == pattern) {
        *text = form(text)?;
    }
    Ok(())
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("must not be empty") } else { Ok(text.to_owned()) }
}

fn has_white_space(text: &str) -> bool {
    text.contains(char::is_whitespace)
}

fn host(text: &str) -> Result<String, &'static str> {
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
fn path(text: &str) -> Result<String, &'static str> {
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

fn network(text: &str) -> Result<String, &'static str> {
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or("must be an address or a network such as 10.0.0.0/8")?;
    Ok(network.trunc().to_string())
}

fn name_in_a_path(text: &str) -> Result<String, &'static str> {
    if has_white_space(text) || text.contains(['/', ':', '?', '#']) {
        return Err("must not contain `/`, `:`, `?`, `#` or white space");
    }
    not_empty(text)
}

/// `example.com`, `*.example.com`, `https://example.com:8443`, `[::1]`, `*`.
fn origin_pattern(text: &str) -> Result<String, &'static str> {
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
    if scheme_fits && port_fits && host_fits(host) { Ok(text.to_owned()) } else { Err(RULE) }
}

fn host_fits(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '*'))
        }
    }
}

fn redis_url(text: &str) -> Result<String, &'static str> {
    redis::parse(text).map(|_target| text.to_owned())
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

fn one_word(text: &str) -> Result<String, &'static str> {
    if has_white_space(text) { Err("must not contain white space") } else { Ok(text.to_owned()) }
}

fn address(text: &str) -> Result<String, &'static str> {
    match (text, text.parse::<SocketAddr>()) {
        ("", _) => Ok(String::new()),
        (_, Ok(address)) => Ok(address.to_string()),
        (_, Err(_)) => Err("must be an address and a port such as 127.0.0.1:9601"),
    }
}
