//! The unanswered requests of a connection, and their timeouts.
//!
//! A connection of which one direction has failed stays open: only a timeout detects it. An idle
//! connection is therefore pinged, and one that has a reply outstanding and delivers nothing is closed.

use super::stream::timed_out;
use crate::broker::redis::{clock::now, in_flight::transfer_time_of};
use parking_lot::Mutex;
use redis::{RedisError, RedisResult, Value};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::oneshot,
};

/// Maximum time without a reply, besides the time that a slow link needs. Somewhat longer than a
/// pause of Redis that the heartbeats survive.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_millis(3_500);
/// Maximum time granted for the bytes of requests, messages and replies.
const SLOW_MAX: Duration = Duration::from_secs(30);
/// A connection that has delivered nothing for this long is pinged.
pub(super) const PING_AFTER: Duration = Duration::from_secs(2);

/// The values that a reply consists of.
#[derive(Clone, Copy, Debug)]
pub(super) enum ExpectedReply {
    /// This many values.
    Values(usize),
    /// This many confirmations, or an error.
    Subscribed(usize),
    /// Everything up to a map.
    Unsubscribed,
}

/// A request that was sent.
#[derive(Debug)]
pub(super) struct SentRequest {
    pub(super) reply: ExpectedReply,
    pub(super) values: Vec<Value>,
    reply_sender: oneshot::Sender<RedisResult<Vec<Value>>>,
    bytes: usize,
    at: Instant,
}

/// The requests that are not answered yet, in order.
#[derive(Debug)]
pub(super) struct PendingRequests {
    sent: VecDeque<SentRequest>,
    /// The bytes of all of them.
    bytes: usize,
    /// When bytes arrived last.
    last_read: Instant,
    /// Bytes that have arrived since the wait for the next reply began.
    received: usize,
    /// When a request was answered last.
    last_reply: Instant,
}

/// When to ping, or to give up.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum TimerAction {
    Ping(Instant),
    Timeout(Instant),
}

impl PendingRequests {
    pub(super) fn new() -> Self {
        let now = now();
        Self { sent: VecDeque::new(), bytes: 0, last_read: now, received: 0, last_reply: now }
    }

    pub(super) fn add(
        &mut self,
        reply: ExpectedReply,
        bytes: usize,
        caller: oneshot::Sender<RedisResult<Vec<Value>>>,
    ) {
        if self.sent.is_empty() {
            self.received = 0;
        }
        self.bytes += bytes;
        self.sent.push_back(SentRequest {
            reply,
            values: Vec::new(),
            reply_sender: caller,
            bytes,
            at: now(),
        });
    }

    /// The request that is answered next.
    pub(super) fn front(&mut self) -> Option<&mut SentRequest> {
        self.sent.front_mut()
    }

    /// Passes the reply of the first request to its caller.
    pub(super) fn complete(&mut self) {
        if let Some(SentRequest { values, reply_sender: caller, bytes, .. }) = self.sent.pop_front()
        {
            self.bytes -= bytes;
            self.received = 0;
            self.last_reply = now();
            // The caller may have stopped waiting.
            let _ = caller.send(Ok(values));
        }
    }

    pub(super) fn fail(&mut self, error: &RedisError) {
        for request in self.sent.drain(..) {
            // The caller may have stopped waiting.
            let _ = request.reply_sender.send(Err(error.clone()));
        }
    }

    pub(super) fn due(&self) -> TimerAction {
        let Some(front) = self.sent.front() else {
            return TimerAction::Ping(self.last_read + PING_AFTER);
        };
        // Messages may arrive continuously without replies: they only extend the timeout by the
        // time for their bytes.
        let slow = transfer_time_of(self.bytes + self.received).min(SLOW_MAX);
        TimerAction::Timeout(self.last_reply.max(front.at) + REPLY_TIMEOUT + slow)
    }
}

/// A reader that records when bytes of a server arrive, and how many.
#[derive(Debug)]
pub(super) struct CountingReader<'a, R> {
    pub(super) from: R,
    pub(super) pending: &'a Mutex<PendingRequests>,
}

impl<R: AsyncRead + Unpin> AsyncRead for CountingReader<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.from).poll_read(context, buffer))?;
        let mut pending = self.pending.lock();
        pending.last_read = now();
        pending.received += buffer.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

pub(super) fn reply_timed_out() -> RedisError {
    timed_out("a reply of redis", REPLY_TIMEOUT).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncReadExt as _, sync::oneshot::Receiver, time::advance};

    const SECOND: Duration = Duration::from_secs(1);

    fn add(pending: &mut PendingRequests, bytes: usize) -> Receiver<RedisResult<Vec<Value>>> {
        let (caller, last_reply) = oneshot::channel();
        pending.add(ExpectedReply::Values(1), bytes, caller);
        last_reply
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_is_awaited_since_the_last_one_and_for_all_bytes_under_way() {
        let mut pending = PendingRequests::new();
        let start = now();
        assert_eq!(pending.due(), TimerAction::Ping(start + PING_AFTER));
        advance(SECOND).await;
        let (first, slow) = (add(&mut pending, 32_000), transfer_time_of(32_000));
        assert_eq!(pending.due(), TimerAction::Timeout(start + SECOND + REPLY_TIMEOUT + slow));
        advance(SECOND).await;
        let second = add(&mut pending, 32_000);
        assert_eq!(pending.due(), TimerAction::Timeout(start + SECOND + REPLY_TIMEOUT + 2 * slow));
        advance(SECOND).await;
        pending.complete();
        assert_eq!(pending.due(), TimerAction::Timeout(start + 3 * SECOND + REPLY_TIMEOUT + slow));
        assert_eq!(first.await.unwrap().unwrap(), []);
        pending.complete();
        assert_eq!(pending.due(), TimerAction::Ping(start + PING_AFTER), "no reply is outstanding");
        assert!(second.await.unwrap().is_ok());
        advance(SECOND).await;
        let failed = add(&mut pending, 99 * 32_000_000);
        assert_eq!(
            pending.due(),
            TimerAction::Timeout(start + 4 * SECOND + REPLY_TIMEOUT + SLOW_MAX)
        );
        pending.fail(&reply_timed_out());
        assert!(failed.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_arrive_take_their_time_until_the_next_reply() {
        let pending = Mutex::new(PendingRequests::new());
        let receive = async || {
            let bytes = vec![0; 16_000];
            let from = bytes.as_slice().chain(bytes.as_slice());
            let mut reader = CountingReader { from, pending: &pending };
            reader.read_exact(&mut vec![0; 32_000]).await.unwrap();
        };
        advance(SECOND).await;
        receive().await;
        assert_eq!(
            pending.lock().due(),
            TimerAction::Ping(now() + PING_AFTER),
            "since bytes arrived last"
        );
        let first = add(&mut pending.lock(), 3_200);
        let (sent, second) = (now(), add(&mut pending.lock(), 3_200));
        let own = transfer_time_of(3_200);
        assert_eq!(
            pending.lock().due(),
            TimerAction::Timeout(sent + REPLY_TIMEOUT + 2 * own),
            "not for those before"
        );
        advance(SECOND).await;
        receive().await;
        assert_eq!(
            pending.lock().due(),
            TimerAction::Timeout(sent + REPLY_TIMEOUT + 2 * own + transfer_time_of(32_000))
        );
        pending.lock().complete();
        assert_eq!(pending.lock().due(), TimerAction::Timeout(now() + REPLY_TIMEOUT + own));
        drop((first, second));
    }
}
