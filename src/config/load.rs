//! Folds the layers into one configuration: defaults, file, environment, flags.

use super::{
    Config, ConfigError, RowDefaults, app_directory, apps, campanile,
    check::check_values,
    compat_variable::reject_unsupported,
    dotenv,
    draft::Draft,
    error::{Faults, all},
    file,
    files::{Files, Grammar},
    foreign, guessable,
    key::Key,
    php, relations, reverb, secret_files,
    soketi::{self, SoketiFile},
    unsupported,
    value_source::{Compat, ValueSource},
    variables::Variables,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};
use toml::Value;

/// The sources of a configuration. Nothing else is read: no other file, and not the process
/// environment.
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
    /// The files of the configuration in force, if there is one. All of them must still exist,
    /// untruncated.
    pub before: Files,
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
            .field("before", &self.before)
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
    /// Settings without effect, or with a surprising one, with the reasons. Must be logged as
    /// warnings.
    pub notes: Vec<String>,
    /// Informational notes about the files that were read and the decisions made.
    pub facts: Vec<String>,
    /// The files that were read.
    pub files: Files,
    pub(super) draft: Draft,
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
/// A file that was named or existed [before](Sources::before) cannot be read, or a setting is
/// unknown, of the wrong type, out of its range, contradictory, or not supported by this version.
/// The error contains the place and the rule of each fault.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let (mut draft, mut notes, mut facts) = (Draft::default(), Vec::new(), Vec::new());
    let (mut files, mut faults) = (Files::default(), Faults::default());
    let file = read_file(sources, &mut draft, &mut files, &mut notes, &mut faults);
    let mut variables =
        faults.take(read_variables(sources, &mut files, &mut facts)).unwrap_or_default();
    if faults.is_empty() {
        faults.take(sources.before.are_all_in(&files));
    }
    notes.extend(variables.notes());
    if let Some(file) = &file {
        soketi::add(file, &mut variables);
    }
    faults.take(reject_unsupported(soketi::compat_variables(), &variables));
    faults.take(soketi::read(&variables, file.as_ref(), &mut draft, &mut notes));
    faults.take(reverb::read(&variables, &mut draft, &mut notes));
    faults.take(campanile::read(&variables, &mut draft, &mut notes));
    read_flags(&sources.flags, &mut draft, &mut notes);
    if sources.pusher_env {
        faults.take(foreign::read_pusher(&variables, &mut draft));
    }
    foreign::note(&variables, &draft, &mut notes);
    if sources.not_utf8.contains("PORT") && draft.setting(&Key::new("server.port")).is_none() {
        faults.take(Err::<(), _>(not_utf8("PORT")));
    }
    foreign::read_port(&variables, &mut draft, &mut notes);
    if faults.is_empty() {
        faults.take(unsupported::reject_without_redis(&variables, &draft));
    }
    let compat = Compat::of(&draft, &variables, file.is_some());
    let row_defaults = RowDefaults::new(&variables, compat);
    if let Some(compat) = compat {
        let apps: Vec<_> = file.iter().flat_map(SoketiFile::apps).collect();
        compat.apply(&mut draft, if apps.is_empty() { &[0] } else { &apps });
    }
    if faults.is_empty() {
        let beside = sources.file.as_deref().and_then(Path::parent).unwrap_or(&sources.dir);
        faults.take(app_directory::read(beside, &sources.before, &mut draft, &mut files));
    }
    let names = files.shown();
    if !names.is_empty() {
        facts.push(format!("read from {}", names.join(", ")));
    }
    facts.extend(compat.map(|compat| compat.differences().to_owned()));
    let (mut config, is_restricted_to_loopback) = settle(&mut draft, &mut notes, faults)?;
    config.apps_from.row_defaults = row_defaults;
    if sources.pusher_env {
        foreign::note_pusher_port(&variables, config.server.port, &mut notes);
    }
    foreign::note_reverb_scheme(&variables, &config, &mut notes);
    foreign::note_websockets_php(&sources.dir, &mut notes);
    php::note(&sources.dir, &variables, (&config, &draft), &mut facts, &mut notes);
    Ok(Loaded { config, notes, facts, files, draft, is_restricted_to_loopback })
}

/// Checks `draft` as a whole and builds the configuration, unless there are `faults` already.
/// Returns true if the host was changed to loopback.
fn settle(
    draft: &mut Draft,
    notes: &mut Vec<String>,
    mut faults: Faults,
) -> Result<(Config, bool), ConfigError> {
    faults.take(secret_files::read(draft));
    // A value that could not be read must not be reported as missing.
    if faults.is_empty() {
        faults.take(lists_are_whole(draft, notes));
    }
    faults.take(unsupported::reject_keys(draft));
    faults.take(check_values(draft));
    faults.result()?;
    let mut config = to_config(draft)?;
    if config.apps_from.has_database() && draft.count(&Key::new("apps"))? == 0 {
        config.apps.clear();
    }
    faults.take(relations::check(&config, draft));
    let is_restricted_to_loopback =
        faults.take(apps::restrict_to_loopback(&mut config, draft, notes));
    if is_restricted_to_loopback.is_some() {
        faults.take(guessable::reject(&config, &config.server.host, Some(draft)));
    }
    faults.result()?;
    guessable::note(&config, draft, notes);
    Ok((config, is_restricted_to_loopback.unwrap_or_default()))
}

/// Checks that lists of apps and webhooks have no gaps, and that each app has an id, a key and a
/// secret.
fn lists_are_whole(draft: &mut Draft, notes: &mut Vec<String>) -> Result<(), ConfigError> {
    let apps = Key::new("apps");
    let count = draft.count(&apps)?;
    relations::raise_related_limits(draft, count, notes);
    if apps::has_database(draft) {
        apps::remove_unnamed(draft);
    }
    let count = draft.count(&apps)?;
    let complete = apps::complete(draft, count);
    let webhooks = (0..count).map(|index| apps.item(index).child("webhooks"));
    let whole = all(webhooks.map(|list| draft.count(&list)));
    all([complete, whole])
}

/// The values that were set, over the defaults.
pub(super) fn to_config(draft: &Draft) -> Result<Config, ConfigError> {
    draft.table().try_into().map_err(|error: toml::de::Error| {
        ConfigError::at("configuration", error.message().replace('\n', ", "))
    })
}

/// Reads `config.toml`, or the named file, into `draft`. The options of a file of soketi are returned
/// instead: variables win over them.
fn read_file(
    sources: &Sources,
    draft: &mut Draft,
    files: &mut Files,
    notes: &mut Vec<String>,
    faults: &mut Faults,
) -> Option<SoketiFile> {
    let named = sources.file.as_deref();
    let found = sources.before.find(named, &sources.dir, "config.toml", Grammar::Toml);
    let source = faults.take(found).flatten()?;
    let file = match source.grammar {
        Grammar::Json => Some(soketi::read_file(&source.name, &source.text, notes, faults)),
        Grammar::Toml | Grammar::Dotenv => {
            faults.take(file::read(&source.name, &source.text, draft));
            None
        }
    };
    let has_apps = draft.section(&Key::new("apps").item(0)).is_some()
        || file.as_ref().is_some_and(SoketiFile::has_apps);
    if faults.is_empty() && sources.before.had_apps(&source) && !has_apps {
        let rule = "has no apps any more, and had some when it was read last";
        faults.take(Err::<(), _>(ConfigError::at(&source.name, rule)));
    }
    if faults.is_empty() {
        files.push(source, has_apps);
    }
    file
}

/// Reads the environment and the `.env` file or, as in Laravel, that of the application's
/// environment.
fn read_variables(
    sources: &Sources,
    files: &mut Files,
    facts: &mut Vec<String>,
) -> Result<Variables, ConfigError> {
    let app_env = sources.env.get("APP_ENV").filter(|name| !name.is_empty());
    let sayers = [("--env", sources.env_name.as_ref()), ("APP_ENV", app_env)];
    let chosen = sayers.iter().find_map(|(by, name)| {
        let file = format!(".env.{}", name.filter(|name| !name.contains(['/', '\\']))?);
        let path = sources.dir.join(&file);
        let is_there = path.exists() || path.is_symlink() || sources.before.has(&path);
        is_there.then_some((by, file))
    });
    let chosen = chosen.filter(|_| sources.env_file.is_none());
    if let Some((by, file)) = &chosen {
        facts.push(format!("{file} is read in place of .env, as {by} says"));
    }
    let default = chosen.as_ref().map_or(".env", |(_, file)| file);
    let named = sources.env_file.as_deref();
    let Some(source) = sources.before.find(named, &sources.dir, default, Grammar::Dotenv)? else {
        let variables = Variables::new(&sources.env, None);
        return are_utf8(sources, &variables).map(|()| variables);
    };
    let values = dotenv::parse(&source.text, &sources.env).map_err(|error| {
        ConfigError::at(format_args!("{}:{}", source.name, error.line), error.rule)
    })?;
    let variables = Variables::new(&sources.env, Some((&source.name, &values)));
    files.push(source, false);
    are_utf8(sources, &variables).map(|()| variables)
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
        Some(match variables.of_laravel(name)? {
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
fn are_utf8(sources: &Sources, variables: &Variables) -> Result<(), ConfigError> {
    let lost = sources.not_utf8.iter().filter(|name| variables.reads(name, sources.pusher_env));
    all(lost.map(|name| Err::<(), _>(not_utf8(name))))
}

fn not_utf8(name: &str) -> ConfigError {
    let origin = ValueSource::Environment { variable: name.to_owned(), dotenv: None };
    ConfigError::at(origin, "holds bytes that are not UTF-8")
}

fn read_flags(flags: &Flags, draft: &mut Draft, notes: &mut Vec<String>) {
    let text = |text: &String| Value::String(text.clone());
    let values = [
        ("server.host", "--host", flags.host.as_ref().map(text)),
        ("server.port", "--port", flags.port.map(|port| Value::Integer(port.into()))),
        ("server.path", "--path", flags.path.as_ref().map(text)),
        ("log.level", "--debug", flags.debug.then(|| Value::String("debug".to_owned()))),
    ];
    for (key, flag, value) in values {
        if let Some(value) = value {
            draft.set(Key::new(key), value, ValueSource::Flag(flag));
        }
    }
    if flags.hostname.is_some() {
        notes.push("flag --hostname has no effect: name the certificate by server.tls".to_owned());
    }
}
