//! An HTTP server for tests, which answers by a script.

use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::yield_now,
};

/// The behaviour of an endpoint for one request.
pub(crate) enum TestReply {
    /// Answers with these bytes and keeps the connection open.
    Keep(Vec<u8>),
    /// Answers with these bytes and closes the connection.
    Close(Vec<u8>),
}

/// An endpoint that answers its n-th request, from 0, by a script.
pub(crate) struct TestEndpoint {
    pub(crate) address: String,
    /// The connection of each request, from 0, and its text.
    pub(crate) requests: Arc<Mutex<Vec<(usize, String)>>>,
}

impl TestEndpoint {
    pub(crate) async fn new(script: impl Fn(usize) -> TestReply + Send + Sync + 'static) -> Self {
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
    pub(crate) async fn accepting() -> Self {
        Self::new(|_| TestReply::Keep(ok(b"ok"))).await
    }

    /// The connection of each request so far.
    pub(crate) fn connections(&self) -> Vec<usize> {
        self.requests.lock().unwrap().iter().map(|(connection, _)| *connection).collect()
    }

    /// Waits until this many requests have been received.
    pub(crate) async fn has_read(&self, requests: usize) {
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

/// A response with this body.
pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
