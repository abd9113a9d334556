//! Secrets in files of their own, as Docker, Kubernetes and systemd provide them.
//!
//! A setting such as `secret_file` names the file with the value of the secret beside it.

use super::{
    draft::Draft,
    error::{ConfigError, all},
    key::{Key, PREFIX},
    schema,
    value_source::ValueSource,
};
use crate::file;
use std::cmp::Ordering;
use toml::Value;

const SUFFIX: &str = "_file";

/// Reads the files that `draft` names, and sets their secrets. A secret in a later source than the
/// name of its file replaces the file, which is not read then.
///
/// # Errors
///
/// A file can't be read, is empty or is not UTF-8, or one source sets both the secret and its file.
pub(super) fn read(draft: &mut Draft) -> Result<(), ConfigError> {
    let named: Vec<_> = draft
        .settings()
        .filter_map(|(key, setting)| {
            let secret = secret_of(key)?;
            let path = setting.value.as_str().filter(|path| !path.is_empty())?;
            Some((key.clone(), secret, path.to_owned(), setting.origin.clone()))
        })
        .collect();
    all(named.into_iter().map(|(key, secret, path, origin)| {
        let order = draft
            .setting(&secret)
            .map_or(Ordering::Less, |setting| rank(&setting.origin).cmp(&rank(&origin)));
        let fault = |rule: String| ConfigError::key(&origin, &key, rule);
        match order {
            Ordering::Greater => Ok(()),
            Ordering::Equal => Err(fault(format!("must not be set beside {}", secret.name()))),
            Ordering::Less => {
                let text = text_of(&path).map_err(fault)?;
                draft.set(secret, Value::String(text), origin);
                Ok(())
            }
        }
    }))
}

/// The secret that the file named by `key` contains, if `key` names such a file.
fn secret_of(key: &Key) -> Option<Key> {
    let secret = Key::new(key.as_str().strip_suffix(SUFFIX)?);
    schema::setting(&secret.pattern()).filter(|setting| setting.is_secret).map(|_| secret)
}

/// The order of sources. Among variables, Campanile's own replace those of other servers.
fn rank(origin: &ValueSource) -> (u8, bool) {
    let is_own = origin.variable().is_some_and(|name| name.starts_with(PREFIX));
    (origin.rank(), is_own)
}

/// The content of the file at `path`, without the line break at its end.
fn text_of(path: &str) -> Result<String, String> {
    let bytes = file::read(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    let text =
        String::from_utf8(bytes).map_err(|_| format!("`{path}` holds bytes that are not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err(format!("`{path}` is empty")) } else { Ok(text.to_owned()) }
}
