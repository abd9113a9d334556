//! The command line.

mod apps;
mod banner;
mod doctor;
mod files;
mod hash_password;
mod health;
mod import;
mod init;
mod listen;
mod log;
mod log_line;
mod log_warnings;
mod publish;
mod reload;
mod shell;
mod start;
mod systemd;
mod target;
mod top;
mod trust;
mod webhooks;

use crate::config::{self, ConfigError, Files, Flags, Loaded, Sources};
use clap::{Args, Parser, Subcommand};
use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use tokio::runtime;

/// A broadcast server that speaks the Pusher Channels protocol
#[derive(Debug, Parser)]
#[command(name = "campanile", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: StartArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also without a command)
    Start(StartArgs),
    /// Write a first config.toml with a new app
    Init(init::InitArgs),
    /// Convert config/reverb.php of a Laravel project to config.toml
    Import(import::ImportArgs),
    /// Print the effective configuration and where each value comes from
    Check(CheckArgs),
    /// Publish an event through the HTTP API of a running server
    Publish(publish::PublishArgs),
    /// Connect as a client and print received events
    Listen(listen::ListenArgs),
    /// Show what happens in a running server, live
    Top(top::TopArgs),
    /// Find out why pages or the application do not reach the server
    Doctor(Box<doctor::DoctorArgs>),
    /// Ask a running server whether it is alive
    Health(health::HealthArgs),
    /// Have a running server read an app of its database again
    Apps(apps::AppsArgs),
    /// Print the line for `console.password` of a password on standard input
    HashPassword,
    /// Send a sample of each event to the configured webhooks
    Webhooks(webhooks::WebhooksArgs),
    /// Print the completions of a shell
    Completions(shell::CompletionsArgs),
    /// Print the manual page
    Man(shell::ManArgs),
}

/// Where the configuration is.
#[derive(Args, Clone, Debug, Default)]
struct ConfigArgs {
    /// Configuration file, in TOML, or soketi's in JSON [default: config.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with environment variables [default: .env, if there is one]
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Read .env.NAME instead of .env, if there is one [default: `APP_ENV`]
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// Take the app's id, key and secret from `PUSHER_APP_ID`, `PUSHER_APP_KEY` and `PUSHER_APP_SECRET`
    #[arg(long)]
    from_pusher_env: bool,
}

/// Listen address; overrides the configuration.
#[derive(Args, Clone, Debug, Default)]
struct AddressArgs {
    /// Address that the server listens on
    #[arg(long)]
    host: Option<String>,
    /// Port that the server listens on; 0 is any free one
    #[arg(long)]
    port: Option<u16>,
    /// Path prefix of every route
    #[arg(long)]
    path: Option<String>,
}

#[derive(Args, Clone, Debug)]
struct CheckArgs {
    #[command(flatten)]
    sources: ConfigArgs,
    #[command(flatten)]
    address: AddressArgs,
    /// Print values, sources, warnings and errors as JSON, for programs
    #[arg(long, conflicts_with = "schema")]
    json: bool,
    /// Print the JSON Schema of config.toml instead, for editors
    #[arg(long)]
    schema: bool,
}

#[derive(Args, Clone, Debug, Default)]
struct StartArgs {
    #[command(flatten)]
    sources: ConfigArgs,
    #[command(flatten)]
    address: AddressArgs,
    /// Ignored; accepted for compatibility with `reverb:start`
    #[arg(long)]
    hostname: Option<String>,
    /// Log every step
    #[arg(long)]
    debug: bool,
}

/// Wrong usage or configuration.
const EXIT_USAGE: u8 = 2;
/// Failed while running.
const EXIT_FAILED: u8 = 1;

/// Parses the command line, runs the command, and returns the exit code: 0 for success, 1 for a
/// failure at runtime, 2 for wrong usage or configuration.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            print_error(error.render().to_string().trim_end());
            return ExitCode::from(EXIT_USAGE);
        }
        // Help or version, as requested.
        Err(text) => return print(text.render().to_string().trim_end()),
    };
    match cli.command {
        None => start::start(&cli.start),
        Some(Command::Start(args)) => start::start(&args),
        Some(Command::Init(args)) => init::init(&args),
        Some(Command::Import(args)) => import::import(&args),
        Some(Command::Check(args)) => check(&args),
        Some(Command::Publish(args)) => publish::publish(&args),
        Some(Command::Listen(args)) => listen::listen(&args),
        Some(Command::Top(args)) => top::top(&args),
        Some(Command::Doctor(args)) => doctor::doctor(&args),
        Some(Command::Health(args)) => health::health(&args),
        Some(Command::Apps(args)) => apps::apps(&args),
        Some(Command::HashPassword) => hash_password::hash(),
        Some(Command::Webhooks(args)) => webhooks::webhooks(&args),
        Some(Command::Completions(args)) => shell::completions(&args),
        Some(Command::Man(args)) => shell::man(&args),
    }
}

impl AddressArgs {
    fn flags(&self) -> Flags {
        let Self { host, port, path } = self.clone();
        Flags { host, port, path, ..Flags::default() }
    }
}

impl ConfigArgs {
    /// Loads the configuration, or prints one line for each error in it.
    fn load(&self, flags: Flags) -> Result<Loaded, ExitCode> {
        self.read(flags, Files::default()).map_err(reject)
    }

    /// Loads the configuration and the files that it names, as at startup, or prints the errors.
    fn load_all(&self, flags: Flags) -> Result<Loaded, ExitCode> {
        self.try_load_all(flags).map_err(reject)
    }

    fn try_load_all(&self, flags: Flags) -> Result<Loaded, ConfigError> {
        let mut loaded = self.read(flags, Files::default())?;
        files::check(&mut loaded, true)?;
        Ok(loaded)
    }

    /// Reads the current configuration. `previous` are the files of the current configuration, if
    /// there is one.
    fn read(&self, flags: Flags, previous: Files) -> Result<Loaded, ConfigError> {
        config::load(&self.sources(flags, previous))
    }

    /// Where a configuration is read from.
    fn sources(&self, flags: Flags, previous: Files) -> Sources {
        let (file, env_file) = (self.config.clone(), self.env_file.clone());
        let (env_name, pusher_env) = (self.env.clone(), self.from_pusher_env);
        let mut sources =
            Sources { file, env_file, env_name, pusher_env, flags, previous, ..Sources::default() };
        sources.set_env(std::env::vars_os());
        sources
    }
}

/// Prints one line for each error of a configuration.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn reject(error: ConfigError) -> ExitCode {
    error.lines().for_each(|line| print_error(format_args!("campanile: {line}")));
    ExitCode::from(EXIT_USAGE)
}

fn check(args: &CheckArgs) -> ExitCode {
    if args.schema {
        return print(config::json_schema().trim_end());
    }
    let loaded = args.sources.try_load_all(args.address.flags());
    if args.json {
        let code = if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        let report = loaded.map_or_else(|error| error.to_json(), |loaded| loaded.to_json());
        let printed = print(format_args!("{report:#}"));
        return if printed == ExitCode::SUCCESS { code } else { printed };
    }
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return reject(error),
    };
    for info in &loaded.infos {
        print_error(format_args!("info: {info}"));
    }
    for warning in &loaded.warnings {
        print_error(format_args!("warning: {warning}"));
    }
    print(loaded.effective_toml().trim_end())
}

/// A runtime for commands other than `start`.
fn runtime() -> Result<runtime::Runtime, ExitCode> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| fail(EXIT_FAILED, format_args!("cannot start a runtime: {error}")))
}

/// Prints an error, and returns the exit code for it.
fn fail(code: u8, error: impl Display) -> ExitCode {
    print_error(format_args!("campanile: {error}"));
    ExitCode::from(code)
}

/// Prints a line to the user. A closed output is not an error.
fn print_line(line: impl Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Prints the output of a command. A closed pipe is not an error; a full disk is.
fn print(text: impl Display) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(EXIT_FAILED, format_args!("cannot write to standard output: {error}"))
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn print_error(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn start_is_the_default_command() {
        let cli = Cli::try_parse_from(["campanile", "--port", "0"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.start.address.port, Some(0));
        assert!(Cli::try_parse_from(["campanile", "start", "--debug", "--hostname", "x"]).is_ok());
    }
}
