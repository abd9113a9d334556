//! Laravel's variables for Redis, used if Reverb's scaling is enabled.
//!
//! `REDIS_URL` overrides the other variables, which complete it, as in Laravel.

use super::{credentials, parse_if_set, set_prefix, set_target};
use crate::config::{
    compat_variable::{
        CompatVariable::{self, Ignored},
        CompatVariables, apply_all, warn_no_redis,
    },
    error::ConfigError,
    raw_config::RawConfig,
    redis_url::{
        RedisTarget, Topology,
        parse::{self, Defaults, REDIS_PORT, in_brackets},
    },
    variables::{Variables, is_true},
};

const ENABLED: &str = "REVERB_SCALING_ENABLED";
const CHANNEL: &str = "REVERB_SCALING_CHANNEL";

const SCALING_DISABLED: &str = "REVERB_SCALING_ENABLED is not true";
const IGNORED_WITH_SCALING: &[CompatVariable] = &[Ignored(
    "REDIS_TIMEOUT",
    "60",
    "a node waits for Redis without giving up; see redis.broker_wait_ms for publishes",
)];

const EXPECTED_SCHEME: &str = "must be tcp, or tls for TLS";
const EXPECTED_HOST: &str =
    "must be a host without a port, or the path of a socket; TLS is tls://host";

/// Writes the values into `raw`, if `REVERB_SCALING_ENABLED` is true.
pub(in crate::config) fn read(
    table: impl CompatVariables,
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    if !is_true(ENABLED, variables)? {
        warn_no_redis(table, SCALING_DISABLED, variables, warnings);
        return Ok(());
    }
    apply_all(IGNORED_WITH_SCALING, variables, raw, warnings)?;
    let (username, password) =
        credentials(variables, ["REDIS_USERNAME", "REDIS_PASSWORD"], warnings);
    let port = parse_if_set(variables, "REDIS_PORT", parse::port)?;
    let db = parse_if_set(variables, "REDIS_DB", parse::db_number)?.flatten().unwrap_or_default();
    let defaults = Defaults { port, username, password, db };
    if let Some(url) = variables.non_empty("REDIS_URL") {
        let target = from_url(url, defaults, variables, warnings)?;
        set_target(raw, &target, variables, "REDIS_URL");
    } else {
        let name = variables.non_empty("REDIS_HOST").map_or(ENABLED, |_| "REDIS_HOST");
        set_target(raw, &from_host(variables, defaults)?, variables, name);
    }
    set_prefix(raw, variables, ["REDIS_PREFIX", CHANNEL]);
    Ok(())
}

/// Laravel's URLs have schemes of their own, and the database may be a parameter.
fn from_url(
    url: &str,
    mut defaults: Defaults,
    variables: &Variables,
    warnings: &mut Vec<String>,
) -> Result<RedisTarget, ConfigError> {
    let source = variables.source("REDIS_URL");
    let fail = |message| ConfigError::at(&source, message);
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "redis" | "tcp" => "redis",
        "rediss" | "tls" => "rediss",
        _ours => return parse::parse_url(url, defaults).map_err(fail),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("database", db)) => {
                defaults.db = parse::db_number(db).map_err(fail)?.unwrap_or_default();
            }
            Some(_) | None => {
                warnings.push(format!("{source}: a parameter other than database has no effect"));
            }
        }
    }
    parse::parse_url(&format!("{scheme}://{rest}"), defaults).map_err(fail)
}

/// `REDIS_HOST` may have a scheme before it, or be the path of a socket.
fn from_host(variables: &Variables, defaults: Defaults) -> Result<RedisTarget, ConfigError> {
    let Defaults { port, username, password, db } = defaults;
    let is_tls_by_scheme = parse_if_set(variables, "REDIS_SCHEME", is_tls)?.unwrap_or_default();
    let (is_tls, topology) = parse_if_set(variables, "REDIS_HOST", |text| {
        if text.starts_with('/') {
            return Ok((false, Topology::Unix { path: text.into() }));
        }
        let (is_tls, host) = match text.split_once("://") {
            Some((scheme, host)) => (is_tls(scheme).map_err(|_| EXPECTED_HOST)?, host),
            None => (is_tls_by_scheme, text),
        };
        let host = parse::host(&in_brackets(host)).map_err(|_| EXPECTED_HOST)?;
        Ok((is_tls, Topology::Single { address: (host, port.unwrap_or(REDIS_PORT)) }))
    })?
    .unwrap_or_else(|| {
        let address = ("127.0.0.1".to_owned(), port.unwrap_or(REDIS_PORT));
        (is_tls_by_scheme, Topology::Single { address })
    });
    Ok(RedisTarget { topology, is_tls, username, password, db })
}

fn is_tls(scheme: &str) -> Result<bool, &'static str> {
    match scheme.to_ascii_lowercase().as_str() {
        "tls" | "rediss" => Ok(true),
        "tcp" | "redis" => Ok(false),
        _other => Err(EXPECTED_SCHEME),
    }
}
