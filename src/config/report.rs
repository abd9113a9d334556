//! The effective configuration as a file that shows the origin of every value.

use super::{
    Loaded,
    error::{ConfigError, all},
    key::Key,
    schema::flatten,
};
use serde_json::{Map, Value, json};

impl Loaded {
    /// Returns an error if files that settings refer to are invalid, with one fault for each key.
    ///
    /// # Errors
    ///
    /// There are errors.
    pub fn reject(
        &self,
        faults: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<(), ConfigError> {
        all(faults.into_iter().map(|(key, rule)| {
            Err::<(), _>(ConfigError::key(&self.draft.origin(&Key::new(key)), key, rule))
        }))
    }

    /// Adds a note about the file of the setting `key`.
    pub fn note(&mut self, key: &str, what: &str) {
        let origin = self.draft.origin(&Key::new(key));
        self.notes.push(format!("{origin}: {key}: {what}"));
    }

    /// The effective configuration as TOML, with masked secrets. A comment after each value shows
    /// its origin.
    #[must_use]
    pub fn effective_toml(&self) -> String {
        let mut lines = Vec::new();
        let mut section = Key::default();
        for (key, value) in flatten(&self.config) {
            if key.section() != section {
                section = key.section();
                lines.push(header(&section));
            }
            lines.push(format!("{} = {value}  # {}", key.name(), self.origin(&key)));
        }
        lines.join("\n").trim_start().to_owned() + "\n"
    }

    /// The effective configuration with masked secrets: the value and the source of each setting, by
    /// its key, and the notes and facts.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let settings = flatten(&self.config).into_iter().map(|(key, value)| {
            let source = self.origin(&key);
            (key.to_string(), json!({ "value": value, "source": source }))
        });
        let settings: Map<String, Value> = settings.collect();
        json!({ "settings": settings, "notes": self.notes, "facts": self.facts })
    }

    fn origin(&self, key: &Key) -> String {
        let origin = self.draft.origin(key);
        if self.is_restricted_to_loopback && key.as_str() == "server.host" {
            return format!("{origin}, but loopback for the development app");
        }
        origin.to_string()
    }
}

/// The line that begins `section`, after an empty one.
fn header(section: &Key) -> String {
    let names: Vec<_> = section.parts().map(|(name, _)| name).collect();
    let names = names.join(".");
    if section.as_str().ends_with(']') { format!("\n[[{names}]]") } else { format!("\n[{names}]") }
}
