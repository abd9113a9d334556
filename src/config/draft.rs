//! The values set so far, with their origins. Each layer overwrites the earlier ones.

use super::{error::ConfigError, key::Key, value_source::ValueSource};
use std::{collections::BTreeMap, fmt};
use toml::{Table, Value};

/// A value and its origin. `Debug` shows the origin only: the value may be a secret.
pub(super) struct Setting {
    /// The value, of the kind that the key takes.
    pub(super) value: Value,
    /// Where it was set.
    pub(super) origin: ValueSource,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.origin, f)
    }
}

/// All values that were set. Others have their default.
#[derive(Debug, Default)]
pub(super) struct Draft {
    settings: BTreeMap<Key, Setting>,
    /// The origins of elements of lists of sections in the file.
    sections: BTreeMap<Key, ValueSource>,
}

impl Draft {
    /// Sets `value`, replacing an earlier one.
    pub(super) fn set(&mut self, key: Key, value: Value, origin: ValueSource) {
        self.settings.insert(key, Setting { value, origin });
    }

    /// Removes the values of the section `key`.
    pub(super) fn remove_section(&mut self, key: &Key) {
        self.settings.retain(|known, _| known.section() != *key);
    }

    /// Records that the element `key` of a list of sections starts at `origin`.
    pub(super) fn begin(&mut self, key: Key, origin: ValueSource) {
        self.sections.insert(key, origin);
    }

    /// The value set for `key`.
    pub(super) fn setting(&self, key: &Key) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// The origin of the value of `key`.
    pub(super) fn origin(&self, key: &Key) -> ValueSource {
        self.settings.get(key).map_or(ValueSource::Default, |setting| setting.origin.clone())
    }

    /// Where the section `key` starts in the file.
    pub(super) fn section(&self, key: &Key) -> Option<&ValueSource> {
        self.sections.get(key)
    }

    /// All values.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&Key, &Setting)> {
        self.settings.iter()
    }

    /// All values, to normalize them.
    pub(super) fn settings_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Setting)> {
        self.settings.iter_mut()
    }

    /// The origin of any key of the section `key`.
    pub(super) fn origin_within(&self, key: &Key) -> Option<&ValueSource> {
        let within = |(at, _): &(&Key, &Setting)| {
            at.as_str().strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        let written = self.settings.iter().find(within).map(|(_, setting)| &setting.origin);
        self.section(key).or(written)
    }

    /// The number of elements of the list of sections `list`.
    ///
    /// # Errors
    ///
    /// An element before the last one is missing.
    pub(super) fn count(&self, list: &Key) -> Result<usize, ConfigError> {
        let prefix = format!("{list}[");
        let index = |key: &Key| -> Option<usize> {
            key.as_str().strip_prefix(&prefix)?.split_once(']')?.0.parse().ok()
        };
        let mut indexes: Vec<_> =
            self.settings.keys().chain(self.sections.keys()).filter_map(index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        match indexes.iter().enumerate().find(|(expected, index)| expected != *index) {
            Some((missing, found)) => {
                let origin =
                    self.origin_within(&list.item(*found)).unwrap_or(&ValueSource::Default);
                Err(ConfigError::key(
                    origin,
                    list.item(*found),
                    format!("must follow {}, which is missing", list.item(missing)),
                ))
            }
            None => Ok(indexes.len()),
        }
    }

    /// The draft as the table that [`Config`](super::Config) is read from. Lists must have no gaps.
    pub(super) fn table(&self) -> Table {
        let mut root = Table::new();
        for key in self.sections.keys() {
            descend(&mut root, key);
        }
        for (key, setting) in &self.settings {
            descend(&mut root, &key.section()).insert(key.name().to_owned(), setting.value.clone());
        }
        root
    }
}

/// The table of `section`, created with its parents if missing.
fn descend<'a>(root: &'a mut Table, section: &Key) -> &'a mut Table {
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

    fn draft(keys: &[&str]) -> Draft {
        let mut draft = Draft::default();
        for (number, key) in (0..).zip(keys) {
            draft.set(Key::new(*key), Value::Integer(number), ValueSource::Flag("--test"));
        }
        draft
    }

    #[test]
    fn a_draft_is_converted_to_a_table() {
        let draft =
            draft(&["server.tls.cert", "apps[1].id", "apps[0].id", "apps[0].webhooks[0].url"]);
        let expected =
            "apps = [{ id = 2, webhooks = [{ url = 3 }] }, { id = 1 }]\nserver.tls.cert = 0";
        assert_eq!(draft.table(), expected.parse().unwrap());
    }

    #[test]
    fn more_than_ten_apps_keep_their_order() {
        let keys: Vec<_> = (0..12).map(|index| format!("apps[{index}].id")).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let draft = draft(&keys);
        assert_eq!(draft.count(&Key::new("apps")), Ok(12));
        let table = draft.table();
        let ids =
            table["apps"].as_array().unwrap().iter().map(|app| app["id"].as_integer().unwrap());
        assert_eq!(ids.collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_gap_in_a_list_is_an_error() {
        let error =
            draft(&["apps[0].id", "apps[4000000000].id"]).count(&Key::new("apps")).unwrap_err();
        let expected = "flag --test: apps[4000000000]: must follow apps[1], which is missing";
        assert_eq!(error.to_string(), expected);
    }
}
