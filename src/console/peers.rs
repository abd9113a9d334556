//! Asks the consoles of the other nodes of a cluster, and answers them.
//!
//! A node runs the watch or the call of a page for another node as it does for its own pages, and sends what
//! the page would be sent to the node that has asked. It ends when the question is not renewed.

use super::{
    Console,
    context::{Context, Extent},
    output::{Closed, Output, Queued, WAITING_MAX},
    overview::now_ms,
    sessions::{Claims, Scope},
};
use crate::broker::{PeerMessage, RedisBroker};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time,
};

/// What a node asks the consoles of all others.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    /// A request of a page whose session may see one app, or all of the server.
    Request { id: u64, app: Option<String>, request: String },
    /// The answers to a request are not needed any more.
    End { id: u64 },
    /// Sessions have ended before their time.
    SessionsEnded { sessions: Vec<String> },
    /// Which sessions have ended.
    EndedSessions { id: u64 },
}

/// The answer of a node: what a page would be sent.
#[derive(Debug, Deserialize)]
struct Answer {
    id: u64,
    node: String,
    message: RawPart,
}

/// A message to a page.
#[derive(Debug, Deserialize)]
struct RawPart {
    #[serde(default)]
    result: Value,
    data: Option<Value>,
    error: Option<String>,
}

/// A part of the answer to a page: that of one node.
#[derive(Debug)]
pub(super) enum Part {
    /// The result of a call, or the first state of a watch.
    Result(Value),
    /// More of a watch.
    Data(Value),
    /// The node rejects the request.
    Error(String),
}

/// A part, and the name of its node.
type PartOfNode = (Arc<str>, Part);

/// The questions of this node, and those that it answers.
#[derive(Debug)]
pub(super) struct Peers {
    run: Runner,
    ids: AtomicU64,
    asked: Mutex<HashMap<u64, mpsc::Sender<PartOfNode>>>,
    /// The questions that are answered, by the process that has asked and its id.
    answered: Mutex<HashMap<(String, u64), Answering>>,
    /// Messages of other nodes, for the thread of the console.
    inbox: OnceLock<mpsc::Sender<(String, String, bool)>>,
    /// Whether the other nodes were asked which sessions have ended.
    knows_ended: tokio::sync::OnceCell<()>,
}

#[derive(Debug)]
struct Answering {
    renewed_at: Instant,
    task: AbortHandle,
}

/// How often a question is renewed, and how long it is answered without that.
const RENEWAL: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(4);
/// Maximum number of questions of other nodes that are answered at the same time.
const ANSWERED_MAX: usize = 64;
/// Maximum number of messages of other nodes that wait; further ones are dropped.
const INBOX_MAX: usize = 1_024;
/// Maximum number of parts that wait for a page; further ones of other nodes are dropped.
const PARTS_MAX: usize = 256;
/// Maximum number of messages that wait to be sent to another node.
const QUEUE_MAX: usize = 64;
/// Maximum number of ended sessions that one node tells another.
const ENDED_MAX: usize = 256;
/// How long a node waits for what the others know of ended sessions.
const ENDED_WAIT: Duration = Duration::from_millis(500);
/// How often, and how many times, it is tried to tell the others that a session has ended.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
const TELL_ATTEMPTS: usize = 30;

impl RawPart {
    fn into_part(self) -> Part {
        match (self.error, self.data) {
            (Some(error), _) => Part::Error(error),
            (None, Some(data)) => Part::Data(data),
            (None, None) => Part::Result(self.result),
        }
    }
}

impl Console {
    fn redis(&self) -> Option<&RedisBroker> {
        self.node.broker().redis()
    }

    /// Answers the consoles of other nodes from now on, if there may be some.
    pub fn start_answering(self: &Arc<Self>) {
        let Some(redis) = self.redis() else { return };
        let console = Arc::downgrade(self);
        redis.set_peer_receiver(move |process, message| {
            if let Some(console) = console.upgrade().filter(|console| console.is_on()) {
                console.on_peer_message(process, message);
            }
        });
    }

    /// Hands a message to the thread of the console.
    fn on_peer_message(self: &Arc<Self>, process: &str, message: PeerMessage<'_>) {
        let Ok(worker) = self.worker.handle() else { return };
        let inbox = self.peers.inbox.get_or_init(|| {
            let (inbox, mut messages) = mpsc::channel::<(String, String, bool)>(INBOX_MAX);
            let console = Arc::downgrade(self);
            worker.spawn(async move {
                while let Some((process, text, is_question)) = messages.recv().await {
                    let Some(console) = console.upgrade() else { return };
                    if is_question {
                        console.on_question(process, &text);
                    } else {
                        console.peers.on_answer(&text);
                    }
                }
            });
            inbox
        });
        let (text, is_question) = match message {
            PeerMessage::Question(text) => (text, true),
            PeerMessage::Answer(text) => (text, false),
        };
        // A dropped question is renewed.
        let _ = inbox.try_send((process.to_owned(), text.to_owned(), is_question));
    }

    fn on_question(self: &Arc<Self>, process: String, text: &str) {
        match serde_json::from_str(text) {
            Ok(Question::Request { id, app, request }) => {
                self.peers.renew_or_start((process.clone(), id), || {
                    let scope = app.map_or(Scope::Server, Scope::App);
                    let answering = Arc::clone(self).answer(process, id, scope, request);
                    tokio::spawn(answering).abort_handle()
                });
            }
            Ok(Question::End { id }) => {
                if let Some(ended) = self.peers.answered.lock().remove(&(process, id)) {
                    ended.task.abort();
                }
            }
            Ok(Question::SessionsEnded { sessions }) => self.end_sessions(&sessions),
            Ok(Question::EndedSessions { id }) => {
                let ended: Vec<_> =
                    self.ended.lock().latest(ENDED_MAX).map(Claims::encode).collect();
                let console = Arc::clone(self);
                tokio::spawn(async move {
                    console.send_answer(&process, id, &json!({"result": ended}).to_string()).await;
                });
            }
            // Of a node of another version.
            Err(_) => {}
        }
    }

    fn end_sessions(&self, sessions: &[String]) {
        let mut ended = self.ended.lock();
        for claims in sessions.iter().take(ENDED_MAX).filter_map(|text| Claims::parse(text)) {
            ended.end(claims, now_ms());
        }
    }

    /// Sends a message that a page would be sent to the node that has asked.
    async fn send_answer(&self, process: &str, id: u64, message: &str) {
        let Some(redis) = self.redis() else { return };
        let node = json!(self.node.name());
        let answer = format!("{{\"id\":{id},\"node\":{node},\"message\":{message}}}");
        if redis.answer_peer(process, &answer).await.is_err() {
            tracing::debug!("answering the console of another node failed");
        }
    }

    /// Answers a request of a page of another node until it is not renewed any more.
    async fn answer(self: Arc<Self>, process: String, id: u64, scope: Scope, request: String) {
        let (output, mut queued) = output();
        let context = Context { console: Arc::clone(&self), scope, extent: Extent::ForPeer };
        let run = self.peers.run;
        let run = async move {
            drop(run(context, request, output).await);
            // The loop below ends when all is sent.
            std::future::pending::<()>().await;
        };
        let key = (process, id);
        let send = async {
            let mut checks = time::interval(LEASE / 2);
            loop {
                tokio::select! {
                    message = queued.recv() => match message {
                        Some(Queued { text, share: _share }) => {
                            self.send_answer(&key.0, id, &text).await;
                        }
                        None => return,
                    },
                    _ = checks.tick() => {
                        if !self.peers.is_renewed(&key) {
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = send => {}
            () = run => {}
        }
    }

    /// Asks the other nodes once which sessions have ended, as soon as there are others.
    pub(super) async fn learn_ended_sessions(&self) {
        let Some(redis) = self.redis() else { return };
        let others = redis.other_processes().len();
        if others == 0 {
            return;
        }
        let ask = async || {
            let (id, mut parts) = self.peers.open();
            let _sent = redis.ask_peers(&question(&Question::EndedSessions { id })).await;
            let deadline = time::Instant::now() + ENDED_WAIT;
            for _ in 0..others {
                let Ok(Some((_, part))) = time::timeout_at(deadline, parts.recv()).await else {
                    break;
                };
                if let Part::Result(sessions) = part {
                    self.end_sessions(
                        &serde_json::from_value::<Vec<_>>(sessions).unwrap_or_default(),
                    );
                }
            }
            self.peers.asked.lock().remove(&id);
        };
        self.peers.knows_ended.get_or_init(ask).await;
    }

    /// Tells the other nodes that a session has ended.
    pub(super) fn tell_ended_session(&self, claims: &Claims) {
        let (Some(redis), Ok(worker)) = (self.redis().cloned(), self.worker.handle()) else {
            return;
        };
        let told = question(&Question::SessionsEnded { sessions: vec![claims.encode()] });
        worker.spawn(async move {
            for _ in 0..TELL_ATTEMPTS {
                if redis.ask_peers(&told).await.is_ok() {
                    return;
                }
                time::sleep(TELL_INTERVAL).await;
            }
        });
    }
}

fn question(question: &Question) -> String {
    serde_json::to_string(question).unwrap_or_default()
}

/// What a request is answered to, and the messages for the page.
fn output() -> (Output, mpsc::Receiver<Queued>) {
    let (queue, queued) = mpsc::channel(QUEUE_MAX);
    (Output::new(0, queue, Arc::new(Semaphore::new(WAITING_MAX))), queued)
}

/// Runs what a page has requested, given its text.
pub(super) type Runner = fn(Context, String, Output) -> BoxFuture<'static, Result<(), Closed>>;

impl Peers {
    /// No questions. Those of other nodes are answered by `run`.
    pub(super) fn new(run: Runner) -> Self {
        Self {
            run,
            ids: AtomicU64::default(),
            asked: Mutex::default(),
            answered: Mutex::default(),
            inbox: OnceLock::default(),
            knows_ended: tokio::sync::OnceCell::default(),
        }
    }

    /// Opens a question: its id, and where the answers arrive.
    fn open(&self) -> (u64, mpsc::Receiver<PartOfNode>) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (sender, parts) = mpsc::channel(PARTS_MAX);
        self.asked.lock().insert(id, sender);
        (id, parts)
    }

    fn on_answer(&self, text: &str) {
        let Ok(Answer { id, node, message }) = serde_json::from_str(text) else { return };
        if let Some(parts) = self.asked.lock().get(&id) {
            // A page that does not read misses parts of other nodes.
            let _ = parts.try_send((node.into(), message.into_part()));
        }
    }

    /// Renews a question, or starts to answer it. Questions that were not renewed end.
    fn renew_or_start(&self, key: (String, u64), start: impl FnOnce() -> AbortHandle) {
        let mut answered = self.answered.lock();
        answered.retain(|_, answering| {
            let is_renewed = answering.renewed_at.elapsed() < LEASE;
            if !is_renewed {
                answering.task.abort();
            }
            is_renewed
        });
        let renewed_at = Instant::now();
        if let Some(answering) = answered.get_mut(&key) {
            answering.renewed_at = renewed_at;
        } else if answered.len() < ANSWERED_MAX {
            answered.insert(key, Answering { renewed_at, task: start() });
        }
    }

    fn is_renewed(&self, key: &(String, u64)) -> bool {
        let answered = self.answered.lock();
        answered.get(key).is_some_and(|answering| answering.renewed_at.elapsed() < LEASE)
    }
}

/// A request of a page that all nodes answer, this one among them. Dropping it ends it on all of them.
#[derive(Debug)]
pub(super) struct Gathering {
    console: Arc<Console>,
    id: u64,
    question: String,
    parts: mpsc::Receiver<PartOfNode>,
    /// Answers for this node.
    local: AbortHandle,
    renewals: time::Interval,
}

impl Gathering {
    /// Asks all nodes.
    pub(super) fn start(context: &Context, request: &str) -> Self {
        let console = Arc::clone(&context.console);
        let (id, parts) = console.peers.open();
        let app = match &context.scope {
            Scope::Server => None,
            Scope::App(id) => Some(id.clone()),
        };
        let asked = Question::Request { id, app, request: request.to_owned() };
        let own = Context {
            console: Arc::clone(&console),
            scope: context.scope.clone(),
            extent: Extent::OfThisNode,
        };
        let sender = console.peers.asked.lock().get(&id).cloned();
        let local = answer_locally(own, request.to_owned(), sender);
        Self {
            id,
            question: question(&asked),
            parts,
            local: tokio::spawn(local).abort_handle(),
            renewals: time::interval(RENEWAL),
            console,
        }
    }

    /// The number of nodes that are asked: this one, and the others that it knows by now.
    pub(super) fn nodes(&self) -> usize {
        self.console.redis().map(|redis| redis.other_processes().len()).unwrap_or_default() + 1
    }

    /// The next part of the answer. Safe to cancel.
    pub(super) async fn next(&mut self) -> PartOfNode {
        loop {
            tokio::select! {
                biased;
                _ = self.renewals.tick() => self.ask(self.question.clone()),
                Some(part) = self.parts.recv() => return part,
            }
        }
    }

    fn ask(&self, question: String) {
        if let Some(redis) = self.console.redis().cloned() {
            // It is repeated if it is not sent.
            tokio::spawn(async move { redis.ask_peers(&question).await });
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.local.abort();
        self.console.peers.asked.lock().remove(&self.id);
        self.ask(question(&Question::End { id: self.id }));
    }
}

/// Runs a request on this node, and sends its messages to `parts`.
async fn answer_locally(
    context: Context,
    request: String,
    parts: Option<mpsc::Sender<PartOfNode>>,
) {
    let Some(parts) = parts else { return };
    let node: Arc<str> = context.node().name().into();
    let (output, mut queued) = output();
    let run = context.console.peers.run;
    let run = async move {
        drop(run(context, request, output).await);
        std::future::pending::<()>().await;
    };
    let pass_on = async {
        while let Some(Queued { text, .. }) = queued.recv().await {
            let Ok(part) = serde_json::from_str::<RawPart>(&text) else { return };
            if parts.send((Arc::clone(&node), part.into_part())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = pass_on => {}
        () = run => {}
    }
}
