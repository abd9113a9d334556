//! Settings that this version does not support. They are rejected, not ignored.

use super::{error::ConfigError, key::KeyPath, raw_config::RawConfig, variables::Variables};

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
