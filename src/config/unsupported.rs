//! Settings that this version does not support. They are rejected, not ignored.
//!
//! A change that implements one of them removes its lines here.

use super::{
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    variables::Variables,
};
use toml::Value;

const RULE: &str = "is not supported by this version of Campanile";

/// Keys that must stay empty.
const KEYS: [&str; 1] = ["console.password"];

/// Variables of other servers, with the supported values, and the feature that other values
/// request.
const VARIABLES: [(&str, &[&str], &str); 5] = [
    ("SOKETI_ADAPTER_DRIVER", &["local", "redis"], "an adapter other than `local` and `redis`"),
    ("SOKETI_APP_MANAGER_DRIVER", &["array"], "an app manager other than `array`"),
    ("SOKETI_CACHE_DRIVER", &["memory", "redis"], "a cache other than `memory` and `redis`"),
    ("SOKETI_QUEUE_DRIVER", &["sync", "redis"], "a queue other than `sync` and `redis`"),
    (
        "SOKETI_RATE_LIMITER_DRIVER",
        &["local", "redis"],
        "a rate limiter other than `local` and `redis`",
    ),
];

/// soketi's variables that may be `redis` where the nodes are joined by Redis, and nowhere else.
const NEED_REDIS: [&str; 3] =
    ["SOKETI_CACHE_DRIVER", "SOKETI_QUEUE_DRIVER", "SOKETI_RATE_LIMITER_DRIVER"];

/// Names of the variables that this file knows.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|(name, _, _)| *name)
}

/// Rejects variables that request unsupported features.
pub(super) fn refuse_variables(variables: &Variables) -> Result<(), ConfigError> {
    all(VARIABLES.iter().map(|(name, harmless, what)| {
        if variables.set(name).is_some_and(|value| !harmless.contains(&value)) {
            return Err(ConfigError::at(variables.origin(name), format!("{what} {RULE}")));
        }
        Ok(())
    }))
}

/// Rejects variables that need Redis if `draft` has none.
pub(super) fn refuse_without_redis(
    variables: &Variables,
    draft: &Draft,
) -> Result<(), ConfigError> {
    let url = draft.setting(&Key::new("redis.url")).and_then(|setting| setting.value.as_str());
    if url.is_some_and(|url| !url.is_empty()) {
        return Ok(());
    }
    match NEED_REDIS.iter().find(|name| variables.set(name) == Some("redis")) {
        Some(name) => {
            let rule = "needs Redis: set redis.url, or SOKETI_ADAPTER_DRIVER to redis";
            Err(ConfigError::at(variables.origin(name), rule))
        }
        None => Ok(()),
    }
}

/// Rejects keys that request unsupported features.
pub(super) fn refuse_keys(draft: &Draft) -> Result<(), ConfigError> {
    all(draft.settings().map(|(key, setting)| {
        let empty = setting.value == Value::String(String::new());
        if KEYS.contains(&key.pattern().as_str()) && !empty {
            return Err(ConfigError::key(&setting.origin, key, RULE));
        }
        Ok(())
    }))
}
