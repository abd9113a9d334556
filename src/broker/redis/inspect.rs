//! Looks at the configured Redis without joining, for `campanile doctor`.

use super::{
    link::{RedisEndpoint, RedisFacts},
    reason::UnavailableReason,
};
use crate::config::RedisConfig;

/// Connects to each Redis server of `config`. Without a Redis, there are none.
///
/// # Errors
///
/// Redis cannot be used. The text has no secrets.
pub async fn inspect(config: &RedisConfig) -> Result<Vec<RedisFacts>, String> {
    let Some(target) = config.url.target() else { return Ok(Vec::new()) };
    let endpoint = RedisEndpoint::new(config, target.clone());
    let endpoint = endpoint.map_err(|error| format!("redis.ca: {error}"))?;
    let text = |error: redis::RedisError| UnavailableReason::from(&error).text.to_string();
    let (connection, _events) = endpoint.connect().await.map_err(text)?;
    connection.facts().await.map_err(text)
}
