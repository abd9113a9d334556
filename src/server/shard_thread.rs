//! The thread of a shard, which also serves the HTTP connections assigned to it.

use super::accept::{AcceptedConnection, Acceptor, ShardInput};
use crate::{
    http::{DirectRequests, HttpContext},
    hub::ShardIndex,
    node::Node,
    shard::{AcceptedSocket, AcceptedSockets, Shard, ShardConfig, UpgradedSocket},
    shutdown::Shutdown,
};
use arc_swap::ArcSwap;
use mio::{Registry, Token};
use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Instant,
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::unconstrained,
};

/// What a shard's thread needs.
#[derive(Debug)]
pub(super) struct ShardDependencies {
    pub(super) index: ShardIndex,
    pub(super) node: Arc<Node>,
    pub(super) http: Arc<ArcSwap<HttpContext>>,
    pub(super) shard_settings: Arc<ArcSwap<ShardConfig>>,
    pub(super) shutdown: Shutdown,
    /// The inputs of the shard.
    pub(super) inputs: mpsc::UnboundedReceiver<ShardInput>,
    /// For the shard that accepts.
    pub(super) acceptor: Option<Acceptor>,
    /// Dropped when the thread ends; the server then stops with an error.
    pub(super) alive: mpsc::Sender<()>,
}

/// Starts the thread.
///
/// # Errors
///
/// The system cannot start a thread or a poller.
pub(super) async fn start(dependencies: ShardDependencies) -> io::Result<()> {
    let (started, is_started) = oneshot::channel();
    thread::Builder::new()
        .name(format!("shard-{}", dependencies.index.get()))
        .spawn(move || run(dependencies, started))?;
    is_started.await.map_err(|_| io::Error::other("the thread ended at once"))?
}

fn run(dependencies: ShardDependencies, started: oneshot::Sender<io::Result<()>>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        let ShardDependencies {
            index,
            node,
            http,
            shard_settings,
            shutdown,
            inputs,
            acceptor,
            alive: _life,
        } = dependencies;
        let (upgraded, upgraded_sockets) = mpsc::unbounded_channel();
        let accepted = Accepted { inputs, acceptor, http, upgraded, shutdown: shutdown.clone() };
        let shard = Shard::new(index, node, shard_settings)
            .and_then(|shard| shard.with_accepted(Box::new(accepted)));
        let shard = match shard {
            Ok(shard) => shard.on_own_thread(),
            Err(error) => return drop(started.send(Err(error))),
        };
        let guard = shutdown.guard();
        if started.send(Ok(())).is_ok() {
            // A task of its own: waking the main task of a runtime costs a system call. It ends only with a panic,
            // and the thread with it. It yields by itself, and never while it is alone.
            let _ = tokio::spawn(unconstrained(shard.run(upgraded_sockets, guard))).await;
        }
    });
}

/// The connections that are accepted for a shard, by itself or another.
#[derive(Debug)]
struct Accepted {
    inputs: mpsc::UnboundedReceiver<ShardInput>,
    acceptor: Option<Acceptor>,
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

    /// The connection of an input, if it is one.
    fn on_input(&mut self, input: ShardInput) -> Option<AcceptedSocket> {
        match input {
            ShardInput::Connection(connection) => Some(self.socket(connection)),
            ShardInput::Drain => {
                if let Some(acceptor) = self.acceptor.take() {
                    acceptor.drain();
                }
                None
            }
        }
    }
}

impl AcceptedSockets for Accepted {
    fn register(&mut self, poller: &Registry, token: Token) -> io::Result<()> {
        self.acceptor.as_mut().map_or(Ok(()), |acceptor| acceptor.register(poller, token))
    }

    fn set_ready(&mut self) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.set_ready();
        }
    }

    fn has_more(&self) -> bool {
        self.acceptor.as_ref().is_some_and(Acceptor::has_more)
    }

    fn retry_at(&self) -> Option<Instant> {
        self.acceptor.as_ref()?.retry_at()
    }

    fn try_next(&mut self, now: Instant) -> Option<AcceptedSocket> {
        while let Ok(input) = self.inputs.try_recv() {
            if let Some(socket) = self.on_input(input) {
                return Some(socket);
            }
        }
        let connection = self.acceptor.as_mut()?.next(now)?;
        Some(self.socket(connection))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<AcceptedSocket> {
        while let Poll::Ready(Some(input)) = self.inputs.poll_recv(cx) {
            if let Some(socket) = self.on_input(input) {
                return Poll::Ready(socket);
            }
        }
        // Nothing is there, or nothing is accepted any more.
        Poll::Pending
    }
}
