//! The parsers of `config.toml` and of `.env` with its variables.

use std::path::PathBuf;

use campanile::config::{Sources, load};

/// Loads the input as a `config.toml`.
pub(crate) fn config_file(input: &[u8]) {
    loaded_from("config.toml", input);
}

/// Loads the input as a `.env` file, with the variables of Campanile, Reverb and soketi.
pub(crate) fn config_env(input: &[u8]) {
    loaded_from(".env", input);
}

/// An invalid input causes one line of error; a valid one is shown without its secrets, and the output is valid again.
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
                // A short secret can be equal to an unrelated word in the output.
                assert!(secret.len() < 24 || !shown.contains(secret), "a secret is shown");
            }
            if name == "config.toml" {
                let again = Sources { dir, ..Sources::default() };
                // A mask is too easy to guess as a secret of a server on a public address.
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

/// A directory for each thread, which is reused.
fn folder() -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let name: String = thread.chars().filter(char::is_ascii_digit).collect();
    let path = std::env::temp_dir().join(format!("campanile-fuzz-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
    path
}
