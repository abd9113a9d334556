//! Two HTTP clients: hyper for regular requests, and a raw socket for irregular ones.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::within;

/// A complete answer.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// The value of a header, the first if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("our headers are ASCII"))
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("our bodies are UTF-8")
    }

    /// The body of an answer with JSON and its content type.
    pub fn json(&self) -> Value {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "content-type {kind:?} in {self}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The message of an error, which has one form everywhere: `{"error": sentence, "code": status}`.
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self}");
        let body = self.json();
        let object = body.as_object().unwrap_or_else(|| panic!("no object in {self}"));
        assert_eq!(object.len(), 2, "members of {self}");
        assert_eq!(object["code"], status, "code in {self}");
        let sentence =
            object["error"].as_str().unwrap_or_else(|| panic!("error is no string in {self}"));
        assert!(!sentence.is_empty(), "an empty sentence in {self}");
        sentence.to_owned()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {:?} {}",
            self.status,
            self.headers,
            String::from_utf8_lossy(&self.body)
        )
    }
}

/// A connection of hyper, kept alive while the test needs it.
#[derive(Debug)]
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
}

impl Http {
    /// Connects to a server.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address))
            .await
            .expect("the server listens");
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.expect("nothing is sent yet");
        // The task ends with the sender, or with an error that the sender reports.
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request and reads the answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Reply {
        let what = format!("the answer to {} {}", request.method(), request.uri());
        let answer = async {
            self.sender
                .ready()
                .await
                .unwrap_or_else(|error| panic!("{what}: not kept alive: {error}"));
            let answer = self
                .sender
                .send_request(request)
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let (head, body) = answer.into_parts();
            let body =
                body.collect().await.unwrap_or_else(|error| panic!("{what}: {error}")).to_bytes();
            Reply { status: head.status.as_u16(), headers: head.headers, body }
        };
        within(&what, answer).await
    }

    /// A request without a body and without a signature.
    pub async fn plain(
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let request =
            Request::builder().method(method).uri(target).header("host", "campanile.test");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::default()).expect("the test writes a possible request");
        Self::connect(address).await.send(request).await
    }
}

/// A raw socket, written byte by byte and read answer by answer.
#[derive(Debug)]
pub struct RawHttp {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawHttp {
    /// Connects to a server.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(
            within("a TCP connection", TcpStream::connect(address))
                .await
                .expect("the server listens"),
        )
    }

    /// Uses an open connection.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP has this option");
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes; the connection must be open.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        within("the server to read", self.stream.write_all(bytes.as_ref()))
            .await
            .expect("the connection is open");
    }

    /// Like [`RawHttp::write`], but the server may have closed the connection. Returns whether the write succeeded.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("the server to read", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// The next answer.
    pub async fn reply(&mut self) -> Reply {
        self.reply_with_body(true).await
    }

    /// The next answer, to a `HEAD` request: it declares a length and has no body.
    pub async fn reply_to_head(&mut self) -> Reply {
        self.reply_with_body(false).await
    }

    async fn reply_with_body(&mut self, has_body: bool) -> Reply {
        let end = loop {
            if let Some(end) = head_end(&self.received) {
                break end;
            }
            assert!(
                self.receive().await,
                "the connection ended after {:?}",
                String::from_utf8_lossy(&self.received)
            );
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        let (status, headers) = parse_head(&head);
        assert!(
            !headers.contains_key("transfer-encoding"),
            "the kit reads declared lengths only: {headers:?}"
        );
        let length = headers
            .get("content-length")
            .map_or("0", |value| value.to_str().expect("a length is ASCII"));
        let length = if has_body { length.parse().expect("a length is a number") } else { 0 };
        while self.received.len() < length {
            assert!(self.receive().await, "the connection ended inside a body");
        }
        let body = self.received.drain(..length).collect::<Vec<u8>>().into();
        Reply { status, headers, body }
    }

    /// Waits until the server closes the connection, and asserts that it sent nothing more.
    pub async fn ended(&mut self) {
        while self.receive().await {}
        assert!(
            self.received.is_empty(),
            "received before the end: {:?}",
            String::from_utf8_lossy(&self.received)
        );
    }

    /// The socket, and the bytes received after the last answer.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.received)
    }

    async fn receive(&mut self) -> bool {
        // A reset counts as the end.
        within("bytes from the server", self.stream.read_buf(&mut self.received))
            .await
            .is_ok_and(|count| count > 0)
    }
}

/// The length of the head of a request or response, with its empty line; `None` while it is incomplete.
pub fn head_end(received: &[u8]) -> Option<usize> {
    received.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4)
}

fn parse_head(head: &[u8]) -> (u16, HeaderMap) {
    let head = std::str::from_utf8(head).expect("our heads are ASCII");
    let mut lines = head.trim_end().split("\r\n");
    let version = |line: &'_ str| line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 ");
    let status = lines.next().filter(|line| version(line)).and_then(|line| line.get(9..12));
    let status = status
        .unwrap_or_else(|| panic!("no status line in {head:?}"))
        .parse()
        .expect("a status is a number");
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
        let name: HeaderName = name.parse().expect("a header has a name");
        headers.append(name, HeaderValue::from_str(value.trim()).expect("a header has a value"));
    }
    (status, headers)
}
