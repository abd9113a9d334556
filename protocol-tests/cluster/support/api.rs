//! Requests of the HTTP API to a server that may be down.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use kit::Call;
use kit::head_end;

/// Longer than any response may take, however long Redis is unreachable or a node is paused.
const PATIENCE: Duration = Duration::from_secs(45);

/// The outcome of a publish.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// 200: every subscriber receives the event.
    Accepted,
    /// 503 with `code` 503: the event is never delivered.
    Rejected,
    /// 503 with `code` 5031: on each channel, the event is delivered once or not at all.
    Unknown,
    /// No answer, since the node died: the event is delivered once or not at all.
    Broken,
}

/// A complete response of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// A connection to a node's HTTP API, made when it is needed.
#[derive(Debug)]
pub(crate) struct Api {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Api {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Sends a request and reads the response; `None` if there was none.
    pub(crate) async fn send(&mut self, call: &Call) -> Option<Answer> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(call)).await;
        let answer = answer.unwrap_or_else(|_elapsed| {
            panic!("{} did not answer {} in {PATIENCE:?}", self.address, call.target())
        });
        if answer.is_none() {
            self.stream = None;
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str, query: &[(&str, &str)]) -> Option<Answer> {
        let call =
            query.iter().fold(Call::get(path), |call, (name, value)| call.query(name, value));
        self.send(&call).await
    }

    /// Publishes and returns the outcome. Any other response fails the test.
    pub(crate) async fn publish(&mut self, channel: &str, name: &str, data: &str) -> Outcome {
        let call = Call::post("events", &json!({ "name": name, "channel": channel, "data": data }));
        match self.send(&call).await {
            None => Outcome::Broken,
            Some(answer) => outcome(&answer),
        }
    }

    async fn exchange(&mut self, call: &Call) -> Option<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(TcpStream::connect(self.address).await.ok()?),
        };
        stream.set_nodelay(true).ok()?;
        stream.write_all(&call.bytes()).await.ok()?;
        let mut received = Vec::new();
        let end = loop {
            if let Some(end) = head_end(&received) {
                break end;
            }
            if stream.read_buf(&mut received).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(received[..end].to_vec()).expect("our heads are ASCII");
        let lower = head.to_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize =
            length.and_then(|text| text.parse().ok()).expect("a length is declared");
        while received.len() < end + length {
            if stream.read_buf(&mut received).await.ok()? == 0 {
                return None;
            }
        }
        if lower.contains("connection: close") {
            self.stream = None;
        }
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
        let body = serde_json::from_slice(&received[end..]).unwrap_or(Value::Null);
        Some(Answer { status, head, body })
    }
}

/// The outcome of a publish according to the response, which must be complete.
fn outcome(answer: &Answer) -> Outcome {
    if answer.status == 200 {
        return Outcome::Accepted;
    }
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.to_lowercase().contains("retry-after:"), "no Retry-After: {answer:?}");
    assert!(answer.body["error"].is_string(), "no error message: {answer:?}");
    match answer.body["code"].as_u64() {
        Some(503) => Outcome::Rejected,
        Some(5031) => Outcome::Unknown,
        _ => panic!("neither 503 nor 5031: {answer:?}"),
    }
}

/// A promised duration, extended for a busy machine by one second, since the test process may wait for one of two
/// cores.
pub(crate) fn with_tolerance(promised: Duration) -> Duration {
    promised + Duration::from_secs(1)
}
