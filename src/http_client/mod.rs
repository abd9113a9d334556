//! An HTTP/1.1 client, for webhooks and for the commands of the command line.
//!
//! It uses hyper's connection and tokio-rustls rather than a pooling client: a pool may open a second
//! connection before the first is returned, has no maximum connection age, and does not apply an address filter to literal addresses.

mod address;
mod connect;
#[cfg(test)]
pub(crate) mod testing;

pub use connect::{ByteStream, ConnectError, Connector, Origin};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

/// Default maximum number of bytes read of the body of a response.
const BODY_MAX: usize = 64 * 1_024;
/// Maximum number of bytes read of the head of a response.
const HEAD_MAX: usize = 64 * 1_024;
/// Maximum age of a connection: the name may resolve to another address later.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// A client for one origin, with at most one connection. It follows no redirects.
#[derive(Debug)]
pub struct HttpClient {
    connector: Arc<ArcSwap<Connector>>,
    origin: Arc<Origin>,
    timeouts: HttpTimeouts,
    body_max: usize,
    connection: Option<OpenConnection>,
}

/// The timeouts of a request.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    /// From the name resolution to the end of the head of the response.
    pub head: Duration,
    /// For the body of the response.
    pub body: Duration,
}

impl HttpTimeouts {
    /// The maximum time of a request.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.head + self.body
    }
}

/// The response to a request.
#[derive(Debug)]
pub struct ClientResponse {
    /// Any status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or its first part if it is too large.
    pub body: Bytes,
    /// Whether `body` is the whole body: it was small enough and received in time.
    pub is_complete: bool,
}

/// Why there is no response.
#[derive(Debug)]
pub enum HttpError {
    /// Connecting failed.
    Connect(ConnectError),
    /// The connection was closed, or the response is invalid.
    Http(hyper::Error),
    /// The request timed out after this time.
    Timeout(Duration),
}

#[derive(Debug)]
struct OpenConnection {
    /// The connector that opened the connection. A reloaded one may deny the address.
    connector: Arc<Connector>,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    opened_at: Instant,
}

impl HttpClient {
    /// A client without a connection.
    #[must_use]
    pub fn new(
        connector: Arc<ArcSwap<Connector>>,
        origin: Arc<Origin>,
        timeouts: HttpTimeouts,
    ) -> Self {
        Self { connector, origin, timeouts, body_max: BODY_MAX, connection: None }
    }

    /// Reads bodies of up to this many bytes instead of 64 KiB.
    #[must_use]
    pub fn with_body_max(self, body_max: usize) -> Self {
        Self { body_max, ..self }
    }

    /// Sends a request, whose URI is a path, and waits for the response. If a connection that was used
    /// before is closed before it responds, the request is sent once more on a new one.
    ///
    /// # Errors
    ///
    /// [`HttpError`] if there is no response.
    pub async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<ClientResponse, HttpError> {
        request.headers_mut().insert(HOST, self.origin.header());
        let HttpTimeouts { head, body } = self.timeouts;
        let result = time::timeout(head, self.send_reusing_connection(request)).await;
        let (connection, response) = result.unwrap_or(Err(HttpError::Timeout(head)))?;
        let response = read_response(response, body, self.body_max).await;
        if response.is_complete {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// Closes the connection, if there is one.
    pub fn close(&mut self) {
        self.connection = None;
    }

    async fn send_reusing_connection(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(OpenConnection, Response<Incoming>), HttpError> {
        let connector = self.connector.load_full();
        let is_reusable = |kept: &OpenConnection| {
            Arc::ptr_eq(&kept.connector, &connector)
                && kept.opened_at.elapsed() < CONNECTION_LIFETIME
        };
        if let Some(mut kept) = self.connection.take().filter(is_reusable) {
            match kept.send(request.clone()).await {
                Ok(response) => return Ok((kept, response)),
                // The server has received the request.
                Err(error) if error.is_parse() => return Err(HttpError::Http(error)),
                // Most likely, the server has closed the idle connection.
                Err(_closed) => {}
            }
        }
        let mut connection = OpenConnection::open(connector, &self.origin).await?;
        let response = connection.send(request).await.map_err(HttpError::Http)?;
        Ok((connection, response))
    }
}

impl OpenConnection {
    async fn open(connector: Arc<Connector>, origin: &Origin) -> Result<Self, HttpError> {
        let stream = connector.connect(origin).await.map_err(HttpError::Connect)?;
        let mut http = http1::Builder::new();
        // PHP's SDK of Pusher looks for X-Pusher-Key in this letter case.
        http.title_case_headers(true).max_buf_size(HEAD_MAX);
        let (sender, driver) =
            http.handshake(TokioIo::new(stream)).await.map_err(HttpError::Http)?;
        let driver = tokio::spawn(async move {
            // The error is reported to the caller that waits for the response.
            let _ = driver.await;
        });
        Ok(Self { connector, sender, driver, opened_at: Instant::now() })
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Reads the body of a response, as far as it is small enough and received within `timeout`.
async fn read_response(
    response: Response<Incoming>,
    timeout: Duration,
    body_max: usize,
) -> ClientResponse {
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    let reading = async {
        while let Some(frame) = incoming.frame().await {
            let Ok(frame) = frame else { return false };
            if let Some(data) = frame.data_ref() {
                let room = body_max - body.len();
                body.extend_from_slice(&data[..data.len().min(room)]);
                if room < data.len() {
                    return false;
                }
            }
        }
        true
    };
    let is_complete = time::timeout(timeout, reading).await.unwrap_or(false);
    ClientResponse { status: head.status, headers: head.headers, body: body.freeze(), is_complete }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Http(error) => write!(f, "no response: {error}"),
            Self::Timeout(timeout) => write!(f, "no response within {timeout:?}"),
        }
    }
}

impl std::error::Error for HttpError {}

#[cfg(test)]
mod tests;
