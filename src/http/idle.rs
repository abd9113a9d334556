//! Tracks the socket of an HTTP connection: since when the server has been waiting for the client,
//! which status the HTTP library rejected a request with, and the response that opens a WebSocket.

use super::stream::HttpStream;
use crate::hub::{ConnectionRef, Delivery, Inboxes};
use bytes::Bytes;
use hyper::StatusCode;
use parking_lot::{Mutex, MutexGuard};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time,
};

/// How long a connection may be idle between two requests. Proxies and SDKs keep idle connections
/// for about a minute, and must not send a request into one that the server is closing.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(90);
/// Maximum length of a response that the HTTP library generates, in bytes.
const BARE_RESPONSE_MAX: usize = 256;

/// The state of a connection, shared by its socket and its requests.
#[derive(Clone, Debug)]
pub(super) struct IdleTracker(Arc<Inner>);

/// An [`IdleTracker`] that does not keep its connection alive.
#[derive(Debug)]
pub(super) struct WeakIdleTracker(Weak<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<TrackerState>,
    /// Notified when the connection is evicted.
    eviction: Notify,
}

#[derive(Debug)]
struct TrackerState {
    wait_state: WaitState,
    /// When writing to the client began to block.
    blocked_since: Option<Instant>,
    /// Whether output is held back.
    is_corked: bool,
    /// The status with which the library rejected the request.
    rejected: Option<StatusCode>,
    /// Whether a request was received before.
    has_requested: bool,
    /// The connection of a shard that has the socket.
    owner: Option<(Arc<Inboxes>, ConnectionRef)>,
}

#[derive(Debug)]
enum WaitState {
    /// The next request, since the previous one was answered.
    Request(Instant),
    /// The rest of a request's head. A new connection is in this state.
    Head(Instant),
    /// The server's own response.
    Response,
}

impl IdleTracker {
    pub(super) fn new(now: Instant) -> Self {
        let state = Mutex::new(TrackerState::new(WaitState::Head(now)));
        Self(Arc::new(Inner { state, eviction: Notify::new() }))
    }

    pub(super) fn downgrade(&self) -> WeakIdleTracker {
        WeakIdleTracker(Arc::downgrade(&self.0))
    }

    /// Starts the wait for the first request.
    pub(super) fn handshake_done(&self, now: Instant) {
        self.lock().wait_state = WaitState::Head(now);
    }

    /// Since when the server has been waiting for the client; `None` while a request is being
    /// answered.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        match state.wait_state {
            WaitState::Request(since) | WaitState::Head(since) => Some(since),
            WaitState::Response => None,
        }
    }

    /// Makes the connection close.
    pub(super) fn evict(&self) {
        match &self.lock().owner {
            Some((inboxes, ConnectionRef { shard, key })) => {
                inboxes.inbox(*shard).push(Delivery::Evict(*key));
            }
            None => self.0.eviction.notify_one(),
        }
    }

    /// Sets the connection of a shard that has the socket; `None` while a task has it.
    pub(super) fn set_owner(&self, owner: Option<(Arc<Inboxes>, ConnectionRef)>) {
        self.lock().owner = owner;
    }

    /// Whether a request was received before.
    pub(super) fn has_requested(&self) -> bool {
        self.lock().has_requested
    }

    /// Records that bytes were received: the next request has begun.
    pub(super) fn input_received(&self, now: Instant) {
        let mut state = self.lock();
        if matches!(state.wait_state, WaitState::Request(_)) {
            state.wait_state = WaitState::Head(now);
        }
    }

    /// When the client is too slow, as [`IdleTracker::timed_out`] says; `None` while a request is answered.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.lock().deadline(timeout)
    }

    /// Waits until the connection is evicted. Safe to cancel.
    pub(super) async fn evicted(&self) {
        self.0.eviction.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, TrackerState> {
        self.0.state.lock()
    }

    /// Records that a request's head was received. Returns true for the connection's first.
    pub(super) fn request_started(&self) -> bool {
        let mut state = self.lock();
        state.wait_state = WaitState::Response;
        !std::mem::replace(&mut state.has_requested, true)
    }

    /// Records that the response to a request is complete.
    pub(super) fn request_finished(&self, now: Instant) {
        self.lock().wait_state = WaitState::Request(now);
    }

    /// Holds back all further output: the response that opens a WebSocket is sent in one write with
    /// the first frame, which saves a system call and a packet for each connection.
    pub(super) fn cork(&self) {
        self.lock().is_corked = true;
    }

    /// The status with which the library rejected a request that it could not parse.
    pub(super) fn rejected(&self) -> Option<StatusCode> {
        self.lock().rejected
    }

    /// Waits until the client is too slow: `timeout` for the rest of a head and for reading
    /// responses, [`KEEP_ALIVE_TIMEOUT`] for the next request. Safe to cancel.
    pub(super) async fn timed_out(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            let deadline = self.lock().deadline(timeout);
            match deadline {
                Some(deadline) if deadline <= now => return,
                // The deadline may have become earlier meanwhile.
                Some(deadline) => time::sleep_until(deadline.min(now + timeout).into()).await,
                None => time::sleep(timeout).await,
            }
        }
    }
}

impl WeakIdleTracker {
    pub(super) fn upgrade(&self) -> Option<IdleTracker> {
        self.0.upgrade().map(IdleTracker)
    }

    pub(super) fn is_alive(&self) -> bool {
        0 < self.0.strong_count()
    }
}

impl TrackerState {
    fn new(waits_for: WaitState) -> Self {
        Self {
            wait_state: waits_for,
            blocked_since: None,
            is_corked: false,
            rejected: None,
            has_requested: false,
            owner: None,
        }
    }

    fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let wait = match self.wait_state {
            WaitState::Request(since) => Some(since + KEEP_ALIVE_TIMEOUT),
            WaitState::Head(since) => Some(since + timeout),
            WaitState::Response => None,
        };
        let write = self.blocked_since.map(|since| since + timeout);
        [wait, write].into_iter().flatten().min()
    }
}

/// A socket that reports reads and writes to its [`IdleTracker`].
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: HttpStream,
    tracker: IdleTracker,
    corked: Vec<u8>,
    /// Bytes that were received before the HTTP library was started.
    unread: Bytes,
}

impl WatchedStream {
    /// `unread` are bytes that were received already.
    pub(super) fn new(stream: HttpStream, unread: Vec<u8>, tracker: IdleTracker) -> Self {
        Self { stream, tracker, corked: Vec::new(), unread: unread.into() }
    }

    /// The socket, the output that was held back, and the input that was not read.
    pub(super) fn into_parts(self) -> (HttpStream, Vec<u8>, Bytes) {
        (self.stream, self.corked, self.unread)
    }
}

/// The status of a response that the library generates for a request it can't parse. The server's own
/// responses have a request id and a body.
fn bare_rejection(bytes: &[u8]) -> Option<StatusCode> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= BARE_RESPONSE_MAX)?;
    let status = text.strip_prefix("HTTP/1.1 4").and(text.get(9..12))?;
    let is_bare = text.contains("content-length: 0\r\n") && !text.contains("x-request-id");
    is_bare.then(|| status.parse().ok()).flatten()
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let len = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(len));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if before < buffer.filled().len() {
            self.tracker.input_received(Instant::now());
        }
        result
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.tracker.lock().is_corked {
            self.corked.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        if let Some(status) = bare_rejection(bytes) {
            self.tracker.lock().rejected = Some(status);
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        let mut state = self.tracker.lock();
        match result {
            Poll::Pending => drop(state.blocked_since.get_or_insert_with(Instant::now)),
            Poll::Ready(_) => state.blocked_since = None,
        }
        drop(state);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tracker.rejected().is_some() {
            // The server's own response is still to be written.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::poll_fn;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn only_generated_rejections_are_recognised() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                    content-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(bare_rejection(bare.as_bytes()).map(|status| status.as_u16()), Some(431));
        for (len, is_bare) in [(BARE_RESPONSE_MAX, true), (BARE_RESPONSE_MAX + 1, false)] {
            let response = bare.replace(": x", &format!(": {}", "x".repeat(len + 1 - bare.len())));
            assert_eq!(
                (response.len(), bare_rejection(response.as_bytes()).is_some()),
                (len, is_bare)
            );
        }
        for ours in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nx-request-id: 1\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(bare_rejection(ours.as_bytes()), None, "{ours}");
        }
    }

    #[test]
    fn idle_time_and_incomplete_heads_have_different_timeouts() {
        let timeout = Duration::from_secs(10);
        let now = Instant::now();
        let due = |waits_for| TrackerState::new(waits_for).deadline(timeout).map(|at| at - now);
        assert_eq!(due(WaitState::Head(now)), Some(timeout));
        assert_eq!(due(WaitState::Request(now)), Some(KEEP_ALIVE_TIMEOUT));
        assert_eq!(due(WaitState::Response), None);
        let blocked =
            TrackerState { blocked_since: Some(now), ..TrackerState::new(WaitState::Response) };
        assert_eq!(blocked.deadline(timeout), Some(now + timeout));
        let earlier = now.checked_sub(Duration::from_secs(1)).unwrap();
        for (asked, blocked, first) in [(earlier, now, earlier), (now, earlier, earlier)] {
            let activity = TrackerState {
                blocked_since: Some(blocked),
                ..TrackerState::new(WaitState::Head(asked))
            };
            assert_eq!(activity.deadline(timeout), Some(first + timeout), "the earlier one");
        }
    }

    #[tokio::test]
    async fn a_connection_is_overdue_after_its_timeout() {
        let now = Instant::now();
        let tracker = IdleTracker::new(now);
        let short = Duration::from_millis(20);
        tracker.timed_out(short).await;
        assert!(now + short <= Instant::now());
        let timeout = Duration::from_secs(10);
        let [late, rested] = [timeout, KEEP_ALIVE_TIMEOUT].map(|ago| now.checked_sub(ago).unwrap());
        for overdue in [WaitState::Head(late), WaitState::Request(rested)] {
            tracker.lock().wait_state = overdue;
            tracker.timed_out(timeout).now_or_never().expect("it is overdue");
        }
        for in_time in [WaitState::Request(late), WaitState::Response] {
            tracker.lock().wait_state = in_time;
            assert!(tracker.timed_out(timeout).now_or_never().is_none());
        }
        tracker.handshake_done(now);
        assert_eq!(tracker.idle_since(), Some(now));
        let answered = now + timeout;
        tracker.request_finished(answered);
        assert_eq!(tracker.idle_since(), Some(answered));
    }

    #[tokio::test]
    async fn a_connection_is_blocked_from_the_first_write_that_waits_until_one_succeeds() {
        let (mut stream, tracker, mut client) = watched(b"").await;
        let piece = vec![b'x'; 1 << 16];
        while stream.write_all(&piece).now_or_never().is_some() {
            assert_eq!(tracker.lock().blocked_since, None);
        }
        let since = tracker.lock().blocked_since;
        assert!(since.is_some());
        assert!(stream.write_all(&piece).now_or_never().is_none());
        assert_eq!(tracker.lock().blocked_since, since);
        tokio::select! {
            written = stream.write_all(b"x") => written.unwrap(),
            read = async { while client.read(&mut vec![0; 1 << 16]).await.unwrap() != 0 {} } => read,
        }
        assert_eq!(tracker.lock().blocked_since, None);
    }

    #[tokio::test]
    async fn an_eviction_is_kept_until_it_is_waited_for() {
        let tracker = IdleTracker::new(Instant::now());
        assert!(tracker.evicted().now_or_never().is_none());
        tracker.evict();
        tracker.evicted().now_or_never().expect("it was evicted");
    }

    /// A server's side of a connection over loopback, and the client's socket.
    async fn watched(unread: &[u8]) -> (WatchedStream, IdleTracker, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let tracker = IdleTracker::new(Instant::now());
        let stream = HttpStream::Plain(accepted.unwrap().0);
        (WatchedStream::new(stream, unread.to_vec(), tracker.clone()), tracker, client.unwrap())
    }

    #[tokio::test]
    async fn what_is_written_after_hold_is_not_sent() {
        let (mut stream, tracker, mut client) = watched(b"unread").await;
        stream.write_all(b"sent").await.unwrap();
        tracker.cork();
        stream.write_all(b"held ").await.unwrap();
        stream.write_all(b"back").await.unwrap();
        stream.flush().await.unwrap();
        let (socket, held, unread) = stream.into_parts();
        assert_eq!((&held[..], &unread[..]), (&b"held back"[..], &b"unread"[..]));
        drop(socket);
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, b"sent");
    }

    #[tokio::test]
    async fn a_generated_rejection_is_not_sent_and_the_connection_stays_open() {
        let (mut stream, tracker, mut client) = watched(b"").await;
        let bare = b"HTTP/1.1 431 Too Large\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(bare).await.unwrap();
        assert_eq!(tracker.rejected(), Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        stream.shutdown().await.unwrap();
        let (mut socket, ..) = stream.into_parts();
        socket.write_all(b"ours").await.unwrap();
        drop(socket);
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, b"ours");
    }

    #[tokio::test]
    async fn a_shutdown_without_a_rejection_reaches_the_client() {
        let (mut stream, _tracker, mut client) = watched(b"").await;
        stream.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        drop(stream);
    }

    #[tokio::test]
    async fn bytes_received_before_are_read_first() {
        let (mut stream, tracker, mut client) = watched(b"GET / HT").await;
        client.write_all(b"TP/1.1").await.unwrap();
        client.shutdown().await.unwrap();
        tracker.request_finished(Instant::now());
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"GET /");
        assert!(matches!(tracker.lock().wait_state, WaitState::Request(_)));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b" HTTP/1.1");
        assert!(matches!(tracker.lock().wait_state, WaitState::Head(_)), "a request has begun");
    }

    #[tokio::test]
    async fn an_empty_read_does_not_start_a_request() {
        let (mut stream, tracker, _client) = watched(b"").await;
        tracker.request_finished(Instant::now());
        let mut byte = [0];
        let read = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut byte);
            Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut buffer))
        });
        assert!(read.await.is_pending());
        assert!(matches!(tracker.lock().wait_state, WaitState::Request(_)));
    }

    #[test]
    fn only_the_first_request_is_reported_as_the_first() {
        let tracker = IdleTracker::new(Instant::now());
        let weak = tracker.downgrade();
        assert!(tracker.idle_since().is_some());
        assert!(tracker.request_started());
        assert_eq!(tracker.idle_since(), None);
        assert!(!tracker.request_started());
        assert!(weak.is_alive());
        drop(tracker);
        assert!(!weak.is_alive());
    }
}
