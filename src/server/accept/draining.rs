//! Accepting while the server drains: on a thread that blocks, and searches for another process that listens.
//!
//! It connects to its own address repeatedly: a connection that it does not accept itself was given to another process.

use super::{
    Acceptor, Attempt, CLOSED, DRAINING, DRAINING_WAIT, EXHAUSTED_PAUSE, FULL_PAUSE, set_reuse_port,
};
use socket2::SockRef;
use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

/// How long pending handshakes may take before the socket is closed: a round trip.
const HAND_OVER_DELAY: Duration = Duration::from_millis(300);
pub(super) const CLOSE_DELAY: Duration = Duration::from_millis(100);

impl Acceptor {
    /// Moves the socket to a thread that accepts until it is to be closed. The queue of an inherited socket is left to
    /// the next process.
    pub(in crate::server) fn drain(mut self) {
        if let Some(poller) = &self.poller {
            // A socket that is not registered any more needs no removal.
            let _ = poller.deregister(&mut self.listener.0);
        }
        if self.is_inherited {
            if let Some((stream, peer)) = self.waiting.take() {
                // It has left the queue.
                self.spawn(move |mut acceptor| acceptor.assign_to_shard(stream, peer));
            }
            return;
        }
        self.spawn(Self::run_drain);
    }

    fn spawn(self, work: impl FnOnce(Self) + Send + 'static) {
        if let Err(error) = thread::Builder::new().name("accept".into()).spawn(move || work(self)) {
            tracing::warn!(%error, "the listening socket is closed at once");
        }
    }

    fn run_drain(mut self) {
        set_reuse_port(&self.listener.0);
        let socket = self.listener.as_socket();
        if let Err(error) = socket
            .set_nonblocking(false)
            .and_then(|()| socket.set_read_timeout(Some(DRAINING_WAIT)))
        {
            tracing::warn!(%error, "the listening socket is polled");
        }
        if let Some((stream, peer)) = self.waiting.take() {
            self.assign_to_shard(stream, peer);
        }
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

    /// Accepts the next connection. Returns false if there is none.
    fn accept(&mut self) -> bool {
        match self.attempt() {
            Attempt::Accepted(stream, peer) => self.assign_to_shard(stream, peer),
            Attempt::Nothing => {}
            Attempt::Empty => return false,
            Attempt::Exhausted => thread::sleep(EXHAUSTED_PAUSE),
        }
        true
    }

    fn assign_to_shard(&mut self, stream: TcpStream, peer: SocketAddr) {
        // While it waits for a permit, the kernel queues further connections.
        let pending = loop {
            match self.permits.try_permit(Instant::now()) {
                Some(pending) => break pending,
                None => thread::sleep(FULL_PAUSE),
            }
        };
        let shard = self.choose_shard();
        self.send(shard, (stream, peer, pending));
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
