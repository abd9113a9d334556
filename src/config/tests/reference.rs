//! Compares `docs/configuration.md` with the settings in the code.

use crate::config::{
    AppConfig, Config, WebhookConfig,
    changes::FIXED,
    schema::{Schema, ValueKind, flatten},
    values,
};
use std::collections::BTreeMap;
use toml::Value;

const PAGE: &str = include_str!("../../../docs/configuration.md");
/// Settings without a default: each app or webhook has to set them.
const REQUIRED: [&str; 5] = [
    "apps[].id",
    "apps[].key",
    "apps[].secret",
    "apps[].webhooks[].url",
    "apps[].webhooks[].events",
];

/// A row of the page: the description of one setting.
struct Row<'a> {
    setting: &'a str,
    kind: &'a str,
    default: &'a str,
    range: &'a str,
    reload: &'a str,
    meaning: &'a str,
}

fn quoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

fn rows() -> Vec<Row<'static>> {
    let cells = PAGE.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = cells.filter_map(|cells| match cells[..] {
        ["", setting, kind, default, range, reload, meaning, ""] => {
            Some(Row { setting: quoted(setting)?, kind, default, range, reload, meaning })
        }
        _ => None,
    });
    rows.collect()
}

/// The differences between the code and the row.
fn mistakes(row: &Row<'_>, kind: ValueKind, default: Option<&Value>) -> Vec<String> {
    let Row { setting, range, .. } = row;
    let unit = match setting.rsplit('_').next() {
        Some("s") => ", seconds",
        Some("ms") => ", milliseconds",
        Some("bytes") => ", bytes",
        _ => "",
    };
    let is_channel_name = *setting == "apps[].max_channel_name_length";
    let unit = match setting.strip_suffix("_length") {
        Some(_) if is_channel_name => ", bytes",
        Some(_) => ", characters",
        None => unit,
    };
    let name = match kind {
        ValueKind::Text => "string",
        ValueKind::Integer => "integer",
        ValueKind::Boolean => "boolean",
        ValueKind::List => "list",
        ValueKind::Map => "map",
    };
    let mut expected = vec![("type", row.kind, format!("{name}{unit}"))];
    if let Some((least, largest)) = values::range(setting) {
        expected.push(("range", range, format!("{least} to {largest}")));
    }
    let words = values::CHOICES.iter().find(|(choice, _)| choice == setting);
    if let Some((_, words)) = words {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        expected.push(("range", range, words.join(", ")));
    }
    let default = default.map_or_else(String::new, |value| format!("`{value}`"));
    expected.push(("default", row.default, default));
    let differing = expected.into_iter().filter(|(_, said, true_one)| said != true_one);
    let mut mistakes: Vec<String> = differing
        .map(|(what, said, true_one)| format!("{setting}: {what} is {true_one}, not {said}"))
        .collect();
    if (row.reload == "restart") != FIXED.contains(setting) || row.reload.is_empty() {
        mistakes.push(format!("{setting}: reload is not {:?}", row.reload));
    }
    if row.meaning.is_empty() {
        mistakes.push(format!("{setting}: no meaning"));
    }
    mistakes
}

#[test]
fn the_reference_lists_every_setting_with_its_type_range_default_and_reload() {
    let app = AppConfig { webhooks: vec![WebhookConfig::default()], ..AppConfig::default() };
    let defaults: BTreeMap<String, Value> =
        flatten(&Config { apps: vec![app], ..Config::default() })
            .into_iter()
            .map(|(key, _, value)| (key.pattern(), value))
            .filter(|(setting, _)| !REQUIRED.contains(&setting.as_str()))
            .collect();
    let (schema, rows) = (Schema::new(), rows());
    let known: Vec<(&str, ValueKind)> = schema.leaves().collect();
    let named: Vec<&str> = rows.iter().map(|row| row.setting).collect();
    let expected: Vec<&str> = known.iter().map(|(setting, _)| *setting).collect();
    assert_eq!(named, expected, "the settings, in the order of config.toml");
    let mistakes: Vec<String> = rows
        .iter()
        .zip(known)
        .flat_map(|(row, (setting, kind))| mistakes(row, kind, defaults.get(setting)))
        .collect();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}
