//! A server that speaks RESP3 and sends the replies that a test specifies.

use crate::broker::redis::link::RedisStream;
use rustls::ServerConfig;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::broadcast,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Returns what the server sends for a command. `None` selects the reply of [`usual`].
type Replies = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A fake server on its own port. It stops when this is dropped.
pub(super) struct Fake {
    pub(super) port: u16,
    replies: Arc<Mutex<Box<Replies>>>,
    seen: Arc<Mutex<Vec<String>>>,
    orders: broadcast::Sender<Order>,
    tasks: JoinSet<()>,
}

#[derive(Clone, Debug)]
enum Order {
    /// Sends these bytes on each connection that has subscribed.
    Push(String),
    /// Closes all connections.
    Hang,
}

impl Fake {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a server with TLS.
    pub(super) async fn start_tls(config: ServerConfig) -> Self {
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("IPv4") };
        let replies: Arc<Mutex<Box<Replies>>> = Arc::new(Mutex::new(Box::new(|_| None)));
        let seen = Arc::default();
        let orders = broadcast::Sender::new(16);
        let mut tasks = JoinSet::new();
        let served = (Arc::clone(&replies), Arc::clone(&seen), orders.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (replies, seen, orders) = served.clone();
                let (orders, tls) = (orders.subscribe(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, replies, seen, orders).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, replies, seen, orders).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port: address.port(), replies, seen, orders, tasks }
    }

    /// Replaces the replies. Each command is passed as one line, its words separated by spaces.
    pub(super) fn reply(&self, replies: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        *self.replies.lock().unwrap() = Box::new(replies);
    }

    /// How many commands with this prefix the server has received.
    pub(super) fn seen(&self, beginning: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|line| line.starts_with(beginning)).count()
    }

    pub(super) fn push(&self, bytes: &str) {
        self.orders.send(Order::Push(bytes.to_owned())).unwrap();
    }

    /// Closes all connections.
    pub(super) fn hang_up(&self) {
        self.orders.send(Order::Hang).unwrap();
    }

    /// Stops listening, and closes all connections.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(
    stream: impl RedisStream + 'static,
    replies: Arc<Mutex<Box<Replies>>>,
    seen: Arc<Mutex<Vec<String>>>,
    mut orders: broadcast::Receiver<Order>,
) {
    let (read, mut write) = tokio::io::split(stream);
    let (commands, mut arrived) = tokio::sync::mpsc::channel(16);
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        let mut read = BufReader::new(read);
        while let Some(line) = command(&mut read).await {
            commands.send(line).await.unwrap();
        }
    });
    let mut has_subscribed = false;
    loop {
        let bytes = tokio::select! {
            Some(line) = arrived.recv() => {
                has_subscribed |= line.starts_with("SSUBSCRIBE") || line.starts_with("SUBSCRIBE");
                seen.lock().unwrap().push(line.clone());
                let reply = replies.lock().unwrap()(&line);
                reply.unwrap_or_else(|| usual(&line))
            }
            Ok(order) = orders.recv() => match order {
                Order::Push(bytes) if has_subscribed => bytes,
                Order::Push(_) => continue,
                Order::Hang => return,
            },
            else => return,
        };
        if write.write_all(bytes.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn command(read: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let words: usize = header(read).await?;
    let mut line = Vec::new();
    for _ in 0..words {
        let len = header(read).await?;
        let mut word = vec![0; len + 2];
        read.read_exact(&mut word).await.ok()?;
        line.push(String::from_utf8(word[..len].to_vec()).unwrap());
    }
    Some(line.join(" "))
}

async fn header(read: &mut (impl AsyncBufRead + Unpin)) -> Option<usize> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok()?;
    line.trim_end().get(1..)?.parse().ok()
}

/// The reply of a server if the test does not specify one; most commands are echoed.
fn usual(line: &str) -> String {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let each = |kind: &str| -> String {
        rest.split(' ').map(|pubsub_channel| push(&[kind, pubsub_channel])).collect()
    };
    match name {
        "HELLO" => "%1\r\n+server\r\n+redis\r\n".to_owned(),
        "ROLE" => format!("*3\r\n{}:0\r\n*0\r\n", bulk("master")),
        "ASKING" | "SELECT" | "AUTH" => "+OK\r\n".to_owned(),
        "SUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "SUNSUBSCRIBE" => each(&name.to_lowercase()),
        _ => bulk(line),
    }
}

pub(super) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A push about subscriptions, or of a message.
pub(super) fn push(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| bulk(word)).collect();
    let is_message = words.len() == 3;
    let count = if is_message { "" } else { ":1\r\n" };
    format!(">3\r\n{}{count}", words.concat())
}

/// A reply to `CLUSTER SLOTS`: slot ranges with the ports of their masters.
pub(super) fn slots(ranges: &[(u16, u16, u16)]) -> String {
    let ranges = ranges.iter().map(|(first, last, port)| {
        let id = bulk("0123456789012345678901234567890123456789");
        // An empty host stands for the server that was asked.
        format!("*3\r\n:{first}\r\n:{last}\r\n*3\r\n$0\r\n\r\n:{port}\r\n{id}")
    });
    let ranges: Vec<String> = ranges.collect();
    format!("*{}\r\n{}", ranges.len(), ranges.concat())
}
