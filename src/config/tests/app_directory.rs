//! The folder of apps, `apps.d`.

use super::{Directory, Setup, with_app};
use crate::config::{Files, Loaded, Sources, load};
use std::{fs, path::Path};

/// An app in TOML whose key and secret follow from its id.
fn app(id: &str) -> String {
    format!("[[apps]]\nid = \"{id}\"\nkey = \"key-{id}\"\nsecret = \"a-secret-of-{id}-alone\"\n")
}

fn ids(loaded: &Loaded) -> Vec<&str> {
    loaded.config.apps.iter().map(|app| app.id.as_str()).collect()
}

#[test]
fn the_files_of_a_folder_add_apps_in_the_order_of_their_names() {
    let setup = Setup::default()
        .file(&app("1"))
        .further_file("apps.d/b.toml", &[app("4"), app("5")].concat())
        .further_file("apps.d/a.toml", &[app("2"), app("3")].concat());
    let loaded = setup.loaded();
    assert_eq!(ids(&loaded), ["1", "2", "3", "4", "5"]);
    assert!(loaded.effective_toml().contains("id = \"2\"  # apps.d/a.toml:2\n"));
    let info = &loaded.infos[0];
    assert!(info.starts_with("read from ") && info.ends_with("apps.d"), "{info}");
}

#[test]
fn apps_of_the_environment_and_of_the_folder_are_served_together() {
    let setup = with_app().further_file("apps.d/a.toml", &app("2"));
    assert_eq!(ids(&setup.loaded()), ["my-id", "2"]);
    let reverb = ["ID", "KEY", "SECRET"].iter().fold(Setup::default(), |setup, name| {
        setup.env(&format!("REVERB_APP_{name}"), &format!("an-app-{name}-of-reverb"))
    });
    let loaded = reverb.further_file("apps.d/a.toml", &app("2")).loaded();
    assert_eq!(ids(&loaded), ["an-app-ID-of-reverb", "2"]);
    assert_eq!(loaded.config.apps[1].max_batch_events, 10, "it is not Reverb's app");
    // Defaults of soketi are those of an app that it would have; none is there.
    let loaded = Setup::default()
        .env("SOKETI_PORT", "6002")
        .further_file("apps.d/a.toml", &app("2"))
        .loaded();
    assert_eq!(ids(&loaded), ["2"]);
    let limit = Setup::default()
        .env("CAMPANILE_APPS__0__MAX_CONNECTIONS", "5")
        .further_file("apps.d/a.toml", &app("2"));
    let error = limit.error();
    assert!(error.contains("CAMPANILE_APPS__0__ID: apps[0].id: is required"), "{error}");
}

#[test]
fn without_a_folder_or_with_an_empty_one_nothing_changes() {
    assert!(Setup::default().loaded().is_development());
    let other = Setup::default().further_file("apps.d/README", "not TOML");
    assert!(other.loaded().is_development());
    for hidden in ["apps.d/.a.toml", "apps.d/a.toml~", "apps.d/a.toml.bak"] {
        assert!(Setup::default().further_file(hidden, &app("2")).loaded().is_development());
    }
}

#[test]
fn a_named_folder_is_read_instead_and_must_exist() {
    let dir = Directory::new();
    let named = dir.0.join("tenants");
    let setup = || {
        Setup::default()
            .env("CAMPANILE_APPS_FROM__DIRECTORY", named.to_str().unwrap())
            .further_file("apps.d/a.toml", &app("1"))
    };
    let error = setup().error();
    let place = "environment CAMPANILE_APPS_FROM__DIRECTORY: apps_from.directory: ";
    assert!(error.starts_with(place) && error.contains("cannot be read"), "{error}");
    fs::create_dir(&named).unwrap();
    fs::write(named.join("a.toml"), app("2")).unwrap();
    assert_eq!(ids(&setup().loaded()), ["2"]);
}

#[test]
fn errors_name_file_line_and_key() {
    let with = |text: &str| {
        let setup = Setup::default().file(&app("1")).further_file("apps.d/a.toml", text);
        setup.error()
    };
    for (text, expected) in [
        ("[[apps]]\nid = 1\n", "apps.d/a.toml:2: apps[1].id: must be a string"),
        ("[[apps]]\nid = \"2\"\n", "apps.d/a.toml:1: apps[1].key: is required"),
        (
            "[server]\nport = 1\n",
            "apps.d/a.toml:1: server: must be in config.toml: a file of apps has [[apps]] only",
        ),
        ("# nothing\n", "apps.d/a.toml: has no [[apps]]"),
        ("apps = []\n", "apps.d/a.toml:1: apps: must have at least one app"),
        ("[[apps]\n", "apps.d/a.toml:1: "),
        ("{}", "apps.d/a.toml:1: "),
    ] {
        let error = with(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(with(&[&app("2"), "max_connections = -1\n"].concat()).contains(":5: apps[1].max_conn"));
}

#[test]
fn an_id_or_key_in_two_files_is_an_error_that_names_both() {
    let setup = Setup::default()
        .further_file("apps.d/a.toml", &app("2"))
        .further_file("apps.d/b.toml", &app("3").replace("key-3", "key-2"));
    let expected = "apps.d/b.toml:3: apps[1].key: must differ from apps[0].key, apps.d/a.toml:3";
    assert_eq!(setup.error(), expected);
    let setup = Setup::default().file(&app("2")).further_file("apps.d/b.toml", &app("2"));
    let error = setup.error();
    assert!(
        error.contains("apps.d/b.toml:2: apps[1].id: must differ from apps[0].id, config.toml:2")
    );
}

/// The result of reading a folder again after a change.
fn after(change: impl FnOnce(&Path)) -> Result<Vec<String>, String> {
    let dir = Directory::new();
    let folder = dir.0.join("apps.d");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.toml"), app("1")).unwrap();
    fs::write(folder.join("b.toml"), app("2")).unwrap();
    let read =
        |before| load(&Sources { dir: dir.0.clone(), previous: before, ..Sources::default() });
    let before = read(Files::default()).unwrap().files;
    change(&folder);
    let loaded = read(before).map_err(|error| error.to_string())?;
    Ok(loaded.config.apps.iter().map(|app| app.id.clone()).collect())
}

#[test]
fn a_reload_takes_files_that_were_added_changed_and_removed() {
    assert_eq!(after(|dir| fs::write(dir.join("c.toml"), app("3")).unwrap()).unwrap().len(), 3);
    assert_eq!(after(|dir| fs::remove_file(dir.join("a.toml")).unwrap()).unwrap(), ["2"]);
    let changed = after(|dir| fs::write(dir.join("a.toml"), app("9")).unwrap());
    assert_eq!(changed.unwrap(), ["9", "2"]);
}

#[test]
fn a_reload_rejects_a_truncated_file_and_a_folder_that_has_become_empty() {
    let text = app("1");
    let cut = after(|dir| fs::write(dir.join("a.toml"), &text[..text.len() - 9]).unwrap());
    assert!(cut.unwrap_err().starts_with("apps.d/a.toml: "));
    let empty = after(|dir| fs::write(dir.join("a.toml"), "").unwrap()).unwrap_err();
    assert!(empty.starts_with("apps.d/a.toml: is empty"), "{empty}");
    let none = after(|dir| {
        fs::remove_file(dir.join("a.toml")).unwrap();
        fs::remove_file(dir.join("b.toml")).unwrap();
    });
    let expected = "apps.d: no longer contains files";
    assert_eq!(none.unwrap_err(), expected);
    assert_eq!(after(|dir| fs::remove_dir_all(dir).unwrap()).unwrap_err(), expected);
}
