//! Posts requests over HTTP/1.1.

use super::{
    dial::{DialError, Dialer, Target},
    envelope::Notice,
};
use crate::{config::Secret, live::Live};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

/// Timeout of a request, from the name resolution to the end of the head of the answer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for reading the body of an answer, so that the connection can be reused.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of bytes read of the body of an answer.
const BODY_MAX: usize = 64 * 1_024;
/// Maximum number of bytes read of the head of an answer.
const HEAD_MAX: usize = 64 * 1_024;
/// Maximum age of a connection: the name may resolve to another address later.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");

/// Sends requests to an endpoint.
pub(super) trait Post: Send {
    /// Posts a request and waits for the answer, at most for [`REQUEST_TIMEOUT`].
    fn post(
        &mut self,
        notice: &Notice,
    ) -> impl Future<Output = Result<EndpointAnswer, PostError>> + Send;

    /// Called when nothing is to be sent for now.
    fn rest(&mut self);
}

/// The answer of an endpoint.
#[derive(Debug)]
pub(super) struct EndpointAnswer {
    pub(super) status: StatusCode,
    /// The first bytes of the body.
    pub(super) body: Bytes,
}

/// The reason why there is no answer.
#[derive(Debug)]
pub(super) enum PostError {
    Dial(DialError),
    Http(hyper::Error),
    /// The request timed out after [`REQUEST_TIMEOUT`].
    Timeout,
}

/// An HTTP client for one endpoint, with at most one connection.
#[derive(Debug)]
pub(super) struct EndpointClient {
    dialer: Arc<Live<Dialer>>,
    target: Arc<Target>,
    headers: Arc<Live<HeaderMap>>,
    connection: Option<OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    /// The dialer that opened the connection. A reloaded one may deny the address.
    dialer: Arc<Dialer>,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    opened_at: Instant,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl EndpointClient {
    /// A client without a connection. `headers` are those of [`headers`].
    pub(super) fn new(
        dialer: Arc<Live<Dialer>>,
        target: Arc<Target>,
        headers: Arc<Live<HeaderMap>>,
    ) -> Self {
        Self { dialer, target, headers, connection: None }
    }

    async fn exchange(&mut self, notice: &Notice) -> Result<EndpointAnswer, PostError> {
        let dialer = self.dialer.get();
        let may_be_used = |kept: &OpenConnection| {
            Arc::ptr_eq(&kept.dialer, &dialer) && kept.opened_at.elapsed() < CONNECTION_LIFETIME
        };
        if let Some(mut kept) = self.connection.take().filter(may_be_used) {
            // On an error, the endpoint has most likely closed the idle connection.
            if let Ok(response) = kept.send(self.request(notice)).await {
                return Ok(self.answer(kept, response).await);
            }
        }
        let stream = dialer.dial(&self.target).await.map_err(PostError::Dial)?;
        let mut http = http1::Builder::new();
        // PHP's SDK looks for X-Pusher-Key in this letter case.
        http.title_case_headers(true).max_buf_size(HEAD_MAX);
        let (sender, driver) =
            http.handshake(TokioIo::new(stream)).await.map_err(PostError::Http)?;
        let driver = tokio::spawn(async move {
            // The error is reported to the caller that waits for the answer.
            let _ = driver.await;
        });
        let mut connection = OpenConnection { dialer, sender, driver, opened_at: Instant::now() };
        let response = connection.send(self.request(notice)).await.map_err(PostError::Http)?;
        Ok(self.answer(connection, response).await)
    }

    fn request(&self, notice: &Notice) -> Request<Full<Bytes>> {
        let mut request = Request::post(self.target.path.expose())
            .body(Full::new(notice.body.clone()))
            .expect("the path is that of a URL");
        request.headers_mut().clone_from(&*self.headers.get());
        let signature = HeaderValue::from_str(&notice.signature).expect("hex is ASCII");
        request.headers_mut().insert(SIGNATURE, signature);
        request
    }

    /// Reads the rest of the answer's body, and keeps the connection if it was complete.
    async fn answer(
        &mut self,
        connection: OpenConnection,
        response: Response<Incoming>,
    ) -> EndpointAnswer {
        let status = response.status();
        let (mut incoming, mut body) = (response.into_body(), BytesMut::new());
        let reading = async {
            while let Some(frame) = incoming.frame().await {
                let Ok(frame) = frame else { return false };
                if let Some(data) = frame.data_ref() {
                    let room = BODY_MAX - body.len();
                    body.extend_from_slice(&data[..data.len().min(room)]);
                    if room < data.len() {
                        return false;
                    }
                }
            }
            true
        };
        if time::timeout(BODY_TIMEOUT, reading).await == Ok(true) {
            self.connection = Some(connection);
        }
        EndpointAnswer { status, body: body.freeze() }
    }
}

impl OpenConnection {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

impl Post for EndpointClient {
    async fn post(&mut self, notice: &Notice) -> Result<EndpointAnswer, PostError> {
        let exchange = time::timeout(REQUEST_TIMEOUT, self.exchange(notice));
        exchange.await.unwrap_or(Err(PostError::Timeout))
    }

    fn rest(&mut self) {
        self.connection = None;
    }
}

/// The headers of every request except the signature. Configured headers cannot replace the
/// important ones: the configuration rejects those.
pub(super) fn headers(
    authority: &str,
    key: &str,
    configured: &BTreeMap<String, Secret>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let agent = HeaderValue::from_static(concat!("campanile/", env!("CARGO_PKG_VERSION")));
    headers.insert(USER_AGENT, agent);
    for (name, value) in configured {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::from_str(value.expose());
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    // Exactly this value: Node's SDK compares it as a whole.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [(HOST, authority), (KEY, key)] {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    }
    headers
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::Http(error) => write!(f, "no answer: {error}"),
            Self::Timeout => write!(f, "no answer within {REQUEST_TIMEOUT:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
