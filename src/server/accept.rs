//! One acceptor that deals connections out to the shards in turn: even for small numbers, which
//! leaving it to the kernel would not be.

use crate::http::{Guest, Lobby};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// A connection that a shard's thread is to serve.
pub(super) type Arrival = (TcpStream, SocketAddr, Guest);

/// How long to wait when the system has no file descriptor to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait until whoever was asked to go has gone.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// How often it is logged that the lobby is full.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Accepts on a thread of its own until the process ends. It waits in the accepting itself,
/// which is a system call less for each connection than asking a poller first.
///
/// # Errors
///
/// The system has no thread to give.
pub(super) fn start(
    listener: TcpListener,
    lobby: Arc<Lobby>,
    doors: Vec<mpsc::UnboundedSender<Arrival>>,
) -> io::Result<()> {
    listener.set_nonblocking(false)?;
    thread::Builder::new()
        .name("accept".into())
        .spawn(move || accept(&listener, &lobby, &doors))?;
    Ok(())
}

fn accept(listener: &TcpListener, lobby: &Lobby, doors: &[mpsc::UnboundedSender<Arrival>]) {
    let mut is_exhausted = false;
    let mut host = Host { lobby, told_at: None };
    for door in doors.iter().cycle() {
        match next(listener) {
            Ok((stream, peer)) => {
                is_exhausted = false;
                // While it waits for its place, the kernel keeps those behind it.
                let guest = host.next_guest();
                // A door that is closed belongs to a shard that is gone: the process is ending.
                let _ = door.send((stream, peer, guest));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Once for each time that file descriptors, probably, have run out.
                if !is_exhausted {
                    tracing::warn!(%error, "accepting failed");
                }
                is_exhausted = true;
                thread::sleep(EXHAUSTED_PAUSE);
            }
        }
    }
}

/// Waits for free places.
struct Host<'a> {
    lobby: &'a Lobby,
    told_at: Option<Instant>,
}

impl Host<'_> {
    fn next_guest(&mut self) -> Guest {
        loop {
            let now = Instant::now();
            if let Some(guest) = self.lobby.enter(now) {
                return guest;
            }
            if self.told_at.is_none_or(|told_at| told_at + TELL_EVERY <= now) {
                self.told_at = Some(now);
                tracing::warn!("http connections at their limit, the oldest have to go");
            }
            thread::sleep(FULL_PAUSE);
        }
    }
}

fn next(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok((stream, peer))
}

/// Whether the failure says nothing about the next connection.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::InvalidInput
    )
}
