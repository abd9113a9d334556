//! A webhook endpoint for tests, which records each request byte for byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{http::head_end, within};

/// A request that the endpoint has received.
#[derive(Debug)]
pub struct Request {
    /// When the request was complete.
    pub at: Instant,
    /// The request line.
    pub line: String,
    /// The head without its first line, as received.
    pub head: String,
    /// The body, as received.
    pub body: String,
}

impl Request {
    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The events in the body.
    pub fn events(&self) -> Vec<Value> {
        let body: Value = serde_json::from_str(&self.body).expect("the body is JSON");
        body["events"].as_array().expect("events is a list").clone()
    }
}

/// Returns the status and the `Location` of the answer to the n-th request, from 0. Without a status, there is no
/// answer.
type Answers = Arc<dyn Fn(usize, &Request) -> (Option<u16>, String) + Send + Sync>;

/// A server for webhook requests.
#[derive(Debug)]
pub struct WebhookReceiver {
    address: SocketAddr,
    requests: UnboundedReceiver<Request>,
    count: Arc<AtomicUsize>,
    taken: usize,
}

impl WebhookReceiver {
    /// An endpoint that accepts everything.
    pub async fn new() -> Self {
        Self::answering(|_| Some(200)).await
    }

    /// An endpoint that answers with these statuses; with `None`, never.
    pub async fn answering(status: impl Fn(usize) -> Option<u16> + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(move |at, _: &Request| (status(at), String::new()))).await
    }

    /// An endpoint whose answer depends on the request.
    pub async fn answering_by_request(
        status: impl Fn(&Request) -> u16 + Send + Sync + 'static,
    ) -> Self {
        let judge = move |_, request: &Request| (Some(status(request)), String::new());
        Self::start(Arc::new(judge)).await
    }

    /// An endpoint that answers with these statuses and locations.
    pub async fn answering_with(
        answer: impl Fn(usize) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let answer = move |at, _: &Request| {
            let (status, location) = answer(at);
            (Some(status), location)
        };
        Self::start(Arc::new(answer)).await
    }

    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let (sender, requests) = unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, sender) = (Arc::clone(&answers), sender.clone());
                tokio::spawn(serve(stream, answers, sender, Arc::clone(&counter)));
            }
        });
        Self { address, requests, count, taken: 0 }
    }

    /// The URL of the endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Host and port, as they are in the URL.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The number of requests received.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The number of requests taken with [`WebhookReceiver::next`].
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        self.taken += 1;
        within("a request to the webhook", self.requests.recv()).await.expect("the receiver serves")
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: Answers,
    sender: UnboundedSender<Request>,
    counter: Arc<AtomicUsize>,
) {
    let mut received = Vec::new();
    while let Some(request) = read(&mut stream, &mut received).await {
        let at = counter.fetch_add(1, Ordering::SeqCst);
        let answer = answers(at, &request);
        // The receiver may have been dropped.
        let _unread = sender.send(request);
        let (Some(status), location) = answer else {
            // Keeps the connection open until the client closes it.
            while stream.read_buf(&mut received).await.is_ok_and(|count| count > 0) {}
            return;
        };
        let location =
            if location.is_empty() { String::new() } else { format!("Location: {location}\r\n") };
        let answer = format!("HTTP/1.1 {status} x\r\n{location}Content-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// All events of webhooks, as a TOML list.
pub const ALL_EVENTS: &str = r#"["channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event", "cache_miss", "subscription_count", "user_online", "user_offline"]"#;

/// The event `name` of a channel.
pub fn of_channel(name: &str, channel: &str) -> Value {
    json!({ "name": name, "channel": channel })
}

/// The event `name` of a member of a channel.
pub fn of_member(name: &str, channel: &str, user_id: &str) -> Value {
    json!({ "name": name, "channel": channel, "user_id": user_id })
}

async fn read(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some(end) = head_end(received) {
            let head = String::from_utf8(received[..end - 2].to_vec()).expect("a head is ASCII");
            let (line, head) = head.split_once("\r\n").expect("a head has a first line");
            let mut request = Request {
                at: Instant::now(),
                line: line.to_owned(),
                head: format!("\r\n{head}"),
                body: String::new(),
            };
            let length = request.header("content-length").first().map_or("0", |length| *length);
            let length: usize = length.parse().expect("a length is a number");
            if end + length <= received.len() {
                let body = received.drain(..end + length).skip(end).collect();
                request.body = String::from_utf8(body).expect("a body is UTF-8");
                return Some(request);
            }
        }
        if !stream.read_buf(received).await.is_ok_and(|count| count > 0) {
            return None;
        }
    }
}
