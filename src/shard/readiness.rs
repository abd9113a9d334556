//! The shard's poller, nested in the runtime's: which sockets are readable or writable.

use crate::hub::ConnectionKey;
use mio::{Events, Interest, Poll, Token, event::Source};
use std::{io, time::Duration};
use tokio::io::unix::AsyncFd;

/// An edge-triggered poller for the sockets of one shard: idle and blocked sockets cost nothing,
/// and nothing is registered twice.
#[derive(Debug)]
pub(super) struct Readiness {
    poll: AsyncFd<Poll>,
    events: Events,
}

/// The readiness of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) key: ConnectionKey,
    pub(super) readable: bool,
    /// The peer has closed its writing half. The last bytes may come with the same edge.
    pub(super) is_ended: bool,
    pub(super) writable: bool,
}

/// Maximum number of events taken from the kernel at once.
const EVENTS_MAX: usize = 256;

impl Readiness {
    /// # Errors
    ///
    /// The system cannot create a poller.
    pub(super) fn new() -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "sound for a `Poll`, which keeps its descriptor while it lives; \
            the new way is unsafe to call"
        )]
        let poll = AsyncFd::with_interest(Poll::new()?, tokio::io::Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS_MAX) })
    }

    /// Registers `socket` under `key`, until it is closed.
    ///
    /// # Errors
    ///
    /// The system's poller is full.
    pub(super) fn register(&self, socket: &mut impl Source, key: ConnectionKey) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.get_ref().registry().register(socket, token(key), interest)
    }

    /// Registers `socket` under `key`, without reports of when it is writable.
    ///
    /// # Errors
    ///
    /// The system's poller is full.
    pub(super) fn register_readable(
        &self,
        socket: &mut impl Source,
        key: ConnectionKey,
    ) -> io::Result<()> {
        self.poll.get_ref().registry().register(socket, token(key), Interest::READABLE)
    }

    /// Adds the reports of when a socket is writable. One that is writable now is reported.
    ///
    /// # Errors
    ///
    /// The socket is not registered.
    pub(super) fn add_writable(
        &self,
        socket: &mut impl Source,
        key: ConnectionKey,
    ) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.get_ref().registry().reregister(socket, token(key), interest)
    }

    /// Ends the registration of a socket that stays open.
    ///
    /// # Errors
    ///
    /// The socket is not registered.
    pub(super) fn deregister(&self, socket: &mut impl Source) -> io::Result<()> {
        self.poll.get_ref().registry().deregister(socket)
    }

    /// Waits for readiness. Safe to cancel.
    pub(super) async fn wait(&mut self) {
        // The guard is not kept: readiness that is not taken now is reported again.
        let _ = self.poll.readable().await.map(|mut guard| guard.clear_ready());
    }

    /// Takes the pending events without waiting.
    pub(super) fn take(&mut self, ready: &mut Vec<Ready>) {
        loop {
            match self.poll.get_mut().poll(&mut self.events, Some(Duration::ZERO)) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "poller failed");
                    break;
                }
            }
        }
        ready.extend(self.events.iter().map(|event| Ready {
            key: key(event.token()),
            readable: event.is_readable(),
            is_ended: event.is_read_closed() || event.is_error(),
            writable: event.is_writable() || event.is_write_closed(),
        }));
    }

    /// Whether the kernel may have more events than were taken.
    pub(super) fn may_have_more(&self) -> bool {
        self.events.iter().count() == EVENTS_MAX
    }
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a token of the poller holds a slot and a generation of 32 bits each");

/// The slot in the low half, the generation in the high half: a late event of a closed socket
/// matches no connection.
fn token(key: ConnectionKey) -> Token {
    Token(key.slot as usize | (key.generation as usize) << 32)
}

fn key(token: Token) -> ConnectionKey {
    let [slot, generation] = [token.0 & 0xffff_ffff, token.0 >> 32];
    let half = |half: usize| u32::try_from(half).expect("half of 64 bits");
    ConnectionKey { slot: half(slot), generation: half(generation) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_identifies_its_connection() {
        for (slot, generation) in [(0, 0), (u32::MAX, 0), (0, u32::MAX), (7, 9)] {
            let connection = ConnectionKey { slot, generation };
            assert_eq!(key(token(connection)), connection);
        }
    }
}
