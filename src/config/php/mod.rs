//! `config/reverb.php` of a Laravel project: it is PHP and is not read, but what in it differs from
//! what is in force must not be lost silently.
//!
//! Literals, nested arrays, `env()` and `explode()` are followed. Whatever else is there is said to
//! be computed.

mod compare;
mod parse;
#[cfg(test)]
mod tests;
mod token;

use super::{Config, draft::Draft, variables::Variables};
use parse::Value;
use std::{fs, io, path::Path};

/// How messages name the file.
const NAME: &str = "config/reverb.php";

/// Longer files are no configuration of Reverb.
const BYTES_MAX: u64 = 262_144;

/// Says of the file in `dir`, if there is one, that it is not read, and what in it differs from
/// `config`.
pub(super) fn note(
    dir: &Path,
    variables: &Variables,
    (config, draft): (&Config, &Draft),
    facts: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let path = dir.join(NAME);
    // A pipe would keep us waiting, and a large file would fill the memory.
    let read = fs::metadata(&path).and_then(|found| match found.len() {
        0..=BYTES_MAX if found.is_file() => fs::read(&path),
        _other => Err(io::Error::other("it is not a file of ordinary size")),
    });
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return,
        Err(error) => return notes.push(format!("{NAME} cannot be read ({error}): {BY_HAND}")),
    };
    let text = String::from_utf8_lossy(&bytes);
    let differences = differences(&text, variables, config, draft);
    let outcome = if differences.is_empty() {
        "nothing in it differs from what is in force"
    } else {
        "what in it differs from what is in force is noted"
    };
    facts.push(format!("{NAME} is PHP and is not read, other than REVERB_* variables: {outcome}"));
    notes.extend(differences);
}

const BY_HAND: &str = "compare allowed_origins, apps and options.tls in it by hand";

/// What `text` says otherwise than `config`, in a line for each.
fn differences(text: &str, variables: &Variables, config: &Config, draft: &Draft) -> Vec<String> {
    let tokens = match token::tokens(text) {
        Ok(tokens) => tokens,
        Err(line) => return vec![format!("{NAME}:{line} is not understood: {BY_HAND}")],
    };
    match parse::returned(&tokens, &|name| env(variables, name)) {
        Some(root) => compare::differences(&root, config, draft),
        None => vec![format!("{NAME} does more than return an array: {BY_HAND}")],
    }
}

/// What Laravel's `env()` returns for a variable that is set.
fn env(variables: &Variables, name: &str) -> Option<Value> {
    Some(match variables.of_laravel(name)? {
        "null" => Value::Null,
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        text => Value::Text(text.to_owned()),
    })
}
