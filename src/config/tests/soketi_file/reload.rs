//! Checks that a reload makes of the file.

use super::TWO;
use crate::config::{Files, Loaded, Sources, load, tests::Directory};
use std::{fs, os::unix::fs::symlink, path::Path};

/// A directory with a file of soketi, and what was read from it.
struct Running {
    dir: Directory,
    before: Files,
}

impl Running {
    fn new() -> Self {
        let dir = Directory::new();
        fs::write(dir.0.join("config.json"), format!("{TWO}\n")).unwrap();
        let mut running = Self { dir, before: Files::default() };
        running.before = running.read().unwrap().files;
        running
    }

    fn read(&self) -> Result<Loaded, String> {
        let file = Some(self.dir.0.join("config.json"));
        let (dir, before) = (self.dir.0.clone(), self.before.clone());
        let loaded = load(&Sources { file, dir, previous: before, ..Sources::default() });
        loaded.map_err(|error| error.to_string())
    }

    fn after(change: impl FnOnce(&Path)) -> Result<Loaded, String> {
        let running = Self::new();
        let path = running.dir.0.join("config.json");
        change(&path);
        let name = path.display().to_string();
        running.read().map_err(|error| error.replace(&name, "config.json"))
    }

    fn after_text(text: impl AsRef<[u8]>) -> Result<Loaded, String> {
        Self::after(|path| fs::write(path, text).unwrap())
    }
}

#[test]
fn a_reload_rejects_a_damaged_file() {
    for empty in ["", "\n", " \t\r\n\n", "\u{feff}"] {
        let error = Running::after_text(empty).unwrap_err();
        assert_eq!(error, "config.json: is empty; it was not at the last load");
    }
    for at in 1..TWO.len() - 1 {
        let error = Running::after_text(&TWO[..at]).unwrap_err();
        assert!(error.contains("looks truncated"), "{at}: {error}");
    }
    let cut = TWO.replace("\"port\": 6002", "\"port\": 6003");
    let error = Running::after_text(&cut[..cut.len() - 1]).unwrap_err();
    assert_eq!(error, "config.json:33: is not complete: it ends within a value");
    let missing = Running::after(|path| fs::remove_file(path).unwrap()).unwrap_err();
    assert_eq!(missing, "config.json: is missing; it existed at the last load");
    let dangling = Running::after(|path| {
        fs::remove_file(path).unwrap();
        symlink("nowhere", path).unwrap();
    });
    assert_eq!(dangling.unwrap_err(), "config.json: is a link to a file that does not exist");
    let none = Running::after_text("{\"port\": 6002}").unwrap_err();
    assert_eq!(none, "config.json: no longer contains apps");
    let bytes = Running::after_text(b"{\n\"host\": \"\xff\"}").unwrap_err();
    assert_eq!(bytes, "config.json:2: contains bytes that are not UTF-8");
}

#[test]
fn a_reload_accepts_intended_changes() {
    let first = TWO.split(",\n        {").next().unwrap();
    let loaded = Running::after_text(format!("{first}]}}")).unwrap();
    assert_eq!(loaded.config.apps.len(), 1);
    let loaded = Running::after_text(TWO.replace("\"k2\"", "\"k3\"").trim_end()).unwrap();
    assert_eq!(loaded.config.apps[1].key, "k3");
    assert!(Running::after_text(format!("\u{feff}{TWO}\n\n")).is_ok());
    let one_line =
        r#"{"appManager.array.apps": [{"id": "1", "key": "k", "secret": "a-secret-of-soketi"}]}"#;
    assert!(Running::after_text(one_line).is_ok());
}

#[test]
fn an_empty_file_with_the_name_of_a_json_file_is_rejected() {
    let dir = Directory::new();
    let path = dir.0.join("config.json");
    fs::write(&path, "\n").unwrap();
    let sources = Sources { file: Some(path), dir: dir.0.clone(), ..Sources::default() };
    let error = load(&sources).unwrap_err().to_string();
    assert!(
        error.ends_with("config.json: is empty: a file without options contains {}"),
        "{error}"
    );
}
