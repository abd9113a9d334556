//! The thread of a shard, which also serves the HTTP connections assigned to it.

use super::accept::AcceptedConnection;
use crate::{
    http::{self, HttpContext},
    hub::ShardIndex,
    node::Node,
    shard::{Shard, ShardConfig},
    shutdown::Shutdown,
};
use arc_swap::ArcSwap;
use std::{io, sync::Arc, thread};
use tokio::{
    net::TcpStream,
    runtime,
    sync::{mpsc, oneshot},
};

/// What a shard's thread needs.
#[derive(Debug)]
pub(super) struct ShardDependencies {
    pub(super) index: ShardIndex,
    pub(super) node: Arc<Node>,
    pub(super) http: Arc<ArcSwap<HttpContext>>,
    pub(super) shard_settings: Arc<ArcSwap<ShardConfig>>,
    pub(super) shutdown: Shutdown,
    /// Dropped when the thread ends; the server then stops with an error.
    pub(super) alive: mpsc::Sender<()>,
}

/// Starts the thread. Returns the sender for its connections.
///
/// # Errors
///
/// The system cannot start a thread or a poller.
pub(super) async fn start(
    dependencies: ShardDependencies,
) -> io::Result<mpsc::UnboundedSender<AcceptedConnection>> {
    let (sender, accepted) = mpsc::unbounded_channel();
    let (started, is_started) = oneshot::channel();
    thread::Builder::new()
        .name(format!("shard-{}", dependencies.index.get()))
        .spawn(move || run(dependencies, accepted, started))?;
    is_started.await.map_err(|_| io::Error::other("the thread ended at once"))??;
    Ok(sender)
}

fn run(
    dependencies: ShardDependencies,
    accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
    started: oneshot::Sender<io::Result<()>>,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        let ShardDependencies { index, node, http, shard_settings, shutdown, alive: _life } =
            dependencies;
        let shard = match Shard::new(index, node, shard_settings) {
            Ok(shard) => shard,
            Err(error) => return drop(started.send(Err(error))),
        };
        let (upgraded, upgraded_sockets) = mpsc::unbounded_channel();
        tokio::spawn(serve_connections(http, accepted, upgraded, shutdown.clone()));
        let guard = shutdown.guard();
        if started.send(Ok(())).is_ok() {
            // A task of its own: waking the main task of a runtime costs a system call. It ends only with a panic,
            // and the thread with it.
            let _ = tokio::spawn(shard.run(upgraded_sockets, guard)).await;
        }
    });
}

async fn serve_connections(
    http: Arc<ArcSwap<HttpContext>>,
    mut accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
    upgraded: mpsc::UnboundedSender<crate::shard::UpgradedSocket>,
    shutdown: Shutdown,
) {
    while let Some((stream, peer, pending)) = accepted.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                let (http, kind) = (Arc::clone(&http), http::ListenerKind::Main(upgraded.clone()));
                tokio::spawn(http::serve(http, stream, peer, pending, kind, shutdown.guard()));
            }
            Err(error) => tracing::warn!(%error, "socket could not be served"),
        }
    }
}
