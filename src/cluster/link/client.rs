//! A client of one Redis server over one stream.
//!
//! Requests are sent in the order in which they were made, and answered in that order. In RESP3,
//! what the server pushes is told apart from what it answers, except that the answers to
//! subscriptions are pushes as well. Redis Cluster ends subscriptions by itself and pushes then what
//! it would answer to an unsubscription, so that a client that counts such a push as an answer
//! takes every later answer for that of the request before. Here it is never one:
//!
//! - subscriptions are confirmed by as many pushes of their kind, which are never sent unasked, or
//!   refused by one error;
//! - an unsubscription is followed by a `HELLO`, which answers with a map, as nothing else here
//!   does. All up to the map belongs to it.

use super::stream::Stream;
use redis::{
    Cmd, PushKind, RedisError, RedisResult, Value, cmd, from_redis_value, parse_redis_value_async,
};
use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, WriteHalf},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Requests that may wait to be written.
const QUEUE: usize = 1_024;
/// Bytes that are written at once, as long as there are requests.
const CHUNK: usize = 64 * 1_024;

/// What a client receives besides answers.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// A message on a bus.
    Message { bus: Vec<u8>, message: Vec<u8> },
    /// The server has ended a subscription by itself.
    Unsubscribed { bus: Vec<u8> },
    /// The connection is lost; nothing follows.
    Lost,
}

/// A connection with its task, which ends with it.
#[derive(Debug)]
pub(super) struct Client {
    requests: mpsc::Sender<Request>,
    _task: Task,
}

/// A task that is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
    answer: Answer,
    caller: oneshot::Sender<RedisResult<Vec<Value>>>,
}

/// What belongs to the answer of a request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// So many values.
    Values(usize),
    /// So many confirmations, or an error.
    Subscribed(usize),
    /// All up to a map.
    Unsubscribed,
}

/// A request that was sent.
#[derive(Debug)]
struct Sent {
    answer: Answer,
    values: Vec<Value>,
    caller: oneshot::Sender<RedisResult<Vec<Value>>>,
}

impl Client {
    /// Starts a client on a stream. Messages are passed to `heard`, in order, and before the answers
    /// that the server sent after them.
    pub(super) fn start(
        stream: Box<dyn Stream>,
        heard: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let task = Task::spawn(async move {
            let error = run(stream, queue, &heard).await;
            tracing::debug!(%error, "a connection to redis has ended");
            heard(Heard::Lost);
        });
        Self { requests, _task: task }
    }

    /// The answer to a command. An error of the server is an error.
    pub(super) async fn request(&self, command: &Cmd) -> RedisResult<Value> {
        let mut values = self.send(command.get_packed_command(), Answer::Values(1)).await?;
        values.pop().ok_or_else(unexpected)?.extract_error()
    }

    /// The answers to several commands that are sent at once. Errors of the server are values.
    pub(super) async fn request_all(&self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        let bytes = commands.iter().flat_map(Cmd::get_packed_command).collect();
        self.send(bytes, Answer::Values(commands.len())).await
    }

    /// Subscribes by a command that names so many buses.
    pub(super) async fn subscribe(&self, command: &Cmd, buses: usize) -> RedisResult<()> {
        let values = self.send(command.get_packed_command(), Answer::Subscribed(buses)).await?;
        values.into_iter().try_for_each(|value| value.extract_error().map(drop))
    }

    /// Unsubscribes by a command that names buses.
    pub(super) async fn unsubscribe(&self, command: &Cmd) -> RedisResult<()> {
        let mut bytes = command.get_packed_command();
        bytes.extend(cmd("HELLO").get_packed_command());
        let values = self.send(bytes, Answer::Unsubscribed).await?;
        values.into_iter().try_for_each(|value| value.extract_error().map(drop))
    }

    async fn send(&self, bytes: Vec<u8>, answer: Answer) -> RedisResult<Vec<Value>> {
        let (caller, answered) = oneshot::channel();
        let request = Request { bytes, answer, caller };
        self.requests.send(request).await.map_err(|_| lost())?;
        answered.await.map_err(|_| lost())?
    }
}

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads and writes until the stream ends, and returns the reason.
async fn run(
    stream: Box<dyn Stream>,
    queue: mpsc::Receiver<Request>,
    heard: &(impl Fn(Heard) + Sync),
) -> RedisError {
    let (mut from_server, to_server) = tokio::io::split(stream);
    let sent = Mutex::new(VecDeque::new());
    let reading = async {
        let mut decoder = combine::stream::Decoder::new();
        loop {
            match parse_redis_value_async(&mut decoder, &mut from_server).await {
                Ok(value) => {
                    if take(value, &sent, heard).is_none() {
                        return unexpected();
                    }
                }
                Err(error) => return error,
            }
        }
    };
    let error = tokio::select! {
        biased;
        error = reading => error,
        error = write(to_server, queue, &sent) => error,
    };
    for request in lock(&sent).drain(..) {
        // The caller may have stopped waiting.
        let _ = request.caller.send(Err(error.clone()));
    }
    error
}

async fn write(
    mut to_server: WriteHalf<impl AsyncWrite>,
    mut queue: mpsc::Receiver<Request>,
    sent: &Mutex<VecDeque<Sent>>,
) -> RedisError {
    let mut bytes = Vec::new();
    while let Some(mut request) = queue.recv().await {
        bytes.clear();
        loop {
            // Requests whose caller has given up are not sent.
            if !request.caller.is_closed() {
                bytes.extend_from_slice(&request.bytes);
                let Request { answer, caller, .. } = request;
                lock(sent).push_back(Sent { answer, values: Vec::new(), caller });
            }
            match queue.try_recv() {
                Ok(next) if bytes.len() < CHUNK => request = next,
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
        bytes.shrink_to(CHUNK);
    }
    lost()
}

/// Handles a value that the server has sent; `None` if it violates the protocol.
fn take(value: Value, sent: &Mutex<VecDeque<Sent>>, heard: &impl Fn(Heard)) -> Option<()> {
    let mut sent = lock(sent);
    if let Value::Push { kind, data } = value {
        let mut data = data.into_iter().map(from_redis_value::<Vec<u8>>);
        let mut next = || data.next()?.ok();
        // Nothing else is asked for.
        if matches!(kind, PushKind::Message | PushKind::SMessage) {
            heard(Heard::Message { bus: next()?, message: next()? });
        } else if matches!(kind, PushKind::Subscribe | PushKind::SSubscribe) {
            let Answer::Subscribed(left) = &mut sent.front_mut()?.answer else { return None };
            *left -= 1;
            if *left == 0 {
                answer(&mut sent);
            }
        } else if matches!(kind, PushKind::Unsubscribe | PushKind::SUnsubscribe) {
            let is_asked =
                sent.front().is_some_and(|sent| matches!(sent.answer, Answer::Unsubscribed));
            if !is_asked {
                heard(Heard::Unsubscribed { bus: next()? });
            }
        }
        return Some(());
    }
    let front = sent.front_mut()?;
    let is_complete = match front.answer {
        Answer::Values(count) => {
            front.values.push(value);
            front.values.len() == count
        }
        Answer::Subscribed(_) => {
            front.values.push(value);
            true
        }
        Answer::Unsubscribed => {
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
        answer(&mut sent);
    }
    Some(())
}

fn answer(sent: &mut VecDeque<Sent>) {
    if let Some(Sent { values, caller, .. }) = sent.pop_front() {
        // The caller may have stopped waiting.
        let _ = caller.send(Ok(values));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of a request on a connection that has ended.
fn lost() -> RedisError {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection to redis is lost").into()
}

fn unexpected() -> RedisError {
    io::Error::new(io::ErrorKind::InvalidData, "redis sent what does not belong to any request")
        .into()
}
