//! The configuration of a server under test.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};

use crate::{Server, program};

/// The test app of `docs/protocol.md#test-app`.
pub const APP_ID: &str = "3";
/// The key of the test app.
pub const KEY: &str = "278d425bdf160c739803";
/// The secret of the test app.
pub const SECRET: &str = "7ad3773142a6692b25b8";

const PRESENCE_GRACE: &str = "presence_grace_s";

type Table = BTreeMap<&'static str, String>;

/// A `config.toml` that is being built. Values are in TOML syntax: text is quoted with [`quoted`].
#[derive(Clone, Debug)]
pub struct Settings {
    sections: BTreeMap<&'static str, Table>,
    apps: Vec<Table>,
    program: Option<PathBuf>,
}

impl Settings {
    /// The test app: client events, sign-in and subscription counts are enabled.
    pub fn new() -> Self {
        Self::without_apps().add_app(APP_ID, KEY, SECRET).app("subscription_count", true)
    }

    /// Settings without apps. Members whose connection is lost leave at once, unless a test is about their
    /// return.
    pub fn without_apps() -> Self {
        let settings = Self { sections: BTreeMap::new(), apps: Vec::new(), program: None };
        settings.section("log", "level", quoted("debug")).connection(PRESENCE_GRACE, 0)
    }

    /// Sets a key of `[server]`.
    pub fn server(self, key: &'static str, value: impl Display) -> Self {
        self.section("server", key, value)
    }

    /// Sets a key of `[connection]`.
    pub fn connection(self, key: &'static str, value: impl Display) -> Self {
        self.section("connection", key, value)
    }

    /// Sets a key of any section.
    pub fn section(
        mut self,
        section: &'static str,
        key: &'static str,
        value: impl Display,
    ) -> Self {
        self.sections.entry(section).or_default().insert(key, value.to_string());
        self
    }

    /// Adds an app with default settings. [`Settings::app`] then applies to it.
    pub fn add_app(mut self, id: &str, key: &str, secret: &str) -> Self {
        self.apps.push(Table::from([
            ("id", quoted(id)),
            ("key", quoted(key)),
            ("secret", quoted(secret)),
        ]));
        self
    }

    /// Sets a key of the app that was added last.
    pub fn app(mut self, key: &'static str, value: impl Display) -> Self {
        let app = self.apps.last_mut().expect("there is always one app");
        app.insert(key, value.to_string());
        self
    }

    /// Lets another version of the program run the server.
    pub fn run_by(self, program: &Path) -> Self {
        let mut settings = Self { program: Some(program.to_owned()), ..self };
        // The previous version does not have it.
        settings.sections.entry("connection").or_default().remove(PRESENCE_GRACE);
        settings
    }

    /// The program that runs the server.
    pub(crate) fn program(&self) -> &Path {
        self.program.as_deref().unwrap_or_else(|| program())
    }

    /// The text of the file.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        for (name, table) in &self.sections {
            push_table(&mut text, &format!("[{name}]"), table);
        }
        for app in &self.apps {
            push_table(&mut text, "[[apps]]", app);
        }
        text
    }

    /// Starts a server of one node with these settings.
    pub async fn start_node(&self) -> Server {
        Server::start(self, Vec::new(), None).await
    }
}

/// A string in the syntax of TOML and JSON.
pub fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn push_table(text: &mut String, heading: &str, table: &Table) {
    writeln!(text, "{heading}").expect("a String takes everything");
    for (key, value) in table {
        writeln!(text, "{key} = {value}").expect("a String takes everything");
    }
}
