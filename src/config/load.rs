//! Folds the layers into one configuration: defaults, file, environment, flags.

use super::{
    Config, ConfigError, apps, campanile,
    compat::Compat,
    dotenv,
    draft::Draft,
    error::{Faults, all},
    file, foreign,
    key::Key,
    origin::Origin,
    relations, reverb,
    schema::Schema,
    soketi, unsupported, values,
    variables::Variables,
};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};
use toml::Value;

/// Where a configuration comes from. Nothing else is read: no other file, and no process
/// environment.
#[derive(Clone, Default)]
pub struct Sources {
    /// The configuration file that was named. It must exist.
    pub file: Option<PathBuf>,
    /// The `.env` file that was named. It must exist.
    pub env_file: Option<PathBuf>,
    /// The environment of the application, such as `staging`: `.env.staging` is read in place of
    /// `.env` if there is one. `APP_ENV` of the environment says the same.
    pub env_name: Option<String>,
    /// Whether id, key and secret of the first app come from `PUSHER_APP_ID` and its like.
    pub pusher_env: bool,
    /// Where `config.toml` and `.env` are looked for when none was named. They may be missing.
    /// Empty: the working directory.
    pub dir: PathBuf,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The flags of the command line.
    pub flags: Flags,
}

/// Shows the names of the environment, not its values, which may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("env_file", &self.env_file)
            .field("env_name", &self.env_name)
            .field("pusher_env", &self.pusher_env)
            .field("dir", &self.dir)
            .field("env", &self.env.keys())
            .field("flags", &self.flags)
            .finish()
    }
}

/// The flags that `reverb:start` has too.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    /// `--host`, for `server.host`.
    pub host: Option<String>,
    /// `--port`, for `server.port`.
    pub port: Option<u16>,
    /// `--path`, for `server.path`.
    pub path: Option<String>,
    /// `--hostname`, with which Reverb finds a certificate. Without effect.
    pub hostname: Option<String>,
    /// `--debug`: `log.level` is `debug`.
    pub debug: bool,
}

/// A configuration that holds all rules, and how it came to be.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What was accepted without effect, or with an effect that may surprise, and why. To be logged
    /// as warnings.
    pub notes: Vec<String>,
    /// What was read and decided, for information.
    pub facts: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    pub(super) draft: Draft,
    /// Whether the host became loopback because of the development app.
    pub(super) confined: bool,
}

impl Loaded {
    /// True if the only app is the development app, whose secret everybody knows.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.config.is_development()
    }
}

/// Reads the configuration from `sources`: defaults, under the file, under the environment, under
/// the flags.
///
/// # Errors
///
/// When a named file cannot be read, or when anything that is written is unknown, of the wrong
/// kind, out of its range, in contradiction to something else, or not supported by this version.
/// The error says where, and which rule, for everything that is wrong.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let schema = Schema::new();
    let (mut draft, mut notes, mut files) = (Draft::default(), Vec::new(), Vec::new());
    let mut facts = Vec::new();
    let mut faults = Faults::default();
    let file = Source::find(sources.file.as_deref(), &sources.dir, "config.toml");
    faults.take(file.and_then(|file| {
        let Some(source) = file else { return Ok(()) };
        file::read(&source.name, &source.text, &schema, &mut draft)?;
        files.push(source.path);
        Ok(())
    }));
    let variables =
        faults.take(read_variables(sources, &mut files, &mut facts)).unwrap_or_default();
    faults.take(unsupported::refuse_variables(&variables));
    faults.take(soketi::read(&variables, &mut draft, &mut notes));
    faults.take(reverb::read(&variables, &mut draft, &mut notes));
    faults.take(campanile::read(&variables, &schema, &mut draft, &mut notes));
    read_flags(&sources.flags, &mut draft, &mut notes);
    if sources.pusher_env {
        faults.take(foreign::read_pusher(&variables, &mut draft));
    }
    foreign::note(&variables, &draft, &mut notes);
    foreign::read_port(&variables, &mut draft, &mut notes);
    if faults.is_empty() {
        faults.take(unsupported::refuse_without_redis(&variables, &draft));
    }
    let compat = Compat::of(&draft, &variables);
    if let Some(compat) = compat {
        compat.apply(&mut draft);
    }
    if !files.is_empty() {
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        facts.push(format!("read from {}", names.join(", ")));
    }
    facts.extend(compat.map(|compat| compat.differences().to_owned()));
    let (config, confined) = settle(&mut draft, &mut notes, faults)?;
    if sources.pusher_env {
        foreign::note_pusher_port(&variables, config.server.port, &mut notes);
    }
    Ok(Loaded { config, notes, facts, files, draft, confined })
}

/// Checks `draft` as a whole and makes the configuration of it, unless there are `faults` already.
/// True if the host became loopback.
fn settle(
    draft: &mut Draft,
    notes: &mut Vec<String>,
    mut faults: Faults,
) -> Result<(Config, bool), ConfigError> {
    // Of values that could not be read it can't be said that they are missing.
    if faults.is_empty() {
        faults.take(lists_are_whole(draft, notes));
    }
    faults.take(unsupported::refuse_keys(draft));
    faults.take(values::check(draft));
    faults.result()?;
    let mut config = to_config(draft)?;
    faults.take(relations::check(&config, draft));
    let confined = faults.take(apps::confine(&mut config, draft)).unwrap_or_default();
    faults.result()?;
    Ok((config, confined))
}

/// Sees to it that no app and no webhook is missing between others, and that each app says who it
/// is.
fn lists_are_whole(draft: &mut Draft, notes: &mut Vec<String>) -> Result<(), ConfigError> {
    let apps = Key::new("apps");
    let count = draft.count(&apps)?;
    relations::make_room(draft, count, notes);
    let count = draft.count(&apps)?;
    let complete = apps::complete(draft, count);
    let webhooks = (0..count).map(|index| apps.item(index).child("webhooks"));
    let whole = all(webhooks.map(|list| draft.count(&list)));
    all([complete, whole])
}

/// What was written, over the defaults.
pub(super) fn to_config(draft: &Draft) -> Result<Config, ConfigError> {
    draft.table().try_into().map_err(|error: toml::de::Error| {
        ConfigError::at("configuration", error.message().replace('\n', ", "))
    })
}

/// A file that was read.
struct Source {
    path: PathBuf,
    /// How errors and origins name it.
    name: String,
    text: String,
}

impl Source {
    /// The file that was named, which must exist, or the one with the `default` name in `dir`,
    /// which need not.
    fn find(named: Option<&Path>, dir: &Path, default: &str) -> Result<Option<Self>, ConfigError> {
        let path = named.map_or_else(|| dir.join(default), Path::to_path_buf);
        let name = named.map_or_else(|| default.to_owned(), |path| path.display().to_string());
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Self { path, name, text })),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError::at(name, format!("cannot be read: {error}"))),
        }
    }
}

/// Reads the environment and the `.env` file, which as in Laravel is another one where the name of
/// the application's environment says so.
fn read_variables(
    sources: &Sources,
    files: &mut Vec<PathBuf>,
    facts: &mut Vec<String>,
) -> Result<Variables, ConfigError> {
    let app_env = sources.env.get("APP_ENV").filter(|name| !name.is_empty());
    let sayers = [("--env", sources.env_name.as_ref()), ("APP_ENV", app_env)];
    let chosen = sayers.iter().find_map(|(by, name)| {
        let file = format!(".env.{}", name.filter(|name| !name.contains(['/', '\\']))?);
        sources.dir.join(&file).is_file().then_some((by, file))
    });
    let chosen = chosen.filter(|_| sources.env_file.is_none());
    if let Some((by, file)) = &chosen {
        facts.push(format!("{file} is read in place of .env, as {by} says"));
    }
    let default = chosen.as_ref().map_or(".env", |(_, file)| file);
    let Some(source) = Source::find(sources.env_file.as_deref(), &sources.dir, default)? else {
        return Ok(Variables::new(&sources.env, None));
    };
    let values = dotenv::parse(&source.text, &sources.env).map_err(|error| {
        ConfigError::at(format_args!("{}:{}", source.name, error.line), error.rule)
    })?;
    files.push(source.path);
    Ok(Variables::new(&sources.env, Some((&source.name, &values))))
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
            draft.set(Key::new(key), value, Origin::Flag(flag));
        }
    }
    if flags.hostname.is_some() {
        notes.push("flag --hostname has no effect: name the certificate by server.tls".to_owned());
    }
}
