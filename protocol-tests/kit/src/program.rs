//! The program under test.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// Names another program to test; a relative path starts at the root of the repository.
pub const PROGRAM: &str = "CAMPANILE_BIN";

/// Beginnings of the variables that cargo sets for a test. Build scripts that read them would run again, and what depends
/// on them would be built again.
const OF_THE_TEST: &[&str] =
    &["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_", "OUT_DIR"];

/// The root of the repository.
pub fn root() -> &'static Path {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).expect("the kit is two folders below the root")
}

/// The program `campanile`, which is up to date: cargo is asked for it once per process.
pub fn program() -> &'static Path {
    static FOUND: LazyLock<Result<PathBuf, String>> =
        LazyLock::new(|| env::var_os(PROGRAM).map_or_else(build, |path| Ok(root().join(path))));
    let found = FOUND.as_deref();
    found.unwrap_or_else(|error| {
        panic!("{error}; {PROGRAM} may name a program that is built already")
    })
}

/// Builds the program with the profile of the running test, and into the same directory. If the test was started by
/// `cargo test`, cargo has built the crate already, and at most links it.
fn build() -> Result<PathBuf, String> {
    build_in(root(), "campanile")
}

/// The directory of a profile in which the running test is: TARGET/PROFILE/deps/TEST.
fn profile_folder() -> PathBuf {
    let suite = env::current_exe().expect("a test is a file");
    suite.ancestors().nth(2).expect("tests are in the directory of a profile").to_owned()
}

/// The target directory of the running test.
pub(crate) fn target() -> PathBuf {
    profile_folder().parent().expect("profiles are in the target directory").to_owned()
}

/// Builds the program `name` of the source in `manifest_folder`, like [`build`].
pub(crate) fn build_in(manifest_folder: &Path, name: &str) -> Result<PathBuf, String> {
    let (folder, target) = (profile_folder(), target());
    let profile = match folder.file_name().expect("the directory of a profile has a name") {
        name if name == "debug" => "dev".into(),
        name => name.to_owned(),
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_of_the_test = |name: &OsString| {
        let name = name.to_string_lossy();
        OF_THE_TEST.iter().any(|beginning| name.starts_with(beginning))
    };
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_the_test(name)) {
        cargo.env_remove(name);
    }
    // With a test beside it, cargo gives the dependencies of the program the features that all tests are built with. Without
    // one, it would build them once more.
    cargo
        .args(["build", "--quiet", "--bin", name, "--test", "tidy"])
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--profile")
        .arg(profile)
        .arg("--target-dir")
        .arg(target)
        .current_dir(manifest_folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error| format!("{cargo:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{cargo:?}: {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|message| executable(message, name))
        .ok_or_else(|| format!("{cargo:?} names no program: {text}"))
}

/// The path of the program `name` in a message of cargo, if the message is about it.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_program = message["target"]["name"] == name && message["executable"].is_string();
    is_program.then(|| message["executable"].as_str().map(PathBuf::from))?
}
