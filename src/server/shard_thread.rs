//! A shard's thread: the engine, and the HTTP connections assigned to it.

use super::accept::AcceptedConnection;
use crate::{
    http::{self, Http},
    hub::ShardIndex,
    node::Node,
    shard::{Engine, EngineConfig},
    shutdown::Shutdown,
};
use arc_swap::ArcSwap;
use std::{io, sync::Arc, thread};
use tokio::{
    net::TcpStream,
    runtime,
    sync::{mpsc, oneshot},
};

/// The parts of which a shard's thread is made.
#[derive(Debug)]
pub(super) struct ShardParts {
    pub(super) index: ShardIndex,
    pub(super) node: Arc<Node>,
    pub(super) http: Arc<ArcSwap<Http>>,
    pub(super) engine: Arc<ArcSwap<EngineConfig>>,
    pub(super) shutdown: Shutdown,
    /// Closed when the thread ends, which only a bug can cause.
    pub(super) alive: mpsc::Sender<()>,
}

/// Starts the thread. Returns the sender for its connections.
///
/// # Errors
///
/// The system cannot start a thread or a poller.
pub(super) async fn start(
    parts: ShardParts,
) -> io::Result<mpsc::UnboundedSender<AcceptedConnection>> {
    let (sender, accepted) = mpsc::unbounded_channel();
    let (started, is_started) = oneshot::channel();
    thread::Builder::new()
        .name(format!("shard-{}", parts.index.get()))
        .spawn(move || run(parts, accepted, started))?;
    is_started.await.map_err(|_| io::Error::other("the thread ended at once"))??;
    Ok(sender)
}

fn run(
    parts: ShardParts,
    accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
    started: oneshot::Sender<io::Result<()>>,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        let ShardParts { index, node, http, engine, shutdown, alive: _life } = parts;
        let engine = match Engine::new(index, node, engine) {
            Ok(engine) => engine,
            Err(error) => return drop(started.send(Err(error))),
        };
        let (upgraded, upgraded_sockets) = mpsc::unbounded_channel();
        tokio::spawn(serve_connections(http, accepted, upgraded, shutdown.clone()));
        let drain = shutdown.guard();
        if started.send(Ok(())).is_ok() {
            engine.run(upgraded_sockets, drain).await;
        }
    });
}

async fn serve_connections(
    http: Arc<ArcSwap<Http>>,
    mut accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
    upgraded: mpsc::UnboundedSender<crate::shard::UpgradedSocket>,
    shutdown: Shutdown,
) {
    while let Some((stream, peer, pending)) = accepted.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                let (http, purpose) = (Arc::clone(&http), http::Purpose::Main(upgraded.clone()));
                tokio::spawn(http::serve(http, stream, peer, pending, purpose, shutdown.guard()));
            }
            Err(error) => tracing::warn!(%error, "socket could not be served"),
        }
    }
}
