//! The shard's poller: which sockets are readable or writable.
//!
//! It is nested in the poller of the runtime, which waits for both. While the shard's task is the only one of its
//! runtime, the shard waits in its own poller: one system call less for each wait.

use crate::hub::ConnectionKey;
use mio::{Events, Interest, Registry, Token, event::Source};
use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio::io::unix::AsyncFd;

/// An edge-triggered poller for the sockets of one shard: idle and blocked sockets cost nothing,
/// and nothing is registered twice.
#[derive(Debug)]
pub(super) struct Readiness {
    poll: AsyncFd<mio::Poll>,
    events: Events,
    /// Whether `events` are not taken yet.
    has_events: bool,
    interrupt: Arc<Interrupt>,
    /// Wakes the thread that blocks in [`Readiness::block`].
    waker: Waker,
}

/// Ends the wait of a thread that blocks in its poller.
#[derive(Debug)]
struct Interrupt {
    poller: mio::Waker,
    /// Whether a thread may be blocking. Others need no system call.
    is_blocking: AtomicBool,
}

impl Wake for Interrupt {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_blocking.swap(false, Ordering::SeqCst)
            && let Err(error) = self.poller.wake()
        {
            tracing::error!(%error, "poller not interrupted");
        }
    }
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
/// The token of [`Interrupt`], which is that of no connection: none has this slot and generation.
const INTERRUPTED: Token = Token(usize::MAX);
/// The token of a listening socket.
pub(super) const LISTENER: Token = Token(usize::MAX - 1);

impl Readiness {
    /// # Errors
    ///
    /// The system cannot create a poller.
    pub(super) fn new() -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "sound for a `mio::Poll`, which keeps its descriptor while it lives; \
            the new way is unsafe to call"
        )]
        let poll = AsyncFd::with_interest(mio::Poll::new()?, tokio::io::Interest::READABLE)?;
        let poller = mio::Waker::new(poll.get_ref().registry(), INTERRUPTED)?;
        let interrupt = Arc::new(Interrupt { poller, is_blocking: AtomicBool::new(false) });
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            has_events: false,
            waker: Waker::from(Arc::clone(&interrupt)),
            interrupt,
        })
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

    /// Blocks the thread until `event` is ready, or a socket is, at most for `timeout`. Returns the event if it is ready
    /// now. Events of sockets are taken with [`Readiness::take`]. The task must be unconstrained: the runtime, which would
    /// give it a new budget, does not run meanwhile.
    pub(super) fn block<T>(
        &mut self,
        event: impl Future<Output = T>,
        timeout: impl FnOnce() -> Option<Duration>,
    ) -> Option<T> {
        let mut event = pin!(event);
        self.interrupt.is_blocking.store(true, Ordering::SeqCst);
        let polled = event.as_mut().poll(&mut Context::from_waker(&self.waker));
        if polled.is_pending() {
            self.poll(timeout());
            self.has_events = true;
        }
        self.interrupt.is_blocking.store(false, Ordering::SeqCst);
        match polled {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    fn poll(&mut self, timeout: Option<Duration>) {
        match self.poll.get_mut().poll(&mut self.events, timeout) {
            Ok(()) => {}
            // The events of the last call are cleared.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => tracing::error!(%error, "poller failed"),
        }
    }

    /// The poller, for the registration of a listening socket as [`LISTENER`].
    pub(super) fn registry(&self) -> &Registry {
        self.poll.get_ref().registry()
    }

    /// Takes the pending events without waiting. Returns whether one is of the listening socket.
    pub(super) fn take(&mut self, ready: &mut Vec<Ready>) -> bool {
        if !std::mem::take(&mut self.has_events) {
            self.poll(Some(Duration::ZERO));
        }
        let mut is_accepting = false;
        let of_sockets = self.events.iter().filter(|event| {
            is_accepting |= event.token() == LISTENER;
            event.token().0 < LISTENER.0
        });
        ready.extend(of_sockets.map(|event| Ready {
            key: key(event.token()),
            readable: event.is_readable(),
            is_ended: event.is_read_closed() || event.is_error(),
            writable: event.is_writable() || event.is_write_closed(),
        }));
        is_accepting
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
    use std::{
        future::{pending, ready},
        io::Write,
        thread,
    };
    use tokio::{sync::mpsc, task::unconstrained};

    #[test]
    fn a_token_identifies_its_connection() {
        for (slot, generation) in [(0, 0), (u32::MAX, 0), (0, u32::MAX), (7, 9)] {
            let connection = ConnectionKey { slot, generation };
            assert_eq!(key(token(connection)), connection);
        }
    }

    #[tokio::test]
    async fn an_event_that_is_ready_does_not_block() {
        let mut readiness = Readiness::new().unwrap();
        assert_eq!(readiness.block(ready(7), || unreachable!()), Some(7));
    }

    #[tokio::test]
    async fn another_thread_ends_the_wait() {
        let mut readiness = Readiness::new().unwrap();
        let (sender, mut numbers) = mpsc::unbounded_channel();
        let sending = thread::spawn(move || {
            for number in 0..1_000 {
                // Each one is waited for, or is there already.
                sender.send(number).unwrap();
                if number % 2 == 0 {
                    thread::yield_now();
                }
            }
            sender
        });
        let mut received = Vec::new();
        let receiving = async {
            while received.len() < 1_000 {
                // Without a timeout: a wake that is missed is waited for until the test is killed.
                received.extend(readiness.block(numbers.recv(), || None).flatten());
            }
        };
        unconstrained(receiving).await;
        assert_eq!(received, (0..1_000).collect::<Vec<_>>());
        drop(sending.join().unwrap());
        let mut taken = Vec::new();
        readiness.take(&mut taken);
        assert!(taken.is_empty(), "an interrupt is no event of a socket: {taken:?}");
    }

    #[tokio::test]
    async fn a_socket_ends_the_wait_and_is_taken_once() {
        let mut readiness = Readiness::new().unwrap();
        let (mut reader, writer) = mio::net::UnixStream::pair().unwrap();
        let connection = ConnectionKey { slot: 3, generation: 5 };
        readiness.register_readable(&mut reader, connection).unwrap();
        let mut taken = Vec::new();
        assert_eq!(readiness.block(pending::<()>(), || Some(Duration::ZERO)), None);
        readiness.take(&mut taken);
        assert!(taken.is_empty(), "nothing is there yet: {taken:?}");
        (&writer).write_all(b"x").unwrap();
        assert_eq!(readiness.block(pending::<()>(), || None), None);
        readiness.take(&mut taken);
        assert!(matches!(taken[..], [Ready { key, readable: true, .. }] if key == connection));
        taken.clear();
        readiness.take(&mut taken);
        assert!(taken.is_empty(), "an edge is reported once: {taken:?}");
    }
}
