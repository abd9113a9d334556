//! A client that receives continuously and records each message with its time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use kit::{Client, Frame, KEY, SECRET, Server, frames, head_end, inner, sign, upgrade_request};

/// Something that a client received or sent.
#[derive(Clone, Debug)]
pub(crate) enum Observation {
    /// The client sent `pusher:subscribe` for this channel.
    SubscribeSent(String),
    /// The client sent `pusher:unsubscribe` for this channel.
    UnsubscribeSent(String),
    /// The client sent a client event to this channel with this data.
    ClientEventSent(String, String),
    MessageReceived(Value),
    /// The client received a close frame with this code.
    CloseReceived(u16),
    /// The connection ended.
    ConnectionEnded,
}

#[derive(Clone, Debug)]
pub(crate) struct TimedObservation {
    pub(crate) at: Instant,
    pub(crate) what: Observation,
}

impl TimedObservation {
    /// The message, if it has this name and, if given, this channel.
    pub(crate) fn message(&self, event: &str, channel: Option<&str>) -> Option<&Value> {
        match &self.what {
            Observation::MessageReceived(message)
                if message["event"] == event
                    && channel.is_none_or(|channel| message["channel"] == channel) =>
            {
                Some(message)
            }
            Observation::SubscribeSent(_)
            | Observation::UnsubscribeSent(_)
            | Observation::ClientEventSent(..)
            | Observation::MessageReceived(_)
            | Observation::CloseReceived(_)
            | Observation::ConnectionEnded => None,
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    entries: Mutex<Vec<TimedObservation>>,
    grown: Notify,
}

impl Record {
    fn push(&self, what: Observation) {
        let entry = TimedObservation { at: Instant::now(), what };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        self.grown.notify_waiters();
    }
}

/// A connected client with a task that reads.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket_id: String,
    record: Arc<Record>,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    tasks: [JoinHandle<()>; 2],
}

impl Listener {
    /// A client of this node.
    pub(crate) async fn of(server: &Server) -> Self {
        Self::over(server.client().await)
    }

    /// Takes over a client. Messages that it has received and not read are kept.
    pub(crate) fn over(client: Client) -> Self {
        let socket_id = client.socket_id.clone();
        let (stream, received) = client.into_parts();
        Self::listen(socket_id, stream, received)
    }

    /// Connects to a node that may be dead, draining or without Redis.
    pub(crate) async fn connect(address: SocketAddr) -> Option<Self> {
        let connecting = async {
            let mut stream = TcpStream::connect(address).await.ok()?;
            let request = upgrade_request(&format!("/app/{KEY}?protocol=7"), &[]);
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut received = Vec::new();
            let end = loop {
                if let Some(end) = head_end(&received) {
                    break end;
                }
                if stream.read_buf(&mut received).await.ok()? == 0 {
                    return None;
                }
            };
            let head: Vec<u8> = received.drain(..end).collect();
            head.starts_with(b"HTTP/1.1 101").then_some(())?;
            loop {
                match frames::take(&mut received) {
                    Some(Frame::Text(text)) => {
                        let message: Value = serde_json::from_str(&text).expect("JSON");
                        (message["event"] == "pusher:connection_established").then_some(())?;
                        let socket_id = inner(&message)["socket_id"].as_str()?.to_owned();
                        return Some(Self::listen(socket_id, stream, received));
                    }
                    Some(_) => return None,
                    None => {
                        if stream.read_buf(&mut received).await.ok()? == 0 {
                            return None;
                        }
                    }
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), connecting).await.ok().flatten()
    }

    fn listen(socket_id: String, stream: TcpStream, received: Vec<u8>) -> Self {
        let record = Arc::new(Record::default());
        let (reader, writer) = stream.into_split();
        let (frames, queue) = mpsc::unbounded_channel();
        let reading = tokio::spawn(read(reader, received, Arc::clone(&record), frames.clone()));
        let writing = tokio::spawn(write(writer, queue));
        Self { socket_id, record, frames, tasks: [reading, writing] }
    }

    pub(crate) fn send(&self, message: &Value) {
        // The connection may have ended, which is recorded.
        let _gone = self.frames.send(frames::text(message.to_string()));
    }

    /// Sends a subscription to a channel without presence.
    pub(crate) fn send_subscribe(&self, channel: &str) {
        let auth = if channel.starts_with("private-") {
            sign::channel_auth(KEY, SECRET, &self.socket_id, channel, None)
        } else {
            String::new()
        };
        self.record.push(Observation::SubscribeSent(channel.to_owned()));
        let data = json!({ "auth": auth, "channel": channel });
        self.send(&json!({ "event": "pusher:subscribe", "data": data }));
    }

    /// Sends a subscription to a presence channel.
    pub(crate) fn send_join(&self, channel: &str, user_id: &str) {
        let member = json!({ "user_id": user_id, "user_info": { "n": user_id } }).to_string();
        let auth = sign::channel_auth(KEY, SECRET, &self.socket_id, channel, Some(&member));
        self.record.push(Observation::SubscribeSent(channel.to_owned()));
        let data = json!({ "auth": auth, "channel": channel, "channel_data": member });
        self.send(&json!({ "event": "pusher:subscribe", "data": data }));
    }

    pub(crate) fn leave(&self, channel: &str) {
        self.record.push(Observation::UnsubscribeSent(channel.to_owned()));
        self.send(&json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }));
    }

    pub(crate) fn whisper(&self, event: &str, channel: &str, data: &str) {
        self.record.push(Observation::ClientEventSent(channel.to_owned(), data.to_owned()));
        self.send(&json!({ "event": event, "channel": channel, "data": data }));
    }

    pub(crate) fn sign_in(&self, user_data: &Value) {
        let user_data = user_data.to_string();
        let auth = sign::user_auth(KEY, SECRET, &self.socket_id, &user_data);
        let data = json!({ "auth": auth, "user_data": user_data });
        self.send(&json!({ "event": "pusher:signin", "data": data }));
    }

    /// Subscribes and waits for the acknowledgement.
    pub(crate) async fn subscribe(&self, channel: &str) {
        let known = self.acknowledgements(channel);
        self.send_subscribe(channel);
        self.is_acknowledged(channel, known).await;
    }

    /// Joins a presence channel and waits for the acknowledgement.
    pub(crate) async fn join(&self, channel: &str, user_id: &str) {
        let known = self.acknowledgements(channel);
        self.send_join(channel, user_id);
        self.is_acknowledged(channel, known).await;
    }

    async fn is_acknowledged(&self, channel: &str, known: usize) {
        self.until(&format!("{channel} is acknowledged"), Duration::from_secs(10), |_| {
            self.acknowledgements(channel) > known
        })
        .await;
    }

    /// How often a subscription to this channel was acknowledged.
    pub(crate) fn acknowledgements(&self, channel: &str) -> usize {
        self.count("pusher_internal:subscription_succeeded", channel)
    }

    /// The number of messages with this name and channel.
    pub(crate) fn count(&self, event: &str, channel: &str) -> usize {
        let entries = self.record.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|entry| entry.message(event, Some(channel)).is_some()).count()
    }

    /// The data of all messages of this name and channel, in order.
    pub(crate) fn data(&self, event: &str, channel: &str) -> Vec<String> {
        let received = self.received();
        let messages = received.iter().filter_map(|entry| entry.message(event, Some(channel)));
        messages.map(|message| message["data"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Everything that was recorded so far.
    pub(crate) fn received(&self) -> Vec<TimedObservation> {
        self.record.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The code with which the server closed the connection; 0 if it ended without a code.
    pub(crate) fn closed(&self) -> Option<u16> {
        let entries = self.record.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().find_map(|entry| match entry.what {
            Observation::CloseReceived(code) => Some(code),
            Observation::ConnectionEnded => Some(0),
            Observation::SubscribeSent(_)
            | Observation::UnsubscribeSent(_)
            | Observation::ClientEventSent(..)
            | Observation::MessageReceived(_) => None,
        })
    }

    /// Waits until the record fulfils a condition.
    pub(crate) async fn until(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&[TimedObservation]) -> bool,
    ) {
        let waiting = async {
            loop {
                let grown = self.record.grown.notified();
                tokio::pin!(grown);
                grown.as_mut().enable();
                if condition(&self.received()) {
                    return;
                }
                grown.await;
            }
        };
        let in_time = tokio::time::timeout(deadline, waiting).await.is_ok();
        assert!(
            in_time,
            "waited {deadline:?} until {what}; {} received {}",
            self.socket_id,
            self.tail(30)
        );
    }

    /// Waits until this many messages with this name and channel were received.
    pub(crate) async fn receives(
        &self,
        event: &str,
        channel: &str,
        count: usize,
        deadline: Duration,
    ) {
        let what = format!("{event} came {count} times on {channel}");
        self.until(&what, deadline, |_| self.count(event, channel) >= count).await;
    }

    /// Waits until everything that was sent before is received: the reply to a ping follows it.
    pub(crate) async fn ping_barrier(&self) {
        let pongs = |entries: &[TimedObservation]| {
            entries.iter().filter(|entry| entry.message("pusher:pong", None).is_some()).count()
        };
        let before = pongs(&self.received());
        self.send(&json!({ "event": "pusher:ping", "data": {} }));
        let what = "the connection answers a ping";
        self.until(what, Duration::from_secs(10), |entries| pongs(entries) > before).await;
    }

    /// Closes the connection without a close frame, and returns the record.
    pub(crate) fn hang_up(self) -> Vec<TimedObservation> {
        for task in &self.tasks {
            task.abort();
        }
        self.record.push(Observation::ConnectionEnded);
        self.received()
    }

    /// The last entries, for a report.
    pub(crate) fn tail(&self, count: usize) -> String {
        let received = self.received();
        let skipped = received.len().saturating_sub(count);
        let lines = received[skipped..].iter().map(|entry| format!("\n    {:?}", entry.what));
        format!("{} entries, the last:{}", received.len(), lines.collect::<String>())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The tasks own both halves of the socket, so the connection ends with them.
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Reads to the end, answers pings, and answers a close frame.
async fn read(
    mut reader: OwnedReadHalf,
    mut received: Vec<u8>,
    record: Arc<Record>,
    answers: mpsc::UnboundedSender<Vec<u8>>,
) {
    // If the writer has ended before the reader, no answer can be sent.
    let answer = |first: u8, payload: &[u8]| answers.send(frames::masked(first, payload)).is_ok();
    loop {
        while let Some(frame) = frames::take(&mut received) {
            match frame {
                Frame::Ping(payload) => {
                    answer(frames::FIN | frames::PONG, &payload);
                }
                Frame::Pong(_) => {}
                Frame::Close(code, _) => {
                    record.push(Observation::CloseReceived(code));
                    answer(frames::FIN | frames::CLOSE, &code.to_be_bytes());
                }
                Frame::Text(text) => {
                    let message: Value = serde_json::from_str(&text)
                        .unwrap_or_else(|error| panic!("{error} in {text:?}"));
                    if message["event"] == "pusher:ping" {
                        answer(frames::FIN | frames::TEXT, br#"{"event":"pusher:pong","data":{}}"#);
                    } else {
                        record.push(Observation::MessageReceived(message));
                    }
                }
            }
        }
        if !reader.read_buf(&mut received).await.is_ok_and(|count| count > 0) {
            record.push(Observation::ConnectionEnded);
            return;
        }
    }
}
