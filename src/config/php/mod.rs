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

use super::{Config, raw_config::RawConfig, variables::Variables};
use parse::PhpValue;
use std::{fs, io, path::Path};

/// Name of the file in messages.
const NAME: &str = "config/reverb.php";

/// Maximum size of the file, in bytes. Larger files are not compared, which a warning says.
const BYTES_MAX: u64 = 262_144;

/// Reports whether the file in `dir`, if it exists, differs from `config`, and warns about each value
/// that does.
pub(super) fn report(
    dir: &Path,
    variables: &Variables,
    (config, raw): (&Config, &RawConfig),
    infos: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let path = dir.join(NAME);
    // A pipe could block, and a large file would fill the memory.
    let read = fs::metadata(&path).and_then(|found| match found.len() {
        0..=BYTES_MAX if found.is_file() => fs::read(&path),
        _other => Err(io::Error::other("it is not a regular file of at most 256 KiB")),
    });
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return,
        Err(error) => return warnings.push(format!("{NAME} cannot be read ({error}): {BY_HAND}")),
    };
    let text = String::from_utf8_lossy(&bytes);
    let differences = differences(&text, variables, config, raw);
    let outcome = if differences.is_empty() {
        "it does not differ from the effective configuration"
    } else {
        "each difference from the effective configuration is a warning"
    };
    infos.push(format!("{NAME} is PHP and is not executed, only the variables that it names have an effect: {outcome}"));
    warnings.extend(differences);
}

const BY_HAND: &str = "compare allowed_origins, apps and options.tls in it by hand";

/// The differences of `text` from `config`, one line each.
fn differences(text: &str, variables: &Variables, config: &Config, raw: &RawConfig) -> Vec<String> {
    let tokens = match token::tokens(text) {
        Ok(tokens) => tokens,
        Err(line) => return vec![format!("{NAME}:{line} is not understood: {BY_HAND}")],
    };
    match parse::returned(&tokens, &|name| env(variables, name)) {
        Some(root) => compare::differences(&root, config, raw),
        None => vec![format!("{NAME} does more than return an array: {BY_HAND}")],
    }
}

/// The value of Laravel's `env()` for a variable that is set.
fn env(variables: &Variables, name: &str) -> Option<PhpValue> {
    Some(match variables.laravel_value(name)? {
        "null" => PhpValue::Null,
        "true" => PhpValue::Boolean(true),
        "false" => PhpValue::Boolean(false),
        text => PhpValue::String(text.to_owned()),
    })
}
