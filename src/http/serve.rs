//! One HTTP connection, from its first request to its last, or to its upgrade.

use super::{
    HttpContext, auth, body, check, cors,
    diagnostics::Hop,
    head,
    idle::{IdleTracker, WatchedStream},
    limiter::PendingConnection,
    other_protocol::OtherProtocol,
    response::{ApiError, HttpResponse, LogReason},
    route::{ApiCall, ConsolePath, Route},
    stream::{HttpStream, lingering_close},
    upgraded::{Upgrade, UpgradedStream},
};
use crate::{clock, hub::Hub, permit::Permit, shard::UpgradedSocket, shutdown::DrainGuard};
use arc_swap::ArcSwap;
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderMap, HeaderName, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{net::TcpStream, sync::mpsc, time};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The name of the node that answered a signed request.
const NODE: HeaderName = HeaderName::from_static("x-campanile-node");
/// Maximum length of a client's request id that is used, in bytes.
pub(super) const REQUEST_ID_MAX: usize = 128;
/// Minimum buffer size of the HTTP library, which is also how much of a body is read at once.
const BUFFER_MIN: usize = 16 * 1024;

/// How long a draining server waits for the head of a request: an idle connection must not delay
/// the end of the process.
const DRAIN_TIMEOUT_MAX: Duration = Duration::from_millis(500);

/// The kind of a listener.
#[derive(Clone, Debug)]
pub enum ListenerKind {
    /// All routes; upgraded connections are passed to a shard.
    Main(mpsc::UnboundedSender<UpgradedSocket>),
    /// Only the metrics, without TLS and without a token.
    Metrics,
}

/// One HTTP connection, shared by its requests.
struct HttpConnection {
    http: Arc<ArcSwap<HttpContext>>,
    kind: ListenerKind,
    peer: SocketAddr,
    is_tls: bool,
    tracker: IdleTracker,
    /// What this connection becomes; set by the handshake.
    upgrade: Mutex<Option<Upgrade>>,
}

/// Serves one connection, of which some bytes may have been received already. If it becomes a WebSocket, it is passed
/// to a shard.
pub async fn serve(
    context: Arc<ArcSwap<HttpContext>>,
    (stream, peer, received): (TcpStream, SocketAddr, Vec<u8>),
    pending: PendingConnection,
    kind: ListenerKind,
    mut guard: DrainGuard,
) {
    let PendingConnection { tracker, permit } = pending;
    // A request uses the configuration that was current when it started.
    let http = context.load_full();
    let arrived = Instant::now();
    let drain_timeout = async {
        guard.started().await;
        let since = guard.started_at().map_or(arrived, |since| since.max(arrived));
        let end = since + context.load().shutdown_timeout.min(DRAIN_TIMEOUT_MAX);
        time::sleep_until(end.into()).await;
    };
    let opened = async {
        let mut stream = match kind {
            ListenerKind::Main(_) if received.is_empty() => {
                http.accept_tls(stream, &tracker).await?
            }
            // What was received is plain text, although a reload may have turned TLS on since.
            ListenerKind::Main(_) | ListenerKind::Metrics => HttpStream::Plain(stream),
        };
        let received = tokio::select! {
            received = head::read_head(&mut stream, received, http.max_head_bytes) => received,
            () = tracker.timed_out(http.request_timeout) => return None,
            () = tracker.evicted() => return None,
        };
        Some((stream, received))
    };
    let opened = tokio::select! {
        opened = Box::pin(opened) => opened,
        () = drain_timeout => None,
    };
    let Some((stream, received)) = opened else { return };
    if let Ok(received) = received
        && !received.is_empty()
    {
        let is_tls = stream.is_tls();
        if let Some(other) = OtherProtocol::detect(&received, is_tls) {
            return http.reject_protocol(stream, other, peer).await;
        }
        let stream = WatchedStream::new(stream, received, tracker.clone());
        let upgrade = Mutex::new(None);
        let connection = HttpConnection { http: context, kind, peer, is_tls, tracker, upgrade };
        // Boxed: the memory is allocated once a head has arrived.
        Box::pin(serve_requests(Arc::new(connection), stream, permit, guard)).await;
    }
}

/// Serves a connection after its first head has arrived.
async fn serve_requests(
    connection: Arc<HttpConnection>,
    stream: WatchedStream,
    permit: Permit,
    mut guard: DrainGuard,
) {
    let io = TokioIo::new(stream);
    let peer = connection.peer;
    let serving = Arc::clone(&connection);
    let service = service_fn(move |request| {
        let connection = Arc::clone(&serving);
        Box::pin(async move { Ok::<HttpResponse, Infallible>(connection.respond(request).await) })
    });
    let http = connection.http.load_full();
    let mut is_draining = guard.is_started();
    let mut hyper_connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(http.max_head_bytes)
        .max_buf_size(http.max_head_bytes.max(BUFFER_MIN))
        .serve_connection(io, service);
    let timeout = http.request_timeout;
    // The configuration when the server stops, which may be long after the connection was accepted.
    let shutdown_timeout = || connection.http.load().shutdown_timeout;
    let final_deadline =
        |drain: &DrainGuard| drain.started_at().unwrap_or_else(clock::now) + shutdown_timeout();
    let idle_deadline = || clock::now() + shutdown_timeout().min(DRAIN_TIMEOUT_MAX);
    let mut drain_timeout = pin!(time::sleep_until(idle_deadline().into()));
    let mut timed_out = pin!(connection.tracker.timed_out(timeout));
    let served = loop {
        tokio::select! {
            served = poll_fn(|cx| hyper_connection.poll_without_shutdown(cx)) => break served,
            () = guard.started(), if !is_draining => {
                is_draining = true;
                std::pin::Pin::new(&mut hyper_connection).graceful_shutdown();
                drain_timeout.as_mut().reset(idle_deadline().into());
            }
            // Received requests are answered; incomplete ones are not waited for.
            () = &mut drain_timeout, if is_draining => {
                let end = final_deadline(&guard);
                if connection.tracker.idle_since().is_some() || end <= clock::now() {
                    return;
                }
                drain_timeout.as_mut().reset(end.into());
            }
            () = &mut timed_out => return,
            () = connection.tracker.evicted() => return tracing::debug!(%peer, "connection evicted"),
        }
    };
    let mut rejected = connection.tracker.rejected();
    if let Err(error) = served {
        tracing::debug!(%error, "http connection failed");
        // For a few errors the library generates no response.
        rejected = rejected.or_else(|| error.is_parse().then_some(StatusCode::BAD_REQUEST));
    }
    let upgrade = connection.upgrade.lock().take();
    if let Some(upgrade) = upgrade {
        let ListenerKind::Main(shard) = &connection.kind else { return };
        let parts = hyper_connection.into_parts();
        let stream = UpgradedStream::new(parts.io.into_inner(), &parts.read_buf);
        return upgrade.pass_on(stream, &http, shard, permit, guard);
    }
    // Responses to pipelined requests may still be queued in the library; this writes them.
    let _ = time::timeout(timeout.min(shutdown_timeout()), &mut hyper_connection).await;
    // A shutdown waits for responses, and all have been written.
    drop(guard);
    let parts = hyper_connection.into_parts();
    let (stream, ..) = parts.io.into_inner().into_parts();
    let response = rejected.map(|status| http.malformed_response(status, &parts.read_buf, peer));
    lingering_close(stream, response.unwrap_or_default().as_bytes()).await;
}

impl HttpContext {
    /// Performs the TLS handshake, if configured. It has the same time limit as the head of a
    /// request.
    async fn accept_tls(&self, stream: TcpStream, tracker: &IdleTracker) -> Option<HttpStream> {
        let Some(tls) = &self.tls else { return Some(HttpStream::Plain(stream)) };
        // Boxed, since the connection spends most of its life elsewhere.
        let handshake = Box::pin(HttpStream::accept(stream, tls.config(), self.node.is_draining()));
        let accepted = tokio::select! {
            accepted = time::timeout(self.request_timeout, handshake) => accepted,
            () = tracker.evicted() => return None,
        };
        tracker.handshake_done(Instant::now());
        match accepted {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
            Err(_elapsed) => tracing::debug!("tls handshake timed out"),
        }
        None
    }

    /// The client's own request id if it is plain, else a new one.
    fn request_id_of(&self, headers: &HeaderMap) -> HeaderValue {
        let is_plain = |value: &&HeaderValue| {
            (1..=REQUEST_ID_MAX).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        headers.get(REQUEST_ID).filter(is_plain).cloned().unwrap_or_else(|| {
            HeaderValue::try_from(self.request_id()).expect("hexadecimal digits")
        })
    }

    /// Checks that the request is from loopback where the well-known secret requires that. Requests
    /// that concern an app are checked once more, by its own secret.
    fn check_loopback(&self, route: Option<&Route<'_>>, parts: &Parts) -> Result<(), ApiError> {
        let is_limited = match route {
            // Rejected with a close code, which clients understand.
            Some(Route::WebSocket { .. }) => false,
            // The metrics cover all apps, and need no token.
            Some(Route::Scrape) => self.any_well_known,
            // An open console needs no password.
            Some(Route::Console(_)) => self.all_well_known || self.console().is_open(),
            _ => self.all_well_known,
        };
        if is_limited { check::check_loopback(parts) } else { Ok(()) }
    }

    /// The hub of the app that a request names.
    async fn app_hub(&self, app_id: &str, parts: &Parts) -> Result<Arc<Hub>, ApiError> {
        let found = self.node.find_hub(app_id).await.map_err(ApiError::apps_unavailable)?;
        let hub = found.ok_or_else(|| {
            let app_id = &app_id[..app_id.floor_char_boundary(100)];
            ApiError::not_found(format!("No app has the id {app_id:?}"))
        })?;
        if hub.app().config.has_well_known_secret() {
            check::check_loopback(parts)?;
        }
        Ok(hub)
    }

    /// Authenticates a call by its head, and handles it.
    async fn call(
        &self,
        hub: &Hub,
        call: ApiCall<'_>,
        (parts, hop): (&Parts, Hop),
        body: Incoming,
    ) -> HttpResponse {
        let mut response = match self.authenticate(hub, parts) {
            Ok(parameters) => {
                let request = (parts, hop, &parameters);
                let result = self.handle_api_call(hub, call, request, body).await;
                let mut response = result.unwrap_or_else(ApiError::into_response);
                response.headers_mut().insert(NODE, self.node_header.clone());
                response
            }
            Err(error) => error.into_response(),
        };
        cors::allow(&hub.app(), &parts.headers, &mut response);
        response
    }

    fn authenticate<'p>(
        &'p self,
        hub: &Hub,
        parts: &'p Parts,
    ) -> Result<auth::Authenticated<'p>, ApiError> {
        let line = auth::RequestLine {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            prefix: &self.prefix,
        };
        let is_known = |key: &str| self.node.hub_by_key(key).is_some();
        auth::authenticate(&hub.app(), line, SystemTime::now(), is_known)
    }

    /// Handles an authenticated call: reads its body, and checks it.
    async fn handle_api_call(
        &self,
        hub: &Hub,
        call: ApiCall<'_>,
        (parts, hop, parameters): (&Parts, Hop, &auth::Authenticated<'_>),
        body: Incoming,
    ) -> Result<HttpResponse, ApiError> {
        if !hub.app().config.enabled {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "The app is disabled"));
        }
        if self.node.is_draining() {
            let message = "The server is shutting down: retry the request";
            let wait = Duration::from_secs(1);
            return Err(ApiError::retry_after(StatusCode::SERVICE_UNAVAILABLE, message, wait));
        }
        hub.admit_request(Instant::now()).map_err(|wait| {
            let message = "Too many requests: requests_per_second of the app is exceeded";
            ApiError::retry_after(StatusCode::TOO_MANY_REQUESTS, message, wait)
        })?;
        let body = body::read(body, self.max_request_bytes, self.request_timeout).await?;
        parameters.check_body(&body)?;
        match call {
            ApiCall::Publish => self.publish(hub, &parts.headers, &body).await,
            ApiCall::PublishBatch => self.publish_batch(hub, &parts.headers, &body).await,
            ApiCall::CloseUser(user_id, close) => self.close_user(hub, &user_id, close).await,
            ApiCall::Channels => self.channels(hub, parameters).await,
            ApiCall::Channel(name) => self.channel(hub, parameters, &name).await,
            ApiCall::ChannelUsers(name) => self.channel_users(hub, parameters, &name).await,
            // Rare, and larger than the others.
            ApiCall::ChannelHistory(name) => {
                Box::pin(self.channel_history(hub, parameters, &name)).await
            }
            ApiCall::Connections => self.connections(hub).await,
            ApiCall::Diagnostics => Ok(self.diagnostics(hub, parts, hop)),
            ApiCall::Activity => self.activity(hub, parameters).await,
            ApiCall::Reload => self.reload(hub).await,
        }
    }
}

impl HttpConnection {
    async fn respond(&self, request: Request<Incoming>) -> HttpResponse {
        let is_first = self.tracker.request_started();
        let response = self.respond_and_log(request, is_first).await;
        self.tracker.request_finished(Instant::now());
        response
    }

    async fn respond_and_log(&self, request: Request<Incoming>, is_first: bool) -> HttpResponse {
        let (parts, body) = request.into_parts();
        let http = self.http.load_full();
        let request_id = http.request_id_of(&parts.headers);
        let began = Instant::now();
        let route = match self.kind {
            ListenerKind::Main(_) => Route::parse(&parts.method, parts.uri.path(), &http.prefix),
            ListenerKind::Metrics => Route::parse_scrape(&parts.method, parts.uri.path()),
        };
        let known = route.as_ref().ok();
        let (label, is_publish) =
            known.map_or(("none", false), |route| (route.label(), route.is_publish()));
        let checked = check::head(&parts).and_then(|()| http.check_loopback(known, &parts));
        let mut response = match checked.and(route) {
            Ok(route) => {
                match self.check_connection_rate(&http, &route, &parts.headers, is_first) {
                    None => self.dispatch(&http, route, &parts, body).await,
                    Some(too_many) => too_many,
                }
            }
            Err(error) => error.into_response(),
        };
        if is_publish {
            http.node.metrics().publish_responded(response.status().as_u16());
        }
        let (id, status) = (request_id.to_str().unwrap_or_default(), response.status().as_u16());
        if 400 <= status {
            self.log_rejection(&http, &parts, id, label, &response);
        } else {
            let elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(request_id = id, method = %parts.method, route = label, status, elapsed_us, "request answered");
        }
        response.headers_mut().insert(REQUEST_ID, request_id);
        if http.node.is_draining() && status != StatusCode::SWITCHING_PROTOCOLS.as_u16() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Logs why a request was rejected, unless the limit of such lines for its address is reached.
    fn log_rejection(
        &self,
        http: &HttpContext,
        parts: &Parts,
        request_id: &str,
        route: &str,
        response: &HttpResponse,
    ) {
        let address = http.peer(&parts.headers, self.peer.ip(), self.is_tls).address;
        if !http.node.should_log_rejection(address, Instant::now()) {
            return;
        }
        let requested = Route::parse(&parts.method, parts.uri.path(), &http.prefix).ok();
        let app = requested.as_ref().and_then(Route::app);
        let error = response.extensions().get::<LogReason>().map(|LogReason(why)| why.as_str());
        let (method, status) = (parts.method.as_str(), response.status().as_u16());
        tracing::info!(request_id, method, route, app, status, %address, error, "request rejected");
    }

    /// Counts a connection when its first request shows the client's address. Returns the response if
    /// the rate is exceeded. WebSocket clients are counted at their admission, and probes are always
    /// answered.
    fn check_connection_rate(
        &self,
        http: &HttpContext,
        route: &Route<'_>,
        headers: &HeaderMap,
        is_first: bool,
    ) -> Option<HttpResponse> {
        let is_exempt = matches!(
            route,
            Route::WebSocket { .. } | Route::Root | Route::Up | Route::Ready | Route::Scrape
        );
        if is_exempt || !is_first {
            return None;
        }
        let peer = http.peer(headers, self.peer.ip(), self.is_tls);
        let wait = http.node.count_connection(peer.address, Instant::now()).err()?;
        let message = "Too many new connections: new_connections_per_second_per_ip is exceeded; \
                       keep connections alive";
        let error = ApiError::retry_after(StatusCode::TOO_MANY_REQUESTS, message, wait);
        let mut response = error.into_response();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Some(response)
    }

    async fn dispatch(
        &self,
        http: &HttpContext,
        route: Route<'_>,
        parts: &Parts,
        body: Incoming,
    ) -> HttpResponse {
        match route {
            Route::Root => {
                let is_tls = http.peer(&parts.headers, self.peer.ip(), self.is_tls).is_tls;
                http.root(&parts.headers, is_tls).unwrap_or_else(|| {
                    Route::nothing_at(parts.uri.path(), &http.prefix).into_response()
                })
            }
            Route::Up => HttpContext::up(),
            Route::Ready => http.ready(),
            Route::Scrape => http.metrics_page(),
            Route::Metrics => http.metrics(&parts.headers).unwrap_or_else(ApiError::into_response),
            Route::WebSocket { key, token } => {
                self.upgrade(http, parts, (&key, token.as_deref())).await
            }
            Route::Console(path) => self.console(http, path, parts, body).await,
            Route::Preflight { app_id, allowed } => match http.app_hub(&app_id, parts).await {
                Ok(hub) => cors::preflight(&hub.app(), &parts.headers, allowed),
                Err(error) => error.into_response(),
            },
            Route::Api { app_id, call } => match http.app_hub(&app_id, parts).await {
                Ok(hub) => {
                    let hop = Hop { peer: self.peer, is_tls: self.is_tls };
                    http.call(&hub, call, (parts, hop), body).await
                }
                Err(error) => error.into_response(),
            },
        }
    }

    async fn console(
        &self,
        http: &HttpContext,
        path: ConsolePath<'_>,
        parts: &Parts,
        body: Incoming,
    ) -> HttpResponse {
        let peer = http.peer(&parts.headers, self.peer.ip(), self.is_tls);
        let (response, ticket) = http.console_request(path, parts, body, peer).await;
        if let Some(ticket) = ticket {
            *self.upgrade.lock() = Some(Upgrade::Console(ticket));
            self.tracker.cork();
        }
        response
    }

    async fn upgrade(
        &self,
        http: &HttpContext,
        parts: &Parts,
        client: (&str, Option<&str>),
    ) -> HttpResponse {
        let peer = http.peer(&parts.headers, self.peer.ip(), self.is_tls);
        match http.upgrade(parts, client, peer).await {
            Ok((response, admission)) => {
                *self.upgrade.lock() = Some(Upgrade::Client(admission));
                self.tracker.cork();
                response
            }
            Err(error) => error.into_response(),
        }
    }
}
