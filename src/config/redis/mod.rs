//! The address of Redis from other servers' variables.

mod laravel;
mod soketi;

pub(super) use laravel::read as read_laravel;
pub(super) use soketi::read as read_soketi;

use super::{
    Secret, error::ConfigError, key::KeyPath, raw_config::RawConfig, redis_url::RedisTarget,
    settings::RedisConfig, values::redis_prefix, variables::Variables,
};
use toml::Value;

/// The keys that the variables here set.
const URL: &str = "redis.url";
const PREFIX: &str = "redis.prefix";

/// The value of the variable `name`, if it is set, or an error with its name.
fn parse_if_set<T>(
    variables: &Variables,
    name: &str,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Option<T>, ConfigError> {
    let value = variables.non_empty(name).map(parse).transpose();
    value.map_err(|message| ConfigError::at(variables.source(name), message))
}

/// The user and the password from two variables. A user without a password cannot sign in, which
/// causes a warning.
fn credentials(
    variables: &Variables,
    [username, password]: [&str; 2],
    warnings: &mut Vec<String>,
) -> (Option<String>, Option<Secret>) {
    let secret = variables.non_empty(password).map(Secret::new);
    let user = variables.non_empty(username).map(str::to_owned);
    if user.is_some() && secret.is_none() {
        let source = variables.source(username);
        warnings.push(format!("{source} has no effect: no password is set"));
        return (None, None);
    }
    (user, secret)
}

/// Writes `target` as the value of `redis.url`, with the variable `name` as source.
fn set_target(raw: &mut RawConfig, target: &RedisTarget, variables: &Variables, name: &str) {
    raw.set(KeyPath::new(URL), Value::String(target.to_url()), variables.source(name));
}

/// Writes the prefix: the other server's prefix of all keys, then its name in Redis. Each of the
/// two variables may be missing; without both, nothing is written.
fn set_prefix(raw: &mut RawConfig, variables: &Variables, names: [&str; 2]) {
    let [outer, inner] = names.map(|name| variables.non_empty(name));
    let is_broken = |part: Option<&str>| part.is_some_and(|part| redis_prefix(part).is_err());
    let source_variable = match (outer, inner) {
        (None, None) => return,
        (_, Some(_)) if !is_broken(outer) => names[1],
        (_, _) => names[0],
    };
    let own = RedisConfig::default().prefix;
    let prefix = format!("{}{}", outer.unwrap_or_default(), inner.unwrap_or(&own));
    raw.set(KeyPath::new(PREFIX), Value::String(prefix), variables.source(source_variable));
}
