//! Looks up settings and sections by key.

use super::{
    AppConfig, Config, HistoryConfig, WebhookConfig,
    declare::{SectionInfo, Setting, SettingsSection},
    key::KeyPath,
};
use std::sync::LazyLock;
use toml::{Table, Value};

static SECTIONS: LazyLock<Vec<SectionInfo>> = LazyLock::new(Config::sections);

/// A setting, a section, or a list of sections.
#[derive(Clone, Copy, Debug)]
pub(super) enum SchemaNode {
    /// A value.
    Leaf(&'static Setting),
    /// A table of keys.
    Section,
    /// A list of tables of keys.
    Sections,
}

/// All sections, in the order of the manual.
pub(super) fn sections() -> &'static [SectionInfo] {
    &SECTIONS
}

/// All settings, in the order of the manual.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    sections().iter().flat_map(|section| section.settings)
}

/// The setting `pattern`, such as `apps[].key`.
pub(super) fn setting(pattern: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == pattern)
}

/// All settings with their defaults, in the order of the manual.
pub(super) fn defaults() -> Vec<(&'static Setting, Value)> {
    let app = AppConfig {
        webhooks: vec![WebhookConfig::default()],
        history: vec![HistoryConfig::default()],
        ..AppConfig::default()
    };
    let values = flatten(&Config { apps: vec![app], ..Config::default() });
    settings().zip(values).map(|(setting, (_, value))| (setting, value)).collect()
}

/// What `pattern` refers to, if the key or section exists.
pub(super) fn node(pattern: &str) -> Option<SchemaNode> {
    let section =
        sections().iter().find_map(|section| match section.path.strip_prefix(pattern)? {
            "" => Some(SchemaNode::Section),
            "[]" => Some(SchemaNode::Sections),
            _another_name => None,
        });
    section.or_else(|| setting(pattern).map(SchemaNode::Leaf))
}

/// The names of the keys and sections in `section`, in the order of the manual.
fn names_in(section: &str) -> Vec<&'static str> {
    let name = |path: &'static str| {
        let rest = match section {
            "" => path,
            section => path.strip_prefix(section)?.strip_prefix('.')?,
        };
        rest.split(['.', '[']).next()
    };
    let mut names: Vec<_> = settings().filter_map(|setting| name(setting.key)).collect();
    names.dedup();
    names
}

/// The error for an unknown key, with a suggestion from the same section.
pub(super) fn unknown_key(key: &KeyPath) -> String {
    unknown("key", key.name(), names_in(&key.section().schema_path()).into_iter())
}

/// "unknown `what`", with the candidate that is most similar to `name`, if one is similar.
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> String {
    let near = candidates
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, candidate)) => format!("unknown {what}; did you mean `{candidate}`?"),
        None => format!("unknown {what}"),
    }
}

/// Every value of `config`, in the order of the manual, with masked secrets. An empty list of
/// sections counts as a value.
pub(super) fn flatten(config: &Config) -> Vec<(KeyPath, Value)> {
    let table = Table::try_from(config).expect("a configuration has only what TOML has");
    let mut values = Vec::new();
    flatten_section(&table, &KeyPath::default(), &mut values);
    values
}

fn flatten_section(table: &Table, section: &KeyPath, values: &mut Vec<(KeyPath, Value)>) {
    for name in names_in(&section.schema_path()) {
        let key = section.child(name);
        match (node(&key.schema_path()), &table[name]) {
            (Some(SchemaNode::Sections), Value::Array(items)) if !items.is_empty() => {
                for (index, table) in items.iter().filter_map(Value::as_table).enumerate() {
                    flatten_section(table, &key.index(index), values);
                }
            }
            (Some(SchemaNode::Section), Value::Table(table)) => {
                flatten_section(table, &key, values);
            }
            (_, value) => values.push((key, value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A reload replaces the apps as a whole.
    #[test]
    fn every_setting_of_an_app_can_be_reloaded() {
        let of_apps = settings().filter(|setting| setting.key.starts_with("apps[]."));
        let fixed: Vec<_> = of_apps.filter(|setting| setting.needs_restart()).collect();
        assert!(fixed.is_empty(), "{fixed:?}");
    }

    #[test]
    fn a_pattern_refers_to_a_section_or_a_setting() {
        for section in ["server", "server.tls", "apps[]", "apps[].webhooks[]"] {
            assert!(matches!(node(section), Some(SchemaNode::Section)), "{section}");
        }
        for list in ["apps", "apps[].webhooks"] {
            assert!(matches!(node(list), Some(SchemaNode::Sections)), "{list}");
        }
        for setting in ["server.host", "apps[].webhooks[].headers"] {
            let found = node(setting);
            assert!(matches!(found, Some(SchemaNode::Leaf(leaf)) if leaf.key == setting));
        }
        for unknown in ["server.por", "server.port2", "serve", "apps[].port", "app", "[]"] {
            assert!(node(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn each_field_of_the_structs_is_a_setting_and_each_setting_a_field() {
        let webhooks = vec![WebhookConfig::default()];
        let history = vec![HistoryConfig::default()];
        let app = AppConfig { webhooks, history, ..AppConfig::default() };
        let config = Config { apps: vec![app], ..Config::default() };
        let mut fields = BTreeSet::new();
        let mut tables = vec![(String::new(), Value::try_from(&config).unwrap())];
        while let Some((path, value)) = tables.pop() {
            if let (Some(table), None) = (value.as_table(), setting(&path)) {
                let dot = if path.is_empty() { "" } else { "." };
                tables.extend(table.iter().map(|(n, v)| (format!("{path}{dot}{n}"), v.clone())));
            } else if let (Some(items), None) = (value.as_array(), setting(&path)) {
                tables.extend(items.iter().map(|item| (format!("{path}[]"), item.clone())));
            } else {
                assert!(fields.insert(path));
            }
        }
        let declared: BTreeSet<_> = settings().map(|setting| setting.key.to_owned()).collect();
        assert_eq!(fields, declared);
        assert_eq!(settings().count(), 88);
        let shown = flatten(&config).into_iter().map(|(key, _)| key.schema_path());
        assert_eq!(shown.collect::<Vec<_>>(), settings().map(|s| s.key).collect::<Vec<_>>());
    }

    #[test]
    fn only_a_similar_name_is_suggested() {
        assert_eq!(unknown_key(&KeyPath::new("apps[0].keey")), "unknown key; did you mean `key`?");
        assert_eq!(unknown_key(&KeyPath::new("serve")), "unknown key; did you mean `server`?");
        assert_eq!(unknown_key(&KeyPath::new("server.colour_of_bell")), "unknown key");
    }
}
