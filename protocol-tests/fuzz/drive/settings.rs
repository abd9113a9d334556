//! The readers of `config.toml` and of `.env` with the variables that it may hold.

use std::path::PathBuf;

use campanile::config::{Sources, load};

/// A `config.toml`.
pub(crate) fn config_file(input: &[u8]) {
    loaded_from("config.toml", input);
}

/// A `.env` file, with the languages of Campanile, Reverb and soketi.
pub(crate) fn config_env(input: &[u8]) {
    loaded_from(".env", input);
}

/// What cannot be read is told in one line; what can be is shown without its secrets, and reads back.
fn loaded_from(name: &str, input: &[u8]) {
    let dir = folder();
    std::fs::write(dir.join(name), input).expect("a folder of our own can be written");
    let loaded = load(&Sources { dir: dir.clone(), ..Sources::default() });
    std::fs::remove_file(dir.join(name)).expect("it was written");
    match loaded {
        Err(error) => {
            let line = error.to_string();
            assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
        }
        Ok(loaded) => {
            assert!(!loaded.config.apps.is_empty());
            let shown = loaded.effective_toml();
            for app in &loaded.config.apps {
                let secret = app.secret.expose();
                // A secret that is a common word stands there for another reason.
                assert!(secret.len() < 24 || !shown.contains(secret), "a secret is shown");
            }
            if name == "config.toml" {
                let again = Sources { dir, ..Sources::default() };
                // Masks are too easy to guess for a server that others can reach.
                let shown = shown.replace("\"***\"", "\"a-secret-instead-of-a-mask\"");
                std::fs::write(again.dir.join(name), shown).expect("our own folder");
                let again = load(&again).expect("what is in effect can be configured");
                assert_eq!(again.config.server, loaded.config.server);
                assert_eq!(again.config.connection, loaded.config.connection);
                std::fs::remove_file(folder().join(name)).expect("it was written");
            }
        }
    }
}

/// One folder for each thread, which is used again and again.
fn folder() -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let name: String = thread.chars().filter(char::is_ascii_digit).collect();
    let path = std::env::temp_dir().join(format!("campanile-fuzz-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
    path
}
