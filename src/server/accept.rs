//! Accepts connections for all shards.
//!
//! The first shard has the listening socket in its poller, and distributes connections to the shards in turn: the
//! kernel's distribution would be uneven for small numbers. Accepting ends with a drain ([`draining`]), for which the
//! socket moves to a thread of its own.

mod draining;
mod search;

use super::{listeners::set_reuse_port, probe::reachable};
use crate::{
    http::{HttpConnectionLimiter, PendingConnection},
    throttle::LogThrottle,
};
use mio::{Interest, Registry, Token};
use search::{DRAINING_WAIT, ListenerSearch};
use socket2::SockRef;
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// An accepted connection for a shard's thread.
pub(super) type AcceptedConnection = (TcpStream, SocketAddr, PendingConnection);

/// What the thread of a shard receives.
#[derive(Debug)]
pub(super) enum ShardInput {
    /// A connection.
    Connection(AcceptedConnection),
    /// The shard that accepts gives its listening socket to a thread.
    Drain,
}

/// Controls the acceptor.
#[derive(Debug)]
pub(super) struct AcceptorHandle {
    state: Arc<AtomicU8>,
    accepting_shard: mpsc::UnboundedSender<ShardInput>,
    pub(super) reports: mpsc::UnboundedReceiver<AcceptorReport>,
}

/// Reports of the acceptor.
#[derive(Debug)]
pub(super) enum AcceptorReport {
    /// A connection to the server's own address was given to another process.
    AcceptedElsewhere(TcpStream),
    /// The acceptor itself has accepted [`search::SEARCH_PROBES`] connections to the address.
    NoOtherListener,
}

/// The states of the acceptor. A later state is not left for an earlier one.
const SERVING: u8 = 0;
const DRAINING: u8 = 1;
/// The acceptor closes the socket: another process already listens on the port.
const HANDED_OVER: u8 = 2;
/// The acceptor closes the socket: the process ends.
const CLOSED: u8 = 3;

/// How long to wait when the system has no file descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait for an evicted connection to close.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// The interval of log lines about a full limiter.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Connections that fail one after the other before the shard does something else.
const FAILURES_AT_ONCE: usize = 32;

impl AcceptorHandle {
    /// A handle without an acceptor: the test reads the state and sends the reports.
    #[cfg(test)]
    pub(super) fn detached() -> (Self, mpsc::UnboundedSender<AcceptorReport>) {
        let (report, reports) = mpsc::unbounded_channel();
        let (accepting_shard, _) = mpsc::unbounded_channel();
        (Self { state: Arc::new(AtomicU8::new(SERVING)), accepting_shard, reports }, report)
    }

    /// Another handle of the same acceptor, which receives no reports.
    #[cfg(test)]
    pub(super) fn without_reports(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            accepting_shard: self.accepting_shard.clone(),
            reports: mpsc::unbounded_channel().1,
        }
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CLOSED
    }

    /// Starts the search for another process that listens on the address. The acceptor continues to
    /// accept, unless the socket is inherited: its queue is for the next process.
    pub(super) fn drain(&self) {
        self.enter(DRAINING);
    }

    fn enter(&self, state: u8) {
        if self.state.fetch_max(state, Ordering::Relaxed) == SERVING {
            // The shard's thread ends only with the process.
            let _ = self.accepting_shard.send(ShardInput::Drain);
        }
    }

    /// Makes the acceptor close the socket: another process already listens on the port.
    pub(super) fn hand_over(&self) {
        self.enter(HANDED_OVER);
    }

    pub(super) fn is_handed_over(&self) -> bool {
        HANDED_OVER <= self.state.load(Ordering::Relaxed)
    }

    /// Makes the acceptor close the socket.
    pub(super) fn close(&self) {
        self.enter(CLOSED);
    }

    /// Waits until the acceptor has closed the socket, at most for `timeout`. Returns whether it has.
    pub(super) async fn wait_until_closed(&mut self, timeout: Duration) -> bool {
        let ended = async { while self.reports.recv().await.is_some() {} };
        tokio::time::timeout(timeout, ended).await.is_ok()
    }
}

/// The listening socket, and where its connections go.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: AcceptingListener,
    is_inherited: bool,
    state: Arc<AtomicU8>,
    permits: PermitWaiter,
    /// The first one is that of the shard that accepts.
    shard_senders: Vec<mpsc::UnboundedSender<ShardInput>>,
    next_shard: usize,
    /// The poller of the shard that accepts.
    poller: Option<Registry>,
    /// Whether the socket may have connections for which the poller reports no further edge.
    is_ready: bool,
    /// A connection without a permit.
    waiting: Option<(TcpStream, SocketAddr)>,
    /// When to try again for want of a permit or a file descriptor.
    retry_at: Option<Instant>,
    is_exhausted: bool,
    search: ListenerSearch,
    report: mpsc::UnboundedSender<AcceptorReport>,
}

/// What became of an attempt to accept.
enum Attempt {
    Accepted(TcpStream, SocketAddr),
    /// The connection failed, or is a probe.
    Nothing,
    /// The queue is empty.
    Empty,
    /// The system has no file descriptors left.
    Exhausted,
}

impl Acceptor {
    /// An acceptor for the first of the shards, and its handle.
    ///
    /// # Errors
    ///
    /// The system rejects the socket's options.
    pub(super) fn new(
        listener: TcpListener,
        is_inherited: bool,
        limiter: Arc<HttpConnectionLimiter>,
        shard_senders: Vec<mpsc::UnboundedSender<ShardInput>>,
    ) -> io::Result<(Self, AcceptorHandle)> {
        let address = reachable(listener.local_addr()?);
        let listener = AcceptingListener::new(listener)?;
        let state = Arc::new(AtomicU8::new(SERVING));
        let (report, reports) = mpsc::unbounded_channel();
        let accepting_shard = shard_senders[0].clone();
        let acceptor = Self {
            listener,
            is_inherited,
            state: Arc::clone(&state),
            permits: PermitWaiter { limiter, throttle: LogThrottle::with_interval(LOG_INTERVAL) },
            shard_senders,
            next_shard: 0,
            poller: None,
            is_ready: true,
            waiting: None,
            retry_at: None,
            is_exhausted: false,
            search: ListenerSearch::new(address),
            report,
        };
        Ok((acceptor, AcceptorHandle { state, accepting_shard, reports }))
    }

    /// Registers the listening socket with the poller of the shard.
    pub(super) fn register(&mut self, poller: &Registry, token: Token) -> io::Result<()> {
        let poller = poller.try_clone()?;
        poller.register(&mut self.listener.0, token, Interest::READABLE)?;
        self.poller = Some(poller);
        Ok(())
    }

    /// Records that the poller has reported a connection.
    pub(super) fn set_ready(&mut self) {
        self.is_ready = true;
    }

    /// Whether there may be more connections now.
    pub(super) fn has_more(&self) -> bool {
        self.is_ready && self.retry_at.is_none()
    }

    /// When to try again although the poller reports nothing.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Accepts the next connection for the first shard. Those before it, for the others, are sent to them.
    pub(super) fn next(&mut self, now: Instant) -> Option<AcceptedConnection> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        for _ in 0..self.shard_senders.len() {
            let (stream, peer) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => self.try_accept(now)?,
            };
            let Some(pending) = self.permits.try_permit(now) else {
                // The kernel queues further connections.
                self.waiting = Some((stream, peer));
                self.retry_at = Some(now + FULL_PAUSE);
                return None;
            };
            let shard = self.choose_shard();
            if shard == 0 {
                return Some((stream, peer, pending));
            }
            self.send(shard, (stream, peer, pending));
        }
        None
    }

    fn try_accept(&mut self, now: Instant) -> Option<(TcpStream, SocketAddr)> {
        for _ in 0..FAILURES_AT_ONCE {
            if !self.is_ready {
                break;
            }
            match self.attempt() {
                Attempt::Accepted(stream, peer) => return Some((stream, peer)),
                Attempt::Nothing => {}
                Attempt::Empty => self.is_ready = false,
                Attempt::Exhausted => {
                    self.retry_at = Some(now + EXHAUSTED_PAUSE);
                    return None;
                }
            }
        }
        None
    }

    fn attempt(&mut self) -> Attempt {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                self.is_exhausted = false;
                if self.search.is_own(peer, &self.report) {
                    return Attempt::Nothing;
                }
                Attempt::Accepted(stream, peer)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Attempt::Empty,
            Err(error) if is_connection_error(&error) => Attempt::Nothing,
            Err(error) => {
                // Logged once for each time that accepting fails, probably for lack of file
                // descriptors.
                if !self.is_exhausted {
                    tracing::warn!(%error, "accepting failed");
                }
                self.is_exhausted = true;
                Attempt::Exhausted
            }
        }
    }

    fn choose_shard(&mut self) -> usize {
        let shard = self.next_shard;
        self.next_shard = (shard + 1) % self.shard_senders.len();
        shard
    }

    fn send(&self, shard: usize, connection: AcceptedConnection) {
        // The shard's thread ends only with the process.
        let _ = self.shard_senders[shard].send(ShardInput::Connection(connection));
    }
}

/// Acquires permits of the limiter.
#[derive(Debug)]
struct PermitWaiter {
    limiter: Arc<HttpConnectionLimiter>,
    throttle: LogThrottle,
}

impl PermitWaiter {
    fn try_permit(&mut self, now: Instant) -> Option<PendingConnection> {
        let pending = self.limiter.admit(now);
        if pending.is_none() && self.throttle.record(1, now).is_some() {
            tracing::warn!("HTTP connection limit reached: closing the longest-idle connections");
        }
        pending
    }
}

/// A listening socket whose connections do not block and have `TCP_NODELAY`: they get both with `accept` itself, which
/// saves two system calls each.
#[derive(Debug)]
struct AcceptingListener(mio::net::TcpListener);

impl AcceptingListener {
    fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // On Linux, connections inherit it.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        Ok(Self(mio::net::TcpListener::from_std(listener)))
    }

    fn as_socket(&self) -> SockRef<'_> {
        SockRef::from(&self.0)
    }

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.0.accept()?;
        if cfg!(not(target_os = "linux")) {
            stream.set_nodelay(true)?;
        }
        Ok((stream.into(), peer))
    }
}

/// Whether the error concerns only this connection. On Linux, `InvalidInput` means that the socket does not listen any more.
fn is_connection_error(error: &io::Error) -> bool {
    let is_invalid = error.kind() == io::ErrorKind::InvalidInput;
    (is_invalid && cfg!(not(target_os = "linux")))
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        )
}

#[cfg(test)]
mod tests;
