//! The console: its page, its sessions, and what it shows.

mod cost;
mod records;
mod sessions;
mod watches;

use kit::{ConsolePage, ConsoleSession, Server, Settings, quoted};

const PASSWORD: &str = "correct horse";

/// The test app, and the console with a password.
fn with_password() -> Settings {
    Settings::new().section("console", "password", quoted(PASSWORD))
}

/// A page with a session of the server.
async fn page(server: &Server) -> ConsolePage {
    ConsoleSession::log_in(server.address, None, PASSWORD).await.page().await
}
