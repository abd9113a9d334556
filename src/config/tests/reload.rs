//! Checks that a reload makes of the files that were read before.

use super::Directory;
use crate::config::{Files, Sources, load};
use std::{fs, os::unix::fs::symlink};

const FILE: &str = "[server]\nport = 1\n[[apps]]\nid = \"1\"\nkey = \"k1\"\nsecret = \"first-secret-of-1\"\n\
    [[apps]]\nid = \"2\"\nkey = \"k2\"\nsecret = \"first-secret-of-2\"\nallowed_origins = [\"a.test\"]\n";
const DOTENV: &str = "REVERB_APP_MAX_CONNECTIONS=5\nREVERB_ALLOWED_ORIGINS=a.test\n";

/// A directory with a configuration, and the files that were read from it.
struct RunningConfig {
    dir: Directory,
    before: Files,
}

impl RunningConfig {
    fn new() -> Self {
        let dir = Directory::new();
        fs::write(dir.0.join("config.toml"), FILE).unwrap();
        fs::write(dir.0.join(".env"), DOTENV).unwrap();
        let mut running = Self { dir, before: Files::default() };
        running.before = running.read().unwrap();
        running
    }

    fn read(&self) -> Result<Files, String> {
        let (dir, before) = (self.dir.0.clone(), self.before.clone());
        let loaded = load(&Sources { dir, previous: before, ..Sources::default() });
        loaded.map(|loaded| loaded.files).map_err(|error| error.to_string())
    }

    /// The error after `change` was applied to the file `name`.
    fn rejected(name: &str, change: impl FnOnce(&std::path::Path)) -> String {
        let running = Self::new();
        change(&running.dir.0.join(name));
        running.read().expect_err("it must be rejected")
    }

    fn rejected_with(name: &str, text: impl AsRef<[u8]>) -> String {
        Self::rejected(name, |path| fs::write(path, text).unwrap())
    }
}

#[test]
fn a_file_that_was_read_before_is_required_at_reload() {
    for name in ["config.toml", ".env"] {
        let missing = RunningConfig::rejected(name, |path| fs::remove_file(path).unwrap());
        assert_eq!(missing, format!("{name}: is missing; it existed at the last load"));
        let dangling = RunningConfig::rejected(name, |path| {
            fs::remove_file(path).unwrap();
            symlink("nowhere", path).unwrap();
        });
        assert_eq!(dangling, format!("{name}: is a link to a file that does not exist"));
        let folder = RunningConfig::rejected(name, |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        });
        assert!(folder.starts_with(&format!("{name}: cannot be read: ")), "{folder}");
        for empty in ["", "\n", " \t\r\n\n", "\u{feff}"] {
            let empty = RunningConfig::rejected_with(name, empty);
            assert_eq!(empty, format!("{name}: is empty; it was not at the last load"));
        }
    }
}

#[test]
fn the_file_of_an_environment_is_required_at_reload() {
    let dir = Directory::new();
    fs::write(dir.0.join(".env.staging"), DOTENV).unwrap();
    let read = |before: Files| {
        let env_name = Some("staging".to_owned());
        load(&Sources { dir: dir.0.clone(), previous: before, env_name, ..Sources::default() })
    };
    let before = read(Files::default()).unwrap().files;
    fs::remove_file(dir.0.join(".env.staging")).unwrap();
    let error = read(before).unwrap_err().to_string();
    assert_eq!(error, ".env.staging: is missing; it existed at the last load");
}

#[test]
fn a_reload_does_not_switch_to_another_env_file() {
    for text in ["", "REVERB_APP_MAX_CONNECTIONS=5\n"] {
        let dir = Directory::new();
        fs::write(dir.0.join(".env"), DOTENV).unwrap();
        let read = |before: Files| {
            let env = [("APP_ENV".to_owned(), "production".to_owned())].into();
            load(&Sources { dir: dir.0.clone(), previous: before, env, ..Sources::default() })
        };
        let before = read(Files::default()).unwrap().files;
        fs::write(dir.0.join(".env.production"), text).unwrap();
        let error = read(before).unwrap_err().to_string();
        assert!(error.starts_with(".env: was loaded before and is now replaced"), "{error}");
        assert!(read(Files::default()).is_ok(), "it is accepted at startup");
    }
}

#[test]
fn a_pipe_is_read_at_the_start_if_it_was_named_and_never_again() {
    let pipe = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    };
    for name in ["config.toml", ".env"] {
        let text = RunningConfig::rejected(name, |path| {
            fs::remove_file(path).unwrap();
            pipe(path);
        });
        assert_eq!(text, format!("{name}: cannot be read: not a regular file"));
    }
    let dir = Directory::new();
    let path = dir.0.join("config.toml");
    pipe(&path);
    let unnamed = load(&Sources { dir: dir.0.clone(), ..Sources::default() }).unwrap_err();
    assert_eq!(unnamed.to_string(), "config.toml: cannot be read: not a regular file");
    let named = |before: Files| {
        load(&Sources {
            file: Some(path.clone()),
            dir: dir.0.clone(),
            previous: before,
            ..Sources::default()
        })
    };
    let writing = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, FILE).unwrap()
    });
    let loaded = named(Files::default()).unwrap();
    writing.join().unwrap();
    assert_eq!(loaded.config.apps.len(), 2);
    let again = named(loaded.files).unwrap_err().to_string();
    assert!(again.ends_with(": cannot be read: not a regular file"), "{again}");
}

#[test]
fn a_dangling_symlink_is_an_error_at_startup() {
    let dir = Directory::new();
    symlink("nowhere", dir.0.join("config.toml")).unwrap();
    let error = load(&Sources { dir: dir.0.clone(), ..Sources::default() }).unwrap_err();
    assert_eq!(error.to_string(), "config.toml: is a link to a file that does not exist");
}

#[test]
fn a_file_without_apps_is_rejected_where_it_had_some() {
    let none = RunningConfig::rejected_with("config.toml", "[server]\nport = 1\n# none yet\n");
    assert_eq!(none, "config.toml: no longer contains apps");
    let only_comments = RunningConfig::rejected_with("config.toml", "# nothing\n");
    assert_eq!(only_comments, none);
}

#[test]
fn a_file_truncated_at_any_position_is_rejected() {
    for (name, text) in [("config.toml", FILE), (".env", DOTENV)] {
        let second = text.rfind("[[apps]]").unwrap_or(text.len());
        // A cut between two apps is not detected: the second may have been removed on purpose.
        for at in (0..text.len() - 1).filter(|at| ![second - 1, second].contains(at)) {
            let error = RunningConfig::rejected_with(name, &text[..at]);
            assert!(error.starts_with(name), "{at}: {error}");
        }
        let named = RunningConfig::rejected_with(name, &text[..text.len() / 2]);
        assert!(named.contains("looks truncated"), "{named}");
    }
}

#[test]
fn intended_changes_are_accepted() {
    let without_2 = FILE.split("[[apps]]\nid = \"2\"").next().unwrap();
    for text in [
        format!("{without_2}# app 2 is gone\n"),
        without_2.to_owned(),
        without_2.trim_end().to_owned(),
        FILE.replace("port = 1", "port = 2").trim_end().to_owned(),
        FILE.replace("port = 1\n", ""),
        FILE.replacen("[[apps]]", "[[apps]]\ntls_only = false", 1),
        format!("{FILE}\n\n"),
        format!("\u{feff}{FILE}"),
    ] {
        let running = RunningConfig::new();
        fs::write(running.dir.0.join("config.toml"), &text).unwrap();
        running.read().unwrap_or_else(|error| panic!("{error} of {text}"));
    }
}

#[test]
fn a_volume_that_swaps_its_folder_is_read_anew() {
    // As Kubernetes mounts a ConfigMap: config.toml -> ..data/config.toml, ..data -> a directory.
    let dir = Directory::new();
    let write = |folder: &str, text: &str| {
        fs::create_dir(dir.0.join(folder)).unwrap();
        fs::write(dir.0.join(folder).join("config.toml"), text).unwrap();
        symlink(folder, dir.0.join("..data_tmp")).unwrap();
        fs::rename(dir.0.join("..data_tmp"), dir.0.join("..data")).unwrap();
    };
    write("..1", FILE);
    symlink("..data/config.toml", dir.0.join("config.toml")).unwrap();
    let read = |before: Files| {
        load(&Sources { dir: dir.0.clone(), previous: before, ..Sources::default() })
    };
    let before = read(Files::default()).unwrap().files;
    write("..2", &FILE.replace("a.test", "b.test"));
    fs::remove_dir_all(dir.0.join("..1")).unwrap();
    let after = read(before).unwrap();
    assert_eq!(after.config.apps[1].allowed_origins, ["b.test"]);
    fs::remove_dir_all(dir.0.join("..2")).unwrap();
    assert!(read(after.files).unwrap_err().to_string().contains("a link to a file"));
}

#[test]
fn debug_does_not_show_the_contents_of_files() {
    let shown = format!("{:?}", RunningConfig::new().before);
    assert!(shown.contains("config.toml") && !shown.contains("first-secret"), "{shown}");
}
