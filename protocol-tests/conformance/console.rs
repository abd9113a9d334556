//! The console: its page, its sessions, and what it shows.

mod sessions;
mod watches;

use kit::{Settings, quoted};

const PASSWORD: &str = "correct horse";

/// The test app, and the console with a password.
fn with_password() -> Settings {
    Settings::new().section("console", "password", quoted(PASSWORD))
}
