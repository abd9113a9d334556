//! Secrets in files of their own, as Docker, Kubernetes and systemd provide them.
//!
//! A setting such as `secret_file` names the file with the value of the secret beside it.

use super::{
    error::{ConfigError, collect_errors},
    key::{KeyPath, PREFIX},
    raw_config::RawConfig,
    schema,
    value_source::ValueSource,
};
use crate::file;
use std::cmp::Ordering;
use toml::Value;

const SUFFIX: &str = "_file";

/// Reads the files that `raw` names, and sets their secrets. A secret in a later source than the
/// name of its file replaces the file, which is not read then.
///
/// # Errors
///
/// A file can't be read, is empty or is not UTF-8, or one source sets both the secret and its file.
pub(super) fn read(raw: &mut RawConfig) -> Result<(), ConfigError> {
    let named: Vec<_> = raw
        .iter()
        .filter_map(|(key, setting)| {
            let secret = secret_of(key)?;
            let path = setting.value.as_str().filter(|path| !path.is_empty())?;
            Some((key.clone(), secret, path.to_owned(), setting.source.clone()))
        })
        .collect();
    collect_errors(named.into_iter().map(|(key, secret, path, source)| {
        let order = raw.get(&secret).map_or(Ordering::Less, |setting| {
            precedence(&setting.source).cmp(&precedence(&source))
        });
        let issue = |message: String| ConfigError::key(&source, &key, message);
        match order {
            Ordering::Greater => Ok(()),
            Ordering::Equal => Err(issue(format!("must not be set beside {}", secret.name()))),
            Ordering::Less => {
                let text = text_of(&path).map_err(issue)?;
                raw.set(secret, Value::String(text), source);
                Ok(())
            }
        }
    }))
}

/// The secret that the file named by `key` contains, if `key` names such a file.
fn secret_of(key: &KeyPath) -> Option<KeyPath> {
    let secret = KeyPath::new(key.as_str().strip_suffix(SUFFIX)?);
    schema::setting(&secret.schema_path()).filter(|setting| setting.is_secret).map(|_| secret)
}

/// The order of sources. Among variables, Campanile's own replace those of other servers.
fn precedence(source: &ValueSource) -> (u8, bool) {
    let is_own = source.variable().is_some_and(|name| name.starts_with(PREFIX));
    (source.precedence(), is_own)
}

/// The content of the file at `path`, without the line break at its end.
fn text_of(path: &str) -> Result<String, String> {
    let bytes = file::read(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("`{path}` contains bytes that are not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err(format!("`{path}` is empty")) } else { Ok(text.to_owned()) }
}
