//! The full path of a setting, and its name in the environment.

use std::fmt;

/// The prefix of Campanile's own variables.
pub(super) const PREFIX: &str = "CAMPANILE_";

/// The full path of a setting or a section, such as `apps[0].webhooks[1].url`. The root is empty.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct KeyPath(String);

impl KeyPath {
    /// A path in its written form.
    pub(super) fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The key of a variable name without its prefix: `SERVER__PORT`, `APPS__0__KEY`.
    pub(super) fn from_variable(variable: &str) -> Self {
        variable.to_ascii_lowercase().split("__").fold(Self::default(), |key, part| {
            match part.parse::<usize>() {
                Ok(index) if index.to_string() == part => key.index(index),
                Ok(_) | Err(_) => key.child(part),
            }
        })
    }

    /// The name of the environment variable that sets this key.
    pub(super) fn variable_name(&self) -> String {
        let path = self.0.replace('[', "__").replace(']', "").replace('.', "__");
        format!("{PREFIX}{}", path.to_ascii_uppercase())
    }

    /// The key `name` in this section.
    pub(super) fn child(&self, name: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{name}", self.0))
    }

    /// The element `index` of this list of sections.
    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path with `[]` for every index, as in the schema.
    pub(super) fn schema_path(&self) -> String {
        let parts = self.0.split('.').map(|part| match part.split_once('[') {
            Some((name, _index)) => format!("{name}[]"),
            None => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join(".")
    }

    /// The section that contains this key.
    pub(super) fn section(&self) -> Self {
        Self(self.0.rsplit_once('.').map_or("", |(section, _)| section).to_owned())
    }

    /// The last part of the path.
    pub(super) fn name(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(_, name)| name)
    }

    /// The path as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts of the path, each with its index if it is an element of a list.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, Option<usize>)> {
        self.0.split('.').map(|part| match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse().ok()),
            None => (part, None),
        })
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_converted_to_its_key_and_back() {
        for path in ["server.port", "apps[0].key", "apps[12].webhooks[3].url", "server.tls.cert"] {
            let variable = KeyPath::new(path).variable_name();
            let tail = variable.strip_prefix(PREFIX).unwrap();
            assert_eq!(KeyPath::from_variable(tail), KeyPath::new(path), "{variable}");
        }
        assert_eq!(KeyPath::new("apps[0].key").variable_name(), "CAMPANILE_APPS__0__KEY");
    }

    #[test]
    fn a_key_knows_its_section_and_pattern() {
        let key = KeyPath::new("apps[10].webhooks[2].url");
        assert_eq!(key.schema_path(), "apps[].webhooks[].url");
        assert_eq!(key.section(), KeyPath::new("apps[10].webhooks[2]"));
        assert_eq!(key.name(), "url");
        assert_eq!(
            key.parts().collect::<Vec<_>>(),
            [("apps", Some(10)), ("webhooks", Some(2)), ("url", None)]
        );
    }

    #[test]
    fn an_index_has_one_spelling() {
        assert_eq!(KeyPath::from_variable("APPS__00__KEY"), KeyPath::new("apps.00.key"));
    }
}
