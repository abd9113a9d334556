//! The configuration as a whole. Each test has its own directory for files; the environment is a
//! map.

mod app_directory;
mod artefacts;
mod compat;
mod database;
mod development;
mod environment;
mod errors;
mod grammar;
mod history;
mod messages;
mod origins;
mod redis;
mod reload;
mod reverb;
mod rules;
mod sample;
mod secret_files;
mod secrets;
mod several;
mod soketi;
mod soketi_file;
mod webhooks;

use super::{Loaded, Sources, load};
use std::{
    fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// The input of a test: the texts of the files, the environment, the flags.
#[derive(Default)]
struct Setup {
    sources: Sources,
    file: Option<String>,
    dotenv: Option<String>,
    /// Further files, by name.
    files: Vec<(&'static str, String)>,
}

impl Setup {
    fn file(mut self, text: &str) -> Self {
        self.file = Some(text.to_owned());
        self
    }

    fn dotenv(mut self, text: &str) -> Self {
        self.dotenv = Some(text.to_owned());
        self
    }

    fn further_file(mut self, name: &'static str, text: &str) -> Self {
        self.files.push((name, text.to_owned()));
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Loads the configuration, with `config.toml` and `.env` at their default paths.
    fn load(mut self) -> Result<Loaded, String> {
        let dir = Directory::new();
        let files = [("config.toml", self.file), (".env", self.dotenv)];
        for (name, text) in files {
            if let Some(text) = text {
                fs::write(dir.0.join(name), text).unwrap();
            }
        }
        for (name, text) in self.files {
            let path = dir.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.sources.dir.clone_from(&dir.0);
        load(&self.sources).map_err(|error| error.to_string())
    }

    fn loaded(self) -> Loaded {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(self) -> String {
        self.load().expect_err("it must be rejected")
    }
}

/// A setup with its own app, so that the rules for the development app do not apply.
fn with_app() -> Setup {
    let values = [("ID", "my-id"), ("KEY", "my-key"), ("SECRET", "a-secret-of-my-own")];
    values.iter().fold(Setup::default(), |setup, (name, value)| {
        setup.env(&format!("CAMPANILE_APPS__0__{name}"), value)
    })
}

/// The temporary directory of one test, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("campanile-config-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The source of `key` in `section`, according to the effective configuration.
fn source(loaded: &Loaded, section: &str, key: &str) -> String {
    let toml = loaded.effective_toml();
    let (_, section) = toml.split_once(&format!("{section}\n")).unwrap();
    let prefix = format!("{key} = ");
    let line = section.lines().find(|line| line.starts_with(&prefix)).unwrap();
    line.rsplit_once("  # ").unwrap().1.to_owned()
}
