//! One HTTP connection, from its first request to its last, or to its upgrade.

use super::{
    Http, auth, body, cors,
    held::{HeldStream, Hold},
    reply::{ApiError, Reply},
    route::{Call, Route},
    upgrade::Granted,
};
use crate::{hub::Hub, shard::Adoption, shutdown::Drain};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{HeaderMap, HeaderName, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over, in bytes.
const REQUEST_ID_MAX: usize = 128;
/// Largest head of a request, in bytes: a channel name of every byte percent-encoded fits often.
const HEAD_MAX: usize = 16 * 1024;

/// How long a peer is listened to that still talks when its connection is over.
const LINGER: Duration = Duration::from_secs(2);

/// One HTTP connection.
struct Exchange {
    http: Arc<Http>,
    peer: SocketAddr,
    hold: Hold,
    /// Set by the request that asked for a WebSocket.
    granted: Mutex<Option<Granted>>,
}

/// Serves one connection. If it becomes a WebSocket, it is handed over to a shard.
pub async fn serve(
    http: Arc<Http>,
    stream: TcpStream,
    peer: SocketAddr,
    adoptions: mpsc::UnboundedSender<Adoption>,
    mut drain: Drain,
) {
    let hold = Hold::default();
    let io = TokioIo::new(HeldStream::new(stream, hold.clone()));
    let timeout = http.request_timeout;
    let exchange = Arc::new(Exchange { http, peer, hold, granted: Mutex::new(None) });
    let serving = Arc::clone(&exchange);
    let service = service_fn(move |request| {
        let exchange = Arc::clone(&serving);
        Box::pin(async move { Ok::<Reply, Infallible>(exchange.answer(request).await) })
    });
    let mut is_leaving = drain.has_begun();
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(HEAD_MAX)
        .keep_alive(!is_leaving)
        .serve_connection(io, service);
    let mut given_up = pin!(time::sleep(exchange.http.patience));
    let served = loop {
        tokio::select! {
            served = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break served,
            () = drain.begun(), if !is_leaving => {
                is_leaving = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                given_up.as_mut().reset(time::Instant::now() + exchange.http.patience);
            }
            // Whoever has not sent its request by then is not waited for.
            () = &mut given_up, if is_leaving => return,
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "http connection failed");
    }
    let granted = exchange.granted.lock().unwrap_or_else(PoisonError::into_inner).take();
    let parts = connection.into_parts();
    let (stream, response) = parts.io.into_inner().into_parts();
    if let Some(admission) = granted {
        return hand_over(stream, response, &parts.read_buf, admission, &adoptions);
    }
    // A shutdown waits for answers, and those have been given.
    drop(drain);
    linger(stream).await;
}

/// Hangs up so that the last answer arrives: a socket that is closed with something unread is
/// reset, and the peer may lose what it has not read yet.
async fn linger(mut stream: TcpStream) {
    let hang_up = async {
        stream.shutdown().await?;
        let mut unread = [0; 4_096];
        while stream.read(&mut unread).await? != 0 {}
        Ok::<(), io::Error>(())
    };
    // Whatever comes of it, the connection is over.
    let _ = time::timeout(LINGER, hang_up).await;
}

fn hand_over(
    stream: TcpStream,
    response: Vec<u8>,
    received: &[u8],
    admission: Granted,
    adoptions: &mpsc::UnboundedSender<Adoption>,
) {
    match stream.into_std() {
        Ok(socket) => {
            let received = received.to_vec();
            // A shard that is gone has no use for it: the process is ending.
            let _ = adoptions.send(Adoption { socket, response, received, admission });
        }
        Err(error) => tracing::warn!(%error, "socket could not be handed over"),
    }
}

impl Exchange {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        let request_id = self.request_id(&parts.headers);
        let began = Instant::now();
        let mut reply = match Route::parse(&parts.method, parts.uri.path(), &self.http.prefix) {
            Ok(route) => self.follow(route, &parts, body).await,
            Err(error) => error.into_reply(),
        };
        let status = reply.status();
        let path = parts.uri.path();
        if status.is_client_error() || status.is_server_error() {
            tracing::info!(?request_id, method = %parts.method, path, %status, "request refused");
        } else {
            let elapsed_us = began.elapsed().as_micros();
            tracing::debug!(?request_id, method = %parts.method, path, %status, elapsed_us, "request answered");
        }
        reply.headers_mut().insert(REQUEST_ID, request_id);
        reply
    }

    /// The client's own request id, if it is a plain one, else a new one.
    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let is_plain = |value: &&HeaderValue| {
            (1..=REQUEST_ID_MAX).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        headers.get(REQUEST_ID).filter(is_plain).cloned().unwrap_or_else(|| {
            HeaderValue::try_from(self.http.request_id()).expect("hexadecimal digits")
        })
    }

    async fn follow(&self, route: Route<'_>, parts: &Parts, body: Incoming) -> Reply {
        let http = &self.http;
        match route {
            Route::Up => Http::up(),
            Route::Ready => http.ready(),
            Route::Metrics => http.metrics(&parts.headers).unwrap_or_else(ApiError::into_reply),
            Route::WebSocket { key } => self.upgrade(parts, &key),
            Route::Preflight { app_id, allowed } => match http.node.hub(&app_id) {
                Some(hub) => cors::preflight(hub.app(), &parts.headers, allowed),
                None => no_app(&app_id).into_reply(),
            },
            Route::Api { app_id, call } => match http.node.hub(&app_id) {
                Some(hub) => self.call(&Arc::clone(hub), call, parts, body).await,
                None => no_app(&app_id).into_reply(),
            },
        }
    }

    fn upgrade(&self, parts: &Parts, key: &str) -> Reply {
        match self.http.upgrade(parts, key, self.peer.ip()) {
            Ok((reply, granted)) => {
                *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted);
                self.hold.begin();
                reply
            }
            Err(error) => error.into_reply(),
        }
    }

    async fn call(&self, hub: &Hub, call: Call<'_>, parts: &Parts, body: Incoming) -> Reply {
        let is_publish = call.is_publish();
        let result = self.carry_out(hub, call, parts, body).await;
        let mut reply = result.unwrap_or_else(ApiError::into_reply);
        if is_publish {
            self.http.node.metrics().publish_answered(reply.status().as_u16());
        }
        cors::allow(hub.app(), &parts.headers, &mut reply);
        reply
    }

    /// Authenticates a call by its head; only then its body is read.
    async fn carry_out(
        &self,
        hub: &Hub,
        call: Call<'_>,
        parts: &Parts,
        body: Incoming,
    ) -> Result<Reply, ApiError> {
        let http = &self.http;
        let line = auth::RequestLine {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            prefix: &http.prefix,
        };
        let is_known = |key: &str| http.node.hub_by_key(key).is_some();
        let head = auth::authenticate(hub.app(), line, SystemTime::now(), is_known)?;
        if !hub.app().config.enabled {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "The app is disabled"));
        }
        if http.node.is_draining() {
            let message = "The server is going away: try again, another will answer";
            let wait = Duration::from_secs(1);
            return Err(ApiError::later(StatusCode::SERVICE_UNAVAILABLE, message, wait));
        }
        hub.admit_request(Instant::now()).map_err(|wait| {
            let message = "Too many requests: requests_per_second of the app is exceeded";
            ApiError::later(StatusCode::TOO_MANY_REQUESTS, message, wait)
        })?;
        let body = body::read(body, http.max_request_bytes, http.request_timeout).await?;
        head.check_body(&body)?;
        match call {
            Call::Publish => http.publish(hub, &body).await,
            Call::PublishBatch => http.publish_batch(hub, &body).await,
            Call::TerminateUser(user_id) => Ok(Http::terminate(hub, &user_id)),
            Call::Channels => Http::channels(hub, &head),
            Call::Channel(name) => Http::channel(hub, &head, &name),
            Call::ChannelUsers(name) => Http::channel_users(hub, &name),
            Call::Connections => Ok(Http::connections(hub)),
        }
    }
}

fn no_app(app_id: &str) -> ApiError {
    let app_id = &app_id[..app_id.floor_char_boundary(100)];
    ApiError::not_found(format!("No app has the id {app_id:?}"))
}
