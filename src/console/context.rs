//! What a watch or a call of a page may use.

use super::{Console, sessions::Scope, shows_payloads};
use crate::{hub::Hub, node::Node};
use std::sync::Arc;
use tokio::sync::SemaphorePermit;

/// The console, and what the session of a page may see of it.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) console: Arc<Console>,
    pub(super) scope: Scope,
    pub(super) extent: Extent,
}

/// Which nodes a request is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    /// All that share a Redis.
    AllNodes,
    /// This node, for a page of its own.
    OfThisNode,
    /// This node, for a page of another one.
    ForPeer,
}

/// An app that the session may see.
#[derive(Debug)]
pub(super) struct SeenApp {
    node: Arc<Node>,
    pub(super) hub: Arc<Hub>,
}

/// The app of a watch is not the one that is served any more.
pub(super) const APP_CHANGED: &str = "the app was changed or removed: open the view again";

impl SeenApp {
    /// Whether the app is still served by this hub. One with another key is another app.
    pub(super) fn is_current(&self) -> bool {
        self.node.hub(&self.hub.app_id()).is_some_and(|hub| Arc::ptr_eq(&hub, &self.hub))
    }

    /// Whether payloads are shown.
    pub(super) fn shows_payloads(&self) -> bool {
        self.is_current() && self.hub.read_config(shows_payloads)
    }
}

impl Context {
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.console.node
    }

    /// Whether other nodes have a part of what is asked for.
    pub(super) fn is_about_others(&self) -> bool {
        self.extent == Extent::AllNodes && self.node().broker().redis().is_some()
    }

    /// Waits until no other question to the shards is open.
    pub(super) async fn question(&self) -> SemaphorePermit<'_> {
        self.console.questions.acquire().await.expect("it is never closed")
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
        let node = Arc::clone(self.node());
        found.map(|hub| SeenApp { node, hub }).ok_or_else(unknown)
    }
}
