//! Folds the layers into one configuration: defaults, file, environment, flags.

use super::{
    Config, ConfigError, RowDefaults, app_directory, apps, campanile,
    check::check_values,
    compat_variable::reject_unsupported,
    dotenv,
    error::{ErrorCollector, collect_errors},
    file,
    files::{FileFormat, Files},
    guessable,
    key::KeyPath,
    other_variables, php,
    raw_config::RawConfig,
    relations, reverb, secret_files,
    soketi::{self, SoketiFile},
    unsupported,
    value_source::{CompatServer, ValueSource},
    variables::Variables,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};
use toml::Value;

/// The sources of a configuration. The process environment is read only through them; files only where
/// they or the settings name them: `apps.d`, files of secrets, `config/reverb.php`.
#[derive(Clone, Default)]
pub struct Sources {
    /// The named configuration file, in TOML, or soketi's in JSON. It must exist.
    pub file: Option<PathBuf>,
    /// The named `.env` file. It must exist.
    pub env_file: Option<PathBuf>,
    /// The application's environment, such as `staging`: `.env.staging` is read instead of `.env`
    /// if it exists. The variable `APP_ENV` has the same meaning.
    pub env_name: Option<String>,
    /// Whether id, key and secret of the first app are read from `PUSHER_APP_ID` etc.
    pub pusher_env: bool,
    /// The folder of `config.toml` and `.env` if none were named. They may be missing. Empty: the
    /// working directory.
    pub dir: PathBuf,
    /// The environment, except for [`not_utf8`](Self::not_utf8).
    pub env: BTreeMap<String, String>,
    /// The variables whose values are not UTF-8. Those that are not read are ignored.
    pub not_utf8: BTreeSet<String>,
    /// The flags of the command line.
    pub flags: Flags,
    /// The files of the current configuration, if there is one. All of them must still exist,
    /// untruncated.
    pub previous: Files,
}

impl Sources {
    /// Sets the variables of a process.
    pub fn set_env(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => drop(self.env.insert(name, value)),
                Err(_bytes) => drop(self.not_utf8.insert(name)),
            }
        }
    }
}

/// Shows the names of the variables, not their values, which may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("env_file", &self.env_file)
            .field("env_name", &self.env_name)
            .field("pusher_env", &self.pusher_env)
            .field("dir", &self.dir)
            .field("env", &self.env.keys())
            .field("not_utf8", &self.not_utf8)
            .field("flags", &self.flags)
            .field("previous", &self.previous)
            .finish()
    }
}

/// The flags that `reverb:start` has as well.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    /// `--host`, for `server.host`.
    pub host: Option<String>,
    /// `--port`, for `server.port`.
    pub port: Option<u16>,
    /// `--path`, for `server.path`.
    pub path: Option<String>,
    /// `--hostname`, with which Reverb finds a certificate. Has no effect.
    pub hostname: Option<String>,
    /// `--debug`: `log.level` is `debug`.
    pub debug: bool,
}

/// A valid configuration, and how it was made.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Settings without effect, or with a surprising one, with the reasons. Must be logged.
    pub warnings: Vec<String>,
    /// The files that were read and the decisions made. Must be logged.
    pub infos: Vec<String>,
    /// The files that were read.
    pub files: Files,
    pub(super) raw: RawConfig,
    /// Whether the host was changed to loopback because of the development app.
    pub(super) is_restricted_to_loopback: bool,
}

impl Loaded {
    /// True if the only app is the development app, whose secret is published.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.config.is_development()
    }
}

/// Reads the configuration from `sources`. Flags overwrite the environment, which overwrites the
/// file, which overwrites the defaults.
///
/// # Errors
///
/// A file that was named or existed [before](Sources::previous) cannot be read, or a setting is
/// unknown, of the wrong type, out of its range, contradictory, or not supported by this version.
/// The error has the location and a message for each.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let (mut raw, mut warnings, mut infos) = (RawConfig::default(), Vec::new(), Vec::new());
    let (mut files, mut errors) = (Files::default(), ErrorCollector::default());
    let file = read_file(sources, &mut raw, &mut files, &mut warnings, &mut errors);
    let mut variables =
        errors.collect(read_variables(sources, &mut files, &mut infos)).unwrap_or_default();
    if errors.is_empty() {
        errors.collect(sources.previous.check_none_missing(&files));
    }
    warnings.extend(variables.warnings());
    if let Some(file) = &file {
        soketi::add(file, &mut variables);
    }
    errors.collect(reject_unsupported(soketi::compat_variables(), &variables));
    errors.collect(soketi::read(&variables, file.as_ref(), &mut raw, &mut warnings));
    errors.collect(reverb::read(&variables, &mut raw, &mut warnings));
    errors.collect(campanile::read(&variables, &mut raw, &mut warnings));
    read_flags(&sources.flags, &mut raw, &mut warnings);
    if sources.pusher_env {
        errors.collect(other_variables::read_pusher(&variables, &mut raw));
    }
    other_variables::warn_unread(&variables, &raw, &mut warnings);
    if sources.not_utf8.contains("PORT") && raw.get(&KeyPath::new("server.port")).is_none() {
        errors.collect(Err::<(), _>(not_utf8("PORT")));
    }
    other_variables::read_port(&variables, &mut raw, &mut warnings);
    if errors.is_empty() {
        errors.collect(unsupported::reject_without_redis(&variables, &raw));
    }
    let compat = CompatServer::detect(&raw, &variables, file.is_some());
    let row_defaults = RowDefaults::new(&variables, compat);
    if let Some(compat) = compat {
        let apps: Vec<_> = file.iter().flat_map(SoketiFile::apps).collect();
        compat.apply(&mut raw, if apps.is_empty() { &[0] } else { &apps });
    }
    if errors.is_empty() {
        let beside = sources.file.as_deref().and_then(Path::parent).unwrap_or(&sources.dir);
        errors.collect(app_directory::read(beside, &sources.previous, &mut raw, &mut files));
    }
    let names = files.shown();
    if !names.is_empty() {
        infos.push(format!("read from {}", names.join(", ")));
    }
    infos.extend(compat.map(|compat| compat.differences().to_owned()));
    let (mut config, is_restricted_to_loopback) = build_config(&mut raw, &mut warnings, errors)?;
    config.apps_from.row_defaults = row_defaults;
    if sources.pusher_env {
        other_variables::warn_pusher_port(&variables, config.server.port, &mut warnings);
    }
    other_variables::warn_reverb_scheme(&variables, &config, &mut warnings);
    other_variables::warn_websockets_php(&sources.dir, &mut warnings);
    php::report(&sources.dir, &variables, (&config, &raw), &mut infos, &mut warnings);
    Ok(Loaded { config, warnings, infos, files, raw, is_restricted_to_loopback })
}

/// Checks `raw` as a whole and builds the configuration, unless there are `errors` already.
/// Returns true if the host was changed to loopback.
fn build_config(
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
    mut errors: ErrorCollector,
) -> Result<(Config, bool), ConfigError> {
    errors.collect(secret_files::read(raw));
    // A value that could not be read must not be reported as missing.
    if errors.is_empty() {
        errors.collect(check_lists(raw, warnings));
    }
    errors.collect(check_values(raw));
    errors.take_result()?;
    let mut config = deserialize(raw)?;
    if config.apps_from.has_database() && raw.list_len(&KeyPath::new("apps"))? == 0 {
        config.apps.clear();
    }
    errors.collect(relations::check(&config, raw));
    let is_restricted_to_loopback =
        errors.collect(apps::restrict_to_loopback(&mut config, raw, warnings));
    if is_restricted_to_loopback.is_some() {
        errors.collect(guessable::reject(&config, &config.server.host, Some(raw)));
    }
    errors.take_result()?;
    guessable::warn(&config, raw, warnings);
    relations::warn_short_resume(&config, raw, warnings);
    Ok((config, is_restricted_to_loopback.unwrap_or_default()))
}

/// Checks that lists of apps, webhooks and history have no gaps, and that each app has an id, a key and a
/// secret.
fn check_lists(raw: &mut RawConfig, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let apps = KeyPath::new("apps");
    let count = raw.list_len(&apps)?;
    relations::adjust_related_limits(raw, count, warnings);
    if apps::has_database(raw) {
        apps::remove_unnamed(raw);
    }
    let count = raw.list_len(&apps)?;
    let complete = apps::check_credentials(raw, count);
    let lists = (0..count)
        .flat_map(|index| ["webhooks", "history"].map(|name| apps.index(index).child(name)));
    let whole = collect_errors(lists.map(|list| raw.list_len(&list)));
    collect_errors([complete, whole])
}

/// The values that were set, over the defaults.
pub(super) fn deserialize(raw: &RawConfig) -> Result<Config, ConfigError> {
    raw.to_toml().try_into().map_err(|error: toml::de::Error| {
        ConfigError::at("configuration", error.message().replace('\n', ", "))
    })
}

/// Reads `config.toml`, or the named file, into `raw`. The options of a file of soketi are returned
/// instead: variables override them.
fn read_file(
    sources: &Sources,
    raw: &mut RawConfig,
    files: &mut Files,
    warnings: &mut Vec<String>,
    errors: &mut ErrorCollector,
) -> Option<SoketiFile> {
    let named = sources.file.as_deref();
    let found = sources.previous.find(named, &sources.dir, "config.toml", FileFormat::Toml);
    let file = errors.collect(found).flatten()?;
    let soketi_file = match file.format {
        FileFormat::Json => Some(soketi::read_file(&file.name, &file.text, warnings, errors)),
        FileFormat::Toml | FileFormat::Dotenv => {
            errors.collect(file::read(&file.name, &file.text, raw));
            None
        }
    };
    let has_apps = raw.section_source(&KeyPath::new("apps").index(0)).is_some()
        || soketi_file.as_ref().is_some_and(SoketiFile::has_apps);
    if errors.is_empty() && sources.previous.had_apps(&file) && !has_apps {
        let message = "no longer contains apps";
        errors.collect(Err::<(), _>(ConfigError::at(&file.name, message)));
    }
    if errors.is_empty() {
        files.push(file, has_apps);
    }
    soketi_file
}

/// Reads the environment and the `.env` file or, as in Laravel, that of the application's
/// environment.
fn read_variables(
    sources: &Sources,
    files: &mut Files,
    infos: &mut Vec<String>,
) -> Result<Variables, ConfigError> {
    let chosen = chosen_dotenv(sources);
    if let Some((selected_by, file)) = &chosen {
        infos.push(format!("{file} is read instead of .env because of {selected_by}"));
    }
    let default = chosen.as_ref().map_or(".env", |(_, file)| file);
    let named = sources.env_file.as_deref();
    let Some(dotenv_file) =
        sources.previous.find(named, &sources.dir, default, FileFormat::Dotenv)?
    else {
        let variables = Variables::new(&sources.env, None);
        return check_utf8(sources, &variables).map(|()| variables);
    };
    let values = dotenv::parse(&dotenv_file.text, &sources.env).map_err(|error| {
        ConfigError::at(format_args!("{}:{}", dotenv_file.name, error.line), error.message)
    })?;
    let variables = Variables::new(&sources.env, Some((&dotenv_file.name, &values)));
    files.push(dotenv_file, false);
    check_utf8(sources, &variables).map(|()| variables)
}

/// The `.env` file of the application's environment, if it is read instead of `.env`, with what
/// selects it.
fn chosen_dotenv(sources: &Sources) -> Option<(&'static str, String)> {
    let app_env = sources.env.get("APP_ENV").filter(|name| !name.is_empty());
    let candidates = [("--env", sources.env_name.as_ref()), ("APP_ENV", app_env)];
    let chosen = candidates.into_iter().find_map(|(selected_by, name)| {
        let file = format!(".env.{}", name.filter(|name| !name.contains(['/', '\\']))?);
        let path = sources.dir.join(&file);
        let is_there = path.exists() || path.is_symlink() || sources.previous.has(&path);
        is_there.then_some((selected_by, file))
    });
    chosen.filter(|_| sources.env_file.is_none())
}

/// The `.env` file that is read, by its name, and its text. `None` if there is none, or it cannot be
/// read.
#[must_use]
pub fn dotenv_file(sources: &Sources) -> Option<(String, String)> {
    let chosen = chosen_dotenv(sources);
    let default = chosen.as_ref().map_or(".env", |(_, file)| file);
    let named = sources.env_file.as_deref();
    let found = sources.previous.find(named, &sources.dir, default, FileFormat::Dotenv);
    found.ok().flatten().map(|file| (file.name, file.text))
}

/// The variables of `sources` as `env()` returns them in Laravel, with its words for values.
///
/// # Errors
///
/// The `.env` file cannot be read, or a variable is not UTF-8.
pub fn laravel_variables(
    sources: &Sources,
) -> Result<serde_json::Map<String, serde_json::Value>, ConfigError> {
    let variables = read_variables(sources, &mut Files::default(), &mut Vec::new())?;
    let value = |name: &str| {
        Some(match variables.laravel_value(name)? {
            "null" => serde_json::Value::Null,
            "true" => true.into(),
            "false" => false.into(),
            text => text.into(),
        })
    };
    Ok(variables.names("").filter_map(|name| Some((name.to_owned(), value(name)?))).collect())
}

/// Rejects relevant variables that are not UTF-8. Ignoring them beside the valid `variables` would
/// drop a setting, or use another value in its place.
fn check_utf8(sources: &Sources, variables: &Variables) -> Result<(), ConfigError> {
    let lost = sources.not_utf8.iter().filter(|name| variables.is_read(name, sources.pusher_env));
    collect_errors(lost.map(|name| Err::<(), _>(not_utf8(name))))
}

fn not_utf8(name: &str) -> ConfigError {
    let source = ValueSource::Environment { variable: name.to_owned(), dotenv: None };
    ConfigError::at(source, "contains bytes that are not UTF-8")
}

fn read_flags(flags: &Flags, raw: &mut RawConfig, warnings: &mut Vec<String>) {
    let text = |text: &String| Value::String(text.clone());
    let values = [
        ("server.host", "--host", flags.host.as_ref().map(text)),
        ("server.port", "--port", flags.port.map(|port| Value::Integer(port.into()))),
        ("server.path", "--path", flags.path.as_ref().map(text)),
        ("log.level", "--debug", flags.debug.then(|| Value::String("debug".to_owned()))),
    ];
    for (key, flag, value) in values {
        if let Some(value) = value {
            raw.set(KeyPath::new(key), value, ValueSource::Flag(flag));
        }
    }
    if flags.hostname.is_some() {
        warnings.push("flag --hostname has no effect: set server.tls".to_owned());
    }
}
