//! `campanile init`: a first `config.toml` with an app of its own.

mod deployment;

use super::{ConfigArgs, EXIT_FAILED, EXIT_USAGE, fail, print, print_error};
use crate::{
    config::{self, Files, Flags},
    snippet::EchoOptions,
};
use clap::Args;
use deployment::{ComposeValues, File, compose, is_hidden, units};
use std::{
    env,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, BufRead, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{self, Path, PathBuf},
    process::ExitCode,
};

#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// The file to write
    #[arg(value_name = "FILE", default_value = "config.toml")]
    file: PathBuf,
    /// Port to listen on [default: 8080]
    #[arg(long)]
    port: Option<u16>,
    /// Origins whose pages may connect, such as example.com, separated by commas [default: *, all]
    #[arg(long, value_name = "ORIGINS")]
    origins: Option<String>,
    /// URL of the Redis that the nodes share; empty for a single node [default: empty]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Write the units of systemd too, into this folder [default: this one]
    #[arg(
        long,
        value_name = "FOLDER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ".",
    )]
    systemd: Option<PathBuf>,
    /// Write a folder for Docker Compose instead of FILE: two nodes, Redis and nginx [default: this
    /// folder]
    #[arg(
        long,
        value_name = "FOLDER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ".",
        conflicts_with_all = ["file", "redis", "systemd"],
    )]
    compose: Option<PathBuf>,
    /// Ask nothing: use the default of each flag that is missing
    #[arg(long)]
    yes: bool,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

/// A prompt for a setting, with the default as it is typed.
struct Prompt {
    key: &'static str,
    text: &'static str,
    default: &'static str,
}

const PORT: Prompt = Prompt { key: "server.port", text: "Port to listen on", default: "8080" };
const ORIGINS: Prompt = Prompt {
    key: "apps[].allowed_origins",
    text: "Origins whose pages may connect, such as example.com, separated by commas; * for all",
    default: "*",
};
const REDIS: Prompt = Prompt {
    key: "redis.url",
    text: "URL of the Redis that the nodes share; empty for a single node",
    default: "",
};

/// The values of a new configuration.
struct NewConfig {
    port: String,
    origins: String,
    redis: String,
    app: AppCredentials,
}

struct AppCredentials {
    id: u32,
    key: String,
    secret: String,
}

pub(super) fn init(args: &InitArgs) -> ExitCode {
    if let Err(message) = check_files(args) {
        return fail(EXIT_USAGE, message);
    }
    let asks = !args.yes && io::stdin().is_terminal() && io::stderr().is_terminal();
    let answers = NewConfig::ask(args, asks.then(|| io::stdin().lock()), &mut io::stderr());
    let config = match answers {
        Ok(config) => config,
        Err(message) => return fail(EXIT_USAGE, message),
    };
    let written = match (&args.compose, &args.systemd) {
        (Some(folder), _) => write_compose(folder, &config, args.force),
        (None, units) => write_config(args, &config, units.as_deref()),
    };
    match written {
        Ok(next_steps) => print(next_steps),
        Err(error) => fail(EXIT_FAILED, error),
    }
}

/// Checks that no file would be replaced without `--force`.
fn check_files(args: &InitArgs) -> Result<(), String> {
    let names = |folder: &Path, names: &[&str]| -> Vec<PathBuf> {
        names.iter().map(|name| folder.join(name)).collect()
    };
    let mut files = match &args.compose {
        Some(folder) => names(folder, &["compose.yaml", "config.toml", "nginx.conf", ".env"]),
        None => vec![args.file.clone()],
    };
    if let Some(folder) = &args.systemd {
        files.extend(names(folder, &["campanile.service", "campanile.socket", "sysusers.conf"]));
    }
    match files.iter().find(|file| !args.force && file.exists()) {
        Some(file) => Err(format!("{} exists: --force replaces it", file.display())),
        None => Ok(()),
    }
}

/// Writes the configuration, and the units if `folder` is given. Returns what to do next.
fn write_config(
    args: &InitArgs,
    config: &NewConfig,
    folder: Option<&Path>,
) -> Result<String, String> {
    let file = args.file.display();
    let paths = |error: io::Error| format!("cannot find the program or {file}: {error}");
    let absolute = path::absolute(&args.file).map_err(paths)?;
    let program = env::current_exe().map_err(paths)?;
    let units = folder.map(|folder| Ok((folder, units(&program, &absolute, &config.port)?)));
    let units = units.transpose().map_err(|message: String| message)?;
    write_private(&args.file, &config.toml(), args.force)
        .map_err(|error| format!("cannot write {file}: {error}"))?;
    warn_other_app(args, &config.app);
    let mut next_steps = config.next_steps(&args.file);
    if let Some((folder, units)) = units {
        write_files(folder, &units, args.force)?;
        for path in [&program, &absolute].into_iter().filter(|path| is_hidden(path)) {
            print_error(format_args!(
                "warning: the service can't read {}: its sandbox hides /home, /root, /run/user, /tmp and /var/tmp",
                path.display()
            ));
        }
        let _ = write!(next_steps, "\n\n{}", unit_steps(folder, &absolute));
    }
    Ok(next_steps)
}

/// How to install the units.
fn unit_steps(folder: &Path, config: &Path) -> String {
    let (folder, config) = (folder.display(), config.display());
    format!(
        "Wrote the units of systemd into {folder}. As root:\n\n  \
         cp {folder}/sysusers.conf /etc/sysusers.d/campanile.conf && systemd-sysusers\n  \
         chown root:campanile {config} && chmod 640 {config}\n  \
         cp {folder}/campanile.service {folder}/campanile.socket /etc/systemd/system/\n  \
         systemctl daemon-reload && systemctl enable --now campanile.socket campanile.service"
    )
}

/// Writes a folder for Docker Compose. Returns what to do next.
fn write_compose(folder: &Path, config: &NewConfig, replaces: bool) -> Result<String, String> {
    let AppCredentials { id, key, secret } = &config.app;
    let values = ComposeValues {
        port: &config.port,
        app_id: *id,
        key,
        secret,
        origins: &config.origins_toml(),
        redis_password: &AppCredentials::generate().secret,
    };
    write_files(folder, &compose(&values), replaces)?;
    let tls = folder.join("tls");
    fs::create_dir_all(&tls).map_err(|error| format!("cannot make {}: {error}", tls.display()))?;
    Ok(format!(
        "Wrote {folder}/compose.yaml and its files. {folder}/.env contains the app's secret, and only you can read it.\n\n  \
         cp /path/to/fullchain.pem /path/to/privkey.pem {tls}/\n  \
         docker build --tag campanile SOURCE      the repository of Campanile\n  \
         docker compose --project-directory {folder} up --detach\n\n\
         For the .env of a Laravel application:\n\n{}",
        config.laravel("443", "https"),
        folder = folder.display(),
        tls = tls.display(),
    ))
}

fn write_files(folder: &Path, files: &[File], replaces: bool) -> Result<(), String> {
    fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    for file in files {
        let path = folder.join(file.name);
        let written = if file.is_secret {
            write_private(&path, &file.text, replaces)
        } else {
            fs::write(&path, &file.text)
        };
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Warns if the environment or `.env` configures the app, which then overrides the file.
fn warn_other_app(args: &InitArgs, app: &AppCredentials) {
    let sources = ConfigArgs { config: Some(args.file.clone()), ..ConfigArgs::default() };
    match sources.read(Flags::default(), Files::default()) {
        Ok(loaded) if loaded.config.apps.first().is_some_and(|first| first.key == app.key) => {}
        Ok(_another_app) => print_error(
            "warning: the environment or .env configures another app, which overrides this one: see `campanile check`",
        ),
        Err(error) => error.lines().for_each(|line| print_error(format_args!("warning: {line}"))),
    }
}

/// Writes a file that only its owner can read. Fails if it exists, unless `replaces`.
pub(super) fn write_private(path: &Path, text: &str, replaces: bool) -> io::Result<()> {
    if replaces && path.exists() {
        fs::remove_file(path)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl Prompt {
    /// The value: `given`, or the answer read from `input`, or the default. Asks again while the
    /// answer is invalid.
    fn value(
        &self,
        given: Option<String>,
        input: Option<&mut (impl BufRead + ?Sized)>,
        output: &mut impl Write,
    ) -> Result<String, String> {
        if let Some(value) = given {
            self.check(&value).map_err(|message| format!("{}: {message}", self.key))?;
            return Ok(value);
        }
        let Some(input) = input else { return Ok(self.default.to_owned()) };
        loop {
            let failed = |error: io::Error| format!("cannot ask: {error}");
            let shown = if self.default.is_empty() { "none" } else { self.default };
            write!(output, "{} [{shown}]: ", self.text).map_err(failed)?;
            output.flush().map_err(failed)?;
            let mut line = String::new();
            if input.read_line(&mut line).map_err(failed)? == 0 {
                return Err("no answer".to_owned());
            }
            let value = match line.trim() {
                "" => self.default,
                answer => answer,
            };
            match self.check(value) {
                Ok(()) => return Ok(value.to_owned()),
                Err(message) => writeln!(output, "  {message}").map_err(failed)?,
            }
        }
    }

    fn check(&self, value: &str) -> Result<(), String> {
        config::check_setting(self.key, value)
    }
}

impl NewConfig {
    /// Collects the values, with answers from `input` if there is one, and generates credentials.
    fn ask(
        args: &InitArgs,
        mut input: Option<impl BufRead>,
        output: &mut impl Write,
    ) -> Result<Self, String> {
        let mut value =
            |prompt: Prompt, given: Option<String>| prompt.value(given, input.as_mut(), output);
        Ok(Self {
            port: value(PORT, args.port.map(|port| port.to_string()))?,
            origins: value(ORIGINS, args.origins.clone())?,
            redis: value(REDIS, args.redis.clone())?,
            app: AppCredentials::generate(),
        })
    }

    /// The allowed origins as an array.
    fn origins_toml(&self) -> String {
        let origins = self.origins.split(',').map(|origin| quoted(origin.trim()));
        format!("[{}]", origins.collect::<Vec<_>>().join(", "))
    }

    fn toml(&self) -> String {
        let AppCredentials { id, key, secret } = &self.app;
        let origins = self.origins_toml();
        let mut text = format!(
            "# `campanile check` shows all settings, and docs/configuration.md explains them.\n\n\
             [server]\nport = {}\n\n\
             [[apps]]\nid = \"{id}\"\nkey = \"{key}\"            # public\nsecret = \"{secret}\"\n\
             allowed_origins = {origins}\n",
            self.port
        );
        if !self.redis.is_empty() {
            let _ = write!(text, "\n[redis]\nurl = {}\n", quoted(&self.redis));
        }
        text
    }

    /// What to do with the new file.
    fn next_steps(&self, file: &Path) -> String {
        let (key, port) = (&self.app.key, &self.port);
        let is_default = file == Path::new("config.toml");
        let flag = if is_default { String::new() } else { format!(" --config {}", file.display()) };
        let echo = EchoOptions { key, host: "localhost", port, path: "", is_tls: false };
        format!(
            "Wrote {file}. It contains the app's secret, and only you can read it.\n\n\
             Start the server:\n\n  campanile start{flag}\n\n\
             For the .env of a Laravel application (REVERB_HOST is the host that browsers use):\n\n\
             {laravel}\n\n\
             {echo}",
            file = file.display(),
            laravel = self.laravel(port, "http"),
        )
    }

    /// The lines for the `.env` of a Laravel application.
    fn laravel(&self, port: &str, scheme: &str) -> String {
        let AppCredentials { id, key, secret } = &self.app;
        format!(
            "BROADCAST_CONNECTION=reverb\n\
             REVERB_APP_ID={id}\nREVERB_APP_KEY={key}\nREVERB_APP_SECRET={secret}\n\
             REVERB_HOST=localhost\nREVERB_PORT={port}\nREVERB_SCHEME={scheme}\n\
             VITE_REVERB_APP_KEY=\"${{REVERB_APP_KEY}}\"\nVITE_REVERB_HOST=\"${{REVERB_HOST}}\"\n\
             VITE_REVERB_PORT=\"${{REVERB_PORT}}\"\nVITE_REVERB_SCHEME=\"${{REVERB_SCHEME}}\""
        )
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl AppCredentials {
    /// New credentials. The id is a number, as the Pusher SDK for Python requires.
    fn generate() -> Self {
        Self {
            id: rand::random_range(100_000..1_000_000),
            key: format!("{:020x}", rand::random::<u128>() >> 48),
            secret: format!("{:032x}{:08x}", rand::random::<u128>(), rand::random::<u32>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> InitArgs {
        InitArgs {
            file: "config.toml".into(),
            port: None,
            origins: None,
            redis: None,
            systemd: None,
            compose: None,
            yes: false,
            force: false,
        }
    }

    fn answered(args: &InitArgs, input: &str) -> (Result<NewConfig, String>, String) {
        let mut output = Vec::new();
        let config = NewConfig::ask(args, Some(input.as_bytes()), &mut output);
        (config, String::from_utf8(output).unwrap())
    }

    #[test]
    fn answers_are_checked_and_empty_ones_are_the_default() {
        let input = "70000\n9000\n\nhttp://redis\nredis://:p@redis:6379/1\n";
        let (config, asked) = answered(&args(), input);
        let config = config.unwrap();
        assert_eq!((config.port.as_str(), config.origins.as_str()), ("9000", "*"));
        assert_eq!(config.redis, "redis://:p@redis:6379/1");
        assert_eq!(asked.matches("Port to listen on [8080]: ").count(), 2, "{asked}");
        assert!(asked.contains("must be from 0 to 65535"), "{asked}");
        assert_eq!(asked.matches("URL of the Redis").count(), 2, "{asked}");
        let (config, _) = answered(&args(), "9000\n");
        assert_eq!(config.err().as_deref(), Some("no answer"));
    }

    #[test]
    fn values_given_by_flags_are_not_prompted_for_and_invalid_flags_are_errors() {
        let redis = Some(String::new());
        let given = InitArgs { port: Some(1), origins: Some("a.test".into()), redis, ..args() };
        let (config, asked) = answered(&given, "");
        assert_eq!((config.unwrap().origins.as_str(), asked.as_str()), ("a.test", ""));
        let wrong = InitArgs { redis: Some("x".into()), ..args() };
        let none: Option<&[u8]> = None;
        let error = NewConfig::ask(&wrong, none, &mut Vec::new()).err().unwrap();
        assert!(error.starts_with("redis.url: "), "{error}");
        let defaults = NewConfig::ask(&args(), none, &mut Vec::new()).unwrap();
        assert_eq!((defaults.port.as_str(), defaults.redis.as_str()), ("8080", ""));
    }

    #[test]
    fn credentials_are_new_each_time() {
        let (one, two) = (AppCredentials::generate(), AppCredentials::generate());
        assert_ne!(one.secret, two.secret);
        assert_ne!(one.key, two.key);
        assert_eq!((one.key.len(), one.secret.len()), (20, 40));
        assert!((100_000..1_000_000).contains(&one.id));
    }
}
