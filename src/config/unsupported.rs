//! What the configuration can name and this version cannot do. It is refused, never ignored.
//!
//! Whoever builds one of these parts deletes its lines here.

use super::{draft::Draft, origin::ConfigError, variables::Variables};
use toml::Value;

const RULE: &str = "is not supported by this version of Campanile";

/// Keys that must stay empty.
const KEYS: [&str; 4] = ["server.tls.cert", "server.tls.key", "redis.url", "console.password"];

const OFF: &[&str] = &["false", "0"];

/// Peers' variables, the values with which they ask for nothing that we lack, and what the others
/// ask for.
const VARIABLES: [(&str, &[&str], &str); 9] = [
    ("REVERB_SCALING_ENABLED", OFF, "scaling through Redis"),
    ("REVERB_APP_RATE_LIMITING_ENABLED", OFF, "limiting the rate of all messages"),
    ("SOKETI_ADAPTER_DRIVER", &["local"], "an adapter other than `local`"),
    ("SOKETI_APP_MANAGER_DRIVER", &["array"], "an app manager other than `array`"),
    ("SOKETI_CACHE_DRIVER", &["memory"], "a cache other than `memory`"),
    ("SOKETI_QUEUE_DRIVER", &["sync"], "a queue other than `sync`"),
    ("SOKETI_RATE_LIMITER_DRIVER", &["local"], "a rate limiter other than `local`"),
    ("SOKETI_SSL_CERT", &[], "TLS in the server"),
    ("SOKETI_SSL_KEY", &[], "TLS in the server"),
];

/// Names of the variables that this file knows.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|(name, _, _)| *name)
}

/// Refuses variables that ask for what this version cannot do.
pub(super) fn refuse_variables(variables: &Variables) -> Result<(), ConfigError> {
    for (name, harmless, what) in VARIABLES {
        if variables.set(name).is_some_and(|value| !harmless.contains(&value)) {
            return Err(ConfigError::at(variables.origin(name), format!("{what} {RULE}")));
        }
    }
    Ok(())
}

/// Refuses keys that ask for what this version cannot do.
pub(super) fn refuse_keys(draft: &Draft) -> Result<(), ConfigError> {
    for (key, setting) in draft.settings() {
        let empty = setting.value == Value::String(String::new());
        if KEYS.contains(&key.pattern().as_str()) && !empty {
            return Err(ConfigError::key(&setting.origin, key, RULE));
        }
    }
    Ok(())
}
