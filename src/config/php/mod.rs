//! Reports differences between `config/reverb.php` of a Laravel project and the effective
//! configuration. The file is PHP and is not executed.
//!
//! Literals, nested arrays, `env()` and `explode()` are evaluated. Everything else is reported as
//! computed.

mod compare;
mod import;
mod parse;
#[cfg(test)]
mod tests;
mod token;

pub use import::import_reverb;

use super::{Config, draft::Draft, variables::Variables};
use parse::PhpValue;
use std::{fs, io, path::Path};

/// Name of the file in messages.
const NAME: &str = "config/reverb.php";

/// Maximum size of the file, in bytes. Longer files are ignored.
const BYTES_MAX: u64 = 262_144;

/// Adds a note that the file in `dir`, if it exists, has no effect, and how its values differ from
/// `config`.
pub(super) fn note(
    dir: &Path,
    variables: &Variables,
    (config, draft): (&Config, &Draft),
    facts: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let path = dir.join(NAME);
    // A pipe could block, and a large file would fill the memory.
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

/// The differences of `text` from `config`, one line each.
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

/// The value of Laravel's `env()` for a variable that is set.
fn env(variables: &Variables, name: &str) -> Option<PhpValue> {
    Some(match variables.of_laravel(name)? {
        "null" => PhpValue::Null,
        "true" => PhpValue::Boolean(true),
        "false" => PhpValue::Boolean(false),
        text => PhpValue::Text(text.to_owned()),
    })
}
