//! The effective configuration as a file that shows the source of every value.

use super::{
    Loaded,
    error::{ConfigError, collect_errors},
    key::KeyPath,
    schema::flatten,
};
use serde_json::{Map, Value, json};

impl Loaded {
    /// Returns an error if files that settings refer to are invalid, with one error for each key.
    ///
    /// # Errors
    ///
    /// There are errors.
    pub fn check_files(
        &self,
        errors: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<(), ConfigError> {
        collect_errors(errors.into_iter().map(|(key, message)| {
            Err::<(), _>(ConfigError::key(&self.raw.source(&KeyPath::new(key)), key, message))
        }))
    }

    /// Adds a warning about the file of the setting `key`.
    pub fn warn(&mut self, key: &str, what: &str) {
        let source = self.raw.source(&KeyPath::new(key));
        self.warnings.push(format!("{source}: {key}: {what}"));
    }

    /// The effective configuration as TOML, with masked secrets. A comment after each value shows
    /// its source.
    #[must_use]
    pub fn effective_toml(&self) -> String {
        let mut lines = Vec::new();
        let mut section = KeyPath::default();
        for (key, value) in flatten(&self.config) {
            if key.section() != section {
                section = key.section();
                lines.push(header(&section));
            }
            lines.push(format!("{} = {value}  # {}", key.name(), self.source(&key)));
        }
        lines.join("\n").trim_start().to_owned() + "\n"
    }

    /// The effective configuration with masked secrets: the value and the source of each setting, by
    /// its key, and the warnings and infos.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let settings = flatten(&self.config).into_iter().map(|(key, value)| {
            let source = self.source(&key);
            (key.to_string(), json!({ "value": value, "source": source }))
        });
        let settings: Map<String, Value> = settings.collect();
        json!({ "settings": settings, "warnings": self.warnings, "infos": self.infos })
    }

    fn source(&self, key: &KeyPath) -> String {
        let source = self.raw.source(key);
        if self.is_restricted_to_loopback && key.as_str() == "server.host" {
            return format!("{source}, but loopback for the development app");
        }
        source.to_string()
    }
}

/// The line that begins `section`, after an empty one.
fn header(section: &KeyPath) -> String {
    let names: Vec<_> = section.parts().map(|(name, _)| name).collect();
    let names = names.join(".");
    if section.as_str().ends_with(']') { format!("\n[[{names}]]") } else { format!("\n[{names}]") }
}
