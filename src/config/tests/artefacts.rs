//! The files that are made from the declarations of the settings: `config.toml`, the tables in
//! `docs/configuration.md` and in `docs/migrate`, and `docs/settings.schema.json`.
//!
//! Each is compared with what the declarations say. `WRITE_SETTINGS=1 cargo test --lib artefacts`
//! writes them.

use crate::config::{
    Config,
    declare::{Rule, SectionInfo, Setting, joined, parse_toml},
    json_schema,
    kind::ValueKind,
    schema::{defaults, flatten, sections, settings},
};
use std::{env, fmt::Write as _, fs, path::Path};
use toml::Value;

const COMMAND: &str = "WRITE_SETTINGS=1 cargo test --lib artefacts";

/// Compares the file `name` with `made`, or writes it.
fn compare(name: &str, made: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let made = made(&text);
    if env::var_os("WRITE_SETTINGS").is_some() {
        fs::write(path, made).unwrap();
        return;
    }
    for (at, (is, should)) in text.lines().zip(made.lines()).enumerate() {
        let line = at + 1;
        assert_eq!(is, should, "{name}:{line}: run {COMMAND}");
    }
    assert!(text == made, "{name} ends too early or too late: run {COMMAND}");
}

#[test]
fn config_toml_is_made_from_the_declarations() {
    compare("config.toml", |_| config_toml());
}

#[test]
fn the_tables_in_the_documents_are_made_from_the_declarations() {
    compare("docs/configuration.md", |page| with_tables(page, settings_table));
    compare("docs/migrate/reverb.md", |page| {
        with_tables(page, |_| defaults_table("from `REVERB_APP_*`", |setting| setting.reverb))
    });
    compare("docs/migrate/soketi.md", |page| {
        with_tables(page, |_| {
            defaults_table("from soketi's configuration", |setting| setting.soketi)
        })
    });
}

/// A setting of a section without a table would be missing, and a table that is not marked would stay as it is.
#[test]
fn the_page_of_settings_has_each_setting_once_and_in_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = fs::read_to_string(path).unwrap();
    let (_, tables) = page.split_once("## `[server]`").expect("the first section");
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: Vec<&str> = rows.map(|(key, _)| key).collect();
    let in_order = tables.split("<!-- settings:").skip(1).flat_map(|part| {
        part.split_once("-->").expect("the end of the mark").0.split(',').map(str::trim)
    });
    let declared: Vec<&str> = in_order
        .map(|path| sections().iter().find(|section| section.path == path).expect(path))
        .flat_map(|section| section.settings.iter().map(|setting| setting.key))
        .collect();
    assert_eq!(documented, declared);
    let mut all: Vec<&str> = settings().map(|setting| setting.key).collect();
    let mut of_page = documented;
    all.sort_unstable();
    of_page.sort_unstable();
    assert_eq!(of_page, all);
}

#[test]
fn the_json_schema_is_made_from_the_declarations() {
    compare("docs/settings.schema.json", |_| json_schema());
}

const HEAD: &str = "\
#:schema ./docs/settings.schema.json
# Every setting of Campanile, with its default.
#
# This file overrides the built-in defaults, the environment overrides this file, and flags override both. Each key has a
# name in the environment: server.port is CAMPANILE_SERVER__PORT, the first app's key CAMPANILE_APPS__0__KEY.
# REVERB_* and SOKETI_* variables are read as well, and an app that they configure has Reverb's or soketi's defaults
# (docs/migrate). `campanile check` shows what is in effect, with its source. docs/configuration.md has all settings
# in tables. The first line tells editors where the schema of this file is; in a copy, change it: docs/configuration.md,
# under Editors.
#
";

fn config_toml() -> String {
    let reload = format!(
        "SIGHUP reloads this file while the server runs, completely or not at all. Only a restart changes {}; \
         docs/reload.md says when the others apply.",
        restart_list()
    );
    let mut text = format!("{HEAD}{}#\n{}", comment(&reload), comment(UNITS));
    let values = flatten(&Config::default());
    for section in sections().iter().filter(|section| !section.settings.is_empty()) {
        let is_example = section.path.starts_with("apps[].");
        let name = section.path.replace("[]", "");
        let header =
            if section.path.ends_with(']') { format!("[[{name}]]") } else { format!("[{name}]") };
        text += &["\n", &comment(&joined(section.about)), &commented(is_example, &header)].concat();
        for setting in section.settings {
            let value = values.iter().find(|(key, _)| key.schema_path() == setting.key);
            let value = match (setting.example, value) {
                (Some(example), _) => example.to_owned(),
                (None, Some((key, _))) if setting.is_secret && key.name() == "secret" => {
                    format!("{:?}", Config::default().apps[0].secret.expose())
                }
                (None, Some((_, value))) => literal(value),
                (None, None) => literal(&default_of(setting)),
            };
            text += &comment(&format!("{} {}", setting.doc(), range_sentence(setting)));
            text += &commented(is_example, &format!("{} = {value}", setting.name()));
        }
    }
    text
}

const UNITS: &str =
    "Units are in the names: _s seconds, _ms milliseconds, _bytes bytes. Unknown keys are errors.";

/// The settings that only a restart changes; a section of which that is true for all, by
/// its header.
fn restart_list() -> String {
    let mut names = Vec::new();
    for section in sections() {
        let fixed: Vec<_> = section.settings.iter().filter(|s| s.needs_restart()).collect();
        if 1 < fixed.len() && fixed.len() == section.settings.len() {
            names.push(format!("[{}]", section.path));
        } else {
            names.extend(fixed.iter().map(|setting| setting.key.to_owned()));
        }
    }
    let last = names.pop().unwrap();
    format!("{} and {last}", names.join(", "))
}

fn commented(is_example: bool, line: &str) -> String {
    format!("{}{line}\n", if is_example { "# " } else { "" })
}

/// Markdown as lines of a comment.
fn comment(markdown: &str) -> String {
    let mut lines = vec![String::new()];
    for word in markdown.replace('`', "").split_whitespace() {
        let line = lines.last_mut().unwrap();
        if 116 < line.len() + word.len() {
            lines.push(word.to_owned());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    format!("# {}\n", lines.join("\n# "))
}

/// The allowed values as a sentence.
fn range_sentence(setting: &Setting) -> String {
    match setting.rule {
        Rule::Range(least, largest) => {
            format!("Range: {} to {}.", spelled(least), spelled(largest))
        }
        Rule::OneOf(names) => {
            let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("Values: {}.", names.join(", "))
        }
        Rule::Any(_) | Rule::Parse(..) | Rule::Table(..) => match setting.rule.description() {
            "" => String::new(),
            values => format!("Value: {values}."),
        },
    }
}

/// A number with its unit if it is a multiple of one.
fn spelled(number: i64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| 0 < number && number % unit == 0) {
        Some((unit, name)) => format!("{} {name}", number / unit),
        None => number.to_string(),
    }
}

/// A value in TOML, a large number in groups of digits.
fn literal(value: &Value) -> String {
    let text = value.to_string();
    if value.as_integer().is_none_or(|number| number < 10_000) {
        return text;
    }
    let digits: Vec<_> = text.as_bytes().rchunks(3).rev().collect();
    String::from_utf8(digits.join(&b'_')).unwrap()
}

fn default_of(setting: &Setting) -> Value {
    defaults().into_iter().find(|(known, _)| known.key == setting.key).unwrap().1
}

/// `page` with a new table after each line `<!-- settings: SECTION, … -->`, up to the next empty
/// line.
fn with_tables(page: &str, table: impl Fn(&[SectionInfo]) -> String) -> String {
    let mut parts = page.split("<!-- settings:");
    let mut made = parts.next().unwrap_or_default().to_owned();
    let mut tables = 0;
    for part in parts {
        let (names, rest) = part.split_once("-->\n").expect("the end of the mark");
        let rest = rest.find("\n\n").map_or("", |end| &rest[end + 1..]);
        let of_table: Vec<_> = names
            .split(',')
            .filter(|name| !name.trim().is_empty())
            .map(|name| *sections().iter().find(|s| s.path == name.trim()).expect(name))
            .collect();
        made += &["<!-- settings:", names, "-->\n", &table(&of_table), rest].concat();
        tables += 1;
    }
    assert!(tables > 0, "no table is marked");
    made
}

fn settings_table(of_table: &[SectionInfo]) -> String {
    let mut table =
        "| setting | type | default | range | reload | meaning |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for setting in of_table.iter().flat_map(|section| section.settings) {
        let kind = match setting.kind {
            ValueKind::String => "string",
            ValueKind::Integer => "integer",
            ValueKind::Boolean => "boolean",
            ValueKind::List => "list",
            ValueKind::Map => "map",
        };
        let unit = setting.unit().map(|unit| format!(", {unit}")).unwrap_or_default();
        let secret = if setting.is_secret { ", secret" } else { "" };
        let default = default_of(setting);
        let default = if setting.is_required { String::new() } else { format!("`{default}` ") };
        let range = match setting.rule {
            Rule::Range(least, largest) => format!("{least} to {largest} "),
            Rule::OneOf(names) => format!("`{}` ", names.join("`, `")),
            Rule::Any("") => String::new(),
            Rule::Any(_) | Rule::Parse(..) | Rule::Table(..) => {
                format!("{} ", setting.rule.description())
            }
        };
        let (reload, meaning) = (setting.reload.as_str(), with_links(&setting.doc()));
        writeln!(
            table,
            "| `{}` | {kind}{unit}{secret} | {default}| {range}| {reload} | {meaning} |",
            setting.key
        )
        .unwrap();
    }
    table
}

/// `text` with a link for each cited document.
fn with_links(text: &str) -> String {
    let link = |word: &str| {
        let name = word.trim_end_matches(['.', ',']);
        match name.strip_prefix("docs/") {
            Some(target) => {
                let page = target.split('#').next().unwrap_or_default();
                format!("[{page}]({target}){}", &word[name.len()..])
            }
            None => word.to_owned(),
        }
    };
    text.split(' ').map(link).collect::<Vec<_>>().join(" ")
}

/// The settings that have another default if they come from another server's configuration.
fn defaults_table(source: &str, default: impl Fn(&Setting) -> Option<&'static str>) -> String {
    let mut table = format!("| setting | in `config.toml` | {source} |\n|---|---|---|\n");
    for (setting, own) in defaults() {
        if let Some(other) = default(setting) {
            let key = setting.key.replace("[]", "[0]");
            writeln!(table, "| `{key}` | {own} | {} |", parse_toml(other)).unwrap();
        }
    }
    table
}
