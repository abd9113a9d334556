//! What the configuration can name and this version cannot do. It is refused, never ignored.
//!
//! Whoever builds one of these parts deletes its lines here.

use super::{draft::Draft, key::Key, origin::ConfigError, variables::Variables};
use toml::Value;

const RULE: &str = "is not supported by this version of Campanile";

/// Keys that must stay empty.
const KEYS: [&str; 2] = ["redis.url", "console.password"];

/// Lists of sections that must stay empty.
const SECTIONS: [&str; 1] = ["apps[].webhooks[]"];

const OFF: &[&str] = &["false", "0"];

/// Peers' variables, the values with which they ask for nothing that we lack, and what the others
/// ask for.
const VARIABLES: [(&str, &[&str], &str); 7] = [
    ("REVERB_SCALING_ENABLED", OFF, "scaling through Redis"),
    ("SOKETI_ADAPTER_DRIVER", &["local"], "an adapter other than `local`"),
    ("SOKETI_APP_MANAGER_DRIVER", &["array"], "an app manager other than `array`"),
    ("SOKETI_CACHE_DRIVER", &["memory"], "a cache other than `memory`"),
    ("SOKETI_QUEUE_DRIVER", &["sync"], "a queue other than `sync`"),
    ("SOKETI_RATE_LIMITER_DRIVER", &["local"], "a rate limiter other than `local`"),
    ("SOKETI_DEFAULT_APP_WEBHOOKS", &["[]"], "webhooks"),
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

/// Refuses keys and sections that ask for what this version cannot do.
pub(super) fn refuse_keys(draft: &Draft) -> Result<(), ConfigError> {
    let refused = |key: &Key| SECTIONS.contains(&key.pattern().as_str());
    if let Some((key, origin)) = draft.sections().find(|(key, _)| refused(key)) {
        return Err(ConfigError::key(origin, key, RULE));
    }
    for (key, setting) in draft.settings() {
        let empty = setting.value == Value::String(String::new());
        if KEYS.contains(&key.pattern().as_str()) && !empty {
            return Err(ConfigError::key(&setting.origin, key, RULE));
        }
        if refused(&key.section()) {
            return Err(ConfigError::key(&setting.origin, key.section(), RULE));
        }
    }
    Ok(())
}
