//! Settings that this version does not support. They are rejected, not ignored.

use super::{
    draft::Draft,
    error::{ConfigError, all},
    key::Key,
    schema,
    variables::Variables,
};
use toml::Value;

/// The rule that a request for an unsupported feature violates.
pub(super) const UNSUPPORTED: &str = "is not supported by this version of Campanile";

/// soketi's variables that may be `redis` where the nodes are joined by Redis, and nowhere else.
const NEED_REDIS: [&str; 3] =
    ["SOKETI_CACHE_DRIVER", "SOKETI_QUEUE_DRIVER", "SOKETI_RATE_LIMITER_DRIVER"];

/// Rejects variables that need Redis if `draft` has none.
pub(super) fn reject_without_redis(
    variables: &Variables,
    draft: &Draft,
) -> Result<(), ConfigError> {
    let url = draft.setting(&Key::new("redis.url")).and_then(|setting| setting.value.as_str());
    if url.is_some_and(|url| !url.is_empty()) {
        return Ok(());
    }
    match NEED_REDIS.iter().find(|name| variables.set(name) == Some("redis")) {
        Some(name) => {
            let rule =
                "needs Redis: set redis.url, or SOKETI_ADAPTER_DRIVER (adapter.driver) to redis";
            Err(ConfigError::at(variables.origin(name), rule))
        }
        None => Ok(()),
    }
}

/// Rejects keys that request unsupported features.
pub(super) fn reject_keys(draft: &Draft) -> Result<(), ConfigError> {
    all(draft.settings().map(|(key, setting)| {
        let empty = setting.value == Value::String(String::new());
        let setting_of = schema::setting(&key.pattern());
        if setting_of.is_some_and(|known| !known.is_supported) && !empty {
            return Err(ConfigError::key(&setting.origin, key, UNSUPPORTED));
        }
        Ok(())
    }))
}
