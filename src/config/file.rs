//! Reads `config.toml` into a draft, every value with its line.

use super::{
    draft::Draft,
    error::{ConfigError, Faults},
    key::Key,
    kind::in_order,
    schema::{self, SchemaNode},
    value_source::ValueSource,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Writes the values of `text` into `draft`. `file` is its name in errors and origins.
///
/// # Errors
///
/// The text is not TOML, contains an unknown key, or a value of the wrong kind.
pub(super) fn read(file: &str, text: &str, draft: &mut Draft) -> Result<(), ConfigError> {
    read_from(file, text, None, draft)
}

/// Writes the apps of `text`, which has nothing else, into `draft`. The first of them gets the index
/// `first_app`.
///
/// # Errors
///
/// Those of [`read`], or a key other than `apps`.
pub(super) fn read_apps(
    file: &str,
    text: &str,
    first_app: usize,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    read_from(file, text, Some(first_app), draft)
}

fn read_from(
    file: &str,
    text: &str,
    first_app: Option<usize>,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    let table = DeTable::parse(text).map_err(|error| match another_format(text) {
        Some(rule) => ConfigError::at(file, rule),
        None => syntax_error(file, text, &error),
    })?;
    let mut reader = FileReader { file, text, first_app, draft, faults: Faults::default() };
    reader.section(&Key::default(), table.get_ref());
    reader.faults.result()
}

/// The hint for a text that is in another format than TOML. JSON is read elsewhere.
fn another_format(text: &str) -> Option<&'static str> {
    let text = text.trim_start();
    let lines =
        || text.lines().map(str::trim_end).filter(|line| !line.trim_start().starts_with('#'));
    let is_yaml = |line: &str| {
        let name = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c))
        };
        let name = |text: &str| name(text.trim_matches(['"', '\'']));
        line.starts_with("---")
            || line == "-"
            || line.starts_with("- ")
            || line.starts_with("%YAML")
            || line.strip_suffix(':').or_else(|| Some(line.split_once(": ")?.0)).is_some_and(name)
    };
    let is_dotenv = |line: &str| {
        line.trim_start_matches("export ").split_once('=').is_some_and(|(name, _)| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
    };
    if text.starts_with("<?") {
        Some(
            "is PHP, and must be TOML: config/reverb.php is not read; the app's id, key and secret come from \
             REVERB_APP_* in .env, and what else is set there belongs into config.toml",
        )
    } else if lines().find(|line| !line.is_empty()).is_some_and(is_yaml) {
        Some(
            "is YAML, and must be TOML: what stands under `environment:` of a compose file belongs into the \
             environment or into a file for --env-file, settings into config.toml",
        )
    } else if lines().find(|line| !line.is_empty()).is_some_and(is_dotenv) {
        Some("holds variables, and must be TOML: name it by --env-file")
    } else {
        None
    }
}

fn syntax_error(file: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or_default();
    let place = format!("{file}:{}", line_at(text, span.start));
    let message = error.message().replace('\n', ", ");
    match text.get(span) {
        // Only a key is repeated: any other piece may be part of a secret.
        Some(key) if message == "duplicate key" => {
            ConfigError::at(place, format!("{message} `{}`", key.trim()))
        }
        Some(_) | None => ConfigError::at(place, message),
    }
}

/// The line of the byte `offset`, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

struct FileReader<'a> {
    file: &'a str,
    text: &'a str,
    /// The index of the first app in a file of apps; `None` in `config.toml`.
    first_app: Option<usize>,
    draft: &'a mut Draft,
    faults: Faults,
}

impl FileReader<'_> {
    fn section(&mut self, section: &Key, table: &DeTable<'_>) {
        for (name, value) in in_order(table) {
            let origin = self.origin(name.span().start);
            let key = section.child(name.get_ref());
            // A quoted key must not be read as a path.
            let entry = if name.get_ref().is_empty() || name.get_ref().contains(['.', '[', ']']) {
                Err(ConfigError::key(&origin, key, "unknown key"))
            } else {
                self.entry(key, value, origin)
            };
            self.faults.take(entry);
        }
    }

    fn entry(
        &mut self,
        key: Key,
        value: &Spanned<DeValue<'_>>,
        origin: ValueSource,
    ) -> Result<(), ConfigError> {
        if self.first_app.is_some() && key.section().as_str().is_empty() && key.as_str() != "apps" {
            let rule = "must be in config.toml: a file of apps has [[apps]] only";
            return Err(ConfigError::key(&origin, &key, rule));
        }
        match (schema::node(&key.pattern()), value.get_ref()) {
            (Some(SchemaNode::Leaf(setting)), value) => {
                let value = setting
                    .kind
                    .value(value)
                    .map_err(|rule| ConfigError::key(&origin, &key, rule))?;
                self.draft.set(key, value, origin);
                Ok(())
            }
            (Some(SchemaNode::Section), DeValue::Table(table)) => {
                self.section(&key, table);
                Ok(())
            }
            (Some(SchemaNode::Section), _) => {
                Err(ConfigError::key(&origin, key, "must be a table"))
            }
            (Some(SchemaNode::Sections), DeValue::Array(items)) => {
                self.sections(&key, items, &origin)
            }
            (Some(SchemaNode::Sections), _) => {
                Err(ConfigError::key(&origin, key, "must be a list of tables"))
            }
            (None, _) => Err(ConfigError::key(&origin, &key, schema::unknown_key(&key))),
        }
    }

    fn sections(
        &mut self,
        list: &Key,
        items: &[Spanned<DeValue<'_>>],
        origin: &ValueSource,
    ) -> Result<(), ConfigError> {
        if items.is_empty() && list.as_str() == "apps" {
            return Err(ConfigError::key(origin, list, "must have at least one app"));
        }
        let first = self.first_app.filter(|_| list.as_str() == "apps").unwrap_or_default();
        for (index, item) in (first..).zip(items) {
            let key = list.item(index);
            let origin = self.origin(item.span().start);
            let DeValue::Table(table) = item.get_ref() else {
                return Err(ConfigError::key(&origin, key, "must be a table"));
            };
            self.draft.begin(key.clone(), origin);
            self.section(&key, table);
        }
        Ok(())
    }

    fn origin(&self, offset: usize) -> ValueSource {
        ValueSource::File { file: self.file.to_owned(), line: line_at(self.text, offset) }
    }
}
