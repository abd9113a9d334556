//! Secrets in files of their own.

use super::{Directory, Setup, source};
use std::fs;

const SECRET: &str = "8f3a92bd01c4e7f6";
const APP: &str = "[[apps]]\nid = \"1\"\nkey = \"k\"\n";

/// A directory with a file of this content, and its path.
fn file(content: impl AsRef<[u8]>) -> (Directory, String) {
    let dir = Directory::new();
    let path = dir.0.join("secret");
    fs::write(&path, content).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

#[test]
fn secrets_are_read_from_files_without_the_line_break_at_the_end() {
    for (content, secret) in [
        (SECRET.to_owned(), SECRET.to_owned()),
        (format!("{SECRET}\n"), SECRET.to_owned()),
        (format!("{SECRET}\r\n"), SECRET.to_owned()),
        (format!(" {SECRET} \n"), format!(" {SECRET} ")),
    ] {
        let (_dir, path) = file(&content);
        let loaded = Setup::default().file(&format!("{APP}secret_file = '{path}'\n")).loaded();
        assert_eq!(loaded.config.apps[0].secret.expose(), secret, "{content:?}");
        assert_eq!(source(&loaded, "[[apps]]", "secret"), "config.toml:4");
        assert!(!loaded.effective_toml().contains(SECRET));
    }
}

#[test]
fn each_secret_of_the_configuration_can_be_in_a_file() {
    let (_app, app) = file(SECRET);
    let (_token, token) = file("scrape\n");
    let (_redis, redis) = file("redis://:hunter2@127.0.0.1:1\n");
    let loaded = Setup::default()
        .file(APP)
        .env("CAMPANILE_APPS__0__SECRET_FILE", &app)
        .env("CAMPANILE_METRICS__TOKEN_FILE", &token)
        .env("CAMPANILE_REDIS__URL_FILE", &redis)
        .loaded();
    assert_eq!(loaded.config.apps[0].secret.expose(), SECRET);
    assert_eq!(loaded.config.metrics.token.expose(), "scrape");
    assert!(loaded.config.redis.target().is_some());
    let toml = loaded.effective_toml();
    assert!(!toml.contains(SECRET) && !toml.contains("hunter2"), "{toml}");
}

#[test]
fn the_secret_of_a_later_source_replaces_the_file_and_a_later_file_the_secret() {
    let (_dir, path) = file("from-the-file-16");
    let named = format!("{APP}secret_file = '{path}'\n");
    let written = format!("{APP}secret = \"{SECRET}\"\n");
    let secret = |setup: Setup| setup.loaded().config.apps[0].secret.expose().to_owned();
    let variable = "CAMPANILE_APPS__0__SECRET";
    assert_eq!(secret(Setup::default().file(&named).env(variable, SECRET)), SECRET);
    let missing = format!("{APP}secret_file = '/nowhere'\n");
    assert_eq!(secret(Setup::default().file(&missing).env(variable, SECRET)), SECRET);
    let variable = "CAMPANILE_APPS__0__SECRET_FILE";
    assert_eq!(secret(Setup::default().file(&written).env(variable, &path)), "from-the-file-16");
    // Campanile's own variables replace those of other servers.
    let reverb = Setup::default()
        .env("REVERB_APP_ID", "1")
        .env("REVERB_APP_KEY", "k")
        .env("REVERB_APP_SECRET", SECRET);
    assert_eq!(secret(reverb.env(variable, &path)), "from-the-file-16");
    // An empty name names no file.
    assert_eq!(secret(Setup::default().file(&format!("{written}secret_file = ''\n"))), SECRET);
}

#[test]
fn a_secret_and_its_file_in_one_source_are_an_error() {
    let (_dir, path) = file(SECRET);
    let both = format!("{APP}secret = 'x'\nsecret_file = '{path}'\n");
    let message = "must not be set beside secret";
    let expected = format!("config.toml:5: apps[0].secret_file: {message}");
    assert_eq!(Setup::default().file(&both).error(), expected);
    let variables = Setup::default()
        .file(APP)
        .env("CAMPANILE_APPS__0__SECRET", "x")
        .env("CAMPANILE_APPS__0__SECRET_FILE", &path);
    let expected =
        format!("environment CAMPANILE_APPS__0__SECRET_FILE: apps[0].secret_file: {message}");
    assert_eq!(variables.error(), expected);
}

#[test]
fn files_without_a_secret_are_errors_with_their_path_and_without_their_content() {
    for (content, message) in [
        (&b""[..], "is empty"),
        (b"\n", "is empty"),
        (b"\r\n", "is empty"),
        (b"\xff\xfe", "contains bytes that are not UTF-8"),
    ] {
        let (_dir, path) = file(content);
        let error = Setup::default().file(&format!("{APP}secret_file = '{path}'\n")).error();
        assert_eq!(error, format!("config.toml:4: apps[0].secret_file: `{path}` {message}"));
    }
    for (path, why) in [("/nowhere/x", "No such file"), ("/", "not a regular file")] {
        let error = Setup::default().file(&format!("{APP}secret_file = '{path}'\n")).error();
        let expected =
            format!("config.toml:4: apps[0].secret_file: `{path}` cannot be read: {why}");
        assert!(error.starts_with(&expected), "{error}");
    }
    let (_dir, path) = file("two\nlines of hunter2\n");
    let error = Setup::default().file(&format!("{APP}secret_file = '{path}'\n")).error();
    assert_eq!(error, "config.toml:4: apps[0].secret: must not contain control characters");
    let (_dir, path) = file("app-secret\n");
    let error = Setup::default().file(&format!("{APP}secret_file = '{path}'\n")).error();
    assert!(error.contains("is a published placeholder"), "{error}");
}
