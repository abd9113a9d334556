//! Settings that this version does not support. They are rejected, not ignored.

use super::{
    error::{ConfigError, collect_errors},
    key::KeyPath,
    raw_config::RawConfig,
    schema,
    variables::Variables,
};
use toml::Value;

/// The error message for a request of an unsupported feature.
pub(super) const UNSUPPORTED: &str = "is not supported by this version of Campanile";

/// soketi drivers that may be `redis` only in a cluster.
const NEED_REDIS: [&str; 3] =
    ["SOKETI_CACHE_DRIVER", "SOKETI_QUEUE_DRIVER", "SOKETI_RATE_LIMITER_DRIVER"];

/// Rejects variables that need Redis if `raw` has none.
pub(super) fn reject_without_redis(
    variables: &Variables,
    raw: &RawConfig,
) -> Result<(), ConfigError> {
    let url = raw.get(&KeyPath::new("redis.url")).and_then(|setting| setting.value.as_str());
    if url.is_some_and(|url| !url.is_empty()) {
        return Ok(());
    }
    match NEED_REDIS.iter().find(|name| variables.non_empty(name) == Some("redis")) {
        Some(name) => {
            let message =
                "needs Redis: set redis.url, or SOKETI_ADAPTER_DRIVER (adapter.driver) to redis";
            Err(ConfigError::at(variables.source(name), message))
        }
        None => Ok(()),
    }
}

/// Rejects keys that request unsupported features.
pub(super) fn reject_keys(raw: &RawConfig) -> Result<(), ConfigError> {
    collect_errors(raw.iter().map(|(key, setting)| {
        let empty = setting.value == Value::String(String::new());
        let setting_of = schema::setting(&key.schema_path());
        if setting_of.is_some_and(|known| !known.is_supported) && !empty {
            return Err(ConfigError::key(&setting.source, key, UNSUPPORTED));
        }
        Ok(())
    }))
}
