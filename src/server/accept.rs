//! One acceptor that distributes connections to the shards in turn. The kernel's distribution would
//! be uneven for small numbers.
//!
//! While the server drains, the acceptor also checks whether another process listens on the same
//! address: it connects to that address repeatedly, and a connection that it does not accept itself
//! was given to another process.

use super::{listeners::set_reuse_port, probe::reachable};
use crate::{
    http::{HttpConnectionLimiter, PendingConnection},
    throttle::LogThrottle,
};
use socket2::SockRef;
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// An accepted connection for a shard's thread.
pub(super) type AcceptedConnection = (TcpStream, SocketAddr, PendingConnection);

/// Controls the acceptor.
#[derive(Debug)]
pub(super) struct AcceptorHandle {
    state: Arc<AtomicU8>,
    pub(super) reports: mpsc::UnboundedReceiver<AcceptorReport>,
}

/// Reports of the acceptor.
#[derive(Debug)]
pub(super) enum AcceptorReport {
    /// A connection to the server's own address was given to another process.
    AcceptedElsewhere(TcpStream),
    /// The acceptor itself has accepted [`SEARCH_PROBES`] connections to the address.
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
/// How long the acceptor waits for a connection before it checks its state.
const SERVING_WAIT: Duration = Duration::from_millis(50);
const DRAINING_WAIT: Duration = Duration::from_millis(10);
/// Number of connections after which another listener can be ruled out: of two sockets, the kernel
/// chooses each with equal probability.
const SEARCH_PROBES: u32 = 16;
const PROBE_INTERVAL: Duration = Duration::from_millis(20);
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long pending handshakes may take before the socket is closed: a round trip.
const HAND_OVER_DELAY: Duration = Duration::from_millis(300);
const CLOSE_DELAY: Duration = Duration::from_millis(100);

/// Accepts on a separate thread until it is stopped. It blocks in `accept` itself, which saves a
/// system call for each connection compared with a poller.
///
/// # Errors
///
/// The system cannot start a thread.
pub(super) fn start(
    listener: TcpListener,
    is_inherited: bool,
    limiter: Arc<HttpConnectionLimiter>,
    shard_senders: Vec<mpsc::UnboundedSender<AcceptedConnection>>,
) -> io::Result<AcceptorHandle> {
    let address = reachable(listener.local_addr()?);
    listener.set_nonblocking(false)?;
    let listener = AcceptingListener::new(listener)?;
    listener.as_socket().set_read_timeout(Some(SERVING_WAIT))?;
    let state = Arc::new(AtomicU8::new(SERVING));
    let (report, reports) = mpsc::unbounded_channel();
    let acceptor = Acceptor {
        listener,
        is_inherited,
        state: Arc::clone(&state),
        permits: PermitWaiter { limiter, throttle: LogThrottle::with_interval(LOG_INTERVAL) },
        shard_senders,
        next_shard: 0,
        is_exhausted: false,
        search: ListenerSearch { address, probe: None, next: Instant::now(), own_probes: 0 },
        report,
    };
    thread::Builder::new().name("accept".into()).spawn(move || acceptor.run())?;
    Ok(AcceptorHandle { state, reports })
}

impl AcceptorHandle {
    /// A handle without an acceptor: the test reads the state and sends the reports.
    #[cfg(test)]
    pub(super) fn detached() -> (Self, mpsc::UnboundedSender<AcceptorReport>) {
        let (report, reports) = mpsc::unbounded_channel();
        (Self { state: Arc::new(AtomicU8::new(SERVING)), reports }, report)
    }

    /// Another handle of the same acceptor, which receives no reports.
    #[cfg(test)]
    pub(super) fn without_reports(&self) -> Self {
        Self { state: Arc::clone(&self.state), reports: mpsc::unbounded_channel().1 }
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CLOSED
    }

    /// Starts the search for another process that listens on the address. The acceptor continues to
    /// accept, unless the socket is inherited: its queue is for the next process.
    pub(super) fn drain(&self) {
        self.state.fetch_max(DRAINING, Ordering::Relaxed);
    }

    /// Makes the acceptor close the socket: another process already listens on the port.
    pub(super) fn hand_over(&self) {
        self.state.fetch_max(HANDED_OVER, Ordering::Relaxed);
    }

    pub(super) fn is_handed_over(&self) -> bool {
        HANDED_OVER <= self.state.load(Ordering::Relaxed)
    }

    /// Makes the acceptor close the socket.
    pub(super) fn close(&self) {
        self.state.fetch_max(CLOSED, Ordering::Relaxed);
    }

    /// Waits until the acceptor has closed the socket, at most for `timeout`. Returns whether it has.
    pub(super) async fn wait_until_closed(&mut self, timeout: Duration) -> bool {
        let ended = async { while self.reports.recv().await.is_some() {} };
        tokio::time::timeout(timeout, ended).await.is_ok()
    }
}

struct Acceptor {
    listener: AcceptingListener,
    is_inherited: bool,
    state: Arc<AtomicU8>,
    permits: PermitWaiter,
    shard_senders: Vec<mpsc::UnboundedSender<AcceptedConnection>>,
    next_shard: usize,
    is_exhausted: bool,
    search: ListenerSearch,
    report: mpsc::UnboundedSender<AcceptorReport>,
}

impl Acceptor {
    fn run(mut self) {
        while self.state() == SERVING {
            self.accept();
        }
        if self.is_inherited {
            return;
        }
        set_reuse_port(&self.listener.0);
        self.set_wait(DRAINING_WAIT);
        while self.state() == DRAINING {
            self.search.start_probe(&self.report);
            if !self.accept() {
                self.search.on_idle(&self.report);
            }
        }
        self.close_gracefully();
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    fn set_wait(&self, wait: Duration) {
        // A failure only delays the next check of the state.
        let _ = self.listener.as_socket().set_read_timeout(Some(wait));
    }

    /// Accepts the next connection. Returns false if there is none.
    fn accept(&mut self) -> bool {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                self.is_exhausted = false;
                if !self.search.is_own(peer, &self.report) {
                    self.assign_to_shard(stream, peer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                // Logged once for each time that accepting fails, probably for lack of file
                // descriptors.
                if !self.is_exhausted {
                    tracing::warn!(%error, "accepting failed");
                }
                self.is_exhausted = true;
                thread::sleep(EXHAUSTED_PAUSE);
            }
        }
        true
    }

    fn assign_to_shard(&mut self, stream: TcpStream, peer: SocketAddr) {
        // While it waits for a permit, the kernel queues further connections.
        let pending = self.permits.wait_for_permit();
        let sender = &self.shard_senders[self.next_shard];
        // The shard's thread ends only with the process.
        let _ = sender.send((stream, peer, pending));
        self.next_shard = (self.next_shard + 1) % self.shard_senders.len();
    }

    /// Closes the socket without losing a connection. Requests for new connections are dropped;
    /// clients repeat them after a second, and the next process gets them. Meanwhile pending
    /// handshakes complete, and all queued connections are accepted.
    fn close_gracefully(&mut self) {
        if let Err(error) = drop_new_requests(&self.listener.0) {
            tracing::debug!(%error, "new requests for connections can't be dropped");
        }
        let began = Instant::now();
        let delay = |state| if state == CLOSED { CLOSE_DELAY } else { HAND_OVER_DELAY };
        while began.elapsed() < delay(self.state()) {
            self.accept();
        }
        if self.listener.as_socket().set_nonblocking(true).is_ok() {
            while self.accept() {}
        }
        tracing::debug!("listening socket closed");
    }
}

/// Makes the kernel drop requests for new connections to the socket: segments with SYN and without
/// ACK.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn drop_new_requests(listener: &mio::net::TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    // Classic BPF; the data begins with the TCP header, whose byte 13 contains the flags.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const SYN_OR_ACK: u32 = 0x12;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN_OR_ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Shrinks the queue, so that requests beyond one are dropped.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn drop_new_requests(listener: &mio::net::TcpListener) -> io::Result<()> {
    SockRef::from(listener).listen(0)
}

/// The search for another process that listens on the same address.
struct ListenerSearch {
    address: SocketAddr,
    /// A connection to the address whose acceptor is not known yet, its local address, and its start
    /// time. It may not be established yet.
    probe: Option<(TcpStream, SocketAddr, Instant)>,
    next: Instant,
    /// Probes that this process accepted.
    own_probes: u32,
}

impl ListenerSearch {
    /// Starts a probe if one is due. Never blocks: a full queue has room again only after the
    /// acceptor continues.
    fn start_probe(&mut self, report: &mpsc::UnboundedSender<AcceptorReport>) {
        let now = Instant::now();
        let has_failed = |(probe, _, at): &mut (TcpStream, SocketAddr, Instant)| {
            *at + PROBE_TIMEOUT <= now || !matches!(probe.take_error(), Ok(None))
        };
        if self.probe.take_if(has_failed).is_some() {
            self.failed(now, report);
        }
        if self.probe.is_some() || now < self.next {
            return;
        }
        match begin_connection(self.address) {
            Ok((probe, from)) => self.probe = Some((probe, from, now)),
            Err(_unreachable) => self.failed(now, report),
        }
    }

    /// Counts a probe that failed, and schedules the next.
    fn failed(&mut self, now: Instant, report: &mpsc::UnboundedSender<AcceptorReport>) {
        self.count_own_probe(report);
        self.next = now + PROBE_INTERVAL;
    }

    /// Whether a connection that was accepted is the probe.
    fn is_own(&mut self, peer: SocketAddr, report: &mpsc::UnboundedSender<AcceptorReport>) -> bool {
        let is_own = self.probe.as_ref().is_some_and(|(_, from, _)| *from == peer);
        if is_own {
            self.probe = None;
            self.count_own_probe(report);
        }
        is_own
    }

    /// Handles an empty queue: a probe that is connected was accepted by another process.
    fn on_idle(&mut self, report: &mpsc::UnboundedSender<AcceptorReport>) {
        let is_elsewhere = |(probe, _, at): &mut (TcpStream, SocketAddr, Instant)| {
            DRAINING_WAIT <= at.elapsed() && probe.peer_addr().is_ok()
        };
        if let Some((probe, ..)) = self.probe.take_if(is_elsewhere) {
            self.next = Instant::now() + PROBE_INTERVAL;
            let _ = report.send(AcceptorReport::AcceptedElsewhere(probe));
        }
    }

    fn count_own_probe(&mut self, report: &mpsc::UnboundedSender<AcceptorReport>) {
        self.own_probes += 1;
        if self.own_probes == SEARCH_PROBES {
            let _ = report.send(AcceptorReport::NoOtherListener);
        }
        if SEARCH_PROBES <= self.own_probes {
            self.next = Instant::now() + PROBE_INTERVAL;
        }
    }
}

/// Starts a connection without waiting for it, and returns its local address.
fn begin_connection(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::from(mio::net::TcpStream::connect(address)?);
    let from = stream.local_addr()?;
    Ok((stream, from))
}

/// Waits for permits of the limiter.
struct PermitWaiter {
    limiter: Arc<HttpConnectionLimiter>,
    throttle: LogThrottle,
}

impl PermitWaiter {
    fn wait_for_permit(&mut self) -> PendingConnection {
        loop {
            let now = Instant::now();
            if let Some(pending) = self.limiter.admit(now) {
                return pending;
            }
            if self.throttle.record(1, now).is_some() {
                tracing::warn!(
                    "HTTP connection limit reached: closing the longest-idle connections"
                );
            }
            thread::sleep(FULL_PAUSE);
        }
    }
}

/// A listening socket that blocks, and whose connections do not: they get both options with `accept` itself, which saves
/// two system calls each.
#[derive(Debug)]
struct AcceptingListener(mio::net::TcpListener);

impl AcceptingListener {
    fn new(listener: TcpListener) -> io::Result<Self> {
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

/// Whether the error concerns only this connection.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::InvalidInput
    )
}

#[cfg(test)]
mod tests;
