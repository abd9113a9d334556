//! Campanile's own variables: `CAMPANILE_SERVER__PORT` for `server.port`.

use super::{
    convert,
    draft::Draft,
    error::{ConfigError, all},
    key::{Key, PREFIX},
    schema::{self, unknown},
    variables::Variables,
};

/// Common names for settings that do not exist, or that are ambiguous.
const GUESSES: [(&str, &str); 12] = [
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

/// Writes the values of `CAMPANILE_*` variables into `draft`. A name without `__` cannot be a setting:
/// other programs use such names, for instance for an image's tag, so it is only noted.
///
/// # Errors
///
/// A variable with `__` matches no key, or its value is not of the key's kind.
pub(super) fn read(
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    all(variables.names(PREFIX).map(|name| {
        let origin = variables.origin(name);
        let key = Key::from_variable(&name[PREFIX.len()..]);
        if OF_THE_COMPOSER_PACKAGE.contains(&&name[PREFIX.len()..]) {
            return Ok(());
        }
        if !name[PREFIX.len()..].contains("__") {
            let rule = guess(&name[PREFIX.len()..]).unwrap_or_else(|| no_such_variable(name, &key));
            notes.push(format!("{origin} has no effect: {rule}"));
            return Ok(());
        }
        let is_path = !name.contains(['.', '[', ']']);
        let Some(setting) = schema::setting(&key.pattern()).filter(|_| is_path) else {
            return Err(ConfigError::at(origin, no_such_variable(name, &key)));
        };
        let value = variables.value(name).unwrap_or_default();
        let value = convert::to_kind(setting.kind, value)
            .map_err(|rule| ConfigError::key(&origin, &key, rule))?;
        draft.set(key, value, origin);
        Ok(())
    }))
}

/// The hint for `PORT`, `TLS_CERT`, `APP_0_KEY` and similar names, if one ends like a setting.
fn guess(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    if let Some((_, rule)) = GUESSES.iter().find(|(guess, _)| *guess == name) {
        return Some(format!("unknown variable; {rule}"));
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
    let mut variables =
        schema::settings().map(|setting| Key::new(setting.key.replace("[]", "[0]")).variable());
    let found = variables.find(|variable| {
        !wanted.is_empty() && words(&variable[PREFIX.len()..]).ends_with(&wanted)
    })?;
    Some(format!("unknown variable; did you mean `{found}`?"))
}

/// The error for a variable that matches no key. The indexes of the suggested one are taken from
/// `key`.
fn no_such_variable(name: &str, key: &Key) -> String {
    let indexes: Vec<_> = key.parts().filter_map(|(_, index)| index).collect();
    let candidates: Vec<_> = schema::settings()
        .map(|setting| {
            let mut indexes = indexes.iter();
            let parts = setting.key.split("[]").enumerate().map(|(place, part)| match place {
                0 => part.to_owned(),
                _later => format!("[{}]{part}", indexes.next().unwrap_or(&0)),
            });
            Key::new(parts.collect::<String>()).variable()
        })
        .collect();
    unknown("variable", name, candidates.iter().map(String::as_str))
}
