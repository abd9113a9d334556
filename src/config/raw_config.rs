//! The values set so far, with their sources. Each layer overwrites the earlier ones.

use super::{error::ConfigError, key::KeyPath, value_source::ValueSource};
use std::{collections::BTreeMap, fmt};
use toml::{Table, Value};

/// A value and its source. `Debug` shows the source only: the value may be a secret.
pub(super) struct SourcedValue {
    /// The value, of the kind that the key takes.
    pub(super) value: Value,
    /// Where it was set.
    pub(super) source: ValueSource,
}

impl fmt::Debug for SourcedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

/// The values that were set, merged, before they are checked. Others have their default.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    values: BTreeMap<KeyPath, SourcedValue>,
    /// The sources of elements of lists of sections in the file.
    sections: BTreeMap<KeyPath, ValueSource>,
}

impl RawConfig {
    /// Sets `value`, replacing an earlier one.
    pub(super) fn set(&mut self, key: KeyPath, value: Value, source: ValueSource) {
        self.values.insert(key, SourcedValue { value, source });
    }

    /// Removes the values of the section `key`.
    pub(super) fn remove_section(&mut self, key: &KeyPath) {
        self.values.retain(|known, _| known.section() != *key);
    }

    /// Records that the element `key` of a list of sections starts at `source`.
    pub(super) fn add_section(&mut self, key: KeyPath, source: ValueSource) {
        self.sections.insert(key, source);
    }

    /// The value set for `key`.
    pub(super) fn get(&self, key: &KeyPath) -> Option<&SourcedValue> {
        self.values.get(key)
    }

    /// The source of the value of `key`.
    pub(super) fn source(&self, key: &KeyPath) -> ValueSource {
        self.values.get(key).map_or(ValueSource::Default, |setting| setting.source.clone())
    }

    /// Where the section `key` starts in the file.
    pub(super) fn section_source(&self, key: &KeyPath) -> Option<&ValueSource> {
        self.sections.get(key)
    }

    /// All values that were set, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&KeyPath, &SourcedValue)> {
        self.values.iter()
    }

    /// All values, to normalize them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&KeyPath, &mut SourcedValue)> {
        self.values.iter_mut()
    }

    /// The source of any key of the section `key`.
    pub(super) fn source_within(&self, key: &KeyPath) -> Option<&ValueSource> {
        let within = |(at, _): &(&KeyPath, &SourcedValue)| {
            at.as_str().strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        let written = self.values.iter().find(within).map(|(_, setting)| &setting.source);
        self.section_source(key).or(written)
    }

    /// The number of elements of the list of sections `list`.
    ///
    /// # Errors
    ///
    /// An element before the last one is missing.
    pub(super) fn list_len(&self, list: &KeyPath) -> Result<usize, ConfigError> {
        let prefix = format!("{list}[");
        let index = |key: &KeyPath| -> Option<usize> {
            key.as_str().strip_prefix(&prefix)?.split_once(']')?.0.parse().ok()
        };
        let mut indexes: Vec<_> =
            self.values.keys().chain(self.sections.keys()).filter_map(index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        match indexes.iter().enumerate().find(|(expected, index)| expected != *index) {
            Some((missing, found)) => {
                let source =
                    self.source_within(&list.index(*found)).unwrap_or(&ValueSource::Default);
                Err(ConfigError::key(
                    source,
                    list.index(*found),
                    format!("must follow {}, which is missing", list.index(missing)),
                ))
            }
            None => Ok(indexes.len()),
        }
    }

    /// The values as the table that [`Config`](super::Config) is read from. Lists must have no gaps.
    pub(super) fn to_toml(&self) -> Table {
        let mut root = Table::new();
        for key in self.sections.keys() {
            descend(&mut root, key);
        }
        for (key, setting) in &self.values {
            descend(&mut root, &key.section()).insert(key.name().to_owned(), setting.value.clone());
        }
        root
    }
}

/// The table of `section`, created with its parents if missing.
fn descend<'a>(root: &'a mut Table, section: &KeyPath) -> &'a mut Table {
    let mut at = root;
    for (name, index) in section.parts().filter(|(name, _)| !name.is_empty()) {
        let value = at.entry(name).or_insert_with(|| match index {
            Some(_) => Value::Array(Vec::new()),
            None => Value::Table(Table::new()),
        });
        at = element(value, index.unwrap_or_default());
    }
    at
}

/// The table `value`, or its element `index` if it is a list.
fn element(value: &mut Value, index: usize) -> &mut Table {
    let table = if let Value::Array(items) = value {
        items.resize(items.len().max(index + 1), Value::Table(Table::new()));
        items[index].as_table_mut()
    } else {
        value.as_table_mut()
    };
    table.expect("the schema has no key that is a section and a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(keys: &[&str]) -> RawConfig {
        let mut raw = RawConfig::default();
        for (number, key) in (0..).zip(keys) {
            raw.set(KeyPath::new(*key), Value::Integer(number), ValueSource::Flag("--test"));
        }
        raw
    }

    #[test]
    fn a_draft_is_converted_to_a_table() {
        let raw = raw(&["server.tls.cert", "apps[1].id", "apps[0].id", "apps[0].webhooks[0].url"]);
        let expected =
            "apps = [{ id = 2, webhooks = [{ url = 3 }] }, { id = 1 }]\nserver.tls.cert = 0";
        assert_eq!(raw.to_toml(), expected.parse().unwrap());
    }

    #[test]
    fn more_than_ten_apps_keep_their_order() {
        let keys: Vec<_> = (0..12).map(|index| format!("apps[{index}].id")).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let raw = raw(&keys);
        assert_eq!(raw.list_len(&KeyPath::new("apps")), Ok(12));
        let table = raw.to_toml();
        let ids =
            table["apps"].as_array().unwrap().iter().map(|app| app["id"].as_integer().unwrap());
        assert_eq!(ids.collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_gap_in_a_list_is_an_error() {
        let error = raw(&["apps[0].id", "apps[4000000000].id"])
            .list_len(&KeyPath::new("apps"))
            .unwrap_err();
        let expected = "flag --test: apps[4000000000]: must follow apps[1], which is missing";
        assert_eq!(error.to_string(), expected);
    }
}
