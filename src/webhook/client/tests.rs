use super::*;
use crate::signature::Signer;
use std::sync::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::yield_now,
};

/// The behaviour of an endpoint for one request.
enum TestReply {
    /// Answers with these bytes and keeps the connection open.
    Keep(Vec<u8>),
    /// Answers with these bytes and closes the connection.
    Close(Vec<u8>),
}

/// An endpoint that answers its n-th request, from 0, by a script.
struct TestEndpoint {
    address: String,
    /// The connection of each request, from 0, and its text.
    requests: Arc<Mutex<Vec<(usize, String)>>>,
}

impl TestEndpoint {
    async fn new(script: impl Fn(usize) -> TestReply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (requests, script) = (Arc::default(), Arc::new(script));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                tokio::spawn(serve(stream, connection, seen, script));
            }
        });
        Self { address, requests }
    }

    /// An endpoint that accepts everything.
    async fn accepting() -> Self {
        Self::new(|_| TestReply::Keep(ok(b"ok"))).await
    }

    fn client(&self) -> EndpointClient {
        client(&format!("http://{}/hooks?token=hunter2", self.address))
    }

    /// The connection of each request so far.
    fn connections(&self) -> Vec<usize> {
        self.requests.lock().unwrap().iter().map(|(connection, _)| *connection).collect()
    }

    /// Waits until this many requests have been received.
    async fn has_read(&self, requests: usize) {
        while self.connections().len() < requests {
            yield_now().await;
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
    script: Arc<impl Fn(usize) -> TestReply>,
) {
    let mut received = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut received).await {
        // Every request body ends with these bytes.
        if !received.ends_with(b"]}") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut received)).unwrap();
        let at = {
            let mut seen = seen.lock().unwrap();
            seen.push((connection, text));
            seen.len() - 1
        };
        // The client may close the connection before it has read everything.
        let _cut_off = match script(at) {
            TestReply::Keep(bytes) => stream.write_all(&bytes).await,
            TestReply::Close(bytes) => return drop(stream.write_all(&bytes).await),
        };
    }
}

fn client(url: &str) -> EndpointClient {
    client_with(url, false)
}

fn client_with(url: &str, deny_private: bool) -> EndpointClient {
    let target = Arc::new(Target::parse(url).unwrap());
    let configured = [("x-token".to_owned(), Secret::new("hunter2"))].into();
    let headers = Arc::new(Live::new(headers(&target.authority, "my-key", &configured)));
    let dialer = Dialer::new(false, deny_private).unwrap();
    EndpointClient::new(Arc::new(Live::new(dialer)), target, headers)
}

/// An answer with this body.
fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn notice() -> Notice {
    let now = std::time::Instant::now();
    Notice::new(&Signer::new("secret"), (r#"{"name":"a","channel":"b"}"#, 1), 7, now)
}

#[tokio::test]
async fn a_request_has_these_headers_and_no_others() {
    let server = TestEndpoint::accepting().await;
    let answer = server.client().post(&notice()).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"ok"[..]));
    let request = server.requests.lock().unwrap()[0].1.clone();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, r#"{"time_ms":7,"events":[{"name":"a","channel":"b"}]}"#);
    let (line, fields) = head.split_once("\r\n").unwrap();
    assert_eq!(line, "POST /hooks?token=hunter2 HTTP/1.1");
    let mut fields: Vec<_> = fields.split("\r\n").map(ToOwned::to_owned).collect();
    fields.sort();
    let expected = [
        format!("Content-Length: {}", body.len()),
        "Content-Type: application/json".to_owned(),
        format!("Host: {}", server.address),
        format!("User-Agent: campanile/{}", env!("CARGO_PKG_VERSION")),
        "X-Pusher-Key: my-key".to_owned(),
        format!("X-Pusher-Signature: {}", Signer::new("secret").sign(body)),
        "X-Token: hunter2".to_owned(),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn a_configured_header_is_hidden_and_replaces_none_of_the_own() {
    let names = ["host", "content-type", "x-pusher-key", "user-agent", "x-a"];
    let configured = names.map(|name| (name.to_owned(), Secret::new("hunter2"))).into();
    let headers = headers("a.test", "my-key", &configured);
    for (name, value) in [
        ("host", "a.test"),
        ("content-type", "application/json"),
        ("x-pusher-key", "my-key"),
        ("user-agent", "hunter2"),
        ("x-a", "hunter2"),
    ] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
        assert_eq!(values[0].is_sensitive(), value == "hunter2", "{name}");
    }
}

#[tokio::test]
async fn every_status_is_an_answer() {
    for status in [200, 204, 302, 400, 500, 599] {
        let head =
            format!("HTTP/1.1 {status} x\r\nLocation: http://a\r\nContent-Length: 0\r\n\r\n");
        let server = TestEndpoint::new(move |_| TestReply::Keep(head.clone().into_bytes())).await;
        assert_eq!(server.client().post(&notice()).await.unwrap().status, status);
        assert_eq!(server.connections().len(), 1, "a redirect is not followed");
    }
}

/// The clock is paused from when the endpoint has the request, so that only the timeout can happen.
#[tokio::test]
async fn a_request_without_an_answer_times_out_after_ten_seconds() {
    for part in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let server = TestEndpoint::new(move |_| TestReply::Keep(part.as_bytes().to_vec())).await;
        let mut client = server.client();
        let start = Instant::now();
        let posted = tokio::spawn(async move { client.post(&notice()).await });
        server.has_read(1).await;
        let read = Instant::now();
        time::pause();
        let error = posted.await.unwrap().unwrap_err();
        let ended = Instant::now();
        time::resume();
        assert!(matches!(error, PostError::Timeout), "{error:?}");
        assert_eq!(error.to_string(), "no answer within 10s");
        // The timeout started between `start` and `read`; a timer is up to 2 ms late.
        let seconds = Duration::from_secs(10);
        assert!(start + seconds <= ended && ended <= read + seconds + Duration::from_millis(2));
    }
}

#[tokio::test]
async fn an_answer_whose_body_does_not_end_counts_after_a_second() {
    let head = b"HTTP/1.1 201 OK\r\nContent-Length: 100\r\n\r\nbegin";
    let server = TestEndpoint::new(|_| TestReply::Keep(head.to_vec())).await;
    let mut client = server.client();
    let start = Instant::now();
    let answer = client.post(&notice()).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (201, &b"begin"[..]));
    assert!(Duration::from_secs(1) <= start.elapsed(), "{:?}", start.elapsed());
    client.post(&notice()).await.unwrap();
    assert_eq!(server.connections(), [0, 1], "the rest of the body is not taken for an answer");
}

#[tokio::test]
async fn a_connection_is_reused_unless_its_answer_is_larger_than_64_kib() {
    const MOST: usize = 64 * 1_024;
    for (bytes, connections) in [(MOST, [0, 0]), (MOST + 1, [0, 1])] {
        let server = TestEndpoint::new(move |_| TestReply::Keep(ok(&vec![b'x'; bytes]))).await;
        let mut client = server.client();
        for _ in 0..2 {
            assert_eq!(client.post(&notice()).await.unwrap().body.len(), MOST);
        }
        assert_eq!(server.connections(), connections, "{bytes}");
    }
}

#[tokio::test]
async fn a_connection_is_used_for_a_minute_at_most_and_not_after_idling() {
    let server = TestEndpoint::accepting().await;
    let mut client = server.client();
    client.post(&notice()).await.unwrap();
    for _ in 0..2 {
        time::pause();
        time::advance(Duration::from_secs(29)).await;
        time::resume();
        client.post(&notice()).await.unwrap();
    }
    time::pause();
    time::advance(Duration::from_secs(3)).await;
    time::resume();
    client.post(&notice()).await.unwrap();
    client.rest();
    client.post(&notice()).await.unwrap();
    // A reload resolves the name and checks its addresses again.
    client.dialer.set(Dialer::new(false, false).unwrap());
    client.post(&notice()).await.unwrap();
    assert_eq!(server.connections(), [0, 0, 0, 1, 2, 3]);
}

#[tokio::test]
async fn a_connection_that_the_endpoint_has_closed_meanwhile_is_replaced() {
    let server = TestEndpoint::new(|at| {
        if at == 0 { TestReply::Close(ok(b"")) } else { TestReply::Keep(ok(b"")) }
    })
    .await;
    let mut client = server.client();
    for _ in 0..2 {
        assert!(client.post(&notice()).await.is_ok());
    }
    assert_eq!(server.connections(), [0, 1]);
}

/// Logged errors contain neither path nor query nor headers, for any answer of the endpoint.
#[tokio::test]
async fn errors_contain_no_secret() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(256 * 1_024));
    let answers = ["", "hunter2 hunter2\r\n\r\n", "HTTP/1.1 200 OK\r\nhunter2\r\n\r\n", &long];
    for answer in answers.map(|text| text.as_bytes().to_vec()) {
        let server = TestEndpoint::new(move |_| TestReply::Close(answer.clone())).await;
        let error = server.client().post(&notice()).await.unwrap_err();
        assert!(matches!(error, PostError::Http(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("no answer: ") && !text.contains("hunter2"), "{text}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    for (url, expected) in [
        (format!("http://{closed}/hunter2?t=hunter2"), "cannot connect: "),
        ("http://unknown.invalid/hunter2?t=hunter2".to_owned(), "the host is not found: "),
        (
            format!("https://{}/hunter2", TestEndpoint::accepting().await.address),
            "cannot agree on TLS: ",
        ),
    ] {
        let mut client = client(&url);
        let error = client.post(&notice()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(expected) && !text.contains("hunter2"), "{text}");
        assert!(!format!("{error:?}{client:?}").contains("hunter2"), "{error:?}");
    }
    let denied = client_with("http://127.0.0.1:9/hunter2", true).post(&notice()).await;
    let expected = "127.0.0.1 is not on the public internet, and webhooks.deny_private is set";
    assert_eq!(denied.unwrap_err().to_string(), expected);
}
