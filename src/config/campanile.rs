//! Campanile's own variables: `CAMPANILE_SERVER__PORT` for `server.port`.

use super::{
    convert,
    error::{ConfigError, collect_errors},
    key::{KeyPath, PREFIX},
    raw_config::RawConfig,
    schema::{self, unknown},
    variables::Variables,
};

/// Common names for settings that do not exist, or that are ambiguous.
const SUGGESTIONS: [(&str, &str); 12] = [
    ("CONFIG", "give the file with --config"),
    ("CONFIG_FILE", "give the file with --config"),
    ("CONFIG_PATH", "give the file with --config"),
    ("ENV_FILE", "give the file with --env-file"),
    ("KEY", "did you mean `CAMPANILE_APPS__0__KEY`?"),
    ("DEBUG", "did you mean `CAMPANILE_LOG__LEVEL`?"),
    ("LOG", "did you mean `CAMPANILE_LOG__LEVEL`?"),
    ("LOGLEVEL", "did you mean `CAMPANILE_LOG__LEVEL`?"),
    ("REDIS", "did you mean `CAMPANILE_REDIS__URL`?"),
    ("ORIGINS", "did you mean `CAMPANILE_APPS__0__ALLOWED_ORIGINS`?"),
    ("WORKERS", "did you mean `CAMPANILE_SERVER__SHARDS`?"),
    ("THREADS", "did you mean `CAMPANILE_SERVER__SHARDS`?"),
];

/// Variables without `__` that the Composer package in `integrations/laravel` reads from the same `.env`.
const OF_THE_COMPOSER_PACKAGE: [&str; 2] = ["BINARY", "RELEASES_URL"];

/// Writes the values of `CAMPANILE_*` variables into `raw`. A name without `__` cannot be a setting:
/// other programs use such names, for instance for an image's tag, so it only causes a warning.
///
/// # Errors
///
/// A variable with `__` matches no key, or its value is not of the key's kind.
pub(super) fn read(
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    collect_errors(variables.names(PREFIX).map(|name| {
        let source = variables.source(name);
        let key = KeyPath::from_variable(&name[PREFIX.len()..]);
        if OF_THE_COMPOSER_PACKAGE.contains(&&name[PREFIX.len()..]) {
            return Ok(());
        }
        if !name[PREFIX.len()..].contains("__") {
            let message =
                suggest(&name[PREFIX.len()..]).unwrap_or_else(|| no_such_variable(name, &key));
            warnings.push(format!("{source} has no effect: {message}"));
            return Ok(());
        }
        let is_path = !name.contains(['.', '[', ']']);
        let Some(setting) = schema::setting(&key.schema_path()).filter(|_| is_path) else {
            return Err(ConfigError::at(source, no_such_variable(name, &key)));
        };
        let value = variables.get(name).unwrap_or_default();
        let value = convert::to_kind(setting.kind, value)
            .map_err(|message| ConfigError::key(&source, &key, message))?;
        raw.set(key, value, source);
        Ok(())
    }))
}

/// The hint for `PORT`, `TLS_CERT`, `APP_0_KEY` and similar names, if one ends like a setting.
fn suggest(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    if let Some((_, message)) = SUGGESTIONS.iter().find(|(guess, _)| *guess == name) {
        return Some(format!("unknown variable; {message}"));
    }
    let words = |name: &str| -> Vec<String> {
        let words = name.split('_').filter(|word| !word.is_empty() && word.parse::<u32>().is_err());
        let singular = |word: &str| match word {
            "APPS" => "APP".to_owned(),
            "WEBHOOKS" => "WEBHOOK".to_owned(),
            word => word.to_owned(),
        };
        words.map(singular).collect()
    };
    let wanted = words(&name);
    let mut variables = schema::settings()
        .map(|setting| KeyPath::new(setting.key.replace("[]", "[0]")).variable_name());
    let found = variables.find(|variable| {
        !wanted.is_empty() && words(&variable[PREFIX.len()..]).ends_with(&wanted)
    })?;
    Some(format!("unknown variable; did you mean `{found}`?"))
}

/// The error for a variable that matches no key. The indexes of the suggested one are taken from
/// `key`.
fn no_such_variable(name: &str, key: &KeyPath) -> String {
    let indexes: Vec<_> = key.parts().filter_map(|(_, index)| index).collect();
    let candidates: Vec<_> = schema::settings()
        .map(|setting| {
            let mut indexes = indexes.iter();
            let parts = setting.key.split("[]").enumerate().map(|(place, part)| match place {
                0 => part.to_owned(),
                _later => format!("[{}]{part}", indexes.next().unwrap_or(&0)),
            });
            KeyPath::new(parts.collect::<String>()).variable_name()
        })
        .collect();
    unknown("variable", name, candidates.iter().map(String::as_str))
}
