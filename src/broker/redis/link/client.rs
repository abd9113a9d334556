//! A client of one Redis server over one stream.
//!
//! Requests are sent in the order in which they were made, and answered in that order. RESP3
//! distinguishes pushes from replies, except that replies to subscriptions are pushes as well.
//! Redis Cluster ends subscriptions by itself, and then pushes what it would reply to an
//! unsubscription; a client that counts such a push as a reply assigns every later reply to the
//! wrong request. This client does not:
//!
//! - subscriptions are confirmed by as many pushes of their kind, which are never sent unrequested,
//!   or rejected by one error;
//! - an unsubscription is followed by a `HELLO`, the only command here that is answered with a map.
//!   Everything up to the map belongs to it.

use super::{
    pending::{CountingReader, ExpectedReply, PendingRequests, TimerAction, reply_timed_out},
    resp::RespParser,
    stream::RedisStream,
};
use crate::broker::redis::clock::now;
use parking_lot::Mutex;
use redis::{Cmd, PushKind, RedisError, RedisResult, Value, cmd, from_redis_value};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::sleep_until,
};

/// Maximum number of requests that wait to be written.
const REQUEST_QUEUE_LEN: usize = 1_024;
/// Maximum number of bytes that are written at once.
const WRITE_CHUNK_BYTES: usize = 64 * 1_024;
/// Maximum interval between two checks of overdue replies.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// An event of a connection besides replies.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Incoming {
    /// A message on a pub/sub channel.
    Message { pubsub_channel: Vec<u8>, message: Vec<u8> },
    /// The server has ended a subscription by itself.
    Unsubscribed { pubsub_channel: Vec<u8> },
    /// The connection is lost; nothing follows.
    Lost,
}

/// A connection with its task, which ends with it.
#[derive(Debug)]
pub(super) struct RespClient {
    requests: mpsc::Sender<Request>,
    _task: AbortOnDrop,
}

/// A task that is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct AbortOnDrop(JoinHandle<()>);

#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
    reply: ExpectedReply,
    reply_sender: oneshot::Sender<RedisResult<Vec<Value>>>,
}

impl RespClient {
    /// Starts a client on a stream. Messages are passed to `on_incoming`, in order, and before the
    /// replies that the server sent after them.
    pub(super) fn start(
        stream: Box<dyn RedisStream>,
        on_incoming: impl Fn(Incoming) + Send + Sync + 'static,
    ) -> Self {
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE_LEN);
        let pings = requests.clone();
        let task = AbortOnDrop::spawn(async move {
            let error = run(stream, queue, pings, &on_incoming).await;
            tracing::debug!(%error, "a connection to redis has ended");
            on_incoming(Incoming::Lost);
        });
        Self { requests, _task: task }
    }

    /// The reply to a command. An error of the server is an error.
    pub(super) async fn request(&self, command: &Cmd) -> RedisResult<Value> {
        let mut values = self.send(command.get_packed_command(), ExpectedReply::Values(1)).await?;
        values.pop().ok_or_else(unexpected)?.extract_error()
    }

    /// The replies to several commands that are sent at once. Errors of the server are values.
    pub(super) async fn request_all(&self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        let bytes = commands.iter().flat_map(Cmd::get_packed_command).collect();
        self.send(bytes, ExpectedReply::Values(commands.len())).await
    }

    /// Subscribes with a command that contains this many pub/sub channels.
    pub(super) async fn subscribe(&self, command: &Cmd, pubsub_channels: usize) -> RedisResult<()> {
        let values = self
            .send(command.get_packed_command(), ExpectedReply::Subscribed(pubsub_channels))
            .await?;
        values.into_iter().try_for_each(|value| value.extract_error().map(drop))
    }

    /// Unsubscribes from the pub/sub channels of a command.
    pub(super) async fn unsubscribe(&self, command: &Cmd) -> RedisResult<()> {
        let mut bytes = command.get_packed_command();
        bytes.extend(cmd("HELLO").get_packed_command());
        let values = self.send(bytes, ExpectedReply::Unsubscribed).await?;
        values.into_iter().try_for_each(|value| value.extract_error().map(drop))
    }

    async fn send(&self, bytes: Vec<u8>, reply: ExpectedReply) -> RedisResult<Vec<Value>> {
        let (caller, receiver) = oneshot::channel();
        let request = Request { bytes, reply, reply_sender: caller };
        self.requests.send(request).await.map_err(|_| lost())?;
        receiver.await.map_err(|_| lost())?
    }
}

impl AbortOnDrop {
    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads and writes until the stream ends, and returns the reason.
async fn run(
    stream: Box<dyn RedisStream>,
    queue: mpsc::Receiver<Request>,
    pings: mpsc::Sender<Request>,
    on_incoming: &(impl Fn(Incoming) + Sync),
) -> RedisError {
    let (from_server, to_server) = tokio::io::split(stream);
    let pending = Mutex::new(PendingRequests::new());
    let mut from_server = CountingReader { from: from_server, pending: &pending };
    let reading = async {
        let mut parser = RespParser::default();
        loop {
            match parser.next_value() {
                Ok(Some(value)) => {
                    if handle_value(value, &pending, on_incoming).is_none() {
                        return unexpected();
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => return error,
            }
            match from_server.read_buf(parser.buffer()).await {
                Ok(0) => return lost(),
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
    };
    let error = tokio::select! {
        biased;
        error = reading => error,
        error = write(to_server, queue, &pending) => error,
        error = watch_reply_timeout(&pending) => error,
        error = ping(pings, &pending) => error,
    };
    pending.lock().fail(&error);
    error
}

/// Pings whenever the connection is quiet.
async fn ping(requests: mpsc::Sender<Request>, pending: &Mutex<PendingRequests>) -> RedisError {
    loop {
        let check_at = now() + CHECK_INTERVAL;
        let due = pending.lock().due();
        match due {
            TimerAction::Ping(at) if at <= now() => {
                let (caller, receiver) = oneshot::channel();
                let bytes = cmd("PING").get_packed_command();
                let request =
                    Request { bytes, reply: ExpectedReply::Values(1), reply_sender: caller };
                if requests.send(request).await.is_err() || receiver.await.is_err() {
                    return lost();
                }
            }
            TimerAction::Ping(at) => sleep_until(at.min(check_at).into()).await,
            TimerAction::Timeout(_) => sleep_until(check_at.into()).await,
        }
    }
}

/// Ends when a reply takes too long.
async fn watch_reply_timeout(pending: &Mutex<PendingRequests>) -> RedisError {
    loop {
        let mut check_at = now() + CHECK_INTERVAL;
        if let TimerAction::Timeout(at) = pending.lock().due() {
            if at <= now() {
                return reply_timed_out();
            }
            check_at = check_at.min(at);
        }
        sleep_until(check_at.into()).await;
    }
}

async fn write(
    mut to_server: WriteHalf<impl AsyncWrite>,
    mut queue: mpsc::Receiver<Request>,
    pending: &Mutex<PendingRequests>,
) -> RedisError {
    let mut bytes = Vec::new();
    while let Some(mut request) = queue.recv().await {
        bytes.clear();
        loop {
            // Cancelled requests are not sent.
            if !request.reply_sender.is_closed() {
                bytes.extend_from_slice(&request.bytes);
                pending.lock().add(request.reply, request.bytes.len(), request.reply_sender);
            }
            match queue.try_recv() {
                Ok(next) if bytes.len() < WRITE_CHUNK_BYTES => request = next,
                Ok(next) => {
                    if let Err(error) = to_server.write_all(&bytes).await {
                        return error.into();
                    }
                    bytes.clear();
                    request = next;
                }
                Err(_) => break,
            }
        }
        let written = async {
            to_server.write_all(&bytes).await?;
            to_server.flush().await
        };
        if let Err(error) = written.await {
            return error.into();
        }
        bytes.shrink_to(WRITE_CHUNK_BYTES);
    }
    lost()
}

/// Handles a value that the server has sent; `None` if it violates the protocol.
fn handle_value(
    value: Value,
    pending: &Mutex<PendingRequests>,
    on_incoming: &impl Fn(Incoming),
) -> Option<()> {
    let mut pending = pending.lock();
    if let Value::Push { kind, data } = value {
        let mut data = data.into_iter().map(from_redis_value::<Vec<u8>>);
        let mut next = || data.next()?.ok();
        // No other push was requested.
        if matches!(kind, PushKind::Message | PushKind::SMessage) {
            on_incoming(Incoming::Message { pubsub_channel: next()?, message: next()? });
        } else if matches!(kind, PushKind::Subscribe | PushKind::SSubscribe) {
            let ExpectedReply::Subscribed(left) = &mut pending.front()?.reply else {
                return None;
            };
            *left -= 1;
            if *left == 0 {
                pending.complete();
            }
        } else if matches!(kind, PushKind::Unsubscribe | PushKind::SUnsubscribe) {
            let is_asked = pending
                .front()
                .is_some_and(|sent| matches!(sent.reply, ExpectedReply::Unsubscribed));
            if !is_asked {
                on_incoming(Incoming::Unsubscribed { pubsub_channel: next()? });
            }
        }
        return Some(());
    }
    let front = pending.front()?;
    let is_complete = match front.reply {
        ExpectedReply::Values(count) => {
            front.values.push(value);
            front.values.len() == count
        }
        ExpectedReply::Subscribed(_) => {
            front.values.push(value);
            true
        }
        ExpectedReply::Unsubscribed => {
            let is_map = matches!(value, Value::Map(_));
            if !is_map && !front.values.is_empty() {
                return None;
            }
            if !is_map {
                front.values.push(value);
            }
            is_map
        }
    };
    if is_complete {
        pending.complete();
    }
    Some(())
}

/// The error of a request on a connection that has ended.
fn lost() -> RedisError {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection to redis is lost").into()
}

fn unexpected() -> RedisError {
    io::Error::new(io::ErrorKind::InvalidData, "unexpected reply from redis").into()
}
