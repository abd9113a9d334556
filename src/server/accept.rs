//! One acceptor that deals connections out to the shards in turn: even for small numbers, which
//! leaving it to the kernel would not be.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tokio::sync::mpsc;

/// A connection that a shard's thread is to serve.
pub(super) type Arrival = (TcpStream, SocketAddr);

/// How long to wait when the system has no file descriptor to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts on a thread of its own until the process ends. It waits in the accepting itself,
/// which is a system call less for each connection than asking a poller first.
///
/// # Errors
///
/// The system has no thread to give.
pub(super) fn start(
    listener: TcpListener,
    doors: Vec<mpsc::UnboundedSender<Arrival>>,
) -> io::Result<()> {
    listener.set_nonblocking(false)?;
    thread::Builder::new().name("accept".into()).spawn(move || accept(&listener, &doors))?;
    Ok(())
}

fn accept(listener: &TcpListener, doors: &[mpsc::UnboundedSender<Arrival>]) {
    let mut is_exhausted = false;
    for door in doors.iter().cycle() {
        match next(listener) {
            Ok(arrival) => {
                is_exhausted = false;
                // A door that is closed belongs to a shard that is gone: the process is ending.
                let _ = door.send(arrival);
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

fn next(listener: &TcpListener) -> io::Result<Arrival> {
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
