//! The program of the previous release, built from the history of the repository.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::{env, fs};

use crate::program::{build_in, program, root, target};

/// Names the program of the previous release, if it is built already.
pub const PREVIOUS_PROGRAM: &str = "CAMPANILE_PREVIOUS_BIN";
/// The file with its commit. A release changes it.
const COMMIT: &str = "protocol-tests/previous-release";
/// The name that the program is built under: cargo would replace the present one.
const NAME: &str = "campanile-previous";

/// The program of the previous release. If the history does not have its commit, as in a shallow clone or an archive of the
/// source, it is the present program, and a line on standard error says so.
pub fn previous_program() -> &'static Path {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(path) = env::var_os(PREVIOUS_PROGRAM) {
            return root().join(path);
        }
        let commit = commit();
        if has_commit(&commit) {
            return build(&commit).unwrap_or_else(|error| panic!("{commit}: {error}"));
        }
        // Not by `eprintln`, which the harness shows for failed tests only.
        let _ = writeln!(
            stderr(),
            "note: the history does not have {commit}, the previous release: upgrades are tested with the present program as \
             both versions"
        );
        program().to_owned()
    });
    &FOUND
}

/// The commit of the previous release.
fn commit() -> String {
    let text = fs::read_to_string(root().join(COMMIT)).expect("the repository has the file");
    let line = text.lines().find(|line| !line.starts_with('#')).expect("a line with the commit");
    line.trim().to_owned()
}

fn has_commit(commit: &str) -> bool {
    let mut git = Command::new("git");
    git.args(["cat-file", "-e", &format!("{commit}^{{commit}}")]);
    let status = git.current_dir(root()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Unpacks the source of the commit and builds its program. Its dependencies are those of the tests, mostly, so it is built
/// into the same directory.
fn build(commit: &str) -> Result<PathBuf, String> {
    let folder = target().join("previous").join(commit);
    if !folder.join("Cargo.toml").exists() {
        unpack(commit, &folder)?;
    }
    build_in(&folder, NAME)
}

/// Unpacks beside the folder and renames, so that an interrupted or a second process leaves no half.
fn unpack(commit: &str, folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let partial = folder.with_extension(std::process::id().to_string());
    fs::create_dir_all(&partial).map_err(failed)?;
    let mut git = Command::new("git");
    git.args(["archive", commit]).current_dir(root()).stdout(Stdio::piped());
    let mut archive = git.spawn().map_err(failed)?;
    let stream = archive.stdout.take().expect("stdout is piped");
    let mut tar = Command::new("tar");
    let unpacked = tar.arg("x").current_dir(&partial).stdin(stream).status().map_err(failed)?;
    let archived = archive.wait().map_err(failed)?;
    if !unpacked.success() || !archived.success() {
        return Err(format!("git archive: {archived}, tar: {unpacked}"));
    }
    let manifest = partial.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(failed)?;
    let text = text.replace("default-run = \"campanile\"\n", "autobins = false\n");
    let bin = format!("\n[[bin]]\nname = \"{NAME}\"\npath = \"src/main.rs\"\n");
    fs::write(&manifest, text + &bin).map_err(failed)?;
    match fs::rename(&partial, folder) {
        // Another process was faster.
        Err(_) if folder.join("Cargo.toml").exists() => {
            fs::remove_dir_all(&partial).map_err(failed)
        }
        renamed => renamed.map_err(failed),
    }
}
