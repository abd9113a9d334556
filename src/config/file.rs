//! Reads `config.toml` into a raw configuration, every value with its line.

use super::{
    error::{ConfigError, ErrorCollector},
    key::KeyPath,
    kind::in_order,
    raw_config::RawConfig,
    schema::{self, SchemaNode},
    value_source::ValueSource,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Writes the values of `text` into `raw`. `file` is its name in errors and sources.
///
/// # Errors
///
/// The text is not TOML, contains an unknown key, or a value of the wrong kind.
pub(super) fn read(file: &str, text: &str, raw: &mut RawConfig) -> Result<(), ConfigError> {
    read_from(file, text, None, raw)
}

/// Writes the apps of `text`, which has nothing else, into `raw`. The first of them gets the index
/// `first_app`.
///
/// # Errors
///
/// Those of [`read`], or a key other than `apps`.
pub(super) fn read_apps(
    file: &str,
    text: &str,
    first_app: usize,
    raw: &mut RawConfig,
) -> Result<(), ConfigError> {
    read_from(file, text, Some(first_app), raw)
}

fn read_from(
    file: &str,
    text: &str,
    first_app: Option<usize>,
    raw: &mut RawConfig,
) -> Result<(), ConfigError> {
    let table = DeTable::parse(text).map_err(|error| match another_format(text) {
        Some(message) => ConfigError::at(file, message),
        None => syntax_error(file, text, &error),
    })?;
    let mut reader = FileReader { file, text, first_app, raw, errors: ErrorCollector::default() };
    reader.section(&KeyPath::default(), table.get_ref());
    reader.errors.take_result()
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
            "is PHP; expected TOML. Set REVERB_APP_* in .env, and the other settings in config.toml",
        )
    } else if lines().find(|line| !line.is_empty()).is_some_and(is_yaml) {
        Some(
            "is YAML; expected TOML. Pass the variables under `environment:` as environment variables or \
             with --env-file",
        )
    } else if lines().find(|line| !line.is_empty()).is_some_and(is_dotenv) {
        Some("contains environment variables; expected TOML. Use --env-file")
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
    raw: &'a mut RawConfig,
    errors: ErrorCollector,
}

impl FileReader<'_> {
    fn section(&mut self, section: &KeyPath, table: &DeTable<'_>) {
        for (name, value) in in_order(table) {
            let source = self.source(name.span().start);
            let key = section.child(name.get_ref());
            // A quoted key must not be read as a path.
            let entry = if name.get_ref().is_empty() || name.get_ref().contains(['.', '[', ']']) {
                Err(ConfigError::key(&source, key, "unknown key"))
            } else {
                self.entry(key, value, source)
            };
            self.errors.collect(entry);
        }
    }

    fn entry(
        &mut self,
        key: KeyPath,
        value: &Spanned<DeValue<'_>>,
        source: ValueSource,
    ) -> Result<(), ConfigError> {
        if self.first_app.is_some() && key.section().as_str().is_empty() && key.as_str() != "apps" {
            let message = "must be in config.toml: a file of apps has [[apps]] only";
            return Err(ConfigError::key(&source, &key, message));
        }
        match (schema::node(&key.schema_path()), value.get_ref()) {
            (Some(SchemaNode::Leaf(setting)), value) => {
                let value = setting
                    .kind
                    .value(value)
                    .map_err(|message| ConfigError::key(&source, &key, message))?;
                self.raw.set(key, value, source);
                Ok(())
            }
            (Some(SchemaNode::Section), DeValue::Table(table)) => {
                self.section(&key, table);
                Ok(())
            }
            (Some(SchemaNode::Section), _) => {
                Err(ConfigError::key(&source, key, "must be a table"))
            }
            (Some(SchemaNode::Sections), DeValue::Array(items)) => {
                self.sections(&key, items, &source)
            }
            (Some(SchemaNode::Sections), _) => {
                Err(ConfigError::key(&source, key, "must be a list of tables"))
            }
            (None, _) => Err(ConfigError::key(&source, &key, schema::unknown_key(&key))),
        }
    }

    fn sections(
        &mut self,
        list: &KeyPath,
        items: &[Spanned<DeValue<'_>>],
        source: &ValueSource,
    ) -> Result<(), ConfigError> {
        if items.is_empty() && list.as_str() == "apps" {
            return Err(ConfigError::key(source, list, "must have at least one app"));
        }
        let first = self.first_app.filter(|_| list.as_str() == "apps").unwrap_or_default();
        for (index, item) in (first..).zip(items) {
            let key = list.index(index);
            let source = self.source(item.span().start);
            let DeValue::Table(table) = item.get_ref() else {
                return Err(ConfigError::key(&source, key, "must be a table"));
            };
            self.raw.add_section(key.clone(), source);
            self.section(&key, table);
        }
        Ok(())
    }

    fn source(&self, offset: usize) -> ValueSource {
        ValueSource::File { file: self.file.to_owned(), line: line_at(self.text, offset) }
    }
}
