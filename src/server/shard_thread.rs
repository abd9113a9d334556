//! The thread of a shard, which also serves the HTTP connections assigned to it.

use super::accept::AcceptedConnection;
use crate::{
    http::{DirectRequests, HttpContext},
    hub::ShardIndex,
    node::Node,
    shard::{AcceptedSocket, AcceptedSockets, Shard, ShardConfig, UpgradedSocket},
    shutdown::Shutdown,
};
use arc_swap::ArcSwap;
use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    thread,
};
use tokio::{
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
        let accepted = Accepted { receiver: accepted, http, upgraded, shutdown: shutdown.clone() };
        let shard = shard.with_accepted(Box::new(accepted));
        let guard = shutdown.guard();
        if started.send(Ok(())).is_ok() {
            // A task of its own: waking the main task of a runtime costs a system call. It ends only with a panic,
            // and the thread with it.
            let _ = tokio::spawn(shard.run(upgraded_sockets, guard)).await;
        }
    });
}

/// The connections that are accepted for a shard.
#[derive(Debug)]
struct Accepted {
    receiver: mpsc::UnboundedReceiver<AcceptedConnection>,
    http: Arc<ArcSwap<HttpContext>>,
    /// For connections whose handshake is answered elsewhere.
    upgraded: mpsc::UnboundedSender<UpgradedSocket>,
    shutdown: Shutdown,
}

impl Accepted {
    fn socket(&self, (socket, peer, pending): AcceptedConnection) -> AcceptedSocket {
        let (http, upgraded) = (Arc::clone(&self.http), self.upgraded.clone());
        let handler = Box::new(DirectRequests::new(http, peer, pending, upgraded));
        AcceptedSocket { socket, handler, drain: self.shutdown.guard() }
    }
}

impl AcceptedSockets for Accepted {
    fn try_next(&mut self) -> Option<AcceptedSocket> {
        let connection = self.receiver.try_recv().ok()?;
        Some(self.socket(connection))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<AcceptedSocket> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(connection)) => Poll::Ready(self.socket(connection)),
            // Nothing is accepted any more.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
