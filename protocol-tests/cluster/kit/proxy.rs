//! A TCP proxy between a node and Redis that can be cut.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with what it is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Link {
    /// Passes it on.
    Whole,
    /// Swallows what the node says; what Redis says passes.
    DeafRedis,
    /// Swallows what Redis says; what the node says passes.
    DeafNode,
    /// Keeps what Redis says until it is another link; what the node says passes.
    SlowNode,
    /// Swallows all, and lets nobody in.
    Dead,
    /// Resets all connections, and each that is made anew.
    Reset,
}

impl Link {
    fn passes_to_redis(self) -> bool {
        matches!(self, Self::Whole | Self::DeafNode | Self::SlowNode)
    }

    fn passes_to_node(self) -> bool {
        matches!(self, Self::Whole | Self::DeafRedis)
    }
}

/// A proxy on a port of its own.
///
/// Bytes that were swallowed are gone, as on a cable that was cut: a connection that lost some is reset when the link
/// is whole again, since TCP would not deliver what came behind a gap either.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let (link, seen) = watch::channel(Link::Whole);
        let accepting = tokio::spawn(accept(listener, redis, seen));
        Self { address, link, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, redis: SocketAddr, link: watch::Receiver<Link>) {
    while let Ok((stream, _)) = listener.accept().await {
        let link = link.clone();
        tokio::spawn(carry(stream, redis, link));
    }
}

/// Carries one connection until either side ends it, or the link breaks it.
async fn carry(mut node: TcpStream, redis: SocketAddr, mut link: watch::Receiver<Link>) {
    // A connection that begins on a dead link is answered by nobody until it lives again.
    if link.wait_for(|link| *link != Link::Dead).await.is_err() {
        return;
    }
    if *link.borrow() == Link::Reset {
        reset(&node);
        return;
    }
    let Ok(mut redis) = TcpStream::connect(redis).await else {
        return;
    };
    let lost = watch::Sender::new(false);
    let is_broken = {
        let ((from_node, to_node), (from_redis, to_redis)) = (node.split(), redis.split());
        tokio::select! {
            () = pump(from_node, to_redis, link.clone(), Link::passes_to_redis, &lost) => false,
            () = pump(from_redis, to_node, link.clone(), Link::passes_to_node, &lost) => false,
            () = broken(link.clone(), lost.subscribe()) => true,
        }
    };
    if is_broken {
        reset(&node);
        reset(&redis);
    }
}

/// Waits until the connection must be reset: the link says so, or it is whole again and bytes were lost.
async fn broken(mut link: watch::Receiver<Link>, mut lost: watch::Receiver<bool>) {
    loop {
        let (now, has_gap) = (*link.borrow_and_update(), *lost.borrow_and_update());
        if now == Link::Reset || (has_gap && now == Link::Whole) {
            return;
        }
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            changed = lost.changed() => if changed.is_err() { return },
        }
    }
}

/// Reads from one side and writes to the other for as long as the link lets it.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut link: watch::Receiver<Link>,
    passes: fn(Link) -> bool,
    lost: &watch::Sender<bool>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) if is_passed(&mut link, passes).await => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            Ok(_) => {
                lost.send_replace(true);
            }
        }
    }
}

/// Whether the link passes what was read, as soon as it is not one that keeps it.
async fn is_passed(link: &mut watch::Receiver<Link>, passes: fn(Link) -> bool) -> bool {
    let settled = |link: &Link| *link != Link::SlowNode || passes(*link);
    link.wait_for(settled).await.is_ok_and(|link| passes(*link))
}

/// Has the kernel send a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    // The connection may be gone already.
    let _already_gone = stream.set_zero_linger();
}
