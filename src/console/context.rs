//! What a watch or a call of a page may use.

use super::{Console, sessions::Scope, shows_payloads};
use crate::{hub::Hub, node::Node};
use std::sync::Arc;

/// The console, and what the session of a page may see of it.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) console: Arc<Console>,
    pub(super) scope: Scope,
}

/// An app that the session may see.
#[derive(Debug)]
pub(super) struct SeenApp {
    pub(super) hub: Arc<Hub>,
}

impl SeenApp {
    /// Whether payloads are shown.
    pub(super) fn shows_payloads(&self) -> bool {
        self.hub.read_config(shows_payloads)
    }
}

impl Context {
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.console.node
    }

    /// Whether the session may see all apps, the log and the configuration.
    pub(super) fn sees_server(&self) -> bool {
        self.scope == Scope::Server
    }

    /// The app with this id, if the session may see it. Says nothing about other apps.
    ///
    /// # Errors
    ///
    /// The error message.
    pub(super) async fn app(&self, id: &str) -> Result<SeenApp, String> {
        let unknown = || format!("no app has the id {:?}", &id[..id.floor_char_boundary(100)]);
        match &self.scope {
            Scope::App(own) if own != id => return Err(unknown()),
            Scope::App(_) | Scope::Server => {}
        }
        let found = self.node().find_hub(id).await;
        let found = found.map_err(|_| "the database of apps does not answer".to_owned())?;
        found.map(|hub| SeenApp { hub }).ok_or_else(unknown)
    }
}
