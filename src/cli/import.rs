//! `campanile import`: the configuration of Laravel Reverb as `config.toml`.

use super::{EXIT_FAILED, EXIT_USAGE, fail, init::write_private, print_error, print_line, reject};
use crate::config::{self, Sources};
use clap::Args;
use serde_json::{Map, Value};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// The PHP file, which PHP evaluates with the variables of .env
    #[arg(value_name = "FILE", default_value = "config/reverb.php")]
    file: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// The command that runs PHP
    #[arg(long, value_name = "COMMAND", default_value = "php")]
    php: String,
    /// File with environment variables [default: .env of the project, if there is one]
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

/// Evaluates the file that is its first argument as Laravel does, with the variables on standard
/// input and the project's folder as its second argument, and prints the value as JSON.
const SCRIPT: &str = r"
$variables = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$root = $argv[2];
function env($name, $default = null) {
    global $variables;
    if (array_key_exists($name, $variables)) return $variables[$name];
    return $default instanceof Closure ? $default() : $default;
}
function base_path($path = '') { global $root; return rtrim($root . '/' . ltrim($path, '/'), '/'); }
function app_path($path = '') { return base_path('app/' . $path); }
function config_path($path = '') { return base_path('config/' . $path); }
function database_path($path = '') { return base_path('database/' . $path); }
function public_path($path = '') { return base_path('public/' . $path); }
function resource_path($path = '') { return base_path('resources/' . $path); }
function storage_path($path = '') { return base_path('storage/' . $path); }
if (is_file($root . '/vendor/autoload.php')) require $root . '/vendor/autoload.php';
echo json_encode(require $argv[1], JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);
";

pub(super) fn import(args: &ImportArgs) -> ExitCode {
    let output = args.output.display();
    if !args.force && args.output.exists() {
        return fail(EXIT_USAGE, format_args!("{output} exists: --force replaces it"));
    }
    // Laravel's configuration lies in the folder `config` of the project.
    let file = match args.file.canonicalize() {
        Ok(file) => file,
        Err(error) => {
            return fail(EXIT_USAGE, format_args!("{}: {error}", args.file.display()));
        }
    };
    let root = file.parent().and_then(Path::parent).unwrap_or(Path::new("/")).to_path_buf();
    let mut sources =
        Sources { env_file: args.env_file.clone(), dir: root.clone(), ..Sources::default() };
    sources.set_env(std::env::vars_os());
    let variables = match config::laravel_variables(&sources) {
        Ok(variables) => variables,
        Err(error) => return reject(error),
    };
    let reverb = match evaluate(&args.php, &file, &root, &variables) {
        Ok(reverb) => reverb,
        Err(why) => return fail(EXIT_FAILED, format_args!("{}: {why}", args.file.display())),
    };
    let (text, warnings) = match config::import_reverb(&reverb) {
        Ok(imported) => imported,
        Err(why) => return fail(EXIT_FAILED, format_args!("{}: {why}", args.file.display())),
    };
    if let Err(error) = write_private(&args.output, &text, args.force) {
        return fail(EXIT_FAILED, format_args!("cannot write {output}: {error}"));
    }
    for warning in warnings {
        print_error(format_args!("warning: {warning}"));
    }
    print_line(format_args!("Wrote {output}. It contains secrets, and only you can read it."));
    // Checks the written file alone, without environment variables.
    match config::load(&Sources { file: Some(args.output.clone()), ..Sources::default() }) {
        Ok(_valid) => ExitCode::SUCCESS,
        Err(error) => reject(error),
    }
}

/// The value that PHP returns for `file`.
fn evaluate(
    php: &str,
    file: &Path,
    root: &Path,
    variables: &Map<String, Value>,
) -> Result<Value, String> {
    let mut child = Command::new(php)
        .args(["-d", "display_errors=stderr", "-r", SCRIPT, "--"])
        .args([file, root])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                format!("{php} is not installed: --php names another command")
            } else {
                format!("cannot run {php}: {error}")
            }
        })?;
    if let Some(mut input) = child.stdin.take() {
        // PHP reads all of it before it prints anything. If it ends early, its error says why.
        let _ = input.write_all(Value::Object(variables.clone()).to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("PHP fails: {}", first_line(&errors)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|_not_json| format!("PHP did not return an array: {}", first_line(&errors)))
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no error message")
}
