//! The WebSocket of a page: its requests, and the watches that answer them.

use super::{
    Console, channel, channels, connection, connections,
    context::{Context, Extent},
    gather,
    output::{Closed, Output, Queued, WAITING_MAX, error_message, result_message},
    overview,
    page_limits::PagePermit,
    publish::publish,
    records,
    request::{Call, Request, RequestKind, Watch},
    sessions::Session,
};
use crate::{
    node::AppsUnavailable,
    permit::Permit,
    rate::{Rate, TokenBucket},
    signature::secrets_equal,
};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, future::BoxFuture};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{Semaphore, mpsc},
    task::{AbortHandle, Id, JoinSet},
    time,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// The subprotocol of the WebSocket, before the token against forged requests.
pub const SUBPROTOCOL: &str = "campanile-console.";
/// Maximum number of watches of a page.
const WATCHES_MAX: usize = 8;
/// Maximum number of calls of a page that are answered at the same time.
const CALLS_MAX: usize = 8;
/// Maximum number of messages that wait for a page.
const QUEUE_MAX: usize = 64;
/// Maximum size of a message of a page, in bytes.
const MESSAGE_MAX: usize = 1 << 20;
/// How long a page may take to read a message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call waits for other nodes: longer than an endpoint of a webhook may take.
const CALL_WAIT: Duration = Duration::from_secs(13);
/// How often the session of a page is checked, and the page gets a ping.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a page may be silent, although it gets pings.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Requests of a page in a second, and at once: more than a person makes.
const REQUESTS_PER_SECOND: u32 = 20;

/// The right to a WebSocket, which its handshake gives.
#[derive(Debug)]
pub struct LiveTicket {
    session: Session,
    token: String,
    _page: PagePermit,
}

impl LiveTicket {
    /// The subprotocol to select: that of the session.
    #[must_use]
    pub fn subprotocol(&self) -> String {
        format!("{SUBPROTOCOL}{}", self.session.csrf)
    }
}

/// Why a page gets no WebSocket.
#[derive(Debug)]
pub enum LiveError {
    /// The session has ended, or the token against forged requests is wrong.
    NoSession,
    /// There are too many pages.
    TooMany,
    /// The app cannot be looked up.
    Apps(AppsUnavailable),
}

impl Console {
    /// Grants a WebSocket to the session of `token`, if `csrf` is its token against forged requests.
    ///
    /// # Errors
    ///
    /// [`LiveError`].
    pub async fn grant_live(&self, token: &str, csrf: &str) -> Result<LiveTicket, LiveError> {
        let session = self.session(token).await.map_err(LiveError::Apps)?;
        let session = session.filter(|session| secrets_equal(&session.csrf, csrf));
        let session = session.ok_or(LiveError::NoSession)?;
        let page = self.pages.try_acquire(&session.claims.scope).ok_or(LiveError::TooMany)?;
        Ok(LiveTicket { session, token: token.to_owned(), _page: page })
    }

    /// Serves a page on the thread of the console. `response` is that of the handshake, `received` what
    /// the page has sent after its request. `permit` is held until the page is gone.
    ///
    /// # Errors
    ///
    /// The system cannot start the thread.
    pub fn serve_live<S>(
        self: &Arc<Self>,
        ticket: LiveTicket,
        stream: S,
        (response, received): (Vec<u8>, Vec<u8>),
        permit: Permit,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let page = Page::new(Arc::clone(self), ticket);
        let serving = self.worker.handle()?.spawn(async move {
            let _permit = permit;
            // A page that is gone needs nothing more.
            let _gone = page.serve(stream, response, received).await;
        });
        // The socket is in the poller of this runtime. That of a shard is polled only while the runtime has tasks.
        tokio::spawn(serving);
        Ok(())
    }
}

/// An open page.
struct Page {
    console: Arc<Console>,
    ticket: LiveTicket,
    /// Watches and calls that are running.
    tasks: JoinSet<()>,
    watches: HashMap<u64, AbortHandle>,
    /// The watch of channels, which costs a number for each channel: a page has one.
    channels_watch: Option<u64>,
    requests: TokenBucket,
    queue: mpsc::Sender<Queued>,
    queued: mpsc::Receiver<Queued>,
    waiting: Arc<Semaphore>,
}

impl Page {
    fn new(console: Arc<Console>, ticket: LiveTicket) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let watches = HashMap::new();
        Self {
            console,
            ticket,
            tasks: JoinSet::new(),
            watches,
            channels_watch: None,
            requests: TokenBucket::full(Instant::now()),
            queue,
            queued,
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    async fn serve<S>(
        mut self,
        mut stream: S,
        response: Vec<u8>,
        received: Vec<u8>,
    ) -> Result<(), Closed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let written = time::timeout(WRITE_TIMEOUT, stream.write_all(&response)).await;
        written.map_err(|_| Closed)?.map_err(|_| Closed)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let config = Some(config);
        let role = Role::Server;
        let socket = WebSocketStream::from_partially_read(stream, received, role, config).await;
        let (mut output, mut input) = socket.split();
        let mut checks = time::interval(CHECK_INTERVAL);
        let mut heard_at = Instant::now();
        loop {
            let mut share = None;
            let message = tokio::select! {
                message = input.next() => {
                    heard_at = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.on_text(&text)?,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(_) | Err(_)) | None => return Err(Closed),
                    }
                    continue;
                },
                Some(queued) = self.queued.recv() => {
                    share = queued.share;
                    Message::Text(queued.text.into())
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    self.on_ended(id);
                    continue;
                }
                _ = checks.tick() => match self.console.session(&self.ticket.token).await {
                    // A browser that is there answers each ping.
                    Ok(Some(_)) | Err(_) if SILENCE_MAX < heard_at.elapsed() => return Err(Closed),
                    // While the app cannot be looked up, the page shows what is known.
                    Ok(Some(_)) | Err(_) => Message::Ping(Bytes::new()),
                    Ok(None) => Message::Close(Some(CloseFrame {
                        code: CloseCode::Policy,
                        reason: Utf8Bytes::from_static("the session has ended"),
                    })),
                },
            };
            let is_last = message.is_close();
            let sent = time::timeout(WRITE_TIMEOUT, output.send(message)).await;
            sent.map_err(|_| Closed)?.map_err(|_| Closed)?;
            drop(share);
            if is_last {
                return Ok(());
            }
        }
    }

    fn on_ended(&mut self, task: Id) {
        self.watches.retain(|_, watch| watch.id() != task);
    }

    /// Starts what a page requests.
    fn on_text(&mut self, text: &str) -> Result<(), Closed> {
        if self.requests.take(Rate::per_second(REQUESTS_PER_SECOND), Instant::now()).is_err() {
            let id = Request::parse(text).map_or_else(|(id, _)| id, |request| Some(request.id));
            return self.reject(id.unwrap_or_default(), "too many requests: try again");
        }
        let Request { id, kind } = match Request::parse(text) {
            Ok(request) => request,
            Err((id, error)) => return self.reject(id.unwrap_or_default(), error),
        };
        // A watch that has ended counts no more.
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.on_ended(ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        match kind {
            RequestKind::Unwatch(watch) => {
                if let Some(watch) = self.watches.remove(&watch) {
                    watch.abort();
                }
                self.reply(result_message(id, true))?;
            }
            RequestKind::Watch(watch) => {
                if WATCHES_MAX <= self.watches.len() {
                    let error = format!("a page may watch {WATCHES_MAX} things at once");
                    return self.reject(id, error);
                }
                if self.watches.contains_key(&id) {
                    return self.reject(id, "the id is that of another watch");
                }
                if matches!(watch, Watch::Channels(_)) {
                    let is_open = |watch: u64| self.watches.contains_key(&watch);
                    if self.channels_watch.is_some_and(is_open) {
                        return self.reject(id, "a page may watch the channels of one app at once");
                    }
                    self.channels_watch = Some(id);
                }
                let (context, output) = self.context(id);
                let text = text.to_owned();
                let watching = async move { drop(self::watch(context, watch, text, output).await) };
                self.watches.insert(id, self.tasks.spawn(watching));
            }
            RequestKind::Call(call) => {
                if CALLS_MAX <= self.tasks.len().saturating_sub(self.watches.len()) {
                    return self.reject(id, "too many calls are running");
                }
                let (context, output) = self.context(id);
                let text = text.to_owned();
                self.tasks
                    .spawn(async move { drop(self::call(context, call, text, output).await) });
            }
        }
        Ok(())
    }

    fn context(&self, id: u64) -> (Context, Output) {
        let context = Context {
            console: Arc::clone(&self.console),
            scope: self.ticket.session.claims.scope.clone(),
            extent: Extent::AllNodes,
        };
        (context, Output::new(id, self.queue.clone(), Arc::clone(&self.waiting)))
    }

    /// Rejects a request at once. A page whose queue is full does not read what it asks for.
    fn reject(&self, id: u64, error: impl fmt::Display) -> Result<(), Closed> {
        self.reply(error_message(id, error))
    }

    fn reply(&self, message: String) -> Result<(), Closed> {
        self.queue.try_send(message.into()).map_err(|_| Closed)
    }
}

/// The error for a session of one app that asks for more.
const NOT_ALLOWED: &str =
    "the session is limited to one app: log in with the password of the console";

/// Runs a request, given its text, that each node answers.
pub(super) fn run(
    context: Context,
    request: String,
    output: Output,
) -> BoxFuture<'static, Result<(), Closed>> {
    Box::pin(async move {
        match Request::parse(&request) {
            Ok(Request { kind: RequestKind::Watch(watch), .. }) if watch.is_of_each_node() => {
                self::watch(context, watch, request, output).await
            }
            Ok(Request { kind: RequestKind::Call(call), .. }) if call.is_of_each_node() => {
                self::call(context, call, request, output).await
            }
            Ok(_) | Err(_) => output.error("other nodes do not answer this").await,
        }
    })
}

/// Sends what is watched until the page is gone. `request` is its text.
async fn watch(
    context: Context,
    watch: Watch,
    request: String,
    output: Output,
) -> Result<(), Closed> {
    if watch.is_of_each_node() && context.is_about_others() {
        return gather::watch(&context, &watch, &request, &output).await;
    }
    let app = match watch.app() {
        None if matches!(watch, Watch::Log) && !context.sees_server() => {
            Err(NOT_ALLOWED.to_owned())
        }
        None => Ok(None),
        Some(id) => context.app(id).await.map(Some),
    };
    let (context, output) = (&context, &output);
    match (watch, app) {
        (_, Err(error)) => output.error(error).await,
        (Watch::Overview, _) => overview::watch(context, output).await,
        (Watch::Log, _) => records::log(context, output).await,
        (Watch::Channels(params), Ok(Some(app))) => {
            channels::watch(context, &app, &params, output).await
        }
        (Watch::Channel(params), Ok(Some(app))) => {
            channel::watch(context, &app, &params, output).await
        }
        (Watch::Connections(params), Ok(Some(app))) => {
            connections::watch(context, &app, &params, output).await
        }
        (Watch::Connection(params), Ok(Some(app))) => {
            connection::watch(context, &app, &params, output).await
        }
        (Watch::Authorizations(_), Ok(Some(app))) => {
            records::authorizations(context, &app, output).await
        }
        (Watch::Webhooks(_), Ok(Some(app))) => records::webhooks(context, &app, output).await,
        (_, Ok(None)) => output.error("the request names no app").await,
    }
}

/// Answers a call. `request` is its text.
async fn call(context: Context, call: Call, request: String, output: Output) -> Result<(), Closed> {
    let result = if call.is_of_each_node() && context.is_about_others() {
        gather::call(&context, &request, CALL_WAIT).await
    } else {
        result(&context, call).await
    };
    match result {
        Ok(result) => output.result(result).await,
        Err(error) => output.error(error).await,
    }
}

async fn result(context: &Context, call: Call) -> Result<Value, String> {
    match call {
        Call::Publish(params) => {
            publish(context.node(), &context.app(&params.app).await?, &params).await
        }
        Call::ResendWebhook(params) => {
            records::resend(context, &context.app(&params.app).await?, &params).await
        }
        Call::Disconnect(params) => {
            connection::disconnect(context, &context.app(&params.app).await?, &params).await
        }
        Call::Configuration if context.sees_server() => Ok(context.console.configuration()),
        Call::Configuration => Err(NOT_ALLOWED.to_owned()),
    }
}
