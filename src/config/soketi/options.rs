//! Reads the options in a configuration file of soketi as the variables with the same effect.

use super::{
    json,
    mapping::{APP_OPTIONS, COMPUTED_FIELDS, JSON_VALUED, OPTIONS},
};
use crate::config::{
    compat_variable::CompatVariable,
    error::{ConfigError, ErrorCollector},
    schema::{self, unknown},
    value_source::ValueSource,
    variables::OptionValue,
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const APPS: &str = "appManager.array.apps";

/// The options in a configuration file of soketi.
#[derive(Default)]
pub(in crate::config) struct SoketiFile {
    /// The options of the server, and the limits of all apps.
    pub(super) values: Vec<OptionValue>,
    /// The apps, by their index.
    pub(super) apps: BTreeMap<usize, SoketiApp>,
}

/// An app in the file.
#[derive(Default)]
pub(super) struct SoketiApp {
    /// The source of the app in a list. `None` if only single options of it are set, by their paths.
    pub(super) place: Option<ValueSource>,
    pub(super) values: Vec<OptionValue>,
}

impl SoketiFile {
    /// Whether the file has apps.
    pub(in crate::config) fn has_apps(&self) -> bool {
        !self.apps.is_empty()
    }

    /// The indexes of the apps in the file.
    pub(in crate::config) fn apps(&self) -> impl Iterator<Item = usize> {
        self.apps.keys().copied()
    }
}

/// Reads the `text` of the file with the name `file`. Of a file with errors, the rest is read.
pub(in crate::config) fn read_file(
    file: &str,
    text: &str,
    warnings: &mut Vec<String>,
    errors: &mut ErrorCollector,
) -> SoketiFile {
    let mut reader = OptionReader { options: SoketiFile::default(), warnings, errors };
    let root = ValueSource::FileOption { file: file.to_owned(), path: String::new() };
    if let Some(members) = reader.errors.collect(json::parse(file, text)) {
        reader.members("", &members, &root);
    }
    reader.options
}

struct OptionReader<'a> {
    options: SoketiFile,
    warnings: &'a mut Vec<String>,
    errors: &'a mut ErrorCollector,
}

impl OptionReader<'_> {
    /// Reads an object. As in soketi, a name may be the path of an option in further objects, such
    /// as `appManager.array.apps`.
    fn members(&mut self, section: &str, members: &Map<String, Value>, source: &ValueSource) {
        for (name, value) in members {
            let dot = if section.is_empty() { "" } else { "." };
            let path = format!("{section}{dot}{}", name.replace('[', ".").replace(']', ""));
            self.entry(&path, value, &source.child(name));
        }
    }

    fn entry(&mut self, path: &str, value: &Value, source: &ValueSource) {
        let of_app = path.strip_prefix(APPS).and_then(|rest| rest.strip_prefix('.'));
        let of_app = of_app.map(|rest| rest.split_once('.').unwrap_or((rest, "")));
        let index = of_app.and_then(|(index, name)| Some((index.parse().ok()?, name)));
        match (index, value) {
            (_, Value::Null) => {}
            (Some((index, "")), value) => self.app(index, value, source),
            (Some((index, name)), value) => self.app_option(index, name, value, source),
            (None, Value::Array(items)) if path == APPS => self.apps(items, source),
            (None, _) if path == APPS => self.issue(source, "must be a list of apps"),
            (None, value) => match OPTIONS.iter().find(|(known, _)| *known == path) {
                Some((_, variable)) => self.value(variable, value, source, None),
                None => self.section(path, value, source),
            },
        }
    }

    /// Reads an object of options. Others than soketi's have no effect; a warning says so.
    fn section(&mut self, path: &str, value: &Value, source: &ValueSource) {
        match (is_section(path), value) {
            (true, Value::Object(members)) => self.members(path, members, source),
            (true, _) => self.issue(source, "must be an object"),
            (false, _) => {
                let why = unknown_option(path);
                self.warnings.push(format!("{source} has no effect: {why}"));
            }
        }
    }

    fn apps(&mut self, items: &[Value], source: &ValueSource) {
        if items.is_empty() {
            self.issue(source, "must have at least one app");
        }
        for (index, item) in items.iter().enumerate() {
            let source = source.child(&format!("[{index}]"));
            self.app(index, item, &source);
        }
    }

    fn app(&mut self, index: usize, app: &Value, source: &ValueSource) {
        let Value::Object(members) = app else {
            return self.issue(source, "must be an object");
        };
        self.options.apps.entry(index).or_default().place = Some(source.clone());
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            self.app_option(index, name, value, &source.child(name));
        }
    }

    fn app_option(&mut self, app: usize, name: &str, value: &Value, source: &ValueSource) {
        let known = APP_OPTIONS.iter().find(|(names, _)| names.contains(&name));
        let variable = known.and_then(|(_, variable)| {
            OPTIONS.iter().map(|(_, known)| known).find(|known| known.name() == *variable)
        });
        match variable {
            Some(variable) => self.value(variable, value, source, Some(app)),
            None if COMPUTED_FIELDS.contains(&name) => {}
            None => {
                let names = APP_OPTIONS.iter().map(|([name, ..], _)| *name);
                let why = unknown("option of an app", name, names);
                self.warnings.push(format!("{source} has no effect: {why}"));
            }
        }
    }

    /// Takes a value as that of `variable`, for one app or for the server.
    fn value(
        &mut self,
        variable: &'static CompatVariable,
        value: &Value,
        source: &ValueSource,
        app: Option<usize>,
    ) {
        let Some(text) = self.errors.collect(text_of(variable, value, source)) else { return };
        let values = match app {
            Some(app) => &mut self.options.apps.entry(app).or_default().values,
            None => &mut self.options.values,
        };
        let name = variable.name();
        match values.iter().find(|set| set.variable == name) {
            Some(other) => {
                let message = format!("is set twice; first at {}", other.source);
                self.issue(source, &message);
            }
            None => values.push(OptionValue { variable: name, text, source: source.clone() }),
        }
    }

    fn issue(&mut self, source: &ValueSource, message: &str) {
        self.errors.collect(Err::<(), _>(ConfigError::at(source, message)));
    }
}

/// The value as it would be written in the variable.
///
/// # Errors
///
/// The value is of a kind that the option can't have.
fn text_of(
    variable: &CompatVariable,
    value: &Value,
    source: &ValueSource,
) -> Result<String, ConfigError> {
    let is_json =
        matches!(variable, CompatVariable::Ignored(..)) || JSON_VALUED.contains(&variable.name());
    let issue = |message| Err(ConfigError::at(source, message));
    let text = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(_) if !is_json => return issue("must not be a list"),
        Value::Object(_) if !is_json => return issue("must not be an object"),
        Value::Number(number) => number_text(number),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    // A number may be an id, as in soketi, unless it has a fraction or too many digits to be exact.
    let is_whole = value.is_i64() || value.is_u64();
    let is_string_setting = variable
        .convert()
        .is_some_and(|convert| convert(&text) == Ok(toml::Value::String(text.clone())));
    if is_string_setting && !is_whole { issue("must be a string") } else { Ok(text) }
}

/// The number in the spelling of JavaScript, as far as it is a whole one.
fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        Some(_) | None => number.to_string(),
    }
}

/// Whether `path` is that of an object with options.
fn is_section(path: &str) -> bool {
    sections().any(|section| section == path)
}

/// The paths of the objects that contain options.
fn sections() -> impl Iterator<Item = &'static str> {
    let sections_of = |path: &'static str| path.match_indices('.').map(|(at, _)| &path[..at]);
    OPTIONS.iter().flat_map(move |(path, _)| sections_of(path))
}

/// Why the option `path` has no effect, with a suggestion if there is a similar one.
fn unknown_option(path: &str) -> String {
    let ends = |path: &str| {
        let last = path.rsplit('.').next().unwrap_or_default();
        (path.split('.').next().unwrap_or_default().to_owned(), last.to_owned())
    };
    let known: BTreeSet<_> = OPTIONS.iter().map(|(path, _)| *path).chain(sections()).collect();
    let (first, last) = ends(path);
    let mut elsewhere = known.iter().filter(|known| ends(known) == (first.clone(), last.clone()));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(only), None) => format!("unknown option; did you mean `{only}`?"),
        _ if !known.contains(first.as_str()) && schema::node(&first).is_some() => {
            "settings of Campanile are read from TOML, not from JSON".to_owned()
        }
        _ => unknown("option", path, known.iter().copied()),
    }
}
