//! Which sockets can be read or written: the shard's own poller inside the runtime's.

use crate::hub::ConnectionKey;
use mio::{Events, Interest, Poll, Token, event::Source};
use std::{io, time::Duration};
use tokio::io::unix::AsyncFd;

/// A poller for the sockets of one shard. Readiness is told on its edges only, so an idle or a
/// blocked socket costs nothing and nothing is registered twice.
#[derive(Debug)]
pub(super) struct Readiness {
    poll: AsyncFd<Poll>,
    events: Events,
}

/// A socket's news.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) key: ConnectionKey,
    pub(super) readable: bool,
    /// The peer has sent all it will. The end may have come with the same edge as the last bytes.
    pub(super) is_ended: bool,
    pub(super) writable: bool,
}

/// News taken from the kernel at once.
const EVENTS_MAX: usize = 256;

impl Readiness {
    /// # Errors
    ///
    /// The system has no poller to give.
    pub(super) fn new() -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "sound for a `Poll`, which keeps its descriptor while it lives; \
            the new way is unsafe to call"
        )]
        let poll = AsyncFd::with_interest(Poll::new()?, tokio::io::Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS_MAX) })
    }

    /// Has the news of `socket` told under `key`, until it is closed.
    ///
    /// # Errors
    ///
    /// The system's poller takes no more.
    pub(super) fn register(&self, socket: &mut impl Source, key: ConnectionKey) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.get_ref().registry().register(socket, token(key), interest)
    }

    /// Waits until there is news. Safe to cancel.
    pub(super) async fn wait(&mut self) {
        // The guard is not kept: news that is not taken now is news at the next look.
        let _ = self.poll.readable().await.map(|mut guard| guard.clear_ready());
    }

    /// Takes the news there is, without waiting.
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

    /// Whether the last look may have left news with the kernel.
    pub(super) fn may_have_more(&self) -> bool {
        self.events.iter().count() == EVENTS_MAX
    }
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a token of the poller holds a place and a generation of 32 bits each");

/// The place in the low half, the generation in the high half: a late event of a socket that is
/// gone names nobody.
fn token(key: ConnectionKey) -> Token {
    Token(key.place as usize | (key.generation as usize) << 32)
}

fn key(token: Token) -> ConnectionKey {
    let [place, generation] = [token.0 & 0xffff_ffff, token.0 >> 32];
    let half = |half: usize| u32::try_from(half).expect("half of 64 bits");
    ConnectionKey { place: half(place), generation: half(generation) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_connection() {
        for (place, generation) in [(0, 0), (u32::MAX, 0), (0, u32::MAX), (7, 9)] {
            let connection = ConnectionKey { place, generation };
            assert_eq!(key(token(connection)), connection);
        }
    }
}
